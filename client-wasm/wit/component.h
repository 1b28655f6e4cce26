// SPDX-License-Identifier: Apache-2.0
//
// What the parts of the component share: memory, and results as the canonical ABI wants them. The functions of tallycast.wit are exports of the core
// module by the names that the ABI makes of them; wit-component compares each one's name and type with the wit when it makes the component of
// it, and the component's test goes through every field of every result, so a binding that does not follow its wit is found by one of the two.
//
// A result that is more than one number is written to memory, and its address given:
//
//   result<own, string>           0 u8 1 if it is an error     4 u32 handle               | 4 u32 address, 8 u32 bytes of the text
//   result<enum, string>          0 u8                         4 u8                       | the same
//   result<_, string>             0 u8                                                    | the same
//   result<option<64>, string>    0 u8                         8 u8 1 if some, 16 value   | 8 u32 address, 12 u32 bytes
//   result<list, string>          0 u8                         4 u32 address, 8 u32 count | the same
//   result<reading, string>       0 u8     8 version (32 bytes), 40 u32 address, 44 count | 8 u32 address, 12 u32 bytes
//
// One thread. Arguments come in memory of cabi_realloc, and results lie in it or in `component_result`; all of that is forgotten when the host
// has read the result (cabi_post_...), so nothing is freed one by one.
#ifndef TALLYCAST_COMPONENT_H
#define TALLYCAST_COMPONENT_H

#include <tallycast/bytes.h>
#include <tallycast/status.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define POST(name)   EXPORT("cabi_post_" name)

extern _Alignas(8) uint8_t component_result[64];

static inline void *pointer(uint32_t address) { return (void *)(uintptr_t)address; }
static inline uint32_t address_of(const void *data) { return (uint32_t)(uintptr_t)data; }

// Memory that the component keeps: whole pages, zeroed, from the end of its memory, or such as were given back. 0: there is none.
uint32_t component_take(uint32_t bytes);
// `touched`: as many of its first bytes may not be zero.
void component_give(uint32_t address, uint32_t bytes, uint32_t touched);

// Memory to the end of this call, for results; null: there is none.
void *component_alloc(size_t bytes);
// The end of a call, by the host, or by a function whose result needs no memory.
void component_end(void);

// An error; the text is a constant. `at` is where the payload is: 4 or 8.
static inline uint32_t component_error(uint32_t at, const char *text)
{
    component_result[0] = 1;
    tally_store32(component_result + at, address_of(text));
    tally_store32(component_result + at + 4, (uint32_t)strlen(text));
    return address_of(component_result);
}

// result<option<64>, string>: something, or nothing.
static inline uint32_t component_option(bool some, uint64_t value)
{
    component_result[0] = 0;
    component_result[8] = some;
    tally_store64(component_result + 16, value);
    return address_of(component_result);
}

#endif

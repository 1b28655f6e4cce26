// SPDX-License-Identifier: Apache-2.0
//
// A small JSON writer over struct tally_writer. It puts commas where they belong; the caller balances begin
// and end. Strings are escaped; bytes that are no UTF-8 become U+FFFD. Threads: an object belongs to one
// thread. Failure to grow is sticky in the writer.
#ifndef TALLYCAST_IO_JSON_H
#define TALLYCAST_IO_JSON_H

#include <tallycast/wire.h>

struct tally_json {
    struct tally_writer *out;
    bool comma; // the next member or element needs one before it
};

static inline struct tally_json tally_json(struct tally_writer *out) { return (struct tally_json){.out = out}; }

// `name` null: an element of an array, or the top.
void tally_json_object_begin(struct tally_json *json, const char *name);
void tally_json_object_end(struct tally_json *json);
void tally_json_array_begin(struct tally_json *json, const char *name);
void tally_json_array_end(struct tally_json *json);
void tally_json_bytes(struct tally_json *json, const char *name, struct tally_bytes value);
void tally_json_str(struct tally_json *json, const char *name, const char *value);
void tally_json_u64(struct tally_json *json, const char *name, uint64_t value);
void tally_json_i64(struct tally_json *json, const char *name, int64_t value);
void tally_json_hex64(struct tally_json *json, const char *name, uint64_t value); // "16 hexadecimal digits"
void tally_json_bool(struct tally_json *json, const char *name, bool value);
void tally_json_null(struct tally_json *json, const char *name);
void tally_json_base64(struct tally_json *json, const char *name, struct tally_bytes value);
void tally_json_time(struct tally_json *json, const char *name,
                     uint64_t unix_ms); // RFC 3339, UTC, milliseconds

// The escaped inside of a JSON string, without its quotes.
void tally_json_escape(struct tally_writer *out, struct tally_bytes value);

// How many bytes the UTF-8 character at the front takes: 1 to 4, or 0 when it is none (overlong, surrogate,
// cut short, over U+10FFFF). `value.size` is at least 1.
unsigned tally_utf8_size(struct tally_bytes value);
bool tally_utf8_valid(struct tally_bytes value);

#define TALLY_TIME_BYTES 25u // "2026-11-22T19:00:00.000Z" and the NUL
void tally_time_format(uint64_t unix_ms, char out_text[TALLY_TIME_BYTES]);

#endif

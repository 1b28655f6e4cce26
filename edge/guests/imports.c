// SPDX-License-Identifier: Apache-2.0
//
// What a guest may import, from the module "tallycast": client-wasm/include/tallycast/guest.h says what each function does. Here a
// wrong address, size or number ends the call with a trap that names the function: the guest is wrong, and its answer would be.
#include "guests_internal.h"

#include <io/log.h>
#include <string.h>
#include <tallycast/limits.h>

static struct guest_seat *seat_of(wasmtime_caller_t *caller)
{
    return wasmtime_context_get_data(wasmtime_caller_context(caller));
}

static wasm_trap_t *trap(const char *text) { return wasmtime_trap_new(text, strlen(text)); }

// `size` bytes of the guest's memory at `address`; null when they do not all lie in it. Good until the guest runs on.
static uint8_t *at(const struct guest_seat *seat, int32_t address, uint64_t size)
{
    uint64_t start = (uint32_t)address, end = wasmtime_memory_data_size(seat->context, &seat->memory);
    if (start > end || size > end - start) return NULL;
    return wasmtime_memory_data(seat->context, &seat->memory) + start;
}

#define IMPORT(name)                                                                                                   \
    static wasm_trap_t *name(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count)
// Each begins with it: there is something to read and to answer only while handle runs, not while a module starts.
#define BEGIN()                                                                                                        \
    struct guest_seat *seat = seat_of(caller);                                                                         \
    ((void)env, (void)values, (void)count);                                                                            \
    if (!seat->call) return trap("the functions of tallycast may be called in handle only")

// ---------------------------------------------------------------------------------------------------- request, answer

IMPORT(request_method)
{
    BEGIN();
    values[0].i32 = seat->call->post;
    return NULL;
}

// As much of `text` as the guest has room for; the result is how much there is.
static wasm_trap_t *copy_out(const struct guest_seat *seat, struct tally_bytes text, wasmtime_val_raw_t *values,
                             const char *wrong)
{
    uint32_t capacity = (uint32_t)values[1].i32;
    size_t size = text.size < capacity ? text.size : capacity;
    uint8_t *out = at(seat, values[0].i32, capacity);
    if (!out) return trap(wrong);
    if (size) memcpy(out, text.data, size);
    values[0].i32 = (int32_t)text.size;
    return NULL;
}

IMPORT(request_path)
{
    BEGIN();
    return copy_out(seat, seat->call->path, values, "tallycast.request_path: the place is outside of the memory");
}

IMPORT(request_body)
{
    BEGIN();
    return copy_out(seat, seat->call->body, values, "tallycast.request_body: the place is outside of the memory");
}

IMPORT(respond)
{
    BEGIN();
    uint32_t size = (uint32_t)values[1].i32;
    const uint8_t *data = at(seat, values[0].i32, size);
    if (!data) return trap("tallycast.respond: the bytes are outside of the memory");
    if (size > TALLY_GUEST_ANSWER_BYTES_MAX - seat->reply->body->size)
        return trap("tallycast.respond: the answer is over 1 MiB");
    tally_write_raw(seat->reply->body, data, size);
    return NULL;
}

IMPORT(respond_type)
{
    BEGIN();
    uint32_t size = (uint32_t)values[1].i32;
    const uint8_t *data = at(seat, values[0].i32, size);
    if (!data) return trap("tallycast.respond_type: the text is outside of the memory");
    if (!size || size >= sizeof seat->reply->type) return trap("tallycast.respond_type: a type has 1 to 100 bytes");
    for (uint32_t i = 0; i < size; i++)
        if (data[i] < ' ' || data[i] > '~') return trap("tallycast.respond_type: a type is printable ASCII");
    memcpy(seat->reply->type, data, size);
    seat->reply->type[size] = '\0';
    return NULL;
}

IMPORT(write_log)
{
    BEGIN();
    uint32_t size = (uint32_t)values[1].i32;
    const uint8_t *data = at(seat, values[0].i32, size);
    if (!data) return trap("tallycast.log: the text is outside of the memory");
    if (seat->lines++ < GUEST_LOG_LINES_MAX)
        tally_info("guest", tally_log_str("guest", seat->guest->name),
                   tally_log_bytes("text", tally_bytes(data, size < GUEST_LOG_BYTES_MAX ? size : GUEST_LOG_BYTES_MAX)));
    return NULL;
}

// ---------------------------------------------------------------------------------------------------- the version that is read

IMPORT(version)
{
    BEGIN();
    values[0].i64 = (int64_t)seat->info.version;
    return NULL;
}

IMPORT(epoch)
{
    BEGIN();
    values[0].i64 = (int64_t)seat->info.epoch;
    return NULL;
}

IMPORT(table)
{
    BEGIN();
    const struct tally_http_source *source = seat->guests->options.source;
    uint32_t size = (uint32_t)values[1].i32, number;
    const uint8_t *name = at(seat, values[0].i32, size);
    if (!name) return trap("tallycast.table: the name is outside of the memory");
    enum tally_status status = source->table(seat->reader, &seat->view, tally_bytes(name, size), &number);
    if (status != TALLY_OK && status != TALLY_NOT_FOUND) return trap("tallycast.table: the client failed");
    values[0].i32 = status == TALLY_OK ? (int32_t)number : -1;
    return NULL;
}

IMPORT(get)
{
    BEGIN();
    const struct tally_http_source *source = seat->guests->options.source;
    uint32_t size = (uint32_t)values[2].i32;
    const uint8_t *key = at(seat, values[1].i32, size);
    uint8_t *out = at(seat, values[3].i32, sizeof(int64_t));
    int64_t value;
    if (!key) return trap("tallycast.get: the key is outside of the memory");
    if (!out) return trap("tallycast.get: the place of the value is outside of the memory");
    seat->reads++;
    enum tally_status status =
        source->get(seat->reader, &seat->view, (uint32_t)values[0].i32, tally_bytes(key, size), &value);
    if (status != TALLY_OK && status != TALLY_NOT_FOUND) return trap("tallycast.get: the client failed");
    if (status == TALLY_OK) tally_store64(out, (uint64_t)value);
    values[0].i32 = status == TALLY_OK;
    return NULL;
}

// The keys as seat->keys, or false when they do not fill their bytes exactly.
static bool take_keys(struct guest_seat *seat, const uint8_t *from, uint32_t left, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (left < 4) return false;
        uint32_t size = tally_load32(from);
        if (size > left - 4) return false;
        seat->keys[i] = tally_bytes(from + 4, size);
        from += 4 + size;
        left -= 4 + size;
    }
    return left == 0;
}

IMPORT(get_many)
{
    BEGIN();
    const struct tally_http_source *source = seat->guests->options.source;
    uint32_t size = (uint32_t)values[2].i32, keys = (uint32_t)values[3].i32, hits = 0;
    if (keys > TALLY_QUERY_KEYS_MAX) return trap("tallycast.get_many: more than 4096 keys");
    const uint8_t *from = at(seat, values[1].i32, size);
    uint8_t *out_values = at(seat, values[4].i32, keys * (uint64_t)8), *out_found = at(seat, values[5].i32, keys);
    if (!from || !out_values || !out_found) return trap("tallycast.get_many: an address is outside of the memory");
    if (!take_keys(seat, from, size, keys)) return trap("tallycast.get_many: the keys do not fill their bytes");
    seat->reads += keys;
    enum tally_status status = source->get_numbered(seat->reader, &seat->view, (uint32_t)values[0].i32, seat->keys,
                                                    keys, seat->values, seat->found);
    if (status != TALLY_OK) return trap("tallycast.get_many: the client failed");
    for (uint32_t i = 0; i < keys; i++) {
        tally_store64(out_values + (size_t)i * 8, (uint64_t)seat->values[i]);
        out_found[i] = seat->found[i];
        hits += seat->found[i];
    }
    values[0].i32 = (int32_t)hits;
    return NULL;
}

// ---------------------------------------------------------------------------------------------------- counting

IMPORT(add)
{
    BEGIN();
    uint32_t table_size = (uint32_t)values[1].i32, key_size = (uint32_t)values[3].i32;
    const uint8_t *name = at(seat, values[0].i32, table_size), *key = at(seat, values[2].i32, key_size);
    if (!name || !key) return trap("tallycast.add: the table or the key is outside of the memory");
    enum tally_status status = TALLY_UNSUPPORTED;
    if (seat->counter)
        status =
            tally_counts_add(seat->counter, tally_bytes(name, table_size), tally_bytes(key, key_size), values[4].i64);
    seat->adds += status == TALLY_OK;
    values[0].i32 = (int32_t)status;
    return NULL;
}

static enum tally_status mine_of(const struct guest_seat *seat, struct tally_bytes table, struct tally_bytes key,
                                 struct tally_http_mine *out_mine)
{
    const struct tally_guests *guests = seat->guests;
    const struct tally_http_source *source = guests->options.source;
    if (!source->get_mine || !seat->counter) return TALLY_UNSUPPORTED;
    if (!tally_name_valid(table) || !key.size || key.size > TALLY_KEY_BYTES_MAX) return TALLY_INVALID;
    unsigned thread = (unsigned)((size_t)(seat - guests->seats) / guests->count);
    return source->get_mine(source->ctx, thread, seat->reader, table, key, out_mine);
}

IMPORT(get_mine)
{
    BEGIN();
    // What a number does, as guest.h tells it.
    static const uint32_t told[TALLY_COUNTINGS] = {
        [TALLY_COUNTING_ADD] = 1, [TALLY_COUNTING_TOPK] = 1, [TALLY_COUNTING_ADJUST] = 1,
        [TALLY_COUNTING_SET] = 2, [TALLY_COUNTING_MIN] = 3,  [TALLY_COUNTING_MAX] = 4};
    uint32_t table_size = (uint32_t)values[1].i32, key_size = (uint32_t)values[3].i32;
    const uint8_t *name = at(seat, values[0].i32, table_size), *key = at(seat, values[2].i32, key_size);
    uint8_t *out = at(seat, values[4].i32, 40);
    struct tally_http_mine mine;
    if (!name || !key) return trap("tallycast.get_mine: the table or the key is outside of the memory");
    if (!out) return trap("tallycast.get_mine: the place of the answer is outside of the memory");
    seat->reads++;
    enum tally_status status = mine_of(seat, tally_bytes(name, table_size), tally_bytes(key, key_size), &mine);
    if (status == TALLY_OK) {
        tally_store64(out, (uint64_t)mine.value);
        tally_store64(out + 8, (uint64_t)mine.mine.number);
        tally_store64(out + 16, (uint64_t)mine.total);
        tally_store64(out + 24, mine.info.version);
        tally_store32(out + 32, mine.mine.any ? told[mine.mine.counting] : 0);
        tally_store32(out + 36, mine.in_doubt);
        if (!mine.found && !mine.mine.any) status = TALLY_NOT_FOUND;
    }
    values[0].i32 = (int32_t)status;
    return NULL;
}

// ---------------------------------------------------------------------------------------------------- the list

// Types: i (32 bits) and l (64), arguments, a colon, the result or nothing.
static const struct import {
    const char *name, *type;
    wasmtime_func_unchecked_callback_t function;
} imports[] = {
    {"request_method", ":i", request_method},
    {"request_path", "ii:i", request_path},
    {"request_body", "ii:i", request_body},
    {"respond", "ii:", respond},
    {"respond_type", "ii:", respond_type},
    {"log", "ii:", write_log},
    {"version", ":l", version},
    {"epoch", ":l", epoch},
    {"table", "ii:i", table},
    {"get", "iiii:i", get},
    {"add", "iiiil:i", add},
    {"get_many", "iiiiii:i", get_many},
    {"get_mine", "iiiii:i", get_mine},
};

static wasm_functype_t *make_type(const char *text)
{
    wasm_valtype_t *arguments[8], *result = NULL;
    size_t count = 0;
    for (; *text != ':'; text++) arguments[count++] = wasm_valtype_new(*text == 'l' ? WASM_I64 : WASM_I32);
    if (text[1]) result = wasm_valtype_new(text[1] == 'l' ? WASM_I64 : WASM_I32);
    wasm_valtype_vec_t takes, gives;
    wasm_valtype_vec_new(&takes, count, arguments);
    wasm_valtype_vec_new(&gives, result != NULL, &result);
    return wasm_functype_new(&takes, &gives); // owns both
}

enum tally_status guest_imports_define(wasmtime_linker_t *linker, struct tally_reason *out_reason)
{
    static const char module[] = "tallycast";
    for (size_t i = 0; i < sizeof imports / sizeof *imports; i++) {
        wasm_functype_t *type = make_type(imports[i].type);
        wasmtime_error_t *error =
            wasmtime_linker_define_func_unchecked(linker, module, sizeof module - 1, imports[i].name,
                                                  strlen(imports[i].name), type, imports[i].function, NULL, NULL);
        wasm_functype_delete(type);
        if (!error) continue;
        (void)guest_explain(error, NULL, out_reason);
        return TALLY_NO_MEMORY;
    }
    return TALLY_OK;
}

// SPDX-License-Identifier: Apache-2.0
#include "client.h"

#include <client-wasm/wasm/module.h>
#include <io/log.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------------------------------------------- structs of the ABI

static struct tally_view_info load_info(const uint8_t *at)
{
    return (struct tally_view_info){
        .epoch = tally_load64(at),
        .version = tally_load64(at + 8),
        .cut_ms = tally_load64(at + 16),
        .fresh_ms = tally_load64(at + 24),
        .digest = {.lo = tally_load64(at + 32), .hi = tally_load64(at + 40)},
        .seed = {.k0 = tally_load64(at + 48), .k1 = tally_load64(at + 56)},
        .rows = tally_load64(at + 64),
        .tables = tally_load32(at + 72),
    };
}

static struct tally_mirror_stats load_stats(const uint8_t *at)
{
    return (struct tally_mirror_stats){
        .reads = tally_load64(at),
        .hits = tally_load64(at + 8),
        .misses = tally_load64(at + 16),
        .applies = tally_load64(at + 24),
        .refused = tally_load64(at + 32),
        .swaps = tally_load64(at + 40),
        .rows_changed = tally_load64(at + 48),
        .retired_bytes = tally_load64(at + 56),
        .used_bytes = tally_load64(at + 64),
        .memory_bytes = tally_load64(at + 72),
        .readers = tally_load32(at + 80),
        .stalled_readers = tally_load32(at + 84),
    };
}

// ---------------------------------------------------------------------------------------------------- seats

static enum tally_status seat_init(struct wasm_client *client, struct wasm_seat *out_seat,
                                   struct tally_reason *out_reason)
{
    struct wasm_seat seat = {.client = client};
    enum tally_status status = wasm_instance_open(&client->module, &seat.instance, out_reason);
    if (status != TALLY_OK) return status;
    uint32_t slot = 0;
    if (!wasm_do(&seat.instance, reader_open, &slot))
        status = TALLY_IO;
    else if ((int32_t)slot < 0)
        status = (enum tally_status)(-(int32_t)slot);
    else if (!wasm_do(&seat.instance, reader_scratch, &seat.scratch, WASM_I32(slot)))
        status = TALLY_IO;
    if (status != TALLY_OK) {
        tally_reason_set(out_reason, "no reader of the mirror: %s", tally_status_str(status));
        wasm_instance_close(&seat.instance);
        return status;
    }
    seat.slot = slot;
    *out_seat = seat;
    return TALLY_OK;
}

static void seat_deinit(struct wasm_seat *seat)
{
    if (!seat->instance.store) return;
    (void)!wasm_do(&seat->instance, reader_close, NULL, WASM_I32(seat->slot));
    wasm_instance_close(&seat->instance);
}

// ---------------------------------------------------------------------------------------------------- views

static bool view_info(struct wasm_seat *seat, uint32_t view, struct tally_view_info *out_info)
{
    uint32_t status;
    if (!wasm_do(&seat->instance, info, &status, WASM_I32(view), WASM_I32(seat->scratch)) || status) return false;
    *out_info = load_info(wasm_at(&seat->instance, seat->scratch));
    return true;
}

enum tally_status wasm_seat_pin(struct wasm_seat *seat, struct tally_http_view *out_view)
{
    uint32_t view;
    if (!wasm_do(&seat->instance, pin, &view, WASM_I32(seat->slot))) return TALLY_IO;
    if ((int32_t)view < 0) return (enum tally_status)(-(int32_t)view);
    struct tally_view_info info;
    bool told = view_info(seat, view, &info);
    if (!told || !info.epoch) {
        (void)!wasm_do(&seat->instance, unpin, NULL, WASM_I32(view));
        return told ? TALLY_BUSY : TALLY_IO;
    }
    out_view->opaque[0] = view;
    out_view->opaque[1] = (uintptr_t)seat;
    return TALLY_OK;
}

void wasm_seat_unpin(const struct tally_http_view *view)
{
    (void)!wasm_do(&wasm_seat_of(view)->instance, unpin, NULL, WASM_I32(view->opaque[0]));
}

static void info(void *reader, const struct tally_http_view *view, struct tally_view_info *out_info)
{
    (void)reader;
    if (!view_info(wasm_seat_of(view), (uint32_t)view->opaque[0], out_info)) *out_info = (struct tally_view_info){0};
}

static enum tally_status table_info(void *reader, const struct tally_http_view *view, uint32_t table,
                                    struct tally_table_info *out_info)
{
    struct wasm_seat *seat = wasm_seat_of(view);
    (void)reader;
    uint32_t status;
    if (!wasm_do(&seat->instance, table_info, &status, WASM_I32(view->opaque[0]), WASM_I32(table),
                 WASM_I32(seat->scratch)))
        return TALLY_IO;
    if (status) return (enum tally_status)status;
    const uint8_t *at = wasm_at(&seat->instance, seat->scratch);
    *out_info = (struct tally_table_info){
        .rows = tally_load64(at),
        .name = tally_bytes(wasm_at(&seat->instance, tally_load32(at + 8)), tally_load32(at + 12)),
        .kind = (enum tally_kind)tally_load32(at + 16),
    };
    return TALLY_OK;
}

// As many keys as the scratch has room for, with their answers: how many were answered, 0 when the guest failed.
//   scratch: keys (u32 size, bytes, each) | to 8 | i64 values | found bytes
static size_t get_some(struct wasm_seat *seat, uint32_t view, uint32_t table, const struct tally_bytes *keys,
                       size_t count, int64_t *out_values, bool *out_found)
{
    uint8_t *at = wasm_at(&seat->instance, seat->scratch);
    size_t used = 0, some = 0;
    while (some < count) {
        // A longer key is in no table; nor is the empty one, which takes its place.
        size_t size = keys[some].size <= TALLY_KEY_BYTES_MAX ? keys[some].size : 0;
        if (used + 4 + size + 8 + (some + 1) * 9 > TALLYCAST_SCRATCH_BYTES) break;
        tally_store32(at + used, (uint32_t)size);
        if (size) memcpy(at + used + 4, keys[some].data, size);
        used += 4 + size;
        some++;
    }
    uint32_t values = (uint32_t)(used + 7) & ~7u, found = values + (uint32_t)some * 8, status;
    if (!wasm_do(&seat->instance, get_many, &status, WASM_I32(view), WASM_I32(table), WASM_I32(seat->scratch),
                 WASM_I32(used), WASM_I32(some), WASM_I32(seat->scratch + values), WASM_I32(seat->scratch + found)) ||
        status)
        return 0;
    for (size_t i = 0; i < some; i++) {
        out_values[i] = (int64_t)tally_load64(at + values + i * 8);
        out_found[i] = at[found + i] != 0;
    }
    return some;
}

static enum tally_status table_number(void *reader, const struct tally_http_view *view, struct tally_bytes name,
                                      uint32_t *out_table)
{
    struct wasm_seat *seat = wasm_seat_of(view);
    (void)reader;
    uint32_t number;
    if (name.size > TALLY_NAME_BYTES_MAX) return TALLY_NOT_FOUND;
    memcpy(wasm_at(&seat->instance, seat->scratch), name.data, name.size);
    if (!wasm_do(&seat->instance, table, &number, WASM_I32(view->opaque[0]), WASM_I32(seat->scratch),
                 WASM_I32(name.size)))
        return TALLY_IO;
    if ((int32_t)number < 0) return (enum tally_status)(-(int32_t)number);
    *out_table = number;
    return TALLY_OK;
}

// scratch: the value | the key
static enum tally_status get_one(void *reader, const struct tally_http_view *view, uint32_t table,
                                 struct tally_bytes key, int64_t *out_value)
{
    struct wasm_seat *seat = wasm_seat_of(view);
    (void)reader;
    uint8_t *at = wasm_at(&seat->instance, seat->scratch);
    uint32_t status;
    if (key.size > TALLY_KEY_BYTES_MAX) return TALLY_NOT_FOUND;
    memcpy(at + 8, key.data, key.size);
    if (!wasm_do(&seat->instance, get, &status, WASM_I32(view->opaque[0]), WASM_I32(table), WASM_I32(seat->scratch + 8),
                 WASM_I32(key.size), WASM_I32(seat->scratch)))
        return TALLY_IO;
    if (status == TALLY_OK) *out_value = (int64_t)tally_load64(at);
    return (enum tally_status)status;
}

static enum tally_status get_numbered(void *reader, const struct tally_http_view *view, uint32_t number,
                                      const struct tally_bytes *keys, size_t count, int64_t *out_values,
                                      bool *out_found)
{
    struct wasm_seat *seat = wasm_seat_of(view);
    (void)reader;
    for (size_t done = 0; done < count;) {
        size_t some = get_some(seat, (uint32_t)view->opaque[0], number, keys + done, count - done, out_values + done,
                               out_found + done);
        if (!some) return TALLY_IO;
        done += some;
    }
    return TALLY_OK;
}

// scratch: the cursor (u32 table, id) | the row (module.h)
static enum tally_status next_row(void *reader, const struct tally_http_view *view, struct tally_cursor *cursor,
                                  struct tally_row *out_row)
{
    struct wasm_seat *seat = wasm_seat_of(view);
    (void)reader;
    uint8_t *at = wasm_at(&seat->instance, seat->scratch);
    uint32_t there;
    tally_store32(at, cursor->table);
    tally_store32(at + 4, cursor->id);
    if (!wasm_do(&seat->instance, next, &there, WASM_I32(view->opaque[0]), WASM_I32(seat->scratch),
                 WASM_I32(seat->scratch + 8)))
        return TALLY_IO;
    if (!there) return TALLY_NOT_FOUND;
    *cursor = (struct tally_cursor){.table = tally_load32(at), .id = tally_load32(at + 4)};
    *out_row = (struct tally_row){
        .value = (int64_t)tally_load64(at + 8),
        .table = tally_load32(at + 16),
        .id = tally_load32(at + 20),
        .key = tally_bytes(wasm_at(&seat->instance, tally_load32(at + 24)), tally_load32(at + 28)),
    };
    return TALLY_OK;
}

static enum tally_status write_chunk(void *reader, const struct tally_http_view *view, struct tally_cursor *cursor,
                                     uint32_t *chunk, uint8_t *out, size_t *out_bytes, bool *out_more)
{
    struct wasm_seat *seat = wasm_seat_of(view);
    (void)reader;
    uint8_t *state = wasm_at(&seat->instance, seat->scratch);
    uint32_t status;
    memset(state, 0, 24);
    tally_store32(state, cursor->table);
    tally_store32(state + 4, cursor->id);
    tally_store32(state + 8, *chunk);
    if (!wasm_do(&seat->instance, write_chunk, &status, WASM_I32(view->opaque[0]), WASM_I32(seat->scratch),
                 WASM_I32(seat->chunk_scratch), WASM_I32(seat->chunk_out)))
        return TALLY_IO;
    if (status) return (enum tally_status)status;
    uint32_t bytes = tally_load32(state + 12);
    if (bytes > TALLY_CHUNK_BYTES_MAX) return TALLY_IO;
    *cursor = (struct tally_cursor){.table = tally_load32(state), .id = tally_load32(state + 4)};
    *chunk = tally_load32(state + 8);
    memcpy(out, wasm_at(&seat->instance, seat->chunk_out), bytes);
    *out_bytes = bytes;
    *out_more = tally_load32(state + 16) != 0;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- applier

bool wasm_client_lost(const struct wasm_client *client)
{
    return atomic_load_explicit(&client->lost, memory_order_relaxed);
}

static enum tally_status lose(struct wasm_client *client)
{
    if (!atomic_exchange_explicit(&client->lost, true, memory_order_relaxed))
        tally_error("host_lost",
                    tally_log_str("reason", "the applier trapped; what is held stays readable until a restart"));
    return TALLY_IO;
}

enum tally_status wasm_client_apply(struct wasm_client *client, struct tally_bytes frame)
{
    struct wasm_instance *instance = &client->applier.instance;
    uint32_t buffer, status;
    if (wasm_client_lost(client)) return TALLY_IO;
    if (frame.size > TALLY_FRAME_BYTES_MAX) return TALLY_LIMIT;
    if (!wasm_do(instance, buffer, &buffer, WASM_I32(frame.size))) return lose(client);
    if (!buffer) return TALLY_NO_MEMORY;
    memcpy(wasm_at(instance, buffer), frame.data, frame.size);
    if (!wasm_do(instance, apply, &status, WASM_I32(buffer), WASM_I32(frame.size))) return lose(client);
    return (enum tally_status)status;
}

void wasm_client_abandon(struct wasm_client *client)
{
    if (!wasm_client_lost(client) && !wasm_do(&client->applier.instance, abandon, NULL)) (void)lose(client);
}

void wasm_client_confirm(struct wasm_client *client, uint64_t epoch, uint64_t version, uint64_t now_ms)
{
    if (!wasm_client_lost(client) &&
        !wasm_do(&client->applier.instance, confirm, NULL, WASM_I64(epoch), WASM_I64(version), WASM_I64(now_ms)))
        (void)lose(client);
}

void wasm_client_held(struct wasm_client *client, struct tally_view_info *out_info)
{
    struct wasm_seat *applier = &client->applier;
    uint32_t view;
    if (wasm_do(&applier->instance, pin, &view, WASM_I32(applier->slot)) && (int32_t)view >= 0) {
        struct tally_view_info info_now;
        if (view_info(applier, view, &info_now)) client->held = info_now;
        (void)!wasm_do(&applier->instance, unpin, NULL, WASM_I32(view));
    }
    *out_info = client->held;
}

void wasm_client_stats(struct wasm_client *client, struct tally_mirror_stats *out_stats)
{
    struct wasm_seat *applier = &client->applier;
    uint32_t status;
    if (wasm_do(&applier->instance, stats, &status, WASM_I32(applier->scratch)) && !status)
        client->stats = load_stats(wasm_at(&applier->instance, applier->scratch));
    *out_stats = client->stats;
}

// ---------------------------------------------------------------------------------------------------- client

void wasm_client_destroy(struct wasm_client **client)
{
    struct wasm_client *it = *client;
    if (!it) return;
    for (uint32_t i = 0; it->seats && i < it->seats_count; i++) seat_deinit(&it->seats[i]);
    seat_deinit(&it->applier);
    wasm_module_close(&it->module);
    free(it->seats);
    free(it);
    *client = NULL;
}

// The empty mirror.
static enum tally_status open_mirror(struct wasm_instance *first, struct tally_bytes dataset)
{
    uint32_t at = 0, answer = TALLY_NO_MEMORY;
    if (!wasm_do(first, buffer, &at, WASM_I32(dataset.size)) || !at) return TALLY_IO;
    memcpy(wasm_at(first, at), dataset.data, dataset.size);
    if (!wasm_do(first, open, &answer, WASM_I32(at), WASM_I32(dataset.size), WASM_I64(0), WASM_I64(0))) return TALLY_IO;
    return (enum tally_status)answer;
}

// All that the readers will ever need, while it is there to be had: only the applier may take memory.
static enum tally_status open_seats(struct wasm_client *client, struct wasm_instance *first,
                                    struct tally_reason *out_reason)
{
    enum tally_status status = seat_init(client, &client->applier, out_reason);
    for (uint32_t i = 0; status == TALLY_OK && i < client->seats_count; i++) {
        struct wasm_seat *seat = &client->seats[i];
        status = seat_init(client, seat, out_reason);
        if (status != TALLY_OK) break;
        bool told = wasm_do(first, alloc, &seat->chunk_scratch, WASM_I32(TALLY_CHUNK_BYTES_MAX)) &&
                    wasm_do(first, alloc, &seat->chunk_out, WASM_I32(TALLY_CHUNK_BYTES_MAX));
        if (told && seat->chunk_scratch && seat->chunk_out) continue;
        status = told ? TALLY_NO_MEMORY : TALLY_IO;
        tally_reason_set(out_reason, "no memory for readers: %s", tally_status_str(status));
    }
    return status;
}

enum tally_status wasm_client_create(const struct tally_host_options *options, uint32_t seats_count,
                                     struct wasm_client **out_client, struct tally_reason *out_reason)
{
    struct wasm_instance first;
    struct tally_reason what = {{0}};
    struct wasm_client *client = calloc(1, sizeof *client);
    struct wasm_seat *seats = client ? calloc(seats_count, sizeof *seats) : NULL;
    if (!seats) {
        tally_reason_set(out_reason, "no memory");
        free(client);
        return TALLY_NO_MEMORY;
    }
    client->seats = seats;
    client->seats_count = seats_count;
    client->references = 1;
    enum tally_status status =
        wasm_module_open(options->module, options->memory_bytes_max, &client->module, out_reason);
    if (status == TALLY_OK) status = wasm_instance_open(&client->module, &first, out_reason);
    if (status != TALLY_OK) {
        wasm_client_destroy(&client);
        return status;
    }
    status = open_mirror(&first, options->dataset);
    if (status == TALLY_OK) status = open_seats(client, &first, &what);
    wasm_instance_close(&first);
    if (status != TALLY_OK) {
        tally_reason_set(out_reason, "no mirror for %u readers within a memory-max of %llu bytes: %s", seats_count,
                         (unsigned long long)options->memory_bytes_max,
                         what.text[0] ? what.text : tally_status_str(status));
        wasm_client_destroy(&client);
        return status;
    }
    *out_client = client;
    return TALLY_OK;
}

void wasm_client_fill(struct tally_http_source *source)
{
    source->info = info;
    source->table_info = table_info;
    source->table = table_number;
    source->get = get_one;
    source->get_numbered = get_numbered;
    source->next = next_row;
    source->write_chunk = write_chunk;
}

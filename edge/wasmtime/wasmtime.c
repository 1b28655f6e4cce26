// SPDX-License-Identifier: Apache-2.0
//
// The client core as tallycast-shared.wasm. Memory is the guest's; what the host hands over or takes back is copied through a place that
// belongs to the calling thread alone: the applier's buffer, or a reader's scratch.
#include "guest.h"

#include <client-wasm/wasm/module.h>
#include <edge/host/host.h>
#include <io/log.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

// One that reads: an instance, a slot of the mirror and, for whole states, two chunks of guest memory.
struct wasm_reader {
    struct wasm_instance instance;
    struct tally_host *host;
    uint32_t slot, scratch;
    uint32_t chunks; // number in host->chunks
};

struct chunk_memory {
    uint32_t scratch, out; // addresses of TALLY_CHUNK_BYTES_MAX each
    bool taken;
};

struct tally_host {
    struct wasm_module module;
    struct wasm_reader applier;
    struct tally_view_info held; // as last told
    struct tally_mirror_stats stats;
    _Atomic bool lost;     // the applier trapped: half a change may lie in the memory, so there will be no other
    pthread_mutex_t mutex; // of chunks
    uint32_t chunks_count;
    struct chunk_memory *chunks; // one a reader
};

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

// ---------------------------------------------------------------------------------------------------- readers

static enum tally_status reader_init(struct tally_host *host, struct wasm_reader *out_reader,
                                     struct tally_reason *out_reason)
{
    struct wasm_reader reader = {.host = host};
    enum tally_status status = wasm_instance_open(&host->module, &reader.instance, out_reason);
    if (status != TALLY_OK) return status;
    uint32_t slot = 0;
    if (!wasm_do(&reader.instance, reader_open, &slot))
        status = TALLY_IO;
    else if ((int32_t)slot < 0)
        status = (enum tally_status)(-(int32_t)slot);
    else if (!wasm_do(&reader.instance, reader_scratch, &reader.scratch, WASM_I32(slot)))
        status = TALLY_IO;
    if (status != TALLY_OK) {
        tally_reason_set(out_reason, "no reader of the mirror: %s", tally_status_str(status));
        wasm_instance_close(&reader.instance);
        return status;
    }
    reader.slot = slot;
    *out_reader = reader;
    return TALLY_OK;
}

static void reader_deinit(struct wasm_reader *reader)
{
    if (!reader->instance.store) return;
    (void)!wasm_do(&reader->instance, reader_close, NULL, WASM_I32(reader->slot));
    wasm_instance_close(&reader->instance);
}

static enum tally_status open_reader(void *ctx, unsigned thread, void **out_reader)
{
    struct tally_host *host = ctx;
    struct tally_reason reason;
    (void)thread;
    struct wasm_reader *reader = calloc(1, sizeof *reader);
    if (!reader) return TALLY_NO_MEMORY;
    uint32_t chunks = UINT32_MAX;
    pthread_mutex_lock(&host->mutex);
    for (uint32_t i = 0; i < host->chunks_count && chunks == UINT32_MAX; i++) {
        if (host->chunks[i].taken) continue;
        host->chunks[i].taken = true;
        chunks = i;
    }
    pthread_mutex_unlock(&host->mutex);
    enum tally_status status = TALLY_FULL;
    tally_reason_set(&reason, "%u readers are open", host->chunks_count);
    if (chunks != UINT32_MAX) status = reader_init(host, reader, &reason);
    if (status != TALLY_OK) {
        tally_error("reader_refused", tally_log_str("reason", reason.text));
        if (chunks != UINT32_MAX) {
            pthread_mutex_lock(&host->mutex);
            host->chunks[chunks].taken = false;
            pthread_mutex_unlock(&host->mutex);
        }
        free(reader);
        return status;
    }
    reader->chunks = chunks;
    *out_reader = reader;
    return TALLY_OK;
}

static void close_reader(void *ctx, void *opened)
{
    struct tally_host *host = ctx;
    struct wasm_reader *reader = opened;
    uint32_t chunks = reader->chunks;
    reader_deinit(reader);
    free(reader);
    pthread_mutex_lock(&host->mutex);
    host->chunks[chunks].taken = false;
    pthread_mutex_unlock(&host->mutex);
}

// ---------------------------------------------------------------------------------------------------- views

static bool view_info(struct wasm_reader *reader, uint32_t view, struct tally_view_info *out_info)
{
    uint32_t status;
    if (!wasm_do(&reader->instance, info, &status, WASM_I32(view), WASM_I32(reader->scratch)) || status) return false;
    *out_info = load_info(wasm_at(&reader->instance, reader->scratch));
    return true;
}

static enum tally_status pin(void *opened, struct tally_http_view *out_view)
{
    struct wasm_reader *reader = opened;
    uint32_t view;
    if (!wasm_do(&reader->instance, pin, &view, WASM_I32(reader->slot))) return TALLY_IO;
    if ((int32_t)view < 0) return (enum tally_status)(-(int32_t)view);
    struct tally_view_info info;
    bool told = view_info(reader, view, &info);
    if (!told || !info.epoch) {
        (void)!wasm_do(&reader->instance, unpin, NULL, WASM_I32(view));
        return told ? TALLY_BUSY : TALLY_IO;
    }
    out_view->opaque[0] = view;
    return TALLY_OK;
}

static void unpin(void *opened, struct tally_http_view *view)
{
    struct wasm_reader *reader = opened;
    (void)!wasm_do(&reader->instance, unpin, NULL, WASM_I32(view->opaque[0]));
}

static void info(void *opened, const struct tally_http_view *view, struct tally_view_info *out_info)
{
    if (!view_info(opened, (uint32_t)view->opaque[0], out_info)) *out_info = (struct tally_view_info){0};
}

static enum tally_status table_info(void *opened, const struct tally_http_view *view, uint32_t table,
                                    struct tally_table_info *out_info)
{
    struct wasm_reader *reader = opened;
    uint32_t status;
    if (!wasm_do(&reader->instance, table_info, &status, WASM_I32(view->opaque[0]), WASM_I32(table),
                 WASM_I32(reader->scratch)))
        return TALLY_IO;
    if (status) return (enum tally_status)status;
    const uint8_t *at = wasm_at(&reader->instance, reader->scratch);
    *out_info = (struct tally_table_info){
        .rows = tally_load64(at),
        .name = tally_bytes(wasm_at(&reader->instance, tally_load32(at + 8)), tally_load32(at + 12)),
        .kind = (enum tally_kind)tally_load32(at + 16),
    };
    return TALLY_OK;
}

// As many keys as the scratch has room for, with their answers: how many were answered, 0 when the guest failed.
//   scratch: keys (u32 size, bytes, each) | to 8 | i64 values | found bytes
static size_t get_some(struct wasm_reader *reader, uint32_t view, uint32_t table, const struct tally_bytes *keys,
                       size_t count, int64_t *out_values, bool *out_found)
{
    uint8_t *at = wasm_at(&reader->instance, reader->scratch);
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
    if (!wasm_do(&reader->instance, get_many, &status, WASM_I32(view), WASM_I32(table), WASM_I32(reader->scratch),
                 WASM_I32(used), WASM_I32(some), WASM_I32(reader->scratch + values),
                 WASM_I32(reader->scratch + found)) ||
        status)
        return 0;
    for (size_t i = 0; i < some; i++) {
        out_values[i] = (int64_t)tally_load64(at + values + i * 8);
        out_found[i] = at[found + i] != 0;
    }
    return some;
}

static enum tally_status table_number(void *opened, const struct tally_http_view *view, struct tally_bytes name,
                                      uint32_t *out_table)
{
    struct wasm_reader *reader = opened;
    uint32_t number;
    if (name.size > TALLY_NAME_BYTES_MAX) return TALLY_NOT_FOUND;
    memcpy(wasm_at(&reader->instance, reader->scratch), name.data, name.size);
    if (!wasm_do(&reader->instance, table, &number, WASM_I32(view->opaque[0]), WASM_I32(reader->scratch),
                 WASM_I32(name.size)))
        return TALLY_IO;
    if ((int32_t)number < 0) return (enum tally_status)(-(int32_t)number);
    *out_table = number;
    return TALLY_OK;
}

// scratch: the value | the key
static enum tally_status get_one(void *opened, const struct tally_http_view *view, uint32_t table,
                                 struct tally_bytes key, int64_t *out_value)
{
    struct wasm_reader *reader = opened;
    uint8_t *at = wasm_at(&reader->instance, reader->scratch);
    uint32_t status;
    if (key.size > TALLY_KEY_BYTES_MAX) return TALLY_NOT_FOUND;
    memcpy(at + 8, key.data, key.size);
    if (!wasm_do(&reader->instance, get, &status, WASM_I32(view->opaque[0]), WASM_I32(table),
                 WASM_I32(reader->scratch + 8), WASM_I32(key.size), WASM_I32(reader->scratch)))
        return TALLY_IO;
    if (status == TALLY_OK) *out_value = (int64_t)tally_load64(at);
    return (enum tally_status)status;
}

static enum tally_status get_numbered(void *opened, const struct tally_http_view *view, uint32_t number,
                                      const struct tally_bytes *keys, size_t count, int64_t *out_values,
                                      bool *out_found)
{
    struct wasm_reader *reader = opened;
    for (size_t done = 0; done < count;) {
        size_t some = get_some(reader, (uint32_t)view->opaque[0], number, keys + done, count - done, out_values + done,
                               out_found + done);
        if (!some) return TALLY_IO;
        done += some;
    }
    return TALLY_OK;
}

static enum tally_status get_many(void *opened, const struct tally_http_view *view, struct tally_bytes table,
                                  const struct tally_bytes *keys, size_t count, int64_t *out_values, bool *out_found)
{
    uint32_t number;
    enum tally_status status = table_number(opened, view, table, &number);
    return status ? status : get_numbered(opened, view, number, keys, count, out_values, out_found);
}

static enum tally_status write_chunk(void *opened, const struct tally_http_view *view, struct tally_cursor *cursor,
                                     uint32_t *chunk, uint8_t *out, size_t *out_bytes, bool *out_more)
{
    struct wasm_reader *reader = opened;
    const struct chunk_memory *memory = &reader->host->chunks[reader->chunks];
    uint8_t *state = wasm_at(&reader->instance, reader->scratch);
    uint32_t status;
    memset(state, 0, 24);
    tally_store32(state, cursor->table);
    tally_store32(state + 4, cursor->id);
    tally_store32(state + 8, *chunk);
    if (!wasm_do(&reader->instance, write_chunk, &status, WASM_I32(view->opaque[0]), WASM_I32(reader->scratch),
                 WASM_I32(memory->scratch), WASM_I32(memory->out)))
        return TALLY_IO;
    if (status) return (enum tally_status)status;
    uint32_t bytes = tally_load32(state + 12);
    if (bytes > TALLY_CHUNK_BYTES_MAX) return TALLY_IO;
    *cursor = (struct tally_cursor){.table = tally_load32(state), .id = tally_load32(state + 4)};
    *chunk = tally_load32(state + 8);
    memcpy(out, wasm_at(&reader->instance, memory->out), bytes);
    *out_bytes = bytes;
    *out_more = tally_load32(state + 16) != 0;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- applier

static bool lost(const struct tally_host *host) { return atomic_load_explicit(&host->lost, memory_order_relaxed); }

static enum tally_status lose(struct tally_host *host)
{
    if (!atomic_exchange_explicit(&host->lost, true, memory_order_relaxed))
        tally_error("host_lost",
                    tally_log_str("reason", "the applier trapped; what is held stays readable until a restart"));
    return TALLY_IO;
}

static enum tally_status wasm_apply(struct tally_host *host, struct tally_bytes frame)
{
    struct wasm_instance *instance = &host->applier.instance;
    uint32_t buffer, status;
    if (lost(host)) return TALLY_IO;
    if (frame.size > TALLY_FRAME_BYTES_MAX) return TALLY_LIMIT;
    if (!wasm_do(instance, buffer, &buffer, WASM_I32(frame.size))) return lose(host);
    if (!buffer) return TALLY_NO_MEMORY;
    memcpy(wasm_at(instance, buffer), frame.data, frame.size);
    if (!wasm_do(instance, apply, &status, WASM_I32(buffer), WASM_I32(frame.size))) return lose(host);
    return (enum tally_status)status;
}

static void wasm_abandon(struct tally_host *host)
{
    if (!lost(host) && !wasm_do(&host->applier.instance, abandon, NULL)) (void)lose(host);
}

static void wasm_confirm(struct tally_host *host, uint64_t epoch, uint64_t version, uint64_t now_ms)
{
    if (!lost(host) &&
        !wasm_do(&host->applier.instance, confirm, NULL, WASM_I64(epoch), WASM_I64(version), WASM_I64(now_ms)))
        (void)lose(host);
}

static void wasm_held(struct tally_host *host, struct tally_view_info *out_info)
{
    struct wasm_reader *applier = &host->applier;
    uint32_t view;
    if (wasm_do(&applier->instance, pin, &view, WASM_I32(applier->slot)) && (int32_t)view >= 0) {
        struct tally_view_info info_now;
        if (view_info(applier, view, &info_now)) host->held = info_now;
        (void)!wasm_do(&applier->instance, unpin, NULL, WASM_I32(view));
    }
    *out_info = host->held;
}

static void wasm_stats(struct tally_host *host, struct tally_mirror_stats *out_stats)
{
    struct wasm_reader *applier = &host->applier;
    uint32_t status;
    if (wasm_do(&applier->instance, stats, &status, WASM_I32(applier->scratch)) && !status)
        host->stats = load_stats(wasm_at(&applier->instance, applier->scratch));
    *out_stats = host->stats;
}

static bool wasm_sound(const struct tally_host *host) { return !lost(host); }

// ---------------------------------------------------------------------------------------------------- host

static void wasm_destroy(struct tally_host **host)
{
    struct tally_host *it = *host;
    if (!it) return;
    reader_deinit(&it->applier);
    wasm_module_close(&it->module);
    pthread_mutex_destroy(&it->mutex);
    free(it->chunks);
    free(it);
    *host = NULL;
}

// The empty mirror, and the memory for chunks: only the applier may take it, so all of it is taken now.
static enum tally_status open_mirror(struct tally_host *host, const struct tally_host_options *options,
                                     struct tally_reason *out_reason)
{
    struct wasm_instance first;
    enum tally_status status = wasm_instance_open(&host->module, &first, out_reason);
    if (status != TALLY_OK) return status;
    uint32_t at = 0, answer = TALLY_NO_MEMORY;
    if (!wasm_do(&first, buffer, &at, WASM_I32(options->dataset.size)) || !at) {
        status = TALLY_IO;
    } else {
        memcpy(wasm_at(&first, at), options->dataset.data, options->dataset.size);
        bool told =
            wasm_do(&first, open, &answer, WASM_I32(at), WASM_I32(options->dataset.size), WASM_I64(0), WASM_I64(0));
        status = told ? (enum tally_status)answer : TALLY_IO;
    }
    for (uint32_t i = 0; status == TALLY_OK && i < host->chunks_count; i++) {
        struct chunk_memory *memory = &host->chunks[i];
        bool told = wasm_do(&first, alloc, &memory->scratch, WASM_I32(TALLY_CHUNK_BYTES_MAX)) &&
                    wasm_do(&first, alloc, &memory->out, WASM_I32(TALLY_CHUNK_BYTES_MAX));
        if (!told)
            status = TALLY_IO;
        else if (!memory->scratch || !memory->out)
            status = TALLY_NO_MEMORY;
    }
    wasm_instance_close(&first);
    if (status != TALLY_OK)
        tally_reason_set(out_reason, "no mirror for %u readers within a memory-max of %llu bytes: %s",
                         host->chunks_count, (unsigned long long)options->memory_bytes_max, tally_status_str(status));
    return status;
}

static enum tally_status wasm_create(const struct tally_host_options *options, struct tally_host **out_host,
                                     struct tally_http_source *out_source, struct tally_reason *out_reason)
{
    struct tally_host *host = calloc(1, sizeof *host);
    if (!host) {
        tally_reason_set(out_reason, "no memory");
        return TALLY_NO_MEMORY;
    }
    pthread_mutex_init(&host->mutex, NULL);
    host->chunks_count = options->readers_max;
    host->chunks = calloc(host->chunks_count, sizeof *host->chunks);
    enum tally_status status = TALLY_NO_MEMORY;
    if (host->chunks) status = wasm_module_open(options->module, options->memory_bytes_max, &host->module, out_reason);
    if (status == TALLY_OK) status = open_mirror(host, options, out_reason);
    if (status == TALLY_OK) status = reader_init(host, &host->applier, out_reason);
    if (status != TALLY_OK) {
        wasm_destroy(&host);
        return status;
    }
    *out_host = host;
    *out_source = (struct tally_http_source){
        .ctx = host,
        .open_reader = open_reader,
        .close_reader = close_reader,
        .pin = pin,
        .unpin = unpin,
        .info = info,
        .table_info = table_info,
        .get_many = get_many,
        .table = table_number,
        .get = get_one,
        .get_numbered = get_numbered,
        .write_chunk = write_chunk,
    };
    return TALLY_OK;
}

const struct tally_host_ops tally_host_wasmtime = {
    .name = "wasm",
    .create = wasm_create,
    .destroy = wasm_destroy,
    .apply = wasm_apply,
    .abandon = wasm_abandon,
    .confirm = wasm_confirm,
    .held = wasm_held,
    .stats = wasm_stats,
    .sound = wasm_sound,
};

// SPDX-License-Identifier: Apache-2.0
//
// The client core as tallycast-shared.wasm, and how another build of it takes over while everything goes on:
//
//   applier's thread      renew_begin             apply, apply, ... each kept, too    renew_end: what is left of those, compare, publish
//   a thread of the pool              renew_prepare: compile; copy the whole state from a pinned view; take in what was kept
//   readers               old client ........................................................ each goes over when it pins next
//
// A reader goes over between two views, never within one, and finds the version that it had or a later one. What it has pinned stays where it is. When
// the last reader has let go of the old client, its memory is given back by `tidy`.
#include "client.h"
#include "renewal.h"

#include <io/log.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct tally_host {
    struct tally_host_options options; // of a later client, too; the dataset's name lies in `dataset`
    uint8_t dataset[TALLY_NAME_BYTES_MAX];
    struct wasm_client
        *client;               // newest. Written by the applier under the mutex, read by it without, by others under it
    _Atomic uint64_t number;   // of it: what a reader compares before it takes the mutex
    pthread_mutex_t mutex;     // of client, of every client's references, of taken and ended
    bool *taken;               // seats, by number
    struct wasm_client *ended; // to be destroyed
    struct tally_mirror_stats past; // counts of the clients before this one
    bool staged;                    // chunks wait for their last one
    struct renewal renewal;
};

// A place among the seats of whatever client there is.
struct reader {
    struct tally_host *host;
    uint32_t place;
    uint64_t number;
    struct wasm_seat *seat;
};

// ---------------------------------------------------------------------------------------------------- readers

static void release(struct tally_host *host, struct wasm_client *client)
{
    pthread_mutex_lock(&host->mutex);
    if (--client->references == 0) {
        client->next = host->ended;
        host->ended = client;
    }
    pthread_mutex_unlock(&host->mutex);
}

static void take_seat(struct reader *reader)
{
    struct tally_host *host = reader->host;
    pthread_mutex_lock(&host->mutex);
    struct wasm_client *client = host->client;
    client->references++;
    pthread_mutex_unlock(&host->mutex);
    reader->seat = &client->seats[reader->place];
    reader->seat->left = false;
    reader->number = client->number;
}

static void leave_seat(struct reader *reader)
{
    struct wasm_seat *seat = reader->seat;
    seat->left = true;
    if (!seat->views) release(reader->host, seat->client);
}

// Acquire: the partner is the release in publish. All that is read of the new client afterwards goes through the mutex as well.
static void settle(void *opened)
{
    struct reader *reader = opened;
    if (atomic_load_explicit(&reader->host->number, memory_order_acquire) == reader->number) return;
    leave_seat(reader);
    take_seat(reader);
}

static enum tally_status open_reader(void *ctx, unsigned thread, void **out_reader)
{
    struct tally_host *host = ctx;
    (void)thread;
    struct reader *reader = calloc(1, sizeof *reader);
    if (!reader) return TALLY_NO_MEMORY;
    pthread_mutex_lock(&host->mutex);
    uint32_t place = 0;
    while (place < host->options.readers_max && host->taken[place]) place++;
    bool full = place == host->options.readers_max;
    if (!full) host->taken[place] = true;
    pthread_mutex_unlock(&host->mutex);
    if (full) {
        tally_error("reader_refused", tally_log_u64("open", host->options.readers_max));
        free(reader);
        return TALLY_FULL;
    }
    *reader = (struct reader){.host = host, .place = place};
    take_seat(reader);
    *out_reader = reader;
    return TALLY_OK;
}

static void close_reader(void *ctx, void *opened)
{
    struct tally_host *host = ctx;
    struct reader *reader = opened;
    uint32_t place = reader->place;
    leave_seat(reader);
    free(reader);
    pthread_mutex_lock(&host->mutex);
    host->taken[place] = false;
    pthread_mutex_unlock(&host->mutex);
}

static enum tally_status pin(void *opened, struct tally_http_view *out_view)
{
    struct reader *reader = opened;
    settle(reader);
    enum tally_status status = wasm_seat_pin(reader->seat, out_view);
    if (status == TALLY_OK) reader->seat->views++;
    return status;
}

static void unpin(void *opened, struct tally_http_view *view)
{
    struct reader *reader = opened;
    struct wasm_seat *seat = wasm_seat_of(view);
    wasm_seat_unpin(view);
    if (--seat->views == 0 && seat->left) release(reader->host, seat->client);
}

// ---------------------------------------------------------------------------------------------------- applier

static enum tally_status wasm_apply(struct tally_host *host, struct tally_bytes frame)
{
    enum tally_status status = wasm_client_apply(host->client, frame);
    if (status == TALLY_OK || status == TALLY_MORE)
        renewal_keep(&host->renewal, frame);
    else if (status != TALLY_OLD)
        renewal_keep(&host->renewal, tally_bytes(NULL, 0)); // a refusal forgets what was staged
    // The view that is copied may be what holds the garbage.
    if (status == TALLY_STALLED)
        renewal_give_up(&host->renewal, "readers hold more old versions than there is room for");
    host->staged = status == TALLY_MORE || (status == TALLY_OLD && host->staged);
    return status;
}

static void wasm_abandon(struct tally_host *host)
{
    wasm_client_abandon(host->client);
    renewal_keep(&host->renewal, tally_bytes(NULL, 0));
    host->staged = false;
}

static void wasm_confirm(struct tally_host *host, uint64_t epoch, uint64_t version, uint64_t now_ms)
{
    wasm_client_confirm(host->client, epoch, version, now_ms);
}

static void wasm_held(struct tally_host *host, struct tally_view_info *out_info)
{
    wasm_client_held(host->client, out_info);
}

// What counts up goes on from where the clients before it had come to.
static void add_counts(struct tally_mirror_stats *to, const struct tally_mirror_stats *more)
{
    to->reads += more->reads;
    to->hits += more->hits;
    to->misses += more->misses;
    to->applies += more->applies;
    to->refused += more->refused;
    to->swaps += more->swaps;
    to->rows_changed += more->rows_changed;
}

static void wasm_stats(struct tally_host *host, struct tally_mirror_stats *out_stats)
{
    wasm_client_stats(host->client, out_stats);
    add_counts(out_stats, &host->past);
}

static bool wasm_sound(const struct tally_host *host) { return !wasm_client_lost(host->client); }

static uint64_t wasm_identity(const struct tally_host *host) { return host->client->module.identity; }

// ---------------------------------------------------------------------------------------------------- another build

static enum tally_status renew_begin(struct tally_host *host)
{
    if (host->staged) return TALLY_BUSY; // what is staged is in no view
    renewal_open(&host->renewal);
    return TALLY_OK;
}

static enum tally_status renew_prepare(struct tally_host *host, const char *module, struct tally_reason *out_reason)
{
    struct tally_host_options options = host->options;
    options.module = module;
    // The last seat is nobody's but this one's. The client is not changed while this runs: only renew_end does.
    struct wasm_seat *from = &host->client->seats[host->options.readers_max];
    enum tally_status status =
        wasm_client_create(&options, host->options.readers_max + 1, &host->renewal.client, out_reason);
    if (status == TALLY_OK) status = renewal_copy(&host->renewal, from, out_reason);
    if (status == TALLY_OK) status = renewal_take_in(&host->renewal, out_reason);
    return status;
}

static void publish(struct tally_host *host, struct wasm_client *client)
{
    struct wasm_client *before = host->client;
    struct tally_mirror_stats counts;
    wasm_client_stats(before, &counts);
    add_counts(&host->past, &counts);
    wasm_client_stats(client, &counts); // copying is no news
    host->past.applies -= counts.applies;
    host->past.swaps -= counts.swaps;
    host->past.rows_changed -= counts.rows_changed;
    host->past.reads -= counts.reads;
    host->past.hits -= counts.hits;
    host->past.misses -= counts.misses;
    client->number = before->number + 1;
    pthread_mutex_lock(&host->mutex);
    host->client = client;
    atomic_store_explicit(&host->number, client->number, memory_order_release);
    pthread_mutex_unlock(&host->mutex);
    release(host, before);
}

static enum tally_status renew_end(struct tally_host *host, enum tally_status prepared, struct tally_reason *out_reason)
{
    struct renewal *renewal = &host->renewal;
    struct wasm_client *client = renewal->client;
    struct tally_view_info before, after;
    enum tally_status status = prepared;
    if (status == TALLY_OK) status = renewal_take_in(renewal, out_reason);
    if (status == TALLY_OK) {
        wasm_client_held(host->client, &before);
        wasm_client_confirm(client, before.epoch, before.version, before.fresh_ms);
        wasm_client_held(client, &after);
        bool same = before.epoch == after.epoch && before.version == after.version &&
                    tally_digest_equal(before.digest, after.digest) && after.fresh_ms >= before.fresh_ms;
        if (!same) {
            tally_reason_set(out_reason, "it came to version %llu, the one in use is at %llu",
                             (unsigned long long)after.version, (unsigned long long)before.version);
            status = TALLY_DIGEST_MISMATCH;
        }
    }
    renewal_close(renewal);
    if (status == TALLY_OK)
        publish(host, client);
    else if (client)
        release(host, client);
    return status;
}

static bool wasm_untidy(struct tally_host *host)
{
    pthread_mutex_lock(&host->mutex);
    bool found = host->ended != NULL;
    pthread_mutex_unlock(&host->mutex);
    return found;
}

static void wasm_tidy(struct tally_host *host)
{
    pthread_mutex_lock(&host->mutex);
    struct wasm_client *client = host->ended;
    host->ended = NULL;
    pthread_mutex_unlock(&host->mutex);
    while (client) {
        struct wasm_client *next = client->next;
        wasm_client_destroy(&client);
        client = next;
    }
}

// ---------------------------------------------------------------------------------------------------- host

static void wasm_destroy(struct tally_host **host)
{
    struct tally_host *it = *host;
    if (!it) return;
    wasm_client_destroy(&it->client);
    wasm_tidy(it);
    renewal_deinit(&it->renewal);
    pthread_mutex_destroy(&it->mutex);
    free(it->taken);
    free(it);
    *host = NULL;
}

static enum tally_status wasm_create(const struct tally_host_options *options, struct tally_host **out_host,
                                     struct tally_http_source *out_source, struct tally_reason *out_reason)
{
    struct tally_host *host = calloc(1, sizeof *host);
    bool *taken = host ? calloc(options->readers_max, sizeof *taken) : NULL;
    if (!taken || options->dataset.size > sizeof host->dataset) {
        tally_reason_set(out_reason, taken ? "the dataset's name is too long" : "no memory");
        enum tally_status status = taken ? TALLY_INVALID : TALLY_NO_MEMORY;
        free(taken);
        free(host);
        return status;
    }
    pthread_mutex_init(&host->mutex, NULL);
    renewal_init(&host->renewal);
    host->taken = taken;
    host->options = *options;
    memcpy(host->dataset, options->dataset.data, options->dataset.size);
    host->options.dataset = tally_bytes(host->dataset, options->dataset.size);
    enum tally_status status = wasm_client_create(&host->options, options->readers_max + 1, &host->client, out_reason);
    if (status != TALLY_OK) {
        wasm_destroy(&host);
        return status;
    }
    *out_host = host;
    *out_source = (struct tally_http_source){.ctx = host,
                                             .open_reader = open_reader,
                                             .close_reader = close_reader,
                                             .settle = settle,
                                             .pin = pin,
                                             .unpin = unpin};
    wasm_client_fill(out_source);
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
    .identity = wasm_identity,
    .renew_begin = renew_begin,
    .renew_prepare = renew_prepare,
    .renew_end = renew_end,
    .untidy = wasm_untidy,
    .tidy = wasm_tidy,
};

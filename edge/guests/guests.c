// SPDX-License-Identifier: Apache-2.0
#include "guests_internal.h"

#include <io/log.h>
#include <io/metrics.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void add(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

// ---------------------------------------------------------------------------------------------------- settings

static struct tally_bytes name_of(const char *setting) { return tally_bytes(setting, strcspn(setting, "=")); }

enum tally_status tally_guests_check(const struct tally_strings *settings, struct tally_reason *out_reason)
{
    for (size_t i = 0; i < settings->count; i++) {
        const char *setting = settings->items[i];
        struct tally_bytes name = name_of(setting);
        if (!tally_name_valid(name) || setting[name.size] != '=' || !setting[name.size + 1]) {
            tally_reason_set(out_reason, "--guest %s: expected NAME=FILE, the name of 1 to 64 of a-z 0-9 _ . -",
                             setting);
            return TALLY_INVALID;
        }
        for (size_t k = 0; k < i; k++) {
            if (!tally_bytes_equal(name, name_of(settings->items[k]))) continue;
            tally_reason_set(out_reason, "--guest %s: there is another guest of this name", setting);
            return TALLY_INVALID;
        }
    }
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- deadlines

// Ticks as long as somebody calls, and sleeps while nobody does.
static void *tick(void *argument)
{
    struct tally_guests *guests = argument;
    const struct timespec wait = {.tv_nsec = GUEST_TICK_MS * 1000000};
    while (!atomic_load(&guests->stopping)) {
        if (atomic_load(&guests->calling)) {
            (void)nanosleep(&wait, NULL);
            wasmtime_engine_increment_epoch(guests->engine);
            continue;
        }
        pthread_mutex_lock(&guests->mutex);
        while (!atomic_load(&guests->calling) && !atomic_load(&guests->stopping))
            pthread_cond_wait(&guests->called, &guests->mutex);
        pthread_mutex_unlock(&guests->mutex);
    }
    return NULL;
}

static void wake_ticker(struct tally_guests *guests)
{
    // Under the mutex: the ticker has either not looked yet, or waits already.
    pthread_mutex_lock(&guests->mutex);
    pthread_cond_signal(&guests->called);
    pthread_mutex_unlock(&guests->mutex);
}

static void call_begins(struct tally_guests *guests)
{
    if (atomic_fetch_add(&guests->calling, 1) == 0) wake_ticker(guests);
}

static void call_ends(struct tally_guests *guests) { atomic_fetch_sub(&guests->calling, 1); }

// ---------------------------------------------------------------------------------------------------- load

static struct guest_build *build_of(struct guest *guest)
{
    pthread_mutex_lock(&guest->mutex);
    struct guest_build *build = guest->build;
    atomic_fetch_add_explicit(&build->references, 1, memory_order_relaxed);
    pthread_mutex_unlock(&guest->mutex);
    return build;
}

static enum tally_status load(struct tally_guests *guests, struct guest *guest, struct tally_reason *out_reason)
{
    // Looked at before it is read: a file that is changed meanwhile is read again.
    struct tally_file_identity identity = tally_file_identity(guest->path);
    struct guest_build *build = NULL, *before;
    call_begins(guests); // its start runs under the deadline, too
    enum tally_status status = guest_build_make(guests, guest, &build, out_reason);
    call_ends(guests);
    pthread_mutex_lock(&guest->mutex);
    guest->identity = identity;
    before = status == TALLY_OK ? guest->build : NULL;
    if (status == TALLY_OK) guest->build = build;
    pthread_mutex_unlock(&guest->mutex);
    add(status == TALLY_OK ? &guest->loads : &guest->loads_refused, 1);
    guest_build_release(before);
    if (status == TALLY_OK)
        tally_info("guest_loaded", tally_log_str("guest", guest->name), tally_log_str("file", guest->path));
    return status;
}

static bool changed(struct guest *guest, const struct tally_file_identity *found)
{
    pthread_mutex_lock(&guest->mutex);
    bool other = found->inode && !tally_file_identity_equal(found, &guest->identity);
    pthread_mutex_unlock(&guest->mutex);
    return other;
}

bool tally_guests_changed(struct tally_guests *guests)
{
    bool any = false;
    for (size_t i = 0; i < guests->count; i++) {
        struct guest *guest = &guests->guests[i];
        struct tally_file_identity found = tally_file_identity(guest->path);
        // One that is being written is left alone.
        if (tally_file_identity_equal(&found, &guest->seen) && changed(guest, &found)) any = true;
        guest->seen = found;
    }
    return any;
}

void tally_guests_reload(struct tally_guests *guests, bool all)
{
    for (size_t i = 0; i < guests->count; i++) {
        struct guest *guest = &guests->guests[i];
        struct tally_file_identity found = tally_file_identity(guest->path);
        struct tally_reason reason;
        if (!all && !changed(guest, &found)) continue;
        if (load(guests, guest, &reason) != TALLY_OK)
            tally_warn("guest_refused", tally_log_str("guest", guest->name), tally_log_str("reason", reason.text),
                       tally_log_str("effect", "the module before it goes on"));
    }
}

// ---------------------------------------------------------------------------------------------------- a call

static struct guest *find(struct tally_guests *guests, struct tally_bytes name)
{
    for (size_t i = 0; i < guests->count; i++)
        if (tally_bytes_equal(name, tally_bytes(guests->guests[i].name, strlen(guests->guests[i].name))))
            return &guests->guests[i];
    return NULL;
}

// An instance of the newest build.
static bool seat_ready(struct guest_seat *seat, struct tally_reason *out_reason)
{
    struct guest_build *build = build_of(seat->guest);
    if (seat->build == build) {
        guest_build_release(build);
        return true;
    }
    guest_seat_close(seat);
    return guest_seat_open(seat, build, out_reason) == TALLY_OK;
}

static unsigned fail(struct guest *guest, enum guest_failure failure, const char *why, struct tally_reason *out_reason)
{
    static const char *const words[] = {
        [GUEST_TRAPPED] = "failed", [GUEST_LATE] = "took too long", [GUEST_REFUSED] = "did not start"};
    add(&guest->failures[failure], 1);
    tally_reason_set(out_reason, "guest %s %s: %s", guest->name, words[failure], why);
    tally_warn("guest_failed", tally_log_str("guest", guest->name), tally_log_str("what", words[failure]),
               tally_log_str("reason", why));
    return failure == GUEST_LATE ? 504 : 500;
}

// The guest's own part of a call. 0, or the status that is answered instead.
static unsigned run(struct guest_seat *seat, struct tally_http_reply *reply, struct tally_reason *out_reason)
{
    struct tally_reason why;
    wasmtime_val_raw_t result = {0};
    wasm_trap_t *trap = NULL;
    if (!seat_ready(seat, &why)) return fail(seat->guest, GUEST_REFUSED, why.text, out_reason);
    guest_deadline(seat);
    wasmtime_error_t *error = wasmtime_func_call_unchecked(seat->context, &seat->handle, &result, 1, &trap);
    if (error || trap) {
        bool late = guest_explain(error, trap, &why);
        guest_seat_close(seat); // what it holds now may be half of something
        if (late) tally_reason_set(&why, "more than %u ms", seat->guests->options.deadline_ms);
        return fail(seat->guest, late ? GUEST_LATE : GUEST_TRAPPED, why.text, out_reason);
    }
    // 1xx, 204 and 304 have no body.
    bool fits = result.i32 >= 200 && result.i32 <= 599 && result.i32 != 204 && result.i32 != 304;
    if (!fits) return fail(seat->guest, GUEST_TRAPPED, "handle gave no HTTP status that has a body", out_reason);
    reply->status = (unsigned)result.i32;
    return 0;
}

unsigned tally_guests_call(struct tally_guests *guests, unsigned thread, void *reader,
                           const struct tally_http_call *call, struct tally_http_reply *reply,
                           struct tally_reason *out_reason)
{
    const struct tally_http_source *source = guests->options.source;
    struct guest *guest = find(guests, call->name);
    if (!guest) {
        tally_reason_set(out_reason, "no guest of this name");
        return 404;
    }
    struct guest_seat *seat = &guests->seats[thread * guests->count + (size_t)(guest - guests->guests)];
    enum tally_status pinned = source->pin(reader, &seat->view);
    if (pinned != TALLY_OK) {
        tally_reason_set(out_reason, "%s", pinned == TALLY_BUSY ? "nothing is held yet" : tally_status_str(pinned));
        return 503;
    }
    uint64_t start_ns = now_ns();
    source->info(reader, &seat->view, &seat->info);
    seat->reader = reader;
    seat->reply = reply;
    seat->lines = 0;
    seat->reads = seat->adds = 0;
    seat->counter = guests->options.counters ? guests->options.counters[thread] : NULL;
    seat->call = call;
    reply->info = seat->info;
    call_begins(guests);
    unsigned status = run(seat, reply, out_reason);
    call_ends(guests);
    seat->call = NULL;
    source->unpin(reader, &seat->view);
    add(&guest->calls, 1);
    add(&guest->reads, seat->reads);
    add(&guest->adds, seat->adds);
    add(&guest->nanoseconds, now_ns() - start_ns);
    return status;
}

// ---------------------------------------------------------------------------------------------------- metrics

static void metric(struct tally_guests *guests, struct tally_writer *out, const char *name, const char *help,
                   size_t offset)
{
    tally_metric_head(out, name, TALLY_METRIC_COUNTER, help);
    for (size_t i = 0; i < guests->count; i++) {
        const char *guest = (const char *)&guests->guests[i];
        const _Atomic uint64_t *counter = (const void *)(guest + offset);
        tally_metric_sample(out, name, "guest", guests->guests[i].name,
                            atomic_load_explicit(counter, memory_order_relaxed));
    }
}

void tally_guests_metrics(struct tally_guests *guests, struct tally_writer *out)
{
    metric(guests, out, "tally_guest_calls_total", "Calls of a guest, failed ones included.",
           offsetof(struct guest, calls));
    metric(guests, out, "tally_guest_reads_total", "Keys that a guest read.", offsetof(struct guest, reads));
    metric(guests, out, "tally_guest_adds_total", "Additions of a guest that were merged.",
           offsetof(struct guest, adds));
    metric(guests, out, "tally_guest_trapped_total", "Calls that ended in a trap.",
           offsetof(struct guest, failures[GUEST_TRAPPED]));
    metric(guests, out, "tally_guest_late_total", "Calls that were ended by their deadline.",
           offsetof(struct guest, failures[GUEST_LATE]));
    metric(guests, out, "tally_guest_loads_total", "Times that a guest's file was taken.",
           offsetof(struct guest, loads));
    metric(guests, out, "tally_guest_loads_refused_total", "Times that a guest's file was refused.",
           offsetof(struct guest, loads_refused));
    tally_metric_head(out, "tally_guest_seconds_total", TALLY_METRIC_COUNTER, "Time spent in calls.");
    for (size_t i = 0; i < guests->count; i++)
        tally_metric_sample_seconds(out, "tally_guest_seconds_total", "guest", guests->guests[i].name,
                                    atomic_load_explicit(&guests->guests[i].nanoseconds, memory_order_relaxed));
}

// ---------------------------------------------------------------------------------------------------- all of them

void tally_guests_destroy(struct tally_guests **guests)
{
    struct tally_guests *it = *guests;
    if (!it) return;
    if (it->ticking) {
        atomic_store(&it->stopping, true);
        wake_ticker(it);
        (void)pthread_join(it->ticker, NULL);
    }
    for (size_t i = 0; it->seats && i < it->count * it->options.threads; i++) {
        guest_seat_close(&it->seats[i]);
        free(it->seats[i].keys);
        free(it->seats[i].values);
        free(it->seats[i].found);
    }
    for (size_t i = 0; it->guests && i < it->count; i++) {
        guest_build_release(it->guests[i].build);
        pthread_mutex_destroy(&it->guests[i].mutex);
    }
    if (it->linker) wasmtime_linker_delete(it->linker);
    if (it->engine) wasm_engine_delete(it->engine);
    pthread_cond_destroy(&it->called);
    pthread_mutex_destroy(&it->mutex);
    free(it->seats);
    free(it->guests);
    free(it);
    *guests = NULL;
}

static bool allocate(struct tally_guests *guests)
{
    const struct tally_strings *settings = &guests->options.settings;
    guests->guests = calloc(settings->count, sizeof *guests->guests);
    guests->seats = calloc(settings->count * guests->options.threads, sizeof *guests->seats);
    if (!guests->guests || !guests->seats) return false;
    guests->count = settings->count;
    for (size_t i = 0; i < guests->count; i++) {
        struct tally_bytes name = name_of(settings->items[i]);
        pthread_mutex_init(&guests->guests[i].mutex, NULL);
        memcpy(guests->guests[i].name, name.data, name.size);
        guests->guests[i].path = settings->items[i] + name.size + 1;
    }
    for (size_t i = 0; i < guests->count * guests->options.threads; i++) {
        struct guest_seat *seat = &guests->seats[i];
        seat->guests = guests;
        seat->guest = &guests->guests[i % guests->count];
        seat->keys = calloc(TALLY_QUERY_KEYS_MAX, sizeof *seat->keys);
        seat->values = calloc(TALLY_QUERY_KEYS_MAX, sizeof *seat->values);
        seat->found = calloc(TALLY_QUERY_KEYS_MAX, sizeof *seat->found);
        if (!seat->keys || !seat->values || !seat->found) return false;
    }
    return true;
}

enum tally_status tally_guests_create(const struct tally_guests_options *options, struct tally_guests **out_guests,
                                      struct tally_reason *out_reason)
{
    struct tally_guests *guests = calloc(1, sizeof *guests);
    tally_reason_set(out_reason, "no memory for guests");
    if (!guests) return TALLY_NO_MEMORY;
    guests->options = *options;
    pthread_mutex_init(&guests->mutex, NULL);
    pthread_cond_init(&guests->called, NULL);
    enum tally_status status = allocate(guests) ? guest_engine_open(guests, out_reason) : TALLY_NO_MEMORY;
    if (status == TALLY_OK) {
        guests->ticking = pthread_create(&guests->ticker, NULL, tick, guests) == 0;
        if (!guests->ticking) status = TALLY_NO_MEMORY;
    }
    for (size_t i = 0; status == TALLY_OK && i < guests->count; i++)
        status = load(guests, &guests->guests[i], out_reason);
    if (status != TALLY_OK)
        tally_guests_destroy(&guests);
    else
        *out_guests = guests;
    return status;
}

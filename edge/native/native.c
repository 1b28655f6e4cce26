// SPDX-License-Identifier: Apache-2.0
//
// The client core as a library of this process.
#include <edge/host/host.h>
#include <io/reads_native.h>
#include <stdlib.h>
#include <tallycast/memory.h>

struct tally_host {
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reads_native *reads;
    struct tally_reader reader; // the applier's own, for `held`
};

// What reads_native.h fills in: the same functions for every host, so it does not matter which one wrote it last.
static struct tally_http_source reads;

// An edge that holds nothing has nothing to say, not even that a key is absent.
static enum tally_status native_pin(void *reader, struct tally_http_view *out_view)
{
    struct tally_view_info info;
    enum tally_status status = reads.pin(reader, out_view);
    if (status != TALLY_OK) return status;
    reads.info(reader, out_view, &info);
    if (info.epoch) return TALLY_OK;
    reads.unpin(reader, out_view);
    return TALLY_BUSY;
}

static void native_destroy(struct tally_host **host)
{
    struct tally_host *it = *host;
    if (!it) return;
    if (it->reader.mirror) tally_reader_close(&it->reader);
    tally_reads_native_destroy(&it->reads);
    tally_memory_unmap(&it->memory);
    free(it);
    *host = NULL;
}

static enum tally_status native_create(const struct tally_host_options *options, struct tally_host **out_host,
                                       struct tally_http_source *out_source, struct tally_reason *out_reason)
{
    struct tally_host *host = calloc(1, sizeof *host);
    enum tally_status status = host ? TALLY_OK : TALLY_NO_MEMORY;
    if (status == TALLY_OK) status = tally_memory_map(options->memory_bytes_max, TALLY_MEMORY_HUGE, &host->memory);
    if (status == TALLY_OK) {
        struct tally_mirror_options mirror = {.dataset = options->dataset};
        status = tally_mirror_init(&host->memory, &mirror, &host->mirror);
    }
    if (status == TALLY_OK) status = tally_reader_open(host->mirror, &host->reader);
    if (status == TALLY_OK) status = tally_reads_native_create(host->mirror, NULL, &host->reads, out_source);
    if (status != TALLY_OK) {
        tally_reason_set(out_reason, "the native client does not start with %llu bytes of memory: %s",
                         (unsigned long long)options->memory_bytes_max, tally_status_str(status));
        native_destroy(&host);
        return status;
    }
    reads = *out_source;
    out_source->pin = native_pin;
    *out_host = host;
    return TALLY_OK;
}

static enum tally_status native_apply(struct tally_host *host, struct tally_bytes frame)
{
    return tally_mirror_apply(host->mirror, &host->memory, frame);
}

static void native_abandon(struct tally_host *host) { tally_mirror_abandon(host->mirror, &host->memory); }

static void native_confirm(struct tally_host *host, uint64_t epoch, uint64_t version, uint64_t now_ms)
{
    tally_mirror_confirm(host->mirror, epoch, version, now_ms);
}

static void native_held(struct tally_host *host, struct tally_view_info *out_info)
{
    struct tally_view view;
    tally_view_pin(&host->reader, &view);
    tally_view_info(&view, out_info);
    tally_view_unpin(&view);
}

static void native_stats(struct tally_host *host, struct tally_mirror_stats *out_stats)
{
    tally_mirror_stats(host->mirror, out_stats);
}

static bool native_sound(const struct tally_host *host)
{
    (void)host;
    return true;
}

const struct tally_host_ops tally_host_native = {
    .name = "native",
    .create = native_create,
    .destroy = native_destroy,
    .apply = native_apply,
    .abandon = native_abandon,
    .confirm = native_confirm,
    .held = native_held,
    .stats = native_stats,
    .sound = native_sound,
};

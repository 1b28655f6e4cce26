// SPDX-License-Identifier: Apache-2.0
#include "snapshot.h"

#include <inttypes.h>
#include <messages/messages.h>
#include <string.h>
#include <tallycast/framefile.h>

#include "http.h"

struct fetching {
    cli_frame_sink *sink;
    void *ctx;
    struct tally_writer held; // the magic, then the front of what arrived and is no whole entry yet
    bool begun, stopped, last_seen;
    uint64_t frames;
    const char *base;
};

// Takes the whole entries out of what is held.
static bool take_entries(struct fetching *f)
{
    struct tally_framefile file;
    if (f->held.size < TALLY_FRAMEFILE_MAGIC_BYTES) return true;
    if (tally_framefile_open(tally_writer_bytes(&f->held), &file) != TALLY_OK) {
        cli_complain("what %s sends is no frame file", f->base);
        return false;
    }
    struct tally_bytes frame;
    enum tally_status status;
    while ((status = tally_framefile_next(&file, &frame)) == TALLY_OK) {
        struct tally_frame_reader reader;
        enum tally_status opened = tally_frame_open(frame, &reader);
        if (opened != TALLY_OK) {
            cli_complain("frame %" PRIu64 " of %s: %s", f->frames, f->base, tally_status_str(opened));
            return false;
        }
        f->last_seen = !reader.header.more;
        f->frames++;
        if (!f->sink(f->ctx, frame)) return false;
    }
    if (status == TALLY_LIMIT) {
        cli_complain("frame %" PRIu64 " of %s: %s", f->frames, f->base, tally_status_str(status));
        return false;
    }
    // What is left begins a file of its own, behind the magic.
    size_t left = f->held.size - file.at;
    memmove(f->held.data + TALLY_FRAMEFILE_MAGIC_BYTES, f->held.data + file.at, left);
    f->held.size = TALLY_FRAMEFILE_MAGIC_BYTES + left;
    return true;
}

static bool on_bytes(void *argument, struct tally_bytes bytes)
{
    struct fetching *f = argument;
    tally_write_raw(&f->held, bytes.data, bytes.size);
    if (f->held.failed) cli_complain("out of memory");
    f->stopped = f->held.failed || !take_entries(f);
    return !f->stopped;
}

// A server that has counted nothing yet has no whole state to send: no fault. An edge without one has not heard of it.
static bool is_empty_server(const char *base)
{
    json_t *json = NULL;
    bool empty = cli_http_json(base, "/v1/version", tally_bytes(NULL, 0), &json) == CLI_DONE &&
                 json_integer_value(json_object_get(json, "version")) == 0 &&
                 json_is_string(json_object_get(json, "state")) &&
                 strcmp(json_string_value(json_object_get(json, "state")), "live") == 0;
    json_decref(json);
    return empty;
}

int cli_snapshot_fetch(const char *base, cli_frame_sink *sink, void *ctx)
{
    struct fetching f = {.sink = sink, .ctx = ctx, .held = tally_writer_growable(&tally_alloc_libc), .base = base};
    struct cli_http_request request = {
        .base = base, .path = "/v1/snapshot", .body_bytes_max = 64u << 10, .sink = on_bytes, .ctx = &f};
    cli_http_run(&request, 1);
    int code = CLI_DONE;
    if (f.stopped) {
        code = CLI_REFUSED;
    } else if (request.failed) {
        cli_complain("cannot fetch from %s: %s", base, request.error);
        code = CLI_UNREACHABLE;
    } else if (request.status == 503 && is_empty_server(base)) {
        code = CLI_DONE;
    } else if (request.status != 200) {
        cli_complain("%s refused: %.*s (HTTP status %d)", base, (int)request.answer.size,
                     request.answer.size ? (const char *)request.answer.data : "", request.status);
        code = request.status == 503 ? CLI_UNREACHABLE : CLI_REFUSED;
    } else if (f.held.size > TALLY_FRAMEFILE_MAGIC_BYTES || f.held.size < TALLY_FRAMEFILE_MAGIC_BYTES ||
               (f.frames && !f.last_seen)) {
        cli_complain("what %s sent ends too early", base);
        code = CLI_REFUSED;
    }
    tally_writer_free(&f.held);
    cli_http_free(&request);
    return code;
}

// ---------------------------------------------------------------------------------------------------- meta

void cli_meta_write(FILE *out, const struct cli_meta *meta)
{
    char digest[TALLY_DIGEST_HEX_BYTES];
    tally_digest_format(meta->digest, digest);
    fprintf(out,
            "# tallycast dump dataset=%s epoch=%016" PRIx64 " version=%" PRIu64 " digest=%s seed=%016" PRIx64
            "%016" PRIx64 " keys=%" PRIu64 "\n",
            meta->dataset, meta->epoch, meta->version, digest, meta->seed.k1, meta->seed.k0, meta->keys);
}

bool cli_meta_parse(const char *line, struct cli_meta *out_meta)
{
    struct cli_meta meta = {0};
    char digest[TALLY_DIGEST_HEX_BYTES];
    int end = -1;
    if (sscanf(line,
               "# tallycast dump dataset=%64[a-z0-9_.-] epoch=%16" SCNx64 " version=%20" SCNu64
               " digest=%32[0-9a-f] seed=%16" SCNx64 "%16" SCNx64 " keys=%20" SCNu64 "%n",
               meta.dataset, &meta.epoch, &meta.version, digest, &meta.seed.k1, &meta.seed.k0, &meta.keys, &end) != 7)
        return false;
    if (end < 0 || line[end] != 0 || !tally_digest_parse(digest, &meta.digest)) return false;
    *out_meta = meta;
    return true;
}

// SPDX-License-Identifier: Apache-2.0
//
// tallycast dump: a version fetched, verified by a mirror of our own, and written as lines.
#include <inttypes.h>
#include <io/json.h>
#include <messages/messages.h>
#include <string.h>
#include <tallycast/memory.h>
#include <tallycast/mirror.h>

#include "cli.h"
#include "http.h"
#include "snapshot.h"

struct dumping {
    const char *at, *only_table;
    bool as_json, meta;
    struct tally_memory memory;
    struct tally_mirror *mirror;
    bool complete;
};

static bool on_frame(void *ctx, struct tally_bytes frame)
{
    struct dumping *d = ctx;
    enum tally_status status = TALLY_OK;
    if (!d->mirror) {
        // The first frame names the dataset that the mirror is of.
        struct tally_frame_reader reader;
        status = tally_frame_open(frame, &reader);
        struct tally_mirror_options options = {.dataset = reader.header.dataset};
        if (status == TALLY_OK) status = tally_mirror_init(&d->memory, &options, &d->mirror);
    }
    if (status == TALLY_OK) status = tally_mirror_apply(d->mirror, &d->memory, frame);
    d->complete = status == TALLY_OK;
    if (status == TALLY_OK || status == TALLY_MORE) return true;
    cli_complain("what %s sent does not hold: %s", d->at, tally_status_str(status));
    return false;
}

static void print_row(const struct dumping *d, struct tally_bytes table, const struct tally_row *row,
                      struct tally_writer *writer)
{
    if (!d->as_json) {
        fwrite(table.data, 1, table.size, stdout);
        putchar('\t');
        cli_write_escaped(stdout, row->key);
        printf("\t%" PRId64 "\n", row->value);
        return;
    }
    writer->size = 0;
    struct tally_json json = tally_json(writer);
    tally_json_object_begin(&json, NULL);
    tally_json_bytes(&json, "table", table);
    tally_json_bytes(&json, "key", row->key);
    if (!tally_utf8_valid(row->key)) tally_json_base64(&json, "key_base64", row->key);
    tally_json_i64(&json, "value", row->value);
    tally_json_object_end(&json);
    tally_write_raw(writer, "\n", 1);
    fwrite(writer->data, 1, writer->size, stdout);
}

static void print_meta(const struct dumping *d, const struct tally_view_info *info, struct tally_bytes dataset)
{
    struct cli_meta meta = {
        .epoch = info->epoch, .version = info->version, .keys = info->rows, .digest = info->digest, .seed = info->seed};
    memcpy(meta.dataset, dataset.data, dataset.size < 64 ? dataset.size : 64);
    if (!d->as_json) {
        cli_meta_write(stdout, &meta);
        return;
    }
    char digest[TALLY_DIGEST_HEX_BYTES];
    tally_digest_format(meta.digest, digest);
    printf("{\"dataset\":\"%s\",\"epoch\":\"%016" PRIx64 "\",\"version\":%" PRIu64
           ",\"digest\":\"%s\",\"seed\":\"%016" PRIx64 "%016" PRIx64 "\",\"keys\":%" PRIu64 "}\n",
           meta.dataset, meta.epoch, meta.version, digest, meta.seed.k1, meta.seed.k0, meta.keys);
}

static bool has_table(const struct tally_view *view, const char *name)
{
    struct tally_table_info table;
    for (uint32_t i = 0; tally_view_table_info(view, i, &table) == TALLY_OK; i++)
        if (tally_bytes_equal(table.name, tally_bytes(name, strlen(name)))) return true;
    return false;
}

static int print_rows(struct dumping *d, struct tally_bytes dataset)
{
    struct tally_reader reader;
    if (tally_reader_open(d->mirror, &reader) != TALLY_OK) return CLI_REFUSED;
    struct tally_view view;
    tally_view_pin(&reader, &view);
    struct tally_view_info info;
    tally_view_info(&view, &info);
    if (d->meta) print_meta(d, &info, dataset);
    struct tally_writer writer = tally_writer_growable(&tally_alloc_libc);
    struct tally_cursor cursor = {0};
    struct tally_row row;
    struct tally_table_info table = {0};
    uint32_t table_number = UINT32_MAX;
    bool wanted = false, found = !d->only_table || has_table(&view, d->only_table);
    while (!ferror(stdout) && tally_view_next(&view, &cursor, &row)) {
        if (row.table != table_number) {
            table_number = row.table;
            if (tally_view_table_info(&view, table_number, &table) != TALLY_OK) break;
            wanted = !d->only_table || tally_bytes_equal(table.name, tally_bytes(d->only_table, strlen(d->only_table)));
        }
        if (wanted) print_row(d, table.name, &row, &writer);
    }
    tally_writer_free(&writer);
    tally_view_unpin(&view);
    tally_reader_close(&reader);
    if (!cli_flush()) return CLI_WRONG_USE;
    if (!found) cli_complain("version %" PRIu64 " at %s has no table \"%s\"", info.version, d->at, d->only_table);
    return found ? CLI_DONE : CLI_NO;
}

struct keeping {
    struct dumping *dumping;
    uint8_t name[TALLY_NAME_BYTES_MAX];
    size_t name_size;
};

static bool keep_name(void *ctx, struct tally_bytes frame)
{
    struct keeping *k = ctx;
    struct tally_frame_reader reader;
    if (k->name_size == 0 && tally_frame_open(frame, &reader) == TALLY_OK) {
        k->name_size = reader.header.dataset.size;
        memcpy(k->name, reader.header.dataset.data, k->name_size);
    }
    return on_frame(k->dumping, frame);
}

static int run(int argc, char **argv)
{
    struct dumping d = {.at = "http://127.0.0.1:8090"};
    const struct cli_option options[] = {
        {"at", "URL", "HTTP of a server or an edge (http://127.0.0.1:8090)", CLI_TEXT, &d.at, 0, 0},
        {"table", "NAME", "only this table; not with --meta", CLI_TEXT, &d.only_table, 0, 0},
        {"meta", NULL, "first a line that says what was dumped; verify reads it", CLI_FLAG, &d.meta, 0, 0},
        {"json", NULL, "a line of JSON a row", CLI_FLAG, &d.as_json, 0, 0},
    };
    if (cli_parse(&cli_dump, options, sizeof options / sizeof *options, argc, argv) != 0) {
        cli_complain("unexpected argument \"%s\"", argv[1]);
        return CLI_WRONG_USE;
    }
    if (d.only_table && d.meta) {
        cli_complain("--meta tells the digest of all tables: it does not go with --table");
        return CLI_WRONG_USE;
    }
    if (!cli_http_check_url(d.at)) return CLI_WRONG_USE;
    // Address space, not memory: as much as a mirror of the largest dataset could ask for.
    if (tally_memory_map((size_t)1 << 38, 0, &d.memory) != TALLY_OK &&
        tally_memory_map((size_t)1 << 32, 0, &d.memory) != TALLY_OK) {
        cli_complain("no address space for a mirror");
        return CLI_REFUSED;
    }
    cli_catch_signals();
    struct keeping keeping = {.dumping = &d};
    int code = cli_snapshot_fetch(d.at, keep_name, &keeping);
    if (code == CLI_DONE && d.complete) {
        code = print_rows(&d, tally_bytes(keeping.name, keeping.name_size));
    } else if (code == CLI_DONE && (d.meta || d.only_table)) {
        cli_complain("%s holds version 0: nothing was counted yet", d.at);
        code = CLI_NO;
    }
    tally_memory_unmap(&d.memory);
    return code;
}

const struct cli_command cli_dump = {
    .name = "dump",
    .arguments = "[--at URL] [--table NAME] [--meta] [--json]",
    .purpose = "Write every row of one version as table<TAB>key<TAB>value lines.",
    .details = "The rows come from one version, and its digest was verified before the first line. Tab,\n"
               "newline, carriage return and backslash in a key are written \\t \\n \\r \\\\; `tallycast\n"
               "count --escaped` reads such lines. The order is the server's; sort if you need one. A dump\n"
               "with --meta can be checked by `tallycast verify`. The meta line holds the dataset's seed,\n"
               "which is a secret towards those who choose keys.\n"
               "\n"
               "Exit codes: 0 done, 1 nothing to dump (with --meta) or no such table, 2 wrong use, 3 cannot\n"
               "reach, 4 refused, or it did not verify.\n"
               "\n"
               "Example:\n"
               "  tallycast dump --at http://127.0.0.1:8091 --meta > main.dump\n",
    .run = run,
};

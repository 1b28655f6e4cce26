// SPDX-License-Identifier: Apache-2.0
//
// The server's state, driven by lines with times of their own, and a mirror that takes its frames: for reference.py. Each line of standard input:
//
//   define TABLE KIND [OPTION ...]     as the setting `table` has it; holds from the next record on
//   MS TABLE KEY AMOUNT                counted at that time; entries of one time are one record
//   restart                            the state is written as a snapshot and loaded again
//   show MS TABLE                      after a record of that time: the rows that the mirror has, one `KEY<TAB>VALUE` a line, then an empty line
//
// Fields of entries are separated by tabs. Ends with 1, and says why, when anything is refused.
#include <inttypes.h>
#include <messages/messages.h>
#include <server/src/snapshot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tallycast/batch.h>
#include <tallycast/memory.h>

static struct tally_state state;
static struct tally_memory memory;
static struct tally_mirror *mirror;
static struct tally_reader reader;
static struct tally_writer record, request, out;
static struct tally_batch_writer batch;
static uint64_t sequence, now_ms;
static size_t entries;
static char table_now[TALLY_NAME_BYTES_MAX + 1];

static const struct tally_state_options options = {
    .dataset = {(const uint8_t *)"main", 4}, .epoch = 1, .seed = {.k0 = 1, .k1 = 2}};

static void must(enum tally_status status, const char *what)
{
    if (!status) return;
    (void)fprintf(stderr, "drive_state: %s: %s\n", what, tally_status_str(status));
    exit(1);
}

static struct tally_bytes text(const char *words) { return tally_bytes(words, strlen(words)); }

static void batch_end(void)
{
    struct tally_bytes message;
    if (!entries) return;
    tally_batch_table_end(&batch);
    must(tally_batch_finish(&batch), "batch");
    must(tally_request_batch(tally_writer_bytes(&request), &message), "batch");
    tally_record_batch(&record, message);
    entries = 0;
    table_now[0] = 0;
}

// The record of `now_ms` is complete.
static void cut(void)
{
    struct tally_applied applied;
    struct tally_bytes bytes;
    batch_end();
    const struct tally_record_header header = {.version = state.version + 1, .time_ms = now_ms};
    must(tally_record_finish(&record, &header, &bytes), "record");
    out.size = 0;
    must(tally_state_apply(&state, bytes, &out, &applied), "state");
    for (size_t i = 0; i < applied.verdicts_count; i++) must(applied.verdicts[i].status, "batch");
    must(tally_mirror_apply(mirror, &memory, tally_writer_bytes(&out)), "mirror");
    tally_record_begin(&record);
}

static void at(uint64_t time_ms)
{
    if (time_ms != now_ms && (entries || now_ms)) cut();
    now_ms = time_ms;
}

static void define(const char *words)
{
    struct tally_definition definition;
    struct tally_bytes table, word;
    const char *why = "";
    bool defined;
    enum tally_status status = tally_definition_parse(words, &table, &definition, &defined, &word, &why);
    must(status, why);
    tally_record_definition(&record, table, &definition);
}

static void count(char *line)
{
    char *fields[4] = {line};
    for (int i = 1; i < 4; i++) {
        fields[i] = strchr(fields[i - 1], '\t');
        if (!fields[i]) must(TALLY_INVALID, line);
        *fields[i]++ = 0;
    }
    at(strtoull(fields[0], NULL, 10));
    if (entries > 10000) batch_end();
    if (!entries) {
        const struct tally_batch_header header = {.dataset = options.dataset, .producer = 1, .sequence = ++sequence};
        request.size = 0;
        tally_batch_begin(&batch, &header);
    }
    if (strcmp(table_now, fields[1]) != 0) {
        if (entries) tally_batch_table_end(&batch);
        (void)snprintf(table_now, sizeof table_now, "%s", fields[1]);
        tally_batch_table_begin(&batch, text(table_now));
    }
    tally_batch_add(&batch, text(fields[2]), strtoll(fields[3], NULL, 10));
    entries++;
}

static void restart(void)
{
    static uint8_t scratch[TALLY_CHUNK_BYTES_MAX], chunk[TALLY_CHUNK_BYTES_MAX];
    struct tally_snapshot_writer writer;
    struct tally_writer file = tally_writer_growable(&tally_alloc_libc);
    if (now_ms) cut();
    must(tally_snapshot_begin(&writer, &reader, &state, 1, &file), "snapshot");
    while (!writer.done) must(tally_snapshot_next(&writer, scratch, chunk, &file), "snapshot");
    tally_snapshot_end(&writer);
    tally_state_deinit(&state);
    must(tally_state_init(&state, &options, &tally_alloc_libc), "state");
    must(tally_snapshot_load(tally_writer_bytes(&file), &state), "snapshot");
    tally_writer_free(&file);
}

static void show(char *words)
{
    struct tally_view view;
    struct tally_cursor cursor = {0};
    struct tally_row row;
    uint32_t table;
    char *name = strchr(words, ' ');
    if (!name) must(TALLY_INVALID, words);
    *name++ = 0;
    at(strtoull(words, NULL, 10));
    cut();
    tally_view_pin(&reader, &view);
    if (tally_view_table(&view, text(name), &table) == TALLY_OK) {
        while (tally_view_next(&view, &cursor, &row)) {
            if (row.table == table)
                (void)printf("%.*s\t%" PRId64 "\n", (int)row.key.size, (const char *)row.key.data, row.value);
        }
    }
    tally_view_unpin(&view);
    (void)puts("");
}

int main(void)
{
    char line[4096];
    const struct tally_mirror_options held = {.dataset = options.dataset};
    record = request = out = batch.body = batch.entries = batch.amounts = tally_writer_growable(&tally_alloc_libc);
    batch.out = &request;
    must(tally_state_init(&state, &options, &tally_alloc_libc), "state");
    must(tally_memory_map((size_t)1 << 30, 0, &memory), "memory");
    must(tally_mirror_init(&memory, &held, &mirror), "mirror");
    must(tally_reader_open(mirror, &reader), "reader");
    tally_record_begin(&record);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "define ", 7))
            define(line + 7);
        else if (!strncmp(line, "show ", 5))
            show(line + 5);
        else if (!strcmp(line, "restart"))
            restart();
        else
            count(line);
    }
    tally_state_deinit(&state);
    return 0;
}

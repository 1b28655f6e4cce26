// SPDX-License-Identifier: Apache-2.0
#include "daemon.h"

#include <io/log.h>
#include <stdio.h>
#include <sys/random.h>

#include "alloc_huge.h"

static bool refuse(struct daemon *daemon, const char *setting, const char *value, enum tally_status status,
                   const char *text)
{
    struct tally_reason reason;
    tally_reason_set(&reason, "--%s %s: %s", setting, value, text[0] ? text : tally_status_str(status));
    return daemon_refuse(daemon, EXIT_REFUSED, status, reason.text);
}

static bool files_open(struct daemon *daemon)
{
    const char *data = daemon->options->data;
    char text[TALLY_REASON_BYTES] = "", log_dir[4096];
    struct tally_record_log *log;
    enum tally_status status = tally_data_dir_open(data, &daemon->data_dir, text, sizeof text);
    if (status) return refuse(daemon, "data", data, status, text);
    daemon->data_dir_open = true;
    int size = snprintf(log_dir, sizeof log_dir, "%s/log", data);
    if (size < 0 || (size_t)size >= sizeof log_dir)
        return refuse(daemon, "data", data, TALLY_LIMIT, "the path is too long");
    const struct tally_log_lmdb_options options = {.dir = log_dir, .not_synchronous = daemon->options->durable == 1};
    if ((status = tally_log_lmdb_open(&options, &tally_alloc_libc, &log, text, sizeof text)))
        return refuse(daemon, "data", data, status, text);
    timed_log_init(&daemon->log, log);
    status = tally_snapshot_files_open(data, &tally_alloc_libc, &daemon->snapshots, text, sizeof text);
    return status == TALLY_OK || refuse(daemon, "data", data, status, text);
}

// What --table says: names that may begin, and definitions. options_check took each.
static void tables_take(struct daemon *daemon)
{
    for (size_t i = 0; i < daemon->options->table.count; i++) {
        struct tally_named_definition *named = &daemon->definitions[daemon->definitions_count];
        struct tally_bytes word;
        const char *why;
        bool defined;
        if (tally_definition_parse(daemon->options->table.items[i], &named->table, &named->definition, &defined, &word,
                                   &why))
            continue;
        memcpy(daemon->tables.names[daemon->tables.count], named->table.data, named->table.size);
        daemon->tables.sizes[daemon->tables.count++] = (uint8_t)named->table.size;
        daemon->definitions_count += defined;
    }
}

bool storage_open(struct daemon *daemon, const struct tally_server_ops *ops)
{
    const struct options *options = daemon->options;
    struct {
        uint64_t epoch;
        struct tally_seed seed;
    } random;
    char value[32];
    if (!files_open(daemon)) return false;
    (void)snprintf(value, sizeof value, "%llu", (unsigned long long)options->memory_max);
    enum tally_status status = tally_memory_map(options->memory_max, TALLY_MEMORY_HUGE, &daemon->memory);
    if (status) return refuse(daemon, "memory-max", value, status, "this much address space is not to be had");
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return refuse(daemon, "data", options->data, TALLY_IO, "the system gives no random numbers");
    uint64_t now_ms = daemon_now_ms();
    tables_take(daemon);
    const struct tally_server_options core = {
        .dataset = tally_bytes(options->dataset, strlen(options->dataset)),
        .epoch_new = now_ms << 20 | (random.epoch & 0xfffff),
        .seed_new = random.seed,
        .doubt = daemon->data_dir.moved
                     ? "the data directory was copied or put back: later versions may have been served"
                     : NULL,
        .tables_closed = options->tables == 1,
        .tables_allowed = &daemon->tables,
        .definitions = daemon->definitions,
        .definitions_count = daemon->definitions_count,
        .heartbeat_ms = options->heartbeat_ms,
        .retention_versions = (uint32_t)options->retention_versions,
        .retention_bytes = options->retention_bytes,
        .snapshot_every = options->snapshot_every,
    };
    status = tally_server_create(&core, &daemon->log.log, daemon->snapshots, &daemon->memory, ops, daemon, &alloc_huge,
                                 &daemon->server);
    if (status) return refuse(daemon, "memory-max", value, status, "");
    status = tally_server_recover(daemon->server, now_ms);
    if (status == TALLY_OK) {
        if (tally_data_dir_settle(&daemon->data_dir))
            tally_warn("data_dir",
                       tally_log_str("reason", "lock cannot be written: the next start begins a new epoch"));
        return true;
    }
    if (status == TALLY_NO_MEMORY) return refuse(daemon, "memory-max", value, status, "");
    const char *text = "";
    if (status == TALLY_WRONG_DATASET) text = "it holds another dataset than --dataset says";
    if (status == TALLY_INVALID) text = "what it holds does not fit a --table, which the log names";
    return refuse(daemon, "data", options->data, status, text);
}

void storage_close(struct daemon *daemon)
{
    tally_server_destroy(&daemon->server);
    if (daemon->snapshots) daemon->snapshots->ops->close(daemon->snapshots);
    if (daemon->log.inner) daemon->log.log.ops->close(&daemon->log.log);
    tally_memory_unmap(&daemon->memory);
    if (daemon->data_dir_open) tally_data_dir_close(&daemon->data_dir);
}

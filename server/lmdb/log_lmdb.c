// SPDX-License-Identifier: Apache-2.0
#include "log_lmdb.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <tallycast/wire.h>
#include <unistd.h>

#include "../store/errors.h"
#include "meta_check.h"

#define PATH_BYTES      4096u
#define MAP_BYTES_FIRST (1u << 30)
#define TRIM_RECORDS    256u
#define WRITE_BYTES     (1u << 20) // what a transaction writes beside its record, at most
#define AHEAD_BYTES     (8u << 20) // space is taken in such steps
#define MARGIN_BYTES    (TALLY_RECORD_BYTES_MAX + (1u << 20))
#define FORMAT          1u

static char key_identity[] = "identity", key_unclean[] = "unclean";

struct log {
    struct tally_record_log log;
    const struct tally_alloc *alloc;
    char path[PATH_BYTES]; // of the data file
    MDB_env *env;
    MDB_dbi records, meta;
    MDB_txn *reading; // reset between reads
    uint64_t first, last;
    uint64_t map_bytes;
    uint32_t page_bytes, trim_records;
    bool not_synchronous;
    bool settled; // something was appended since it was opened or reset
    bool unclean; // the end may be missing, and no record was appended since
    bool dead;    // an assertion of LMDB failed: it must not be touched again
    jmp_buf escape;
};

static struct log *log_of(struct tally_record_log *log) { return (struct log *)(void *)log; }

static enum tally_status status_of(int code)
{
    switch (code) {
    case MDB_SUCCESS: return TALLY_OK;
    case MDB_NOTFOUND: return TALLY_NOT_FOUND;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_PANIC:
    case MDB_CURSOR_FULL:
    case MDB_BAD_TXN:
    case MDB_BAD_DBI:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_VALSIZE: return TALLY_CORRUPT;
    case MDB_VERSION_MISMATCH: return TALLY_UNSUPPORTED;
    case MDB_KEYEXIST: return TALLY_INVALID;
    case MDB_MAP_FULL: return TALLY_FULL;
    default: return code > 0 ? tally_errno_status(code) : TALLY_IO;
    }
}

// LMDB calls this and then aborts the process. Leaving by a jump leaves its locks and memory as they are, so the environment
// is never touched again, not even to close it; the process is about to end with a clear error.
static _Thread_local struct log *guarded;

static void on_assert(MDB_env *env, const char *message)
{
    (void)env;
    (void)message;
    if (!guarded) return;
    guarded->dead = true;
    longjmp(guarded->escape, 1);
}

// At the head of a function: an assertion that fails in what it calls makes it return TALLY_CORRUPT.
#define GUARD(log)                                                                                                     \
    do {                                                                                                               \
        guarded = (log);                                                                                               \
        if ((log)->dead) return TALLY_CORRUPT;                                                                         \
        if (setjmp((log)->escape)) return TALLY_CORRUPT;                                                               \
    } while (0)

// ---------------------------------------------------------------------------------------------------- the file

static enum tally_status grow_map(struct log *log)
{
    if (log->map_bytes > UINT64_MAX / 4) return TALLY_NO_SPACE;
    int code = mdb_env_set_mapsize(log->env, log->map_bytes * 2);
    if (code) return status_of(code);
    log->map_bytes *= 2;
    return TALLY_OK;
}

// Takes space on the disk for what is about to be written, where the file system can: a full disk is then noticed before
// LMDB writes anything.
static enum tally_status take_space(int fd, uint64_t size, uint64_t needed)
{
    uint64_t wanted = (needed + AHEAD_BYTES - 1) / AHEAD_BYTES * AHEAD_BYTES;
    if (size >= wanted + MARGIN_BYTES) return TALLY_OK; // taken before
    if (!fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)wanted)) return TALLY_OK;
    if (errno != EOPNOTSUPP && !fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)needed)) return TALLY_OK;
    return errno == EOPNOTSUPP ? TALLY_OK : tally_errno_status(errno);
}

// Room for `more` bytes of record: space on the disk; a file that goes on for MARGIN_BYTES behind its last page, as a hole, so that whatever a
// damaged page says lies within it; and a map that holds all of that. No transaction is open.
static enum tally_status make_room(struct log *log, uint64_t more)
{
    MDB_envinfo info;
    mdb_filehandle_t fd;
    struct stat stat;
    int code = mdb_env_info(log->env, &info);
    if (!code) code = mdb_env_get_fd(log->env, &fd);
    if (code) return status_of(code);
    if (fstat(fd, &stat)) return tally_errno_status(errno);
    uint64_t size = (uint64_t)stat.st_size;
    // Pages of the record, of the path to it, of the list of free pages: each is written anew.
    uint64_t needed = ((uint64_t)info.me_last_pgno + 1) * log->page_bytes + more + WRITE_BYTES;
    enum tally_status status = take_space(fd, size, needed);
    uint64_t length = needed + AHEAD_BYTES + MARGIN_BYTES;
    if (!status && size < needed + MARGIN_BYTES && ftruncate(fd, (off_t)length)) status = tally_errno_status(errno);
    while (!status && log->map_bytes < length) status = grow_map(log);
    return status;
}

static void stop_reading(struct log *log)
{
    if (log->reading) mdb_txn_abort(log->reading);
    log->reading = NULL;
}

// ---------------------------------------------------------------------------------------------------- identity

enum { ID_FORMAT = 1, ID_DATASET, ID_LINEAGE, ID_EPOCH, ID_SEED, ID_CREATED_MS };

static void write_identity(const struct tally_log_identity *identity, struct tally_writer *out)
{
    uint8_t seed[16];
    tally_store64(seed, identity->seed.k0);
    tally_store64(seed + 8, identity->seed.k1);
    tally_write_uint(out, ID_FORMAT, FORMAT);
    tally_write_bytes(out, ID_DATASET, tally_bytes(identity->dataset, identity->dataset_bytes));
    tally_write_fixed64(out, ID_LINEAGE, identity->lineage);
    tally_write_fixed64(out, ID_EPOCH, identity->epoch);
    tally_write_bytes(out, ID_SEED, tally_bytes(seed, sizeof seed));
    tally_write_uint(out, ID_CREATED_MS, identity->created_ms);
    tally_seal(out, 0);
}

static enum tally_status identity_field(const struct tally_wire_field *field, struct tally_log_identity *identity)
{
    bool bytes = field->number == ID_DATASET || field->number == ID_SEED;
    if (bytes != (field->type == TALLY_WIRE_BYTES)) return TALLY_MALFORMED;
    switch (field->number) {
    case ID_FORMAT: return field->value == FORMAT ? TALLY_OK : TALLY_UNSUPPORTED;
    case ID_DATASET:
        if (!tally_name_valid(field->bytes)) return TALLY_MALFORMED;
        memcpy(identity->dataset, field->bytes.data, field->bytes.size);
        identity->dataset_bytes = field->bytes.size;
        break;
    case ID_LINEAGE: identity->lineage = field->value; break;
    case ID_EPOCH: identity->epoch = field->value; break;
    case ID_SEED:
        if (field->bytes.size != 16) return TALLY_MALFORMED;
        identity->seed = (struct tally_seed){tally_load64(field->bytes.data), tally_load64(field->bytes.data + 8)};
        break;
    case ID_CREATED_MS: identity->created_ms = field->value; break;
    default: break;
    }
    return TALLY_OK;
}

static enum tally_status parse_identity(struct tally_bytes message, struct tally_log_identity *out_identity)
{
    struct tally_log_identity identity = {0};
    struct tally_wire_field field;
    struct tally_bytes inner;
    if (tally_unseal(message, &inner)) return TALLY_CORRUPT;
    struct tally_wire wire = tally_wire(inner);
    enum tally_status status;
    while ((status = tally_wire_next(&wire, &field)) == TALLY_OK) {
        if ((status = identity_field(&field, &identity))) return status;
    }
    if (status != TALLY_NOT_FOUND || !identity.dataset_bytes || !identity.epoch) return TALLY_CORRUPT;
    *out_identity = identity;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- reading

static enum tally_status begin_reading(struct log *log)
{
    if (log->reading) return TALLY_OK;
    int code = mdb_txn_begin(log->env, NULL, MDB_RDONLY, &log->reading);
    if (code) log->reading = NULL;
    return status_of(code);
}

static enum tally_status get(struct log *log, MDB_dbi dbi, const void *key_data, size_t key_bytes,
                             struct tally_bytes *out)
{
    MDB_val value, key = {key_bytes, (void *)(uintptr_t)key_data};
    enum tally_status status = begin_reading(log);
    if (!status) status = status_of(mdb_get(log->reading, dbi, &key, &value));
    // Its place is on a page of the file, as LMDB checks; so far behind it there is still file and map (see make_room).
    if (!status && value.mv_size > TALLY_RECORD_BYTES_MAX) status = TALLY_CORRUPT;
    if (!status) *out = tally_bytes(value.mv_data, value.mv_size);
    return status;
}

static void store_version(uint8_t key[8], uint64_t version)
{
    for (unsigned i = 0; i < 8; i++) key[i] = (uint8_t)(version >> (8 * (7 - i)));
}

static uint64_t load_version(const uint8_t *key)
{
    uint64_t version = 0;
    for (unsigned i = 0; i < 8; i++) version = version << 8 | key[i];
    return version;
}

static enum tally_status end_of(MDB_cursor *cursor, MDB_cursor_op op, uint64_t *out_version)
{
    MDB_val key, value;
    int code = mdb_cursor_get(cursor, &key, &value, op);
    if (code) return status_of(code);
    if (key.mv_size != 8) return TALLY_CORRUPT;
    *out_version = load_version(key.mv_data);
    return TALLY_OK;
}

static enum tally_status find_range(struct log *log)
{
    MDB_cursor *cursor;
    uint64_t first = 0, last = 0;
    enum tally_status status = begin_reading(log);
    if (!status) status = status_of(mdb_cursor_open(log->reading, log->records, &cursor));
    if (status) return status;
    status = end_of(cursor, MDB_FIRST, &first);
    if (!status) status = end_of(cursor, MDB_LAST, &last);
    mdb_cursor_close(cursor);
    stop_reading(log);
    if (status && status != TALLY_NOT_FOUND) return status;
    if (first > last) return TALLY_CORRUPT;
    log->first = first;
    log->last = last;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- writing

struct change {
    // Does the work in a transaction; TALLY_FULL makes it run again with a greater map.
    enum tally_status (*run)(struct log *log, MDB_txn *txn, const struct change *change);
    uint64_t version;
    struct tally_bytes bytes;
    uint64_t done; // of a trim: the version up to which it came
    bool more;
};

// LMDB says EIO for a write that was cut short; where no room is left for the change, that is why.
static enum tally_status commit_status(const struct log *log, const struct change *change, int code)
{
    struct statvfs disk;
    uint64_t needed = change->bytes.size + (1u << 20);
    if (code == EIO && statvfs(log->path, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize < needed)
        return TALLY_NO_SPACE;
    return status_of(code);
}

// One transaction, again with a greater map as often as need be. A commit that fails leaves nothing, or everything after a restart.
static enum tally_status transact(struct log *log, struct change *change)
{
    stop_reading(log);
    enum tally_status status = TALLY_FULL;
    while (status == TALLY_FULL) {
        MDB_txn *txn;
        int code = mdb_txn_begin(log->env, NULL, 0, &txn);
        if (code == MDB_MAP_RESIZED) {
            // Another process (a tool) made it larger.
            code = mdb_env_set_mapsize(log->env, 0);
            if (!code) continue;
        }
        if (code) return status_of(code);
        status = change->run(log, txn, change);
        if (status)
            mdb_txn_abort(txn);
        else
            status = commit_status(log, change, mdb_txn_commit(txn));
        if (status == TALLY_FULL) {
            enum tally_status grown = grow_map(log);
            if (grown) return grown;
        }
    }
    return status;
}

static enum tally_status put_meta(struct log *log, MDB_txn *txn, char *name, size_t name_bytes,
                                  struct tally_bytes bytes)
{
    MDB_val key = {name_bytes, name}, value = {bytes.size, (void *)(uintptr_t)bytes.data};
    return status_of(mdb_put(txn, log->meta, &key, &value, 0));
}

static enum tally_status remove_meta(struct log *log, MDB_txn *txn, char *name, size_t name_bytes)
{
    MDB_val key = {name_bytes, name};
    int code = mdb_del(txn, log->meta, &key, NULL);
    return code == MDB_NOTFOUND ? TALLY_OK : status_of(code);
}

static enum tally_status run_append(struct log *log, MDB_txn *txn, const struct change *change)
{
    uint8_t version[8];
    store_version(version, change->version);
    MDB_val key = {sizeof version, version}, value = {change->bytes.size, NULL};
    int code = mdb_put(txn, log->records, &key, &value, MDB_APPEND | MDB_RESERVE);
    if (code) return status_of(code);
    memcpy(value.mv_data, change->bytes.data, change->bytes.size);
    // The record begins a new epoch: with it, what came before is settled. Not synchronous, the mark stays until a clean close.
    if (log->unclean && !log->not_synchronous) return remove_meta(log, txn, key_unclean, sizeof key_unclean - 1);
    return TALLY_OK;
}

static enum tally_status do_append(struct log *log, uint64_t version, struct tally_bytes record)
{
    if (version == 0 || (log->last && version != log->last + 1)) return TALLY_INVALID;
    if (record.size > TALLY_RECORD_BYTES_MAX) return TALLY_LIMIT;
    enum tally_status status = make_room(log, record.size);
    if (status) return status;
    struct change change = {.run = run_append, .version = version, .bytes = record};
    status = transact(log, &change);
    // A new epoch that is lost again could be drawn again for another history.
    if (!status && log->not_synchronous && !log->settled) status = status_of(mdb_env_sync(log->env, 1));
    if (status) return status;
    log->settled = true;
    log->unclean = false;
    log->last = version;
    if (!log->first) log->first = version;
    return TALLY_OK;
}

static enum tally_status run_reset(struct log *log, MDB_txn *txn, const struct change *change)
{
    int code = mdb_drop(txn, log->records, 0);
    if (code) return status_of(code);
    return put_meta(log, txn, key_identity, sizeof key_identity - 1, change->bytes);
}

static enum tally_status do_reset(struct log *log, const struct tally_log_identity *identity)
{
    uint8_t bytes[256];
    struct tally_writer out = tally_writer_fixed(bytes, sizeof bytes);
    write_identity(identity, &out);
    struct change change = {.run = run_reset, .bytes = tally_writer_bytes(&out)};
    enum tally_status status = make_room(log, 0);
    if (!status) status = transact(log, &change);
    if (!status) status = status_of(mdb_env_sync(log->env, 1));
    if (status) return status;
    log->first = log->last = 0;
    log->settled = false;
    return TALLY_OK;
}

static enum tally_status run_trim(struct log *log, MDB_txn *txn, const struct change *change)
{
    for (uint64_t version = change->version; version < change->done; version++) {
        uint8_t bytes[8];
        store_version(bytes, version);
        MDB_val key = {sizeof bytes, bytes};
        int code = mdb_del(txn, log->records, &key, NULL);
        if (code && code != MDB_NOTFOUND) return status_of(code);
    }
    return TALLY_OK;
}

static enum tally_status do_trim(struct log *log, uint64_t version, bool *out_more)
{
    uint64_t end = version < log->last ? version : log->last;
    *out_more = false;
    if (log->first == 0 || log->first >= end) return TALLY_OK;
    struct change change = {.run = run_trim, .version = log->first, .done = end};
    if (change.done - change.version > log->trim_records) change.done = change.version + log->trim_records;
    enum tally_status status = make_room(log, 0);
    if (!status) status = transact(log, &change);
    if (status) return status;
    log->first = change.done;
    *out_more = change.done < end;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- the mark

static enum tally_status run_mark(struct log *log, MDB_txn *txn, const struct change *change)
{
    if (change->bytes.size) return put_meta(log, txn, key_unclean, sizeof key_unclean - 1, change->bytes);
    return remove_meta(log, txn, key_unclean, sizeof key_unclean - 1);
}

static enum tally_status mark(struct log *log, bool unclean)
{
    struct change change = {.run = run_mark, .bytes = tally_bytes("1", unclean ? 1 : 0)};
    enum tally_status status = transact(log, &change);
    return status ? status : status_of(mdb_env_sync(log->env, 1));
}

static enum tally_status close_cleanly(struct log *log)
{
    if (!log->not_synchronous || log->unclean) return TALLY_OK;
    enum tally_status status = status_of(mdb_env_sync(log->env, 1));
    return status ? status : mark(log, false);
}

// ---------------------------------------------------------------------------------------------------- the table of functions

static enum tally_status log_identity(struct tally_record_log *base, struct tally_log_identity *out_identity)
{
    struct log *log = log_of(base);
    struct tally_bytes bytes;
    GUARD(log);
    enum tally_status status = get(log, log->meta, key_identity, sizeof key_identity - 1, &bytes);
    return status ? status : parse_identity(bytes, out_identity);
}

static enum tally_status log_reset(struct tally_record_log *base, const struct tally_log_identity *identity)
{
    GUARD(log_of(base));
    return do_reset(log_of(base), identity);
}

static void log_range(struct tally_record_log *base, uint64_t *out_first, uint64_t *out_last, bool *out_continuous)
{
    struct log *log = log_of(base);
    *out_first = log->first;
    *out_last = log->last;
    *out_continuous = !log->unclean;
}

static enum tally_status log_append(struct tally_record_log *base, uint64_t version, struct tally_bytes record)
{
    GUARD(log_of(base));
    return do_append(log_of(base), version, record);
}

static enum tally_status log_read(struct tally_record_log *base, uint64_t version, struct tally_bytes *out_record)
{
    struct log *log = log_of(base);
    uint8_t key[8];
    store_version(key, version);
    GUARD(log);
    return get(log, log->records, key, sizeof key, out_record);
}

static enum tally_status log_trim(struct tally_record_log *base, uint64_t version, bool *out_more)
{
    GUARD(log_of(base));
    return do_trim(log_of(base), version, out_more);
}

static enum tally_status do_close(struct log *log)
{
    GUARD(log);
    stop_reading(log);
    // Without the mark removed the next one begins a new epoch: safe, if the disk does not let us.
    enum tally_status status = close_cleanly(log);
    mdb_env_close(log->env);
    return status;
}

static void log_close(struct tally_record_log *base)
{
    struct log *log = log_of(base);
    enum tally_status status = do_close(log);
    (void)status;
    guarded = NULL;
    tally_alloc_free(log->alloc, log);
}

// ---------------------------------------------------------------------------------------------------- opening

static enum tally_status open_tables(struct log *log)
{
    MDB_txn *txn;
    MDB_stat stat;
    int code = mdb_txn_begin(log->env, NULL, 0, &txn);
    if (code) return status_of(code);
    code = mdb_dbi_open(txn, "records", MDB_CREATE, &log->records);
    if (!code) code = mdb_dbi_open(txn, "meta", MDB_CREATE, &log->meta);
    if (!code) code = mdb_stat(txn, log->records, &stat);
    if (code) {
        mdb_txn_abort(txn);
        return status_of(code);
    }
    log->page_bytes = stat.ms_psize;
    return status_of(mdb_txn_commit(txn));
}

static enum tally_status find_mark(struct log *log)
{
    struct tally_bytes bytes;
    enum tally_status status = get(log, log->meta, key_unclean, sizeof key_unclean - 1, &bytes);
    stop_reading(log);
    log->unclean = status == TALLY_OK;
    if (status == TALLY_NOT_FOUND) status = TALLY_OK;
    if (status || !log->not_synchronous || log->unclean) return status;
    return mark(log, true);
}

static enum tally_status open_env(struct log *log, const char *dir, uint64_t map_bytes)
{
    struct stat stat_;
    GUARD(log);
    // Grown by doubling from what was asked for, until the file fits four times.
    log->map_bytes = map_bytes;
    if (!stat(log->path, &stat_)) {
        while (log->map_bytes / 4 < (uint64_t)stat_.st_size) log->map_bytes *= 2;
    }
    int code = mdb_env_create(&log->env);
    if (code) {
        log->env = NULL;
        return status_of(code);
    }
    code = mdb_env_set_assert(log->env, on_assert);
    if (!code) code = mdb_env_set_maxdbs(log->env, 4);
    if (!code) code = mdb_env_set_mapsize(log->env, log->map_bytes);
    if (!code) code = mdb_env_open(log->env, dir, MDB_NOTLS | (log->not_synchronous ? MDB_NOSYNC : 0), 0600);
    enum tally_status status = status_of(code);
    if (!status) status = open_tables(log);
    if (!status) status = make_room(log, 0);
    if (!status) status = find_range(log);
    if (!status) status = find_mark(log);
    return status;
}

enum tally_status tally_log_lmdb_open(const struct tally_log_lmdb_options *options, const struct tally_alloc *alloc,
                                      struct tally_record_log **out_log, char *text, size_t text_bytes)
{
    static const struct tally_record_log_ops ops = {
        .identity = log_identity,
        .reset = log_reset,
        .range = log_range,
        .append = log_append,
        .read = log_read,
        .trim = log_trim,
        .close = log_close,
    };
    if (text_bytes) *text = 0;
    if (mkdir(options->dir, 0700) && errno != EEXIST)
        return tally_errno_tell(errno, "cannot make", options->dir, text, text_bytes);
    struct log *log = tally_alloc_resize(alloc, NULL, sizeof *log);
    if (!log) return TALLY_NO_MEMORY;
    *log = (struct log){.log = {&ops},
                        .alloc = alloc,
                        .not_synchronous = options->not_synchronous,
                        .trim_records = options->trim_records ? options->trim_records : TRIM_RECORDS};
    enum tally_status status = TALLY_INVALID;
    if ((size_t)snprintf(log->path, sizeof log->path, "%s/data.mdb", options->dir) < sizeof log->path)
        status = tally_lmdb_meta_check(log->path, text, text_bytes);
    uint64_t map_bytes = options->map_bytes_first ? options->map_bytes_first : MAP_BYTES_FIRST;
    if (!status) status = open_env(log, options->dir, map_bytes);
    if (!status) {
        *out_log = &log->log;
        return TALLY_OK;
    }
    if (text_bytes && !*text) (void)snprintf(text, text_bytes, "%s: %s", log->path, tally_status_str(status));
    // Not by close: a log that did not open well is not marked as clean.
    if (log->env && !log->dead) {
        stop_reading(log);
        mdb_env_close(log->env);
    }
    guarded = NULL;
    tally_alloc_free(alloc, log);
    return status;
}

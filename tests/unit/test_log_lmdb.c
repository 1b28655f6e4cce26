// SPDX-License-Identifier: Apache-2.0
#include "../support/with_cmocka.h"

#include "../support/build.h"
#include "../support/random.h"
#include "../support/temp_dir.h"

#include <errno.h>
#include <server/lmdb/log_lmdb.h>
#include <server/src/record.h>
#include <server/store/data_dir.h>
#include <server/store/snapshot_files.h>
#include <signal.h>
#include <sys/resource.h>

static const struct tally_log_identity identity = {
    .dataset = "main", .dataset_bytes = 4, .lineage = 42, .epoch = 43, .seed = {1, 2}, .created_ms = 44};

static struct tally_record_log *open_log(const struct test_dir *dir, bool not_synchronous, enum tally_status expected)
{
    const struct tally_log_lmdb_options options = {.dir = test_dir_file(dir, "log"),
                                                   .not_synchronous = not_synchronous,
                                                   .map_bytes_first = 64 << 10,
                                                   .trim_records = 7};
    struct tally_record_log *log = NULL;
    char text[256];
    enum tally_status status = tally_log_lmdb_open(&options, &tally_alloc_libc, &log, text, sizeof text);
    if (status != expected) print_message("# %s: %s\n", tally_status_str(status), text);
    assert_int_equal(status, expected);
    if (status) assert_true(strlen(text) > 0);
    return log;
}

// A record of `version` whose content and size follow from it.
static struct tally_bytes make_record(struct tally_writer *out, uint64_t version, size_t size)
{
    struct tally_bytes record;
    uint8_t *batch = malloc(size + 1);
    struct test_random random = {version};
    test_random_fill(&random, batch, size);
    tally_record_begin(out);
    tally_record_batch(out, tally_bytes(batch, size));
    const struct tally_record_header header = {.version = version};
    assert_int_equal(tally_record_finish(out, &header, &record), TALLY_OK);
    free(batch);
    return record;
}

static size_t size_of(uint64_t version) { return version % 5 == 0 ? 20000 : version % 3 ? 30 : 1500; }

static void append(struct tally_record_log *log, uint64_t from, uint64_t to)
{
    struct tally_writer out = test_writer();
    for (uint64_t version = from; version <= to; version++)
        assert_int_equal(log->ops->append(log, version, make_record(&out, version, size_of(version))), TALLY_OK);
    test_writer_free(&out);
}

static void expect_records(struct tally_record_log *log, uint64_t from, uint64_t to)
{
    struct tally_writer out = test_writer();
    struct tally_bytes record;
    uint64_t first, last;
    bool continuous;
    log->ops->range(log, &first, &last, &continuous);
    assert_int_equal(first, from);
    assert_int_equal(last, to);
    for (uint64_t version = from; version && version <= to; version++) {
        assert_int_equal(log->ops->read(log, version, &record), TALLY_OK);
        assert_true(tally_bytes_equal(record, make_record(&out, version, size_of(version))));
    }
    assert_int_equal(log->ops->read(log, to + 1, &record), TALLY_NOT_FOUND);
    if (from > 1) assert_int_equal(log->ops->read(log, from - 1, &record), TALLY_NOT_FOUND);
    test_writer_free(&out);
}

static void test_append_read_trim_reopen(void **state)
{
    (void)state;
    struct test_dir dir = test_dir_make();
    struct tally_log_identity found;
    struct tally_record_log *log = open_log(&dir, false, TALLY_OK);
    assert_int_equal(log->ops->identity(log, &found), TALLY_NOT_FOUND);
    assert_int_equal(log->ops->reset(log, &identity), TALLY_OK);
    expect_records(log, 0, 0);
    append(log, 1, 100);
    struct tally_bytes any = test_text("not the next");
    assert_int_equal(log->ops->append(log, 100, any), TALLY_INVALID);
    assert_int_equal(log->ops->append(log, 102, any), TALLY_INVALID);
    expect_records(log, 1, 100);
    log->ops->close(log);

    log = open_log(&dir, false, TALLY_OK);
    assert_int_equal(log->ops->identity(log, &found), TALLY_OK);
    assert_memory_equal(found.dataset, "main", 4);
    assert_int_equal(found.lineage, 42);
    assert_int_equal(found.epoch, 43);
    assert_int_equal(found.seed.k1, 2);
    assert_int_equal(found.created_ms, 44);
    expect_records(log, 1, 100);
    bool more = true;
    unsigned calls = 0;
    for (; more; calls++) assert_int_equal(log->ops->trim(log, 61, &more), TALLY_OK);
    assert_true(calls > 5);
    expect_records(log, 61, 100);
    append(log, 101, 140);
    log->ops->close(log);

    log = open_log(&dir, false, TALLY_OK);
    expect_records(log, 61, 140);
    for (more = true; more;) assert_int_equal(log->ops->trim(log, 1000, &more), TALLY_OK);
    expect_records(log, 140, 140); // the newest stays
    assert_int_equal(log->ops->reset(log, &identity), TALLY_OK);
    expect_records(log, 0, 0);
    append(log, 500, 505); // after a reset it may begin anywhere
    expect_records(log, 500, 505);
    log->ops->close(log);
    test_dir_remove(&dir);
}

static void test_trimmed_space_is_used_again(void **state)
{
    (void)state;
    struct test_dir dir = test_dir_make();
    struct tally_record_log *log = open_log(&dir, true, TALLY_OK);
    struct stat stat_;
    off_t early = 0;
    assert_int_equal(log->ops->reset(log, &identity), TALLY_OK);
    for (uint64_t round = 0; round < 60; round++) {
        append(log, round * 100 + 1, round * 100 + 100);
        for (bool more = true; more;) assert_int_equal(log->ops->trim(log, round * 100 + 51, &more), TALLY_OK);
        assert_int_equal(stat(test_dir_file(&dir, "log/data.mdb"), &stat_), 0);
        if (round == 9) early = stat_.st_size;
    }
    assert_true(stat_.st_size <= early + (16 << 20));
    log->ops->close(log);
    test_dir_remove(&dir);
}

static void test_the_mark_of_an_unclean_end(void **state)
{
    (void)state;
    struct test_dir dir = test_dir_make();
    uint64_t first, last;
    bool continuous;
    struct tally_record_log *log = open_log(&dir, true, TALLY_OK);
    assert_int_equal(log->ops->reset(log, &identity), TALLY_OK);
    append(log, 1, 5);
    log->ops->range(log, &first, &last, &continuous);
    assert_true(continuous);
    // What a crash leaves: the file as it is now.
    size_t size;
    uint8_t *crashed = test_file_read(test_dir_file(&dir, "log/data.mdb"), &size);
    log->ops->close(log);
    log = open_log(&dir, true, TALLY_OK);
    log->ops->range(log, &first, &last, &continuous);
    assert_true(continuous);
    log->ops->close(log);

    test_file_write(test_dir_file(&dir, "log/data.mdb"), crashed, size);
    for (int again = 0; again < 4; again++) { // closing without a record does not settle it
        log = open_log(&dir, again % 2 != 0, TALLY_OK);
        log->ops->range(log, &first, &last, &continuous);
        assert_false(continuous);
        expect_records(log, 1, 5);
        log->ops->close(log);
    }
    log = open_log(&dir, false, TALLY_OK);
    append(log, 6, 6); // as the core's record of a new epoch
    log->ops->close(log);
    log = open_log(&dir, false, TALLY_OK);
    log->ops->range(log, &first, &last, &continuous);
    assert_true(continuous);
    log->ops->close(log);
    free(crashed);
    test_dir_remove(&dir);
}

// ---------------------------------------------------------------------------------------------------- damage

struct damage {
    struct test_dir dir;
    uint8_t *good;
    size_t size, used;
};

static struct damage damage_begin(uint64_t records)
{
    struct damage damage = {.dir = test_dir_make()};
    struct tally_record_log *log = open_log(&damage.dir, false, TALLY_OK);
    assert_int_equal(log->ops->reset(log, &identity), TALLY_OK);
    append(log, 1, records);
    log->ops->close(log);
    damage.good = test_file_read(test_dir_file(&damage.dir, "log/data.mdb"), &damage.size);
    for (damage.used = damage.size; damage.used && !damage.good[damage.used - 1];) damage.used--;
    return damage;
}

static void damage_end(struct damage *damage)
{
    free(damage->good);
    test_dir_remove(&damage->dir);
}

// Opens what is there and reads it all: every record is either what was written or refused.
static bool read_damaged(const struct damage *damage, uint64_t records)
{
    const struct tally_log_lmdb_options options = {.dir = test_dir_file(&damage->dir, "log")};
    struct tally_record_log *log;
    struct tally_log_identity found;
    char text[256];
    bool seen = false;
    enum tally_status status = tally_log_lmdb_open(&options, &tally_alloc_libc, &log, text, sizeof text);
    if (status) {
        assert_true(strlen(text) > 0);
        return true;
    }
    if (log->ops->identity(log, &found))
        seen = true;
    else
        assert_true(found.epoch == 43 && found.lineage == 42 && found.seed.k0 == 1);
    struct tally_writer out = test_writer();
    for (uint64_t version = 1; version <= records; version++) {
        struct tally_bytes record;
        struct tally_record_reader reader;
        status = log->ops->read(log, version, &record);
        if (!status) status = tally_record_open(record, &reader);
        if (!status && reader.header.version != version) status = TALLY_CORRUPT;
        if (status)
            seen = true;
        else
            assert_true(tally_bytes_equal(record, make_record(&out, version, size_of(version))));
    }
    test_writer_free(&out);
    log->ops->close(log);
    return seen;
}

static void test_flipped_bits_are_seen_or_harmless(void **state)
{
    (void)state;
    struct test_random random = test_random_start("log: flipped bits");
    struct damage damage = damage_begin(60);
    unsigned seen = 0;
    for (int i = 0; i < 400; i++) {
        size_t at = test_random_below(&random, i % 4 ? damage.used : 8192);
        uint8_t bit = (uint8_t)(1u << test_random_below(&random, 8));
        damage.good[at] ^= bit;
        test_file_write(test_dir_file(&damage.dir, "log/data.mdb"), damage.good, damage.used + 4096);
        damage.good[at] ^= bit;
        seen += read_damaged(&damage, 60);
    }
    print_message("# %u of 400 flips were seen\n", seen);
    assert_true(seen > 100);
    damage_end(&damage);
}

static void test_a_file_cut_short_is_refused(void **state)
{
    (void)state;
    struct test_random random = test_random_start("log: cut short");
    struct damage damage = damage_begin(40);
    for (int i = 0; i < 200; i++) {
        // Less than all pages, and not nothing: that is another case.
        size_t pages = damage.used / 4096;
        size_t size = i % 2 ? test_random_between(&random, 1, pages) * 4096 - 4096 * (i % 4 == 1)
                            : test_random_between(&random, 1, pages * 4096 - 1);
        if (size == 0 || size >= pages * 4096) continue;
        test_file_write(test_dir_file(&damage.dir, "log/data.mdb"), damage.good, size);
        (void)open_log(&damage.dir, false, TALLY_CORRUPT);
    }
    damage_end(&damage);
}

static void test_an_emptied_directory_is_a_new_log(void **state)
{
    (void)state;
    struct damage damage = damage_begin(10);
    struct tally_log_identity found;
    test_dir_empty(damage.dir.path, false);
    struct tally_record_log *log = open_log(&damage.dir, false, TALLY_OK);
    assert_int_equal(log->ops->identity(log, &found), TALLY_NOT_FOUND);
    expect_records(log, 0, 0);
    log->ops->close(log);
    damage_end(&damage);
}

static void test_something_else_in_its_place(void **state)
{
    (void)state;
    struct test_dir dir = test_dir_make();
    char noise[20000];
    memset(noise, 'x', sizeof noise);
    assert_int_equal(mkdir(test_dir_file(&dir, "log"), 0700), 0);
    test_file_write(test_dir_file(&dir, "log/data.mdb"), noise, sizeof noise);
    (void)open_log(&dir, false, TALLY_CORRUPT);
    test_dir_empty(dir.path, false);
    test_file_write(test_dir_file(&dir, "log"), noise, 3); // a file where the directory should be
    (void)open_log(&dir, false, TALLY_IO);
    test_dir_remove(&dir);
}

// A limit on the size of files stands for a full disk.
static void test_no_space(void **state)
{
    (void)state;
    struct test_dir dir = test_dir_make();
    struct tally_record_log *log = open_log(&dir, false, TALLY_OK);
    assert_int_equal(log->ops->reset(log, &identity), TALLY_OK);
    append(log, 1, 10);
    struct rlimit old, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = 40 << 20;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct tally_writer out = test_writer();
    enum tally_status status = TALLY_OK;
    uint64_t version = 11;
    for (; version < 100000 && !status; version++)
        status = log->ops->append(log, version, make_record(&out, version, 100000));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(status, TALLY_NO_SPACE);
    uint64_t failed = version - 1;
    log->ops->close(log);
    log = open_log(&dir, false, TALLY_OK);
    struct tally_bytes record;
    assert_int_equal(log->ops->read(log, failed - 1, &record), TALLY_OK);
    assert_true(tally_bytes_equal(record, make_record(&out, failed - 1, 100000)));
    log->ops->close(log);
    test_writer_free(&out);
    test_dir_remove(&dir);
}

// ---------------------------------------------------------------------------------------------------- beside the log

static void test_a_directory_is_held_once(void **state)
{
    (void)state;
    struct test_dir dir = test_dir_make();
    struct tally_data_dir one, two;
    char text[256];
    assert_int_equal(tally_data_dir_open(test_dir_file(&dir, "data"), &one, text, sizeof text), TALLY_OK);
    assert_int_equal(tally_data_dir_open(test_dir_file(&dir, "data"), &two, text, sizeof text), TALLY_IN_USE);
    assert_non_null(strstr(text, "/data"));
    tally_data_dir_close(&one);
    assert_int_equal(tally_data_dir_open(test_dir_file(&dir, "data"), &two, text, sizeof text), TALLY_OK);
    tally_data_dir_close(&two);
    assert_int_equal(tally_data_dir_open("/no/such/parent", &two, text, sizeof text), TALLY_IO);
    test_dir_remove(&dir);
}

static void write_snapshot(struct tally_snapshot_store *store, uint64_t version, const char *content)
{
    assert_int_equal(store->ops->begin(store, version), TALLY_OK);
    assert_int_equal(store->ops->write(store, test_text(content)), TALLY_OK);
    assert_int_equal(store->ops->write(store, test_text("!")), TALLY_OK);
    assert_int_equal(store->ops->commit(store), TALLY_OK);
}

static void test_snapshot_files(void **state)
{
    (void)state;
    struct test_dir dir = test_dir_make();
    struct tally_snapshot_store *store;
    struct tally_bytes bytes;
    uint64_t version;
    char text[256];
    assert_int_equal(
        tally_snapshot_files_open(test_dir_file(&dir, "none"), &tally_alloc_libc, &store, text, sizeof text), TALLY_IO);
    assert_int_equal(tally_snapshot_files_open(dir.path, &tally_alloc_libc, &store, text, sizeof text), TALLY_OK);
    assert_int_equal(store->ops->load(store, 0, &version, &bytes), TALLY_NOT_FOUND);
    write_snapshot(store, 10, "ten");
    write_snapshot(store, 200, "two hundred");
    write_snapshot(store, 3000, "three thousand");
    assert_int_equal(store->ops->begin(store, 4000), TALLY_OK); // a crash in the middle
    assert_int_equal(store->ops->write(store, test_text("half")), TALLY_OK);
    store->ops->close(store);
    test_file_write(test_dir_file(&dir, "snapshot.tmp"), "x", 1);
    test_file_write(test_dir_file(&dir, "snapshot-10.tally"), "not one of ours", 15);

    assert_int_equal(tally_snapshot_files_open(dir.path, &tally_alloc_libc, &store, text, sizeof text), TALLY_OK);
    assert_int_not_equal(access(test_dir_file(&dir, "snapshot.tmp"), F_OK), 0);
    assert_int_equal(store->ops->load(store, 0, &version, &bytes), TALLY_OK);
    assert_int_equal(version, 3000);
    assert_true(tally_bytes_equal(bytes, test_text("three thousand!")));
    assert_int_equal(store->ops->load(store, 1, &version, &bytes), TALLY_OK);
    assert_int_equal(version, 200);
    assert_int_equal(store->ops->load(store, 2, &version, &bytes), TALLY_NOT_FOUND);
    store->ops->close(store);
    test_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_read_trim_reopen),     cmocka_unit_test(test_trimmed_space_is_used_again),
        cmocka_unit_test(test_the_mark_of_an_unclean_end),  cmocka_unit_test(test_flipped_bits_are_seen_or_harmless),
        cmocka_unit_test(test_a_file_cut_short_is_refused), cmocka_unit_test(test_an_emptied_directory_is_a_new_log),
        cmocka_unit_test(test_something_else_in_its_place), cmocka_unit_test(test_no_space),
        cmocka_unit_test(test_a_directory_is_held_once),    cmocka_unit_test(test_snapshot_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

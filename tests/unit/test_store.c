// SPDX-License-Identifier: Apache-2.0
//
// The edge's stored copy: what was written is booted from again, whatever was done to the file in between leads to an earlier verified
// version or to nothing, never to another state.
#include "../support/with_cmocka.h"
#include "model_frames.h"

#include <edge/host/host.h>
#include <edge/store/store.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char directory[] = "/tmp/tallycast-test-store-XXXXXX";
static struct tally_store_options options;

// One life of an edge: a mirror, its copy, and the model of the server beside it.
static struct tally_host *host;
static struct tally_http_source source;
static struct tally_store *store;
static struct model model;

static char *in_directory(const char *name, char out_path[256])
{
    snprintf(out_path, 256, "%s/%s", options.directory, name);
    return out_path;
}

static void wipe(void)
{
    char path[256];
    const char *names[] = {"copy.frames", "copy.new", "copy.bad", "lock"};
    for (unsigned i = 0; i < 4; i++) (void)!unlink(in_directory(names[i], path));
}

static int setup(void **state)
{
    (void)state;
    options = (struct tally_store_options){.directory = directory, .dataset = test_text("main")};
    wipe();
    model_init(&model, 9, 20000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tally_store_close(&store, 0);
    tally_host_native.destroy(&host);
    model_free(&model);
    wipe();
    return 0;
}

static enum tally_status message(void *ctx, struct tally_bytes frame, uint64_t *out_epoch, uint64_t *out_version)
{
    (void)ctx;
    struct tally_view_info info;
    enum tally_status status = tally_host_native.apply(host, frame);
    if (status != TALLY_OK) return status;
    tally_host_native.held(host, &info);
    *out_epoch = info.epoch;
    *out_version = info.version;
    return status;
}

// Starts a life; the version that it booted to.
static uint64_t start(void)
{
    struct tally_reason reason;
    struct tally_host_options host_options = {
        .dataset = test_text("main"), .memory_bytes_max = 256 << 20, .readers_max = 4};
    struct tally_view_info info;
    assert_int_equal(tally_host_native.create(&host_options, &host, &source, &reason), TALLY_OK);
    assert_int_equal(tally_store_open(&options, &store, &reason), TALLY_OK);
    struct tally_store_boot boot = {.message = message};
    assert_int_equal(tally_store_boot(store, &boot, &reason), TALLY_OK);
    assert_int_equal(tally_store_start(store, &source, 0), TALLY_OK);
    tally_host_native.held(host, &info);
    return info.version;
}

static void stop(void)
{
    tally_host_native.abandon(host);
    tally_store_close(&store, 5000);
    tally_host_native.destroy(&host);
}

// The next version arrives.
static void advance(uint32_t more, bool as_whole)
{
    struct test_frame frame;
    struct tally_bytes bytes = model_cut(&model, 1, more, &frame);
    assert_int_equal(tally_host_native.apply(host, bytes), TALLY_OK);
    if (as_whole)
        tally_store_rebase(store);
    else
        tally_store_append(store, bytes);
    test_frame_free(&frame);
}

static struct tally_store_stats stats(void)
{
    struct tally_store_stats now;
    tally_store_stats(store, &now);
    return now;
}

static void short_while(void)
{
    struct timespec ms = {.tv_nsec = 1000000};
    nanosleep(&ms, NULL);
}

#define wait_until(condition)                                                                                          \
    do {                                                                                                               \
        unsigned left = 10000;                                                                                         \
        while (!(condition) && left--) short_while();                                                                  \
        assert_true(condition);                                                                                        \
    } while (0)

static void assert_held_is_the_model(void)
{
    struct tally_view_info info;
    tally_host_native.held(host, &info);
    assert_int_equal(info.version, model.version);
    assert_true(tally_digest_equal(info.digest, model.digest));
}

static uint64_t file_size(const char *name)
{
    char path[256];
    struct stat about;
    return stat(in_directory(name, path), &about) ? 0 : (uint64_t)about.st_size;
}

// ---------------------------------------------------------------------------------------------------- the ordinary

static void test_lives(void **state)
{
    (void)state;
    assert_int_equal(start(), 0);
    for (unsigned life = 0; life < 6; life++) {
        advance(1000, life == 0);
        for (unsigned i = 0; i < 20; i++) advance(5, false);
        stop();
        assert_int_equal(start(), model.version);
        assert_held_is_the_model();
        assert_int_equal(stats().version, model.version);
    }
    stop();
}

static void test_stays_bounded(void **state)
{
    (void)state;
    options.deltas_bytes_min = 4096;
    model.uneven = true;
    start();
    advance(2000, true);
    uint64_t most = 0;
    for (unsigned i = 0; i < 500; i++) {
        advance(0, false);
        struct tally_store_stats now = stats();
        if (now.base_bytes + now.deltas_bytes > most) most = now.base_bytes + now.deltas_bytes;
    }
    wait_until(stats().version == model.version);
    assert_true(stats().rewrites > 3);
    assert_true(most < 5 * stats().base_bytes);
    stop();
    assert_true(file_size("copy.frames") < 5 * 30000);
    assert_int_equal(file_size("copy.new"), 0);
    assert_int_equal(start(), model.version);
    assert_held_is_the_model();
    stop();
}

static void test_small_queue(void **state)
{
    (void)state;
    options.queue_bytes_max = 5000; // about two frames
    model.uneven = true;
    start();
    advance(2000, true);
    for (unsigned i = 0; i < 300; i++) advance(1, false);
    stop();
    uint64_t version = start();
    assert_true(version > 0 && version <= model.version);
    stop();
}

static void test_a_gap_is_healed(void **state)
{
    (void)state;
    start();
    advance(100, true);
    wait_until(stats().version == model.version);
    struct test_frame frame;
    struct tally_bytes bytes = model_cut(&model, 1, 0, &frame); // the store never hears of this one
    assert_int_equal(tally_host_native.apply(host, bytes), TALLY_OK);
    test_frame_free(&frame);
    advance(3, false);
    wait_until(stats().version == model.version);
    assert_int_equal(stats().rewrites, 2);
    stop();
    assert_int_equal(start(), model.version);
    assert_held_is_the_model();
    stop();
}

// ---------------------------------------------------------------------------------------------------- damage

static uint8_t *read_copy(size_t *out_size)
{
    char path[256];
    *out_size = file_size("copy.frames");
    FILE *file = fopen(in_directory("copy.frames", path), "rb");
    uint8_t *data = malloc(*out_size);
    assert_int_equal(fread(data, 1, *out_size, file), *out_size);
    fclose(file);
    return data;
}

static void write_copy(const uint8_t *data, size_t size)
{
    char path[256];
    FILE *file = fopen(in_directory("copy.frames", path), "wb");
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
}

static void test_damage(void **state)
{
    (void)state;
    enum { VERSIONS = 30 };
    struct tally_digest digests[VERSIONS + 1] = {{0}};
    struct test_random random = test_random_start("test_store damage");
    start();
    for (unsigned i = 1; i <= VERSIONS; i++) {
        advance(i == 1 ? 50 : 2, i == 1);
        digests[i] = model.digest;
        if (i == 1) wait_until(stats().version == 1);
    }
    stop();
    size_t size;
    uint8_t *good = read_copy(&size), *bad = malloc(size);
    unsigned whole = 0, part = 0, none = 0;
    for (unsigned i = 0; i < 400; i++) {
        size_t bad_size = size;
        memcpy(bad, good, size);
        if (i % 2)
            bad_size = test_random_below(&random, size); // torn
        else
            bad[test_random_below(&random, size)] ^= (uint8_t)(1u << test_random_below(&random, 8));
        write_copy(bad, bad_size);
        uint64_t version = start();
        struct tally_view_info info;
        tally_host_native.held(host, &info);
        assert_true(version <= VERSIONS);
        assert_true(tally_digest_equal(info.digest, digests[version]));
        if (version == VERSIONS)
            whole++;
        else if (version)
            part++;
        else
            none++;
        if (!version && bad_size >= 1) assert_true(file_size("copy.bad") == bad_size);
        stop();
        // What was bad is gone: the next life boots to the same.
        assert_int_equal(start(), version);
        assert_int_equal(stats().refused_bytes, 0);
        stop();
        char path[256];
        (void)!unlink(in_directory("copy.bad", path));
    }
    assert_true(part > 100 && none > 10);
    assert_true(whole < 20);
    // And a damaged copy is appended to as if nothing had been.
    write_copy(good, size - 3);
    assert_int_equal(start(), VERSIONS - 1);
    stop();
    free(good);
    free(bad);
}

static void test_torn_then_appended(void **state)
{
    (void)state;
    struct test_frame frame;
    start();
    advance(100, true);
    wait_until(stats().version == 1);
    struct tally_bytes second = model_cut(&model, 1, 2, &frame);
    assert_int_equal(tally_host_native.apply(host, second), TALLY_OK);
    tally_store_append(store, second);
    stop();
    size_t size;
    uint8_t *copy = read_copy(&size);
    write_copy(copy, size - 5);
    free(copy);
    assert_int_equal(start(), 1);
    assert_int_equal(stats().refused_bytes, second.size + 4 - 5);
    assert_int_equal(tally_host_native.apply(host, second), TALLY_OK);
    tally_store_append(store, second);
    stop();
    test_frame_free(&frame);
    assert_int_equal(start(), 2);
    assert_held_is_the_model();
    assert_int_equal(stats().rewrites, 0);
    stop();
}

static void test_other_dataset(void **state)
{
    (void)state;
    start();
    advance(100, true);
    stop();
    options.dataset = test_text("other");
    struct tally_reason reason;
    assert_int_equal(tally_store_open(&options, &store, &reason), TALLY_OK);
    struct tally_store_boot boot = {.message = message};
    assert_int_equal(tally_store_boot(store, &boot, &reason), TALLY_WRONG_DATASET);
    assert_non_null(strstr(reason.text, "main"));
    assert_non_null(strstr(reason.text, "other"));
    tally_store_close(&store, 0);
    options.dataset = test_text("main");
    assert_int_equal(start(), model.version); // it was left as it is
    stop();
}

// ---------------------------------------------------------------------------------------------------- a directory that will not do

static void test_second_edge(void **state)
{
    (void)state;
    start();
    struct tally_store *second = NULL;
    struct tally_reason reason;
    assert_int_equal(tally_store_open(&options, &second, &reason), TALLY_IN_USE);
    assert_null(second);
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_non_null(strstr(reason.text, pid));
    assert_non_null(strstr(reason.text, directory));
    stop();
    assert_int_equal(start(), 0);
    stop();
}

static void test_not_a_directory(void **state)
{
    (void)state;
    char path[256];
    close(open(in_directory("copy.bad", path), O_CREAT | O_WRONLY, 0600));
    options.directory = path;
    struct tally_reason reason;
    assert_int_equal(tally_store_open(&options, &store, &reason), TALLY_INVALID);
    assert_non_null(strstr(reason.text, path));
    options.directory = directory;
}

// The edge goes without.
static void test_unwritable(void **state)
{
    (void)state;
    const char *nowhere[] = {"/proc/tallycast-no/such", "/proc"};
    for (unsigned i = 0; i < 2; i++) {
        options.directory = nowhere[i];
        assert_int_equal(start(), 0);
        advance(100, i == 0);
        advance(1, false);
        assert_true(stats().failing);
        assert_held_is_the_model();
        stop();
        model_free(&model);
        model_init(&model, 9, 20000);
    }
    options.directory = directory;
}

// A disk that is full: EFBIG in place of ENOSPC, which no test without a file system of its own can have.
static void test_full_disk(void **state)
{
    (void)state;
    options.retry_ms = 20;
    start();
    advance(2000, true);
    wait_until(stats().version == 1);
    uint64_t size = file_size("copy.frames");
    struct rlimit before, full;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    full = before;
    full.rlim_cur = size - 10;
    setrlimit(RLIMIT_FSIZE, &full);
    for (unsigned i = 0; i < 10; i++) advance(0, false);
    wait_until(stats().failures > 3);
    assert_true(stats().failing);
    assert_held_is_the_model();
    assert_int_equal(file_size("copy.frames"), size); // nothing torn stays
    // A restart in this state.
    uint64_t version = model.version;
    stop();
    assert_int_equal(start(), 1);
    setrlimit(RLIMIT_FSIZE, &before);
    stop();
    assert_true(version > 1);
    // There is room again.
    model_free(&model);
    model_init(&model, 10, 20000);
    start();
    advance(2000, true);
    wait_until(stats().version == 1 && stats().epoch == 10);
    setrlimit(RLIMIT_FSIZE, &full);
    advance(0, false);
    wait_until(stats().failing);
    setrlimit(RLIMIT_FSIZE, &before);
    wait_until(!stats().failing);
    assert_int_equal(stats().version, model.version);
    stop();
    assert_int_equal(start(), model.version);
    assert_held_is_the_model();
    stop();
}

// Killed at any moment: what is there boots to a version that was held.
static void test_killed(void **state)
{
    (void)state;
    enum { VERSIONS = 400 };
    static struct tally_digest digests[VERSIONS + 2];
    struct test_random random = test_random_start("test_store killed");
    options.deltas_bytes_min = 2000;
    struct model plain;
    model_init(&plain, 9, 20000);
    plain.uneven = model.uneven = true;
    for (unsigned i = 1; i <= VERSIONS; i++) {
        struct test_frame frame;
        (void)model_cut(&plain, 1, i == 1 ? 500 : 1, &frame);
        test_frame_free(&frame);
        digests[i] = plain.digest;
    }
    model_free(&plain);
    for (unsigned life = 0; life < 30; life++) {
        uint64_t microseconds = test_random_between(&random, 100, 60000);
        pid_t child = fork();
        if (child == 0) {
            // Catches up to where the copy is, then goes on.
            uint64_t version = start();
            while (model.version < VERSIONS) {
                struct test_frame frame;
                struct tally_bytes bytes = model_cut(&model, 1, model.version ? 1 : 500, &frame);
                if (model.version > version) {
                    if (tally_host_native.apply(host, bytes) != TALLY_OK) _exit(1);
                    tally_store_append(store, bytes);
                }
                test_frame_free(&frame);
            }
            _exit(0);
        }
        struct timespec while_ = {.tv_nsec = (long)microseconds * 1000};
        nanosleep(&while_, NULL);
        kill(child, SIGKILL);
        int result;
        waitpid(child, &result, 0);
        assert_true(WIFSIGNALED(result) || WEXITSTATUS(result) == 0);
        uint64_t version = start();
        struct tally_view_info info;
        tally_host_native.held(host, &info);
        assert_true(version <= VERSIONS);
        assert_true(tally_digest_equal(info.digest, digests[version]));
        assert_int_equal(file_size("copy.bad"), 0);
        stop();
    }
}

int main(void)
{
    if (!mkdtemp(directory)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stays_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_small_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_gap_is_healed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn_then_appended, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_dataset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_a_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unwritable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(directory);
    return failed;
}

// SPDX-License-Identifier: Apache-2.0
//
// The edge's spool in real files: whatever became of the file, an edge starts from what is whole in it or is told that it is damaged; and, with
// the producer core on it, that what was told as durable is counted once, in a file that stays bounded.
#include "../support/memory.h"
#include "../support/with_cmocka.h"

#include <edge/src/producer.h>
#include <edge/store/spool.h>
#include <errno.h>
#include <fcntl.h>
#include <io/log.h>
#include <messages/messages.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <tallycast/batch.h>
#include <tallycast/limits.h>
#include <unistd.h>

static char directory[] = "/tmp/tallycast-test-spool-XXXXXX";

static const char *in_directory(const char *name)
{
    static char path[sizeof directory + 32];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static int wipe(void **state)
{
    (void)state;
    static const char *const names[] = {"count.spool", "count.new", "count.bad"};
    for (unsigned i = 0; i < 3; i++) (void)!unlink(in_directory(names[i]));
    return 0;
}

static size_t read_file(const char *name, uint8_t *bytes, size_t room)
{
    FILE *file = fopen(in_directory(name), "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, room, file);
    (void)fclose(file);
    return size;
}

static void write_file(const char *name, const uint8_t *bytes, size_t size)
{
    FILE *file = fopen(in_directory(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    (void)fclose(file);
}

static bool there(const char *name) { return access(in_directory(name), F_OK) == 0; }

static uint64_t file_size(const char *name)
{
    struct stat about;
    return stat(in_directory(name), &about) ? 0 : (uint64_t)about.st_size;
}

// ---------------------------------------------------------------------------------------------------- a spool and its thread

struct disk {
    struct tally_spool *spool;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool written;
    enum tally_status status;
};

static void on_written(void *ctx, enum tally_status status)
{
    struct disk *disk = ctx;
    pthread_mutex_lock(&disk->mutex);
    disk->written = true;
    disk->status = status;
    pthread_cond_signal(&disk->wake);
    pthread_mutex_unlock(&disk->mutex);
}

static enum tally_status wait_written(struct disk *disk)
{
    pthread_mutex_lock(&disk->mutex);
    while (!disk->written) pthread_cond_wait(&disk->wake, &disk->mutex);
    disk->written = false;
    pthread_mutex_unlock(&disk->mutex);
    return disk->status;
}

static enum tally_status put(struct disk *disk, bool anew, const char *group)
{
    tally_spool_write(disk->spool, anew, tally_bytes(group, strlen(group)));
    return wait_written(disk);
}

static enum tally_status disk_open(struct disk *disk, enum tally_status (*group)(void *ctx, struct tally_bytes group),
                                   void *ctx)
{
    struct tally_reason reason;
    pthread_mutex_init(&disk->mutex, NULL);
    pthread_cond_init(&disk->wake, NULL);
    disk->written = false;
    assert_int_equal(tally_spool_open(directory, &disk->spool, &reason), TALLY_OK);
    enum tally_status status = tally_spool_boot(disk->spool, group, ctx, &reason);
    if (status != TALLY_OK) return status;
    assert_int_equal(tally_spool_start(disk->spool, on_written, disk), TALLY_OK);
    return TALLY_OK;
}

static void disk_close(struct disk *disk)
{
    tally_spool_close(&disk->spool);
    pthread_cond_destroy(&disk->wake);
    pthread_mutex_destroy(&disk->mutex);
}

// What a start finds: the groups, one after the other, each with a stop behind it.
struct found {
    char text[256];
    unsigned count, fail_at;
};

static enum tally_status collect(void *ctx, struct tally_bytes group)
{
    struct found *found = ctx;
    if (++found->count == found->fail_at) return TALLY_UNSUPPORTED;
    size_t used = strlen(found->text);
    assert_true(used + group.size + 2 < sizeof found->text);
    memcpy(found->text + used, group.data, group.size);
    memcpy(found->text + used + group.size, ".", 2);
    return TALLY_OK;
}

static enum tally_status find(struct found *found)
{
    struct disk disk;
    *found = (struct found){.fail_at = found->fail_at};
    enum tally_status status = disk_open(&disk, collect, found);
    disk_close(&disk);
    return status;
}

static void expect(const char *text)
{
    struct found found = {0};
    assert_int_equal(find(&found), TALLY_OK);
    assert_string_equal(found.text, text);
}

// "one" anew, "two" and "three" behind it. Where each begins, and the end.
static const size_t starts[] = {8, 8 + 12 + 3, 8 + 2 * (12 + 3), 8 + 2 * (12 + 3) + 12 + 5};

static void put_three(void)
{
    struct disk disk;
    struct found found = {0};
    wipe(NULL);
    assert_int_equal(disk_open(&disk, collect, &found), TALLY_OK);
    assert_int_equal(put(&disk, true, "one"), TALLY_OK);
    assert_int_equal(put(&disk, false, "two"), TALLY_OK);
    assert_int_equal(put(&disk, false, "three"), TALLY_OK);
    disk_close(&disk);
    assert_int_equal(file_size("count.spool"), starts[3]);
}

// ---------------------------------------------------------------------------------------------------- the file

static void what_was_written_is_found(void **state)
{
    (void)state;
    struct disk disk;
    struct found found = {0};
    expect(""); // nothing there
    put_three();
    expect("one.two.three.");
    expect("one.two.three.");
    // Further groups come behind them, or in the place of all.
    assert_int_equal(disk_open(&disk, collect, &found), TALLY_OK);
    assert_int_equal(put(&disk, false, "four"), TALLY_OK);
    disk_close(&disk);
    expect("one.two.three.four.");
    assert_int_equal(disk_open(&disk, collect, &found), TALLY_OK);
    assert_int_equal(put(&disk, true, "five"), TALLY_OK);
    assert_int_equal(put(&disk, false, "six"), TALLY_OK);
    disk_close(&disk);
    expect("five.six.");
    assert_false(there("count.new"));
}

// The first thing ever written must be all of it: nobody knows what else should be there.
static void nothing_is_appended_to_nothing(void **state)
{
    (void)state;
    struct disk disk;
    struct found found = {0};
    assert_int_equal(disk_open(&disk, collect, &found), TALLY_OK);
    assert_int_equal(put(&disk, false, "one"), TALLY_IO);
    assert_false(there("count.spool"));
    assert_int_equal(put(&disk, true, "one"), TALLY_OK);
    disk_close(&disk);
    expect("one.");
}

// The groups that are whole before `end`; what is behind them is cut off, so that what is appended next is found.
static void a_file_cut_at_every_byte(void **state)
{
    (void)state;
    static const char *const whole[] = {NULL, "one.", "one.two.", "one.two.three."};
    uint8_t bytes[128];
    put_three();
    size_t size = read_file("count.spool", bytes, sizeof bytes);
    for (size_t end = 0; end <= size; end++) {
        unsigned groups = 0;
        struct found found = {0};
        while (groups < 3 && starts[groups + 1] <= end) groups++;
        write_file("count.spool", bytes, end);
        if (!groups) {
            // It had its name only when it was whole.
            assert_int_equal(find(&found), TALLY_CORRUPT);
            assert_int_equal(file_size("count.spool"), end); // nothing was cut off
            continue;
        }
        struct disk disk;
        assert_int_equal(disk_open(&disk, collect, &found), TALLY_OK);
        assert_string_equal(found.text, whole[groups]);
        assert_int_equal(file_size("count.spool"), starts[groups]);
        assert_int_equal(put(&disk, false, "new"), TALLY_OK);
        disk_close(&disk);
        char expected[64];
        (void)snprintf(expected, sizeof expected, "%snew.", whole[groups]);
        expect(expected);
    }
}

// A torn write may leave the right size and nothing, or anything, in it.
static void a_torn_end_that_is_filled(void **state)
{
    (void)state;
    static const int fills[] = {0, 1, 0x20, 0xff};
    for (unsigned fill = 0; fill < 4; fill++) {
        for (size_t from = starts[2]; from < starts[3]; from++) {
            uint8_t bytes[128];
            put_three();
            size_t size = read_file("count.spool", bytes, sizeof bytes);
            bool same = true;
            for (size_t i = from; i < size; i++) same = same && bytes[i] == fills[fill];
            memset(bytes + from, fills[fill], size - from);
            write_file("count.spool", bytes, size);
            expect(same ? "one.two.three." : "one.two.");
        }
    }
}

// In the last group a flipped bit cannot be told from a torn write. Before it, it is damage, and nothing is used: what follows may take back
// what stands before.
static void every_flipped_bit(void **state)
{
    (void)state;
    uint8_t bytes[128];
    put_three();
    size_t size = read_file("count.spool", bytes, sizeof bytes);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        struct found found = {0};
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_file("count.spool", bytes, size);
        enum tally_status status = find(&found);
        if (bit / 8 >= starts[2]) {
            assert_int_equal(status, TALLY_OK);
            assert_string_equal(found.text, "one.two.");
        } else {
            assert_int_equal(status, TALLY_CORRUPT);
            assert_int_equal(file_size("count.spool"), size);
        }
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void a_damaged_spool_is_set_aside(void **state)
{
    (void)state;
    uint8_t bytes[128], kept[128];
    struct disk disk;
    struct found found = {0};
    put_three();
    size_t size = read_file("count.spool", bytes, sizeof bytes);
    bytes[starts[0] + 13] ^= 1;
    write_file("count.spool", bytes, size);
    assert_int_equal(disk_open(&disk, collect, &found), TALLY_CORRUPT);
    assert_int_equal(tally_spool_set_aside(disk.spool), TALLY_OK);
    assert_int_equal(tally_spool_start(disk.spool, on_written, &disk), TALLY_OK);
    assert_int_equal(put(&disk, false, "late"), TALLY_IO);
    assert_int_equal(put(&disk, true, "new"), TALLY_OK);
    disk_close(&disk);
    expect("new.");
    assert_int_equal(read_file("count.bad", kept, sizeof kept), size);
    assert_memory_equal(kept, bytes, size);
}

// A crash while it was written anew leaves the old one in its place.
static void what_was_not_renamed_is_not_used(void **state)
{
    (void)state;
    put_three();
    write_file("count.new", (const uint8_t *)"TALLYS1\nhalf", 12);
    expect("one.two.three.");
    assert_false(there("count.new"));
}

static void a_group_that_is_refused_ends_the_start(void **state)
{
    (void)state;
    struct found found = {.fail_at = 2};
    put_three();
    assert_int_equal(find(&found), TALLY_UNSUPPORTED);
    assert_int_equal(found.count, 2);
    assert_int_equal(file_size("count.spool"), starts[3]);
    found.fail_at = 0;
    expect("one.two.three.");
}

static void no_folder(void **state)
{
    (void)state;
    struct tally_spool *spool = NULL;
    struct tally_reason reason = {0};
    assert_int_equal(tally_spool_open(in_directory("missing"), &spool, &reason), TALLY_IO);
    assert_non_null(strstr(reason.text, "missing"));
    write_file("count.bad", (const uint8_t *)"x", 1);
    assert_int_equal(tally_spool_open(in_directory("count.bad"), &spool, &reason), TALLY_IO);
    assert_null(spool);
    assert_int_equal(mkdir(in_directory("count.spool"), 0700), 0); // what cannot be read as a file
    assert_int_equal(tally_spool_open(directory, &spool, &reason), TALLY_OK);
    struct found found = {0};
    assert_int_equal(tally_spool_boot(spool, collect, &found, &reason), TALLY_IO);
    assert_non_null(strstr(reason.text, "count.spool"));
    tally_spool_close(&spool);
    assert_int_equal(rmdir(in_directory("count.spool")), 0);
    if (geteuid() == 0) return; // whom no mode keeps out
    assert_int_equal(chmod(directory, 0500), 0);
    assert_int_equal(tally_spool_open(directory, &spool, &reason), TALLY_IO);
    assert_int_equal(chmod(directory, 0700), 0);
}

// Files may not grow over `size` bytes any more; 0: as before.
static void limit_files(uint64_t size)
{
    static struct rlimit before;
    struct rlimit limit;
    if (!before.rlim_max) assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    if (size) limit.rlim_cur = size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

// After a write that failed it is not known what is there: only all of it, anew, helps. What was durable stays so.
static void a_full_disk(void **state)
{
    (void)state;
    struct disk disk;
    struct found found = {0};
    put_three();
    assert_int_equal(disk_open(&disk, collect, &found), TALLY_OK);
    limit_files(starts[3] + 5); // in the middle of the next group
    assert_int_equal(put(&disk, false, "four"), TALLY_NO_SPACE);
    expect("one.two.three.");
    limit_files(0);
    assert_int_equal(put(&disk, false, "four"), TALLY_IO); // not behind what is not known
    limit_files(starts[1]);
    assert_int_equal(put(&disk, true, "longer than there is room for"), TALLY_NO_SPACE);
    assert_false(there("count.new")); // what there is of it is not left on a full disk
    limit_files(0);
    expect("one.two.three.");
    // A disk without a byte left.
    assert_int_equal(symlink("/dev/full", in_directory("count.new")), 0);
    assert_int_equal(put(&disk, true, "all"), TALLY_NO_SPACE);
    expect("one.two.three.");
    assert_int_equal(put(&disk, true, "all"), TALLY_OK);
    assert_int_equal(put(&disk, false, "more"), TALLY_OK);
    disk_close(&disk);
    expect("all.more.");
}

// ---------------------------------------------------------------------------------------------------- an edge on it

struct edge {
    struct disk disk;
    struct tally_producer *core;
    struct tally_producer_options options;
    uint64_t now_ms, drain, number;
    bool writing, down; // down: the server does not answer
    // The server, which outlives the edge.
    struct tally_sums counted;
    uint64_t producer, sequence; // of the last batch that it counted
    uint64_t sent_producer, sent_sequence;
    struct tally_writer request;
    bool sent;
    unsigned repeats;
};

static void on_write(void *ctx, bool anew, struct tally_bytes group)
{
    struct edge *edge = ctx;
    edge->writing = true;
    tally_spool_write(edge->disk.spool, anew, group);
}

static enum tally_status on_send(void *ctx, uint32_t server, uint64_t request, struct tally_bytes bytes)
{
    struct edge *edge = ctx;
    struct tally_bytes inner;
    struct tally_batch_reader reader;
    assert_int_equal(server, 0);
    assert_int_equal(tally_request_batch(bytes, &inner), TALLY_OK);
    assert_int_equal(tally_batch_open(inner, &reader), TALLY_OK);
    // One id for ever, and no number before one that was sent, whatever happened between.
    assert_true(!edge->sent_producer || reader.header.producer == edge->sent_producer);
    assert_true(reader.header.sequence >= edge->sent_sequence && reader.header.sequence <= edge->sequence + 1);
    edge->sent_producer = reader.header.producer;
    edge->sent_sequence = reader.header.sequence;
    edge->number = request;
    edge->sent = true;
    edge->request.size = 0;
    tally_write_raw(&edge->request, bytes.data, bytes.size);
    return TALLY_OK;
}

static void on_refuse(void *ctx, enum tally_counting counting, struct tally_bytes table, enum tally_status status)
{
    (void)ctx, (void)counting, (void)table, (void)status;
    fail();
}

static const struct tally_producer_ops ops = {.write = on_write, .send = on_send, .refuse = on_refuse};

static enum tally_status boot_group(void *ctx, struct tally_bytes group)
{
    return tally_producer_boot(((struct edge *)ctx)->core, group);
}

static void start(struct edge *edge)
{
    edge->options.dataset = tally_bytes("main", 4);
    edge->options.servers = 1;
    edge->options.random += 77;
    assert_int_equal(tally_producer_create(&edge->options, &ops, edge, &tally_alloc_libc, &edge->core), TALLY_OK);
    assert_int_equal(disk_open(&edge->disk, boot_group, edge), TALLY_OK);
    tally_producer_boot_end(edge->core, edge->now_ms);
}

// Ends as a crash does: what is being written is there or is not, and nothing else is said.
static void stop(struct edge *edge)
{
    disk_close(&edge->disk);
    tally_producer_destroy(&edge->core);
    edge->writing = edge->sent = false;
}

static void setup(struct edge *edge)
{
    *edge = (struct edge){.request = test_writer()};
    tally_sums_init(&edge->counted, (struct tally_seed){1, 2}, &tally_alloc_libc);
}

static void teardown(struct edge *edge)
{
    stop(edge);
    test_writer_free(&edge->request);
    tally_sums_deinit(&edge->counted);
}

static void settle(struct edge *edge)
{
    while (edge->writing) {
        edge->writing = false;
        tally_producer_written(edge->core, edge->now_ms, wait_written(&edge->disk));
    }
}

// The server counts what was sent last, unless it has.
static void serve(struct edge *edge)
{
    struct tally_bytes inner;
    struct tally_batch_reader reader;
    struct tally_entries_reader entries;
    if (edge->sent_producer == edge->producer && edge->sent_sequence <= edge->sequence) {
        edge->repeats++;
        return;
    }
    edge->producer = edge->sent_producer;
    edge->sequence = edge->sent_sequence;
    assert_int_equal(tally_request_batch(tally_writer_bytes(&edge->request), &inner), TALLY_OK);
    assert_int_equal(tally_batch_open(inner, &reader), TALLY_OK);
    while (tally_batch_next_table(&reader, &entries)) {
        struct tally_sum sum = {.table = entries.table};
        while (tally_entries_next(&entries, &sum.key, &sum.number))
            assert_int_equal(tally_sums_add(&edge->counted, &sum), TALLY_OK);
    }
}

static void answer(struct edge *edge)
{
    uint8_t bytes[256];
    struct tally_writer out = tally_writer_fixed(bytes, sizeof bytes);
    const struct tally_answer message = {
        .status = TALLY_OK, .dataset = tally_bytes("main", 4), .epoch = 5, .version = 9};
    assert_int_equal(tally_answer_encode(&message, &out), TALLY_OK);
    edge->sent = false;
    tally_producer_answer(edge->core, edge->now_ms, 0, edge->number, tally_writer_bytes(&out));
}

// Until nothing waits.
static void finish(struct edge *edge)
{
    for (unsigned i = 0; i < 10000 && !tally_producer_idle(edge->core); i++) {
        settle(edge);
        if (edge->sent) {
            serve(edge);
            answer(edge);
        } else {
            edge->now_ms += 100;
            tally_producer_tick(edge->core, edge->now_ms);
        }
    }
    assert_true(tally_producer_idle(edge->core));
    settle(edge);
}

// False: the gate is closed, and the key does not wait.
static bool count(struct edge *edge, const char *key, int64_t number)
{
    const struct tally_sum sum = {TALLY_COUNTING_ADD, tally_bytes("files", 5), tally_bytes(key, strlen(key)), number};
    if (tally_producer_gate(edge->core) != TALLY_OK && !tally_producer_known(edge->core, &sum)) return false;
    assert_int_equal(tally_producer_take(edge->core, &sum), TALLY_OK);
    tally_producer_taken(edge->core, edge->now_ms, ++edge->drain);
    return true;
}

static int64_t counted(const struct edge *edge, const char *key)
{
    enum tally_counting counting;
    int64_t number = 0;
    (void)!tally_sums_get(&edge->counted, TALLY_COUNTING_ADD, tally_bytes("files", 5), tally_bytes(key, strlen(key)),
                          &counting, &number);
    return number;
}

// The edge ends at each moment between a batch and its acknowledgement: before it is sent, sent, counted, answered, the answer
// written down or not.
static void a_restart_in_the_middle_of_an_acknowledgement(void **state)
{
    (void)state;
    for (unsigned moment = 0; moment < 7; moment++) {
        struct edge edge;
        setup(&edge);
        start(&edge);
        settle(&edge);
        for (unsigned round = 1; round <= 4; round++) {
            assert_true(count(&edge, "a", 1));
            settle(&edge);
            assert_true(edge.sent);
            assert_true(count(&edge, "b", 1)); // waits behind it
            if (moment > 0) settle(&edge);
            if (moment > 1) serve(&edge);
            if (moment > 2) answer(&edge);
            if (moment > 3) settle(&edge);
            if (moment > 4) serve(&edge);
            if (moment > 5) finish(&edge);
            stop(&edge);
            start(&edge);
            finish(&edge);
            assert_int_equal(counted(&edge, "a"), round);
            if (moment) assert_int_equal(counted(&edge, "b"), round);
        }
        assert_true(moment != 2 || edge.repeats == 4);
        teardown(&edge);
        wipe(NULL);
    }
}

// No server for long: counts of keys that wait are merged, however many come; new keys are refused when the bound is reached and nothing that was
// taken is dropped. The file stays within twice the bound and a group.
static void at_the_bound_it_merges_on(void **state)
{
    (void)state;
    enum { BOUND = 20000, KEYS = 3000 };
    static int64_t taken[KEYS];
    struct edge edge;
    char key[64];
    uint64_t refused = 0, largest = 0;
    memset(taken, 0, sizeof taken);
    setup(&edge);
    edge.options.spool_bytes_max = BOUND;
    edge.options.rewrite_bytes_min = BOUND / 4;
    start(&edge);
    for (unsigned i = 0; i < 20000; i++) {
        unsigned which = i < KEYS ? i : i * 7919 % KEYS;
        (void)snprintf(key, sizeof key, "a-key-of-some-length-%u", which);
        if (count(&edge, key, 3))
            taken[which] += 3;
        else
            refused++;
        if (i % 16 == 0) settle(&edge);
        if (file_size("count.spool") > largest) largest = file_size("count.spool");
        if (i % 5000 == 4999) {
            settle(&edge);
            stop(&edge);
            start(&edge);
        }
    }
    struct tally_producer_stats stats;
    tally_producer_stats(edge.core, edge.now_ms, &stats);
    assert_int_equal(tally_producer_gate(edge.core), TALLY_FULL);
    assert_true(refused > 1000 && stats.waiting > 100);
    assert_true(largest <= 3 * BOUND);
    settle(&edge);
    finish(&edge);
    uint64_t rows = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        (void)snprintf(key, sizeof key, "a-key-of-some-length-%u", i);
        assert_int_equal(counted(&edge, key), taken[i]);
        rows += taken[i] != 0;
    }
    assert_true(rows < KEYS);
    assert_true(count(&edge, "new", 1)); // there is room again
    finish(&edge);
    teardown(&edge);
}

// The disk is full for a while: what comes is merged in memory, nothing is sent before it is durable, and all of it is counted after.
static void a_disk_that_is_full_for_a_while(void **state)
{
    (void)state;
    struct edge edge;
    setup(&edge);
    start(&edge);
    assert_true(count(&edge, "a", 1));
    finish(&edge);
    limit_files(40);
    for (unsigned i = 0; i < 50; i++) {
        assert_true(count(&edge, i % 2 ? "a key that came while there was no room" : "a", 1));
        if (edge.writing) settle(&edge);
        edge.now_ms += 100;
        tally_producer_tick(edge.core, edge.now_ms);
        assert_false(edge.sent);
    }
    struct tally_producer_stats stats;
    tally_producer_stats(edge.core, edge.now_ms, &stats);
    assert_true(stats.failing && stats.write_failures > 2 && stats.waiting + stats.in_flight >= 2);
    limit_files(0);
    edge.now_ms += 5000;
    tally_producer_tick(edge.core, edge.now_ms);
    finish(&edge);
    assert_int_equal(counted(&edge, "a"), 26);
    assert_int_equal(counted(&edge, "a key that came while there was no room"), 25);
    stop(&edge);
    start(&edge);
    finish(&edge);
    assert_int_equal(counted(&edge, "a"), 26);
    teardown(&edge);
}

// Lives that end anywhere: numbers of batches rise by one each, under one id, which on_send holds; and all that was durable is counted once.
static void sequence_numbers_never_go_back(void **state)
{
    (void)state;
    struct edge edge;
    int64_t taken = 0;
    setup(&edge);
    start(&edge);
    settle(&edge);
    for (unsigned life = 0; life < 60; life++) {
        for (unsigned i = 0; i < life % 5; i++) {
            assert_true(count(&edge, "a", 1));
            taken++;
            settle(&edge);
            if (edge.sent && (life + i) % 3) serve(&edge);
            if (edge.sent && (life + i) % 3 == 2) answer(&edge);
        }
        if (life % 7) settle(&edge);
        stop(&edge);
        start(&edge);
    }
    finish(&edge);
    assert_int_equal(counted(&edge, "a"), taken);
    assert_true(edge.sequence > 20 && edge.repeats > 5);
    teardown(&edge);
}

int main(void)
{
    if (!mkdtemp(directory)) return 1;
    signal(SIGXFSZ, SIG_IGN);
    tally_log_configure(TALLY_LOG_ERROR, TALLY_LOG_LOGFMT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_was_written_is_found, wipe),
        cmocka_unit_test_teardown(nothing_is_appended_to_nothing, wipe),
        cmocka_unit_test_teardown(a_file_cut_at_every_byte, wipe),
        cmocka_unit_test_teardown(a_torn_end_that_is_filled, wipe),
        cmocka_unit_test_teardown(every_flipped_bit, wipe),
        cmocka_unit_test_teardown(a_damaged_spool_is_set_aside, wipe),
        cmocka_unit_test_teardown(what_was_not_renamed_is_not_used, wipe),
        cmocka_unit_test_teardown(a_group_that_is_refused_ends_the_start, wipe),
        cmocka_unit_test_teardown(no_folder, wipe),
        cmocka_unit_test_teardown(a_full_disk, wipe),
        cmocka_unit_test_teardown(a_restart_in_the_middle_of_an_acknowledgement, wipe),
        cmocka_unit_test_teardown(at_the_bound_it_merges_on, wipe),
        cmocka_unit_test_teardown(a_disk_that_is_full_for_a_while, wipe),
        cmocka_unit_test_teardown(sequence_numbers_never_go_back, wipe),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(directory);
    return failed;
}

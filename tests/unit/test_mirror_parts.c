// SPDX-License-Identifier: Apache-2.0
//
// The inside of the mirror: pages under crowded lines, the arena's blocks, the bound of the directory's depth.
#include "../support/mirror_model.h"
#include "../support/with_cmocka.h"

#include "../../client-wasm/src/arena.h"
#include "../../client-wasm/src/page.h"

// ---------------------------------------------------------------------------------------------------- pages

struct naive_page {
    struct row rows[PAGE_ROWS_MAX];
    uint32_t count;
};

static void check_page(const union page *page, const struct naive_page *naive, uint64_t absent)
{
    assert_int_equal(page->head.rows, naive->count);
    for (uint32_t i = 0; i < naive->count; i++) {
        const struct row *row = page_find(page, naive->rows[i].fingerprint);
        assert_non_null(row);
        assert_true(row->value == naive->rows[i].value);
        uint32_t tag = tag_of(row->fingerprint), same = 0;
        for (uint32_t j = 0; j < naive->count; j++) same += tag_of(naive->rows[j].fingerprint) == tag;
        assert_ptr_equal(page_find_tag(page, tag), same == 1 ? row : NULL);
    }
    // A line's rows come before its free ones, by which searches know that it is not full.
    for (uint32_t i = 2; i < PAGE_LINES * PAGE_LINE_ROWS; i++)
        if (i % PAGE_LINE_ROWS) assert_true(page->cells[i - 1].fingerprint || !page->cells[i].fingerprint);
    assert_null(page_find_tag(page, TAG_NONE));
    assert_null(page_find(page, absent));
    assert_null(page_find(page, page->head.generation)); // which looks like a fingerprint of the first line
}

#define GENERATION 0x70000000u

// Fingerprints whose home lines are few, so that lines overflow into the next, round the end too; and the low values that the
// head of a page could be mistaken for.
static void test_page(void **state)
{
    (void)state;
    struct test_random random = test_random_start("mirror page");
    for (unsigned round = 0; round < 400; round++) {
        union page page;
        struct naive_page naive = {.count = 0};
        uint64_t first_line = test_random_below(&random, PAGE_LINES),
                 lines = test_random_between(&random, 1, PAGE_LINES);
        uint64_t unique = round % 3 ? test_random_next(&random) | 1ull << 40 : 0;
        mirror_page_init(&page, GENERATION, 3);
        for (unsigned step = 0; step < 300; step++) {
            uint64_t line = (first_line + test_random_below(&random, lines)) & (PAGE_LINES - 1);
            uint64_t fingerprint = ++unique << 36 | line << 32 | test_random_below(&random, 1u << 31);
            // Some share their upper half with another.
            if (naive.count && test_random_percent(&random, 10))
                fingerprint = naive.rows[0].fingerprint >> 32 << 32 | (fingerprint & 0x7fffffff) | 1u << 31;
            bool fill = step % 100 < 70;
            if (naive.count < PAGE_ROWS_MAX && (naive.count == 0 || test_random_percent(&random, fill ? 90 : 10))) {
                struct row row = {fingerprint, (int64_t)test_random_next(&random)};
                naive.rows[naive.count++] = row;
                mirror_page_insert(&page, row.fingerprint, row.value);
            } else {
                uint32_t which = (uint32_t)test_random_below(&random, naive.count);
                struct row *row = (struct row *)(uintptr_t)page_find(&page, naive.rows[which].fingerprint);
                mirror_page_remove(&page, row);
                naive.rows[which] = naive.rows[--naive.count];
            }
            check_page(&page, &naive, (unique + 1000) << 36 | line << 32);
            assert_true(page.head.generation == GENERATION && page.head.depth == 3);
        }
    }
}

static void test_page_split(void **state)
{
    (void)state;
    struct test_random random = test_random_start("mirror page split");
    for (unsigned round = 0; round < 200; round++) {
        union page low, high;
        struct naive_page naive[2] = {{.count = 0}, {.count = 0}};
        uint32_t depth = (uint32_t)test_random_below(&random, 30);
        mirror_page_init(&low, GENERATION, depth);
        for (uint32_t i = 0; i < PAGE_ROWS_MAX; i++) {
            struct row row = {test_random_next(&random) | 1, (int64_t)i};
            struct naive_page *side = &naive[row.fingerprint >> (63 - depth) & 1];
            side->rows[side->count++] = row;
            mirror_page_insert(&low, row.fingerprint, row.value);
        }
        mirror_page_split(&low, &high);
        check_page(&low, &naive[0], 2);
        check_page(&high, &naive[1], 2);
        assert_true(low.head.depth == depth + 1 && high.head.depth == depth + 1 && high.head.generation == GENERATION);
    }
}

// ---------------------------------------------------------------------------------------------------- arena

#define BLOCKS 300u

static void test_arena(void **state)
{
    (void)state;
    struct test_random random = test_random_start("mirror arena");
    struct test_memory memory;
    test_memory_init(&memory, (size_t)4 << 20);
    memory.step_max = 65536;
    struct tally_mirror *mirror = test_mirror(&memory, "main", 0);
    uint64_t used = mirror->arena.used_lines;
    struct {
        uint32_t block;
        size_t bytes;
    } blocks[BLOCKS] = {{0, 0}};
    unsigned refused = 0;
    for (unsigned step = 0; step < 60000; step++) {
        unsigned i = (unsigned)test_random_below(&random, BLOCKS);
        uint8_t *at_block = at(mirror, blocks[i].block);
        if (blocks[i].block) {
            // Nobody else wrote into it.
            assert_true(at_block[0] == (uint8_t)i && at_block[blocks[i].bytes - 1] == (uint8_t)i);
            assert_true(at_block[blocks[i].bytes / 2] == (uint8_t)i);
            mirror_arena_free(mirror, blocks[i].block, blocks[i].bytes);
            blocks[i].block = 0;
            continue;
        }
        blocks[i].bytes = 1 + test_random_wide(&random) % (step % 7 ? 3000 : 100000);
        blocks[i].block = mirror_arena_alloc(mirror, &memory.memory, blocks[i].bytes);
        refused += blocks[i].block == 0;
        if (!blocks[i].block) continue;
        size_t bytes = mirror_arena_block_bytes(blocks[i].bytes);
        assert_true(bytes >= blocks[i].bytes && bytes <= blocks[i].bytes * 5 / 4 + 2 * LINE_BYTES);
        at_block = at(mirror, blocks[i].block);
        assert_true(at_block + bytes <= (uint8_t *)memory.memory.base + memory.memory.size);
        memset(at_block, (int)i, bytes);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        if (blocks[i].block) mirror_arena_free(mirror, blocks[i].block, blocks[i].bytes);
    assert_true(mirror->arena.used_lines == used);
    // More than there is, and nothing.
    assert_int_equal(mirror_arena_alloc(mirror, &memory.memory, memory.memory.size_max + 1), 0);
    assert_int_equal(mirror_arena_alloc(mirror, &memory.memory, SIZE_MAX), 0);
    assert_int_equal(mirror_arena_alloc(mirror, &memory.memory, 0), 0);
    assert_int_equal(mirror_arena_alloc(mirror, &memory.memory, memory.memory.size_max), 0);
    printf("# %u refused\n", refused);
    test_memory_deinit(&memory);
}

#define DRIFTERS 2000u

// Blocks whose sizes drift, as those of keys do: what small ones took becomes large ones, and the other way round.
static void test_arena_of_drifting_sizes(void **state)
{
    (void)state;
    struct test_random random = test_random_start("mirror arena: drift");
    struct test_memory memory;
    test_memory_init(&memory, (size_t)128 << 20);
    struct tally_mirror *mirror = test_mirror(&memory, "main", 0);
    uint64_t used = mirror->arena.used_lines;
    static struct {
        uint32_t block;
        uint32_t bytes;
    } blocks[DRIFTERS];
    memset(blocks, 0, sizeof blocks);
    for (unsigned step = 0; step < 400000; step++) {
        unsigned i = (unsigned)test_random_below(&random, DRIFTERS), phase = step / 4000 % 100;
        uint32_t middle = (phase < 50 ? phase : 99 - phase) * 160; // up to 8000 bytes, and down again
        if (blocks[i].block) {
            const uint32_t *words = at(mirror, blocks[i].block);
            assert_true(words[0] == i && words[blocks[i].bytes / 4 - 1] == i);
            mirror_arena_free(mirror, blocks[i].block, blocks[i].bytes);
        }
        blocks[i].bytes = (64 + middle + (uint32_t)test_random_below(&random, 64 + middle / 8)) & ~3u;
        blocks[i].block = mirror_arena_alloc(mirror, &memory.memory, blocks[i].bytes);
        assert_true(blocks[i].block);
        uint32_t *words = at(mirror, blocks[i].block);
        words[0] = words[blocks[i].bytes / 4 - 1] = i;
    }
    double times = (double)mirror->arena.bump / (double)mirror->arena.used_lines_max;
    print_message("# %.2f times the most that was used\n", times);
    assert_true(times < 1.8);
    for (unsigned i = 0; i < DRIFTERS; i++)
        if (blocks[i].block) mirror_arena_free(mirror, blocks[i].block, blocks[i].bytes);
    assert_true(mirror->arena.used_lines == used);
    test_memory_deinit(&memory);
}

// ---------------------------------------------------------------------------------------------------- depth

// Keys chosen with the seed known, so that their fingerprints share `bits` top bits.
static uint32_t next_of_prefix(struct tally_seed seed, uint32_t key, unsigned bits)
{
    uint8_t room[TALLY_KEY_BYTES_MAX];
    for (;;) {
        struct tally_bytes bytes = model_key(++key, room);
        if (tally_fingerprint(seed, bytes.data, bytes.size) >> (64 - bits) == 5) return key;
    }
}

static void test_depth_is_bounded(void **state)
{
    (void)state;
    struct test_memory memory;
    test_memory_init(&memory, (size_t)4 << 20);
    struct tally_mirror *mirror = test_mirror(&memory, "main", 0);
    struct model model = {.epoch = 1, .version = 1, .seed = {3, 4}}, more;
    model_add_table(&model);
    uint32_t key = 0;
    for (uint32_t id = 0; id < PAGE_ROWS_MAX; id++) {
        key = next_of_prefix(model.seed, key, 9);
        model_set(&model, 0, id, key, id);
    }
    assert_int_equal(model_step(mirror, &memory.memory, NULL, &model, UINT32_MAX), TALLY_OK);
    model_copy(&more, &model);
    more.version = 2;
    model_set(&more, 0, PAGE_ROWS_MAX, next_of_prefix(model.seed, key, 9), 1);
    assert_int_equal(model_step(mirror, &memory.memory, &model, &more, UINT32_MAX), TALLY_CLASH);
    model_check_newest(mirror, &model);
    // Another seed, in a new epoch, spreads them.
    more.epoch++;
    more.seed = tally_seed_next(more.seed, 2);
    assert_int_equal(model_step(mirror, &memory.memory, NULL, &more, UINT32_MAX), TALLY_OK);
    model_check_newest(mirror, &more);
    model_free(&model);
    model_free(&more);
    test_memory_deinit(&memory);
}

// ---------------------------------------------------------------------------------------------------- forks

static const struct table *first_table(const struct tally_mirror *mirror)
{
    return root_table(mirror, at(mirror, atomic_load(&mirror->root)), 0);
}

// From one size of a table to a larger one, where the directory gets forks and then another bit: with rows of every page changed, some
// removed and some added; and again with the memory ending somewhere on the way.
static void grow_and_change(struct test_random *random, uint32_t rows, uint32_t more, bool deeper)
{
    struct test_memory memory;
    test_memory_init(&memory, (size_t)16 << 20);
    struct tally_mirror *mirror = test_mirror(&memory, "main", 0);
    struct model model = {.epoch = 1, .version = 1, .seed = {rows, more}}, next;
    model_add_table(&model);
    for (uint32_t id = 0; id < rows; id++) model_set(&model, 0, id, id + 1, id);
    assert_int_equal(model_step(mirror, &memory.memory, NULL, &model, UINT32_MAX), TALLY_OK);
    model_check_newest(mirror, &model);
    uint32_t depth = first_table(mirror)->depth;
    assert_true(first_table(mirror)->forks > 0);

    model_copy(&next, &model);
    next.version = 2;
    for (uint32_t id = 0; id < rows; id++) {
        if (test_random_percent(random, 30)) next.table[0].rows[id].value += 1000 + id;
        if (test_random_percent(random, 5)) model_set(&next, 0, id, 0, 0);
    }
    for (uint32_t id = rows; id < rows + more; id++) model_set(&next, 0, id, id + 1, id);
    for (unsigned i = 0; i < 8; i++) {
        memory.fail_at = memory.grows + 1 + i * i;
        enum tally_status status = model_step(mirror, &memory.memory, &model, &next, UINT32_MAX);
        if (status == TALLY_OK) break;
        assert_int_equal(status, TALLY_NO_MEMORY);
        model_check_newest(mirror, &model);
    }
    memory.fail_at = 0;
    if (first_table(mirror)->rows == rows)
        assert_int_equal(model_step(mirror, &memory.memory, &model, &next, UINT32_MAX), TALLY_OK);
    model_check_newest(mirror, &next);
    assert_int_equal(first_table(mirror)->depth > depth, deeper);
    model_free(&model);

    // A whole state replaces all of it, and leaves nothing behind.
    model = (struct model){.epoch = 2, .version = 1, .seed = {1, 2}};
    model_add_table(&model);
    model_set(&model, 0, 0, 1, 1);
    assert_int_equal(model_step(mirror, &memory.memory, NULL, &model, UINT32_MAX), TALLY_OK);
    model_check_newest(mirror, &model);
    assert_true(mirror->arena.used_lines * LINE_BYTES < 64 * 1024);
    model_free(&model);
    model_free(&next);
    test_memory_deinit(&memory);
}

static void test_forks(void **state)
{
    (void)state;
    struct test_random random = test_random_start("mirror forks");
    grow_and_change(&random, 10500, 500, false);
    grow_and_change(&random, 11000, 6000, true);
    grow_and_change(&random, 21500, 12000, true);
}

// ---------------------------------------------------------------------------------------------------- tags

#define TAGGED_KEYS 200000u

struct tagged {
    uint32_t tag, key;
};

static int by_tag(const void *a, const void *b)
{
    const struct tagged *x = a, *y = b;
    if (x->tag != y->tag) return x->tag < y->tag ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

// Keys chosen with the seed known, so that two rows of one page share a tag: the tag does not tell which is meant.
static void test_same_tag(void **state)
{
    (void)state;
    struct tally_seed seed = {5, 6};
    struct tagged *keys = malloc(TAGGED_KEYS * sizeof *keys);
    assert_non_null(keys);
    for (uint32_t i = 0; i < TAGGED_KEYS; i++) {
        uint8_t room[TALLY_KEY_BYTES_MAX];
        struct tally_bytes bytes = model_key(i + 1, room);
        keys[i] = (struct tagged){tag_of(tally_fingerprint(seed, bytes.data, bytes.size)), i + 1};
    }
    qsort(keys, TAGGED_KEYS, sizeof *keys, by_tag);
    uint32_t twin = 0;
    while (twin + 1 < TAGGED_KEYS && keys[twin].tag != keys[twin + 1].tag) twin++;
    assert_true(twin + 1 < TAGGED_KEYS);

    struct test_memory memory;
    test_memory_init(&memory, (size_t)4 << 20);
    struct tally_mirror *mirror = test_mirror(&memory, "main", 0);
    struct model model = {.epoch = 1, .version = 1, .seed = seed}, next;
    model_add_table(&model);
    for (uint32_t id = 0; id < 500; id++) {
        uint32_t at = id < 2 ? twin + id : twin + id * 397; // the others from all over
        model_set(&model, 0, id, keys[at % TAGGED_KEYS].key, id);
    }
    assert_int_equal(model_step(mirror, &memory.memory, NULL, &model, UINT32_MAX), TALLY_OK);
    model_check_newest(mirror, &model);
    model_copy(&next, &model);
    next.version = 2;
    next.table[0].rows[0].value += 100; // the first of the two
    assert_int_equal(model_step(mirror, &memory.memory, &model, &next, UINT32_MAX), TALLY_OK);
    model_check_newest(mirror, &next);
    model_free(&model);
    model_copy(&model, &next);
    model.version = 3;
    model_set(&model, 0, 1, 0, 0); // the other one goes
    model.table[0].rows[0].value += 5;
    assert_int_equal(model_step(mirror, &memory.memory, &next, &model, UINT32_MAX), TALLY_OK);
    model_check_newest(mirror, &model);
    model_free(&model);
    model_free(&next);
    free(keys);
    test_memory_deinit(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page),
        cmocka_unit_test(test_page_split),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_arena_of_drifting_sizes),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_same_tag),
        cmocka_unit_test(test_forks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

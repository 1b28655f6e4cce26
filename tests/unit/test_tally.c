// SPDX-License-Identifier: Apache-2.0
//
// The contract of tally.h, the same for both maps, by one thread; threads are in tests/threads/test_tally_threads.c.
#include "../support/random.h"
#include "../support/with_cmocka.h"

#include "../../client-wasm/src/tally_map.h"

#define ROOM (1u << 20)

static _Alignas(64) uint8_t room[ROOM];

struct world {
    struct tally_map *map;
    struct tally_member member;
    uint32_t table;
};

static struct world world_of(enum tally_map_kind kind, size_t bytes)
{
    const struct tally_map_options options = {.kind = kind, .seed = {1, 2}, .shards = bytes < ROOM ? 4 : 0};
    struct world world;
    memset(room, 0xa5, sizeof room); // it need not be zeroed
    assert_int_equal(tally_map_init(room, bytes, &options, &world.map), TALLY_OK);
    assert_int_equal(tally_map_join(world.map, NULL, &world.member), TALLY_OK);
    assert_int_equal(tally_map_table(world.map, tally_bytes("files", 5), &world.table), TALLY_OK);
    return world;
}

static struct tally_bytes text(const char *key) { return tally_bytes(key, strlen(key)); }

static int64_t get(struct world *world, const char *key)
{
    int64_t amount = -1;
    assert_int_equal(tally_map_get(&world->member, world->table, text(key), &amount), TALLY_OK);
    return amount;
}

static void add(struct world *world, const char *key, int64_t amount)
{
    assert_int_equal(tally_map_add(&world->member, world->table, text(key), amount), TALLY_OK);
}

static struct tally_map_stats stats_of(const struct world *world)
{
    struct tally_map_stats stats;
    tally_map_stats(world->map, &stats);
    return stats;
}

static void drain_all(struct world *world, uint64_t *out_keys, uint64_t *out_sum)
{
    struct tally_drain drain;
    struct tally_entry entry;
    *out_keys = *out_sum = 0;
    assert_int_equal(tally_drain_begin(&world->member, &drain), TALLY_OK);
    while (tally_drain_next(&drain, &entry)) {
        ++*out_keys;
        *out_sum += (uint64_t)entry.amount;
    }
    tally_drain_end(&drain);
}

// ---------------------------------------------------------------------------------------------------- one by one

static void check_counts(enum tally_map_kind kind)
{
    struct world world = world_of(kind, ROOM);
    uint64_t keys, sum;
    assert_int_equal(get(&world, "a"), 0);
    add(&world, "a", 1);
    add(&world, "b", 5);
    add(&world, "a", 41);
    add(&world, "nothing", 0);
    assert_int_equal(get(&world, "a"), 42);
    assert_int_equal(get(&world, "b"), 5);
    assert_int_equal(tally_map_len(world.map), 3);
    drain_all(&world, &keys, &sum);
    assert_int_equal(keys, 3);
    assert_int_equal(sum, 47);
    assert_int_equal(get(&world, "a"), 0);
    assert_int_equal(tally_map_len(world.map), 0);
    drain_all(&world, &keys, &sum);
    assert_int_equal(keys, 0);
    struct tally_map_stats stats = stats_of(&world);
    assert_int_equal(stats.adds, 4);
    assert_int_equal(stats.drains, 2);
    assert_int_equal(stats.refused, 0);
    assert_int_equal(stats.bytes, ROOM);
}

static void check_tables(enum tally_map_kind kind)
{
    struct world world = world_of(kind, ROOM);
    uint32_t repos, again, last = 0;
    char name[16];
    assert_int_equal(tally_map_table(world.map, text("repos"), &repos), TALLY_OK);
    assert_int_not_equal(repos, world.table);
    assert_int_equal(tally_map_table(world.map, text("files"), &again), TALLY_OK);
    assert_int_equal(again, world.table);
    assert_true(tally_bytes_equal(tally_map_table_name(world.map, repos), text("repos")));
    assert_int_equal(tally_map_table_name(world.map, repos + 1).size, 0);
    assert_int_equal(tally_map_table_name(world.map, TALLY_MAP_TABLES_MAX).size, 0);

    // The same key in two tables is two counts.
    add(&world, "key", 1);
    assert_int_equal(tally_map_add(&world.member, repos, text("key"), 2), TALLY_OK);
    assert_int_equal(get(&world, "key"), 1);
    assert_int_equal(tally_map_len(world.map), 2);

    for (uint32_t i = 2; i < TALLY_MAP_TABLES_MAX; i++) {
        snprintf(name, sizeof name, "t%u", i);
        assert_int_equal(tally_map_table(world.map, text(name), &last), TALLY_OK);
    }
    assert_int_equal(last, TALLY_MAP_TABLES_MAX - 1);
    assert_int_equal(tally_map_table(world.map, text("one-more"), &last), TALLY_FULL);
    assert_int_equal(tally_map_table(world.map, text("t2"), &last), TALLY_OK);
    assert_int_equal(tally_map_table(world.map, text("Upper"), &last), TALLY_INVALID);
    assert_int_equal(tally_map_table(world.map, text(""), &last), TALLY_INVALID);
}

static void check_bad_input(enum tally_map_kind kind)
{
    struct world world = world_of(kind, ROOM);
    static const uint8_t longest[TALLY_KEY_BYTES_MAX + 1] = {0};
    int64_t amount;
    assert_int_equal(tally_map_add(&world.member, world.table, text("k"), -1), TALLY_INVALID);
    assert_int_equal(tally_map_add(&world.member, world.table, text("k"), TALLY_MAP_AMOUNT_MAX + 1), TALLY_INVALID);
    assert_int_equal(tally_map_add(&world.member, world.table + 1, text("k"), 1), TALLY_INVALID);
    assert_int_equal(tally_map_add(&world.member, TALLY_MAP_TABLES_MAX, text("k"), 1), TALLY_INVALID);
    assert_int_equal(tally_map_add(&world.member, world.table, text(""), 1), TALLY_LIMIT);
    assert_int_equal(tally_map_add(&world.member, world.table, tally_bytes(longest, sizeof longest), 1), TALLY_LIMIT);
    assert_int_equal(tally_map_add(&world.member, world.table, tally_bytes(longest, sizeof longest - 1), 7), TALLY_OK);
    assert_int_equal(tally_map_get(&world.member, world.table, tally_bytes(longest, sizeof longest - 1), &amount),
                     TALLY_OK);
    assert_int_equal(amount, 7);
    assert_int_equal(tally_map_get(&world.member, world.table, text(""), &amount), TALLY_LIMIT);
    assert_int_equal(tally_map_get(&world.member, world.table + 1, text("k"), &amount), TALLY_INVALID);
    assert_int_equal(tally_map_len(world.map), 1);
    assert_int_equal(stats_of(&world).refused, 0); // wrong use is not want of room
}

// Sums stop short of what 63 bits hold, and what is over is refused and told.
static void check_sums(enum tally_map_kind kind)
{
    struct world world = world_of(kind, ROOM);
    uint64_t keys, sum, accepted = 0, refused = 0;
    for (uint32_t i = 0; i < 600; i++) {
        enum tally_status status = tally_map_add(&world.member, world.table, text("much"), TALLY_MAP_AMOUNT_MAX);
        if (status == TALLY_OK)
            accepted += TALLY_MAP_AMOUNT_MAX;
        else
            refused += TALLY_MAP_AMOUNT_MAX;
        assert_true(status == TALLY_OK || status == TALLY_FULL);
    }
    assert_true(refused > 0);
    assert_true(accepted <= (uint64_t)INT64_MAX);
    assert_true(stats_of(&world).refused_amount == refused);
    drain_all(&world, &keys, &sum);
    assert_true(sum == accepted);
}

// A full map refuses new keys, counts what it refused, goes on counting the ones it has, and has room again after a drain.
static void check_full(enum tally_map_kind kind)
{
    struct world world = world_of(kind, 256u << 10);
    uint64_t accepted = 0, refused = 0, keys, sum;
    char key[32];
    for (unsigned round = 0; round < 3; round++) {
        accepted = refused = 0;
        for (uint32_t i = 0; i < 20000; i++) {
            snprintf(key, sizeof key, "key/%u/%u", round, i);
            enum tally_status status = tally_map_add(&world.member, world.table, text(key), 3);
            assert_true(status == TALLY_OK || status == TALLY_FULL);
            if (status == TALLY_OK)
                accepted++;
            else
                refused++;
        }
        assert_true(accepted > 1000 && refused > 1000);
        assert_int_equal(tally_map_len(world.map), accepted);
        snprintf(key, sizeof key, "key/%u/0", round);
        add(&world, key, 4);
        assert_int_equal(get(&world, key), 7);
        assert_int_equal(stats_of(&world).refused, (round + 1) * refused);
        assert_int_equal(stats_of(&world).refused_amount, (round + 1) * refused * 3);
        drain_all(&world, &keys, &sum);
        assert_int_equal(keys, accepted);
        assert_int_equal(sum, accepted * 3 + 4);
        // The same room for the next: nothing was left behind in either half.
        drain_all(&world, &keys, &sum);
        assert_int_equal(keys, 0);
    }
}

// ---------------------------------------------------------------------------------------------------- exchange

static int64_t exchange(struct world *world, const char *key, int64_t amount)
{
    int64_t was = -2;
    assert_int_equal(tally_map_exchange(&world->member, world->table, text(key), amount, &was), TALLY_OK);
    return was;
}

static int64_t find(struct world *world, const char *key)
{
    int64_t amount = -2;
    assert_int_equal(tally_map_find(&world->member, world->table, text(key), &amount), TALLY_OK);
    return amount;
}

static void check_exchange(enum tally_map_kind kind)
{
    struct world world = world_of(kind, ROOM);
    uint64_t keys, sum;
    int64_t was = -7;
    assert_int_equal(exchange(&world, "none", TALLY_MAP_NONE), TALLY_MAP_NONE);
    assert_int_equal(find(&world, "none"), TALLY_MAP_NONE);
    assert_int_equal(tally_map_len(world.map), 0);
    assert_int_equal(exchange(&world, "a", 5), TALLY_MAP_NONE);
    assert_int_equal(exchange(&world, "a", 0), 5);
    assert_int_equal(tally_map_len(world.map), 1); // 0 is an amount
    assert_int_equal(find(&world, "a"), 0);
    add(&world, "a", 3);
    assert_int_equal(exchange(&world, "a", TALLY_MAP_EXCHANGE_MAX), 3);
    assert_int_equal(get(&world, "a"), TALLY_MAP_EXCHANGE_MAX);
    assert_int_equal(exchange(&world, "a", TALLY_MAP_NONE), TALLY_MAP_EXCHANGE_MAX);
    assert_int_equal(exchange(&world, "a", TALLY_MAP_NONE), TALLY_MAP_NONE);
    assert_int_equal(get(&world, "a"), 0);
    assert_int_equal(find(&world, "a"), TALLY_MAP_NONE);
    assert_int_equal(tally_map_len(world.map), 0);

    // What was taken out comes in no drain; an addition brings it back, one of 0 does not.
    add(&world, "b", 7);
    assert_int_equal(exchange(&world, "c", 9), TALLY_MAP_NONE);
    add(&world, "a", 0);
    assert_int_equal(tally_map_len(world.map), 2);
    add(&world, "a", 2);
    add(&world, "a", 2);
    assert_int_equal(tally_map_len(world.map), 3);
    assert_int_equal(exchange(&world, "b", TALLY_MAP_NONE), 7);
    drain_all(&world, &keys, &sum);
    assert_int_equal(keys, 2);
    assert_int_equal(sum, 13);
    assert_int_equal(exchange(&world, "a", 1), TALLY_MAP_NONE); // another generation

    assert_int_equal(tally_map_exchange(&world.member, world.table, text("a"), -2, &was), TALLY_INVALID);
    assert_int_equal(tally_map_exchange(&world.member, world.table, text("a"), TALLY_MAP_EXCHANGE_MAX + 1, &was),
                     TALLY_INVALID);
    assert_int_equal(tally_map_exchange(&world.member, world.table + 1, text("a"), 1, &was), TALLY_INVALID);
    assert_int_equal(tally_map_exchange(&world.member, world.table, text(""), 1, &was), TALLY_LIMIT);
    assert_int_equal(was, -7);
    assert_int_equal(stats_of(&world).refused, 0);
}

// Keys that come and go take room until the generation is emptied, and a full map says so.
static void check_exchange_full(enum tally_map_kind kind)
{
    struct world world = world_of(kind, 256u << 10);
    enum tally_status status = TALLY_OK;
    char key[32];
    int64_t was;
    uint64_t keys, sum;
    for (unsigned round = 0; round < 3; round++) {
        uint32_t accepted = 0;
        for (uint32_t i = 0; i < 20000; i++) {
            snprintf(key, sizeof key, "key/%u/%u", round, i);
            status = tally_map_exchange(&world.member, world.table, text(key), i, &was);
            if (status == TALLY_OK) {
                accepted++;
                assert_int_equal(exchange(&world, key, TALLY_MAP_NONE), i);
            }
        }
        assert_int_equal(status, TALLY_FULL);
        assert_true(accepted > 1000 && accepted < 19000);
        assert_int_equal(tally_map_len(world.map), 0);
        assert_int_equal(stats_of(&world).refused, (round + 1) * (20000 - accepted));
        for (uint32_t i = 0; i < 10; i++) {
            snprintf(key, sizeof key, "key/%u/%u", round, i); // these have their room still
            assert_int_equal(exchange(&world, key, 1), TALLY_MAP_NONE);
        }
        drain_all(&world, &keys, &sum);
        assert_int_equal(keys, 10);
        drain_all(&world, &keys, &sum);
        assert_int_equal(keys, 0);
    }
}

// ---------------------------------------------------------------------------------------------------- members and drainers

static void check_members(enum tally_map_kind kind)
{
    struct world world = world_of(kind, ROOM);
    struct tally_member members[TALLY_MEMBERS_MAX], one_more;
    for (uint32_t i = 1; i < TALLY_MEMBERS_MAX; i++)
        assert_int_equal(tally_map_join(world.map, NULL, &members[i]), TALLY_OK);
    assert_int_equal(tally_map_join(world.map, NULL, &one_more), TALLY_FULL);
    assert_int_equal(tally_map_add(&members[7], world.table, text("k"), 1), TALLY_OK);
    tally_map_leave(&members[7]);
    assert_int_equal(tally_map_join(world.map, NULL, &one_more), TALLY_OK);
    assert_int_equal(one_more.slot, 7);
    assert_int_equal(stats_of(&world).adds, 1); // who left has counted
    tally_map_evict(&world.member, 9);
    assert_int_equal(stats_of(&world).evicted, 1);
    tally_map_evict(&world.member, 9); // it is not there any more
    tally_map_evict(&world.member, TALLY_MEMBERS_MAX);
    tally_map_evict(&world.member, world.member.slot); // oneself is still here
    assert_int_equal(stats_of(&world).evicted, 1);
    assert_int_equal(tally_map_join(world.map, NULL, &one_more), TALLY_OK);
    assert_int_equal(one_more.slot, 9);
}

// A drainer that vanished: the next one gets the same entries, and only then are they gone.
static void check_drainer_gone(enum tally_map_kind kind)
{
    struct world world = world_of(kind, ROOM);
    struct tally_drain gone;
    struct tally_entry entry;
    uint64_t keys, sum;
    add(&world, "a", 1);
    add(&world, "b", 2);
    assert_int_equal(tally_drain_begin(&world.member, &gone), TALLY_OK);
    assert_true(tally_drain_next(&gone, &entry));
    add(&world, "a", 10);
    drain_all(&world, &keys, &sum);
    assert_int_equal(keys, 2);
    assert_int_equal(sum, 3);
    drain_all(&world, &keys, &sum);
    assert_int_equal(keys, 1);
    assert_int_equal(sum, 10);
}

// ABA, and a thread that ended inside an addition: while a member has announced a generation its half is neither handed out nor emptied
// nor used again, however often the drainer comes; evicting it is what frees it.
static void test_a_member_that_sleeps(void **state)
{
    (void)state;
    struct world world = world_of(TALLY_MAP_CAS, ROOM);
    struct tally_member sleeper;
    struct tally_drain drain;
    uint64_t keys, sum;
    add(&world, "a", 1);
    assert_int_equal(tally_map_join(world.map, NULL, &sleeper), TALLY_OK);
    // As tally_cas.c's `enter` leaves it, before the exchange.
    atomic_store(&world.map->slots[sleeper.slot].announced, atomic_load(&world.map->generation));
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(tally_drain_begin(&world.member, &drain), TALLY_BUSY);
        add(&world, "a", 1); // others go on, in the other half
    }
    assert_int_equal(get(&world, "a"), 5);
    assert_int_equal(atomic_load(&world.map->generation), 2);
    tally_map_evict(&world.member, sleeper.slot);
    drain_all(&world, &keys, &sum);
    assert_int_equal(sum, 1);
    drain_all(&world, &keys, &sum);
    assert_int_equal(sum, 5);
}

// A shard's lock whose holder is gone: additions there are refused and counted, the drain waits, and evicting frees it.
static void test_a_lock_that_is_left(void **state)
{
    (void)state;
    struct world world = world_of(TALLY_MAP_SHARDED, ROOM);
    struct tally_member holder;
    struct tally_drain drain;
    uint64_t keys, sum;
    add(&world, "a", 1);
    assert_int_equal(tally_map_join(world.map, NULL, &holder), TALLY_OK);
    struct shard *shards = map_at(world.map, world.map->shards_at);
    for (uint32_t i = 0; i < world.map->shards; i++) atomic_store(&shards[i].lock, holder.slot + 1);
    assert_int_equal(tally_map_add(&world.member, world.table, text("a"), 1), TALLY_BUSY);
    assert_int_equal(stats_of(&world).refused, 1);
    assert_true(stats_of(&world).contention > 0);
    assert_int_equal(tally_drain_begin(&world.member, &drain), TALLY_BUSY);
    tally_map_evict(&world.member, holder.slot);
    add(&world, "a", 1); // already in the next half, or still in the first: both come out
    drain_all(&world, &keys, &sum);
    uint64_t first = sum;
    drain_all(&world, &keys, &sum);
    assert_int_equal(first + sum, 2);
}

// ---------------------------------------------------------------------------------------------------- at random

#define KEYS 400u

// Beside a plain array: amounts, and TALLY_MAP_NONE.
static void check_random_exchange(enum tally_map_kind kind)
{
    struct test_random random =
        test_random_start(kind == TALLY_MAP_CAS ? "tally cas exchange" : "tally sharded exchange");
    struct world world = world_of(kind, ROOM);
    int64_t now[KEYS];
    uint64_t there = 0, sum = 0, keys, drained;
    char key[16];
    for (uint32_t i = 0; i < KEYS; i++) now[i] = TALLY_MAP_NONE;
    for (unsigned step = 0; step < 30000; step++) {
        uint32_t i = (uint32_t)test_random_below(&random, KEYS);
        int64_t amount = (int64_t)test_random_between(&random, 1, 1000), was = now[i];
        snprintf(key, sizeof key, "%u", i);
        switch (test_random_below(&random, 500) ? test_random_below(&random, 4) : 4) {
        case 0:
            add(&world, key, amount);
            now[i] = amount + (was == TALLY_MAP_NONE ? 0 : was);
            break;
        case 1: amount = TALLY_MAP_NONE; // fallthrough
        case 2:
            assert_int_equal(exchange(&world, key, amount), was);
            now[i] = amount;
            break;
        case 3: assert_int_equal(get(&world, key), was == TALLY_MAP_NONE ? 0 : was); break;
        default:
            drain_all(&world, &keys, &drained);
            assert_int_equal(keys, there);
            assert_int_equal(drained, sum);
            for (uint32_t k = 0; k < KEYS; k++) now[k] = TALLY_MAP_NONE;
        }
        for (there = sum = i = 0; i < KEYS; i++) {
            there += now[i] != TALLY_MAP_NONE;
            sum += now[i] != TALLY_MAP_NONE ? (uint64_t)now[i] : 0;
        }
        assert_int_equal(tally_map_len(world.map), there);
    }
}

static void check_random(enum tally_map_kind kind)
{
    struct test_random random = test_random_start(kind == TALLY_MAP_CAS ? "tally cas" : "tally sharded");
    struct world world = world_of(kind, ROOM);
    int64_t now[KEYS] = {0}, seen[KEYS];
    char key[16];
    for (unsigned step = 0; step < 30000; step++) {
        uint32_t i = (uint32_t)test_random_below(&random, KEYS);
        snprintf(key, sizeof key, "%u", i * i);
        if (test_random_percent(&random, 80)) {
            int64_t amount = (int64_t)test_random_below(&random, 1000);
            add(&world, key, amount);
            now[i] += amount;
        } else if (test_random_percent(&random, 95)) {
            assert_int_equal(get(&world, key), now[i]);
        } else {
            struct tally_drain drain;
            struct tally_entry entry;
            memset(seen, 0, sizeof seen);
            assert_int_equal(tally_drain_begin(&world.member, &drain), TALLY_OK);
            while (tally_drain_next(&drain, &entry)) {
                unsigned square = 0, root = 0;
                for (size_t n = 0; n < entry.key.size; n++) square = square * 10 + (entry.key.data[n] - '0');
                while (root * root < square) root++;
                assert_int_equal(seen[root], 0);
                seen[root] = entry.amount;
            }
            tally_drain_end(&drain);
            assert_memory_equal(seen, now, sizeof now);
            memset(now, 0, sizeof now);
        }
    }
}

static void test_init(void **state)
{
    (void)state;
    struct tally_map *map;
    struct tally_map_options options = {.kind = TALLY_MAP_CAS};
    assert_int_equal(tally_map_init(room, TALLY_MAP_BYTES_MIN - 1, &options, &map), TALLY_INVALID);
    assert_int_equal(tally_map_init(room, TALLY_MAP_BYTES_MIN, &options, &map), TALLY_OK);
    assert_int_equal(tally_map_init(room + 8, TALLY_MAP_BYTES_MIN, &options, &map), TALLY_INVALID);
    assert_int_equal(tally_map_init(NULL, TALLY_MAP_BYTES_MIN, &options, &map), TALLY_INVALID);
    options.kind = TALLY_MAP_SHARDED;
    assert_int_equal(tally_map_init(room, TALLY_MAP_BYTES_MIN, &options, &map), TALLY_INVALID); // for 64 shards
    options.shards = 8;
    assert_int_equal(tally_map_init(room, TALLY_MAP_BYTES_MIN, &options, &map), TALLY_OK);
    options.shards = 6;
    assert_int_equal(tally_map_init(room, ROOM, &options, &map), TALLY_INVALID);
    options.shards = TALLY_MAP_SHARDS_MAX * 2;
    assert_int_equal(tally_map_init(room, ROOM, &options, &map), TALLY_INVALID);
    options = (struct tally_map_options){.kind = (enum tally_map_kind)2};
    assert_int_equal(tally_map_init(room, ROOM, &options, &map), TALLY_INVALID);
}

#define CONTRACT(name)                                                                                                 \
    static void test_cas_##name(void **state)                                                                          \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        check_##name(TALLY_MAP_CAS);                                                                                   \
    }                                                                                                                  \
    static void test_sharded_##name(void **state)                                                                      \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        check_##name(TALLY_MAP_SHARDED);                                                                               \
    }
#define BOTH(name) cmocka_unit_test(test_cas_##name), cmocka_unit_test(test_sharded_##name)

CONTRACT(counts)
CONTRACT(tables)
CONTRACT(bad_input)
CONTRACT(sums)
CONTRACT(full)
CONTRACT(exchange)
CONTRACT(exchange_full)
CONTRACT(random_exchange)
CONTRACT(members)
CONTRACT(drainer_gone)
CONTRACT(random)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),
        BOTH(counts),
        BOTH(tables),
        BOTH(bad_input),
        BOTH(sums),
        BOTH(full),
        BOTH(exchange),
        BOTH(exchange_full),
        BOTH(random_exchange),
        BOTH(members),
        BOTH(drainer_gone),
        BOTH(random),
        cmocka_unit_test(test_a_member_that_sleeps),
        cmocka_unit_test(test_a_lock_that_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
//
// A guest for tests: the path says what it does, most of it wrong.
#include <tallycast/guest.h>

#define PAGE 65536u

static char path[256];
static uint8_t body[1 << 20];
static uint32_t calls; // since this instance was made
static int64_t values[4096];
static uint8_t found[4096];

static void say_number(uint64_t number)
{
    char digits[20], *at = digits + sizeof digits;
    do *--at = (char)('0' + number % 10);
    while (number /= 10);
    tallycast_respond(at, (uint32_t)(digits + sizeof digits - at));
}

static uint32_t is(const char *word)
{
    uint32_t i = 0;
    while (word[i] && word[i] == path[i]) i++;
    return !word[i] && (path[i] == 0 || path[i] == '?');
}

static uint32_t number_behind(const char *word)
{
    uint32_t i = 0, number = 0;
    while (word[i] && word[i] == path[i]) i++;
    if (word[i]) return 0;
    while (path[i] >= '0' && path[i] <= '9') number = number * 10 + (uint32_t)(path[i++] - '0');
    return number;
}

// The same keys by get_many, to 512 at a time.
static int32_t read_body_many(uint32_t rounds)
{
    uint32_t size = tallycast_request_body(body, sizeof body), hits = 0;
    int32_t table = tallycast_table("files", 5);
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t at = 0; at + 4 <= size;) {
            uint32_t from = at, count = 0;
            for (; count < 512 && at + 4 <= size; count++)
                at += 4 + (body[at] | (uint32_t)body[at + 1] << 8 | (uint32_t)body[at + 2] << 16);
            hits += tallycast_get_many(table, body + from, at - from, count, values, found);
        }
    }
    say_number(hits);
    return 200;
}

// Every key of the body with what waits for it.
static int32_t read_body_mine(uint32_t rounds)
{
    uint32_t size = tallycast_request_body(body, sizeof body), hits = 0;
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t at = 0; at + 4 <= size;) {
            struct tallycast_mine mine;
            uint32_t key = body[at] | (uint32_t)body[at + 1] << 8 | (uint32_t)body[at + 2] << 16;
            hits += tallycast_get_mine("files", 5, body + at + 4, key, &mine) == 0;
            at += 4 + key;
        }
    }
    say_number(hits);
    return 200;
}

// A call into the edge that does next to nothing.
static int32_t ask_version(uint32_t times)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < times; i++) sum += tallycast_version();
    say_number(sum);
    return 200;
}

// Something that a compiler neither finds the end of nor leaves out.
static uint32_t deeper(volatile uint32_t *up)
{
    volatile uint32_t here[64];
    here[0] = *up + 1;
    return here[0] ? deeper(here) + here[0] : 0;
}

static uint32_t memory_end(void) { return (uint32_t)__builtin_wasm_memory_size(0) * PAGE; }

// Reads the keys of the body (packed as for get_many) one by one, `rounds` times.
static int32_t read_body(uint32_t rounds)
{
    uint32_t size = tallycast_request_body(body, sizeof body), hits = 0, reads = 0;
    int32_t table = tallycast_table("files", 5);
    int64_t value, sum = 0;
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t at = 0; at + 4 <= size; reads++) {
            uint32_t key = body[at] | (uint32_t)body[at + 1] << 8 | (uint32_t)body[at + 2] << 16;
            if (tallycast_get(table, body + at + 4, key, &value)) {
                hits++;
                sum += value;
            }
            at += 4 + key;
        }
    }
    tallycast_respond("[", 1);
    say_number(reads);
    tallycast_respond(",", 1);
    say_number(hits);
    tallycast_respond(",", 1);
    say_number((uint64_t)sum);
    tallycast_respond("]\n", 2);
    return 200;
}

static int32_t wrong(void)
{
    uint32_t end = memory_end();
    int64_t value;
    if (is("/trap")) __builtin_trap();
    if (is("/loop"))
        for (volatile uint32_t i = 0;; i = i + 1) {
        }
    if (is("/log-loop"))
        for (;;) tallycast_log("again", 5);
    if (is("/read-loop"))
        for (;;) tallycast_get(0, "k", 1, &value);
    if (is("/deep")) return (int32_t)deeper(&calls);
    if (is("/write-outside")) *(volatile uint8_t *)(uintptr_t)(end + 12345) = 1;
    if (is("/key-outside")) tallycast_get(0, (void *)(uintptr_t)(end - 3), 4, &value);
    if (is("/key-huge")) tallycast_get(0, (void *)16, UINT32_MAX, &value);
    if (is("/value-outside")) tallycast_get(0, "k", 1, (void *)(uintptr_t)(end - 7));
    if (is("/mine-outside")) tallycast_get_mine("t", 1, "k", 1, (void *)(uintptr_t)(end - 39));
    if (is("/mine-key")) tallycast_get_mine("t", 1, (void *)(uintptr_t)end, 1, (void *)body);
    if (is("/add-outside")) tallycast_add("t", 1, (void *)(uintptr_t)end, 1, 1);
    if (is("/table-outside")) tallycast_table((void *)(uintptr_t)UINT32_MAX, 1);
    if (is("/path-outside")) tallycast_request_path((void *)(uintptr_t)(end - 1), 2);
    if (is("/body-outside")) tallycast_request_body((void *)(uintptr_t)end, 1);
    if (is("/answer-outside")) tallycast_respond((void *)(uintptr_t)(end - 1), 2);
    if (is("/log-outside")) tallycast_log((void *)(uintptr_t)end, 1);
    if (is("/type-outside")) tallycast_respond_type((void *)(uintptr_t)end, 1);
    if (is("/type-long")) tallycast_respond_type((void *)body, 101);
    if (is("/type-bad")) tallycast_respond_type("a\r\nSet-Cookie: b", 16);
    if (is("/many-keys")) tallycast_get_many(0, body, 4 * 4097, 4097, values, found);
    if (is("/many-packed")) tallycast_get_many(0, body, 9, 2, values, found);
    if (is("/many-outside")) tallycast_get_many(0, body, 4 * 4096, 4096, (void *)(uintptr_t)(end - 8 * 4095), found);
    if (is("/answer-large"))
        for (uint32_t i = 0; i < 2; i++) tallycast_respond(body, i ? 1 : sizeof body);
    if (is("/status")) return 99;
    if (is("/no-body")) return 204;
    return 404;
}

static uint32_t grow(void)
{
    uint32_t pages = 0;
    while (__builtin_wasm_memory_grow(0, 1) != SIZE_MAX) pages++;
    return pages;
}

int32_t handle(void)
{
    uint32_t size = tallycast_request_path(path, sizeof path - 1);
    path[size < sizeof path ? size : sizeof path - 1] = 0;
    calls++;
    if (is("/calls")) {
        say_number(calls);
        return 200;
    }
    if (is("/grow")) {
        grow();
        say_number(memory_end());
        return 200;
    }
    if (is("/answer-full")) {
        tallycast_respond_type("application/octet-stream", 24);
        tallycast_respond(body, sizeof body);
        return 200;
    }
    if (is("/log")) {
        for (uint32_t i = 0; i < 20; i++) tallycast_log("hello\nfrom a guest", 18);
        return 200;
    }
    if (is("/created")) return 201;
    if (is("/unknown")) {
        int64_t value = 7;
        say_number((uint64_t)tallycast_get(tallycast_table("nowhere", 7), "k", 1, &value));
        say_number((uint64_t)value);
        say_number((uint64_t)tallycast_get(123456, "k", 1, &value));
        say_number(tallycast_get_many(-1, body, 4 * 3, 3, values, found));
        return 200;
    }
    if (is("/add")) { // the body is a key
        uint32_t key = tallycast_request_body(body, sizeof body);
        say_number((uint64_t)tallycast_add("guests", 6, body, key, 3));
        tallycast_respond(" ", 1);
        say_number((uint64_t)tallycast_add("guests", 6, body, key, -1));
        tallycast_respond(" ", 1);
        say_number((uint64_t)tallycast_add("Bad name", 8, body, key, 1));
        tallycast_respond(" ", 1);
        say_number((uint64_t)tallycast_add("guests", 6, body, 0, 1));
        return 200;
    }
    if (is("/mine")) { // the body is a key: it is counted, and read at once
        struct tallycast_mine mine = {0};
        uint32_t key = tallycast_request_body(body, sizeof body);
        uint32_t added = (uint32_t)tallycast_add("guests", 6, body, key, 3);
        uint64_t told[] = {added,
                           (uint32_t)tallycast_get_mine("guests", 6, body, key, &mine),
                           (uint64_t)mine.value,
                           (uint64_t)mine.mine,
                           (uint64_t)mine.total,
                           mine.counting,
                           mine.in_doubt,
                           (uint32_t)tallycast_get_mine("guests", 6, "no such key", 11, &mine)};
        for (uint32_t i = 0; i < sizeof told / sizeof *told; i++) {
            if (i) tallycast_respond(" ", 1);
            say_number(told[i]);
        }
        return 200;
    }
    uint32_t mines = number_behind("/mines/");
    if (mines) return read_body_mine(mines);
    uint32_t many = number_behind("/many/"), versions = number_behind("/versions/");
    if (many) return read_body_many(many);
    if (versions) return ask_version(versions);
    uint32_t rounds = number_behind("/reads/");
    return rounds ? read_body(rounds) : wrong();
}

// SPDX-License-Identifier: Apache-2.0
//
// A guest of the edge in C, without any library: how many of a repository's commits touched a file.
//
//   GET /v1/guest/share/nng/README.md  ->  {"version":7,"file":12,"repo":345}
//   POST /v1/guest/share, a file a line  ->  {"version":7,"files":[12,null]}
//
// Both numbers of an answer are of one version. Built by CMake when clang for wasm32 is there; by hand:
//   clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry -I client-wasm/include client-wasm/examples/share.c -o share.wasm
#include <tallycast/guest.h>

#define KEYS_MAX 512u
#define TEXT_MAX 65536u

static char text[TEXT_MAX];          // of the request
static uint8_t packed[2 * TEXT_MAX]; // keys for get_many: a size and the bytes of each
static int64_t values[KEYS_MAX];
static uint8_t found[KEYS_MAX];

static void say(const char *word)
{
    uint32_t size = 0;
    while (word[size]) size++;
    tallycast_respond(word, size);
}

static void say_number(int64_t number)
{
    char digits[20], *at = digits + sizeof digits;
    uint64_t rest = number < 0 ? -(uint64_t)number : (uint64_t)number;
    do *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0) say("-");
    tallycast_respond(at, (uint32_t)(digits + sizeof digits - at));
}

static void say_value(uint32_t there, int64_t value)
{
    if (there)
        say_number(value);
    else
        say("null");
}

static void say_one(const char *table, uint32_t table_bytes, const char *key, uint32_t key_bytes)
{
    int64_t value = 0;
    int32_t there = tallycast_get(tallycast_table(table, table_bytes), key, key_bytes, &value);
    say_value((uint32_t)there, value);
}

static int32_t one_file(const char *path, uint32_t size)
{
    uint32_t slash = 0;
    while (slash < size && path[slash] != '/') slash++;
    say("{\"version\":");
    say_number((int64_t)tallycast_version());
    say(",\"file\":");
    say_one("files", 5, path, size);
    say(",\"repo\":");
    say_one("repos", 5, path, slash);
    say("}\n");
    return 200;
}

static int32_t many_files(uint32_t size)
{
    uint32_t count = 0, used = 0;
    for (uint32_t at = 0, end; at < size; at = end + 1) {
        for (end = at; end < size && text[end] != '\n'; end++) packed[used + 4 + end - at] = (uint8_t)text[end];
        if (count == KEYS_MAX) return 413;
        for (uint32_t i = 0; i < 4; i++) packed[used + i] = (uint8_t)((end - at) >> 8 * i);
        used += 4 + end - at;
        count++;
        if (used > sizeof packed - 4 - TEXT_MAX) return 413;
    }
    tallycast_get_many(tallycast_table("files", 5), packed, used, count, values, found);
    say("{\"version\":");
    say_number((int64_t)tallycast_version());
    for (uint32_t i = 0; i < count; i++) {
        say(i ? "," : ",\"files\":[");
        say_value(found[i], values[i]);
    }
    say(count ? "]}\n" : ",\"files\":[]}\n");
    return 200;
}

int32_t handle(void)
{
    uint32_t posted = tallycast_request_method() == 1;
    uint32_t size = posted ? tallycast_request_body(text, TEXT_MAX) : tallycast_request_path(text, TEXT_MAX);
    if (size > TEXT_MAX) return 413;
    if (posted) return many_files(size);
    if (size < 2) {
        say("{\"error\":\"which file? /v1/guest/share/REPOSITORY/FILE\"}\n");
        return 400;
    }
    return one_file(text + 1, size - 1);
}

// SPDX-License-Identifier: Apache-2.0
//
// Reads the text vectors of proto/vectors/ (its README.md says what is in them) and the files that they name.
// The compile definition TALLY_SOURCE_DIR says where. Aborts with a message when a file is missing or
// malformed: it is our own.
#ifndef TALLY_TEST_VECTORS_H
#define TALLY_TEST_VECTORS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tallycast/digest.h>
#include <tallycast/status.h>

#define TEST_WORDS_MAX 16

struct test_vectors {
    char *text, *at;
    const char *name;
    int line;
    int words;
    char *word[TEST_WORDS_MAX]; // of the statement read last
};

_Noreturn static inline void test_vectors_die(const char *name, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", name, line, what);
    abort();
}

// A whole file on the heap, in a block of exactly its size and a NUL beyond `*out_size`.
static inline uint8_t *test_vector_file(const char *name, size_t *out_size)
{
    char path[1024];
    snprintf(path, sizeof path, TALLY_SOURCE_DIR "/proto/vectors/%s", name);
    FILE *file = fopen(path, "rb");
    if (!file) test_vectors_die(path, 0, "cannot open");
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *data = malloc((size_t)size + 1);
    if (!data || fread(data, 1, (size_t)size, file) != (size_t)size) test_vectors_die(path, 0, "cannot read");
    data[size] = 0;
    fclose(file);
    *out_size = (size_t)size;
    return data;
}

static inline struct test_vectors test_vectors_open(const char *name)
{
    size_t size;
    char *text = (char *)test_vector_file(name, &size);
    return (struct test_vectors){.text = text, .at = text, .name = name};
}

static inline void test_vectors_close(struct test_vectors *vectors) { free(vectors->text); }

// The next statement; false after the last.
static inline bool test_vectors_next(struct test_vectors *vectors)
{
    while (*vectors->at) {
        char *line = vectors->at, *end = strchr(line, '\n');
        vectors->at = end ? end + 1 : line + strlen(line);
        if (end) *end = 0;
        vectors->line++;
        if (*line == '#' || !*line) continue;
        vectors->words = 0;
        for (char *rest, *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
            if (vectors->words == TEST_WORDS_MAX) test_vectors_die(vectors->name, vectors->line, "too many words");
            vectors->word[vectors->words++] = word;
        }
        return true;
    }
    return false;
}

static inline bool test_vectors_is(const struct test_vectors *vectors, const char *statement)
{
    return strcmp(vectors->word[0], statement) == 0;
}

static inline const char *test_vectors_word(const struct test_vectors *vectors, int word)
{
    if (word >= vectors->words) test_vectors_die(vectors->name, vectors->line, "a word is missing");
    return vectors->word[word];
}

static inline uint64_t test_vectors_number(const struct test_vectors *vectors, int word)
{
    return strtoull(test_vectors_word(vectors, word), NULL, 10);
}

static inline int64_t test_vectors_signed(const struct test_vectors *vectors, int word)
{
    return strtoll(test_vectors_word(vectors, word), NULL, 10);
}

static inline uint64_t test_vectors_hex64(const struct test_vectors *vectors, int word)
{
    return strtoull(test_vectors_word(vectors, word), NULL, 16);
}

static inline struct tally_digest test_vectors_digest(const struct test_vectors *vectors, int word)
{
    struct tally_digest digest;
    if (!tally_digest_parse(test_vectors_word(vectors, word), &digest))
        test_vectors_die(vectors->name, vectors->line, "not a digest");
    return digest;
}

static inline struct tally_seed test_vectors_seed(const struct test_vectors *vectors, int word)
{
    struct tally_digest both = test_vectors_digest(vectors, word);
    return (struct tally_seed){.k0 = both.lo, .k1 = both.hi};
}

// Hexadecimal bytes, decoded over the word itself; `-`: none.
static inline struct tally_bytes test_vectors_bytes(const struct test_vectors *vectors, int word)
{
    const char *text = test_vectors_word(vectors, word);
    if (strcmp(text, "-") == 0) return tally_bytes(text, 0);
    size_t size = strlen(text) / 2;
    for (size_t i = 0; i < size; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1) test_vectors_die(vectors->name, vectors->line, "not hexadecimal");
        vectors->word[word][i] = (char)byte;
    }
    return tally_bytes(text, size);
}

static inline enum tally_status test_vectors_status(const struct test_vectors *vectors, int word)
{
    const char *text = test_vectors_word(vectors, word);
#define X(name, number, sentence)                                                                                      \
    if (strcmp(text, #name) == 0) return TALLY_##name;
    TALLY_STATUS_LIST(X)
#undef X
    test_vectors_die(vectors->name, vectors->line, "not a status");
}

#endif

// SPDX-License-Identifier: Apache-2.0
//
// Runs a fuzz target over files, and over the files of folders: the corpus in the normal test run, or one input that failed.
//
//   fuzz_frame FILE-OR-FOLDER...
#include "fuzz.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

static unsigned inputs;

static bool replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return false;
    }
    size_t size = 0, capacity = 1 << 16, got;
    uint8_t *data = malloc(capacity);
    while (data && (got = fread(data + size, 1, capacity - size, file)) > 0) {
        size += got;
        if (size == capacity) data = realloc(data, capacity *= 2);
    }
    fclose(file);
    if (!data) return false;
    // A block of just the size, so that a sanitizer sees a read past the end.
    uint8_t *exact = test_exact_copy(data, size);
    free(data);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    inputs++;
    return true;
}

static bool replay(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        perror(path);
        return false;
    }
    if (!S_ISDIR(info.st_mode)) return replay_file(path);
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    bool ok = count >= 0;
    for (int i = 0; i < count; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') ok = replay(name) && ok;
        free(entries[i]);
    }
    if (count >= 0) free(entries);
    return ok;
}

int main(int argc, char **argv)
{
    bool ok = argc > 1;
    for (int i = 1; i < argc; i++) ok = replay(argv[i]) && ok;
    printf("%u inputs\n", inputs);
    return ok && inputs ? 0 : 1;
}

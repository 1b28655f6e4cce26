// SPDX-License-Identifier: Apache-2.0
#include "page.h"

// The page may load nothing from anywhere else and run nothing that did not come as a file from here. The three Cross-Origin lines make it an isolated one,
// in which memory may be shared with workers (and clocks are finer); browsers grant that on https: and on this very machine.
#define PAGE_HEAD                                                                                                      \
    "Content-Security-Policy: default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "            \
    "img-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "                     \
    "frame-ancestors 'none'\r\n"                                                                                       \
    "Cross-Origin-Opener-Policy: same-origin\r\n"                                                                      \
    "Cross-Origin-Embedder-Policy: require-corp\r\n"                                                                   \
    "Cross-Origin-Resource-Policy: same-origin\r\n"                                                                    \
    "X-Content-Type-Options: nosniff\r\n"                                                                              \
    "Referrer-Policy: no-referrer\r\n"
_Static_assert(sizeof PAGE_HEAD <= TALLY_HTTP_FILE_HEAD_BYTES_MAX, "longer than the HTTP face takes");

#define PAGE_FILE(name, path, content_type) extern const uint8_t name[], name##_end[];
#include "files.inc"
#undef PAGE_FILE

// One more than there are, for a build in which there is none.
static struct tally_http_file files[] = {
#define PAGE_FILE(name, path, content_type) {path, content_type, PAGE_HEAD, name, 0},
#include "files.inc"
#undef PAGE_FILE
    {0},
};

const struct tally_http_file *edge_page_files(size_t *out_count)
{
    size_t count = 0;
    // The distance of two symbols is known to the linker only.
#define PAGE_FILE(name, path, content_type) files[count++].size = (size_t)(name##_end - name);
#include "files.inc"
#undef PAGE_FILE
    *out_count = count;
    return files;
}

// SPDX-License-Identifier: Apache-2.0
//
// The live page (/), its script and style (/page/), and the JavaScript client that it runs on (/client/), as they lie in the program.
#ifndef TALLYCAST_EDGE_PAGE_H
#define TALLYCAST_EDGE_PAGE_H

#include <io/http.h>

// A table that is good as long as the process; *out_count 0 in a build without the WASM modules. Not at the same time from two threads.
const struct tally_http_file *edge_page_files(size_t *out_count);

#endif

// SPDX-License-Identifier: Apache-2.0
//
// HTTP by libcurl: a few requests at a time, each bounded in time and size. Threads: main.
#ifndef TALLYCAST_CLI_HTTP_H
#define TALLYCAST_CLI_HTTP_H

#include "cli.h"

#include <jansson.h>
#include <tallycast/wire.h>

struct cli_http_request {
    const char *base, *path; // "http://127.0.0.1:8090", "/v1/version"
    struct tally_bytes body; // data null: GET, else POST
    uint64_t timeout_ms;     // for all of it; 0: only as long as bytes keep coming
    size_t body_bytes_max;   // of the answer kept in `answer`
    // When not null, takes the answer's bytes (of status 200) instead; false ends the transfer.
    bool (*sink)(void *ctx, struct tally_bytes bytes);
    void *ctx;
    // Results
    int status; // HTTP status, 0 when there was none
    struct tally_writer answer;
    double seconds;  // how long it took
    char error[256]; // when status is 0 or the answer is not whole: why
    bool failed;
};

// Runs them side by side and returns when all are over. Free each with cli_http_free.
void cli_http_run(struct cli_http_request *requests, size_t count);
void cli_http_free(struct cli_http_request *request);

// Checks "http://HOST[:PORT]" (https too, for those behind a proxy); complains and returns false otherwise.
bool cli_http_check_url(const char *url);

// One GET or POST that must give JSON: CLI_DONE and the value (the caller's, also for 404), or an exit code
// after a complaint. 404 gives CLI_NO without one.
int cli_http_json(const char *base, const char *path, struct tally_bytes body, json_t **out_json);

// An answer as it came, on a line of stdout; an exit code.
int cli_http_print_json(const json_t *json);

// Appends bytes to a path, percent-encoded where needed.
void cli_http_encode(struct tally_writer *path, struct tally_bytes bytes);

#endif

// SPDX-License-Identifier: Apache-2.0
#include "http.h"

#include <curl/curl.h>
#include <messages/messages.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS 3000
#define SILENT_S   20

static size_t on_bytes(char *data, size_t one, size_t size, void *argument)
{
    (void)one;
    struct cli_http_request *request = argument;
    struct tally_bytes bytes = tally_bytes(data, size);
    if (request->sink && request->status == 200) return request->sink(request->ctx, bytes) ? size : 0;
    if (size > request->body_bytes_max - request->answer.size) {
        snprintf(request->error, sizeof request->error, "the answer is over %zu bytes", request->body_bytes_max);
        return 0;
    }
    tally_write_raw(&request->answer, data, size);
    return request->answer.failed ? 0 : size;
}

// Learns the status from its line, before the body comes.
static size_t on_header(char *data, size_t one, size_t size, void *argument)
{
    (void)one;
    struct cli_http_request *request = argument;
    char line[32];
    size_t part = size < sizeof line - 1 ? size : sizeof line - 1;
    memcpy(line, data, part);
    line[part] = 0;
    int status;
    if (sscanf(line, "HTTP/%*s %d", &status) == 1) request->status = status;
    return size;
}

struct transfer {
    CURL *easy;
    struct curl_slist *headers;
    char error[CURL_ERROR_SIZE];
    char *url;
};

static bool set_up(struct transfer *transfer, struct cli_http_request *request)
{
    transfer->easy = curl_easy_init();
    size_t size = strlen(request->base) + strlen(request->path) + 1;
    transfer->url = malloc(size);
    if (!transfer->easy || !transfer->url) return false;
    size_t base = strlen(request->base);
    while (base && request->base[base - 1] == '/') base--;
    snprintf(transfer->url, size, "%.*s%s", (int)base, request->base, request->path);
    CURL *easy = transfer->easy;
    curl_easy_setopt(easy, CURLOPT_URL, transfer->url);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)SILENT_S);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "tallycast");
    if (!request->body.data) return true;
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body.data);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
    // Without a word about it libcurl asks first ("Expect: 100-continue") and waits a second for an answer.
    transfer->headers = curl_slist_append(NULL, "Content-Type: application/json");
    struct curl_slist *more = transfer->headers ? curl_slist_append(transfer->headers, "Expect:") : NULL;
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
    return more != NULL;
}

static void tear_down(struct transfer *transfer)
{
    curl_easy_cleanup(transfer->easy);
    curl_slist_free_all(transfer->headers);
    free(transfer->url);
}

static void fail(struct cli_http_request *request, const char *why)
{
    request->failed = true;
    if (!request->error[0]) snprintf(request->error, sizeof request->error, "%s", why);
}

static void take_results(CURLM *multi, struct transfer *transfers, struct cli_http_request *requests)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE) continue;
        char *place;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &place);
        struct cli_http_request *request = (struct cli_http_request *)(void *)place;
        const struct transfer *transfer = &transfers[request - requests];
        CURLcode result = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_TOTAL_TIME, &request->seconds);
        if (result != CURLE_OK) fail(request, transfer->error[0] ? transfer->error : curl_easy_strerror(result));
    }
}

void cli_http_run(struct cli_http_request *requests, size_t count)
{
    struct transfer *transfers = calloc(count ? count : 1, sizeof *transfers);
    CURLM *multi = curl_multi_init();
    for (size_t i = 0; i < count; i++) {
        struct cli_http_request *request = &requests[i];
        request->status = 0;
        request->failed = false;
        request->error[0] = 0;
        request->answer = tally_writer_growable(&tally_alloc_libc);
        if (!transfers || !multi || !set_up(&transfers[i], request))
            fail(request, "out of memory");
        else
            curl_multi_add_handle(multi, transfers[i].easy);
    }
    for (int running = 1; transfers && multi && running;) {
        if (curl_multi_perform(multi, &running) != CURLM_OK) break;
        take_results(multi, transfers, requests);
        if (running) curl_multi_poll(multi, NULL, 0, 200, NULL);
        if (cli_interrupted) break;
    }
    for (size_t i = 0; transfers && i < count; i++) {
        if (multi && transfers[i].easy) curl_multi_remove_handle(multi, transfers[i].easy);
        if (requests[i].status == 0 && !requests[i].failed) fail(&requests[i], "interrupted");
        tear_down(&transfers[i]);
    }
    if (multi) curl_multi_cleanup(multi);
    free(transfers);
}

void cli_http_free(struct cli_http_request *request) { tally_writer_free(&request->answer); }

bool cli_http_check_url(const char *url)
{
    const char *host = strncmp(url, "http://", 7) == 0 ? url + 7 : strncmp(url, "https://", 8) == 0 ? url + 8 : NULL;
    if (host && *host && *host != '/') {
        size_t size = strcspn(host, "/");
        if (host[size] == 0 || strcmp(host + size, "/") == 0) return true;
    }
    cli_complain("--at \"%s\" is no URL like http://127.0.0.1:8090", url);
    return false;
}

int cli_http_json(const char *base, const char *path, struct tally_bytes body, json_t **out_json)
{
    struct cli_http_request request = {
        .base = base, .path = path, .body = body, .timeout_ms = 30000, .body_bytes_max = 64u << 20};
    cli_http_run(&request, 1);
    int code = CLI_DONE;
    json_error_t error;
    json_t *json = NULL;
    if (request.failed) {
        cli_complain("cannot reach %s: %s", base, request.error);
        code = CLI_UNREACHABLE;
        goto out;
    }
    json = json_loadb((const char *)request.answer.data, request.answer.size, JSON_ALLOW_NUL, &error);
    if (!json_is_object(json)) {
        cli_complain("what answers at %s is no tallycast server or edge (HTTP status %d, no JSON)", base,
                     request.status);
        code = CLI_REFUSED;
        goto out;
    }
    if (request.status == 404 && json_object_get(json, "version")) {
        code = CLI_NO;
    } else if (request.status != 200) {
        const char *why = json_string_value(json_object_get(json, "error"));
        cli_complain("%s refused: %s (HTTP status %d)", base, why ? why : "without a reason", request.status);
        code = request.status == 503 ? CLI_UNREACHABLE : CLI_REFUSED;
    }
    if (code == CLI_DONE || code == CLI_NO) *out_json = json, json = NULL;
out:
    json_decref(json);
    cli_http_free(&request);
    return code;
}

void cli_http_encode(struct tally_writer *path, struct tally_bytes bytes)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t c = bytes.data[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-_.~/", c);
        if (plain && c)
            tally_write_raw(path, &c, 1);
        else
            tally_write_raw(path, (char[]){'%', hex[c >> 4], hex[c & 15]}, 3);
    }
}

int cli_http_print_json(const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (!text) {
        cli_complain("out of memory");
        return CLI_REFUSED;
    }
    puts(text);
    free(text);
    return cli_flush() ? CLI_DONE : CLI_WRONG_USE;
}

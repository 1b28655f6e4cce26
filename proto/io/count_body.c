// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <io/count_body.h>
#include <io/json.h>
#include <jansson.h>
#include <mbedtls/base64.h>
#include <stdarg.h>
#include <stdio.h>
#include <sums/sums_batch.h>
#include <tallycast/kind.h>

void tally_count_body_init(struct tally_count_body *body, struct tally_seed seed)
{
    *body = (struct tally_count_body){0};
    tally_sums_init(&body->sums, seed, &tally_alloc_libc);
}

void tally_count_body_deinit(struct tally_count_body *body) { tally_sums_deinit(&body->sums); }

// ---------------------------------------------------------------------------------------------------- one event

// What an event says; null: it does not.
struct event {
    json_t *table, *key, *key_base64, *amount, *kind, *set, *adjust, *member, *member_base64;
    uint8_t key_room[TALLY_KEY_BYTES_MAX], member_room[TALLY_KEY_BYTES_MAX]; // what base64 decodes to
};

static const struct {
    const char *name;
    size_t offset;
} members[] = {{"table", offsetof(struct event, table)},
               {"key", offsetof(struct event, key)},
               {"amount", offsetof(struct event, amount)},
               {"kind", offsetof(struct event, kind)},
               {"set", offsetof(struct event, set)},
               {"adjust", offsetof(struct event, adjust)},
               {"member", offsetof(struct event, member)},
               {"key_base64", offsetof(struct event, key_base64)},
               {"member_base64", offsetof(struct event, member_base64)}};
#define MEMBERS (sizeof members / sizeof *members)

static bool take_member(struct event *event, const char *name, json_t *value)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        if (strcmp(name, members[i].name) != 0) continue;
        *(json_t **)(void *)((char *)event + members[i].offset) = value;
        return true;
    }
    return false;
}

static struct tally_bytes string_of(const json_t *value)
{
    return tally_bytes(json_string_value(value), json_string_length(value));
}

// Text as it stands, or what its base64 decodes to. Null, or what is wrong; `what` begins the sentence.
static const char *take_bytes(const json_t *plain, const json_t *base64, uint8_t room[TALLY_KEY_BYTES_MAX],
                              const char *const wrong[4], struct tally_bytes *out_bytes)
{
    const json_t *given = plain ? plain : base64;
    size_t size = 0;
    if (plain && base64) return "a key or a member comes as text or in base64, not both";
    if (!json_is_string(given)) return wrong[0];
    struct tally_bytes text = string_of(given);
    if (base64) {
        int failed = mbedtls_base64_decode(room, TALLY_KEY_BYTES_MAX, &size, text.data, text.size);
        if (failed == MBEDTLS_ERR_BASE64_BUFFER_TOO_SMALL) return wrong[2];
        if (failed) return wrong[3];
        text = tally_bytes(room, size);
    }
    if (text.size == 0) return wrong[1];
    if (text.size > TALLY_KEY_BYTES_MAX) return wrong[2];
    *out_bytes = text;
    return NULL;
}

static const char *take_number(const json_t *value, enum tally_counting counting, int64_t *out_number)
{
    bool sums = counting == TALLY_COUNTING_ADD || counting == TALLY_COUNTING_TOPK;
    if (!json_is_integer(value)) return "the amount is no integer";
    int64_t number = json_integer_value(value);
    if (sums && number < 0) return "the amount is below 0: a counter only grows";
    if (!sums && (number > TALLY_LEVEL_MAX || number < -TALLY_LEVEL_MAX)) return "the amount is beyond 2^62 - 1";
    *out_number = number;
    return NULL;
}

// How the event counts, by the members that it has and the kind that it names. Null, or what is wrong.
static const char *take_counting(const struct event *event, enum tally_counting *out_counting, json_t **out_number)
{
    static const enum tally_counting countings[TALLY_KINDS] = {
        [TALLY_KIND_COUNTER] = TALLY_COUNTING_ADD,     [TALLY_KIND_GAUGE] = TALLY_COUNTING_SET,
        [TALLY_KIND_MIN] = TALLY_COUNTING_MIN,         [TALLY_KIND_MAX] = TALLY_COUNTING_MAX,
        [TALLY_KIND_DISTINCT] = TALLY_COUNTING_MEMBER, [TALLY_KIND_TOPK] = TALLY_COUNTING_TOPK};
    enum tally_kind kind = TALLY_KIND_UNSPECIFIED, meant = TALLY_KIND_UNSPECIFIED;
    bool member = event->member || event->member_base64;
    if (event->kind) {
        if (json_is_string(event->kind)) kind = tally_kind_of(string_of(event->kind));
        if (!kind) return "the kind is none of counter, gauge, min, max, distinct, topk";
    }
    if (!!event->amount + !!event->set + !!event->adjust + member > 1)
        return "one of amount, set, adjust and member, not several";
    if (event->set || event->adjust) meant = TALLY_KIND_GAUGE;
    if (member) meant = TALLY_KIND_DISTINCT;
    if (kind && meant && kind != meant)
        return meant == TALLY_KIND_GAUGE ? "set and adjust are of a gauge" : "a member is of a distinct table";
    if (!meant) meant = kind ? kind : TALLY_KIND_COUNTER;
    *out_counting = event->adjust ? TALLY_COUNTING_ADJUST : countings[meant];
    *out_number = event->amount ? event->amount : event->set ? event->set : event->adjust;
    if (meant == TALLY_KIND_DISTINCT && !member) return "a distinct table wants a member";
    bool counts = meant == TALLY_KIND_COUNTER || meant == TALLY_KIND_TOPK;
    return counts || member || *out_number ? NULL : "there is no amount";
}

static const char *take_event(struct event *event, struct tally_sum *out_sum)
{
    static const char *const key[] = {"there is no key, or it is no string", "the key is empty",
                                      "the key is longer than 1024 bytes", "key_base64 is no base64"};
    static const char *const member[] = {"the member is no string", "the member is empty",
                                         "the member is longer than 1024 bytes", "member_base64 is no base64"};
    struct tally_bytes bytes;
    json_t *number;
    if (!json_is_string(event->table)) return "there is no table, or it is no string";
    out_sum->table = string_of(event->table);
    if (!tally_name_valid(out_sum->table)) return "a table's name is 1 to 64 of a-z 0-9 _ . -";
    const char *wrong = take_bytes(event->key, event->key_base64, event->key_room, key, &out_sum->key);
    if (!wrong) wrong = take_counting(event, &out_sum->counting, &number);
    if (wrong) return wrong;
    if (out_sum->counting == TALLY_COUNTING_MEMBER) {
        wrong = take_bytes(event->member, event->member_base64, event->member_room, member, &bytes);
        if (!wrong) out_sum->number = (int64_t)tally_member(bytes);
        return wrong;
    }
    out_sum->number = 1;
    return number ? take_number(number, out_sum->counting, &out_sum->number) : NULL;
}

// ---------------------------------------------------------------------------------------------------- all of them

struct walk {
    struct tally_count_body *body;
    const char *at, *end;
    uint32_t line;
    bool stop; // what follows cannot be told apart
};

static void refuse(struct walk *walk, uint32_t line, const char *format, ...)
{
    struct tally_count_body *body = walk->body;
    uint32_t number = body->refused++;
    if (number >= TALLY_COUNT_REFUSALS_MAX) return;
    struct tally_count_refusal *refusal = &body->refusals[number];
    refusal->line = line;
    refusal->event = body->accepted + body->refused;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(refusal->why, sizeof refusal->why, format, arguments);
    va_end(arguments);
    // Cut within a character, or bytes that are none: the JSON writer shows U+FFFD.
}

static void skip_to(struct walk *walk, const char *to)
{
    for (; walk->at < to; walk->at++) walk->line += *walk->at == '\n';
}

static void skip_space(struct walk *walk)
{
    const char *to = walk->at;
    while (to < walk->end && (*to == ' ' || *to == '\t' || *to == '\r' || *to == '\n')) to++;
    skip_to(walk, to);
}

static enum tally_status add_event(struct walk *walk, json_t *root, uint32_t line)
{
    struct event event = {0};
    struct tally_sum sum;
    const char *name;
    json_t *value;
    if (!json_is_object(root)) {
        refuse(walk, line, "an event is an object");
        return TALLY_OK;
    }
    json_object_foreach(root, name, value)
    {
        if (take_member(&event, name, value)) continue;
        refuse(walk, line, "\"%.40s\" is no member of an event", name);
        return TALLY_OK;
    }
    const char *wrong = take_event(&event, &sum);
    if (wrong) {
        refuse(walk, line, "%s", wrong);
        return TALLY_OK;
    }
    enum tally_status status = tally_sums_add(&walk->body->sums, &sum);
    if (!status) walk->body->accepted++;
    return status;
}

// One event; when it is no JSON, on to the next line, or in an array to the end of all.
static enum tally_status take(struct walk *walk, bool in_array)
{
    size_t left = (size_t)(walk->end - walk->at),
           size = left < TALLY_COUNT_EVENT_BYTES_MAX ? left : TALLY_COUNT_EVENT_BYTES_MAX;
    uint32_t line = walk->line;
    json_error_t error;
    json_t *root = json_loadb(walk->at, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DISABLE_EOF_CHECK, &error);
    if (root) {
        skip_to(walk, walk->at + error.position);
        enum tally_status status = add_event(walk, root, line);
        json_decref(root);
        return status;
    }
    if (size < left && error.position >= (int)size - 8)
        refuse(walk, line, "an event of more than %u bytes", TALLY_COUNT_EVENT_BYTES_MAX);
    else
        refuse(walk, line, "no JSON: %s", error.text);
    const char *newline = in_array ? NULL : memchr(walk->at, '\n', left);
    skip_to(walk, newline ? newline : walk->end);
    walk->stop = in_array;
    return TALLY_OK;
}

static enum tally_status take_array(struct walk *walk)
{
    enum tally_status status = TALLY_OK;
    walk->at++;
    skip_space(walk);
    bool more = !(walk->at < walk->end && *walk->at == ']');
    while (more && !status) {
        status = take(walk, true);
        if (status || walk->stop) return status;
        skip_space(walk);
        more = walk->at < walk->end && *walk->at == ',';
        if (more) skip_to(walk, walk->at + 1);
        skip_space(walk);
    }
    if (walk->at == walk->end || *walk->at != ']') {
        refuse(walk, walk->line, "the array is not closed by ]");
        return status;
    }
    skip_to(walk, walk->at + 1);
    skip_space(walk);
    if (walk->at < walk->end) refuse(walk, walk->line, "something follows the array");
    return status;
}

enum tally_status tally_count_body_parse(struct tally_count_body *body, struct tally_bytes text)
{
    enum tally_status status = TALLY_OK;
    const char *start = text.size ? (const char *)text.data : "";
    struct walk walk = {.body = body, .at = start, .end = start + text.size, .line = 1};
    skip_space(&walk);
    if (walk.at < walk.end && *walk.at == '[') return take_array(&walk);
    for (; !status && walk.at < walk.end; skip_space(&walk)) status = take(&walk, false);
    return status;
}

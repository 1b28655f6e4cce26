// SPDX-License-Identifier: Apache-2.0
//
// What a table is: its kind, and what is kept of it. Definitions are part of the log: a record carries those that are new, and the state
// applies them before the record's batches (state.h). They come from the settings (`table:`), from the admin call, and, a kind alone,
// from the batch that begins a table.
//
//   kind       counter | gauge | min | max | distinct | topk; never changes once the table began: nor do capacity, precision and source
//   ttl_ms, max_keys, window  see state.h
//
// In memory every number is what holds: defaults are filled in by tally_definition_complete. Threads: values.
#ifndef TALLYCAST_SERVER_DEFINITIONS_H
#define TALLYCAST_SERVER_DEFINITIONS_H

#include <tallycast/frame.h>
#include <tallycast/limits.h>

#define TALLY_TOPK_DEFAULT      100u
#define TALLY_PRECISION_DEFAULT 12u

// A topk table without a source has a second table beside it that holds how far each count may be too high.
#define TALLY_ERROR_SUFFIX ".error"

enum tally_window { TALLY_WINDOW_NONE, TALLY_WINDOW_TUMBLING, TALLY_WINDOW_SLIDING };

struct tally_definition {
    enum tally_kind kind;
    enum tally_window window;
    uint64_t ttl_ms;    // 0: none
    uint64_t max_keys;  // 0: no bound
    uint64_t window_ms; // tumbling, sliding
    uint64_t pane_ms;   // sliding
    uint32_t k;         // topk: rows
    uint32_t capacity;  // topk without source: keys that are counted
    uint32_t precision; // distinct: 2^precision registers
    uint32_t source_bytes;
    uint8_t source[TALLY_NAME_BYTES_MAX]; // topk of this table's rows; source_bytes 0: of batches
};

static inline struct tally_bytes tally_definition_source(const struct tally_definition *definition)
{
    return tally_bytes(definition->source, definition->source_bytes);
}

static inline bool tally_definition_topk_of(const struct tally_definition *definition)
{
    return definition->kind == TALLY_KIND_TOPK && definition->source_bytes != 0;
}

// Whether the table has a table of errors beside it.
static inline bool tally_definition_has_errors(const struct tally_definition *definition)
{
    return definition->kind == TALLY_KIND_TOPK && definition->source_bytes == 0;
}

// Fills in defaults and checks what the definition of `table` is by itself. TALLY_INVALID or TALLY_LIMIT with *out_why, a constant sentence;
// the definition is then of no use.
TALLY_CHECKED enum tally_status tally_definition_complete(struct tally_definition *definition, struct tally_bytes table,
                                                          const char **out_why);

// Both complete.
bool tally_definition_equal(const struct tally_definition *a, const struct tally_definition *b);

// Whether a table that is `old` may become `new`. Both complete. TALLY_INVALID with *out_why.
TALLY_CHECKED enum tally_status tally_definition_change(const struct tally_definition *old,
                                                        const struct tally_definition *new, const char **out_why);

// "NAME.error"; `out` holds TALLY_NAME_BYTES_MAX. The name must be short enough, which `complete` checks.
struct tally_bytes tally_error_name(struct tally_bytes table, uint8_t *out);

// ---------------------------------------------------------------------------------------------------- codec

#define TALLY_DEFINITION_BYTES_MAX 256u // of the field, tag and size included

// Appends the definition of `table` as field `number`.
void tally_definition_write(struct tally_writer *out, uint32_t number, struct tally_bytes table,
                            const struct tally_definition *definition);

// Reads a TableDefinition, as it stands: to be completed. *out_table is borrowed. TALLY_MALFORMED; TALLY_UNSUPPORTED for a kind or a
// window that is not known.
TALLY_CHECKED enum tally_status tally_definition_read(struct tally_bytes message, struct tally_bytes *out_table,
                                                      struct tally_definition *out_definition);

// ---------------------------------------------------------------------------------------------------- text

// "NAME", or "NAME KIND [ttl=1h] [max-keys=N] [window=1m | window=1h/1m] [k=N] [capacity=N] [precision=N] [of=TABLE]", as the settings
// have it: words with spaces between them; a window with panes slides. Times in ms, s, m, h, d. *out_defined: anything follows the name. Complete
// when it is. TALLY_INVALID, TALLY_LIMIT with *out_why and, when it is about one word, *out_word. `text` is borrowed by all results.
TALLY_CHECKED enum tally_status tally_definition_parse(const char *text, struct tally_bytes *out_table,
                                                       struct tally_definition *out_definition, bool *out_defined,
                                                       struct tally_bytes *out_word, const char **out_why);

#endif

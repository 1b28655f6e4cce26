// SPDX-License-Identifier: Apache-2.0
//
// Inside the HTTP face: the guests of /v1/stream. A connection that was upgraded is a guest on the thread it came to; wslay does the WebSocket framing,
// replay/pace.h says what a guest is sent next, and one write at a time is under way for each.
//
//   feed ──wake──► every guest that is not writing: pick ─► messages ─► write ─┐
//                                      ▲                                      │ written
//                                      └──────────────────────────────────────┘
//
// Memory of a guest: its WebSocket context (about 12 KiB), and what is being written: messages shared with whoever is at the same place, at most 1 MiB. Changes in
// parts are shared, too: a thread keeps at most GUEST_VIEWS_MAX pinned versions and GUEST_SPLITS_MAX large frames, each with a few parts that were made.
#ifndef TALLYCAST_IO_HTTP_GUEST_H
#define TALLYCAST_IO_HTTP_GUEST_H

#include "http_internal.h"

#include <io/feed.h>
#include <replay/split.h>

#define GUEST_VIEWS_MAX     4u
#define GUEST_SPLITS_MAX    4u
#define GUEST_PARTS_KEPT    4u    // parts made last, for others at the same place
#define GUEST_CONTROL_BYTES 1024u // the answer to the upgrade; pongs and the end of a connection
#define GUEST_HEAD_BYTES    16u   // before a message

// Why a stream ends, beside the codes of RFC 6455: docs/protocol.md.
enum guest_close {
    GUEST_CLOSE_STOPPING = 1001,
    GUEST_CLOSE_UNASKED = 1003,
    GUEST_CLOSE_FAILED = 1011,
    GUEST_CLOSE_SILENT = 4000,
    GUEST_CLOSE_SLOW = 4001,
};

// Where a guest is in a change in parts.
struct guest_place {
    uint32_t chunk; // the next
    struct tally_cursor cursor;
    struct tally_split split;
};

// A change that goes out in parts, shared by the guests who are in it.
struct guest_parts {
    struct guest_parts *next, **link;
    unsigned users;
    uint64_t epoch, to;
    struct tally_message *frame; // that is cut; null: a pinned version
    struct tally_http_view view;
    uint64_t rows;
    uint64_t since_ms, deadline_ms; // who is not through it then has been too slow
    uint64_t made_bytes;            // of the first made_chunks
    uint32_t made_chunks;
    struct {
        struct tally_message *message; // null: none
        uint32_t chunk;
        bool more;
        struct guest_place after;
    } kept[GUEST_PARTS_KEPT];
    unsigned kept_next;
};

struct http_guest {
    struct http_connection *connection;
    struct http_guest *next, **link; // of the thread
    wslay_event_context_ptr socket;
    struct tally_pace pace;
    struct guest_parts *parts;
    struct guest_place place;
    // What is being written.
    bool writing;
    uint8_t control[GUEST_CONTROL_BYTES];
    size_t control_size;
    struct tally_message *messages[TALLY_PACE_RUN_CHANGES];
    uint8_t heads[TALLY_PACE_RUN_CHANGES][GUEST_HEAD_BYTES];
    size_t head_sizes[TALLY_PACE_RUN_CHANGES];
    unsigned messages_count;
    // What is being received.
    const uint8_t *input;
    size_t input_size;
    uint64_t heard_ms;   // last byte from the guest
    bool pinged;         // since then
    uint64_t pinged_ms;  // when
    uint64_t moved_ms;   // last time that the guest took a byte of what is being written
    size_t unsent_seen;  // as of then
    bool closing;        // the end is queued or sent
    uint64_t closing_ms; // when
};

// Thread of all below: the connection's.

// http_guest.c
enum tally_status http_guests_init(struct http_thread *thread);
void http_guests_deinit(struct http_thread *thread); // no guest is left, and the loop has ended
void http_guests_pump(struct http_thread *thread);
void http_guests_pump_at(struct http_thread *thread, uint64_t epoch, uint64_t version); // those who are at this place
void http_guest_to_end(struct http_guest *guest);                                       // of the list: pumped last
void http_guest_close(struct http_guest *guest, enum guest_close code, const char *reason);

// http_guest_pick.c
// Puts what is next into guest->messages, if anything; may close the guest.
void http_guest_pick(struct http_guest *guest);
void http_guest_let_go(struct http_guest *guest); // of its change in parts
void http_guests_merge_free(struct http_thread *thread);

#endif

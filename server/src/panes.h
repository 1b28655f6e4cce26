// SPDX-License-Identifier: Apache-2.0
//
// What the rows of a windowed table are made of: per pane of time and row one entry. Time is cut into panes of equal length, from the Unix epoch on;
// a window is the pane that is under way and the count - 1 before it (a tumbling window has one). Work is done only for
// entries that come and entries that leave, so a window that slides costs as much as there is to change.
//
//   ring[pane % count] ──► entry ⇄ entry ⇄ ...        all entries of one pane
//                            │ older                   a row's entries, from the newest to the oldest
//                            ▼
//   newest[id] ──────────► entry (of an earlier pane) ...
//
// An entry that left may be used again: `older` is followed only to an entry of the same row and an earlier pane. That is exact: entries
// are only ever made for the newest pane, and a row has one a pane.
//
// What an amount means (a sum, a least, a greatest) is the caller's. Memory: 32 bytes an entry, from blocks that are used again and given back
// with the whole, and 4 bytes an id. Threads: belongs to one thread. Cost: O(1); of a row's removal and fold its entries.
#ifndef TALLYCAST_SERVER_PANES_H
#define TALLYCAST_SERVER_PANES_H

#include <stdbool.h>
#include <stdint.h>
#include <tallycast/alloc.h>
#include <tallycast/status.h>

struct tally_pane_entry {
    int64_t amount;
    uint64_t pane;
    uint32_t id;
    uint32_t older;          // of the same row
    uint32_t next, previous; // of the same pane; next: of the free ones, too
};

struct tally_pane {
    uint64_t number;
    uint32_t first; // 0: none
    uint32_t entries;
};

struct tally_panes {
    const struct tally_alloc *alloc;
    uint64_t pane_ms;
    uint32_t count;
    struct tally_pane *ring; // `count` of them
    struct tally_pane_entry **blocks;
    uint32_t blocks_count, blocks_capacity;
    uint32_t used, free; // entries of blocks ever used, plus 1; first free one, 0: none
    uint32_t *newest;    // by id; 0: none
    uint32_t ids;
    uint64_t entries;     // live
    uint64_t oldest;      // number of the oldest pane that may have entries
    uint64_t newest_pane; // that an entry was made for
};

// `pane_ms` and `count` are 1 or more. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_panes_init(struct tally_panes *panes, uint64_t pane_ms, uint32_t count,
                                                 const struct tally_alloc *alloc);
// Null-safe in the sense that panes of zeros are fine.
void tally_panes_deinit(struct tally_panes *panes);

static inline uint64_t tally_panes_number(const struct tally_panes *panes, uint64_t time_ms)
{
    return time_ms / panes->pane_ms;
}

// Of entries; there is one at least.
static inline uint64_t tally_panes_newest(const struct tally_panes *panes) { return panes->newest_pane; }

// Makes room for ids below `ids`. TALLY_NO_MEMORY: nothing changed.
TALLY_CHECKED enum tally_status tally_panes_reserve(struct tally_panes *panes, uint32_t ids);

// The row's entry of pane `number`, which is the newest that any entry was made for, or later; what had left by then must have been taken
// (tally_panes_leave). *out_new: it was made now, with amount 0. Valid until the next call. TALLY_NO_MEMORY: nothing changed.
TALLY_CHECKED enum tally_status tally_panes_entry(struct tally_panes *panes, uint32_t id, uint64_t number,
                                                  int64_t **out_amount, bool *out_new);

// Takes one entry out that is in the window of pane `now` no more, of the oldest pane first. False when there is none left.
bool tally_panes_leave(struct tally_panes *panes, uint64_t now, uint32_t *out_id, int64_t *out_amount);

// When the next entry leaves, in milliseconds; UINT64_MAX: none ever does.
uint64_t tally_panes_due(const struct tally_panes *panes);

// Whether the row has an entry.
bool tally_panes_has(const struct tally_panes *panes, uint32_t id);

// The row's entries, the newest first: start with 0; 0 after the last.
uint32_t tally_panes_next(const struct tally_panes *panes, uint32_t id, uint32_t entry, int64_t *out_amount);

// Takes all entries of a row out.
void tally_panes_drop(struct tally_panes *panes, uint32_t id);

// ---------------------------------------------------------------------------------------------------- as a whole

// All entries by ascending pane: start with {0}; false after the last. Nothing may change meanwhile.
struct tally_panes_walk {
    uint64_t pane;
    uint32_t entry;
    bool begun;
};
bool tally_panes_walk(const struct tally_panes *panes, struct tally_panes_walk *walk, uint64_t *out_pane,
                      uint32_t *out_id, int64_t *out_amount);

#endif

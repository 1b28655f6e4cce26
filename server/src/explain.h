// SPDX-License-Identifier: Apache-2.0
//
// Why a batch does not open, for people. Walks what tally_batch_open walked, and stops where that did. Threads: pure function. Safe on any bytes.
#ifndef TALLYCAST_SERVER_EXPLAIN_H
#define TALLYCAST_SERVER_EXPLAIN_H

#include "state.h"

// `status` is what tally_batch_open said to the batch. Fills *out_refusal, or leaves it as it is where the status says it all.
void tally_explain_batch(struct tally_bytes batch, enum tally_status status, struct tally_refusal *out_refusal);

#endif

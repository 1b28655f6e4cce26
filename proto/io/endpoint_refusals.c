// SPDX-License-Identifier: Apache-2.0
#include <io/endpoint.h>
#include <io/log.h>
#include <stdio.h>

#define LISTENERS_MAX 16u

// The counters of a listener that mean "a peer did not get through". Its counter "other" is not among them: it also counts every
// connection that a peer closed in good order.
static const struct {
    const char *stat, *reason;
} counters[] = {
    {"auth", "no valid certificate"},
    {"proto", "wrong protocol"},
    {"timeout", "handshake timed out"},
    {"reject", "refused"},
};

#define COUNTERS (sizeof counters / sizeof *counters)

struct seen {
    uint64_t id, counts[COUNTERS];
};

static struct seen seen[LISTENERS_MAX];
static size_t seen_count;

static struct seen *seen_of(uint64_t id)
{
    for (size_t i = 0; i < seen_count; i++)
        if (seen[i].id == id) return &seen[i];
    if (seen_count == LISTENERS_MAX) return NULL;
    seen[seen_count] = (struct seen){.id = id};
    return &seen[seen_count++];
}

static nng_stat *child_of(nng_stat *stat, const char *name)
{
    for (nng_stat *child = nng_stat_child(stat); child; child = nng_stat_next(child))
        if (strcmp(nng_stat_name(child), name) == 0) return child;
    return NULL;
}

static void listener_report(nng_stat *listener)
{
    nng_stat *id = child_of(listener, "id"), *url = child_of(listener, "url");
    struct seen *before = id ? seen_of(nng_stat_value(id)) : NULL;
    if (!before) return;
    for (size_t i = 0; i < COUNTERS; i++) {
        nng_stat *stat = child_of(listener, counters[i].stat);
        uint64_t count = stat ? nng_stat_value(stat) : 0;
        if (count > before->counts[i])
            tally_warn("peer_refused", tally_log_str("url", url ? nng_stat_string(url) : ""),
                       tally_log_str("reason", counters[i].reason), tally_log_u64("count", count - before->counts[i]));
        before->counts[i] = count;
    }
}

static void walk(nng_stat *stat)
{
    for (nng_stat *child = nng_stat_child(stat); child; child = nng_stat_next(child)) {
        if (strcmp(nng_stat_name(child), "listener") == 0)
            listener_report(child);
        else
            walk(child);
    }
}

void tally_endpoint_report_refusals(void)
{
    nng_stat *root;
    if (nng_stats_get(&root)) return;
    walk(root);
    nng_stats_free(root);
}

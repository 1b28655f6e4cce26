// SPDX-License-Identifier: Apache-2.0
//
// liburcu's rculfhash, with the memb flavour and a read-side section around each read, as around each of ours.
#include "peer.h"

#include <stdlib.h>
#define RCU_MEMBARRIER
#include <urcu/rculfhash.h>
#include <urcu/urcu-memb.h>

struct node {
    struct cds_lfht_node links;
    uint64_t key, value;
};

struct map {
    struct cds_lfht *table;
    struct node *nodes;
};

static int match(struct cds_lfht_node *links, const void *key)
{
    return caa_container_of(links, struct node, links)->key == *(const uint64_t *)key;
}

static void *build(const uint64_t *keys, size_t count)
{
    struct map *map = malloc(sizeof *map);
    struct node *nodes = malloc(count * sizeof *nodes);
    unsigned long buckets = 16;
    while (buckets < count) buckets *= 2;
    if (!map || !nodes) abort();
    urcu_memb_register_thread();
    *map = (struct map){cds_lfht_new_flavor(buckets, buckets, 0, 0, &urcu_memb_flavor, NULL), nodes};
    if (!map->table) abort();
    for (size_t i = 0; i < count; i++) {
        nodes[i] = (struct node){.key = keys[i], .value = i + 1};
        cds_lfht_node_init(&nodes[i].links);
        urcu_memb_read_lock();
        cds_lfht_add(map->table, (unsigned long)peer_hash(keys[i]), &nodes[i].links);
        urcu_memb_read_unlock();
    }
    return map;
}

static inline uint64_t get(void *map, uint64_t key)
{
    struct cds_lfht_iter iter;
    urcu_memb_read_lock();
    cds_lfht_lookup(((struct map *)map)->table, (unsigned long)peer_hash(key), match, &key, &iter);
    struct cds_lfht_node *links = cds_lfht_iter_get_node(&iter);
    uint64_t value = links ? caa_container_of(links, struct node, links)->value : 0;
    urcu_memb_read_unlock();
    return value;
}

PEER_LOOPS(get)

// In place: nobody reads more than the one word.
static void set(void *map, uint64_t key, uint64_t value)
{
    struct cds_lfht_iter iter;
    urcu_memb_read_lock();
    cds_lfht_lookup(((struct map *)map)->table, (unsigned long)peer_hash(key), match, &key, &iter);
    struct cds_lfht_node *links = cds_lfht_iter_get_node(&iter);
    if (!links) abort();
    CMM_STORE_SHARED(caa_container_of(links, struct node, links)->value, value);
    urcu_memb_read_unlock();
}

static void attach(void) { urcu_memb_register_thread(); }
static void detach(void) { urcu_memb_unregister_thread(); }

// Its table is left behind: it can only be destroyed empty, and taking ten million nodes out one by one would be most of the run.
static void destroy(void *map)
{
    free(((struct map *)map)->nodes);
    urcu_memb_unregister_thread();
}

const struct peer peer_urcu = {"liburcu rculfhash", build, dependent, independent, destroy, get, set, attach, detach};

// SPDX-License-Identifier: Apache-2.0
//
// liburcu's rculfhash, with the memb flavour and a read-side section around each read. Each node holds its key's bytes, so that what the
// comparison needs is beside the links.
#include "peer_text.h"

#include <stdlib.h>
#define RCU_MEMBARRIER
#include <urcu/rculfhash.h>
#include <urcu/urcu-memb.h>

struct node {
    struct cds_lfht_node links;
    uint64_t value;
    uint32_t key_bytes;
    uint8_t key[];
};

struct map {
    struct cds_lfht *table;
    uint8_t *nodes;
};

static int match(struct cds_lfht_node *links, const void *asked)
{
    const struct node *node = caa_container_of(links, struct node, links);
    const struct tally_bytes *key = asked;
    return node->key_bytes == key->size && memcmp(node->key, key->data, key->size) == 0;
}

static size_t node_bytes(size_t key_bytes) { return (sizeof(struct node) + key_bytes + 15) & ~(size_t)15; }

static void *build(const struct names *names)
{
    struct map *map = malloc(sizeof *map);
    size_t bytes = 0;
    unsigned long buckets = 16;
    while (buckets < names->count) buckets *= 2;
    for (uint32_t i = 0; i < names->count; i++) bytes += node_bytes(names_key(names, i).size);
    uint8_t *nodes = malloc(bytes);
    if (!map || !nodes) abort();
    urcu_memb_register_thread();
    *map = (struct map){cds_lfht_new_flavor(buckets, buckets, 0, 0, &urcu_memb_flavor, NULL), nodes};
    if (!map->table) abort();
    for (uint32_t i = 0; i < names->count; i++) {
        struct tally_bytes key = names_key(names, i);
        struct node *node = (void *)nodes;
        nodes += node_bytes(key.size);
        node->value = i + 1;
        node->key_bytes = (uint32_t)key.size;
        memcpy(node->key, key.data, key.size);
        cds_lfht_node_init(&node->links);
        urcu_memb_read_lock();
        cds_lfht_add(map->table, (unsigned long)peer_text_hash(key), &node->links);
        urcu_memb_read_unlock();
    }
    return map;
}

static inline uint64_t get(void *map, struct tally_bytes key)
{
    struct cds_lfht_iter iter;
    urcu_memb_read_lock();
    cds_lfht_lookup(((struct map *)map)->table, (unsigned long)peer_text_hash(key), match, &key, &iter);
    struct cds_lfht_node *links = cds_lfht_iter_get_node(&iter);
    uint64_t value = links ? caa_container_of(links, struct node, links)->value : 0;
    urcu_memb_read_unlock();
    return value;
}

PEER_TEXT_LOOPS(urcu, get)

// Its table is left behind: see peer_urcu.c.
static void destroy(void *map)
{
    free(((struct map *)map)->nodes);
    urcu_memb_unregister_thread();
}

const struct peer_text peer_text_urcu = {"rculfhash", build, urcu_dependent, urcu_independent, destroy};

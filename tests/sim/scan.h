/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A full scan of a store's files in the simulated world: every record of every segment file, and
 * every tree from its root down. It shares with the store the list of segments, the roots and the
 * codec; the records it finds by itself (FORMAT.md), and who names them it counts by itself. So it
 * can say whether what the store claims of its space is so, and whether something that is alive has
 * gone.
 */
#ifndef TESTS_SIM_SCAN_H
#define TESTS_SIM_SCAN_H

#include "tests/sim/simenv.h"

#include "storage/store/segments.h"

struct scan_record {
	struct id id;
	uint32_t offset64, bytes; /* with what fills up to the next one */
	uint8_t type;
	bool live; /* a tree names it */
};
struct scan_segment {
	uint64_t id, file_bytes, live_bytes;
	uint64_t open_bytes; /* its length before it was cut */
	uint32_t slot, record_count, record_room, live_count;
	bool sealed, seen;
	struct scan_record *records;
};
struct scan_node;
struct scan_place;

struct scan {
	struct sim *sim;
	struct scan_segment *segments; /* those of the catalog */
	size_t segment_count, segment_room;
	struct scan_node *nodes; /* what was ever decoded: a node never changes */
	size_t node_count, node_room;
	struct scan_place *places; /* by id */
	size_t place_room;
	uint64_t turn;
	struct codec *codec;

	/* Of the last turn. */
	uint64_t file_bytes;	     /* of sealed segments */
	uint64_t live_bytes;	     /* of their records that a tree names */
	uint64_t records;	     /* in all segments */
	uint64_t live_records;	     /* that a tree names: twice what is stored twice */
	uint64_t chunks, nodes_live; /* ids that trees name */
};

void scan_init(struct scan *scan, struct sim *sim);
void scan_done(struct scan *scan);
/* NULL, or one sentence: something that a root, a map node or a layer names is not there, or the
 * index does not find it. */
const char *scan_run(struct scan *scan, struct store *store);
/* NULL, or what the store claims that is not so. `counted`: a collection has counted what is there
 * now, so that the claims must be equal, and not only possible. */
const char *scan_compare(const struct scan *scan, struct store *store, bool counted);

/* Does the tree below `top` name it? */
bool scan_names(const struct scan *scan, const struct id *top, const struct id *id);

#endif

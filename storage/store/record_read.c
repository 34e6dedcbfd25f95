/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads one record for a peer: as it is stored, its frames' checksums looked at, nothing decoded.
 * Or, of a map node of which the peer has another one, what differs between the two.
 *
 * Keeps true: only what is stored here is looked at, and no other host is asked unless the read
 * says so; a base that is not here, or cannot be read, costs the peer nothing but the bytes of a
 * whole record.
 */
#include "storage/store/store_transfer.h"

#include "proto/node_delta.h"
#include "storage/store/fetch.h"
#include "storage/store/store_int.h"

/* Where the caller's buffer has what a delta is made of. */
#define NODE_AT NODE_BYTES
#define DELTA_AT (2 * NODE_BYTES)
static_assert(DELTA_AT + NODE_DELTA_BYTES_MAX <= STORE_RECORD_BYTES_MAX, "all fits");
static_assert(NODE_BYTES == NODE_DELTA_SLOTS * ID_BYTES, "a node is its ids");

enum step { READ_BASE, READ_NODE, READ_RECORD };

struct record_reading {
	struct wait wait;
	struct store_record_read *read;
	enum step step;
};
static_assert(sizeof(struct record_reading) <= sizeof(((struct store_record_read *)0)->state),
	      "it lives in the caller's read");

static void record_read_start(struct wait *wait);

static int64_t record_take(const struct store_record_read *read, const struct fetch *fetch)
{
	struct dir_entry entry = {.id = fetch->id,
				  .type = fetch->type,
				  .domain = fetch->domain,
				  .raw_bytes = fetch->raw_bytes,
				  .frame_count = (uint8_t)fetch->frame_to};
	uint32_t header = record_encode_header(read->buf, &entry, fetch->frames);
	int64_t bytes = record_bytes(&entry, fetch->frames);
	assert(bytes <= STORE_RECORD_BYTES_MAX);
	memcpy(read->buf + header, fetch_record(fetch), (size_t)bytes - header);
	return bytes;
}

/* 0: a record is no longer. */
static uint32_t delta_take(struct store_record_read *read)
{
	uint32_t bytes = node_delta_encode(read->buf + NODE_AT, read->buf, read->buf + DELTA_AT);
	if (bytes >= NODE_BYTES / 2) /* ids do not compress, holes do */
		return 0;
	memmove(read->buf, read->buf + DELTA_AT, bytes);
	read->delta = true;
	return bytes;
}

static void record_read_done(struct fetch *fetch, int res)
{
	struct store_record_read *read = fetch->owner;
	struct record_reading *reading = (struct record_reading *)read->state;
	int64_t bytes = res;
	if (res == 0 && reading->step == READ_RECORD)
		bytes = record_take(read, fetch);
	else if (res == 0 && reading->step == READ_NODE)
		bytes = delta_take(read);
	fetch_free(fetch);
	if (reading->step == READ_RECORD || bytes > 0) {
		env_complete(read->store->env, &read->op, bytes);
		return;
	}
	reading->step = reading->step == READ_BASE && res == 0 ? READ_NODE : READ_RECORD;
	record_read_start(&reading->wait);
}

static void record_read_start(struct wait *wait)
{
	struct record_reading *reading = container_of(wait, struct record_reading, wait);
	struct store_record_read *read = reading->read;
	struct fetch *fetch = fetch_new(read->store, true, &reading->wait);
	if (!fetch)
		return;
	fetch->done = record_read_done;
	fetch->owner = read;
	fetch->type = read->type == RECORD_NODE ? RECORD_NODE : RECORD_CHUNK;
	fetch->whole = reading->step == READ_RECORD;
	fetch->no_cache = true;
	fetch->no_heal = !read->heals || reading->step != READ_RECORD;
	fetch->block_first = 0;
	fetch->block_count = CHUNK_BLOCKS;
	fetch->raw = reading->step == READ_RECORD ? NULL
		     : reading->step == READ_NODE ? read->buf + NODE_AT
						  : read->buf;
	memcpy(fetch->id.bytes, reading->step == READ_BASE ? read->base : read->id, ID_BYTES);
	fetch_start(fetch);
}

void store_record_read(struct store_record_read *read)
{
	static const uint8_t none[ID_BYTES];
	struct record_reading *reading = (struct record_reading *)read->state;
	bool based = read->type == RECORD_NODE && memcmp(read->base, none, ID_BYTES) != 0;
	*reading = (struct record_reading){.wait.wake = record_read_start,
					   .read = read,
					   .step = based ? READ_BASE : READ_RECORD};
	read->delta = false;
	record_read_start(&reading->wait);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Reads one record as it is stored, for a peer: its frames' checksums are looked at, nothing is
 * decoded. */
#include "storage/store/store_int.h"

struct record_reading {
	struct wait wait;
	struct store_record_read *read;
};
static_assert(sizeof(struct record_reading) <= sizeof(((struct store_record_read *)0)->state),
	      "it lives in the caller's read");

static void record_read_done(struct fetch *fetch, int res)
{
	struct store_record_read *read = fetch->owner;
	struct store *store = read->store;
	int64_t bytes = res;
	if (res == 0) {
		struct dir_entry entry = {.id = fetch->id,
					  .type = fetch->type,
					  .domain = fetch->domain,
					  .raw_bytes = fetch->raw_bytes,
					  .frame_count = (uint8_t)fetch->frame_to};
		uint32_t header = record_encode_header(read->buf, &entry, fetch->frames);
		bytes = record_bytes(&entry, fetch->frames);
		assert(bytes <= STORE_RECORD_BYTES_MAX);
		memcpy(read->buf + header, fetch_record(fetch), (size_t)bytes - header);
	}
	fetch_free(fetch);
	env_complete(store->env, &read->op, bytes);
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
	fetch->whole = true;
	fetch->no_cache = true;
	fetch->no_heal = true;
	fetch->block_first = 0;
	fetch->block_count = CHUNK_BLOCKS;
	fetch->raw = NULL;
	memcpy(fetch->id.bytes, read->id, ID_BYTES);
	fetch_start(fetch);
}

void store_record_read(struct store_record_read *read)
{
	struct record_reading *reading = (struct record_reading *)read->state;
	*reading = (struct record_reading){.wait.wake = record_read_start, .read = read};
	record_read_start(&reading->wait);
}

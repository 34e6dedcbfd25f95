/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every decoder of the store's bytes from disk, fed with anything. The first byte chooses one; what
 * it accepts is encoded again where that is possible, and must come out the same.
 */
#include "proto/err.h"
#include "storage/store/catalog.h"
#include "storage/store/record.h"
#include "storage/store/store_int.h"
#include "storage/store/superblock.h"
#include "storage/store/tap.h"
#include "tests/fuzz/replay.h"

#include <assert.h>

enum decoder {
	DECODE_SUPERBLOCK,
	DECODE_RECORD,
	DECODE_SEGMENT_HEADER,
	DECODE_TRAILER,
	DECODE_DIRECTORY,
	DECODE_VOLUME,
	DECODE_SNAPSHOT,
	DECODE_LAYER,
	DECODE_SHIPPED,
	DECODE_POLICY,
	DECODE_FOLLOWER,
	DECODE_HOME,
	DECODER_COUNT,
};

static const uint8_t uuid[16] = {1, 2, 3};

static void fuzz_volume(const uint8_t *data, size_t bytes)
{
	struct volume volume;
	uint8_t again[LOG_RECORD_BYTES_MAX];
	struct cursor c = cursor_reading(data, bytes);
	cursor_take(&c, 8);
	if (volume_decode(&c, 5, &volume) < 0)
		return;
	struct volume second;
	uint32_t size = volume_encode(&volume, again);
	c = cursor_reading(again + 8, size - 8);
	assert(volume_decode(&c, 5, &second) == 0 && strcmp(second.name, volume.name) == 0 &&
	       second.size_bytes == volume.size_bytes);
}

static void fuzz_snapshot(const uint8_t *data, size_t bytes)
{
	struct snapshot snapshot, second;
	uint8_t again[LOG_RECORD_BYTES_MAX];
	struct cursor c = cursor_reading(data, bytes);
	cursor_take(&c, 8);
	if (snapshot_decode(&c, 5, &snapshot) < 0)
		return;
	uint32_t size = snapshot_encode(&snapshot, again);
	c = cursor_reading(again + 8, size - 8);
	assert(snapshot_decode(&c, 5, &second) == 0 && second.layer == snapshot.layer);
}

static void fuzz_layer(const uint8_t *data, size_t bytes)
{
	struct layer_pool *pool = layer_pool_new(256);
	struct layer *layer;
	struct cursor c = cursor_reading(data, bytes);
	if (layer_decode(pool, &c, 2048, &layer) == 0) {
		size_t size = layer_encoded_bytes(layer);
		uint8_t *again = malloc(size + 1);
		struct cursor out = cursor_over(again, size);
		layer_encode(layer, &out);
		assert(!out.failed && cursor_left(&out) == 0);
		free(again);
		layer_free(layer);
	}
	layer_pool_free(pool);
}

static void fuzz_directory(const uint8_t *data, size_t bytes)
{
	struct directory *directory;
	if (bytes < 8)
		return;
	struct trailer trailer = {.offset = 4096, .bytes = bytes - 8};
	memcpy(&trailer.entry_count, data, 4);
	memcpy(&trailer.crc, data + 4, 4);
	trailer.entry_count %= 5000;
	uint8_t *copy = malloc(bytes); /* exactly as long: an overrun is seen */
	memcpy(copy, data + 8, bytes - 8);
	if (directory_decode(&trailer, copy, &directory) == 0)
		directory_free(directory);
	free(copy);
}

/* ---- records that say what is sent, to a catalog with one volume ---- */

static struct store *one_volume(void)
{
	static struct volume volume = {.number = 5, .name = "web1", .size_bytes = GIB};
	static struct volume *volumes[1] = {&volume};
	static struct store store;
	if (!store.tap && tap_init(&store) < 0)
		abort();
	store.volumes = volumes;
	store.volume_count = 1;
	store.policy_count = store.follower_count = 0;
	memset(volume.shipped, 0, sizeof volume.shipped);
	return &store;
}

static struct cursor behind_number(const uint8_t *data, size_t bytes)
{
	struct cursor c = cursor_reading(data, bytes);
	cursor_take(&c, 8);
	return c;
}

static void fuzz_shipped(const uint8_t *data, size_t bytes)
{
	struct volume *volume = one_volume()->volumes[0], second = {.number = 5};
	uint8_t again[LOG_RECORD_BYTES_MAX];
	struct cursor c = behind_number(data, bytes);
	if (shipped_apply(volume, &c) < 0) {
		assert(!volume_has_shipped(volume));
		return;
	}
	c = behind_number(again, shipped_encode(volume, again));
	assert(shipped_apply(&second, &c) == 0 &&
	       memcmp(second.shipped, volume->shipped, sizeof second.shipped) == 0);
}

static void fuzz_home(const uint8_t *data, size_t bytes)
{
	struct volume *copy = one_volume()->volumes[0], second = {.number = 5, .replica = true};
	uint8_t again[LOG_RECORD_BYTES_MAX];
	struct cursor c = behind_number(data, bytes);
	copy->replica = true;
	copy->home = (struct named_policy){.name = "before"};
	if (home_apply(copy, &c) < 0) {
		assert(strcmp(copy->home.name, "before") == 0);
		return;
	}
	c = behind_number(again, home_encode(5, &copy->home, again));
	assert(home_apply(&second, &c) == 0 && policy_same(&second.home, &copy->home));
}

static bool windows_equal(const struct window *a, const struct window *b)
{
	return a->from == b->from && a->until == b->until;
}

static void fuzz_policy(const uint8_t *data, size_t bytes)
{
	struct store *store = one_volume();
	const struct policy *policy = &store->policies[0], *second = &store->policies[1];
	uint8_t again[LOG_RECORD_BYTES_MAX];
	struct cursor c = behind_number(data, bytes);
	if (policy_apply(store, LOG_PUT_POLICY, 5, &c) < 0) {
		assert(store->policy_count == 0);
		return;
	}
	c = behind_number(again, policy_encode(policy, again));
	assert(policy_apply(store, LOG_PUT_POLICY, 6, &c) == 0 && store->policy_count == 2);
	assert(strcmp(second->is.name, policy->is.name) == 0 &&
	       memcmp(second->is.rules.keep, policy->is.rules.keep, sizeof policy->is.rules.keep) ==
		       0 &&
	       second->is.rules.every_ns == policy->is.rules.every_ns &&
	       second->is.rules.rate_bytes == policy->is.rules.rate_bytes);
	for (unsigned i = 0; i < POLICY_HOSTS_MAX; i++)
		assert(strcmp(second->is.rules.send_to[i], policy->is.rules.send_to[i]) == 0);
	/* Hours of one that sends nothing are nobody's. */
	assert(!policy->is.rules.send_to[0][0] ||
	       windows_equal(&second->is.rules.window, &policy->is.rules.window));
}

static void fuzz_follower(const uint8_t *data, size_t bytes)
{
	struct store *store = one_volume();
	struct follower first;
	const struct follower *second = &store->followers[0];
	uint8_t again[LOG_RECORD_BYTES_MAX];
	struct cursor c = behind_number(data, bytes);
	if (follower_apply(store, LOG_PUT_FOLLOWER, 5, &c) < 0) {
		assert(store->follower_count == 0);
		return;
	}
	first = store->followers[0];
	store->follower_count = 0;
	c = behind_number(again, follower_encode(LOG_PUT_FOLLOWER, &first, again));
	assert(follower_apply(store, LOG_PUT_FOLLOWER, 5, &c) == 0 && store->follower_count == 1);
	assert(strcmp(second->host, first.host) == 0 &&
	       second->rules.lag_ns == first.rules.lag_ns &&
	       second->rules.lag_bytes == first.rules.lag_bytes &&
	       second->rules.rate_bytes == first.rules.rate_bytes &&
	       second->rules.in_step == first.rules.in_step &&
	       second->rules.degrade == first.rules.degrade &&
	       second->rules.comes_in_step == first.rules.comes_in_step &&
	       windows_equal(&second->rules.window, &first.rules.window));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	uint8_t block[BLOCK_BYTES] = {0};
	struct superblock sb;
	struct trailer trailer;
	struct dir_entry entry;
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	if (bytes < 1)
		return 0;
	enum decoder which = data[0] % DECODER_COUNT;
	data++;
	bytes--;
	memcpy(block, data, bytes < sizeof block ? bytes : sizeof block);
	switch (which) {
	case DECODE_SUPERBLOCK:
		superblock_decode(block, &sb);
		break;
	case DECODE_RECORD:
		record_decode_header(data, bytes, &entry, frames);
		break;
	case DECODE_SEGMENT_HEADER:
		segment_header_decode(uuid, 7, 3, block);
		break;
	case DECODE_TRAILER:
		trailer_decode(block, 7, 64 * MIB, &trailer);
		break;
	case DECODE_DIRECTORY:
		fuzz_directory(data, bytes);
		break;
	case DECODE_VOLUME:
		fuzz_volume(data, bytes);
		break;
	case DECODE_SNAPSHOT:
		fuzz_snapshot(data, bytes);
		break;
	case DECODE_SHIPPED:
		fuzz_shipped(data, bytes);
		break;
	case DECODE_POLICY:
		fuzz_policy(data, bytes);
		break;
	case DECODE_HOME:
		fuzz_home(data, bytes);
		break;
	case DECODE_FOLLOWER:
		fuzz_follower(data, bytes);
		break;
	default:
		fuzz_layer(data, bytes);
	}
	return 0;
}

static void corpus_write_sends(const char *folder)
{
	uint8_t buf[LOG_RECORD_BYTES_MAX];
	const struct volume volume = {.number = 5, .shipped = {{"host2", 7}, {"", 0}, {"h3", 9}}};
	const struct window nights = {.from = 22 * 60, .until = 6 * 60};
	struct policy policy = {
		.number = 5,
		.is.name = "daily",
		.is.rules = {.every_ns = 24 * 3600 * NSEC_PER_SEC, .keep = {1, 0, 7}}};
	struct follower follower = {.volume = 5,
				    .host = "host2",
				    .rules = {.lag_ns = 30 * NSEC_PER_SEC, .in_step = true}};
	corpus_put(folder, "shipped", DECODE_SHIPPED, buf, shipped_encode(&volume, buf));
	corpus_put(folder, "policy", DECODE_POLICY, buf, policy_encode(&policy, buf));
	memcpy(policy.is.rules.send_to[0], "host2", 6);
	memcpy(policy.is.rules.send_to[1], "h3", 3);
	policy.is.rules.rate_bytes = MIB;
	policy.is.rules.window = nights;
	corpus_put(folder, "policy_sends", DECODE_POLICY, buf, policy_encode(&policy, buf));
	struct named_policy home = policy.is;
	corpus_put(folder, "home", DECODE_HOME, buf, home_encode(5, &home, buf));
	corpus_put(folder, "home_none", DECODE_HOME, buf,
		   home_encode(5, &(struct named_policy){0}, buf));
	corpus_put(folder, "follower", DECODE_FOLLOWER, buf,
		   follower_encode(LOG_PUT_FOLLOWER, &follower, buf));
	follower.rules = (struct follower_rules){
		.lag_ns = 30 * NSEC_PER_SEC, .rate_bytes = MIB, .window = nights};
	corpus_put(folder, "follower_hours", DECODE_FOLLOWER, buf,
		   follower_encode(LOG_PUT_FOLLOWER, &follower, buf));
}

static int corpus_write(const char *folder)
{
	uint8_t buf[BLOCK_BYTES] = {0};
	struct superblock sb = {.generation = 3, .log_bytes = 8 * MIB};
	superblock_encode(&sb, buf);
	corpus_put(folder, "superblock", DECODE_SUPERBLOCK, buf, sizeof buf);
	struct dir_entry entry = {
		.type = RECORD_CHUNK, .domain = 1, .raw_bytes = CHUNK_BYTES, .frame_count = 4};
	struct frame_entry frames[4] = {{100, 1, FRAME_ZSTD},
					{16384, 2, FRAME_RAW},
					{0, 3, FRAME_ZERO},
					{9, 4, FRAME_ZSTD}};
	corpus_put(folder, "record", DECODE_RECORD, buf, record_encode_header(buf, &entry, frames));
	segment_header_encode(uuid, 7, 3, buf);
	corpus_put(folder, "segment", DECODE_SEGMENT_HEADER, buf, sizeof buf);
	struct directory directory = {0};
	entry.offset64 = 64;
	if (directory_add(&directory, &entry, frames) < 0)
		return 1;
	size_t size = footer_bytes(&directory);
	uint8_t *footer = malloc(size);
	footer_encode(&directory, 7, 64 * MIB - size, footer);
	corpus_put(folder, "trailer", DECODE_TRAILER, footer + size - BLOCK_BYTES, BLOCK_BYTES);
	struct trailer trailer;
	if (trailer_decode(footer + size - BLOCK_BYTES, 7, 64 * MIB, &trailer) < 0)
		return 1;
	uint8_t *with = malloc(8 + trailer.bytes);
	memcpy(with, &trailer.entry_count, 4);
	memcpy(with + 4, &trailer.crc, 4);
	memcpy(with + 8, footer, trailer.bytes);
	corpus_put(folder, "directory", DECODE_DIRECTORY, with, 8 + trailer.bytes);
	struct volume volume = {
		.number = 5, .name = "web1", .size_bytes = GIB, .frame_bytes = 16384};
	corpus_put(folder, "volume", DECODE_VOLUME, buf, volume_encode(&volume, buf));
	struct snapshot snapshot = {
		.number = 6, .volume = 5, .name = "clean", .hold_count = 1, .holds = {"audit"}};
	corpus_put(folder, "snapshot", DECODE_SNAPSHOT, buf, snapshot_encode(&snapshot, buf));
	struct layer_pool *pool = layer_pool_new(256);
	struct layer *layer = layer_new(pool, 2, 100);
	struct id id = {{9}};
	uint32_t crc[20] = {1, 2, 3};
	if (layer_write(layer, 5, 20, 77, crc) < 0 || layer_zero(layer, 1600, 3200) < 0 ||
	    layer_set_id(layer, 9, &id) < 0)
		return 1;
	size = layer_encoded_bytes(layer);
	struct cursor c = cursor_over(buf, size);
	layer_encode(layer, &c);
	corpus_put(folder, "layer", DECODE_LAYER, buf, size);
	corpus_write_sends(folder);
	return 0;
}

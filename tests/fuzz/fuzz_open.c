/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole store opened over foreign bytes: superblock, checkpoints, the log's ring, the index's
 * files, segments. The input is a list of changes {u8 file, u8 flags, u16 place, u8 bytes, bytes};
 * they are made to a store that is whole, the checksums over them are made right again (the log's
 * keyed ones too) unless a flag says not to, and then the store is opened, read, checked, closed.
 *
 * A refusal has a sentence; what opens can be read without one, or answers with an error.
 */
#include "proto/crc32c.h"
#include "storage/store/catalog.h"
#include "storage/store/codec.h"
#include "storage/store/index_file.h"
#include "storage/store/log.h"
#include "storage/store/replica.h"
#include "storage/store/store_follow.h"
#include "storage/store/store_list.h"
#include "storage/store/store_work.h"
#include "storage/store/superblock.h"
#include "tests/sim/simenv.h"

#define REPLAY_CHANGES_MAX 24u /* an opening takes some milliseconds */
#include "tests/fuzz/replay.h"

#include <assert.h>
#include <errno.h>

int vstore_mutant;

#define LOG_BYTES (8 * MIB)
#define STEPS_MAX 3000000u
#define DATA_BYTES (6 * (uint64_t)CHUNK_BYTES)

enum change_flags { CHANGE_LEAVE_CHECKSUMS = 1, CHANGE_FROM_END = 2, CHANGE_LARGE_PLACE = 4 };

static const char *const names[] = {"superblock", "checkpoint.0", "checkpoint.1", "log",
				    "index.0",	  "index.1",	  "seg/1",	  "seg/2",
				    "seg/3",	  "seg/4",	  "seg/5",	  "seg/6"};
#define FILE_COUNT (sizeof names / sizeof *names)

struct image {
	uint8_t *bytes[FILE_COUNT];
	uint64_t size[FILE_COUNT];
};
static struct image whole;
static struct superblock superblock;

/* ---- files of the simulated disk ---- */

static struct env_dir *folder_of(struct env *env, unsigned file, char ret_name[40])
{
	struct env_dir *dir;
	bool segment = strncmp(names[file], "seg/", 4) == 0;
	snprintf(ret_name, 40, "%s", names[file]);
	if (segment)
		snprintf(ret_name, 40, "%016x", (unsigned)atoi(names[file] + 4));
	return env_dir_open(env, segment ? "store/seg" : "store", &dir) < 0 ? NULL : dir;
}

static void image_read(struct env *env, struct image *image)
{
	for (unsigned i = 0; i < FILE_COUNT; i++) {
		char name[40];
		struct env_file *file;
		struct env_dir *dir = folder_of(env, i, name);
		if (env_file_open(dir, name, ENV_RDONLY, &file) == 0) {
			image->size[i] = (uint64_t)env_file_bytes(file);
			image->bytes[i] = calloc(1, image->size[i] + 1);
			if (env_file_read_wait(file, image->bytes[i], (uint32_t)image->size[i], 0) <
			    0)
				abort();
			env_file_close(file);
		}
		env_dir_close(dir);
	}
}

static void file_put(struct env *env, const struct image *image, unsigned i)
{
	char name[40];
	struct env_file *file;
	struct env_dir *dir = folder_of(env, i, name);
	if (env_file_open(dir, name, ENV_CREATE, &file) < 0)
		abort();
	for (uint64_t at = 0; at < image->size[i];) {
		/* The log is zeros mostly, and those need no writing in a new file. */
		uint32_t part = (uint32_t)min_u64(64 * KIB, image->size[i] - at);
		bool last = at + part == image->size[i];
		if ((last ||
		     memcmp(image->bytes[i] + at, image->bytes[i] + at + 1, part - 1) != 0 ||
		     image->bytes[i][at]) &&
		    env_file_write_wait(file, image->bytes[i] + at, part, at) < 0)
			abort();
		at += part;
	}
	env_file_close(file);
	env_dir_close(dir);
}

/* ---- checksums ---- */

static void seal_block(uint8_t *block)
{
	uint32_t crc = htole32(crc32c(0, block, 4092));
	memcpy(block + 4092, &crc, 4);
}

static uint64_t number(const uint8_t *at, unsigned bytes)
{
	uint64_t value = 0;
	memcpy(&value, at, bytes);
	return le64toh(value);
}

static void put_number(uint8_t *at, uint64_t value, unsigned bytes)
{
	value = htole64(value);
	memcpy(at, &value, bytes);
}

static void seal_checkpoint(uint8_t *file, uint64_t size)
{
	if (size < 4096)
		return;
	uint64_t body = min_u64(number(file + 64, 8), size - 4096);
	put_number(file + 72, crc32c(0, file + 4096, body), 4);
	seal_block(file);
}

static void seal_index(uint8_t *file, uint64_t size)
{
	uint64_t at = INDEX_PAGES_OFFSET;
	if (size < at)
		return;
	for (uint32_t shard = 0; shard < INDEX_SHARDS; shard++) {
		uint8_t *entry = file + INDEX_HEADER_BYTES + 8 * shard;
		uint64_t bytes = min_u64(8 * number(entry, 4), size - at);
		put_number(entry + 4, index_page_crc(shard, file + at, bytes), 4);
		at += bytes;
	}
	uint64_t list = min_u64(number(file + 48, 8), size);
	uint64_t bytes = min_u64(number(file + 56, 4) * INDEX_SEGMENT_BYTES, size - list);
	put_number(file + 64, crc32c(0, file + INDEX_HEADER_BYTES, INDEX_TABLE_BYTES), 4);
	put_number(file + 68, crc32c(0, file + list, bytes), 4);
	seal_block(file);
}

/* The chain from the newer checkpoint's place on. */
static void seal_log(struct image *image)
{
	const uint8_t *checkpoint = image->bytes[1];
	if (image->size[2] >= 4096 && number(image->bytes[2] + 24, 8) > number(checkpoint + 24, 8))
		checkpoint = image->bytes[2];
	uint64_t blocks = image->size[3] / BLOCK_BYTES, pos = number(checkpoint + 32, 8);
	uint8_t chain[16];
	memcpy(chain, checkpoint + 48, 16);
	for (unsigned i = 0; i < 64; i++) {
		uint64_t ring = pos % blocks;
		uint8_t *header = image->bytes[3] + ring * BLOCK_BYTES;
		uint64_t headers = number(header + 72, 4), payload = number(header + 76, 4);
		uint64_t records = number(header + 64, 4);
		if (memcmp(header, "VSCOMMIT", 8) != 0 || headers == 0 || headers > 8 ||
		    payload > 256 || ring + headers + payload > blocks ||
		    104 + records + 4 * payload > headers * BLOCK_BYTES)
			return;
		memcpy(header + 48, chain, 16);
		for (uint64_t k = 0; k < payload; k++)
			put_number(header + 104 + records + 4 * k,
				   log_block_crc((uint32_t)(ring + headers + k),
						 header + (headers + k) * BLOCK_BYTES),
				   4);
		codec_keyed_check(superblock.secret, header, 88, header + 104,
				  headers * BLOCK_BYTES - 104, header + 88);
		memcpy(chain, header + 88, 16);
		pos += headers + payload;
	}
}

static void seal_segment(uint8_t *file, uint64_t size)
{
	if (size < 3 * BLOCK_BYTES)
		return;
	uint8_t *trailer = file + size - BLOCK_BYTES;
	uint64_t offset = min_u64(number(trailer + 16, 8), size);
	uint64_t bytes = min_u64(number(trailer + 24, 8), size - offset);
	put_number(trailer + 36, crc32c(0, file + offset, bytes), 4);
	seal_block(trailer);
	seal_block(file);
}

static void seal(struct image *image)
{
	seal_block(image->bytes[0]);
	seal_block(image->bytes[0] + SUPERBLOCK_COPY_OFFSET);
	for (unsigned i = 1; i < 3; i++)
		seal_checkpoint(image->bytes[i], image->size[i]);
	for (unsigned i = 4; i < 6; i++)
		seal_index(image->bytes[i], image->size[i]);
	for (unsigned i = 6; i < FILE_COUNT; i++)
		seal_segment(image->bytes[i], image->size[i]);
	seal_log(image);
}

/* ---- the store ---- */

static void done(struct io_op *op)
{
	op->link = op; /* no list has it: a mark that it ended */
}

static void wait_for(struct env *env, struct io_op *op)
{
	for (unsigned step = 0; op->link != op; step++)
		if (step == STEPS_MAX || !env_step(env, true))
			abort(); /* it hangs */
}

static const struct store_options options = {.cache_bytes = MIB,
					     .node_cache_bytes = MIB,
					     .directory_cache_bytes = MIB,
					     .idle_fold_ns = 3600 * NSEC_PER_SEC};

static int request(struct env *env, struct view *view, enum request_kind kind, uint64_t bytes,
		   void *data)
{
	struct store_request r = {
		.op.done = done, .view = view, .kind = kind, .length_bytes = bytes, .data = data};
	store_submit(&r);
	wait_for(env, &r.op);
	return (int)r.op.res;
}

#define CHANGE(store, call, ...)                                                                   \
	do {                                                                                       \
		struct admin_op op = {.op.done = done};                                            \
		call(store, &op, __VA_ARGS__);                                                     \
		wait_for(env, &op.op);                                                             \
		if (op.op.res < 0)                                                                 \
			abort();                                                                   \
	} while (0)

/* What is sent to other hosts, how fast, when, and what went there: `again` changes all of it. */
static void sends_make(struct env *env, struct store *store, bool again)
{
	const struct policy_rules policy = {.every_ns = 24 * 3600 * NSEC_PER_SEC,
					    .keep = {again ? 3 : 2},
					    .send_to = {"host2", "h3"},
					    .rate_bytes = MIB,
					    .window = {22 * 60, 6 * 60}};
	const struct follower_rules follower = {
		.lag_ns = 30 * NSEC_PER_SEC, .rate_bytes = MIB, .window = {20 * 60, 7 * 60}};
	const struct follower_pace pace = {.has_rate = true, .rate_bytes = 2 * MIB};
	struct volume_info *volumes;
	size_t count;
	if (store_volumes(store, false, &volumes, &count) < 0 || count != 1u + again)
		abort();
	uint32_t number = volumes[0].number;
	free(volumes);
	if (!again) {
		CHANGE(store, store_peer_add, "host2", "10.0.0.2:1");
		CHANGE(store, store_peer_add, "h3", "10.0.0.3:1");
	}
	CHANGE(store, store_policy_set, "daily", &policy);
	if (again) {
		CHANGE(store, store_follower_pace, "a", "host2", &pace);
	} else {
		CHANGE(store, store_policy_attach, "a", "daily");
		CHANGE(store, store_follower_set, "a", "host2", &follower);
	}
	CHANGE(store, store_shipped, number, "host2", again ? 9 : 7, 1);
	CHANGE(store, store_shipped, number, "h3", again ? 8 : 3, 0);
}

/* A copy, empty, that knows its original's policy: `again` another one. */
static void copy_make(struct env *env, struct store *store, bool again)
{
	struct store_offer offer = {
		.volume_uuid = {9},
		.size_bytes = 64 * MIB,
		.frame_bytes = 16384,
		.level = 1,
		.policy = {.told = true,
			   .policy = {.name = "home",
				      .rules = {.keep = {again ? 3 : 2}, .send_to = {"h3"}}}}};
	struct domain_info *domains;
	size_t count;
	if (store_domains(store, &domains, &count) < 0)
		abort();
	memcpy(offer.domain, domains[0].uuid, 16);
	free(domains);
	if (again)
		CHANGE(store, store_copy_policy, "host2/c", &offer.policy);
	else
		CHANGE(store, replica_make, "host2/c", &offer);
}

static void whole_make(void)
{
	struct sim *sim = sim_new(1);
	struct env *env = sim_env(sim);
	char sentence[SENTENCE_BYTES];
	struct store *store;
	struct view *view;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, DATA_BYTES);
	const struct store_make_options make = {.log_bytes = LOG_BYTES};
	const struct volume_options volume = {.size_bytes = 64 * MIB};
	const char *snapshots[] = {"a@one"};
	for (uint64_t i = 0; i < DATA_BYTES; i++)
		data[i] = (uint8_t)(i * i >> 7);
	if (store_make(env, "store", &make, sentence) < 0 ||
	    store_open(env, "store", &options, &store, sentence) < 0)
		abort();
	struct admin_op op = {.op.done = done};
	store_volume_create(store, &op, "a", &volume);
	wait_for(env, &op.op);
	if (op.op.res < 0 || store_view_open(store, "a", &view) < 0)
		abort();
	if (request(env, view, REQUEST_WRITE, DATA_BYTES, data) < 0)
		abort();
	struct store_work work = {.op.done = done};
	store_fold(store, &work, "a");
	wait_for(env, &work.op);
	store_view_close(view);
	sends_make(env, store, false);
	copy_make(env, store, false);
	if (store_close(store) < 0 || store_open(env, "store", &options, &store, sentence) < 0 ||
	    store_view_open(store, "a", &view) < 0)
		abort();
	/* What the log alone has: small writes, a snapshot, a change, then kill -9. */
	request(env, view, REQUEST_WRITE, 3 * BLOCK_BYTES, data + BLOCK_BYTES);
	op = (struct admin_op){.op.done = done};
	store_snap_create(store, &op, snapshots, 1);
	wait_for(env, &op.op);
	request(env, view, REQUEST_ZERO, 2 * BLOCK_BYTES, NULL);
	request(env, view, REQUEST_FLUSH, 0, NULL);
	sends_make(env, store, true);
	copy_make(env, store, true);
	store_view_close(view);
	sim_crash(sim, false);
	store_abandon(store);
	image_read(env, &whole);
	struct env_dir *dir;
	if (env_dir_open(env, "store", &dir) < 0 || superblock_read(dir, &superblock, sentence) < 0)
		abort();
	env_dir_close(dir);
	sim_free(sim);
	free(data);
}

/* Who sends what: names that end, and numbers that can be asked for. */
static void lists_look(struct store *store)
{
	struct policy_info *policies;
	struct follower_info *followers;
	struct volume_info *volumes;
	size_t count;
	if (store_volumes(store, false, &volumes, &count) == 0) {
		for (size_t i = 0; i < count; i++) {
			struct told_policy told;
			assert(memchr(volumes[i].home_policy, 0, NAME_ROOM));
			store_policy_told(store, volumes[i].number, &told);
		}
		free(volumes);
	}
	if (store_policies(store, &policies, &count) == 0) {
		for (size_t i = 0; i < count; i++)
			for (unsigned k = 0; k < POLICY_HOSTS_MAX; k++)
				assert(memchr(policies[i].rules.send_to[k], 0, NAME_ROOM));
		free(policies);
	}
	if (store_followers(store, &followers, &count) == 0) {
		for (size_t i = 0; i < count; i++) {
			assert(window_good(&followers[i].rules.window));
			(void)store_shipped_until(store, followers[i].volume_number,
						  followers[i].host, 1);
		}
		free(followers);
	}
}

static void look(struct env *env)
{
	static uint8_t data[DATA_BYTES] __attribute__((aligned(4096)));
	char sentence[SENTENCE_BYTES] = "";
	struct store *store;
	struct view *view;
	if (store_open(env, "store", &options, &store, sentence) < 0) {
		assert(sentence[0]);
		return;
	}
	for (unsigned i = 0; i < 2; i++)
		if (store_view_open(store, i ? "a@one" : "a", &view) == 0) {
			uint64_t bytes = min_u64(store_view_bytes(view), sizeof data);
			request(env, view, REQUEST_READ, bytes, data);
			if (!i)
				request(env, view, REQUEST_WRITE, min_u64(bytes, BLOCK_BYTES),
					data);
			store_view_close(view);
		}
	lists_look(store);
	struct store_work work = {.op.done = done};
	store_check(store, &work);
	wait_for(env, &work.op);
	(void)store_close(store);
}

static bool change(struct image *image, const uint8_t **at, const uint8_t *end, bool *ret_leave)
{
	const uint8_t *p = *at;
	if (end - p < 6 || end - p < 5 + p[4])
		return false;
	unsigned file = p[0] % FILE_COUNT, bytes = p[4];
	uint64_t size = image->size[file], place = (uint64_t)p[2] | (uint64_t)p[3] << 8;
	if (p[1] & CHANGE_LARGE_PLACE)
		place *= 128;
	if (p[1] & CHANGE_FROM_END)
		place = size - min_u64(size, place);
	*ret_leave |= p[1] & CHANGE_LEAVE_CHECKSUMS;
	if (place < size)
		memcpy(image->bytes[file] + place, p + 5, min_u64(bytes, size - place));
	*at = p + 5 + bytes;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	const uint8_t *at = data, *end = data + bytes;
	struct image image = {0};
	bool leave = false;
	if (!whole.bytes[0])
		whole_make();
	for (unsigned i = 0; i < FILE_COUNT; i++) {
		image.size[i] = whole.size[i];
		image.bytes[i] = malloc(whole.size[i] + 1);
		if (whole.bytes[i])
			memcpy(image.bytes[i], whole.bytes[i], whole.size[i]);
	}
	while (change(&image, &at, end, &leave))
		;
	if (!leave)
		seal(&image);
	struct sim *sim = sim_new(1);
	struct env_dir *dir;
	const struct store_make_options make = {.log_bytes = LOG_BYTES};
	char sentence[SENTENCE_BYTES];
	if (store_make(sim_env(sim), "store", &make, sentence) < 0 ||
	    env_dir_open(sim_env(sim), "store", &dir) < 0)
		abort();
	env_dir_close(dir);
	for (unsigned i = 0; i < FILE_COUNT; i++)
		if (image.size[i])
			file_put(sim_env(sim), &image, i);
	look(sim_env(sim));
	sim_free(sim);
	for (unsigned i = 0; i < FILE_COUNT; i++)
		free(image.bytes[i]);
	return 0;
}

/* In the newest record of this kind that a file of the whole store has, two bytes are others. What
 * lies far behind is reached from a place before it, with the bytes between as they are. */
static int corpus_put_in(const char *folder, const char *name, uint8_t file, uint8_t kind,
			 uint16_t bytes, unsigned at, uint8_t value)
{
	const uint8_t head[] = {kind, 0, (uint8_t)bytes, (uint8_t)(bytes >> 8)};
	const uint8_t *found = NULL, *from = whole.bytes[file], *end = from + whole.size[file];
	for (const uint8_t *p; (p = memmem(from, (size_t)(end - from), head, sizeof head));
	     from = p + 1)
		found = p;
	if (!found) {
		fprintf(stderr, "%s has no record %u of %u bytes\n", names[file], kind, bytes);
		return 1;
	}
	uint64_t byte = (uint64_t)(found - whole.bytes[file]) + at, place = byte / 128;
	uint8_t between = byte % 128;
	uint8_t input[5 + 128 + 2] = {CHANGE_LARGE_PLACE, (uint8_t)place, (uint8_t)(place >> 8),
				      (uint8_t)(between + 2)};
	memcpy(input + 4, whole.bytes[file] + place * 128, between);
	memset(input + 4 + between, value, 2);
	corpus_put(folder, name, file, input, 4u + between + 2u);
	return 0;
}

/* What is sent, in the newer checkpoint and in the log: a host, a number, hours, a limit. */
static int corpus_write_sends(const char *folder)
{
	if (!whole.bytes[0])
		whole_make();
	bool second = number(whole.bytes[2] + 24, 8) > number(whole.bytes[1] + 24, 8);
	const struct {
		const char *name;
		uint8_t file, kind;
		uint16_t bytes;
		uint8_t at, value;
	} inputs[] = {
		{"checkpoint_shipped_host", 1 + second, LOG_SHIPPED, 224, 80, '/'},
		{"checkpoint_policy_hours", 1 + second, LOG_PUT_POLICY, 312, 112, 255},
		{"checkpoint_follower_hours", 1 + second, LOG_PUT_FOLLOWER, 112, 104, 5},
		{"log_shipped_host", 3, LOG_SHIPPED, 224, 80, 'x'},
		{"log_policy_host", 3, LOG_PUT_POLICY, 312, 120, 'x'},
		{"checkpoint_home_name", 1 + second, LOG_HOME_POLICY, 312, 8, '/'},
		{"checkpoint_home_host", 1 + second, LOG_HOME_POLICY, 312, 184, 'h'},
		{"log_home_name", 3, LOG_HOME_POLICY, 312, 70, 'x'},
		{"log_home_hours", 3, LOG_HOME_POLICY, 312, 112, 255},
		{"log_follower_limit", 3, LOG_PUT_FOLLOWER, 112, 88, 255},
	};
	int res = 0;
	for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
		res |= corpus_put_in(folder, inputs[i].name, inputs[i].file, inputs[i].kind,
				     inputs[i].bytes, inputs[i].at, inputs[i].value);
	return res;
}

/* One change each, of a number that matters. */
static int corpus_write(const char *folder)
{
	static const struct {
		const char *name;
		uint8_t bytes[14];
		size_t count;
	} inputs[] = {
		{"nothing", {0}, 1},
		{"superblock_log_bytes", {0, 0, 88, 0, 2, 0, 0}, 7},
		{"checkpoint_volumes", {2, 0, 4, 16, 2, 3, 0}, 7},
		{"checkpoint_place", {1, 0, 32, 0, 1, 9}, 6},
		{"checkpoint_body_bytes", {2, 0, 64, 0, 2, 1, 0}, 7},
		{"log_records", {3, 0, 64, 0, 1, 8}, 6},
		{"log_kind", {3, 0, 104, 0, 2, 7, 1}, 7},
		{"log_torn", {3, 1, 0, 16, 1, 1}, 6},
		{"index_entries", {5, 0, 40, 0, 1, 9}, 6},
		{"index_page", {4, 0, 0, 18, 4, 1, 2, 3, 4}, 9},
		{"index_list", {4, 2, 0, 16, 2, 0, 0}, 7},
		{"segment_record", {7, 0, 0, 16, 8, 1, 1, 1, 1, 2, 99, 0, 1}, 13},
		{"segment_trailer", {7, 2, 240, 15, 2, 3, 3}, 7},
	};
	for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
		corpus_put(folder, inputs[i].name, inputs[i].bytes[0], inputs[i].bytes + 1,
			   inputs[i].count - 1);
	return corpus_write_sends(folder);
}

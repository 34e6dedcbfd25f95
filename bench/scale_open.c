/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Row 10: how long a store of many chunks takes from kill -9 to the first served read, and what its
 * index takes in memory. Usage: scale_open FOLDER MILLIONS...
 *
 * The store is made by its own code: superblock, log, catalog, checkpoints, segments' headers and
 * directories, index files, and a volume of real data. What is made up: the ids of all other
 * chunks, whose segments are files with holes where the records would lie (nothing reads them
 * here). Before the kill, as many segments are sealed as the index's file may lack, and guests
 * wrote 64 MiB of 4 KiB blocks that are in the log only. Caches of the kernel stay warm, as they do
 * after a kill; the store reads past them.
 */
#include "proto/err.h"
#include "storage/rt/log_event.h"
#include "storage/store/behind.h"
#include "storage/store/index_file.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RECORDS 2000u /* of a segment: what 64 MiB hold at about 2:1 */
/* Of a frame: as little as lets 50 M of them look smaller than the disk, which would be low on room
 * otherwise, and then collections begin by need. */
#define STORED_BYTES 300u
#define REAL_BYTES (64 * MIB)
#define LOG_TAIL_BYTES (64 * MIB)
#define ROUNDS 4

struct measure {
	double first_read_s, loaded_s;
	double bytes_per_chunk;
	uint64_t chunks, resident_bytes;
};

static char path[400];
static struct env *env;
static struct store *store;

static void die(const char *what, int res)
{
	fprintf(stderr, "scale_open: %s: %s\n", what, vs_strerror(res));
	exit(1);
}

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t mixed(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static void open_store(void)
{
	const char *why;
	char sentence[SENTENCE_BYTES];
	int res = env_real_new(&(struct env_real_options){0}, &env, &why);
	if (res < 0)
		die(why, res);
	/* No volume has the made-up chunks, so nothing may collect them. */
	struct store_options options = {.any_file_system = true, .gc_interval_ns = GC_NEVER};
	res = store_open(env, path, &options, &store, sentence);
	if (res < 0)
		die(sentence, res);
}

static void request(struct view *view, enum request_kind kind, uint64_t offset, uint64_t bytes,
		    void *data)
{
	struct store_request request = {.view = view,
					.kind = kind,
					.offset_bytes = offset,
					.length_bytes = bytes,
					.data = data};
	env_wait_prepare(&request.op);
	store_submit(&request);
	int res = (int)env_wait(env, &request.op);
	if (res < 0)
		die("a request failed", res);
}

static struct view *view_open(void)
{
	struct view *view;
	int res = store_view_open(store, "real", &view);
	if (res < 0)
		die("the volume cannot be opened", res);
	return view;
}

static void settle(void)
{
	while (!segments_idle(store) || !log_idle(store->log) || !index_loaded(store) ||
	       !index_write_idle(store) || checkpoint_running(store))
		env_step(env, true);
}

/* ---- making ---- */

static void real_volume(void)
{
	struct admin_op admin = {0};
	struct volume_options options = {.size_bytes = REAL_BYTES};
	struct store_work work = {0};
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	env_wait_prepare(&admin.op);
	store_volume_create(store, &admin, "real", &options);
	int res = (int)env_wait(env, &admin.op);
	if (res < 0)
		die(admin.sentence, res);
	struct view *view = view_open();
	for (uint64_t at = 0; at < REAL_BYTES; at += MIB) {
		for (uint64_t i = 0; i < MIB / 8; i++)
			((uint64_t *)(void *)data)[i] = mixed(at + i);
		request(view, REQUEST_WRITE, at, MIB, data);
	}
	store_view_close(view);
	free(data);
	env_wait_prepare(&work.op);
	store_fold(store, &work, "real");
	res = (int)env_wait(env, &work.op);
	if (res < 0)
		die("the volume cannot be folded", res);
}

static void write_at(int fd, const void *data, size_t bytes, uint64_t offset)
{
	if (pwrite(fd, data, bytes, (off_t)offset) != (ssize_t)bytes)
		die("a segment's file cannot be written", -errno);
}

/* A sealed segment of `count` chunks that nobody wrote. */
static void made_up_segment(uint64_t first_chunk, uint32_t count, struct directory *directory)
{
	uint8_t header[SEGMENT_HEADER_BYTES];
	char name[600];
	uint32_t slot = segments_slot_count(store) ? segments_slot_count(store) : 1;
	uint64_t id = store->next_segment_id;
	uint64_t at = SEGMENT_HEADER_BYTES;
	int res = segments_add(store, id, slot);
	directory->entry_count = directory->frame_count = 0;
	for (uint32_t i = 0; i < count && res == 0; i++) {
		struct dir_entry entry = {.type = RECORD_CHUNK,
					  .domain = 1,
					  .raw_bytes = CHUNK_BYTES,
					  .frame_count = 4,
					  .offset64 = (uint32_t)(at / RECORD_ALIGN)};
		struct frame_entry frames[4];
		memset(frames, 0, sizeof frames);
		for (unsigned k = 0; k < 4; k++) {
			uint64_t word = mixed((first_chunk + i) * 4 + k + 1);
			memcpy(entry.id.bytes + 8 * k, &word, 8);
			frames[k].stored_bytes = STORED_BYTES;
			frames[k].codec = 1;
		}
		res = directory_add(directory, &entry, frames);
		if (res == 0)
			res = index_insert(store->index, &entry.id,
					   location_of(slot, entry.offset64));
		at += round_up(record_bytes(&entry, frames), RECORD_ALIGN);
	}
	if (res < 0)
		die("a segment cannot be made up", res);
	at = round_up(at, BLOCK_BYTES);
	size_t bytes = footer_bytes(directory);
	uint8_t *footer = calloc(1, bytes);
	snprintf(name, sizeof name, "%s/seg/%016llx", path, (unsigned long long)id);
	int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
	if (fd < 0 || !footer)
		die(name, -errno);
	segment_header_encode(store->sb.uuid, id, slot, header);
	footer_encode(directory, id, at, footer);
	write_at(fd, header, sizeof header, 0);
	write_at(fd, footer, bytes, at);
	close(fd);
	free(footer);
	struct segment *segment = segment_of(store, slot);
	segment->state = SEGMENT_SEALED;
	store->segment_bytes += at + bytes - segment->bytes;
	segment->bytes = at + bytes;
}

static void made_up_segments(uint64_t from, uint64_t count)
{
	struct directory directory = {0};
	settle(); /* no other segment is being made */
	for (uint64_t i = 0; i < count; i += RECORDS)
		made_up_segment(from + i, (uint32_t)min_u64(RECORDS, count - i), &directory);
	free(directory.entries);
	free(directory.frames);
}

static void make(uint64_t chunks)
{
	char sentence[SENTENCE_BYTES];
	const char *why;
	int res = env_real_new(&(struct env_real_options){0}, &env, &why);
	if (res == 0)
		res = store_make(env, path, &(struct store_make_options){.any_file_system = true},
				 sentence);
	if (res < 0)
		die("no store can be made", res);
	env_real_free(env);
	open_store();
	real_volume();
	made_up_segments(0, chunks);
	res = store_close(store);
	if (res < 0)
		die("the store cannot be closed", res);
	exit(0);
}

/* Work on until as much as can be is in no file of the index; then the process is killed. */
static void crash(uint64_t chunks)
{
	uint8_t *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	open_store();
	settle();
	uint64_t covered = segments_slot_count(store), tick = store->counters.checkpoints;
	uint64_t lag = max_u64(16, min_u64(covered / 64, 128)) - 3; /* open ones may be sealed */
	made_up_segments(chunks, lag * RECORDS);
	checkpoint_want(store);
	while (store->counters.checkpoints == tick)
		env_step(env, true);
	struct view *view = view_open();
	for (uint64_t at = 0; at < LOG_TAIL_BYTES; at += BLOCK_BYTES) {
		memset(block, (int)(at / BLOCK_BYTES), BLOCK_BYTES);
		request(view, REQUEST_WRITE,
			mixed(at) % (REAL_BYTES / 4 / BLOCK_BYTES) * BLOCK_BYTES, BLOCK_BYTES,
			block);
	}
	fprintf(stderr, "  killed with %llu of %llu segments in the index's file\n",
		(unsigned long long)(covered - 1), (unsigned long long)(covered - 1 + lag));
	raise(SIGKILL);
}

/* ---- measuring ---- */

static uint64_t resident_bytes(void)
{
	unsigned long long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	if (!file || fscanf(file, "%*u %llu", &pages) != 1)
		pages = 0;
	if (file)
		fclose(file);
	return pages * 4096;
}

static void measure(int out)
{
	struct measure m = {0};
	uint8_t *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	double start = seconds();
	open_store();
	request(view_open(), REQUEST_READ, REAL_BYTES / 2, BLOCK_BYTES, block);
	m.first_read_s = seconds() - start;
	while (!index_loaded(store))
		env_step(env, true);
	m.loaded_s = seconds() - start;
	m.chunks = index_count(store->index);
	m.bytes_per_chunk = (double)index_bytes(store->index) / (double)m.chunks;
	m.resident_bytes = resident_bytes();
	if (write(out, &m, sizeof m) != sizeof m)
		exit(1);
	raise(SIGKILL); /* the next round opens the same */
}

static void child(void (*run)(uint64_t chunks), uint64_t chunks, bool killed)
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		run(chunks);
	if (pid < 0 || waitpid(pid, &status, 0) < 0 ||
	    (killed ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL : status != 0))
		exit(1);
}

static struct measure round_of(const char *folder, uint64_t chunks)
{
	struct measure all[ROUNDS];
	snprintf(path, sizeof path, "%s/scale_open.XXXXXX", folder);
	if (!mkdtemp(path))
		die(folder, -errno);
	child(make, chunks, false);
	child(crash, chunks, true);
	for (unsigned i = 0; i < ROUNDS; i++) {
		int pipes[2], status;
		if (pipe(pipes) < 0)
			die("pipe", -errno);
		pid_t pid = fork();
		if (pid == 0)
			measure(pipes[1]);
		close(pipes[1]);
		if (read(pipes[0], &all[i], sizeof all[i]) != sizeof all[i])
			exit(1);
		close(pipes[0]);
		waitpid(pid, &status, 0);
	}
	char command[500];
	snprintf(command, sizeof command, "rm -rf '%s'", path);
	if (system(command) != 0)
		fprintf(stderr, "scale_open: %s stays\n", path);
	const struct measure *m = &all[0]; /* the others found a newer checkpoint, most of them */
	printf("%.1f M chunks: kill -9 to first read %.3f s (again:", (double)m->chunks / 1e6,
	       m->first_read_s);
	for (unsigned i = 1; i < ROUNDS; i++)
		printf(" %.3f", all[i].first_read_s);
	printf("), all of the index in memory after %.2f s; %.2f bytes a chunk, process %.0f MiB\n",
	       m->loaded_s, m->bytes_per_chunk, (double)m->resident_bytes / (double)MIB);
	fflush(stdout);
	return *m;
}

int main(int argc, char **argv)
{
	struct measure before = {0};
	if (argc < 3) {
		fprintf(stderr, "usage: scale_open FOLDER MILLIONS...\n");
		return 2;
	}
	log_level_set(LOG_LEVEL_ERROR);
	for (int i = 2; i < argc; i++) {
		struct measure m = round_of(argv[1], (uint64_t)(atof(argv[i]) * 1e6));
		if (before.chunks && m.chunks > before.chunks)
			printf("slope: %.1f ns a chunk more\n",
			       (m.first_read_s - before.first_read_s) * 1e9 /
				       (double)(m.chunks - before.chunks));
		before = m;
	}
	return 0;
}

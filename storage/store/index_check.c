/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the index's files in full and names what is damaged; such a file is written anew. A file
 * that is being written, or was written meanwhile, is left out: its turn comes at the next check.
 * A head that is not whole is damage only in the file that should be in use: in the other one it is
 * what a crash leaves.
 */
#include "storage/store/index_file.h"

#include "storage/store/store_int.h"
#include "storage/store/work.h"

#include <stdio.h>
#include <stdlib.h>

enum check_phase { CHECK_OPEN, CHECK_HEAD, CHECK_PAGES, CHECK_LIST };

void index_check_done(struct index_check *check)
{
	env_file_close(check->file);
	check->file = NULL;
	if (check->buf)
		env_memory_free(check->store->env, check->buf, check->buf_bytes);
	check->buf = NULL;
	index_head_free(&check->head);
}

static void file_end(struct index_check *check)
{
	index_check_done(check);
	check->phase = CHECK_OPEN;
	check->file_no++;
}

static void damaged(struct index_check *check, const char *what)
{
	char line[SENTENCE_BYTES];
	snprintf(line, sizeof line,
		 "%s: %s is damaged: the index is taken from the segments instead, and the file "
		 "is written anew; nothing is lost",
		 index_file_name(check->file_no), what);
	check->report(check, line);
	if (!check->store->read_only)
		index_write_mend(check->store, check->file_no);
}

static void part_read(struct io_op *op)
{
	struct index_check *check = container_of(op, struct index_check, op);
	check->busy = false;
	check->wake(check);
}

/* `bytes` from `offset` on come into buf. */
static int part_start(struct index_check *check, enum check_phase phase, uint64_t offset,
		      uint64_t bytes)
{
	uint64_t from = round_down(offset, BLOCK_BYTES);
	uint64_t room = round_up(max_u64(offset + bytes - from, 1), BLOCK_BYTES);
	struct env *env = check->store->env;
	if (check->buf_bytes < room) {
		if (check->buf)
			env_memory_free(env, check->buf, check->buf_bytes);
		check->buf_bytes = room;
		check->buf = env_memory(env, room);
		if (!check->buf)
			return -ENOMEM;
	}
	check->phase = phase;
	check->page_bytes = offset + bytes - from; /* what must be there */
	check->busy = true;
	check->op.done = part_read;
	env_file_read(check->file, &check->op, check->buf, (uint32_t)room, from);
	return WAITING;
}

/* The next page, or, behind the last one, the list. */
static int page_next(struct index_check *check)
{
	const struct index_head *head = &check->head;
	while (check->shard < INDEX_SHARDS && head->pages[check->shard].entry_count == 0)
		check->shard++;
	if (check->shard < INDEX_SHARDS)
		return part_start(check, CHECK_PAGES, check->offset,
				  8ull * head->pages[check->shard].entry_count);
	return part_start(check, CHECK_LIST, head->header.segments_offset,
			  head->header.segment_count * (uint64_t)INDEX_SEGMENT_BYTES);
}

static int file_open(struct index_check *check)
{
	struct store *store = check->store;
	if (check->file_no == 2)
		return 0;
	check->generation = store->index_generation;
	check->shard = 0;
	check->buf_bytes = 0;
	int res = env_file_open(store->dir, index_file_name(check->file_no),
				ENV_RDONLY | ENV_DIRECT, &check->file);
	bool used = check->generation && check->generation % 2 == check->file_no;
	if (res < 0 || index_write_file(store) == (int)check->file_no) {
		if (res < 0 && used)
			damaged(check, "the file itself");
		file_end(check);
		return WALK_MORE;
	}
	return part_start(check, CHECK_HEAD, 0, INDEX_PAGES_OFFSET);
}

static int head_look(struct index_check *check, bool whole)
{
	int res = whole ? index_head_decode(check->store->sb.uuid, check->buf, &check->head)
			: -VS_EFORMAT;
	if (res == -ENOMEM)
		return res;
	if (res < 0) {
		if (check->generation && check->generation % 2 == check->file_no)
			damaged(check, "its head");
		file_end(check);
		return WALK_MORE;
	}
	check->offset = INDEX_PAGES_OFFSET;
	return page_next(check);
}

static int page_look(struct index_check *check, bool whole)
{
	const struct index_page *page = &check->head.pages[check->shard];
	char what[40];
	if (!whole ||
	    !index_page_good(page, check->shard, check->buf + check->offset % BLOCK_BYTES)) {
		snprintf(what, sizeof what, "page %u", check->shard);
		damaged(check, what);
		file_end(check); /* one is enough to know */
		return WALK_MORE;
	}
	check->offset += 8ull * page->entry_count;
	check->shard++;
	return page_next(check);
}

int index_check_step(struct index_check *check)
{
	struct store *store = check->store;
	if (check->busy)
		return WAITING;
	if (check->phase == CHECK_OPEN)
		return file_open(check);
	if (index_write_file(store) == (int)check->file_no ||
	    store->index_generation != check->generation) {
		file_end(check);
		return WALK_MORE;
	}
	bool whole = check->op.res >= 0 && (uint64_t)check->op.res >= check->page_bytes;
	if (check->phase == CHECK_HEAD)
		return head_look(check, whole);
	if (check->phase == CHECK_PAGES)
		return page_look(check, whole);
	if (!whole || index_list_decode(&check->head, check->buf) < 0)
		damaged(check, "its list of segments");
	file_end(check);
	return WALK_MORE;
}

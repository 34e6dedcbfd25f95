/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at what no read of data needs any more once the store is open: both copies of the
 * superblock, both checkpoints, and each segment's header, directory and trailer. */
#ifndef STORAGE_STORE_FILE_CHECK_H
#define STORAGE_STORE_FILE_CHECK_H

#include "storage/store/segments.h"

struct file_check {
	struct store *store;
	void (*report)(struct file_check *check, const char *what); /* one sentence */
	void (*wake)(struct file_check *check);			    /* step may go on */
	uint32_t only_slot;					    /* not 0: this segment alone */

	/* file_check.c's own; zero at the start */
	unsigned phase, file_no;
	uint32_t slot;
	uint64_t generation, offset;
	struct segment *segment; /* in use */
	struct trailer trailer;
	bool busy;
	struct env_file *file; /* that is looked at */
	struct io_op op;
	uint8_t *buf;
	uint64_t buf_bytes, part_bytes;
};
#define CHECKED_BYTES_MAX (1024 * (int64_t)MIB) /* of a checkpoint; a larger one is left out */

/* 0: done; WAITING: wake follows; WALK_MORE: call it again soon; -ENOMEM. */
int file_check_step(struct file_check *check);
/* Nothing may be under way (busy), unless the env has crashed. */
void file_check_done(struct file_check *check);

#endif

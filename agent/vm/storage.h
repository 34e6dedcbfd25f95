/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vstored, as the agent asks it: one request a call, its errors as codes with its own sentence.
 * Any thread. Functions return 0 or a negative code: -ECONNREFUSED when vstored does not answer.
 */
#ifndef AGENT_VM_STORAGE_H
#define AGENT_VM_STORAGE_H

#include "proto/err.h"
#include "proto/units.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define HOLDER_ROOM (2u * NAME_BYTES_MAX + 2u)

/* What went wrong, for a person. */
struct problem {
	char sentence[SENTENCE_BYTES];
	char holder[HOLDER_ROOM]; /* what stands in the way, or "" */
};
__attribute__((format(printf, 3, 4))) int problem_set(struct problem *problem, int code,
						      const char *format, ...);

struct storage {
	char socket[128];
	char run_path[120];
};

/* `body` is taken (NULL: none). *ret_document, the caller's, may be NULL. */
int storage_call(const struct storage *storage, const char *method, const char *path, json_t *body,
		 json_t **ret_document, struct problem *problem);

/* A request as it came, passed on; the answer as it came. `text` is malloc's. */
int storage_forward(const struct storage *storage, const char *method, const char *path,
		    const char *body, bool async, long *ret_status, char **ret_text,
		    size_t *ret_bytes, struct problem *problem);

/* -ENOENT; *ret_volume is its object. */
int storage_volume(const struct storage *storage, const char *name, json_t **ret_volume,
		   struct problem *problem);
int storage_volume_create(const struct storage *storage, const char *name, uint64_t size_bytes,
			  json_t **ret_volume, struct problem *problem);
/* snapshot: VOLUME@SNAP. */
int storage_volume_clone(const struct storage *storage, const char *snapshot, const char *name,
			 json_t **ret_volume, struct problem *problem);
int storage_volume_grow(const struct storage *storage, const char *name, uint64_t size_bytes,
			struct problem *problem);
int storage_volume_rename(const struct storage *storage, const char *name, const char *new_name,
			  struct problem *problem);
/* To the trash, or (purge) gone for good. One that is not there is fine. Waits a little for
 * connections that are just ending. */
int storage_volume_delete(const struct storage *storage, const char *name, bool purge,
			  struct problem *problem);
/* The volume's lease and a socket that, besides root, this user alone may open. -EBUSY: another has
 * it, named as problem->holder. Waits a little for connections that are just ending. */
int storage_attach(const struct storage *storage, const char *volume, const char *holder,
		   const char *holder_name, uint32_t uid, char ret_socket[128],
		   struct problem *problem);
/* Not attached is fine. */
int storage_detach(const struct storage *storage, const char *volume, const char *holder,
		   struct problem *problem);

/* Its client connects again, and learns the volume's size. Not attached is fine. */
int storage_reconnect(const struct storage *storage, const char *volume, const char *holder,
		      struct problem *problem);
/* What a disk's guest may do with it: {iops, bandwidth_bytes, burst_seconds}, any of them. */
int storage_limit(const struct storage *storage, const char *volume, const json_t *limits,
		  struct problem *problem);
/* By what it says of itself (/v1/store) the store may refuse a guest's writes. */
bool storage_no_room(const json_t *store);
/* Who has which volume's lease: *ret_list is the caller's. */
int storage_attachments(const struct storage *storage, json_t **ret_list, struct problem *problem);
/* Whom that list names as the holder of a volume's lease besides the VM; NULL: nobody. */
const char *storage_other_holder(const json_t *attachments, const char *holder, const char *volume);
/* Whether it names the VM itself. */
bool storage_holds(const json_t *attachments, const char *holder, const char *volume);
/* 0: by that list the VM has the leases of all these disks, by the sockets that they name; else
 * -VS_EFENCED. */
int storage_leases(const json_t *attachments, const char *holder, const json_t *disks,
		   struct problem *problem);

/* ---- volumeio.c: small volumes whole, through NBD ---- */

/* Writes `bytes` at `offset` and flushes; with no bytes it flushes what others wrote. */
int volume_write(const struct storage *storage, const char *volume, uint64_t offset_bytes,
		 const void *data, size_t bytes, struct problem *problem);
int volume_read(const struct storage *storage, const char *volume, uint64_t offset_bytes,
		void *ret_data, size_t bytes, struct problem *problem);
int volume_write_file(const struct storage *storage, const char *volume, const char *path,
		      struct problem *problem);

#endif

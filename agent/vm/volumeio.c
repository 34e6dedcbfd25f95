/* SPDX-License-Identifier: Apache-2.0 */
/* Small volumes (seeds, definitions) through NBD, the one way into a volume that there is. */
#include "agent/vm/storage.h"

#include <errno.h>
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PIECE_BYTES (1u << 20)
#define OPEN_TRIES 20u
#define OPEN_PAUSE_NS 50000000L

static int io_failed(struct nbd_handle *nbd, const char *volume, const char *what,
		     struct problem *problem)
{
	int code = nbd_get_errno();
	const char *error = nbd_get_error();
	problem_set(problem, 0, "Volume %.63s cannot be %s through NBD: %.120s.", volume, what,
		    error ? error : "it is not said why");
	if (nbd)
		nbd_close(nbd);
	return code > 0 ? -code : -EIO;
}

/* The socket of a new volume may come a little later than the answer that it exists. */
static int volume_open(const struct storage *storage, const char *volume,
		       struct nbd_handle **ret_nbd, struct problem *problem)
{
	char path[256];
	const struct timespec pause = {.tv_nsec = OPEN_PAUSE_NS};
	snprintf(path, sizeof path, "%s/nbd/%s.sock", storage->run_path, volume);
	for (unsigned i = 0;; i++) {
		struct nbd_handle *nbd = nbd_create();
		if (nbd && nbd_set_export_name(nbd, volume) == 0 &&
		    nbd_connect_unix(nbd, path) == 0) {
			*ret_nbd = nbd;
			return 0;
		}
		if (i == OPEN_TRIES)
			return io_failed(nbd, volume, "opened", problem);
		nbd_close(nbd);
		nanosleep(&pause, NULL);
	}
}

int volume_write(const struct storage *storage, const char *volume, uint64_t offset_bytes,
		 const void *data, size_t bytes, struct problem *problem)
{
	struct nbd_handle *nbd;
	int res = volume_open(storage, volume, &nbd, problem);
	for (size_t at = 0; at < bytes && res == 0; at += PIECE_BYTES) {
		size_t piece = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
		if (nbd_pwrite(nbd, (const char *)data + at, piece, offset_bytes + at, 0) < 0)
			return io_failed(nbd, volume, "written", problem);
	}
	if (res == 0 && nbd_flush(nbd, 0) < 0)
		return io_failed(nbd, volume, "written", problem);
	if (res == 0) {
		nbd_shutdown(nbd, 0);
		nbd_close(nbd);
	}
	return res;
}

int volume_read(const struct storage *storage, const char *volume, uint64_t offset_bytes,
		void *ret_data, size_t bytes, struct problem *problem)
{
	struct nbd_handle *nbd;
	int res = volume_open(storage, volume, &nbd, problem);
	for (size_t at = 0; at < bytes && res == 0; at += PIECE_BYTES) {
		size_t piece = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
		if (nbd_pread(nbd, (char *)ret_data + at, piece, offset_bytes + at, 0) < 0)
			return io_failed(nbd, volume, "read", problem);
	}
	if (res == 0) {
		nbd_shutdown(nbd, 0);
		nbd_close(nbd);
	}
	return res;
}

int volume_write_file(const struct storage *storage, const char *volume, const char *path,
		      struct problem *problem)
{
	FILE *file = fopen(path, "re");
	char *data = malloc(PIECE_BYTES);
	struct nbd_handle *nbd = NULL;
	size_t got = 0;
	uint64_t at = 0;
	int res = file && data ? volume_open(storage, volume, &nbd, problem)
			       : problem_set(problem, -EIO, "%.100s cannot be read.", path);
	while (res == 0 && (got = fread(data, 1, PIECE_BYTES, file)) > 0) {
		if (nbd_pwrite(nbd, data, got, at, 0) < 0)
			res = io_failed(nbd, volume, "written", problem);
		at += got;
	}
	if (res == 0 && nbd_flush(nbd, 0) < 0)
		res = io_failed(nbd, volume, "written", problem);
	if (res == 0) {
		nbd_shutdown(nbd, 0);
		nbd_close(nbd);
	}
	free(data);
	if (file)
		fclose(file);
	return res;
}

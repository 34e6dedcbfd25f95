/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A planned restart: the process becomes the program that lies at its path now, and keeps its NBD
 * sockets (nbd/handover.c says how they are parked). What the new image needs to know is in a
 * memfd, whose number the environment names.
 *
 *   SIGUSR2 -> jobs end, connections are parked -> the store is closed -> memfd, exec
 *           -> the store is opened -> sockets and connections are adopted
 *
 * Keeps true: only this process has the descriptors, so whenever it dies, or the exec or the
 * opening fails, they are closed and clients connect again, as after any other end. What is read
 * is checked like bytes of a stranger; of another store or another version, it is left out, and
 * each socket that came along is closed: one that nobody serves would let its client wait forever.
 */
#include "storage/daemon/daemon.h"

#include "proto/cursor.h"
#include "storage/rt/log_event.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define VARIABLE "VSTORED_HANDOVER"
#define MAGIC 0x3152454847545356u /* "VSTGHER1" */
#define HEAD_BYTES (8 + 16 + 4)
#define HEIR_BYTES (4 + 1 + 3 + NBD_PATH_ROOM + SNAP_NAME_ROOM + 16 + 3 * 8 + 4)
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define BYTES_MAX (512 * MIB)
#define INPUT_BYTES_MAX (256 * KIB)

/* ---- the bytes ---- */

static void heir_put(struct cursor *c, const struct nbd_heir *heir)
{
	put_u32(c, (uint32_t)heir->fd);
	put_u8(c, heir->listening);
	put_u8(c, heir->read_only);
	put_u8(c, heir->structured);
	put_u8(c, heir->meta_allocation);
	put_bytes(c, heir->path, sizeof heir->path);
	put_bytes(c, heir->name, sizeof heir->name);
	put_bytes(c, heir->volume_uuid, sizeof heir->volume_uuid);
	put_u64(c, heir->generation);
	put_u64(c, heir->size_bytes);
	put_u64(c, heir->since_wall_ns);
	put_u32(c, heir->input_bytes);
	put_bytes(c, heir->input, heir->input_bytes);
}

static bool heir_get(struct cursor *c, struct nbd_heir *heir)
{
	heir->fd = (int)get_u32(c);
	heir->listening = get_u8(c);
	heir->read_only = get_u8(c);
	heir->structured = get_u8(c);
	heir->meta_allocation = get_u8(c);
	get_bytes(c, heir->path, sizeof heir->path);
	get_bytes(c, heir->name, sizeof heir->name);
	get_bytes(c, heir->volume_uuid, sizeof heir->volume_uuid);
	heir->generation = get_u64(c);
	heir->size_bytes = get_u64(c);
	heir->since_wall_ns = get_u64(c);
	heir->input_bytes = get_u32(c);
	if (c->failed || heir->input_bytes > INPUT_BYTES_MAX || heir->path[sizeof heir->path - 1] ||
	    heir->name[sizeof heir->name - 1])
		return false;
	const void *input = cursor_take(c, heir->input_bytes);
	heir->input = input ? malloc(heir->input_bytes + 1) : NULL;
	if (!heir->input)
		return false;
	memcpy(heir->input, input, heir->input_bytes);
	return true;
}

/* ---- giving ---- */

static uint8_t *heirs_encode(const struct daemon *daemon, size_t *ret_bytes)
{
	struct store_info info;
	size_t bytes = HEAD_BYTES;
	for (size_t i = 0; i < daemon->heir_count; i++)
		bytes += HEIR_BYTES + daemon->heirs[i].input_bytes;
	uint8_t *buf = malloc(bytes);
	if (!buf)
		return NULL;
	struct cursor c = cursor_over(buf, bytes);
	store_info(daemon->store, &info);
	put_u64(&c, MAGIC);
	put_bytes(&c, info.uuid, sizeof info.uuid);
	put_u32(&c, (uint32_t)daemon->heir_count);
	for (size_t i = 0; i < daemon->heir_count; i++)
		heir_put(&c, &daemon->heirs[i]);
	*ret_bytes = bytes;
	return buf;
}

static bool write_all(int fd, const uint8_t *buf, size_t bytes)
{
	while (bytes > 0) {
		ssize_t moved = write(fd, buf, bytes);
		if (moved <= 0)
			return false;
		buf += moved;
		bytes -= (size_t)moved;
	}
	return true;
}

int handover_write(struct daemon *daemon)
{
	char number[16];
	size_t bytes;
	uint8_t *buf = heirs_encode(daemon, &bytes);
	int fd = memfd_create("vstored-handover", MFD_ALLOW_SEALING);
	int res = !buf ? -ENOMEM : fd < 0 ? -errno : write_all(fd, buf, bytes) ? 0 : -EIO;
	free(buf);
	if (res == 0 && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		res = -errno;
	for (size_t i = 0; i < daemon->heir_count && res == 0; i++)
		if (daemon->heirs[i].fd >= 0 && fcntl(daemon->heirs[i].fd, F_SETFD, 0) < 0)
			res = -errno;
	snprintf(number, sizeof number, "%d", fd);
	if (res == 0 && setenv(VARIABLE, number, 1) < 0)
		res = -errno;
	return res;
}

/* ---- taking ---- */

/* A socket that came along; what this process opened, or took already, is closed on exec. */
static bool inherited(int fd)
{
	struct stat info;
	return fd > STDERR_FILENO && fcntl(fd, F_GETFD) == 0 && fstat(fd, &info) == 0 &&
	       S_ISSOCK(info.st_mode);
}

/* From here on no program that this one starts has it. */
static bool heir_guard(const struct nbd_heir *heir)
{
	return inherited(heir->fd) && fcntl(heir->fd, F_SETFD, FD_CLOEXEC) == 0;
}

static void strangers_close(void)
{
	struct dirent *entry;
	DIR *dir = opendir("/proc/self/fd");
	while (dir && (entry = readdir(dir)))
		if (inherited(atoi(entry->d_name)))
			close(atoi(entry->d_name));
	if (dir)
		closedir(dir);
}

static bool heirs_decode(struct daemon *daemon, const uint8_t *buf, size_t bytes)
{
	struct cursor c = cursor_reading(buf, bytes);
	bool known = get_u64(&c) == MAGIC;
	get_bytes(&c, daemon->heirs_store, sizeof daemon->heirs_store);
	uint32_t count = get_u32(&c);
	if (c.failed || !known || count > bytes / HEIR_BYTES)
		return false;
	daemon->heirs = calloc(count + 1, sizeof(*daemon->heirs));
	if (!daemon->heirs)
		return false;
	while (daemon->heir_count < count) {
		struct nbd_heir *heir = &daemon->heirs[daemon->heir_count];
		bool good = heir_get(&c, heir);
		daemon->heir_count++;
		if (!good || !heir_guard(heir)) {
			heir->fd = -1;
			return false;
		}
	}
	return true;
}

void handover_read(struct daemon *daemon)
{
	const char *value = getenv(VARIABLE);
	struct stat info;
	if (!value)
		return;
	int fd = atoi(value);
	uint8_t *buf = NULL;
	unsetenv(VARIABLE);
	/* Whatever else the number may name, only such a memfd is touched. */
	bool ours = fd > STDERR_FILENO && fcntl(fd, F_GETFD) == 0 &&
		    fcntl(fd, F_GET_SEALS) == SEALS && fstat(fd, &info) == 0;
	if (ours && info.st_size <= (off_t)BYTES_MAX)
		buf = malloc((size_t)info.st_size + 1);
	if (!buf || lseek(fd, 0, SEEK_SET) < 0 ||
	    read(fd, buf, (size_t)info.st_size) != info.st_size ||
	    !heirs_decode(daemon, buf, (size_t)info.st_size)) {
		log_event(LOG_LEVEL_WARNING, "vstored.no_handover",
			  "reason=\"what the earlier process left is not understood\" "
			  "action=\"clients connect again\"");
		handover_drop(daemon);
	}
	free(buf);
	if (ours)
		close(fd);
	strangers_close();
}

void handover_inherit(struct daemon *daemon)
{
	struct store_info info;
	store_info(daemon->store, &info);
	if (memcmp(info.uuid, daemon->heirs_store, sizeof info.uuid) != 0)
		handover_drop(daemon); /* of another store */
	nbd_server_inherit(daemon->nbd, daemon->heirs, daemon->heir_count);
}

void handover_adopt(struct daemon *daemon)
{
	size_t count = nbd_server_adopt(daemon->nbd);
	if (daemon->heir_count > 0)
		log_event(LOG_LEVEL_INFO, "vstored.handed_over", "connections=%zu", count);
	handover_drop(daemon);
}

void handover_drop(struct daemon *daemon)
{
	for (size_t i = 0; i < daemon->heir_count; i++) {
		if (daemon->heirs[i].fd >= 0)
			close(daemon->heirs[i].fd);
		free(daemon->heirs[i].input);
	}
	free(daemon->heirs);
	daemon->heirs = NULL;
	daemon->heir_count = 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Finding a volume's NBD socket. */
#include "agent/ctl/transfer.h"

#include "proto/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRANSFER_TRIES 20
#define TRANSFER_PAUSE_NS (100 * (long)NSEC_PER_MSEC)

/* 0, or -ENOENT when there is neither socket. A path that does not fit is none. */
static int transfer_socket(const struct ctl *ctl, const char *name,
			   char ret_socket[TRANSFER_PATH_BYTES])
{
	char path[TRANSFER_PATH_BYTES];
	const char *slash = strrchr(ctl->socket, '/');
	int folder = slash ? (int)(slash - ctl->socket) : 1, volume = (int)strcspn(name, "@");
	const char *from = slash ? ctl->socket : ".";
	int bytes = snprintf(path, sizeof path, "%.*s/nbd/%.*s.sock", folder, from, volume, name);
	for (char *at = path + folder + 5; bytes < (int)sizeof path && *at; at++)
		if (*at == '/')
			*at = ':'; /* of HOST/VOLUME, a copy: its socket is HOST:VOLUME.sock */
	if (bytes >= (int)sizeof path || access(path, F_OK) < 0) {
		bytes = snprintf(path, sizeof path, "%.*s/nbd.sock", folder, from);
		if (bytes >= (int)sizeof path || access(path, F_OK) < 0)
			return -ENOENT;
	}
	memcpy(ret_socket, path, sizeof path);
	return 0;
}

int transfer_open(const struct ctl *ctl, const char *name, bool with_status,
		  char ret_socket[TRANSFER_PATH_BYTES], struct nbdio **ret_nbdio,
		  char ret_sentence[SENTENCE_BYTES])
{
	int res = -ENOENT;
	for (unsigned i = 0; i < TRANSFER_TRIES && !ctl_interrupted && ctl_left_ms(ctl) != 0; i++) {
		const struct timespec pause = {.tv_nsec = TRANSFER_PAUSE_NS};
		res = transfer_socket(ctl, name, ret_socket);
		if (res == 0)
			res = nbdio_open(ret_socket, name, with_status, ret_nbdio, ret_sentence);
		else
			snprintf(ret_sentence, SENTENCE_BYTES,
				 "There is no NBD socket of %.63s beside %.100s.", name,
				 ctl->socket);
		if (res != -ENOENT && res != -ECONNREFUSED)
			break;
		nanosleep(&pause, NULL);
	}
	return res;
}

bool transfer_is_zero(const uint8_t *data, size_t bytes)
{
	/* Equal to itself moved by one byte: then all bytes are the first one. memcmp is fast. */
	return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

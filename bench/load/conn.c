/* SPDX-License-Identifier: Apache-2.0 */
/* One NBD connection over a unix socket: the handshake, and whole sends and receives. */
#include "bench/load/load.h"

#include "proto/nbd.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define OPTION_DATA_MAX 4096u

void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("load: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

void conn_send(int fd, const void *bytes, size_t count)
{
	for (size_t sent = 0; sent < count;) {
		ssize_t n = send(fd, (const char *)bytes + sent, count - sent, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR)
			die("the server does not take what is sent: %s", strerror(errno));
		sent += n > 0 ? (size_t)n : 0;
	}
}

void conn_receive(int fd, void *ret, size_t count)
{
	for (size_t got = 0; got < count;) {
		ssize_t n = recv(fd, (char *)ret + got, count - got, 0);
		if (n == 0 || (n < 0 && errno != EINTR))
			die("the server ended the connection");
		got += n > 0 ? (size_t)n : 0;
	}
}

/* Asks for the export with GO and no information of our choice: it tells the size anyway. */
static void conn_handshake(int fd, const char *export_name, uint64_t *ret_bytes)
{
	uint8_t in[OPTION_DATA_MAX], out[256];
	uint32_t name_bytes = (uint32_t)strlen(export_name);
	struct cursor c;
	conn_receive(fd, in, NBD_GREETING_BYTES);
	c = cursor_reading(in, NBD_GREETING_BYTES);
	if (get_be_u64(&c) != NBD_MAGIC || get_be_u64(&c) != NBD_OPTION_MAGIC)
		die("this is no NBD server of the fixed newstyle");
	c = cursor_over(out, sizeof out);
	put_be_u32(&c, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
	nbd_put_option(&c, NBD_OPT_GO, 4 + name_bytes + 2);
	put_be_u32(&c, name_bytes);
	put_bytes(&c, export_name, name_bytes);
	put_be_u16(&c, 0);
	if (c.failed)
		die("the export's name is too long");
	conn_send(fd, out, (size_t)(c.at - out));
	for (;;) {
		conn_receive(fd, in, NBD_OPTION_REPLY_BYTES);
		c = cursor_reading(in, NBD_OPTION_REPLY_BYTES);
		uint64_t magic = get_be_u64(&c);
		get_be_u32(&c);
		uint32_t type = get_be_u32(&c), bytes = get_be_u32(&c);
		if (magic != NBD_OPTION_REPLY_MAGIC || bytes > sizeof in)
			die("the server's answer is not understood");
		conn_receive(fd, in, bytes);
		if (type == NBD_REP_ACK)
			return;
		if (type != NBD_REP_INFO)
			die("the server refuses export '%s' (answer %#x)", export_name, type);
		c = cursor_reading(in, bytes);
		if (get_be_u16(&c) == NBD_INFO_EXPORT)
			*ret_bytes = get_be_u64(&c);
	}
}

int conn_open(const char *socket_path, const char *export_name, uint64_t *ret_bytes)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), room = 4 << 20;
	if (strlen(socket_path) >= sizeof address.sun_path)
		die("the socket's path is too long: %s", socket_path);
	memcpy(address.sun_path, socket_path, strlen(socket_path));
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		die("%s cannot be connected to: %s", socket_path, strerror(errno));
	/* What is sent never waits for the server to read: the largest depth fits. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
	*ret_bytes = 0;
	conn_handshake(fd, export_name, ret_bytes);
	return fd;
}

static void conn_request(int fd, uint16_t type, uint64_t offset_bytes, uint32_t bytes)
{
	uint8_t out[NBD_REQUEST_BYTES];
	struct cursor c = cursor_over(out, sizeof out);
	nbd_put_request(&c, &(struct nbd_request){.type = type,
						  .offset_bytes = offset_bytes,
						  .length_bytes = bytes});
	conn_send(fd, out, sizeof out);
}

void conn_read(int fd, uint64_t offset_bytes, void *ret, uint32_t bytes)
{
	uint8_t in[NBD_SIMPLE_REPLY_BYTES];
	conn_request(fd, NBD_CMD_READ, offset_bytes, bytes);
	conn_receive(fd, in, sizeof in);
	struct cursor c = cursor_reading(in, sizeof in);
	uint32_t magic = get_be_u32(&c), error = get_be_u32(&c);
	if (magic != NBD_SIMPLE_REPLY_MAGIC || error)
		die("reading at %llu failed with NBD error %u", (unsigned long long)offset_bytes,
		    error);
	conn_receive(fd, ret, bytes);
}

void conn_close(int fd)
{
	conn_request(fd, NBD_CMD_DISC, 0, 0);
	close(fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The synchronous half of the real env: opening, listing, listening. These calls are short and rare
 * (start, a new segment, a new volume's socket), so they run on the reactor.
 */
#include "storage/rt/real.h"

#include "proto/err.h"
#include "proto/text.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LISTEN_BACKLOG 128
#define TCP_SILENT_MS 30000
#define ALIGN_DEFAULT 4096u

int real_dir_open(struct env *env, const char *path, struct env_dir **ret_dir)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	struct env_dir *dir = malloc(sizeof(*dir));
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	*dir = (struct env_dir){.env = env, .fd = fd};
	*ret_dir = dir;
	return 0;
}

void real_dir_close(struct env_dir *dir)
{
	close(dir->fd);
	free(dir);
}

static int entry_compare(const void *a, const void *b)
{
	return strcmp(((const struct env_dir_entry *)a)->name,
		      ((const struct env_dir_entry *)b)->name);
}

int real_dir_list(struct env_dir *dir, struct env_dir_entry **ret_entries, size_t *ret_count)
{
	int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	if (!stream) {
		int err = errno;
		if (fd >= 0)
			close(fd);
		return -err;
	}
	struct env_dir_entry *entries = NULL;
	size_t count = 0, room = 0;
	int res = 0;
	for (;;) {
		errno = 0;
		struct dirent *found = readdir(stream);
		if (!found) {
			res = -errno;
			break;
		}
		size_t bytes = strlen(found->d_name);
		if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0 ||
		    bytes >= sizeof entries->name)
			continue;
		if (count == room) {
			room = room ? room * 2 : 64;
			struct env_dir_entry *more = reallocarray(entries, room, sizeof(*entries));
			if (!more) {
				res = -ENOMEM;
				break;
			}
			entries = more;
		}
		memcpy(entries[count++].name, found->d_name, bytes + 1);
	}
	closedir(stream);
	if (res < 0) {
		free(entries);
		return res;
	}
	if (count)
		qsort(entries, count, sizeof(*entries), entry_compare);
	*ret_entries = entries;
	*ret_count = count;
	return 0;
}

int real_dir_make(struct env_dir *dir, const char *name)
{
	return mkdirat(dir->fd, name, 0700) < 0 ? -errno : 0;
}

int real_dir_space(struct env_dir *dir, uint64_t *ret_free_bytes, uint64_t *ret_total_bytes)
{
	struct statvfs space;
	if (fstatvfs(dir->fd, &space) < 0)
		return -errno;
	*ret_free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
	*ret_total_bytes = (uint64_t)space.f_blocks * space.f_frsize;
	return 0;
}

int real_dir_kind(struct env_dir *dir, char *ret_name, size_t name_bytes)
{
	static const struct {
		unsigned long magic;
		const char *name;
	} kinds[] = {
		{0xef53, "ext4"},      {0x58465342, "xfs"},   {0x9123683e, "btrfs"},
		{0x01021994, "tmpfs"}, {0x858458f6, "ramfs"}, {0x794c7630, "overlay"},
		{0x6969, "nfs"},       {0xff534d42, "cifs"},  {0x65735546, "fuse"},
		{0x2fc12fc1, "zfs"},
	};
	struct statfs fs;
	if (fstatfs(dir->fd, &fs) < 0)
		return -errno;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if ((unsigned long)fs.f_type == kinds[i].magic) {
			snprintf(ret_name, name_bytes, "%s", kinds[i].name);
			return 0;
		}
	snprintf(ret_name, name_bytes, "0x%lx", (unsigned long)fs.f_type);
	return 0;
}

static unsigned file_direct_align(int fd)
{
#ifdef STATX_DIOALIGN
	struct statx info;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
	    (info.stx_mask & STATX_DIOALIGN) && info.stx_dio_offset_align)
		return info.stx_dio_offset_align;
#endif
	(void)fd;
	return ALIGN_DEFAULT;
}

int real_file_open(struct env_dir *dir, const char *name, unsigned flags,
		   struct env_file **ret_file)
{
	int how = O_CLOEXEC | (flags & ENV_RDONLY ? O_RDONLY : O_RDWR);
	if (flags & ENV_CREATE)
		how |= O_CREAT;
	if (flags & ENV_EXCL)
		how |= O_EXCL;
	bool direct = flags & ENV_DIRECT;
	int fd = openat(dir->fd, name, how | (direct ? O_DIRECT : 0), 0600);
	if (fd < 0 && errno == EINVAL && direct) {
		direct = false;
		fd = openat(dir->fd, name, how & ~O_EXCL, 0600);
	}
	if (fd < 0)
		return -errno;
	if ((flags & ENV_LOCK) && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int err = errno;
		close(fd);
		return err == EWOULDBLOCK ? -VS_ELOCKED : -err;
	}
	struct env_file *file = malloc(sizeof(*file));
	if (!file) {
		close(fd);
		return -ENOMEM;
	}
	*file = (struct env_file){.env = dir->env,
				  .fd = fd,
				  .direct = direct,
				  .align = direct ? file_direct_align(fd) : 1};
	*ret_file = file;
	return 0;
}

void real_file_close(struct env_file *file)
{
	close(file->fd);
	free(file);
}

int64_t real_file_bytes(struct env_file *file)
{
	struct stat info;
	return fstat(file->fd, &info) < 0 ? -errno : (int64_t)info.st_size;
}

unsigned real_file_align(struct env_file *file)
{
	return file->align;
}

/* 0: nobody listens there (or nothing is there). */
static int unix_path_free(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int res = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
	close(fd);
	if (res == -ENOENT)
		return 0;
	if (res == -ECONNREFUSED)
		return unlink(address->sun_path) < 0 ? -errno : 0;
	return res == 0 || res == -EAGAIN ? -EADDRINUSE : res;
}

static int listener_new(struct env *env, int fd, const char *path,
			struct env_listener **ret_listener)
{
	struct env_listener *listener = calloc(1, sizeof(*listener));
	if (!listener)
		return -ENOMEM;
	listener->env = env;
	listener->fd = fd;
	snprintf(listener->path, sizeof listener->path, "%s", path);
	*ret_listener = listener;
	return 0;
}

int real_listen_unix(struct env *env, const char *path, unsigned mode, int64_t group,
		     struct env_listener **ret_listener)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address.sun_path)
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	int res = unix_path_free(&address);
	if (res < 0)
		return res;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	mode_t old = umask(0177); /* no moment in which others may connect */
	res = bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
	umask(old);
	if (res == 0 && group >= 0 && chown(path, (uid_t)-1, (gid_t)group) < 0)
		res = -errno;
	if (res == 0 && (chmod(path, mode) < 0 || listen(fd, LISTEN_BACKLOG) < 0))
		res = -errno;
	if (res == 0)
		res = listener_new(env, fd, path, ret_listener);
	if (res < 0)
		close(fd);
	return res;
}

int real_listener_adopt(struct env *env, int fd, const char *path,
			struct env_listener **ret_listener)
{
	struct stat info;
	if (lstat(path, &info) < 0 || !S_ISSOCK(info.st_mode))
		return -ENOENT;
	return listener_new(env, fd, path, ret_listener);
}

int real_sock_release(struct env_sock *sock)
{
	int fd = sock->fd;
	free(sock);
	return fd;
}

int real_sock_adopt(struct env *env, int fd, struct env_sock **ret_sock)
{
	struct env_sock *sock = calloc(1, sizeof(*sock));
	if (!sock)
		return -ENOMEM;
	sock->env = env;
	sock->fd = fd;
	*ret_sock = sock;
	return 0;
}

/* "ADDRESS:PORT" or "[V6]:PORT", numbers only: nothing here waits for a name server. */
static int tcp_address(const char *address, struct sockaddr_storage *ret, socklen_t *ret_bytes)
{
	char host[256];
	const char *colon = strrchr(address, ':');
	const char *start = address;
	if (!text_address_ok(address) || (size_t)(colon - address) >= sizeof host)
		return -EINVAL;
	size_t bytes = (size_t)(colon - address);
	if (bytes >= 2 && address[0] == '[' && colon[-1] == ']') {
		start++;
		bytes -= 2;
	}
	memcpy(host, start, bytes);
	host[bytes] = 0;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *found;
	if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
		return -EINVAL;
	memcpy(ret, found->ai_addr, found->ai_addrlen);
	*ret_bytes = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

void real_sock_peer(const struct env_sock *sock, char *ret_address)
{
	struct sockaddr_storage at;
	socklen_t bytes = sizeof at;
	char host[INET6_ADDRSTRLEN], port[8];
	if (getpeername(sock->fd, (struct sockaddr *)&at, &bytes) < 0 ||
	    (at.ss_family != AF_INET && at.ss_family != AF_INET6) ||
	    getnameinfo((struct sockaddr *)&at, bytes, host, sizeof host, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return;
	snprintf(ret_address, ENV_ADDRESS_ROOM, at.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s",
		 host, port);
}

/* Small messages go at once, and a peer that is gone is noticed: nothing waits forever. A listener
 * hands these down to what it accepts. Returns the socket or a negative code. */
static int tcp_socket(int family)
{
	int one = 1, idle_s = 15, every_s = 5, count = 3, silent_ms = TCP_SILENT_MS;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silent_ms, sizeof silent_ms) < 0) {
		int res = -errno;
		close(fd);
		return res;
	}
	return fd;
}

int real_listen_tcp(struct env *env, const char *address, struct env_listener **ret_listener)
{
	struct sockaddr_storage at;
	socklen_t at_bytes;
	int one = 1;
	int res = tcp_address(address, &at, &at_bytes);
	int fd = res < 0 ? res : tcp_socket(at.ss_family);
	if (fd < 0)
		return fd;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    bind(fd, (struct sockaddr *)&at, at_bytes) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		res = -errno;
	if (res == 0)
		res = listener_new(env, fd, "", ret_listener);
	if (res < 0)
		close(fd);
	return res;
}

int real_tcp_socket(struct env *env, const char *address, struct env_sock **ret_sock,
		    socklen_t *ret_address_bytes)
{
	struct env_sock *sock = calloc(1, sizeof(*sock));
	if (!sock)
		return -ENOMEM;
	sock->env = env;
	sock->fd = tcp_address(address, &sock->address, ret_address_bytes);
	if (sock->fd == 0)
		sock->fd = tcp_socket(sock->address.ss_family);
	if (sock->fd < 0) {
		int res = sock->fd;
		free(sock);
		return res;
	}
	*ret_sock = sock;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the ring (ring.h) and files.c (plain system calls) share: the objects of the real env. */
#ifndef STORAGE_RT_REAL_H
#define STORAGE_RT_REAL_H

#include "storage/rt/env.h"

#include <sys/socket.h>

struct env_dir {
	struct env *env;
	int fd;
};
struct env_file {
	struct env *env;
	int fd;
	bool direct;
	unsigned align;
};
struct env_sock {
	struct env *env;
	int fd;
	struct msghdr message;		 /* of the send under way */
	struct sockaddr_storage address; /* while it connects */
};
struct env_listener {
	struct env *env;
	int fd;
	struct io_op *accepting;
	char path[108]; /* to remove at close; "" for TCP */
};

int real_dir_open(struct env *env, const char *path, struct env_dir **ret_dir);
void real_dir_close(struct env_dir *dir);
int real_dir_list(struct env_dir *dir, struct env_dir_entry **ret_entries, size_t *ret_count);
int real_dir_make(struct env_dir *dir, const char *name);
int real_dir_space(struct env_dir *dir, uint64_t *ret_free_bytes, uint64_t *ret_total_bytes);
int real_dir_kind(struct env_dir *dir, char *ret_name, size_t name_bytes);
int real_file_open(struct env_dir *dir, const char *name, unsigned flags,
		   struct env_file **ret_file);
void real_file_close(struct env_file *file);
int64_t real_file_bytes(struct env_file *file);
unsigned real_file_align(struct env_file *file);
int real_listen_unix(struct env *env, const char *path, unsigned mode, int64_t group,
		     struct env_listener **ret_listener);
int real_sock_release(struct env_sock *sock);
void real_sock_peer(const struct env_sock *sock, char *ret_address);
int real_sock_adopt(struct env *env, int fd, struct env_sock **ret_sock);
int real_listener_adopt(struct env *env, int fd, const char *path,
			struct env_listener **ret_listener);
int real_listen_tcp(struct env *env, const char *address, struct env_listener **ret_listener);
/* A socket for it that is not connected yet, with its address. */
int real_tcp_socket(struct env *env, const char *address, struct env_sock **ret_sock,
		    socklen_t *ret_address_bytes);

#endif

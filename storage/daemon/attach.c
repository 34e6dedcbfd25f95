/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sockets of leases: RUN/vm/libvirt-HOLDER/VOLUME.GENERATION.sock, named by UUIDs, so that a
 * rename changes nothing, and by the lease's generation, so that who held an earlier one finds no
 * socket where it had its own. The folder is named as AppArmor's profile of that guest is, for one
 * rule to be enough (deploy/apparmor).
 *
 * Keeps true: only the user for whom it was asked, vstored's own and root pass a holder's folder;
 * no user has the folders of two holders. So a QEMU that was taken over reaches its own disks only.
 *
 * The store knows who has a lease. What is here lives as long as RUN does: RUN/attachments says
 * which leases have a socket and for whom, is replaced in one step before a change is answered, and
 * is read before anything is served, so that a guest finds its socket again after a restart.
 */
#include "storage/daemon/daemon.h"

#include "proto/cursor.h"
#include "proto/text.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SHORT_CHARS 12	 /* of a volume's UUID: a socket's address has room for 107 characters */
#define PATH_ROOM 192	 /* before it is known to fit a socket */
#define SOCKET_MODE 0666 /* the folder is the guard */
#define ACL_VERSION 2u

struct attachment {
	uint32_t number; /* of the volume */
	uint64_t generation;
	uint32_t uid;
	char holder[UUID_TEXT_BYTES];
	char path[NBD_PATH_ROOM];
	struct attachment *next;
};

struct attachments {
	struct attachment *head;
};

int daemon_volume(const struct daemon *daemon, const char *name, struct volume_info *ret)
{
	struct volume_info *infos;
	size_t count;
	int res = store_volumes(daemon->store, false, &infos, &count);
	if (res < 0)
		return res;
	res = -ENOENT;
	for (size_t i = 0; i < count && res; i++)
		if (strcmp(infos[i].name, name) == 0) {
			*ret = infos[i];
			res = 0;
		}
	free(infos);
	return res;
}

static struct attachment **attachment_at(const struct daemon *daemon, uint32_t number)
{
	struct attachment **at = &daemon->attachments->head;
	while (*at && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

/* ---- the folder ---- */

/* Lets one user pass, besides whose it is: an access list with its entry (acl(5); the bytes are the
 * kernel's, linux/posix_acl_xattr.h). Needs no privilege, as giving the folder away would. */
static int folder_admit(const char *path, uint32_t uid)
{
	static const struct {
		uint16_t tag, rights;
	} entries[] = {{0x01, 7}, {0x02, 1}, {0x04, 0}, {0x10, 1}, {0x20, 0}};
	uint8_t list[4 + 8 * sizeof entries / sizeof *entries];
	struct cursor c = cursor_over(list, sizeof list);
	put_u32(&c, ACL_VERSION);
	for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
		put_u16(&c, entries[i].tag);
		put_u16(&c, entries[i].rights);
		put_u32(&c, entries[i].tag == 0x02 ? uid : UINT32_MAX);
	}
	return setxattr(path, "system.posix_acl_access", list, sizeof list, 0) < 0 ? -errno : 0;
}

static void folder_of(const struct daemon *daemon, const char *holder, char out[PATH_ROOM])
{
	snprintf(out, PATH_ROOM, "%s/vm/libvirt-%s", daemon->run_path, holder);
}

static int folder_make(const struct daemon *daemon, const char *holder, uint32_t uid)
{
	char path[PATH_ROOM];
	snprintf(path, sizeof path, "%s/vm", daemon->run_path);
	if ((mkdir(path, 0711) < 0 && errno != EEXIST) || chmod(path, 0711) < 0)
		return -errno;
	folder_of(daemon, holder, path);
	if ((mkdir(path, 0700) < 0 && errno != EEXIST) || chmod(path, 0700) < 0)
		return -errno;
	return uid ? folder_admit(path, uid) : 0;
}

static int attachment_listen(struct daemon *daemon, struct attachment *at,
			     const struct volume_info *info)
{
	char folder[PATH_ROOM], uuid[UUID_TEXT_BYTES], part[SHORT_CHARS + 1], path[2 * PATH_ROOM];
	size_t n = 0;
	int res = folder_make(daemon, at->holder, at->uid);
	if (res < 0)
		return res;
	folder_of(daemon, at->holder, folder);
	text_uuid(info->uuid, uuid);
	for (const char *from = uuid; n < SHORT_CHARS; from++)
		if (*from != '-')
			part[n++] = *from;
	part[n] = 0;
	int bytes = snprintf(path, sizeof path, "%s/%s.%llu.sock", folder, part,
			     (unsigned long long)at->generation);
	if (bytes >= (int)sizeof at->path)
		return -ENAMETOOLONG;
	memcpy(at->path, path, (size_t)bytes + 1);
	return nbd_server_export_leased(daemon->nbd, at->path, info->name, SOCKET_MODE,
					at->generation);
}

/* ---- what there is ---- */

json_t *attachment_json(const struct daemon *daemon, const struct volume_info *info)
{
	const struct attachment *at = *attachment_at(daemon, info->number);
	char absolute[PATH_MAX], holder[UUID_TEXT_BYTES]; /* for a QEMU, which runs elsewhere */
	const char *socket = "";
	if (at)
		socket = realpath(at->path, absolute) ? absolute : at->path;
	text_uuid(info->lease.holder, holder);
	return json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:s, s:I}", "volume", info->name, "number",
			 (json_int_t)info->number, "holder", holder, "holder_name",
			 info->lease.holder_name, "generation", (json_int_t)info->lease.generation,
			 "uid", (json_int_t)(at ? at->uid : 0), "socket", socket, "connections",
			 (json_int_t)info->attachments);
}

json_t *attachments_json(const struct daemon *daemon)
{
	struct volume_info *infos;
	size_t count;
	json_t *array = json_array();
	if (store_volumes(daemon->store, false, &infos, &count) < 0)
		return array;
	for (size_t i = 0; i < count; i++)
		if (infos[i].lease.holder_name[0])
			json_array_append_new(array, attachment_json(daemon, &infos[i]));
	free(infos);
	return array;
}

int attachment_user_free(const struct daemon *daemon, const char *holder, uint32_t uid,
			 char ret_other[NAME_ROOM])
{
	struct volume_info info;
	for (const struct attachment *at = daemon->attachments->head; uid && at; at = at->next)
		if (at->uid == uid && strcmp(at->holder, holder) != 0 &&
		    store_volume_info(daemon->store, at->number, &info) == 0) {
			snprintf(ret_other, NAME_ROOM, "%s", info.lease.holder_name);
			return -EEXIST;
		}
	return 0;
}

/* ---- what stays over a restart ---- */

static int attachments_save(const struct daemon *daemon)
{
	char path[PATH_ROOM], part[PATH_ROOM];
	snprintf(path, sizeof path, "%s/attachments", daemon->run_path);
	snprintf(part, sizeof part, "%s/attachments.part", daemon->run_path);
	json_t *all = json_array();
	for (const struct attachment *at = daemon->attachments->head; at; at = at->next)
		json_array_append_new(all, json_pack("{s:I, s:I, s:I, s:s}", "number",
						     (json_int_t)at->number, "generation",
						     (json_int_t)at->generation, "uid",
						     (json_int_t)at->uid, "holder", at->holder));
	int res = json_dump_file(all, part, JSON_INDENT(1)) < 0 ? -EIO : 0;
	json_decref(all);
	if (res == 0 && rename(part, path) < 0)
		res = -errno;
	return res;
}

static struct attachment *attachment_add(struct daemon *daemon, const struct volume_info *info,
					 uint32_t uid)
{
	struct attachment *at = calloc(1, sizeof(*at));
	if (!at)
		return NULL;
	at->number = info->number;
	at->generation = info->lease.generation;
	at->uid = uid;
	text_uuid(info->lease.holder, at->holder);
	at->next = daemon->attachments->head;
	daemon->attachments->head = at;
	return at;
}

static void attachment_drop(struct daemon *daemon, struct attachment **at)
{
	struct attachment *gone = *at;
	char folder[PATH_ROOM];
	if (gone->path[0])
		nbd_server_unexport(daemon->nbd, gone->path);
	folder_of(daemon, gone->holder, folder);
	*at = gone->next;
	rmdir(folder); /* stays while another volume of this holder is in it */
	free(gone);
}

/* Another store may be served in the same RUN, or the lease may have ended: that is left out. */
static void attachment_load(struct daemon *daemon, const json_t *one)
{
	struct volume_info info;
	const char *holder = "";
	char has[UUID_TEXT_BYTES];
	json_int_t number = 0, generation = 0, uid = 0;
	if (json_unpack((json_t *)one, "{s:I, s:I, s:I, s:s}", "number", &number, "generation",
			&generation, "uid", &uid, "holder", &holder) < 0 ||
	    store_volume_info(daemon->store, (uint32_t)number, &info) < 0)
		return;
	text_uuid(info.lease.holder, has);
	if (!info.lease.holder_name[0] || info.lease.generation != (uint64_t)generation ||
	    strcmp(has, holder) != 0)
		return;
	struct attachment *at = attachment_add(daemon, &info, (uint32_t)uid);
	int res = at ? attachment_listen(daemon, at, &info) : -ENOMEM;
	if (res < 0)
		log_event(LOG_LEVEL_ERROR, "attachment.no_socket", "volume=%s error=\"%s\"",
			  info.name, vs_strerror(res));
}

int attachments_new(struct daemon *daemon)
{
	char path[PATH_ROOM];
	size_t i;
	json_t *one;
	daemon->attachments = calloc(1, sizeof(*daemon->attachments));
	if (!daemon->attachments)
		return -ENOMEM;
	snprintf(path, sizeof path, "%s/attachments", daemon->run_path);
	json_t *all = json_load_file(path, 0, NULL);
	json_array_foreach(all, i, one)
		attachment_load(daemon, one);
	json_decref(all);
	return 0;
}

void attachments_free(struct daemon *daemon)
{
	while (daemon->attachments && daemon->attachments->head) {
		struct attachment *at = daemon->attachments->head;
		daemon->attachments->head = at->next;
		free(at);
	}
	free(daemon->attachments);
	daemon->attachments = NULL;
}

/* ---- changes ---- */

int attachment_serve(struct daemon *daemon, const struct volume_info *info, uint32_t uid)
{
	struct attachment **found = attachment_at(daemon, info->number);
	bool same = *found && (*found)->generation == info->lease.generation &&
		    (*found)->uid == uid && access((*found)->path, F_OK) == 0;
	if (same)
		return 0;
	if (*found) /* of an earlier lease, or its socket is gone */
		attachment_drop(daemon, found);
	struct attachment *at = attachment_add(daemon, info, uid);
	int res = at ? attachment_listen(daemon, at, info) : -ENOMEM;
	if (res < 0 && at)
		attachment_drop(daemon, attachment_at(daemon, info->number));
	return res < 0 ? res : attachments_save(daemon);
}

void attachment_cut(struct daemon *daemon, uint32_t number, struct io_op *op)
{
	struct attachment **found = attachment_at(daemon, number);
	if (!*found) {
		env_complete(daemon->env, op, 0);
		return;
	}
	nbd_server_cut(daemon->nbd, (*found)->path, op);
	attachment_drop(daemon, found);
	int res = attachments_save(daemon); /* one too many there is left out at the next start */
	if (res < 0)
		log_event(LOG_LEVEL_WARNING, "attachment.not_saved", "error=\"%s\"",
			  vs_strerror(res));
}

void attachments_sweep(struct daemon *daemon)
{
	struct volume_info info;
	bool any = false;
	for (struct attachment **at = &daemon->attachments->head; *at;) {
		if (store_volume_info(daemon->store, (*at)->number, &info) < 0 ||
		    (info.lease.holder_name[0] && info.lease.generation == (*at)->generation)) {
			at = &(*at)->next;
			continue;
		}
		attachment_drop(daemon, at);
		any = true;
	}
	if (any && attachments_save(daemon) < 0)
		log_event(LOG_LEVEL_WARNING, "attachment.not_saved",
			  "effect=\"one that has ended is left out at the next start\"");
}

int attachment_reconnect(struct daemon *daemon, uint32_t number)
{
	const struct attachment *at = *attachment_at(daemon, number);
	return at ? nbd_server_drop(daemon->nbd, at->path) : -ENOENT;
}

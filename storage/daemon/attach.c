/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attachments: who has a volume, and the socket that is theirs alone: RUN/vm/HOLDER/VOLUME.sock,
 * both named by UUIDs, so that a rename changes nothing. A volume has at most one holder.
 *
 * They live as long as RUN does: RUN/attachments lists them, is replaced in one step before a
 * change is answered, and is read before anything is served, so that a guest finds its socket again
 * after a restart of the daemon.
 */
#include "storage/daemon/daemon.h"

#include "proto/text.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHORT_CHARS 12 /* of a UUID: a socket's address has room for 107 characters */
#define PATH_ROOM 160  /* before it is known to fit a socket */
#define SOCKET_MODE 0660
#define FOLDER_MODE 0750

struct attachment {
	uint32_t number; /* of the volume */
	char holder[UUID_TEXT_BYTES], holder_name[NAME_ROOM], group[NAME_ROOM];
	char path[NBD_PATH_ROOM];
	struct attachment *next;
};

struct attachments {
	struct attachment *head;
};

static int volume_find(const struct daemon *daemon, const char *name, uint32_t number,
		       struct volume_info *ret)
{
	struct volume_info *infos;
	size_t count;
	int res = store_volumes(daemon->store, false, &infos, &count);
	if (res < 0)
		return res;
	res = -ENOENT;
	for (size_t i = 0; i < count && res; i++)
		if (name ? strcmp(infos[i].name, name) == 0 : infos[i].number == number) {
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

/* "0f3c2a...": the first digits of a UUID, without dashes. */
static void uuid_short(const char *uuid, char out[SHORT_CHARS + 1])
{
	size_t n = 0;
	for (; *uuid && n < SHORT_CHARS; uuid++)
		if (*uuid != '-')
			out[n++] = *uuid;
	out[n] = 0;
}

static void folder_of(const struct daemon *daemon, const char *holder, char out[PATH_ROOM])
{
	char part[SHORT_CHARS + 1];
	uuid_short(holder, part);
	snprintf(out, PATH_ROOM, "%s/vm/%s", daemon->run_path, part);
}

static int folder_make(const struct daemon *daemon, const char *holder, int64_t group)
{
	char path[PATH_ROOM];
	snprintf(path, sizeof path, "%s/vm", daemon->run_path);
	if ((mkdir(path, 0755) < 0 && errno != EEXIST) || chmod(path, 0755) < 0)
		return -errno;
	folder_of(daemon, holder, path);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (group >= 0 && chown(path, (uid_t)-1, (gid_t)group) < 0)
		return -errno;
	return chmod(path, FOLDER_MODE) < 0 ? -errno : 0;
}

static int attachment_listen(struct daemon *daemon, struct attachment *at,
			     const struct volume_info *info)
{
	char folder[PATH_ROOM], uuid[UUID_TEXT_BYTES], part[SHORT_CHARS + 1];
	const struct group *group = at->group[0] ? getgrnam(at->group) : NULL;
	if (at->group[0] && !group)
		return -EINVAL;
	int64_t gid = group ? (int64_t)group->gr_gid : -1;
	int res = folder_make(daemon, at->holder, gid);
	if (res < 0)
		return res;
	folder_of(daemon, at->holder, folder);
	text_uuid(info->uuid, uuid);
	uuid_short(uuid, part);
	if (strlen(folder) + sizeof part + strlen("/.sock") > sizeof at->path)
		return -ENAMETOOLONG;
	snprintf(at->path, sizeof at->path, "%.80s/%s.sock", folder, part);
	return nbd_server_export(daemon->nbd, at->path, info->name, SOCKET_MODE, gid);
}

/* ---- what stays over a restart ---- */

static json_t *attachment_json(const struct daemon *daemon, const struct attachment *at)
{
	struct volume_info info;
	char absolute[PATH_MAX]; /* for a guest's QEMU, which runs elsewhere */
	if (volume_find(daemon, NULL, at->number, &info) < 0)
		return NULL;
	return json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:I}", "volume", info.name, "number",
			 (json_int_t)at->number, "holder", at->holder, "holder_name",
			 at->holder_name, "group", at->group, "socket",
			 realpath(at->path, absolute) ? absolute : at->path, "connections",
			 (json_int_t)info.attachments);
}

json_t *attachments_json(const struct daemon *daemon)
{
	json_t *array = json_array();
	for (const struct attachment *at = daemon->attachments->head; at; at = at->next) {
		json_t *one = attachment_json(daemon, at);
		if (one)
			json_array_append_new(array, one);
	}
	return array;
}

static int attachments_save(const struct daemon *daemon)
{
	char path[PATH_ROOM], part[PATH_ROOM];
	snprintf(path, sizeof path, "%s/attachments", daemon->run_path);
	snprintf(part, sizeof part, "%s/attachments.part", daemon->run_path);
	json_t *all = attachments_json(daemon);
	int res = json_dump_file(all, part, JSON_INDENT(1)) < 0 ? -EIO : 0;
	json_decref(all);
	if (res == 0 && rename(part, path) < 0)
		res = -errno;
	return res;
}

static struct attachment *attachment_add(struct daemon *daemon, uint32_t number, const char *holder,
					 const char *holder_name, const char *group)
{
	struct attachment *at = calloc(1, sizeof(*at));
	if (!at)
		return NULL;
	at->number = number;
	snprintf(at->holder, sizeof at->holder, "%s", holder);
	snprintf(at->holder_name, sizeof at->holder_name, "%s", holder_name);
	snprintf(at->group, sizeof at->group, "%s", group);
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

/* Another store may be served in the same RUN: what it does not know is left out. */
static void attachment_load(struct daemon *daemon, const json_t *one)
{
	struct volume_info info;
	const char *holder = "", *holder_name = "", *group = "", *volume = "";
	json_int_t number = 0;
	if (json_unpack((json_t *)one, "{s:s, s:s, s:s, s:s, s:I}", "volume", &volume, "holder",
			&holder, "holder_name", &holder_name, "group", &group, "number",
			&number) < 0 ||
	    volume_find(daemon, NULL, (uint32_t)number, &info) < 0)
		return;
	struct attachment *at =
		attachment_add(daemon, (uint32_t)number, holder, holder_name, group);
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
	json_array_foreach(all, i, one) attachment_load(daemon, one);
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

const char *attachment_holder(const struct daemon *daemon, const char *volume)
{
	struct volume_info info;
	if (volume_find(daemon, volume, 0, &info) < 0)
		return NULL;
	const struct attachment *at = *attachment_at(daemon, info.number);
	return at ? at->holder_name : NULL;
}

static int put_refuse(const struct attachment *at, const char *volume,
		      char sentence[SENTENCE_BYTES], const char **ret_holder)
{
	*ret_holder = at->holder_name;
	snprintf(sentence, SENTENCE_BYTES,
		 "Volume %s is attached to %s; detach it there first (vstorectl volume attachments "
		 "%s shows it).",
		 volume, at->holder_name, volume);
	return -EBUSY;
}

int attachment_put(struct daemon *daemon, const char *volume, const char *holder,
		   const char *holder_name, const char *group, json_t **ret_json,
		   char sentence[SENTENCE_BYTES], const char **ret_holder)
{
	struct volume_info info;
	uint8_t uuid[16];
	sentence[0] = 0;
	if (text_uuid_parse(holder, uuid) < 0 || !text_name_ok(holder_name, strlen(holder_name)) ||
	    strlen(group) >= NAME_ROOM) {
		snprintf(sentence, SENTENCE_BYTES,
			 "An attachment needs 'holder', a UUID, and 'holder_name', a name.");
		return -EINVAL;
	}
	int res = volume_find(daemon, volume, 0, &info);
	if (res < 0) {
		snprintf(sentence, SENTENCE_BYTES,
			 "There is no volume %.63s; vstorectl volume list shows what there is.",
			 volume);
		return res;
	}
	struct attachment **found = attachment_at(daemon, info.number);
	if (*found && strcmp((*found)->holder, holder) != 0)
		return put_refuse(*found, volume, sentence, ret_holder);
	if (*found && access((*found)->path, F_OK) < 0)
		attachment_drop(daemon, found); /* its socket is gone: make it again */
	if (*(found = attachment_at(daemon, info.number))) {
		snprintf((*found)->holder_name, NAME_ROOM, "%s", holder_name);
		*ret_json = attachment_json(daemon, *found);
		return attachments_save(daemon);
	}
	struct attachment *at = attachment_add(daemon, info.number, holder, holder_name, group);
	res = at ? attachment_listen(daemon, at, &info) : -ENOMEM;
	if (res == 0)
		res = attachments_save(daemon);
	if (res < 0) {
		snprintf(sentence, SENTENCE_BYTES,
			 "The socket for volume %.63s cannot be made: %s.", volume,
			 vs_strerror(res));
		if (at)
			attachment_drop(daemon, attachment_at(daemon, info.number));
		return res;
	}
	*ret_json = attachment_json(daemon, at);
	return 0;
}

/* The holder's own attachment, or NULL with a sentence. */
static struct attachment **attachment_of(const struct daemon *daemon, const char *volume,
					 const char *holder, char sentence[SENTENCE_BYTES])
{
	struct volume_info info;
	struct attachment **at = NULL;
	sentence[0] = 0;
	if (volume_find(daemon, volume, 0, &info) == 0)
		at = attachment_at(daemon, info.number);
	if (at && *at && strcmp((*at)->holder, holder) == 0)
		return at;
	snprintf(sentence, SENTENCE_BYTES, "Volume %.63s is not attached to that holder.", volume);
	return NULL;
}

int attachment_remove(struct daemon *daemon, const char *volume, const char *holder,
		      char sentence[SENTENCE_BYTES])
{
	struct attachment **at = attachment_of(daemon, volume, holder, sentence);
	if (!at)
		return -ENOENT;
	attachment_drop(daemon, at);
	return attachments_save(daemon);
}

int attachment_reconnect(struct daemon *daemon, const char *volume, const char *holder,
			 char sentence[SENTENCE_BYTES])
{
	struct attachment **at = attachment_of(daemon, volume, holder, sentence);
	return at ? nbd_server_drop(daemon->nbd, (*at)->path) : -ENOENT;
}

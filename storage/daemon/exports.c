/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RUN/nbd/NAME.sock for each volume that is not in the trash, and RUN/nbd.sock for all. After a
 * change the sockets are brought in step with the list of volumes; a renamed volume keeps its
 * connections.
 */
#include "storage/daemon/daemon.h"

#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOCKET_MODE 0660

struct export
{
	uint32_t number; /* of the volume */
	char name[NAME_ROOM], path[NBD_PATH_ROOM + 64];
	struct volume_limits limits; /* that the server was told */
	struct export *next;
};

struct exports {
	struct export *head; /* in the order of their numbers, as the store lists volumes */
};

static void export_remove(struct daemon *daemon, struct export **at)
{
	struct export *export = *at;
	nbd_server_unexport(daemon->nbd, export->path);
	nbd_server_limit(daemon->nbd, export->name, &(struct volume_limits){0});
	*at = export->next;
	free(export);
}

static void export_listen(struct daemon *daemon, struct export *export)
{
	snprintf(export->path, sizeof export->path, "%s/nbd/%s.sock", daemon->run_path,
		 export->name);
	char *slash = strchr(export->path + strlen(daemon->run_path) + strlen("/nbd/"), '/');
	if (slash)
		*slash = ':'; /* HOST/VOL, a copy: no name has a colon */
	int res = nbd_server_export(daemon->nbd, export->path, export->name, SOCKET_MODE,
				    daemon->group);
	if (res < 0)
		log_event(LOG_LEVEL_ERROR, "nbd.no_socket", "volume=%s path=%s error=\"%s\"",
			  export->name, export->path, vs_strerror(res));
}

static void export_rename(struct daemon *daemon, struct export *export, const char *name)
{
	char old_path[sizeof export->path];
	memcpy(old_path, export->path, sizeof old_path);
	nbd_server_rename(daemon->nbd, export->name, name);
	snprintf(export->name, sizeof export->name, "%s", name);
	export_listen(daemon, export);
	nbd_server_unexport(daemon->nbd, old_path);
}

/* At its place in the list; returns the place behind it. */
static struct export **export_see(struct daemon *daemon, struct export **at,
				  const struct volume_info *info, bool *renamed)
{
	struct export *export = *at;
	if (!export || export->number != info->number) {
		export = calloc(1, sizeof(*export));
		if (!export)
			return at; /* the next change tries again */
		export->number = info->number;
		memcpy(export->name, info->name, NAME_ROOM);
		export->next = *at;
		*at = export;
		export_listen(daemon, export);
	} else if (strcmp(export->name, info->name) != 0) {
		export_rename(daemon, export, info->name);
		*renamed = true;
	}
	return &export->next;
}

static void export_limit(struct daemon *daemon, struct export *export,
			 const struct volume_limits *limits)
{
	if (nbd_server_limit(daemon->nbd, export->name, limits) < 0) {
		log_event(LOG_LEVEL_ERROR, "nbd.no_limit", "volume=%s error=\"no memory\"",
			  export->name);
		return;
	}
	export->limits = *limits;
}

static bool limits_equal(const struct volume_limits *a, const struct volume_limits *b)
{
	return a->iops == b->iops && a->bytes_per_s == b->bytes_per_s && a->burst_s == b->burst_s;
}

void exports_sync(struct daemon *daemon)
{
	struct volume_info *infos;
	size_t count, i = 0;
	bool renamed = false;
	if (daemon->stopping || store_volumes(daemon->store, false, &infos, &count) < 0)
		return;
	/* A volume that took another's old name can only listen there once that one has left. */
	for (struct export **at = &daemon->exports->head; *at;) {
		while (i < count && infos[i].number < (*at)->number)
			i++;
		if (i < count && infos[i].number == (*at)->number)
			at = &(*at)->next;
		else
			export_remove(daemon, at);
	}
	struct export **at = &daemon->exports->head;
	for (i = 0; i < count; i++)
		at = export_see(daemon, at, &infos[i], &renamed);
	/* The server knows limits by name, and names may have gone round: all are told again. */
	i = 0;
	for (struct export *export = daemon->exports->head; export; export = export->next) {
		while (infos[i].number != export->number)
			i++;
		if (renamed || !limits_equal(&export->limits, &infos[i].limits))
			export_limit(daemon, export, &infos[i].limits);
	}
	free(infos);
}

int exports_new(struct daemon *daemon)
{
	char path[NBD_PATH_ROOM + 64];
	daemon->exports = calloc(1, sizeof(*daemon->exports));
	if (!daemon->exports)
		return -ENOMEM;
	snprintf(path, sizeof path, "%s/nbd.sock", daemon->run_path);
	int res = nbd_server_export(daemon->nbd, path, NULL, SOCKET_MODE, daemon->group);
	if (res == 0)
		exports_sync(daemon);
	return res;
}

void exports_free(struct daemon *daemon)
{
	while (daemon->exports && daemon->exports->head) {
		struct export *export = daemon->exports->head;
		daemon->exports->head = export->next;
		free(export);
	}
	free(daemon->exports);
	daemon->exports = NULL;
}

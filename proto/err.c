/* SPDX-License-Identifier: Apache-2.0 */
/* The one list of private error codes and their texts. */
#include "proto/err.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct err_row {
	int code;
	const char *name;
	const char *text; /* NULL: libc's */
};

static const struct err_row err_rows[] = {
	{VS_ECHECKSUM, "checksum", "data does not match its checksum"},
	{VS_EFORMAT, "format", "not in the format that was expected"},
	{VS_ENEWER, "newer_format", "written by a newer version of vstore"},
	{VS_ELOST, "lost", "data that was promised durable is missing"},
	{VS_EFAILSTOP, "fail_stop", "an earlier I/O error made the store read-only"},
	{VS_EFENCED, "fenced", "another holder has the volume"},
	{VS_ERETAINED, "retained", "a hold or retention date forbids it"},
	{VS_EQUOTA, "quota", "the volume's quota is used up"},
	{VS_ECANCELLED, "cancelled", "cancelled"},
	{VS_ELOCKED, "locked", "another process has the store open"},
	{EINVAL, "invalid", NULL},
	{ENOENT, "not_found", NULL},
	{EEXIST, "exists", NULL},
	{EBUSY, "busy", NULL},
	{EACCES, "denied", NULL},
	{EPERM, "denied", NULL},
	{EROFS, "read_only", NULL},
	{ENOSPC, "no_space", NULL},
	{EIO, "io_error", NULL},
	{ETIMEDOUT, "timed_out", NULL},
	{ENOTSUP, "not_supported", NULL},
	{ESHUTDOWN, "stopping", NULL},
	{ECONNREFUSED, "unavailable", NULL},
	{ERANGE, "range", NULL},
};

static const struct err_row *err_find(int err)
{
	int code = err < 0 ? -err : err;
	for (size_t i = 0; i < sizeof(err_rows) / sizeof(err_rows[0]); i++)
		if (err_rows[i].code == code)
			return &err_rows[i];
	return NULL;
}

const char *vs_strerror(int err)
{
	const struct err_row *row = err_find(err);
	if (row && row->text)
		return row->text;
	const char *text = strerrordesc_np(err < 0 ? -err : err);
	return text ? text : "unknown error";
}

const char *vs_errname(int err)
{
	const struct err_row *row = err_find(err);
	return row ? row->name : "failed";
}

int vs_errcode(const char *name)
{
	for (size_t i = 0; i < sizeof(err_rows) / sizeof(err_rows[0]); i++)
		if (strcmp(err_rows[i].name, name) == 0)
			return err_rows[i].code;
	return EIO;
}

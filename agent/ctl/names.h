/* SPDX-License-Identifier: Apache-2.0 */
/* Names and values that users type, checked before a daemon is asked: exit codes as in call.h. */
#ifndef AGENT_CTL_NAMES_H
#define AGENT_CTL_NAMES_H

#include "agent/ctl/ctl.h"
#include "proto/units.h"

#define SNAP_NAME_ROOM (2 * NAME_BYTES_MAX + 2)

/* A name for something new. */
int name_check(const struct ctl *ctl, const char *name);
/* VOLUME@SNAP must have its '@'. */
int name_check_snapshot(const struct ctl *ctl, const char *name);
/* VOLUME or VOLUME@SNAP that is safe as a part of a file's path. */
int name_check_either(const struct ctl *ctl, const char *name);

int size_parse(const struct ctl *ctl, const char *text, uint64_t *ret_bytes);
/* Whole seconds, written as a duration. */
int seconds_parse(const struct ctl *ctl, const char *text, int64_t *ret_seconds);
/* The number of something, as "trash" list or "job" list shows it. */
int id_check(const struct ctl *ctl, const char *list, const char *id);
/* `what` it counts is said when it is no number. */
int count_parse(const struct ctl *ctl, const char *what, const char *text, int64_t *ret_count);
/* Hours of each day, HH:MM-HH:MM or always; the daemon takes the text. */
int window_check(const struct ctl *ctl, const char *text);
int level_parse(const struct ctl *ctl, const char *text, int64_t *ret_level);

#endif

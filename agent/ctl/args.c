/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Understands a command line. Global options may stand anywhere, a verb's own ones behind it.
 * Nothing is guessed: an unknown word or option is an error that says where to look.
 */
#include "agent/ctl/args.h"

#include "proto/text.h"
#include "proto/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct global_option global_options[] = {
	{"host", 0, true, "the daemon's socket, unix:PATH (else $VSTORE_HOST, else /run/vstore)"},
	{"output", 'o', true, "table, wide, json, csv or name"},
	{"columns", 'c', true, "the columns to show, with commas between"},
	{"no-header", 0, false, "no line of titles in tables and csv"},
	{"sort", 0, true, "sort by this column; -COL for the other way round"},
	{"filter", 0, true, "COL=VALUE,...: only the rows where all of them hold"},
	{"quiet", 'q', false, "no progress and no words but errors"},
	{"progress", 0, true, "auto, bar, json or none"},
	{"async", 0, false, "print the job and do not wait for its end"},
	{"timeout", 0, true, "wait no longer than this: 30s 5m 2h"},
	{"yes", 0, false, "do not ask before something dangerous"},
	{"dry-run", 0, false, "say what would be done, and do nothing"},
	{"help", 'h', false, "this text, or a verb's own"},
	{NULL, 0, false, NULL},
};

void args_bounds(const char *args, unsigned *ret_min, unsigned *ret_max)
{
	unsigned least = 0, most = 0;
	for (; *args; args++) {
		if (*args == '?')
			least--;
		else if (*args == '+')
			most = UINT32_MAX;
		else
			least++, most++;
	}
	*ret_min = least;
	*ret_max = most;
}

/* Where in `words`, which has `count` entries, `word` stands; -1 for nowhere. */
static int word_find(const char *const *words, int count, const char *word)
{
	for (int i = 0; i < count; i++)
		if (strcmp(words[i], word) == 0)
			return i;
	return -1;
}

static int global_set(struct ctl *ctl, const struct global_option *option, const char *value)
{
	static const char *const formats[] = {"table", "wide", "json", "csv", "name"};
	static const char *const bars[] = {"auto", "bar", "json", "none"};
	const char *name = option->name;
	int found;
	if (strcmp(name, "host") == 0) {
		ctl->host = value;
	} else if (strcmp(name, "output") == 0) {
		found = word_find(formats, 5, value);
		if (found < 0)
			return ctl_fail(
				ctl, CTL_USAGE,
				"-o %s is unknown; it takes table, wide, json, csv or name.",
				value);
		ctl->format = (enum ctl_format)found;
	} else if (strcmp(name, "columns") == 0) {
		ctl->columns = value;
	} else if (strcmp(name, "no-header") == 0) {
		ctl->no_header = true;
	} else if (strcmp(name, "sort") == 0) {
		ctl->sort = value;
	} else if (strcmp(name, "filter") == 0) {
		ctl->filter = value;
	} else if (strcmp(name, "quiet") == 0) {
		ctl->quiet = true;
	} else if (strcmp(name, "progress") == 0) {
		found = word_find(bars, 4, value);
		if (found < 0)
			return ctl_fail(
				ctl, CTL_USAGE,
				"--progress=%s is unknown; it takes auto, bar, json or none.",
				value);
		ctl->progress = (enum ctl_progress)found;
	} else if (strcmp(name, "async") == 0) {
		ctl->async = true;
	} else if (strcmp(name, "timeout") == 0) {
		if (text_duration(value, &ctl->timeout_ns) < 0 || ctl->timeout_ns == 0)
			return ctl_fail(ctl, CTL_USAGE,
					"--timeout %s is no duration; write it like 30s, 5m or 2h.",
					value);
	} else if (strcmp(name, "yes") == 0) {
		ctl->yes = true;
	} else if (strcmp(name, "dry-run") == 0) {
		ctl->dry_run = true;
	} else {
		ctl->help = true;
	}
	return 0;
}

/* Finds `name` (of `bytes` bytes) among a command's options: where it stands in the table's text,
 * and whether it takes a value. */
static bool command_option(const char *options, const char *name, size_t bytes,
			   const char **ret_name, bool *ret_takes_value)
{
	for (const char *at = options; *at;) {
		size_t length = strcspn(at, "= ");
		bool value = at[length] == '=';
		if (length == bytes && strncmp(at, name, bytes) == 0) {
			*ret_name = at;
			*ret_takes_value = value;
			return true;
		}
		at += length + value;
		at += strspn(at, "+ ");
	}
	return false;
}

static const struct global_option *global_find(const char *name, size_t bytes, char letter)
{
	for (const struct global_option *o = global_options; o->name; o++)
		if (letter ? o->letter == letter
			   : strlen(o->name) == bytes && strncmp(o->name, name, bytes) == 0)
			return o;
	return NULL;
}

static int option_add(struct ctl *ctl, const char *name, const char *value)
{
	unsigned i = 0;
	bool repeats = name[strcspn(name, "= ")] == '=' && name[strcspn(name, "= ") + 1] == '+';
	for (; ctl->options[i].name; i++)
		if (ctl->options[i].name == name && !repeats)
			break;
	if (i == CTL_OPTIONS_MAX)
		return ctl_fail(ctl, CTL_USAGE, "There are too many options.");
	ctl->options[i].name = name;
	ctl->options[i].value = value;
	return 0;
}

/* One argument that begins with '-'. May take the next one as its value: then *at moves. */
static int option_parse(struct ctl *ctl, int argc, char *const *argv, int *at)
{
	const char *word = argv[*at], *value = NULL, *own = NULL;
	bool is_long = word[1] == '-', takes_value = false;
	const char *name = word + (is_long ? 2 : 1);
	size_t bytes = is_long ? strcspn(name, "=") : 1;
	const struct global_option *global = global_find(name, bytes, is_long ? 0 : *name);
	if (global)
		takes_value = global->takes_value;
	else if (!is_long || !ctl->command ||
		 !command_option(ctl->command->options, name, bytes, &own, &takes_value))
		return ctl_fail(ctl, CTL_USAGE, "The option %s is unknown here; see --help.", word);
	if (name[bytes] == '=')
		value = name + bytes + 1;
	else if (name[bytes])
		value = name + bytes; /* -ojson */
	if (value && !takes_value)
		return ctl_fail(ctl, CTL_USAGE, "%s: that option takes no value.", word);
	if (takes_value && !value) {
		if (*at + 1 >= argc)
			return ctl_fail(ctl, CTL_USAGE, "%s needs a value; see --help.", word);
		value = argv[++*at];
	}
	if (global)
		return global_set(ctl, global, value);
	return option_add(ctl, own, value ? value : "");
}

/* The command that noun and verb name; NULL when there is none. A lone noun has verb NULL. */
static const struct command *command_find(const char *noun, const char *verb, bool *ret_noun_known)
{
	*ret_noun_known = false;
	for (const struct command *c = commands; c->noun; c++) {
		if (strcmp(c->noun, noun) != 0)
			continue;
		*ret_noun_known = true;
		if (!c->verb || (verb && strcmp(c->verb, verb) == 0))
			return c;
	}
	return NULL;
}

/* The noun that two words make; NULL: none. */
static const char *noun_of_two(const char *noun, const char *word)
{
	size_t bytes = strlen(noun);
	for (const struct command *c = commands; c->noun; c++)
		if (strncmp(c->noun, noun, bytes) == 0 && c->noun[bytes] == ' ' &&
		    strcmp(c->noun + bytes + 1, word) == 0)
			return c->noun;
	return NULL;
}

static int word_parse(struct ctl *ctl, const char *word, const char **noun, const char **args)
{
	bool noun_known;
	if (ctl->command) {
		args[ctl->arg_count++] = word;
		return 0;
	}
	if (!*noun && strcmp(word, "help") == 0) {
		ctl->help = true;
		return 0;
	}
	const char *first = *noun ? *noun : word;
	ctl->command = command_find(first, *noun ? word : NULL, &noun_known);
	if (!noun_known)
		return ctl_fail(ctl, CTL_USAGE, "There is no noun \"%s\"; see vstorectl --help.",
				word);
	if (*noun && !ctl->command && (first = noun_of_two(*noun, word)) != NULL) {
		*noun = first; /* "vm disk" */
		return 0;
	}
	if (*noun && !ctl->command)
		return ctl_fail(ctl, CTL_USAGE, "%s has no verb \"%s\"; see vstorectl %s --help.",
				*noun, word, *noun);
	*noun = first;
	return 0;
}

static int command_check(const struct ctl *ctl, const char *noun)
{
	unsigned least, most;
	const struct command *c = ctl->command;
	if (!c && !noun)
		return ctl_fail(ctl, CTL_USAGE,
				"Say what to do, a noun and a verb; see vstorectl --help.");
	if (!c)
		return ctl_fail(ctl, CTL_USAGE, "%s needs a verb; see vstorectl %s --help.", noun,
				noun);
	const char *space = c->verb ? " " : "", *verb = c->verb ? c->verb : "";
	args_bounds(c->args, &least, &most);
	if (ctl->arg_count < least || ctl->arg_count > most)
		return ctl_fail(ctl, CTL_USAGE, "Too %s arguments; it is: vstorectl %s%s%s %s",
				ctl->arg_count < least ? "few" : "many", c->noun, space, verb,
				c->synopsis);
	if (ctl->dry_run && !(c->flags & COMMAND_DRY_RUN))
		return ctl_fail(ctl, CTL_USAGE, "%s%s%s has no --dry-run; nothing was done.",
				c->noun, space, verb);
	if (ctl->async && !(c->flags & COMMAND_ASYNC))
		return ctl_fail(ctl, CTL_USAGE, "%s%s%s starts no job: it has no --async.", c->noun,
				space, verb);
	return 0;
}

int args_parse(struct ctl *ctl, int argc, char *const *argv, const char **ret_args,
	       const char **ret_noun)
{
	bool options_end = false;
	const char *noun = NULL;
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];
		int res;
		if (!options_end && strcmp(word, "--") == 0) {
			options_end = true;
			continue;
		}
		if (!options_end && !noun && strcmp(word, "--version") == 0)
			word = "version"; /* as of any program */
		if (!options_end && word[0] == '-' && word[1])
			res = option_parse(ctl, argc, argv, &i);
		else
			res = word_parse(ctl, word, &noun, ret_args);
		if (res)
			return res;
	}
	ret_args[ctl->arg_count] = NULL;
	ctl->args = ret_args;
	*ret_noun = noun;
	if (ctl->timeout_ns)
		ctl->deadline_ns = ctl_now_ns() + ctl->timeout_ns;
	return ctl->help ? 0 : command_check(ctl, noun);
}

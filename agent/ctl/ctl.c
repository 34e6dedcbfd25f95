/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Speaking: words, errors, exit codes, and asking before something dangerous. Foreign text goes to
 * a terminal only with its control characters replaced.
 */
#include "agent/ctl/ctl.h"

#include "agent/ctl/value.h"
#include "proto/err.h"
#include "proto/units.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

volatile sig_atomic_t ctl_interrupted;

struct exit_row {
	const char *word;
	enum ctl_exit code;
};

/* vs_errname's words, and the few that only the control plane uses. */
static const struct exit_row exit_words[] = {
	{"invalid", CTL_USAGE},
	{"not_found", CTL_NOT_FOUND},
	{"exists", CTL_EXISTS},
	{"conflict", CTL_EXISTS},
	{"busy", CTL_BUSY},
	{"locked", CTL_BUSY},
	{"fenced", CTL_BUSY},
	{"denied", CTL_DENIED},
	{"retained", CTL_DENIED},
	{"read_only", CTL_DENIED},
	{"timed_out", CTL_TIMED_OUT},
	{"partly", CTL_PARTLY},
	{"unavailable", CTL_UNAVAILABLE},
	{"checksum", CTL_DAMAGED},
	{"lost", CTL_DAMAGED},
	{"format", CTL_DAMAGED},
	{"no_space", CTL_NO_SPACE},
	{"quota", CTL_NO_SPACE},
	{"cancelled", CTL_FAILED},
	{"fail_stop", CTL_FAILED},
	{"io_error", CTL_FAILED},
	{"newer_format", CTL_FAILED},
	{"not_supported", CTL_FAILED},
};

static const struct {
	long status;
	enum ctl_exit code;
} exit_statuses[] = {
	{400, CTL_USAGE},     {401, CTL_DENIED},   {403, CTL_DENIED},	   {404, CTL_NOT_FOUND},
	{408, CTL_TIMED_OUT}, {409, CTL_EXISTS},   {413, CTL_USAGE},	   {422, CTL_USAGE},
	{423, CTL_BUSY},      {429, CTL_BUSY},	   {502, CTL_UNAVAILABLE}, {503, CTL_UNAVAILABLE},
	{504, CTL_TIMED_OUT}, {507, CTL_NO_SPACE},
};

enum ctl_exit ctl_exit_of(long http_status, const char *word)
{
	for (size_t i = 0; word && i < sizeof exit_words / sizeof exit_words[0]; i++)
		if (strcmp(word, exit_words[i].word) == 0)
			return exit_words[i].code;
	for (size_t i = 0; i < sizeof exit_statuses / sizeof exit_statuses[0]; i++)
		if (exit_statuses[i].status == http_status)
			return exit_statuses[i].code;
	return http_status >= 200 && http_status < 300 ? CTL_OK : CTL_FAILED;
}

enum ctl_exit ctl_exit_of_err(int err)
{
	switch (err < 0 ? -err : err) {
	case ECONNREFUSED:
	case ENOTCONN:
	case ESHUTDOWN:
		return CTL_UNAVAILABLE;
	case EINVAL: /* ours or a library's: nothing that the user typed */
		return CTL_FAILED;
	}
	return ctl_exit_of(0, vs_errname(err));
}

static const char *exit_word(enum ctl_exit code)
{
	for (size_t i = 0; i < sizeof exit_words / sizeof exit_words[0]; i++)
		if (exit_words[i].code == code && code != CTL_FAILED)
			return exit_words[i].word;
	return "failed";
}

/* A copy without control characters; foreign words must not steer a terminal. */
static void plain_words(const char *from, char out[CTL_WORDS_BYTES])
{
	size_t used = 0;
	for (; *from && used < CTL_WORDS_BYTES - 1; from++) {
		unsigned char c = (unsigned char)*from;
		out[used++] = (c < ' ' && c != '\n' && c != '\t') || c == 127 ? '?' : *from;
	}
	out[used] = 0;
}

void ctl_say(const struct ctl *ctl, const char *format, ...)
{
	char words[CTL_WORDS_BYTES], plain[CTL_WORDS_BYTES];
	va_list list;
	if (ctl->quiet)
		return;
	va_start(list, format);
	vsnprintf(words, sizeof words, format, list);
	va_end(list);
	plain_words(words, plain);
	fprintf(stderr, "%s\n", plain);
}

static void fail_document(const struct ctl_error *error)
{
	VALUE_AUTO document = value_object();
	struct value *inner = value_object();
	value_set_integer(document, "schema", 1);
	value_set_text(inner, "code", error->word ? error->word : exit_word(error->code));
	value_set_text(inner, "message", error->message);
	value_set_text(inner, "hint", error->hint ? error->hint : "");
	value_set_text(inner, "holder", error->holder ? error->holder : "");
	value_set(document, "error", inner);
	char *text = value_dump(document, true);
	if (text)
		puts(text);
	free(text);
}

int ctl_fail_with(const struct ctl *ctl, const struct ctl_error *error)
{
	char plain[CTL_WORDS_BYTES];
	if (ctl->format == FORMAT_JSON)
		fail_document(error);
	plain_words(error->message, plain);
	fprintf(stderr, "vstorectl: %s\n", plain);
	if (error->holder && *error->holder) {
		plain_words(error->holder, plain);
		fprintf(stderr, "  held by: %s\n", plain);
	}
	if (error->hint && *error->hint) {
		plain_words(error->hint, plain);
		fprintf(stderr, "  %s\n", plain);
	}
	return (int)error->code;
}

int ctl_fail(const struct ctl *ctl, enum ctl_exit code, const char *format, ...)
{
	char words[CTL_WORDS_BYTES];
	va_list list;
	va_start(list, format);
	vsnprintf(words, sizeof words, format, list);
	va_end(list);
	struct ctl_error error = {.code = code, .message = words};
	return ctl_fail_with(ctl, &error);
}

const char *ctl_option(const struct ctl *ctl, const char *name)
{
	return ctl_option_nth(ctl, name, 0);
}

const char *ctl_option_nth(const struct ctl *ctl, const char *name, unsigned n)
{
	size_t bytes = strlen(name);
	for (unsigned i = 0; ctl->options[i].name; i++) {
		const char *given = ctl->options[i].name;
		/* strchr finds the terminator too. */
		if (strncmp(given, name, bytes) == 0 && strchr("= ", given[bytes]) && n-- == 0)
			return ctl->options[i].value;
	}
	return NULL;
}

void ctl_die_of_signal(void)
{
	int number = ctl_interrupted ? ctl_interrupted : SIGINT;
	fflush(NULL);
	signal(number, SIG_DFL);
	raise(number);
	_exit(128 + number); /* the signal was blocked */
}

uint64_t ctl_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

int ctl_left_ms(const struct ctl *ctl)
{
	if (!ctl->deadline_ns)
		return -1;
	uint64_t now = ctl_now_ns();
	if (now >= ctl->deadline_ns)
		return 0;
	/* Rounded up, so that a wait does not end a hair before the deadline and spin. */
	return (int)min_u64((ctl->deadline_ns - now) / NSEC_PER_MSEC + 1, 1 << 30);
}

bool ctl_confirm(const struct ctl *ctl, const char *name, const char *what, int *ret_exit)
{
	char typed[256];
	if (ctl->dry_run) {
		ctl_say(ctl, "%s (not done: --dry-run)", what);
		*ret_exit = CTL_OK;
		return false;
	}
	if (ctl->yes)
		return true;
	if (!isatty(STDIN_FILENO)) {
		*ret_exit =
			ctl_fail(ctl, CTL_USAGE,
				 "%s That needs --yes where there is no terminal to ask on.", what);
		return false;
	}
	fprintf(stderr, "%s\nType %s to go on: ", what, name);
	fflush(stderr);
	bool read_one = fgets(typed, sizeof typed, stdin);
	if (!read_one)
		fprintf(stderr, "\n");
	if (ctl_interrupted)
		ctl_die_of_signal();
	typed[read_one ? strcspn(typed, "\n") : 0] = 0;
	if (strcmp(typed, name) == 0)
		return true;
	*ret_exit = ctl_fail(ctl, CTL_FAILED, "That is not %s: nothing was changed.", name);
	return false;
}

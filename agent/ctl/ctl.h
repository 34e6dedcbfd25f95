/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every verb gets: the command line as it was understood, and the ways to speak. stdout
 * carries data, stderr carries words; a verb returns one of the exit codes below.
 */
#ifndef AGENT_CTL_CTL_H
#define AGENT_CTL_CTL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CTL_VERSION "0.1.0"

/* The contract with scripts: never renumbered. */
enum ctl_exit {
	CTL_OK = 0,
	CTL_FAILED = 1,
	CTL_USAGE = 2,
	CTL_NOT_FOUND = 3,
	CTL_EXISTS = 4, /* or a conflict */
	CTL_BUSY = 5,
	CTL_DENIED = 6, /* or retained */
	CTL_TIMED_OUT = 7,
	CTL_UNAVAILABLE = 8,
	CTL_PARTLY = 9,
	CTL_DIFFERENT = 10,
	CTL_DAMAGED = 11,
	CTL_NO_SPACE = 12,
};

enum ctl_format { FORMAT_TABLE, FORMAT_WIDE, FORMAT_JSON, FORMAT_CSV, FORMAT_NAME };
enum ctl_progress { PROGRESS_AUTO, PROGRESS_BAR, PROGRESS_JSON, PROGRESS_NONE };

#define CTL_OPTIONS_MAX 64 /* of one verb, repeated ones counted */
#define CTL_WORDS_BYTES 1024

struct command;
struct client;
struct value;

struct ctl {
	const struct command *command;
	const char *const *args; /* what is not an option, after noun and verb; NULL behind it */
	unsigned arg_count;
	struct {
		const char *name;  /* in the command's `options`, where it stands; NULL: the end */
		const char *value; /* "" for a flag */
	} options[CTL_OPTIONS_MAX + 1];

	const char *host; /* as given, or NULL */
	enum ctl_format format;
	const char *columns, *sort, *filter; /* NULL: not given */
	bool no_header, quiet, async, yes, dry_run, help;
	enum ctl_progress progress;
	uint64_t timeout_ns;  /* 0: no limit */
	uint64_t deadline_ns; /* monotonic; 0: none */

	char socket[256]; /* of the daemon, once call() or call_socket() has chosen it */
	struct client *http;
};

/* The value of --NAME of this verb, "" for a flag that was given, NULL when it was not. */
const char *ctl_option(const struct ctl *ctl, const char *name);
/* The n-th value of one that may be repeated; NULL: there are no more. */
const char *ctl_option_nth(const struct ctl *ctl, const char *name, unsigned n);

/* Set by SIGINT and SIGTERM. Whoever waits looks at it. */
extern volatile sig_atomic_t ctl_interrupted;
/* Ends as the signal would have ended us, so that a shell's loop stops too. Never returns. */
__attribute__((noreturn)) void ctl_die_of_signal(void);

uint64_t ctl_now_ns(void);
/* Milliseconds until the deadline: -1 without one, 0 when it has passed. */
int ctl_left_ms(const struct ctl *ctl);

/* A person's words on stderr, with a newline; nothing with -q. */
__attribute__((format(printf, 2, 3))) void ctl_say(const struct ctl *ctl, const char *format, ...);

/* An error: one sentence on stderr (also with -q), with -o json the error document on stdout.
 * Returns `code`. */
__attribute__((format(printf, 3, 4))) int ctl_fail(const struct ctl *ctl, enum ctl_exit code,
						   const char *format, ...);

/* What a daemon said, in its own words. */
struct ctl_error {
	enum ctl_exit code;
	const char *word; /* vs_errname's; NULL: one that fits the code */
	const char *message, *hint, *holder;
};
int ctl_fail_with(const struct ctl *ctl, const struct ctl_error *error);

/* The one place where a reply's status and error word become an exit code. The word decides when
 * it is known, else the status. */
enum ctl_exit ctl_exit_of(long http_status, const char *word);
/* The same for a negative code of our own. */
enum ctl_exit ctl_exit_of_err(int err);

/* Asks for `name` to be typed before `what` ("Volume web1 goes to the trash.") happens. Returns
 * true to go on; else *ret_exit is what to return: --dry-run stops here with 0. */
bool ctl_confirm(const struct ctl *ctl, const char *name, const char *what, int *ret_exit);

#endif

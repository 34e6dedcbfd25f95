/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: one table of commands says what exists; the parser, the help and the shell
 * completion read it. */
#ifndef AGENT_CTL_ARGS_H
#define AGENT_CTL_ARGS_H

#include "agent/ctl/ctl.h"

enum command_flags {
	COMMAND_DANGEROUS = 1, /* asks for the name to be typed, or --yes */
	COMMAND_DRY_RUN = 2,   /* has --dry-run */
	COMMAND_ASYNC = 4,     /* has --async */
};

/* One line of the contract. */
struct command {
	const char *noun;
	const char *verb; /* NULL: the noun stands alone */
	/* Returns an enum ctl_exit. */
	int (*run)(struct ctl *ctl);
	/* A letter for each argument, which says what a shell completes: v volume, s snapshot, r
	 * volume or snapshot, t trash id, j job id, p policy, f file, n new name, w other word. The
	 * last may have '?' (may be missing) or '+' (one or more) behind it. */
	const char *args;
	const char
		*options; /* "size= disk=+ force": '=' takes a value, "=+" as often as one likes */
	const char *synopsis; /* arguments and options as the help shows them */
	const char *help;     /* what it does, in whole sentences */
	const char *example;
	unsigned flags;
};

struct global_option {
	const char *name; /* without dashes */
	char letter;	  /* 0: none */
	bool takes_value;
	const char *help;
};

/* Both end with an entry whose first member is NULL. */
extern const struct command commands[];
extern const struct global_option global_options[];

/* Understands argv[1..]. Returns 0, or an exit code when it has said what is wrong. With --help
 * ctl->command may be NULL and *ret_noun the noun that help is wanted for, or NULL; without, it is
 * set and its arguments' number and options are right. `ret_args` has room for argc + 1 pointers.
 */
int args_parse(struct ctl *ctl, int argc, char *const *argv, const char **ret_args,
	       const char **ret_noun);

/* Fewest and most arguments (UINT32_MAX: no limit) that a command's `args` allows. */
void args_bounds(const char *args, unsigned *ret_min, unsigned *ret_max);

/* Help on a command, on a noun, or (both NULL) on all, to stdout. */
void help_print(const struct command *command, const char *noun);

/* A shell's completion script, on stdout: "bash", "zsh" or "fish". -EINVAL for others. */
int completion_print(const char *shell);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* vstorectl: understands the command line, runs one verb, returns its exit code. */
#include "agent/ctl/args.h"
#include "agent/ctl/ctl.h"
#include "agent/client/client.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static void note_signal(int number)
{
	ctl_interrupted = number;
}

int main(int argc, char **argv)
{
	struct ctl ctl = {0};
	const char *noun = NULL;
	/* No SA_RESTART: a wait must end so that its owner can say what goes on without us. */
	const struct sigaction action = {.sa_handler = note_signal};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	setlocale(LC_CTYPE, "");
	const char **args = calloc((size_t)argc + 1, sizeof(*args));
	if (!args)
		return CTL_FAILED;
	int res = args_parse(&ctl, argc, argv, args, &noun);
	if (res == 0 && ctl.help)
		help_print(ctl.command, noun);
	else if (res == 0)
		res = ctl.command->run(&ctl);
	client_free(ctl.http);
	free(args);
	/* Data that did not arrive is a failure, whatever the verb thought. */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr,
			"vstorectl: The output could not be written: it is not complete.\n");
		res = res ? res : CTL_FAILED;
	}
	return res;
}

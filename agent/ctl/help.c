/* SPDX-License-Identifier: Apache-2.0 */
/* Help from the table of commands: data that was asked for, so it goes to stdout. */
#include "agent/ctl/args.h"

#include <stdio.h>
#include <string.h>

#define HELP_COLUMNS 78

/* Whole words, `indent` spaces before each line. */
static void help_paragraph(const char *text, int indent)
{
	int column = 0;
	while (*text) {
		int length = (int)strcspn(text, " ");
		if (column && column + 1 + length > HELP_COLUMNS) {
			putchar('\n');
			column = 0;
		}
		column += printf("%*s%.*s", column ? 1 : indent, "", length, text);
		text += length;
		text += strspn(text, " ");
	}
	putchar('\n');
}

static void help_globals(void)
{
	puts("\nOptions of all verbs:");
	for (const struct global_option *o = global_options; o->name; o++) {
		char text[64];
		if (o->letter)
			snprintf(text, sizeof text, "-%c, --%s%s", o->letter, o->name,
				 o->takes_value ? "=..." : "");
		else
			snprintf(text, sizeof text, "--%s%s", o->name,
				 o->takes_value ? "=..." : "");
		printf("  %-20s %s\n", text, o->help);
	}
}

static void help_line(const struct command *c)
{
	printf("  %s%s%s%s%s\n", c->noun, c->verb ? " " : "", c->verb ? c->verb : "",
	       *c->synopsis ? " " : "", c->synopsis);
}

static void help_command(const struct command *c)
{
	printf("vstorectl ");
	printf("%s%s%s%s%s\n\n", c->noun, c->verb ? " " : "", c->verb ? c->verb : "",
	       *c->synopsis ? " " : "", c->synopsis);
	help_paragraph(c->help, 2);
	if (c->flags & COMMAND_DANGEROUS)
		help_paragraph("Asks for the name to be typed, or --yes.", 2);
	if (c->flags & (COMMAND_DRY_RUN | COMMAND_ASYNC))
		printf("  Has%s%s%s.\n", c->flags & COMMAND_DRY_RUN ? " --dry-run" : "",
		       c->flags & COMMAND_DRY_RUN && c->flags & COMMAND_ASYNC ? " and" : "",
		       c->flags & COMMAND_ASYNC ? " --async" : "");
	printf("\nExample:\n  %s\n", c->example);
	help_globals();
}

void help_print(const struct command *command, const char *noun)
{
	if (command) {
		help_command(command);
		return;
	}
	puts("vstorectl [OPTIONS] NOUN VERB ...\n");
	const char *last = "";
	for (const struct command *c = commands; c->noun; c++) {
		if (noun && strcmp(noun, c->noun) != 0)
			continue;
		if (!noun && c->verb && *last && strcmp(last, c->noun) != 0)
			putchar('\n');
		last = c->noun;
		help_line(c);
	}
	help_globals();
	puts("\nSizes take K M G T (powers of 1024). A snapshot is VOLUME@SNAP.\n"
	     "vstorectl NOUN VERB --help says more, with an example:\n  vstorectl volume import "
	     "debian-12.qcow2 web1-disk0\n"
	     "\nExit: 0 ok, 1 failed, 2 usage, 3 not found, 4 exists or conflict, 5 busy,\n"
	     "  6 denied or retained, 7 timed out, 8 daemon unavailable, 9 partly done,\n"
	     "  10 differences found, 11 damage found, 12 no space.");
}

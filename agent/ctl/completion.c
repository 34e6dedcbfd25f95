/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion scripts for shells, made from the table of commands. Names of volumes, snapshots,
 * trash and jobs are asked of vstorectl itself when the key is pressed.
 */
#include "agent/ctl/args.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Is this the first line of its noun? */
static bool noun_is_first(const struct command *command)
{
	for (const struct command *c = commands; c != command; c++)
		if (strcmp(c->noun, command->noun) == 0)
			return false;
	return true;
}

/* All nouns, or (noun given) its verbs, with spaces between. */
static void words_print(const char *noun)
{
	bool first = true;
	for (const struct command *c = commands; c->noun; c++) {
		const char *word = noun ? c->verb : c->noun;
		if (noun ? strcmp(noun, c->noun) != 0 || !c->verb : !noun_is_first(c))
			continue;
		printf("%s%s", first ? "" : " ", word);
		first = false;
	}
}

static void globals_print(void)
{
	for (const struct global_option *o = global_options; o->name; o++)
		printf(" --%s", o->name);
}

static void options_print(const char *options)
{
	while (*options) {
		size_t bytes = strcspn(options, "= ");
		printf(" --%.*s", (int)bytes, options);
		options += bytes + strspn(options + bytes, "= ");
	}
}

/* The command that lists what a letter of `args` stands for; "" for free text and files. */
static const char *letter_lister(char letter)
{
	switch (letter) {
	case 'v':
		return "volume list";
	case 's':
		return "snap list";
	case 't':
		return "trash list";
	case 'j':
		return "job list";
	}
	return "";
}

/* The shell function that bash and zsh (through bashcompinit) share. For each verb: its options,
 * and what its arguments are, one letter each, repeated to the end by '+'. */
static void bash_print(void)
{
	puts("# vstorectl completion; made by: vstorectl completion bash\n"
	     "_vstorectl_names() {\n"
	     "\tlocal what=$1\n"
	     "\tvstorectl \"${host[@]}\" --timeout 2s -o name $what 2>/dev/null\n"
	     "}\n"
	     "_vstorectl() {\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	     "\tlocal words=() host=() i skip= options= args= letter= list=\n"
	     "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	     "\t\tif [ -n \"$skip\" ]; then\n"
	     "\t\t\t[ \"$skip\" = --host ] && host=(--host \"${COMP_WORDS[i]}\")\n"
	     "\t\t\tskip=; continue\n"
	     "\t\tfi\n"
	     "\t\tcase ${COMP_WORDS[i]} in");
	printf("\t\t-o|-c");
	for (const struct global_option *o = global_options; o->name; o++)
		if (o->takes_value)
			printf("|--%s", o->name);
	puts(") skip=${COMP_WORDS[i]} ;;\n"
	     "\t\t-*) ;;\n"
	     "\t\t*) words+=(\"${COMP_WORDS[i]}\") ;;\n"
	     "\t\tesac\n"
	     "\tdone\n"
	     "\tcase $prev in\n"
	     "\t-o|--output) COMPREPLY=($(compgen -W 'table wide json csv name' -- \"$cur\")); "
	     "return ;;\n"
	     "\t--progress) COMPREPLY=($(compgen -W 'auto bar json none' -- \"$cur\")); return ;;\n"
	     "\tesac\n"
	     "\tcase \"${words[0]} ${words[1]}\" in");
	for (const struct command *c = commands; c->noun; c++) {
		printf("\t\"%s %s\"%s) options='", c->noun, c->verb ? c->verb : "",
		       c->verb ? "" : "*");
		options_print(c->options);
		printf("' args='%s' ;;\n", c->args);
	}
	puts("\tesac");
	printf("\tif [[ $cur == -* ]]; then\n\t\tCOMPREPLY=($(compgen -W \"$options");
	globals_print();
	puts("\" -- \"$cur\")); return\n\tfi");
	printf("\tif [ ${#words[@]} -eq 0 ]; then\n\t\tCOMPREPLY=($(compgen -W '");
	words_print(NULL);
	puts("' -- \"$cur\")); return\n\tfi\n\tif [ ${#words[@]} -eq 1 ]; then\n\t\tcase "
	     "${words[0]} in");
	for (const struct command *c = commands; c->noun; c++) {
		if (!c->verb || !noun_is_first(c))
			continue;
		printf("\t\t%s) COMPREPLY=($(compgen -W '", c->noun);
		words_print(c->noun);
		puts("' -- \"$cur\")); return ;;");
	}
	puts("\t\tcompletion) COMPREPLY=($(compgen -W 'bash zsh fish' -- \"$cur\")); return ;;\n"
	     "\t\tesac\n\tfi\n"
	     "\ti=$((${#words[@]} - 2)); args=${args//\\?/}\n"
	     "\tif [[ $args == *+ && $i -ge $((${#args} - 1)) ]]; then i=$((${#args} - 2)); fi\n"
	     "\t[ \"$i\" -ge 0 ] && letter=${args:i:1}\n"
	     "\tcase $letter in\n"
	     "\tf) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;");
	for (const char *letter = "vstj"; *letter; letter++)
		printf("\t%c) list=$(_vstorectl_names '%s') ;;\n", *letter, letter_lister(*letter));
	puts("\tr) list=\"$(_vstorectl_names 'volume list') $(_vstorectl_names 'snap list')\" ;;\n"
	     "\tesac\n"
	     "\tCOMPREPLY=($(compgen -W \"$list\" -- \"$cur\"))\n"
	     "}\n"
	     "complete -F _vstorectl vstorectl");
}

static void fish_print(void)
{
	puts("# vstorectl completion; made by: vstorectl completion fish\n"
	     "complete -c vstorectl -f");
	printf("complete -c vstorectl -n __fish_use_subcommand -a '");
	words_print(NULL);
	puts("'");
	for (const struct command *c = commands; c->noun; c++) {
		if (!c->verb || !noun_is_first(c))
			continue;
		printf("complete -c vstorectl -n '__fish_seen_subcommand_from %s' -a '", c->noun);
		words_print(c->noun);
		puts("'");
	}
	for (const char *letter = "vst"; *letter; letter++)
		printf("complete -c vstorectl -n 'test (count (commandline -opc)) -ge 3' -a "
		       "'(vstorectl --timeout 2s -o name %s 2>/dev/null)'\n",
		       letter_lister(*letter));
}

int completion_print(const char *shell)
{
	if (strcmp(shell, "fish") == 0) {
		fish_print();
		return 0;
	}
	if (strcmp(shell, "zsh") == 0)
		puts("autoload -U +X bashcompinit && bashcompinit");
	else if (strcmp(shell, "bash") != 0)
		return -EINVAL;
	bash_print();
	return 0;
}

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
		/* The second word of a noun like "vm disk" stands among the verbs of the first. */
		if (noun && noun_is_first(c) && strncmp(c->noun, noun, strlen(noun)) == 0 &&
		    c->noun[strlen(noun)] == ' ')
			word = c->noun + strlen(noun) + 1;
		else if (noun ? strcmp(noun, c->noun) != 0 || !c->verb
			      : !noun_is_first(c) || strchr(c->noun, ' '))
			continue;
		printf("%s%s", first ? "" : " ", word);
		first = false;
	}
}

static void options_print(const char *options)
{
	while (*options) {
		size_t bytes = strcspn(options, "= ");
		printf("--%.*s ", (int)bytes, options);
		options += bytes + strspn(options + bytes, "=+ ");
	}
}

/* What bash and zsh (through its bashcompinit) share, but for the table. */
static const char bash_names[] =
	"# Made by: vstorectl completion\n"
	"COMP_WORDBREAKS=${COMP_WORDBREAKS//@}\n"
	"_vstorectl_names() {\n"
	"\tvstorectl \"${host[@]}\" --timeout 2s -o name \"$1\" list 2>/dev/null\n"
	"}\n";
static const char bash_words[] =
	"_vstorectl() {\n"
	"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	"\tlocal words=() host=() i at skip= verbs= options= args= list=\n"
	"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	"\t\tif [ -n \"$skip\" ]; then\n"
	"\t\t\t[ \"$skip\" = --host ] && host=(--host \"${COMP_WORDS[i]}\")\n"
	"\t\t\tskip=; continue\n"
	"\t\tfi\n"
	"\t\tcase ${COMP_WORDS[i]} in\n"
	"\t\t$_vstorectl_valued) skip=${COMP_WORDS[i]} ;;\n"
	"\t\t-*) ;;\n"
	"\t\t*) words+=(\"${COMP_WORDS[i]}\") ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\t_vstorectl_table \"${words[*]:0:1}\" \"${words[*]:1:1}\"\n"
	"\tat=$((${#words[@]} - 2))\n"
	"\t[ -z \"$verbs\" ] && at=$((at + 1))\n"
	"\targs=${args//\\?/}\n"
	"\t[[ $args == *+ ]] && args=${args%+} && "
	"((at >= ${#args})) && at=$((${#args} - 1))\n"
	"\tcase $prev in\n"
	"\t-o|--output) list='table wide json csv name' ;;\n"
	"\t--progress) list='auto bar json none' ;;\n"
	"\t*)\n"
	"\t\tif [[ $cur == -* ]]; then list=\"$options $_vstorectl_options\"\n"
	"\t\telif [ ${#words[@]} -eq 0 ]; then list=$_vstorectl_nouns\n"
	"\t\telif [ ${#words[@]} -eq 1 ] && [ -n \"$verbs\" ]; then list=$verbs\n"
	"\t\telif [ \"${words[*]:0:1}\" = completion ]; then list='bash zsh fish'\n"
	"\t\telif ((at >= 0)); then\n"
	"\t\t\tcase ${args:at:1} in\n"
	"\t\t\tf) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n"
	"\t\t\tv) list=$(_vstorectl_names volume) ;;\n"
	"\t\t\ts) list=$(_vstorectl_names snap) ;;\n"
	"\t\t\tr) list=$(_vstorectl_names volume; _vstorectl_names snap) ;;\n"
	"\t\t\tt) list=$(_vstorectl_names trash) ;;\n"
	"\t\t\tp) list=$(_vstorectl_names policy) ;;\n"
	"\t\t\tj) list=$(_vstorectl_names job) ;;\n"
	"\t\t\tesac\n"
	"\t\tfi ;;\n"
	"\tesac\n"
	"\tCOMPREPLY=($(compgen -W \"$list\" -- \"$cur\"))\n"
	"}\n"
	"complete -F _vstorectl vstorectl\n";

static void bash_print(void)
{
	fputs(bash_names, stdout);
	printf("_vstorectl_nouns='");
	words_print(NULL);
	printf("'\n_vstorectl_options='");
	for (const struct global_option *o = global_options; o->name; o++)
		printf("--%s ", o->name);
	printf("'\nshopt -s extglob 2>/dev/null || setopt kshglob 2>/dev/null\n"
	       "_vstorectl_valued='@(-o|-c");
	for (const struct global_option *o = global_options; o->name; o++)
		if (o->takes_value)
			printf("|--%s", o->name);
	puts(")'\n_vstorectl_table() {\n\tcase $1 in");
	for (const struct command *c = commands; c->noun; c++) {
		if (!c->verb || !noun_is_first(c) || strchr(c->noun, ' '))
			continue;
		printf("\t%s) verbs='", c->noun);
		words_print(c->noun);
		puts("' ;;");
	}
	puts("\tesac\n\tcase \"$1 $2\" in");
	for (const struct command *c = commands; c->noun; c++) {
		if (strchr(c->noun, ' '))
			continue;
		if (c->verb)
			printf("\t'%s %s') options='", c->noun, c->verb);
		else
			printf("\t'%s '*) options='", c->noun);
		options_print(c->options);
		printf("' args='%s' ;;\n", c->args);
	}
	puts("\tesac\n}");
	fputs(bash_words, stdout);
}

static void fish_options(const struct command *c)
{
	for (const char *at = c->options; *at;) {
		size_t bytes = strcspn(at, "= ");
		printf("complete -c vstorectl -n '__vstorectl_at %s %s' -l %.*s%s\n", c->noun,
		       c->verb ? c->verb : "''", (int)bytes, at, at[bytes] == '=' ? " -x" : "");
		at += bytes + strspn(at + bytes, "=+ ");
	}
}

/* fish asks a condition for each line; __vstorectl_at is true behind this noun and verb. */
static void fish_command(const struct command *c)
{
	static const struct {
		char letter;
		const char *lists[2];
	} names[] = {{'p', {"policy", NULL}},	{'v', {"volume", NULL}}, {'s', {"snap", NULL}},
		     {'r', {"volume", "snap"}}, {'t', {"trash", NULL}},	 {'j', {"job", NULL}}};
	size_t first = strcspn(c->help, ".");
	if (strchr(c->noun, ' '))
		return;
	const char *verb = c->verb ? c->verb : "''";
	if (c->verb) {
		/* A quote in the help would end the shell's text: none of the table has one there.
		 */
		printf("complete -c vstorectl -n '__vstorectl_noun %s' -a %s -d \"%.*s\"\n",
		       c->noun, c->verb, (int)first, c->help);
	}
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		for (size_t k = 0; k < 2 && strchr(c->args, names[i].letter); k++)
			if (names[i].lists[k])
				printf("complete -c vstorectl -n '__vstorectl_at %s %s' -a "
				       "'(__vstorectl_names %s)'\n",
				       c->noun, verb, names[i].lists[k]);
	if (strchr(c->args, 'f'))
		printf("complete -c vstorectl -n '__vstorectl_at %s %s' -F\n", c->noun, verb);
	fish_options(c);
}

static void fish_print(void)
{
	puts("# Made by: vstorectl completion fish\n"
	     "function __vstorectl_names\n"
	     "\tvstorectl --timeout 2s -o name $argv[1] list 2>/dev/null\n"
	     "end\n"
	     "function __vstorectl_words\n"
	     "\tset -l words (commandline -opc)\n"
	     "\tstring match -v -- '-*' $words[2..-1]\n"
	     "end\n"
	     "function __vstorectl_noun\n"
	     "\tset -l words (__vstorectl_words)\n"
	     "\ttest (count $words) -eq 1; and test \"$words[1]\" = $argv[1]\n"
	     "end\n"
	     "function __vstorectl_at\n"
	     "\tset -l words (__vstorectl_words)\n"
	     "\ttest (count $words) -ge 1; and test \"$words[1]\" = $argv[1]; and begin\n"
	     "\t\ttest -z \"$argv[2]\"; or test \"$words[2]\" = $argv[2]\n"
	     "\tend\n"
	     "end\n"
	     "complete -c vstorectl -f");
	printf("complete -c vstorectl -n 'test (count (__vstorectl_words)) -eq 0' -a '");
	words_print(NULL);
	puts("'");
	for (const struct global_option *o = global_options; o->name; o++) {
		printf("complete -c vstorectl -l %s", o->name);
		if (o->letter)
			printf(" -s %c", o->letter);
		puts(o->takes_value ? " -x" : "");
	}
	for (const struct command *c = commands; c->noun; c++)
		fish_command(c);
	puts("complete -c vstorectl -n '__vstorectl_at completion' -a 'bash zsh fish'");
}

int completion_print(const char *shell)
{
	if (strcmp(shell, "bash") == 0) {
		bash_print();
	} else if (strcmp(shell, "zsh") == 0) {
		puts("#compdef vstorectl\nautoload -U +X bashcompinit && bashcompinit");
		bash_print();
	} else if (strcmp(shell, "fish") == 0) {
		fish_print();
	} else {
		return -EINVAL;
	}
	return 0;
}

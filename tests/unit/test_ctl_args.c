/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "agent/ctl/args.h"
#include "proto/units.h"

#define WORDS_MAX 24

struct parsed {
	struct ctl ctl;
	const char *args[WORDS_MAX], *noun;
	char *argv[WORDS_MAX], line[256];
	int res;
};

/* Splits at spaces and parses. */
static struct parsed *parse(const char *line)
{
	static struct parsed parsed;
	int argc = 0;
	parsed = (struct parsed){0};
	snprintf(parsed.line, sizeof parsed.line, "vstorectl %s", line);
	for (char *at = parsed.line; at;) {
		parsed.argv[argc++] = at;
		at = strchr(at, ' ');
		if (at)
			*at++ = 0;
		assert_true(argc < WORDS_MAX);
	}
	parsed.res = args_parse(&parsed.ctl, argc, parsed.argv, parsed.args, &parsed.noun);
	return &parsed;
}

static void global_options_stand_anywhere(void **state)
{
	static const char *const lines[] = {
		"--host unix:/x -o json volume create web1 --size 20G -q",
		"volume -ojson create --host=unix:/x --size=20G --quiet web1",
		"volume create web1 -o json --size 20G -q --host unix:/x",
	};
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		struct parsed *p = parse(lines[i]);
		assert_int_equal(p->res, 0);
		assert_string_equal(p->ctl.command->verb, "create");
		assert_string_equal(p->ctl.host, "unix:/x");
		assert_string_equal(ctl_option(&p->ctl, "size"), "20G");
		assert_null(ctl_option(&p->ctl, "level"));
		assert_true(p->ctl.format == FORMAT_JSON && p->ctl.quiet);
		assert_int_equal(p->ctl.arg_count, 1);
		assert_string_equal(p->ctl.args[0], "web1");
	}
}

static void what_is_not_understood_is_usage(void **state)
{
	static const char *const lines[] = {
		"",
		"volume",
		"frob",
		"volume frob",
		"volume show",
		"volume show a b",
		"volume list --size 3",
		"volume create a --size",
		"volume create a --si 3",
		"-o xml status",
		"--progress=loud status",
		"--timeout 5 status",
		"--timeout 0s status",
		"--yes=1 status",
		"-x status",
		"snap create",
		"api GET",
		"api GET / {} more",
	};
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
		assert_int_equal(parse(lines[i])->res, CTL_USAGE);
}

static void a_verb_without_dry_run_or_job_refuses_it(void **state)
{
	assert_int_equal(parse("volume list --dry-run")->res, CTL_USAGE);
	assert_int_equal(parse("store gc --dry-run")->res, CTL_USAGE);
	assert_int_equal(parse("volume list --async")->res, CTL_USAGE);
	assert_int_equal(parse("volume delete a --dry-run")->res, 0);
	assert_int_equal(parse("store gc --async")->res, 0);
	assert_int_equal(parse("store gc --recompress")->res, 0);
}

static void two_dashes_end_the_options(void **state)
{
	struct parsed *p = parse("volume show -- -name");
	assert_int_equal(p->res, 0);
	assert_string_equal(p->ctl.args[0], "-name");
}

static void a_timeout_becomes_a_deadline(void **state)
{
	struct parsed *p = parse("--timeout 2m job wait 7");
	assert_true(p->ctl.timeout_ns == 120 * NSEC_PER_SEC);
	assert_in_range(ctl_left_ms(&p->ctl), 1, 120001);
	assert_int_equal(ctl_left_ms(&parse("job wait 7")->ctl), -1);
}

static void every_verb_has_help_with_an_example(void **state)
{
	for (const struct command *c = commands; c->noun; c++) {
		char start[64];
		snprintf(start, sizeof start, "vstorectl %s%s%s", c->noun, c->verb ? " " : "",
			 c->verb ? c->verb : "");
		assert_int_equal(strncmp(c->example, start, strlen(start)), 0);
		assert_true(strlen(c->help) > 10 && c->help[strlen(c->help) - 1] == '.');
		assert_null(strpbrk(c->help, "\"$`\\")); /* it goes into shells' scripts */
	}
}

/* The example parses, and with the number of arguments that the table says. */
static void every_example_is_understood(void **state)
{
	for (const struct command *c = commands; c->noun; c++) {
		char line[160];
		snprintf(line, sizeof line, "%s", strchr(c->example, ' ') + 1);
		line[strcspn(line, ">")] = 0;
		if (*line && line[strlen(line) - 1] == ' ')
			line[strlen(line) - 1] = 0;
		struct parsed *p = parse(line);
		assert_int_equal(p->res, 0);
		assert_ptr_equal(p->ctl.command, c);
	}
}

static void help_wins_over_missing_arguments(void **state)
{
	struct parsed *p = parse("volume create --help");
	assert_int_equal(p->res, 0);
	assert_true(p->ctl.help && p->ctl.command);
	p = parse("volume --help");
	assert_int_equal(p->res, 0);
	assert_string_equal(p->noun, "volume");
	assert_null(p->ctl.command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(global_options_stand_anywhere),
		cmocka_unit_test(what_is_not_understood_is_usage),
		cmocka_unit_test(a_verb_without_dry_run_or_job_refuses_it),
		cmocka_unit_test(two_dashes_end_the_options),
		cmocka_unit_test(a_timeout_becomes_a_deadline),
		cmocka_unit_test(every_verb_has_help_with_an_example),
		cmocka_unit_test(every_example_is_understood),
		cmocka_unit_test(help_wins_over_missing_arguments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

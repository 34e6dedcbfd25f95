/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "agent/ctl/ctl.h"
#include "agent/client/client.h"
#include "proto/err.h"

#include <errno.h>

static void the_word_decides_then_the_status(void **state)
{
	static const struct {
		long status;
		const char *word;
		enum ctl_exit code;
	} cases[] = {
		{400, "invalid", CTL_USAGE},
		{403, "denied", CTL_DENIED},
		{403, "retained", CTL_DENIED},
		{404, "not_found", CTL_NOT_FOUND},
		{409, "exists", CTL_EXISTS},
		{409, "conflict", CTL_EXISTS},
		{409, "busy", CTL_BUSY},
		{409, "locked", CTL_BUSY},
		{507, "no_space", CTL_NO_SPACE},
		{507, "quota", CTL_NO_SPACE},
		{500, "checksum", CTL_DAMAGED},
		{500, "lost", CTL_DAMAGED},
		{500, "io_error", CTL_FAILED},
		{500, "failed", CTL_FAILED},
		{409, "", CTL_EXISTS},
		{409, "a_word_of_tomorrow", CTL_EXISTS},
		{404, NULL, CTL_NOT_FOUND},
		{422, NULL, CTL_USAGE},
		{503, NULL, CTL_UNAVAILABLE},
		{507, NULL, CTL_NO_SPACE},
		{500, NULL, CTL_FAILED},
		{501, NULL, CTL_FAILED},
		{200, NULL, CTL_OK},
		{201, NULL, CTL_OK},
		{202, NULL, CTL_OK},
		{0, "timed_out", CTL_TIMED_OUT},
		{0, "cancelled", CTL_FAILED},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_int_equal(ctl_exit_of(cases[i].status, cases[i].word), cases[i].code);
}

/* A failure may be anything, but never success, and never words that mean something else. */
static void no_private_code_looks_like_success(void **state)
{
	for (int code = 1; code < 200; code++)
		assert_int_not_equal(ctl_exit_of_err(-code), CTL_OK);
	for (int code = VS_ECHECKSUM; code <= VS_ELOCKED; code++)
		assert_int_not_equal(ctl_exit_of_err(-code), CTL_OK);
	assert_int_equal(ctl_exit_of_err(-ECONNREFUSED), CTL_UNAVAILABLE);
	assert_int_equal(ctl_exit_of_err(-ETIMEDOUT), CTL_TIMED_OUT);
	assert_int_equal(ctl_exit_of_err(-ENOSPC), CTL_NO_SPACE);
	assert_int_equal(ctl_exit_of_err(-EINVAL), CTL_FAILED);
	assert_int_equal(ctl_exit_of_err(-VS_ECHECKSUM), CTL_DAMAGED);
}

static void names_in_paths_are_encoded(void **state)
{
	char path[CLIENT_PATH_ROOM], name[CLIENT_PATH_ROOM];
	assert_string_equal(client_path(path, "/v1/volumes/", "web-1.a_b~", "/verify"),
			    "/v1/volumes/web-1.a_b~/verify");
	assert_string_equal(client_path(path, "/v1/snapshots/", "a@b", ""), "/v1/snapshots/a@b");
	assert_string_equal(client_path(path, "/v1/volumes/", "../a b?c%\xc3", ""),
			    "/v1/volumes/..%2Fa%20b%3Fc%25%C3");
	memset(name, '/', sizeof name);
	name[sizeof name - 1] = 0;
	assert_string_equal(client_path(path, "/v1/volumes/", name, ""), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_word_decides_then_the_status),
		cmocka_unit_test(no_private_code_looks_like_success),
		cmocka_unit_test(names_in_paths_are_encoded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

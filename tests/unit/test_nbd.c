/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD server as its clients see it, through libnbd. */
#include "tests/unit/unit.h"

#include "storage/nbd/conn.h"
#include "tests/unit/nbd_bed.h"

#include <errno.h>
#include <libnbd.h>
#include <unistd.h>

/* A handle that sends whatever it is told to. */
static struct nbd_handle *client_new(void)
{
	struct nbd_handle *nbd = nbd_create();
	assert_non_null(nbd);
	assert_int_equal(nbd_set_strict_mode(nbd, 0), 0);
	return nbd;
}

static struct nbd_handle *client(const char *path, const char *name)
{
	struct nbd_handle *nbd = client_new();
	assert_int_equal(nbd_set_export_name(nbd, name), 0);
	assert_int_equal(nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION), 0);
	assert_int_equal(nbd_connect_unix(nbd, path), 0);
	return nbd;
}

static void client_end(struct nbd_handle *nbd)
{
	assert_int_equal(nbd_shutdown(nbd, 0), 0);
	nbd_close(nbd);
}

#define assert_refused(call, code)                                                                 \
	do {                                                                                       \
		assert_int_equal(call, -1);                                                        \
		assert_int_equal(nbd_get_errno(), code);                                           \
	} while (0)

static void a_volume_is_served_by_its_name_and_by_none(void **state)
{
	struct bed *bed = *state;
	static const char *const names[] = {"disk", ""};
	for (unsigned i = 0; i < 2; i++) {
		struct nbd_handle *nbd = client(bed->disk, names[i]);
		assert_true(nbd_get_size(nbd) == (int64_t)BED_DISK_BYTES);
		assert_string_equal(nbd_get_protocol(nbd), "newstyle-fixed");
		assert_int_equal(nbd_get_structured_replies_negotiated(nbd), 1);
		assert_int_equal(nbd_is_read_only(nbd), 0);
		assert_int_equal(nbd_can_flush(nbd), 1);
		assert_int_equal(nbd_can_fua(nbd), 1);
		assert_int_equal(nbd_can_trim(nbd), 1);
		assert_int_equal(nbd_can_zero(nbd), 1);
		assert_int_equal(nbd_can_fast_zero(nbd), 1);
		assert_int_equal(nbd_can_df(nbd), 1);
		assert_int_equal(nbd_can_cache(nbd), 1);
		assert_int_equal(nbd_can_multi_conn(nbd), 1);
		assert_int_equal(nbd_is_rotational(nbd), 0);
		assert_true(nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM) == 1);
		assert_true(nbd_get_block_size(nbd, LIBNBD_SIZE_PREFERRED) == 4096);
		assert_true(nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM) == 32 * MIB);
		client_end(nbd);
	}
}

static void a_snapshot_is_read_only(void **state)
{
	struct bed *bed = *state;
	char buf[4096] = {0};
	struct nbd_handle *nbd = client(bed->disk, "disk@monday");
	assert_true(nbd_get_size(nbd) == (int64_t)MIB);
	assert_int_equal(nbd_is_read_only(nbd), 1);
	assert_refused(nbd_pwrite(nbd, buf, sizeof buf, 0, 0), EPERM);
	assert_refused(nbd_trim(nbd, 4096, 0, 0), EPERM);
	assert_refused(nbd_zero(nbd, 4096, 0, 0), EPERM);
	assert_int_equal(nbd_pread(nbd, buf, sizeof buf, 0, 0), 0);
	assert_int_equal(nbd_flush(nbd, 0), 0);
	client_end(nbd);
}

static void a_volumes_socket_refuses_other_exports(void **state)
{
	struct bed *bed = *state;
	static const char *const names[] = {
		"other",	"dis",	   "disk2",   "disk@",
		"disk@tuesday", "@monday", "../disk", "disk@monday@monday"};
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct nbd_handle *nbd = client_new();
		nbd_set_export_name(nbd, names[i]);
		assert_int_equal(nbd_connect_unix(nbd, bed->disk), -1);
		nbd_close(nbd);
	}
	struct nbd_handle *nbd = client(bed->all, "other");
	client_end(nbd);
	nbd = client_new();
	assert_int_equal(nbd_connect_unix(nbd, bed->all), -1); /* it has no default */
	nbd_close(nbd);
}

static int list_add(void *list, const char *name, const char *description)
{
	char *text = list;
	(void)description;
	snprintf(text + strlen(text), 256 - strlen(text), "%s ", name);
	return 0;
}

static void a_list_names_what_the_socket_serves(void **state)
{
	struct bed *bed = *state;
	const char *paths[] = {bed->disk, bed->all};
	static const char *const wanted[] = {"disk disk@monday ", "disk other huge disk@monday "};
	for (unsigned i = 0; i < 2; i++) {
		char list[256] = "";
		struct nbd_handle *nbd = client_new();
		nbd_list_callback add = {.callback = list_add, .user_data = list};
		assert_int_equal(nbd_set_opt_mode(nbd, true), 0);
		assert_int_equal(nbd_connect_unix(nbd, paths[i]), 0);
		assert_true(nbd_opt_list(nbd, add) > 0);
		assert_string_equal(list, wanted[i]);
		assert_int_equal(nbd_opt_abort(nbd), 0);
		nbd_close(nbd);
	}
}

static void info_tells_without_attaching(void **state)
{
	struct bed *bed = *state;
	struct nbd_handle *nbd = client_new();
	nbd_set_opt_mode(nbd, true);
	nbd_set_full_info(nbd, true);
	assert_int_equal(nbd_connect_unix(nbd, bed->all), 0);
	nbd_set_export_name(nbd, "huge");
	assert_int_equal(nbd_opt_info(nbd), 0);
	assert_true(nbd_get_size(nbd) == (int64_t)VOLUME_BYTES_MAX);
	char *name = nbd_get_canonical_export_name(nbd);
	assert_string_equal(name, "huge");
	free(name);
	nbd_set_export_name(nbd, "nothing");
	assert_int_equal(nbd_opt_info(nbd), -1);
	assert_int_equal(bed_counts(bed).views, 0);
	nbd_set_export_name(nbd, "disk"); /* an error leaves the handshake usable */
	assert_int_equal(nbd_opt_go(nbd), 0);
	assert_int_equal(bed_counts(bed).views, 1);
	client_end(nbd);
	bed_await(bed, views, ==, 0);
}

/* Random requests against a copy in memory. */
static void exercise(struct nbd_handle *nbd, uint64_t seed, unsigned rounds, uint32_t bytes_max)
{
	uint8_t *shadow = calloc(1, BED_DISK_BYTES), *buf = malloc(bytes_max);
	nbd_zero(nbd, BED_DISK_BYTES, 0, 0);
	for (unsigned i = 0; i < rounds; i++) {
		uint32_t bytes = 1 + (uint32_t)(test_random(&seed) % bytes_max);
		uint64_t offset = test_random(&seed) % (BED_DISK_BYTES - bytes);
		if (i % 3 == 0)
			bytes = (uint32_t)round_up(bytes, 4096) % (bytes_max + 1), offset &= ~4095u;
		if (bytes == 0)
			continue;
		switch (test_random(&seed) % 5) {
		case 0:
		case 1:
			memset(buf, (int)test_random(&seed), bytes);
			memcpy(buf, &i, min_u64(sizeof i, bytes));
			assert_int_equal(nbd_pwrite(nbd, buf, bytes, offset, 0), 0);
			memcpy(shadow + offset, buf, bytes);
			break;
		case 2:
			assert_int_equal(nbd_zero(nbd, bytes, offset, LIBNBD_CMD_FLAG_NO_HOLE), 0);
			memset(shadow + offset, 0, bytes);
			break;
		case 3:
			assert_int_equal(nbd_trim(nbd, bytes, offset, 0), 0);
			memset(shadow + offset, 0, bytes);
			break;
		default:
			assert_int_equal(nbd_pread(nbd, buf, bytes, offset, 0), 0);
			assert_memory_equal(buf, shadow + offset, bytes);
		}
	}
	for (uint64_t at = 0; at < BED_DISK_BYTES; at += bytes_max) {
		uint32_t bytes = (uint32_t)min_u64(bytes_max, BED_DISK_BYTES - at);
		assert_int_equal(nbd_pread(nbd, buf, bytes, at, LIBNBD_CMD_FLAG_DF), 0);
		assert_memory_equal(buf, shadow + at, bytes);
	}
	free(shadow);
	free(buf);
}

static void what_is_written_is_read_at_any_alignment(void **state)
{
	struct bed *bed = *state;
	struct nbd_handle *nbd = client(bed->disk, "");
	exercise(nbd, 1, 2000, 10000);
	exercise(nbd, 2, 300, 3 * MIB);
	client_end(nbd);
}

static void simple_replies_serve_old_clients(void **state)
{
	struct bed *bed = *state;
	struct nbd_handle *nbd = client_new();
	char buf[512];
	nbd_set_request_structured_replies(nbd, false);
	assert_int_equal(nbd_connect_unix(nbd, bed->disk), 0);
	assert_int_equal(nbd_get_structured_replies_negotiated(nbd), 0);
	assert_int_equal(nbd_can_df(nbd), 0);
	/* libnbd's own reads get DF only when it can: the last read of exercise has it. */
	assert_refused(nbd_pread(nbd, buf, sizeof buf, 0, LIBNBD_CMD_FLAG_DF), EINVAL);
	assert_int_equal(nbd_pwrite(nbd, "abc", 3, 5, 0), 0);
	assert_int_equal(nbd_pread(nbd, buf, 3, 5, 0), 0);
	assert_memory_equal(buf, "abc", 3);
	assert_refused(nbd_pread(nbd, buf, 3, BED_DISK_BYTES - 2, 0), EINVAL);
	client_end(nbd);
}

static void the_largest_request_works_and_one_byte_more_is_refused(void **state)
{
	struct bed *bed = *state;
	struct nbd_handle *nbd = client(bed->disk, "");
	uint64_t seed = 3;
	uint32_t bytes = 32 * MIB;
	uint8_t *out = malloc(bytes + 1), *in = malloc(bytes + 1);
	test_random_fill(&seed, out, MIB);
	for (uint32_t at = MIB; at < bytes; at += MIB)
		memcpy(out + at, out, MIB);
	assert_int_equal(nbd_pwrite(nbd, out, bytes, 777, 0), 0);
	assert_int_equal(nbd_pread(nbd, in, bytes, 777, 0), 0);
	assert_memory_equal(in, out, bytes);
	assert_refused(nbd_pwrite(nbd, out, bytes + 1, 0, 0), EINVAL);
	assert_refused(nbd_pread(nbd, in, bytes + 1, 0, 0), EINVAL);
	assert_int_equal(nbd_pread(nbd, in, 4096, 777, 0), 0); /* the stream is in step */
	assert_memory_equal(in, out, 4096);
	bed_await(bed, nbd.buffer_bytes, ==, 0); /* the end of a send is heard after its data */
	client_end(nbd);
	free(out);
	free(in);
}

static void a_range_beyond_the_end_is_refused(void **state)
{
	struct bed *bed = *state;
	struct nbd_handle *nbd = client(bed->disk, "");
	char buf[8192] = {0};
	assert_refused(nbd_pread(nbd, buf, 2, BED_DISK_BYTES - 1, 0), EINVAL);
	assert_refused(nbd_pread(nbd, buf, 1, UINT64_MAX, 0), EINVAL);
	assert_refused(nbd_pwrite(nbd, buf, 8192, BED_DISK_BYTES - 4096, 0), ENOSPC);
	assert_refused(nbd_pwrite(nbd, buf, 8192, UINT64_MAX - 4095, 0), ENOSPC);
	assert_refused(nbd_zero(nbd, 4096, BED_DISK_BYTES, 0), ENOSPC);
	assert_refused(nbd_trim(nbd, 4096, BED_DISK_BYTES, 0), EINVAL);
	assert_refused(nbd_cache(nbd, 4096, BED_DISK_BYTES, 0), EINVAL);
	assert_int_equal(nbd_pread(nbd, buf, 1, BED_DISK_BYTES - 1, 0), 0);
	assert_int_equal(bed_counts(bed).requests, 1);
	client_end(nbd);
}

static void flush_and_fua_reach_the_store(void **state)
{
	struct bed *bed = *state;
	struct nbd_handle *nbd = client(bed->disk, "");
	char buf[512] = {0};
	assert_int_equal(nbd_pwrite(nbd, buf, sizeof buf, 0, LIBNBD_CMD_FLAG_FUA), 0);
	assert_int_equal(nbd_trim(nbd, 512, 0, LIBNBD_CMD_FLAG_FUA), 0);
	assert_int_equal(nbd_zero(nbd, 512, 0, LIBNBD_CMD_FLAG_FUA | LIBNBD_CMD_FLAG_FAST_ZERO), 0);
	assert_int_equal(bed_counts(bed).fuas, 3);
	assert_int_equal(nbd_flush(nbd, 0), 0);
	assert_int_equal(bed_counts(bed).flushes, 1);
	/* What a read with FUA returns must be durable first. */
	assert_int_equal(nbd_pread(nbd, buf, sizeof buf, 0, LIBNBD_CMD_FLAG_FUA), 0);
	assert_int_equal(bed_counts(bed).flushes, 2);
	assert_int_equal(nbd_cache(nbd, 1 * MIB, 0, 0), 0);
	assert_int_equal(bed_counts(bed).caches, 1);
	client_end(nbd);
}

struct status {
	uint32_t entries[64];
	size_t count;
};

static int status_take(void *user, const char *context, uint64_t offset, uint32_t *entries,
		       size_t count, int *error)
{
	struct status *status = user;
	(void)offset;
	(void)error;
	assert_string_equal(context, LIBNBD_CONTEXT_BASE_ALLOCATION);
	assert_true(count <= 64);
	memcpy(status->entries, entries, count * 4);
	status->count = count;
	return 0;
}

static struct status status_of(struct nbd_handle *nbd, uint64_t bytes, uint64_t offset,
			       uint32_t flags)
{
	struct status status = {0};
	nbd_extent_callback take = {.callback = status_take, .user_data = &status};
	assert_int_equal(nbd_block_status(nbd, bytes, offset, take, flags), 0);
	return status;
}

static void status_merges_and_clips_extents(void **state)
{
	struct bed *bed = *state;
	struct nbd_handle *nbd = client(bed->disk, "");
	char buf[8192];
	memset(buf, 1, sizeof buf);
	assert_int_equal(nbd_pwrite(nbd, buf, sizeof buf, 4096, 0), 0);
	struct status status = status_of(nbd, 65536, 0, 0);
	static const uint32_t wanted[] = {4096, 3, 8192, 0, 53248, 3};
	assert_int_equal(status.count, 6);
	assert_memory_equal(status.entries, wanted, sizeof wanted);
	status = status_of(nbd, 100, 4090, 0);
	static const uint32_t clipped[] = {6, 3, 94, 0};
	assert_int_equal(status.count, 4);
	assert_memory_equal(status.entries, clipped, sizeof clipped);
	status = status_of(nbd, 65536, 4096, LIBNBD_CMD_FLAG_REQ_ONE);
	assert_int_equal(status.count, 2);
	assert_int_equal(status.entries[1], 0);
	assert_true(status.entries[0] > 0 && status.entries[0] <= 8192);
	/* More extents than one answer has room for: a shorter answer, never a wrong one. */
	status = status_of(nbd, BED_DISK_BYTES, 0, 0);
	assert_int_equal(status.count, 6);
	assert_refused(nbd_block_status(
			       nbd, 0, 0,
			       (nbd_extent_callback){.callback = status_take, .user_data = &status},
			       0),
		       EINVAL);
	client_end(nbd);
}

static void status_of_the_largest_range_is_one_hole(void **state)
{
	struct bed *bed = *state;
	struct nbd_handle *nbd = client(bed->all, "huge");
	struct status status = status_of(nbd, UINT32_MAX, VOLUME_BYTES_MAX - UINT32_MAX, 0);
	assert_int_equal(status.count, 2);
	assert_true(status.entries[0] == UINT32_MAX);
	assert_int_equal(status.entries[1], 3);
	assert_int_equal(nbd_zero(nbd, UINT32_MAX, 0, 0), 0);
	client_end(nbd);
}

static void the_stores_errors_become_nbds(void **state)
{
	struct bed *bed = *state;
	static const struct {
		int code, error;
	} rows[] = {{EIO, EIO},	      {ENOSPC, ENOSPC},	    {VS_EQUOTA, ENOSPC}, {EROFS, EPERM},
		    {EINVAL, EINVAL}, {VS_ECHECKSUM, EIO},  {VS_EFAILSTOP, EIO}, {VS_ELOST, EIO},
		    {ENOMEM, ENOMEM}, {ENOTSUP, EOPNOTSUPP}};
	struct nbd_handle *nbd = client(bed->disk, "");
	struct status status;
	char buf[512] = {0};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		bed_fail(bed, -rows[i].code);
		assert_refused(nbd_pread(nbd, buf, sizeof buf, 0, 0), rows[i].error);
		assert_refused(nbd_pwrite(nbd, buf, sizeof buf, 0, 0), rows[i].error);
		assert_refused(nbd_block_status(nbd, 512, 0,
						(nbd_extent_callback){.callback = status_take,
								      .user_data = &status},
						0),
			       rows[i].error);
	}
	assert_int_equal(nbd_error_of(-EXDEV), NBD_EIO); /* unknown ones too */
	assert_int_equal(nbd_error_of(-ESHUTDOWN), NBD_EIO);
	assert_int_equal(nbd_error_of(7), NBD_OK);
	assert_int_equal(bed_counts(bed).nbd.errors, 30);
	client_end(nbd);
}

static void a_store_that_shuts_down_drops_the_socket_without_an_answer(void **state)
{
	struct bed *bed = *state;
	static const int codes[] = {ESHUTDOWN, VS_EFENCED, VS_ECANCELLED};
	for (unsigned i = 0; i < 3; i++) {
		struct nbd_handle *nbd = client(bed->disk, "");
		char buf[512];
		bed_fail(bed, -codes[i]);
		assert_int_equal(nbd_pread(nbd, buf, sizeof buf, 0, 0), -1);
		assert_int_not_equal(nbd_get_errno(), ESHUTDOWN);
		assert_int_equal(nbd_aio_is_ready(nbd), 0);
		nbd_close(nbd);
		bed_fail(bed, 0);
	}
	bed_await(bed, views, ==, 0);
}

#define FLIGHT 200u

static void many_requests_in_flight_keep_to_the_bound(void **state)
{
	struct bed *bed = *state;
	struct nbd_handle *nbd = client(bed->disk, "");
	uint8_t *bufs = malloc(FLIGHT * 4096);
	int64_t cookies[FLIGHT];
	bed_hold(bed);
	for (unsigned i = 0; i < FLIGHT; i++) {
		memset(bufs + i * 4096, (int)i + 1, 4096);
		cookies[i] = nbd_aio_pwrite(nbd, bufs + i * 4096, 4096, i * 4096,
					    NBD_NULL_COMPLETION, 0);
		assert_true(cookies[i] > 0);
	}
	for (unsigned tries = 0; bed_counts(bed).held < CONN_REQUESTS_MAX; tries++) {
		assert_true(tries < 20000);
		nbd_poll(nbd, 1);
	}
	bed_release(bed);
	for (unsigned i = 0; i < FLIGHT; i++) {
		while (nbd_aio_command_completed(nbd, (uint64_t)cookies[i]) == 0)
			assert_true(nbd_poll(nbd, 20000) >= 0);
	}
	assert_int_equal(bed_counts(bed).held_most, CONN_REQUESTS_MAX);
	for (unsigned i = 0; i < FLIGHT; i++)
		cookies[i] = nbd_aio_pread(nbd, bufs + i * 4096, 4096, (FLIGHT - 1 - i) * 4096,
					   NBD_NULL_COMPLETION, 0);
	for (unsigned i = 0; i < FLIGHT; i++) {
		int done;
		while ((done = nbd_aio_command_completed(nbd, (uint64_t)cookies[i])) == 0)
			assert_true(nbd_poll(nbd, 20000) >= 0);
		assert_int_equal(done, 1);
		assert_int_equal(bufs[i * 4096 + 7], FLIGHT - i);
	}
	client_end(nbd);
	free(bufs);
}

/* Runs CONNS clients with DEPTH large requests each through a small budget. */
static void large_requests_of_many_share_a_small_budget(void **state)
{
	enum { CONNS = 6, DEPTH = 6 };
	struct nbd_server_options options = {.buffer_bytes_max = 32 * MIB};
	struct bed *bed = bed_new(&options);
	struct nbd_handle *nbd[CONNS];
	int64_t cookies[CONNS][DEPTH];
	uint8_t *buf = calloc(1, 8 * MIB);
	(void)state;
	for (unsigned c = 0; c < CONNS; c++)
		nbd[c] = client(bed->disk, "");
	for (unsigned i = 0; i < DEPTH; i++)
		for (unsigned c = 0; c < CONNS; c++)
			cookies[c][i] = i % 2 ? nbd_aio_pwrite(nbd[c], buf, 8 * MIB, c * 8 * MIB,
							       NBD_NULL_COMPLETION, 0)
					      : nbd_aio_pread(nbd[c], buf, 8 * MIB, c * 8 * MIB,
							      NBD_NULL_COMPLETION, 0);
	for (bool more = true; more;) {
		more = false;
		for (unsigned c = 0; c < CONNS; c++) {
			assert_true(nbd_poll(nbd[c], 0) >= 0);
			more |= nbd_aio_in_flight(nbd[c]) > 0;
		}
		assert_true(bed_counts(bed).nbd.buffer_bytes <= 32 * MIB + CONNS * CONN_OWN_BYTES);
	}
	for (unsigned c = 0; c < CONNS; c++) {
		for (unsigned i = 0; i < DEPTH; i++)
			assert_int_equal(nbd_aio_command_completed(nbd[c], (uint64_t)cookies[c][i]),
					 1);
		client_end(nbd[c]);
	}
	bed_await(bed, nbd.buffer_bytes, ==, 0); /* the end of a send is heard after its data */
	bed_free(bed);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BED_CASE(a_volume_is_served_by_its_name_and_by_none),
		BED_CASE(a_snapshot_is_read_only),
		BED_CASE(a_volumes_socket_refuses_other_exports),
		BED_CASE(a_list_names_what_the_socket_serves),
		BED_CASE(info_tells_without_attaching),
		BED_CASE(what_is_written_is_read_at_any_alignment),
		BED_CASE(simple_replies_serve_old_clients),
		BED_CASE(the_largest_request_works_and_one_byte_more_is_refused),
		BED_CASE(a_range_beyond_the_end_is_refused),
		BED_CASE(flush_and_fua_reach_the_store),
		BED_CASE(status_merges_and_clips_extents),
		BED_CASE(status_of_the_largest_range_is_one_hole),
		BED_CASE(the_stores_errors_become_nbds),
		BED_CASE(a_store_that_shuts_down_drops_the_socket_without_an_answer),
		BED_CASE(many_requests_in_flight_keep_to_the_bound),
		cmocka_unit_test(large_requests_of_many_share_a_small_budget),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

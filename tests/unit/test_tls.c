/* SPDX-License-Identifier: Apache-2.0 */
/* TLS sessions against each other, over a wire of plain buffers, with certificates that vstorectl's
 * own CA made. */
#include "tests/unit/unit.h"

#include "agent/ctl/pki.h"
#include "storage/rt/tls.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[256];

static const char *in_folder(const char *name)
{
	static char path[4][512];
	static unsigned turn;
	char *at = path[turn++ % 4];
	snprintf(at, 512, "%s/%s", folder, name);
	return at;
}

static int group_setup(void **state)
{
	char sentence[SENTENCE_BYTES];
	snprintf(folder, sizeof folder, "test_tls.XXXXXX");
	assert_non_null(mkdtemp(folder));
	assert_int_equal(pki_init(in_folder("ca"), "thainguyen", sentence), 0);
	assert_int_equal(pki_init(in_folder("other"), "hanoi", sentence), 0);
	assert_int_equal(pki_init(in_folder("twin"), "thainguyen", sentence), 0);
	assert_int_equal(pki_issue(in_folder("ca"), "a", in_folder("a"), 30, false, sentence), 0);
	assert_int_equal(pki_issue(in_folder("ca"), "b", in_folder("b"), 30, false, sentence), 0);
	assert_int_equal(pki_issue(in_folder("other"), "c", in_folder("c"), 30, false, sentence),
			 0);
	assert_int_equal(
		pki_issue(in_folder("twin"), "b", in_folder("twin-b"), 30, false, sentence), 0);
	return 0;
}

static int group_teardown(void **state)
{
	char command[512];
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	return system(command);
}

struct pair {
	struct tls_context *contexts[2];
	struct tls_session *sessions[2];
	uint8_t wire[2][1 << 20]; /* what a session was given last: it reads it in place */
	uint8_t *out[2];	  /* what it has to say, from out_at on */
	size_t out_room[2], out_at[2], out_end[2];
	int results[2];
	size_t step; /* bytes moved at once */
};

/* Moves what there is from one session to the other, and steps their handshakes. */
static bool move(struct pair *pair)
{
	bool moved = false;
	for (unsigned i = 0; i < 2; i++) {
		if (pair->out_at[i] == pair->out_end[i]) {
			pair->out_end[i] =
				tls_out_take(pair->sessions[i], &pair->out[i], &pair->out_room[i]);
			pair->out_at[i] = 0;
		}
		size_t bytes = pair->out_end[i] - pair->out_at[i];
		if (!bytes || tls_in_left(pair->sessions[!i]))
			continue;
		if (bytes > pair->step)
			bytes = pair->step;
		memcpy(pair->wire[!i], pair->out[i] + pair->out_at[i], bytes);
		pair->out_at[i] += bytes;
		tls_in(pair->sessions[!i], pair->wire[!i], bytes);
		moved = true;
	}
	return moved;
}

static void pair_open(struct pair *pair, const char *client, const char *server, size_t step)
{
	char sentence[SENTENCE_BYTES];
	const char *names[2] = {client, server};
	pair->step = step;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(tls_context_new(in_folder(names[i]), &pair->contexts[i], sentence),
				 0);
		pair->sessions[i] = tls_session_new(pair->contexts[i], i == 1);
		assert_non_null(pair->sessions[i]);
	}
	for (unsigned turn = 0; turn < 20000; turn++) {
		for (unsigned i = 0; i < 2; i++)
			if (pair->results[i] == 0)
				pair->results[i] = tls_handshake(pair->sessions[i]);
		if (!move(pair))
			break;
	}
}

static void pair_close(struct pair *pair)
{
	for (unsigned i = 0; i < 2; i++) {
		tls_session_free(pair->sessions[i]);
		tls_context_free(pair->contexts[i]);
		free(pair->out[i]);
	}
	free(pair);
}

static void two_hosts_know_each_other(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	pair_open(pair, "a", "b", 1); /* byte by byte */
	assert_int_equal(pair->results[0], 1);
	assert_int_equal(pair->results[1], 1);
	assert_string_equal(tls_peer(pair->sessions[0])->host, "b");
	assert_string_equal(tls_peer(pair->sessions[1])->host, "a");
	assert_string_equal(tls_peer(pair->sessions[1])->cluster, "thainguyen");
	pair_close(pair);
}

static void bytes_arrive_as_they_were_sent(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	uint8_t *sent = malloc(300000), *got = malloc(300000);
	uint64_t seed = 7;
	size_t at = 0;
	test_random_fill(&seed, sent, 300000);
	pair_open(pair, "a", "b", 4093);
	assert_int_equal(tls_write(pair->sessions[0], sent, 300000), 0);
	tls_close(pair->sessions[0]);
	int64_t bytes = 0;
	for (unsigned turn = 0; turn < 1000 && bytes >= 0; turn++) {
		move(pair);
		while ((bytes = tls_read(pair->sessions[1], got + at, 300000 - at + 1)) > 0)
			at += (size_t)bytes;
	}
	assert_int_equal(at, 300000);
	assert_memory_equal(sent, got, at);
	assert_int_equal(bytes, -ECONNRESET); /* an end, not a cut */
	free(sent);
	free(got);
	pair_close(pair);
}

static void a_flipped_bit_ends_it(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	char got[64];
	pair_open(pair, "a", "b", 1 << 20);
	assert_int_equal(tls_write(pair->sessions[0], "hello", 5), 0);
	assert_true(move(pair));
	pair->wire[1][9] ^= 1;
	assert_int_equal(tls_read(pair->sessions[1], got, sizeof got), -EPROTO);
	assert_int_equal(tls_read(pair->sessions[1], got, sizeof got), -EPROTO);
	assert_string_not_equal(tls_sentence(pair->sessions[1]), "");
	pair_close(pair);
}

static void refused(const char *client, const char *server)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	pair_open(pair, client, server, 1 << 20);
	/* A client of TLS 1.3 is done before the server has judged it; no byte passes all the
	 * same. */
	assert_true(pair->results[1] < 0 || pair->results[0] < 0);
	char got[16];
	if (pair->results[0] == 1)
		assert_int_equal(tls_write(pair->sessions[0], "x", 1), 0);
	while (move(pair))
		;
	assert_true(tls_read(pair->sessions[1], got, sizeof got) < 0);
	assert_string_not_equal(tls_sentence(pair->sessions[pair->results[1] < 0 ? 1 : 0]), "");
	pair_close(pair);
}

static void another_ca_is_refused(void **state)
{
	refused("c", "b");
	refused("a", "c");
}

static void another_ca_of_the_same_name_is_refused(void **state)
{
	refused("twin-b", "a");
}

static void its_own_certificate_is_refused(void **state)
{
	refused("a", "a");
}

static void a_revoked_host_is_refused(void **state)
{
	char sentence[SENTENCE_BYTES], command[1024];
	unsigned count;
	assert_int_equal(pki_issue(in_folder("ca"), "r", in_folder("r"), 30, false, sentence), 0);
	assert_int_equal(pki_issue(in_folder("ca"), "s", in_folder("s"), 30, false, sentence), 0);
	assert_int_equal(pki_revoke(in_folder("ca"), "r", &count, sentence), 0);
	assert_int_equal(count, 1);
	snprintf(command, sizeof command, "cp %s/ca/ca.crl %s/s/ca.crl", folder, folder);
	assert_int_equal(system(command), 0);
	refused("r", "s");
	refused("s", "r");
	struct pair *pair = calloc(1, sizeof(*pair)); /* the others are not affected */
	pair_open(pair, "a", "s", 1 << 20);
	assert_int_equal(pair->results[1], 1);
	pair_close(pair);
	assert_int_equal(pki_revoke(in_folder("ca"), "r", &count, sentence), -ENOENT);
}

/* A connection that is open already: each side's certificates are looked at again. */
static void who_is_revoked_later_is_found(void **state)
{
	char sentence[SENTENCE_BYTES] = "", command[1024];
	unsigned count;
	struct tls_context *newer;
	struct pair *pairs[2] = {calloc(1, sizeof(struct pair)), calloc(1, sizeof(struct pair))};
	assert_int_equal(pki_issue(in_folder("ca"), "t", in_folder("t"), 30, false, sentence), 0);
	assert_int_equal(pki_issue(in_folder("ca"), "u", in_folder("u"), 30, false, sentence), 0);
	pair_open(pairs[0], "t", "u", 1 << 20);
	pair_open(pairs[1], "a", "u", 1 << 20);
	assert_int_equal(pki_revoke(in_folder("ca"), "t", &count, sentence), 0);
	snprintf(command, sizeof command, "cp %s/ca/ca.crl %s/u/ca.crl", folder, folder);
	assert_int_equal(system(command), 0);
	assert_int_equal(tls_context_new(in_folder("u"), &newer, sentence), 0);
	assert_int_equal(tls_peer_still_good(pairs[0]->sessions[1], newer, sentence), -EACCES);
	assert_string_equal(sentence,
			    "The certificate of t is not good any more: certificate revoked.");
	assert_int_equal(tls_peer_still_good(pairs[1]->sessions[1], newer, sentence), 0);
	assert_int_equal(tls_peer_still_good(pairs[0]->sessions[0], newer, sentence), 0);
	tls_context_free(newer);
	/* Another CA's. */
	assert_int_equal(tls_context_new(in_folder("c"), &newer, sentence), 0);
	assert_int_equal(tls_peer_still_good(pairs[1]->sessions[0], newer, sentence), -EACCES);
	tls_context_free(newer);
	pair_close(pairs[0]);
	pair_close(pairs[1]);
}

static void tls_1_2_is_refused(void **state)
{
	struct tls_context *context;
	char sentence[SENTENCE_BYTES];
	uint8_t hello[4096];
	uint8_t *out = NULL;
	size_t room = 0;
	SSL_CTX *old = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_max_proto_version(old, TLS1_2_VERSION);
	SSL *ssl = SSL_new(old);
	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	SSL_connect(ssl);
	int hello_bytes = BIO_read(SSL_get_wbio(ssl), hello, sizeof hello);
	assert_true(hello_bytes > 0);
	assert_int_equal(tls_context_new(in_folder("b"), &context, sentence), 0);
	struct tls_session *session = tls_session_new(context, true);
	tls_in(session, hello, (size_t)hello_bytes);
	assert_int_equal(tls_handshake(session), -EPROTO);
	size_t bytes = tls_out_take(session, &out, &room);
	free(out);
	assert_true(bytes > 0 && bytes < 64); /* an alert, no more */
	tls_session_free(session);
	tls_context_free(context);
	SSL_free(ssl);
	SSL_CTX_free(old);
}

static void garbage_is_refused(void **state)
{
	struct tls_context *context;
	char sentence[SENTENCE_BYTES];
	uint64_t seed = 3;
	assert_int_equal(tls_context_new(in_folder("b"), &context, sentence), 0);
	for (unsigned round = 0; round < 200; round++) {
		uint8_t bytes[600];
		test_random_fill(&seed, bytes, sizeof bytes);
		if (round & 1) /* looks like a handshake at first */
			memcpy(bytes, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
		struct tls_session *session = tls_session_new(context, true);
		tls_in(session, bytes, sizeof bytes);
		assert_true(tls_handshake(session) <= 0);
		assert_null(tls_peer(session));
		tls_session_free(session);
	}
	tls_context_free(context);
}

static void sessions_outlive_their_context(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	char got[8];
	pair_open(pair, "a", "b", 1 << 20);
	for (unsigned i = 0; i < 2; i++) {
		tls_context_free(pair->contexts[i]);
		pair->contexts[i] = NULL;
	}
	assert_int_equal(tls_write(pair->sessions[1], "still", 5), 0);
	move(pair);
	assert_int_equal(tls_read(pair->sessions[0], got, sizeof got), 5);
	pair_close(pair);
}

static void a_folder_without_a_key_is_refused_in_one_sentence(void **state)
{
	struct tls_context *context;
	char sentence[SENTENCE_BYTES];
	assert_int_equal(tls_context_new(in_folder("ca"), &context, sentence), -ENOENT);
	assert_non_null(strstr(sentence, "host.crt"));
	assert_non_null(strstr(sentence, "pki issue"));
}

static void keys_are_never_replaced_nor_readable_by_others(void **state)
{
	char sentence[SENTENCE_BYTES];
	struct stat status;
	assert_int_equal(pki_init(in_folder("ca"), "thainguyen", sentence), -EEXIST);
	assert_int_equal(pki_issue(in_folder("ca"), "a", in_folder("a"), 30, false, sentence),
			 -EEXIST);
	assert_int_equal(stat(in_folder("a/host.key"), &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(stat(in_folder("ca/ca.key"), &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(pki_issue(in_folder("ca"), "a", in_folder("a"), 30, true, sentence), 0);
}

static void identities_are_taken_apart_strictly(void **state)
{
	static const char *const bad[] = {
		"",
		"vstore://",
		"vstore://a",
		"vstore://a/",
		"vstore:///b",
		"vstore://a/b/c",
		"vstore://a b/c",
		"vstore://-a/b",
		"https://a/b",
		"vstore://a/b?x",
		"VSTORE://a/b",
	};
	struct tls_identity identity;
	for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(tls_identity_parse(bad[i], strlen(bad[i]), &identity), -EINVAL);
	assert_int_equal(tls_identity_parse("vstore://a/b\0c", 14, &identity), -EINVAL);
	assert_int_equal(tls_identity_parse("vstore://a.b/c-1", 16, &identity), 0);
	assert_string_equal(identity.cluster, "a.b");
	assert_string_equal(identity.host, "c-1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_hosts_know_each_other),
		cmocka_unit_test(bytes_arrive_as_they_were_sent),
		cmocka_unit_test(a_flipped_bit_ends_it),
		cmocka_unit_test(another_ca_is_refused),
		cmocka_unit_test(another_ca_of_the_same_name_is_refused),
		cmocka_unit_test(its_own_certificate_is_refused),
		cmocka_unit_test(a_revoked_host_is_refused),
		cmocka_unit_test(who_is_revoked_later_is_found),
		cmocka_unit_test(tls_1_2_is_refused),
		cmocka_unit_test(garbage_is_refused),
		cmocka_unit_test(sessions_outlive_their_context),
		cmocka_unit_test(a_folder_without_a_key_is_refused_in_one_sentence),
		cmocka_unit_test(keys_are_never_replaced_nor_readable_by_others),
		cmocka_unit_test(identities_are_taken_apart_strictly),
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

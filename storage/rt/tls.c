/* SPDX-License-Identifier: Apache-2.0 */
/* TLS 1.3 between hosts (tls.h), by OpenSSL over a BIO that reads and writes the session's own
 * buffers. */
#include "storage/rt/tls.h"

#include "proto/text.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCHEME "vstore://"
#define PATH_ROOM 600

struct tls_context {
	SSL_CTX *ssl;
	struct tls_identity identity;
};

struct tls_session {
	SSL *ssl;
	struct tls_identity own, peer;
	const uint8_t *in;
	size_t in_bytes;
	uint8_t *out;
	size_t out_end, out_room;
	bool peer_known;
	char sentence[SENTENCE_BYTES];
};

/* ---- identities ---- */

int tls_identity_parse(const char *uri, size_t bytes, struct tls_identity *ret_identity)
{
	struct tls_identity identity = {0};
	size_t prefix = strlen(SCHEME);
	if (bytes <= prefix || memcmp(uri, SCHEME, prefix) != 0)
		return -EINVAL;
	const char *cluster = uri + prefix;
	const char *slash = memchr(cluster, '/', bytes - prefix);
	if (!slash)
		return -EINVAL;
	size_t cluster_bytes = (size_t)(slash - cluster);
	size_t host_bytes = bytes - prefix - cluster_bytes - 1;
	if (cluster_bytes >= TLS_NAME_ROOM || host_bytes >= TLS_NAME_ROOM)
		return -EINVAL;
	memcpy(identity.cluster, cluster, cluster_bytes);
	memcpy(identity.host, slash + 1, host_bytes);
	if (strlen(identity.cluster) != cluster_bytes || strlen(identity.host) != host_bytes ||
	    !text_name_ok(identity.cluster, cluster_bytes) ||
	    !text_name_ok(identity.host, host_bytes))
		return -EINVAL;
	*ret_identity = identity;
	return 0;
}

/* The one SAN of ours that a certificate has; several are as bad as none. */
static int identity_of(X509 *certificate, struct tls_identity *ret_identity)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	struct tls_identity identity;
	int found = 0;
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type != GEN_URI)
			continue;
		const ASN1_IA5STRING *uri = name->d.uniformResourceIdentifier;
		found += tls_identity_parse((const char *)ASN1_STRING_get0_data(uri),
					    (size_t)ASN1_STRING_length(uri), &identity) == 0;
	}
	GENERAL_NAMES_free(names);
	struct tm until;
	if (found != 1 || !ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &until))
		return -EINVAL;
	identity.not_after_s = timegm(&until);
	*ret_identity = identity;
	return 0;
}

/* ---- contexts ---- */

static int refuse(char *sentence, int code, const char *file, const char *why)
{
	ERR_clear_error();
	snprintf(sentence, SENTENCE_BYTES,
		 "%.200s %s. Make it with 'vstorectl pki issue', or give --tls the right folder.",
		 file, why);
	return code;
}

static int load_revoked(SSL_CTX *ssl, const char *file, char *sentence)
{
	if (access(file, F_OK) != 0)
		return 0;
	X509_STORE *store = SSL_CTX_get_cert_store(ssl);
	X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
	if (!lookup || X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) < 1)
		return refuse(sentence, -EINVAL, file, "is no list of revoked certificates");
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
	return 0;
}

static int load(struct tls_context *context, const char *folder, char *sentence)
{
	char ca[PATH_ROOM], certificate[PATH_ROOM], key[PATH_ROOM], revoked[PATH_ROOM];
	SSL_CTX *ssl = context->ssl;
	if (snprintf(ca, sizeof ca, "%s/ca.crt", folder) >= PATH_ROOM - 8)
		return refuse(sentence, -EINVAL, folder, "is too long a path");
	snprintf(certificate, sizeof certificate, "%s/host.crt", folder);
	snprintf(key, sizeof key, "%s/host.key", folder);
	snprintf(revoked, sizeof revoked, "%s/ca.crl", folder);
	const char *const needed[] = {ca, certificate, key};
	for (unsigned i = 0; i < 3; i++)
		if (access(needed[i], R_OK) != 0)
			return refuse(sentence, -errno, needed[i], "cannot be read");
	if (!SSL_CTX_load_verify_file(ssl, ca))
		return refuse(sentence, -EINVAL, ca, "holds no certificate of a CA");
	/* Whom ca.crt holds is trusted, be it a CA below another one's. */
	X509_STORE_set_flags(SSL_CTX_get_cert_store(ssl), X509_V_FLAG_PARTIAL_CHAIN);
	if (SSL_CTX_use_certificate_chain_file(ssl, certificate) != 1)
		return refuse(sentence, -EINVAL, certificate, "holds no certificate");
	if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(ssl) != 1)
		return refuse(sentence, -EINVAL, key, "is not the key of host.crt");
	X509 *own = SSL_CTX_get0_certificate(ssl);
	if (identity_of(own, &context->identity) < 0)
		return refuse(sentence, -EINVAL, certificate,
			      "names no host (a SAN vstore://CLUSTER/HOST)");
	return load_revoked(ssl, revoked, sentence);
}

int tls_context_new(const char *folder, struct tls_context **ret_context,
		    char ret_sentence[SENTENCE_BYTES])
{
	struct tls_context *context = calloc(1, sizeof(*context));
	if (context)
		context->ssl = SSL_CTX_new(TLS_method());
	if (!context || !context->ssl ||
	    !SSL_CTX_set_min_proto_version(context->ssl, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(context->ssl, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
						    "TLS_CHACHA20_POLY1305_SHA256") ||
	    !SSL_CTX_set_num_tickets(context->ssl, 0)) {
		tls_context_free(context);
		snprintf(ret_sentence, SENTENCE_BYTES, "There is no memory for TLS.");
		return -ENOMEM;
	}
	SSL_CTX_set_options(context->ssl, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_session_cache_mode(context->ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(context->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	int res = load(context, folder, ret_sentence);
	if (res < 0) {
		tls_context_free(context);
		return res;
	}
	*ret_context = context;
	return 0;
}

void tls_context_free(struct tls_context *context)
{
	if (!context)
		return;
	SSL_CTX_free(context->ssl); /* sessions have their own reference */
	free(context);
}

const struct tls_identity *tls_context_identity(const struct tls_context *context)
{
	return &context->identity;
}

/* ---- the session's BIO: its own buffers ---- */

static int bio_read(BIO *bio, char *buf, size_t bytes, size_t *ret_bytes)
{
	struct tls_session *session = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (!session->in_bytes) {
		BIO_set_retry_read(bio);
		return 0;
	}
	size_t taken = bytes < session->in_bytes ? bytes : session->in_bytes;
	memcpy(buf, session->in, taken);
	session->in += taken;
	session->in_bytes -= taken;
	*ret_bytes = taken;
	return 1;
}

static int bio_write(BIO *bio, const char *buf, size_t bytes, size_t *ret_bytes)
{
	struct tls_session *session = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (session->out_room - session->out_end < bytes) {
		size_t room = session->out_room ? session->out_room : 65536;
		while (room - session->out_end < bytes)
			room *= 2;
		uint8_t *out = realloc(session->out, room);
		if (!out)
			return 0;
		session->out = out;
		session->out_room = room;
	}
	memcpy(session->out + session->out_end, buf, bytes);
	session->out_end += bytes;
	*ret_bytes = bytes;
	return 1;
}

static long bio_ctrl(BIO *bio, int what, long number, void *at)
{
	return what == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

/* One for the process; made by the first session, on the one thread that has sessions. */
static BIO_METHOD *bio_method(void)
{
	static BIO_METHOD *method;
	if (!method) {
		method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "vstore session");
		if (method) {
			BIO_meth_set_read_ex(method, bio_read);
			BIO_meth_set_write_ex(method, bio_write);
			BIO_meth_set_ctrl(method, bio_ctrl);
			BIO_meth_set_create(method, bio_create);
		}
	}
	return method;
}

/* ---- sessions ---- */

struct tls_session *tls_session_new(struct tls_context *context, bool is_server)
{
	struct tls_session *session = calloc(1, sizeof(*session));
	BIO_METHOD *method = bio_method();
	if (!session || !method) {
		free(session);
		return NULL;
	}
	session->own = context->identity;
	session->ssl = SSL_new(context->ssl);
	BIO *bio = session->ssl ? BIO_new(method) : NULL;
	if (!bio) {
		tls_session_free(session);
		return NULL;
	}
	BIO_set_data(bio, session);
	SSL_set_bio(session->ssl, bio, bio); /* one reference, for both directions */
	if (is_server)
		SSL_set_accept_state(session->ssl);
	else
		SSL_set_connect_state(session->ssl);
	return session;
}

void tls_session_free(struct tls_session *session)
{
	if (!session)
		return;
	SSL_free(session->ssl);
	free(session->out);
	free(session);
}

void tls_in(struct tls_session *session, const void *bytes, size_t byte_count)
{
	session->in = bytes;
	session->in_bytes = byte_count;
}

size_t tls_in_left(const struct tls_session *session)
{
	return session->in_bytes;
}

__attribute__((format(printf, 2, 3))) static int fail(struct tls_session *session,
						      const char *format, ...)
{
	va_list args;
	if (session->sentence[0])
		return -EPROTO;
	va_start(args, format);
	vsnprintf(session->sentence, SENTENCE_BYTES, format, args);
	va_end(args);
	return -EPROTO;
}

static const char *reason(struct tls_session *session)
{
	long verified = SSL_get_verify_result(session->ssl);
	const char *text = verified != X509_V_OK ? X509_verify_cert_error_string(verified)
						 : ERR_reason_error_string(ERR_peek_error());
	ERR_clear_error();
	return text ? text : "it closed the connection";
}

static int check_peer(struct tls_session *session)
{
	X509 *certificate = SSL_get0_peer_certificate(session->ssl);
	if (!certificate || SSL_get_verify_result(session->ssl) != X509_V_OK)
		return fail(session, "The peer showed no certificate that our CA signed.");
	if (identity_of(certificate, &session->peer) < 0)
		return fail(session, "The peer's certificate names no host of a vstore cluster.");
	if (strcmp(session->peer.cluster, session->own.cluster) != 0)
		return fail(session, "The peer belongs to the cluster '%s', we to '%s'.",
			    session->peer.cluster, session->own.cluster);
	if (strcmp(session->peer.host, session->own.host) == 0)
		return fail(session,
			    "The peer shows a certificate of this very host, '%s': each host needs "
			    "its own.",
			    session->own.host);
	session->peer_known = true;
	return 1;
}

int tls_handshake(struct tls_session *session)
{
	if (session->sentence[0])
		return -EPROTO;
	if (session->peer_known)
		return 1;
	ERR_clear_error();
	int res = SSL_do_handshake(session->ssl);
	if (res == 1)
		return check_peer(session);
	if (SSL_get_error(session->ssl, res) == SSL_ERROR_WANT_READ)
		return 0;
	return fail(session, "TLS with the peer failed: %s.", reason(session));
}

const struct tls_identity *tls_peer(const struct tls_session *session)
{
	return session->peer_known ? &session->peer : NULL;
}

int tls_peer_still_good(struct tls_session *session, struct tls_context *newer,
			char ret_sentence[SENTENCE_BYTES])
{
	X509_STORE_CTX *look = X509_STORE_CTX_new();
	X509 *certificate = SSL_get0_peer_certificate(session->ssl);
	const char *why = "there is no memory to look";
	bool good = look && certificate &&
		    X509_STORE_CTX_init(look, SSL_CTX_get_cert_store(newer->ssl), certificate,
					SSL_get_peer_cert_chain(session->ssl)) == 1;
	if (good) {
		good = X509_verify_cert(look) == 1;
		why = X509_verify_cert_error_string(X509_STORE_CTX_get_error(look));
	}
	if (!good)
		snprintf(ret_sentence, SENTENCE_BYTES,
			 "The certificate of %.63s is not good any more: %.100s.",
			 session->peer.host, why);
	X509_STORE_CTX_free(look);
	ERR_clear_error();
	return good ? 0 : -EACCES;
}

int64_t tls_read(struct tls_session *session, void *buf, size_t bytes)
{
	size_t read = 0;
	if (!session->peer_known || session->sentence[0])
		return -EPROTO;
	ERR_clear_error();
	if (SSL_read_ex(session->ssl, buf, bytes, &read))
		return (int64_t)read;
	switch (SSL_get_error(session->ssl, 0)) {
	case SSL_ERROR_WANT_READ:
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		return -ECONNRESET;
	default:
		return fail(session, "TLS with %s broke: %s.", session->peer.host, reason(session));
	}
}

int tls_write(struct tls_session *session, const void *buf, size_t bytes)
{
	size_t written = 0;
	if (!session->peer_known || session->sentence[0])
		return -EPROTO;
	ERR_clear_error();
	if (!bytes || (SSL_write_ex(session->ssl, buf, bytes, &written) && written == bytes))
		return 0;
	return fail(session, "TLS with %s broke: %s.", session->peer.host, reason(session));
}

void tls_close(struct tls_session *session)
{
	if (session->peer_known && !session->sentence[0])
		SSL_shutdown(session->ssl);
	ERR_clear_error();
}

size_t tls_out_bytes(const struct tls_session *session)
{
	return session->out_end;
}

size_t tls_out_take(struct tls_session *session, uint8_t **buffer, size_t *room)
{
	size_t bytes = session->out_end;
	if (!bytes)
		return 0;
	uint8_t *out = session->out;
	size_t out_room = session->out_room;
	session->out = *buffer;
	session->out_room = *room;
	session->out_end = 0;
	*buffer = out;
	*room = out_room;
	return bytes;
}

const char *tls_sentence(const struct tls_session *session)
{
	return session->sentence;
}

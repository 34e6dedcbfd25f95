/* SPDX-License-Identifier: Apache-2.0 */
/* A site's certificate authority (pki.h), by OpenSSL's X.509. Files only, no daemon is asked. */
#include "agent/ctl/pki.h"

#include "proto/text.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CRL_DAYS (10 * 365)
#define CLOCK_SLACK_S 300 /* a host whose clock is a little behind takes a new certificate */
#define CERTIFICATES_MAX 4096u
#define PATH_ROOM 640

#define FREED_BY(type, function)                                                                   \
	static void function##_at(type **at)                                                       \
	{                                                                                          \
		function(*at);                                                                     \
	}
FREED_BY(EVP_PKEY, EVP_PKEY_free)
FREED_BY(X509, X509_free)
FREED_BY(X509_CRL, X509_CRL_free)
#define KEY_AUTO __attribute__((cleanup(EVP_PKEY_free_at))) EVP_PKEY *
#define CERTIFICATE_AUTO __attribute__((cleanup(X509_free_at))) X509 *
#define CRL_AUTO __attribute__((cleanup(X509_CRL_free_at))) X509_CRL *

__attribute__((format(printf, 3, 4))) static int say(char *sentence, int code, const char *format,
						     ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(sentence, SENTENCE_BYTES, format, args);
	va_end(args);
	ERR_clear_error();
	return code;
}

/* ---- files ---- */

static void path_of(char out[PATH_ROOM], const char *folder, const char *name)
{
	snprintf(out, PATH_ROOM, "%.500s/%.120s", folder, name);
}

static bool there(const char *folder, const char *name)
{
	char path[PATH_ROOM];
	path_of(path, folder, name);
	return access(path, F_OK) == 0;
}

static int make_folder(const char *folder, mode_t mode, char *sentence)
{
	if (strlen(folder) > 500)
		return say(sentence, -ENAMETOOLONG, "The path %.60s... is too long.", folder);
	if (mkdir(folder, mode) == 0 || errno == EEXIST)
		return 0;
	return say(sentence, -errno, "The folder %s could not be made: %s.", folder,
		   strerror(errno));
}

struct writing {
	enum { WRITE_KEY, WRITE_CERTIFICATE, WRITE_CRL } kind;
	const void *what;
};

static bool write_pem(FILE *file, const struct writing *writing)
{
	switch (writing->kind) {
	case WRITE_KEY:
		return PEM_write_PrivateKey(file, writing->what, NULL, NULL, 0, NULL, NULL);
	case WRITE_CERTIFICATE:
		return PEM_write_X509(file, writing->what);
	default:
		return PEM_write_X509_CRL(file, writing->what);
	}
}

/* Whole or not at all: a temporary file, synced, then renamed. */
static int write_file(const char *folder, const char *name, struct writing writing, char *sentence)
{
	char path[PATH_ROOM], part[PATH_ROOM + 8];
	path_of(path, folder, name);
	snprintf(part, sizeof part, "%s.part", path);
	unlink(part);
	int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
		      writing.kind == WRITE_KEY ? 0600 : 0644);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
	bool good = file && write_pem(file, &writing) && fflush(file) == 0 && fsync(fd) == 0;
	int error = errno;
	if (file)
		fclose(file);
	if (good && rename(part, path) == 0)
		return 0;
	if (good)
		error = errno;
	unlink(part);
	return say(sentence, -(error ? error : EIO), "%s could not be written: %s.", path,
		   strerror(error ? error : EIO));
}

static void *read_pem(const char *path, int kind)
{
	FILE *file = fopen(path, "r");
	void *what = NULL;
	if (!file)
		return NULL;
	if (kind == WRITE_KEY)
		what = PEM_read_PrivateKey(file, NULL, NULL, NULL);
	else if (kind == WRITE_CERTIFICATE)
		what = PEM_read_X509(file, NULL, NULL, NULL);
	else
		what = PEM_read_X509_CRL(file, NULL, NULL, NULL);
	fclose(file);
	ERR_clear_error();
	return what;
}

static void *read_file(const char *folder, const char *name, int kind)
{
	char path[PATH_ROOM];
	path_of(path, folder, name);
	return read_pem(path, kind);
}

/* ---- certificates ---- */

/* The organisation of the CA's subject is the cluster's name. */
static void cluster_of(const X509_NAME *name, char out[PKI_NAME_ROOM])
{
	if (X509_NAME_get_text_by_NID((X509_NAME *)name, NID_organizationName, out, PKI_NAME_ROOM) <
	    0)
		out[0] = 0;
}

static void host_of(const X509_NAME *name, char out[PKI_NAME_ROOM])
{
	if (X509_NAME_get_text_by_NID((X509_NAME *)name, NID_commonName, out, PKI_NAME_ROOM) < 0)
		out[0] = 0;
}

static bool add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	bool added = extension && X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
	return added;
}

static bool set_serial(X509 *certificate)
{
	uint8_t bytes[16];
	if (RAND_bytes(bytes, sizeof bytes) != 1)
		return false;
	bytes[0] = (bytes[0] & 0x7f) | 0x40; /* positive, and of one length */
	BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
	bool set = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
	BN_free(number);
	return set;
}

static void serial_text(const ASN1_INTEGER *serial, char out[48])
{
	BIGNUM *number = ASN1_INTEGER_to_BN(serial, NULL);
	char *hex = number ? BN_bn2hex(number) : NULL;
	snprintf(out, 48, "%s", hex ? hex : "");
	OPENSSL_free(hex);
	BN_free(number);
}

static X509 *certificate_new(EVP_PKEY *key, const char *cluster, const char *common_name,
			     unsigned days)
{
	X509 *certificate = X509_new();
	X509_NAME *name = certificate ? X509_get_subject_name(certificate) : NULL;
	if (!name || !X509_set_version(certificate, 2) || !set_serial(certificate) ||
	    !X509_gmtime_adj(X509_getm_notBefore(certificate), -CLOCK_SLACK_S) ||
	    !X509_time_adj_ex(X509_getm_notAfter(certificate), (int)days, 0, NULL) ||
	    !X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const uint8_t *)cluster, -1, -1,
					0) ||
	    !X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)common_name, -1,
					-1, 0) ||
	    !X509_set_pubkey(certificate, key)) {
		X509_free(certificate);
		return NULL;
	}
	return certificate;
}

static int sign_crl(X509_CRL *crl, EVP_PKEY *key)
{
	ASN1_TIME *now = X509_gmtime_adj(NULL, -CLOCK_SLACK_S);
	ASN1_TIME *next = X509_time_adj_ex(NULL, CRL_DAYS, 0, NULL);
	bool good = now && next && X509_CRL_set1_lastUpdate(crl, now) &&
		    X509_CRL_set1_nextUpdate(crl, next) && X509_CRL_sort(crl) &&
		    X509_CRL_sign(crl, key, EVP_sha256());
	ASN1_TIME_free(now);
	ASN1_TIME_free(next);
	return good ? 0 : -EIO;
}

static int first_crl(const char *folder, X509 *certificate, EVP_PKEY *key, char *sentence)
{
	CRL_AUTO crl = X509_CRL_new();
	if (!crl || !X509_CRL_set_version(crl, 1) ||
	    !X509_CRL_set_issuer_name(crl, X509_get_subject_name(certificate)) ||
	    sign_crl(crl, key) < 0)
		return say(sentence, -EIO, "The list of revoked certificates could not be made.");
	return write_file(folder, "ca.crl", (struct writing){WRITE_CRL, crl}, sentence);
}

/* ---- the CA ---- */

static int check_new_ca(const char *folder, const char *cluster, char *sentence)
{
	char issued[PATH_ROOM];
	if (!text_name_ok(cluster, strlen(cluster)))
		return say(sentence, -EINVAL,
			   "\"%.80s\" is no name for a cluster; it has 1 to 63 letters, digits, "
			   "'.', '_' or '-'.",
			   cluster);
	int res = make_folder(folder, 0700, sentence);
	if (res < 0)
		return res;
	if (there(folder, "ca.key") || there(folder, "ca.crt"))
		return say(sentence, -EEXIST,
			   "%s holds a CA already; it is never replaced, choose another folder.",
			   folder);
	path_of(issued, folder, "issued");
	return make_folder(issued, 0700, sentence);
}

static int write_ca(const char *folder, X509 *certificate, EVP_PKEY *key, char *sentence)
{
	int res = write_file(folder, "ca.key", (struct writing){WRITE_KEY, key}, sentence);
	if (res == 0)
		res = first_crl(folder, certificate, key, sentence);
	if (res == 0) /* last: who sees it sees a whole CA */
		res = write_file(folder, "ca.crt", (struct writing){WRITE_CERTIFICATE, certificate},
				 sentence);
	return res;
}

int pki_init(const char *folder, const char *cluster, char sentence[SENTENCE_BYTES])
{
	char name[PKI_NAME_ROOM + 16];
	int res = check_new_ca(folder, cluster, sentence);
	if (res < 0)
		return res;
	snprintf(name, sizeof name, "%.55s CA", cluster);
	KEY_AUTO key = EVP_EC_gen("P-256");
	CERTIFICATE_AUTO certificate =
		key ? certificate_new(key, cluster, name, PKI_DAYS_MAX) : NULL;
	if (!certificate ||
	    !X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) ||
	    !add_extension(certificate, certificate, NID_basic_constraints,
			   "critical,CA:TRUE,pathlen:0") ||
	    !add_extension(certificate, certificate, NID_key_usage,
			   "critical,keyCertSign,cRLSign") ||
	    !add_extension(certificate, certificate, NID_subject_key_identifier, "hash") ||
	    !X509_sign(certificate, key, EVP_sha256()))
		return say(sentence, -EIO, "The CA's key and certificate could not be made.");
	return write_ca(folder, certificate, key, sentence);
}

int pki_import(const char *folder, const char *certificate_file, const char *key_file,
	       const char *cluster, char sentence[SENTENCE_BYTES])
{
	char named[PKI_NAME_ROOM];
	CERTIFICATE_AUTO certificate = read_pem(certificate_file, WRITE_CERTIFICATE);
	KEY_AUTO key = read_pem(key_file, WRITE_KEY);
	if (!certificate)
		return say(sentence, -EINVAL, "%s holds no certificate in PEM.", certificate_file);
	if (!key || X509_check_private_key(certificate, key) != 1)
		return say(sentence, -EINVAL, "%s is not the key of %s.", key_file,
			   certificate_file);
	if (X509_check_ca(certificate) != 1)
		return say(sentence, -EINVAL, "%s is no CA's certificate.", certificate_file);
	cluster_of(X509_get_subject_name(certificate), named);
	if (cluster && strcmp(cluster, named) != 0)
		return say(sentence, -EINVAL,
			   "The CA's organisation is '%s', not '%s': its O is the cluster's name.",
			   named, cluster);
	int res = check_new_ca(folder, named, sentence);
	return res < 0 ? res : write_ca(folder, certificate, key, sentence);
}

/* ---- issuing ---- */

static int copy_to_host(const char *folder, const char *name, int kind, const char *out_folder,
			char *sentence)
{
	if (kind == WRITE_CRL) {
		CRL_AUTO crl = read_file(folder, name, kind);
		return crl ? write_file(out_folder, name, (struct writing){kind, crl}, sentence)
			   : 0;
	}
	CERTIFICATE_AUTO certificate = read_file(folder, name, kind);
	return write_file(out_folder, name, (struct writing){kind, certificate}, sentence);
}

static int check_issue(const char *host, const char *out_folder, unsigned days, bool replace,
		       char *sentence)
{
	if (!text_name_ok(host, strlen(host)))
		return say(sentence, -EINVAL,
			   "\"%.80s\" is no name for a host; it has 1 to 63 letters, digits, '.', "
			   "'_' or '-'.",
			   host);
	if (days < 1 || days > PKI_DAYS_MAX)
		return say(sentence, -EINVAL, "A certificate is valid for 1 to %u days.",
			   PKI_DAYS_MAX);
	int res = make_folder(out_folder, 0700, sentence);
	if (res == 0 && !replace &&
	    (there(out_folder, "host.key") || there(out_folder, "host.crt")))
		return say(sentence, -EEXIST,
			   "%s holds a host's key already; 'pki rotate' replaces it.", out_folder);
	return res;
}

int pki_issue(const char *folder, const char *host, const char *out_folder, unsigned days,
	      bool replace, char sentence[SENTENCE_BYTES])
{
	char cluster[PKI_NAME_ROOM], names[4 * PKI_NAME_ROOM], serial[48], issued[PATH_ROOM];
	CERTIFICATE_AUTO ca = read_file(folder, "ca.crt", WRITE_CERTIFICATE);
	KEY_AUTO ca_key = read_file(folder, "ca.key", WRITE_KEY);
	if (!ca || !ca_key)
		return say(sentence, -ENOENT,
			   "%s holds no CA that can be read; make one with 'vstorectl pki init'.",
			   folder);
	int res = check_issue(host, out_folder, days, replace, sentence);
	if (res < 0)
		return res;
	cluster_of(X509_get_subject_name(ca), cluster);
	snprintf(names, sizeof names, "URI:vstore://%s/%s,DNS:%s", cluster, host, host);
	KEY_AUTO key = EVP_EC_gen("P-256");
	CERTIFICATE_AUTO certificate = key ? certificate_new(key, cluster, host, days) : NULL;
	if (!certificate || !X509_set_issuer_name(certificate, X509_get_subject_name(ca)) ||
	    !add_extension(certificate, ca, NID_basic_constraints, "critical,CA:FALSE") ||
	    !add_extension(certificate, ca, NID_key_usage, "critical,digitalSignature") ||
	    !add_extension(certificate, ca, NID_ext_key_usage, "serverAuth,clientAuth") ||
	    !add_extension(certificate, ca, NID_subject_alt_name, names) ||
	    !add_extension(certificate, ca, NID_authority_key_identifier, "keyid:always") ||
	    !X509_sign(certificate, ca_key, EVP_sha256()))
		return say(sentence, -EIO, "The certificate of %s could not be made.", host);
	serial_text(X509_get0_serialNumber(certificate), serial);
	path_of(issued, folder, "issued");
	struct writing writing = {WRITE_CERTIFICATE, certificate};
	/* In the CA's books first: what exists can be revoked. */
	res = write_file(issued, serial, writing, sentence);
	if (res == 0)
		res = copy_to_host(folder, "ca.crt", WRITE_CERTIFICATE, out_folder, sentence);
	if (res == 0)
		res = copy_to_host(folder, "ca.crl", WRITE_CRL, out_folder, sentence);
	if (res == 0)
		res = write_file(out_folder, "host.key", (struct writing){WRITE_KEY, key},
				 sentence);
	return res ? res : write_file(out_folder, "host.crt", writing, sentence);
}

/* ---- revoking ---- */

static bool is_revoked(X509_CRL *crl, X509 *certificate)
{
	X509_REVOKED *entry = NULL;
	return crl && X509_CRL_get0_by_cert(crl, &entry, certificate) == 1;
}

static int add_revoked(X509_CRL *crl, X509 *certificate)
{
	X509_REVOKED *entry = X509_REVOKED_new();
	ASN1_TIME *now = X509_gmtime_adj(NULL, 0);
	bool added = entry && now &&
		     X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate)) &&
		     X509_REVOKED_set_revocationDate(entry, now) &&
		     X509_CRL_add0_revoked(crl, entry);
	ASN1_TIME_free(now);
	if (!added)
		X509_REVOKED_free(entry);
	return added ? 0 : -ENOMEM;
}

/* Runs `each` over the certificates in issued/; stops at its first non-zero answer. */
static int for_issued(const char *folder, int (*each)(X509 *certificate, void *arg), void *arg)
{
	char path[PATH_ROOM];
	path_of(path, folder, "issued");
	DIR *dir = opendir(path);
	int res = 0;
	if (!dir)
		return 0;
	for (struct dirent *entry; res == 0 && (entry = readdir(dir));) {
		if (entry->d_name[0] == '.' || strchr(entry->d_name, '.'))
			continue;
		CERTIFICATE_AUTO certificate = read_file(path, entry->d_name, WRITE_CERTIFICATE);
		if (certificate)
			res = each(certificate, arg);
	}
	closedir(dir);
	return res;
}

struct revoking {
	const char *host;
	X509_CRL *crl;
	unsigned count;
};

static int revoke_one(X509 *certificate, void *arg)
{
	struct revoking *revoking = arg;
	char host[PKI_NAME_ROOM];
	host_of(X509_get_subject_name(certificate), host);
	if (strcmp(host, revoking->host) != 0 || is_revoked(revoking->crl, certificate) ||
	    X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
		return 0;
	revoking->count++;
	return add_revoked(revoking->crl, certificate);
}

int pki_revoke(const char *folder, const char *host, unsigned *ret_count,
	       char sentence[SENTENCE_BYTES])
{
	CRL_AUTO crl = read_file(folder, "ca.crl", WRITE_CRL);
	KEY_AUTO key = read_file(folder, "ca.key", WRITE_KEY);
	if (!crl || !key)
		return say(sentence, -ENOENT, "%s holds no CA that can be read.", folder);
	struct revoking revoking = {.host = host, .crl = crl};
	int res = for_issued(folder, revoke_one, &revoking);
	if (res < 0)
		return say(sentence, res, "The list of revoked certificates could not be made.");
	if (revoking.count == 0)
		return say(sentence, -ENOENT,
			   "There is no valid certificate of '%s' to revoke; see vstorectl pki "
			   "show.",
			   host);
	if (sign_crl(crl, key) < 0)
		return say(sentence, -EIO, "The list of revoked certificates could not be signed.");
	res = write_file(folder, "ca.crl", (struct writing){WRITE_CRL, crl}, sentence);
	if (res == 0)
		*ret_count = revoking.count;
	return res;
}

/* ---- showing ---- */

static int64_t seconds_of(const ASN1_TIME *time)
{
	struct tm tm;
	return ASN1_TIME_to_tm(time, &tm) ? timegm(&tm) : 0;
}

struct showing {
	struct pki_certificate *all;
	unsigned count;
	X509_CRL *crl;
};

static struct pki_certificate *show_one(struct showing *showing, X509 *certificate)
{
	struct pki_certificate *shown = &showing->all[showing->count++];
	cluster_of(X509_get_subject_name(certificate), shown->cluster);
	serial_text(X509_get0_serialNumber(certificate), shown->serial);
	shown->not_before_s = seconds_of(X509_get0_notBefore(certificate));
	shown->not_after_s = seconds_of(X509_get0_notAfter(certificate));
	shown->revoked = is_revoked(showing->crl, certificate);
	return shown;
}

static int show_host(X509 *certificate, void *arg)
{
	struct showing *showing = arg;
	if (showing->count == CERTIFICATES_MAX)
		return -E2BIG;
	struct pki_certificate *shown = show_one(showing, certificate);
	host_of(X509_get_subject_name(certificate), shown->host);
	snprintf(shown->file, sizeof shown->file, "%.24s", "issued");
	return 0;
}

int pki_show(const char *folder, struct pki_certificate **ret, unsigned *ret_count,
	     char sentence[SENTENCE_BYTES])
{
	CERTIFICATE_AUTO ca = read_file(folder, "ca.crt", WRITE_CERTIFICATE);
	CERTIFICATE_AUTO host = read_file(folder, "host.crt", WRITE_CERTIFICATE);
	CRL_AUTO crl = read_file(folder, "ca.crl", WRITE_CRL);
	struct showing showing = {.crl = crl};
	if (!ca)
		return say(sentence, -ENOENT,
			   "%s holds neither a CA nor a host's certificate (ca.crt is missing).",
			   folder);
	showing.all = calloc(CERTIFICATES_MAX, sizeof(*showing.all));
	if (!showing.all)
		return say(sentence, -ENOMEM, "There is no memory.");
	snprintf(show_one(&showing, ca)->file, 32, "ca.crt");
	if (host) {
		show_host(host, &showing);
		snprintf(showing.all[showing.count - 1].file, 32, "host.crt");
	}
	for_issued(folder, show_host, &showing);
	*ret = showing.all;
	*ret_count = showing.count;
	return 0;
}

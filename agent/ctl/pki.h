/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A site's certificate authority in a folder: ca.crt, ca.key (0600), ca.crl, and issued/ with every
 * certificate that it signed. Host folders get ca.crt, ca.crl, host.crt and host.key (0600).
 *
 * Keeps true: a key is never overwritten, and never readable by others, not for a moment; a file is
 * replaced whole or not at all. Keys are EC P-256. Functions return 0 or a negative code and one
 * sentence.
 */
#ifndef AGENT_CTL_PKI_H
#define AGENT_CTL_PKI_H

#include "proto/err.h"

#include <stdbool.h>
#include <stdint.h>

#define PKI_NAME_ROOM 64u
#define PKI_DAYS_MAX (20u * 365u) /* of a host's certificate; a CA's own has as many */

/* A new CA in `folder`, which is made if it is not there. -EEXIST. */
int pki_init(const char *folder, const char *cluster, char sentence[SENTENCE_BYTES]);
/* An existing CA's certificate and key (PEM files) become the site's. -EEXIST. */
int pki_import(const char *folder, const char *certificate_file, const char *key_file,
	       const char *cluster, char sentence[SENTENCE_BYTES]);
/* A certificate for `host` into `out_folder`. -EEXIST when it has one, unless `replace`: then the
 * new key and certificate take the place of the old ones. */
int pki_issue(const char *folder, const char *host, const char *out_folder, unsigned days,
	      bool replace, char sentence[SENTENCE_BYTES]);
/* All certificates of `host` that have not expired. *ret_count: how many were newly revoked. */
int pki_revoke(const char *folder, const char *host, unsigned *ret_count,
	       char sentence[SENTENCE_BYTES]);

struct pki_certificate {
	char file[32]; /* "ca.crt", "host.crt", or a serial number of issued/ */
	char cluster[PKI_NAME_ROOM], host[PKI_NAME_ROOM]; /* host: "" for a CA */
	char serial[48];
	int64_t not_before_s, not_after_s;
	bool revoked;
};
/* What a CA's or a host's folder holds, for the caller to free. */
int pki_show(const char *folder, struct pki_certificate **ret, unsigned *ret_count,
	     char sentence[SENTENCE_BYTES]);

#endif

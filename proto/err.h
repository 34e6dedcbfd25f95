/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors. Functions return 0 or more, or a negative code: -errno, or one of the private codes
 * below, which lie above every errno of Linux. vs_strerror knows both.
 */
#ifndef PROTO_ERR_H
#define PROTO_ERR_H

enum vs_err {
	VS_ECHECKSUM = 4001, /* bytes that were read do not match their checksum or id */
	VS_EFORMAT,	     /* bytes that were read make no sense */
	VS_ENEWER,	     /* written by a newer vstore: an incompatible feature is set */
	VS_ELOST,	     /* something that was promised durable is missing: named in the log */
	VS_EFAILSTOP,	     /* an earlier I/O error made the store read-only */
	VS_EFENCED,	     /* another holder has the volume now */
	VS_ERETAINED,	     /* a hold, a lock or a retention date forbids it */
	VS_EQUOTA,	     /* the volume's quota is used up */
	VS_ECANCELLED,	     /* a person or the shutdown cancelled it */
	VS_ELOCKED,	     /* another process has the store open */
};

/* Room for the one sentence that tells a person what failed, why, and what to do. */
#define SENTENCE_BYTES 320

/* A short text for a negative (or positive) code. Any thread; the string is static. */
const char *vs_strerror(int err);

/* A lower-case word for a code, as it appears in JSON errors ("no_space", "checksum"). */
const char *vs_errname(int err);

/* The positive code of such a word; EIO for one that is not known. */
int vs_errcode(const char *name);

#endif

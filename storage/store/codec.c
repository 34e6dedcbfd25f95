/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts belong to a worker's number and are reused: making one costs more than a frame.
 * OpenSSL's low-level SHA256 calls are deprecated in 3.0 but skip an allocation and a lookup a
 * digest, which a 16 KiB quarter would feel; they use the same SHA-NI code. Quarters that come
 * together are hashed in pairs where the processor can (sha256_pair.h): the same digests.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "storage/store/codec.h"

#include "proto/crc32c.h"
#include "proto/err.h"
#include "storage/store/mutant.h"
#include "storage/store/sha256_pair.h"

#include <assert.h>
#include <endian.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <zstd.h>

struct codec_worker {
	ZSTD_CCtx *compress;
	ZSTD_DCtx *decompress;
	int level; /* that `compress` is set to */
};

struct codec {
	unsigned worker_count;
	struct codec_worker workers[];
};

struct codec *codec_new(unsigned worker_count)
{
	struct codec *codec =
		calloc(1, sizeof(*codec) + worker_count * sizeof(struct codec_worker));
	if (!codec)
		return NULL;
	codec->worker_count = worker_count;
	for (unsigned i = 0; i < worker_count; i++) {
		struct codec_worker *worker = &codec->workers[i];
		worker->compress = ZSTD_createCCtx();
		worker->decompress = ZSTD_createDCtx();
		if (!worker->compress || !worker->decompress) {
			codec_free(codec);
			return NULL;
		}
		ZSTD_CCtx_setParameter(worker->compress, ZSTD_c_contentSizeFlag, 0);
	}
	return codec;
}

void codec_free(struct codec *codec)
{
	if (!codec)
		return;
	for (unsigned i = 0; i < codec->worker_count; i++) {
		ZSTD_freeCCtx(codec->workers[i].compress);
		ZSTD_freeDCtx(codec->workers[i].decompress);
	}
	free(codec);
}

void codec_hash_quarter(const void *quarter, uint8_t ret_hash[32])
{
	SHA256_CTX sha;
	SHA256_Init(&sha);
	SHA256_Update(&sha, quarter, QUARTER_BYTES);
	SHA256_Final(ret_hash, &sha);
}

void codec_hash_quarters(const void *chunk, uint8_t ret_hashes[QUARTER_COUNT][32])
{
	const uint8_t *at = chunk;
	for (unsigned i = 0; i < QUARTER_COUNT; i += 2, at += 2 * QUARTER_BYTES) {
		if (sha256_pair_works()) {
			sha256_pair(at, at + QUARTER_BYTES, QUARTER_BYTES, ret_hashes[i],
				    ret_hashes[i + 1]);
			continue;
		}
		codec_hash_quarter(at, ret_hashes[i]);
		codec_hash_quarter(at + QUARTER_BYTES, ret_hashes[i + 1]);
	}
}

void codec_id_quarters(const struct domain_key *key, const uint8_t quarters[QUARTER_COUNT][32],
		       struct id *ret_id)
{
	SHA256_CTX sha;
	SHA256_Init(&sha);
	SHA256_Update(&sha, key->key, sizeof key->key);
	SHA256_Update(&sha, quarters, QUARTER_COUNT * 32);
	SHA256_Final(ret_id->bytes, &sha);
}

void codec_id_chunk(const struct domain_key *key, const void *chunk, struct id *ret_id)
{
	uint8_t quarters[QUARTER_COUNT][32];
	codec_hash_quarters(chunk, quarters);
	codec_id_quarters(key, quarters, ret_id);
}

static void sha_with_key(SHA256_CTX *sha, const struct domain_key *key, uint8_t mask)
{
	uint8_t masked[sizeof key->key];
	for (size_t i = 0; i < sizeof masked; i++)
		masked[i] = key->key[i] ^ mask;
	SHA256_Init(sha);
	SHA256_Update(sha, masked, sizeof masked);
}

void codec_id_lost(const struct domain_key *key, const uint8_t quarters[QUARTER_COUNT][32],
		   uint16_t lost, struct id *ret_id)
{
	uint64_t lost_le = htole64(lost);
	SHA256_CTX sha;
	sha_with_key(&sha, key, 0x6a);
	SHA256_Update(&sha, quarters, QUARTER_COUNT * 32);
	SHA256_Update(&sha, &lost_le, sizeof lost_le);
	SHA256_Final(ret_id->bytes, &sha);
}

void codec_id_node(const struct domain_key *key, const void *node, size_t bytes, struct id *ret_id)
{
	SHA256_CTX sha;
	sha_with_key(&sha, key, 0x5c);
	SHA256_Update(&sha, node, bytes);
	SHA256_Final(ret_id->bytes, &sha);
}

void codec_id_root(const struct domain_key *key, uint64_t size_bytes, const struct id *top,
		   struct id *ret_id)
{
	uint64_t size_le = htole64(size_bytes);
	SHA256_CTX sha;
	sha_with_key(&sha, key, 0x36);
	SHA256_Update(&sha, &size_le, sizeof size_le);
	SHA256_Update(&sha, top->bytes, ID_BYTES);
	SHA256_Final(ret_id->bytes, &sha);
}

void codec_domain_uuid(const struct domain_key *key, uint8_t ret_uuid[16])
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	SHA256_CTX sha;
	sha_with_key(&sha, key, 0x6d);
	SHA256_Final(digest, &sha);
	memcpy(ret_uuid, digest, 16);
}

void codec_keyed_check(const uint8_t secret[16], const void *a, size_t a_bytes, const void *b,
		       size_t b_bytes, uint8_t ret_check[16])
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	SHA256_CTX sha;
	SHA256_Init(&sha);
	SHA256_Update(&sha, secret, 16);
	SHA256_Update(&sha, a, a_bytes);
	SHA256_Update(&sha, b, b_bytes);
	SHA256_Final(digest, &sha);
	memcpy(ret_check, digest, 16);
}

bool codec_is_zero(const void *at, size_t bytes)
{
	for (const uint8_t *from = at, *end = from + bytes; from < end; from += 64) {
		uint64_t words[8]; /* the data may lie at any address */
		memcpy(words, from, sizeof words);
		if (words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] |
		    words[7])
			return false;
	}
	return true;
}

uint32_t codec_crc_seed(const struct id *id, unsigned frame_no)
{
	uint32_t word;
	memcpy(&word, id->bytes, 4);
	return le32toh(word) ^ (frame_no * 0x9e3779b1u);
}

/* CRCs are linear: how two seeds differ goes through the bytes as it would through zeros. */
uint32_t codec_crc_move(uint32_t crc, uint32_t old_seed, uint32_t new_seed, uint32_t bytes)
{
	static const uint8_t zeros[CHUNK_BYTES];
	assert(bytes <= CHUNK_BYTES);
	return crc ^ crc32c(old_seed, zeros, bytes) ^ crc32c(new_seed, zeros, bytes);
}

/* Returns the compressed bytes, or 0: it does not pay. */
static size_t frame_compress(struct codec_worker *worker, int level, const void *raw,
			     uint32_t raw_bytes, void *out)
{
	if (worker->level != level) {
		ZSTD_CCtx_setParameter(worker->compress, ZSTD_c_compressionLevel, level);
		worker->level = level;
	}
	size_t room = raw_bytes - raw_bytes / 16;
	size_t bytes = ZSTD_compress2(worker->compress, out, room, raw, raw_bytes);
	return ZSTD_isError(bytes) ? 0 : bytes;
}

void codec_encode_frame(struct codec *codec, unsigned worker_no, int level, const void *raw,
			uint32_t raw_bytes, const struct id *id, unsigned frame_no, void *out,
			struct frame_entry *ret_entry)
{
	assert(worker_no < codec->worker_count);
	*ret_entry = (struct frame_entry){.codec = FRAME_ZERO};
	if (!codec_is_zero(raw, raw_bytes)) {
		size_t small =
			frame_compress(&codec->workers[worker_no], level, raw, raw_bytes, out);
		ret_entry->codec = small ? FRAME_ZSTD : FRAME_RAW;
		ret_entry->stored_bytes = small ? (uint32_t)small : raw_bytes;
		if (!small)
			memcpy(out, raw, raw_bytes);
	}
	ret_entry->crc = crc32c(codec_crc_seed(id, frame_no), out, ret_entry->stored_bytes);
}

int64_t codec_encode(struct codec *codec, unsigned worker_no, int level, uint32_t frame_bytes,
		     const void *raw, uint32_t raw_bytes, const struct id *id, void *out,
		     struct frame_entry *ret_entries)
{
	uint8_t *at = out;
	for (uint32_t done = 0, frame_no = 0; done < raw_bytes; done += frame_bytes, frame_no++) {
		struct frame_entry *entry = &ret_entries[frame_no];
		codec_encode_frame(codec, worker_no, level, (const uint8_t *)raw + done,
				   (uint32_t)min_u64(frame_bytes, raw_bytes - done), id, frame_no,
				   at, entry);
		at += entry->stored_bytes;
	}
	return at - (uint8_t *)out;
}

bool codec_frame_whole(const struct id *id, unsigned frame_no, const struct frame_entry *entry,
		       const void *stored)
{
	return crc32c(codec_crc_seed(id, frame_no), stored, entry->stored_bytes) == entry->crc;
}

int codec_decode(struct codec *codec, unsigned worker_no, const struct frame_entry *entry,
		 unsigned frame_no, const struct id *id, const void *stored, void *raw,
		 uint32_t raw_bytes)
{
	assert(worker_no < codec->worker_count);
	if (!codec_frame_whole(id, frame_no, entry, stored) && !MUTANT(15))
		return -VS_ECHECKSUM;
	switch (entry->codec) {
	case FRAME_ZERO:
		memset(raw, 0, raw_bytes);
		return entry->stored_bytes == 0 ? 0 : -VS_EFORMAT;
	case FRAME_LOST:
		return entry->stored_bytes == 0 ? -VS_ELOST : -VS_EFORMAT;
	case FRAME_RAW:
		if (entry->stored_bytes != raw_bytes)
			return -VS_EFORMAT;
		memcpy(raw, stored, raw_bytes);
		return 0;
	case FRAME_ZSTD:
	case FRAME_PACKED:
		return ZSTD_decompressDCtx(codec->workers[worker_no].decompress, raw, raw_bytes,
					   stored, entry->stored_bytes) == raw_bytes
			       ? 0
			       : -VS_EFORMAT;
	default:
		return -VS_EFORMAT;
	}
}

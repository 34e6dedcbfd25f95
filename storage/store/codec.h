/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashing and compression: pure functions over buffers, run as jobs. The only place that knows
 * OpenSSL's digests and zstd.
 */
#ifndef STORAGE_STORE_CODEC_H
#define STORAGE_STORE_CODEC_H

#include "storage/store/id.h"

#include <stddef.h>

struct codec;

/* A domain's secret; ids of different domains never meet. */
struct domain_key {
	uint8_t key[64];
};

enum frame_codec {
	FRAME_RAW = 0,
	FRAME_ZSTD = 1,
	FRAME_ZERO = 2, /* no bytes stored */
	FRAME_LOST = 3, /* no bytes stored: nobody has them any more, reads of it fail */
	FRAME_PACKED =
		4, /* as FRAME_ZSTD; a higher level was tried, and is not worth another try */
};

#define QUARTER_COUNT (CHUNK_BYTES / QUARTER_BYTES)

struct frame_entry {
	uint32_t stored_bytes;
	uint32_t crc; /* of the stored bytes, seeded with the id and the frame's number */
	uint8_t codec;
};

/* One set of contexts for each worker number below worker_count. NULL: no memory. */
struct codec *codec_new(unsigned worker_count);
void codec_free(struct codec *codec);

/* SHA-256(key || SHA-256 of each 16 KiB quarter). Any thread. */
void codec_id_chunk(const struct domain_key *key, const void *chunk, struct id *ret_id);
/* The same in two steps: the quarters' hashes, and the id that they make. */
void codec_hash_quarter(const void *quarter, uint8_t ret_hash[32]);
/* All of a chunk's at once, up to twice as fast. */
void codec_hash_quarters(const void *chunk, uint8_t ret_hashes[QUARTER_COUNT][32]);
void codec_id_quarters(const struct domain_key *key, const uint8_t quarters[QUARTER_COUNT][32],
		       struct id *ret_id);
/* Of a chunk of which some 4 KiB blocks are lost (and hashed as zeros): SHA-256(key with each byte
 * xor 0x6a || the quarters' hashes || mask of what is lost, 64-bit little-endian). */
void codec_id_lost(const struct domain_key *key, const uint8_t quarters[QUARTER_COUNT][32],
		   uint16_t lost, struct id *ret_id);
/* SHA-256(key with each byte xor 0x5c || the node's bytes). */
void codec_id_node(const struct domain_key *key, const void *node, size_t bytes, struct id *ret_id);
/* SHA-256(key with each byte xor 0x36 || size, 64-bit little-endian || id of the map's top). */
void codec_id_root(const struct domain_key *key, uint64_t size_bytes, const struct id *top,
		   struct id *ret_id);
/* The first 16 bytes of SHA-256(key with each byte xor 0x6d). */
void codec_domain_uuid(const struct domain_key *key, uint8_t ret_uuid[16]);
/* The first 16 bytes of SHA-256(secret || a || b): the log's keyed checksum. */
void codec_keyed_check(const uint8_t secret[16], const void *a, size_t a_bytes, const void *b,
		       size_t b_bytes, uint8_t ret_check[16]);

bool codec_is_zero(const void *at, size_t bytes); /* a multiple of 64 */

/* What a frame's checksum starts from, so that a frame read from the wrong place fails. */
uint32_t codec_crc_seed(const struct id *id, unsigned frame_no);
/* The stored bytes are what the entry's checksum says; nothing is decoded. */
bool codec_frame_whole(const struct id *id, unsigned frame_no, const struct frame_entry *entry,
		       const void *stored);

/* The checksum of the same stored bytes under another seed, without looking at them: what did not
 * fit before does not fit after. bytes: at most CHUNK_BYTES. */
uint32_t codec_crc_move(uint32_t crc, uint32_t old_seed, uint32_t new_seed, uint32_t bytes);

/* Compresses raw_bytes in frames of frame_bytes each (the last may be shorter) into out, which has
 * room for codec_bound(raw_bytes). A frame that shrinks by less than 1/16 is stored raw. Returns
 * the bytes stored, fills one entry a frame. */
int64_t codec_encode(struct codec *codec, unsigned worker_no, int level, uint32_t frame_bytes,
		     const void *raw, uint32_t raw_bytes, const struct id *id, void *out,
		     struct frame_entry *ret_entries);
/* The same of one frame. */
void codec_encode_frame(struct codec *codec, unsigned worker_no, int level, const void *raw,
			uint32_t raw_bytes, const struct id *id, unsigned frame_no, void *out,
			struct frame_entry *ret_entry);
static inline uint32_t codec_bound(uint32_t raw_bytes)
{
	return raw_bytes + 512;
}
/* Decodes one frame; raw_bytes is its exact decoded size. The stored bytes are foreign:
 * -VS_ECHECKSUM, -VS_EFORMAT; -VS_ELOST: the frame is known to be lost. */
int codec_decode(struct codec *codec, unsigned worker_no, const struct frame_entry *entry,
		 unsigned frame_no, const struct id *id, const void *stored, void *raw,
		 uint32_t raw_bytes);

#endif

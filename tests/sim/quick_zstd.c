/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world's data is runs of equal words, and zstd took a third of a seed's time with
 * it: these take the place of the library's functions where they are linked in, and know runs of
 * words only. What does not become smaller is refused, as there; foreign bytes are checked, as
 * there. The real library is tested by tests/unit, the fuzz targets, and all that runs on real
 * files.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define RUN_MAX 255u
#define RUN_MAX_FAST 60u /* at low levels, so that a higher one finds something */
#define RUN_BYTES 9u	 /* a count of words and the word */
#define TOO_SMALL ((size_t)-70)
#define CORRUPT ((size_t)-20)

struct ZSTD_CCtx_s {
	int level;
};
struct ZSTD_DCtx_s {
	int unused;
};

ZSTD_CCtx *ZSTD_createCCtx(void)
{
	return calloc(1, sizeof(ZSTD_CCtx));
}
ZSTD_DCtx *ZSTD_createDCtx(void)
{
	return calloc(1, sizeof(ZSTD_DCtx));
}
size_t ZSTD_freeCCtx(ZSTD_CCtx *context)
{
	free(context);
	return 0;
}
size_t ZSTD_freeDCtx(ZSTD_DCtx *context)
{
	free(context);
	return 0;
}
size_t ZSTD_CCtx_setParameter(ZSTD_CCtx *context, ZSTD_cParameter parameter, int value)
{
	if (parameter == ZSTD_c_compressionLevel)
		context->level = value;
	return 0;
}
unsigned ZSTD_isError(size_t result)
{
	return result > (size_t)-128;
}

/* Of whole words: frames are. */
size_t ZSTD_compress2(ZSTD_CCtx *context, void *to, size_t room, const void *from, size_t bytes)
{
	const uint8_t *at = from, *end = at + bytes;
	uint8_t *out = to;
	unsigned run_max = context->level < 9 ? RUN_MAX_FAST : RUN_MAX;
	while (at < end) {
		uint64_t word, next;
		unsigned count = 1;
		memcpy(&word, at, 8);
		for (at += 8; at < end && count < run_max; at += 8, count++) {
			memcpy(&next, at, 8);
			if (next != word)
				break;
		}
		if ((size_t)(out - (uint8_t *)to) + RUN_BYTES > room)
			return TOO_SMALL;
		*out = (uint8_t)count;
		memcpy(out + 1, &word, 8);
		out += RUN_BYTES;
	}
	return (size_t)(out - (uint8_t *)to);
}

size_t ZSTD_decompressDCtx(ZSTD_DCtx *context, void *to, size_t room, const void *from,
			   size_t bytes)
{
	const uint8_t *at = from;
	uint8_t *out = to;
	if (bytes % RUN_BYTES)
		return CORRUPT;
	for (; bytes; bytes -= RUN_BYTES, at += RUN_BYTES) {
		uint64_t word;
		if (*at * 8u > room)
			return CORRUPT;
		room -= *at * 8u;
		memcpy(&word, at + 1, 8);
		for (unsigned i = 0; i < *at; i++, out += 8)
			memcpy(out, &word, 8);
	}
	return (size_t)(out - (uint8_t *)to);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): with SSE 4.2 three streams at once, else a table. */
#ifndef PROTO_CRC32C_H
#define PROTO_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `seed` (0 to start) over `bytes` bytes; pre- and post-inverted. Any thread. */
uint32_t crc32c(uint32_t seed, const void *buf, size_t bytes);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What people write and read: sizes, durations, names, UUIDs. libc only, any thread. */
#ifndef PROTO_TEXT_H
#define PROTO_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "10G", "512M", "4096": powers of 1024, suffixes K M G T (also k m g t, and KiB ...). -EINVAL,
 * -ERANGE; *ret_bytes untouched then. */
int text_size(const char *text, uint64_t *ret_bytes);

/* "30s", "5m", "2h", "7d", "500ms". -EINVAL, -ERANGE. */
int text_duration(const char *text, uint64_t *ret_ns);

/* [a-zA-Z0-9][a-zA-Z0-9._-]{0,62}, of `bytes` bytes, no terminator needed. */
bool text_name_ok(const char *name, size_t bytes);
/* The same, or HOST/NAME: what a copy of another host's volume is called. */
bool text_volume_ok(const char *name, size_t bytes);

/* ADDRESS:PORT in numbers, 1.2.3.4:7410 or [fd00::1]:7410, with a port from 1 to 65535. */
bool text_address_ok(const char *address);

/* Writes "1.5 GiB" like text; returns `out`. */
char *text_human(uint64_t bytes, char *out, size_t out_bytes);

/* 36 characters and a terminator. */
#define UUID_TEXT_BYTES 37
void text_uuid(const uint8_t uuid[16], char out[UUID_TEXT_BYTES]);
int text_uuid_parse(const char *text, uint8_t ret_uuid[16]);

/* Lower-case hex of `bytes` bytes into out (2 * bytes + 1). */
void text_hex(const void *from, size_t bytes, char *out);

/* RFC 3339 in UTC, seconds: "2026-11-24T07:41:11Z" (21 with terminator). */
#define TIME_TEXT_BYTES 32
void text_time(uint64_t wall_ns, char out[TIME_TEXT_BYTES]);
/* A day ("2036-01-31", its start in UTC) or RFC 3339 with Z or an offset. -EINVAL. */
int text_time_parse(const char *text, uint64_t *ret_wall_ns);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, durations, names, UUIDs and times, as people write them. Outputs are untouched on failure.
 */
#include "proto/text.h"

#include "proto/units.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Digits at *at, at least one; moves *at behind them. */
static int text_number(const char **at, uint64_t *ret)
{
	uint64_t value = 0;
	if (!isdigit((unsigned char)**at))
		return -EINVAL;
	for (; isdigit((unsigned char)**at); (*at)++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(**at - '0'), &value))
			return -ERANGE;
	*ret = value;
	return 0;
}

int text_size(const char *text, uint64_t *ret_bytes)
{
	static const char units[] = "KMGT";
	uint64_t value, factor = 1;
	int res = text_number(&text, &value);
	if (res < 0)
		return res;
	if (*text) {
		const char *unit = strchr(units, toupper((unsigned char)*text));
		if (!unit)
			return -EINVAL;
		factor = KIB << (10 * (unit - units));
		text++;
		if (strcmp(text, "iB") == 0 || strcmp(text, "B") == 0)
			text += strlen(text);
	}
	if (*text)
		return -EINVAL;
	if (__builtin_mul_overflow(value, factor, &value))
		return -ERANGE;
	*ret_bytes = value;
	return 0;
}

int text_duration(const char *text, uint64_t *ret_ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = {
		{"ms", NSEC_PER_MSEC},	    {"s", NSEC_PER_SEC},	 {"m", 60 * NSEC_PER_SEC},
		{"h", 3600 * NSEC_PER_SEC}, {"d", 86400 * NSEC_PER_SEC},
	};
	uint64_t value;
	int res = text_number(&text, &value);
	if (res < 0)
		return res;
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
		if (strcmp(text, units[i].unit) != 0)
			continue;
		if (__builtin_mul_overflow(value, units[i].ns, &value))
			return -ERANGE;
		*ret_ns = value;
		return 0;
	}
	return -EINVAL;
}

bool text_name_ok(const char *name, size_t bytes)
{
	if (bytes == 0 || bytes > NAME_BYTES_MAX)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)name[i];
		bool plain =
			(c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (!plain && (i == 0 || (c != '.' && c != '_' && c != '-')))
			return false;
	}
	return true;
}

bool text_volume_ok(const char *name, size_t bytes)
{
	const char *slash = memchr(name, '/', bytes);
	if (!slash)
		return text_name_ok(name, bytes);
	size_t host_bytes = (size_t)(slash - name);
	return text_name_ok(name, host_bytes) && text_name_ok(slash + 1, bytes - host_bytes - 1);
}

/* getaddrinfo would take 99999 for a port, and mean another. */
bool text_address_ok(const char *address)
{
	char host[INET6_ADDRSTRLEN + 20]; /* and a zone: %eth0 */
	struct in6_addr number;
	const char *colon = strrchr(address, ':');
	const char *digits = colon ? colon + 1 : "";
	size_t bytes = colon ? (size_t)(colon - address) : 0;
	unsigned port = 0;
	if (bytes >= 2 && address[0] == '[' && colon[-1] == ']') {
		address++;
		bytes -= 2;
	}
	if (bytes == 0 || bytes >= sizeof host || strlen(digits) > 5 ||
	    strspn(digits, "0123456789") != strlen(digits))
		return false;
	for (; *digits; digits++)
		port = port * 10 + (unsigned)(*digits - '0');
	memcpy(host, address, bytes);
	host[bytes] = 0;
	if (port == 0 || port > UINT16_MAX)
		return false;
	if (inet_pton(AF_INET, host, &number) == 1)
		return true;
	host[strcspn(host, "%")] = 0;
	return inet_pton(AF_INET6, host, &number) == 1;
}

char *text_human(uint64_t bytes, char *out, size_t out_bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned unit = 0;
	double value = (double)bytes;
	for (; value >= 1024 && unit < 6; unit++)
		value /= 1024;
	snprintf(out, out_bytes, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return out;
}

void text_hex(const void *from, size_t bytes, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *at = from;
	for (size_t i = 0; i < bytes; i++) {
		*out++ = digits[at[i] >> 4];
		*out++ = digits[at[i] & 15];
	}
	*out = 0;
}

static bool uuid_dash_at(size_t position)
{
	return position == 8 || position == 13 || position == 18 || position == 23;
}

void text_uuid(const uint8_t uuid[16], char out[UUID_TEXT_BYTES])
{
	char hex[33];
	const char *from = hex;
	text_hex(uuid, 16, hex);
	for (size_t i = 0; i < UUID_TEXT_BYTES - 1; i++)
		out[i] = uuid_dash_at(i) ? '-' : *from++;
	out[UUID_TEXT_BYTES - 1] = 0;
}

int text_uuid_parse(const char *text, uint8_t ret_uuid[16])
{
	uint8_t uuid[16] = {0};
	unsigned digit = 0;
	if (strlen(text) != UUID_TEXT_BYTES - 1)
		return -EINVAL;
	for (size_t i = 0; i < UUID_TEXT_BYTES - 1; i++) {
		unsigned char c = (unsigned char)text[i];
		if (uuid_dash_at(i)) {
			if (c != '-')
				return -EINVAL;
			continue;
		}
		if (!isxdigit(c))
			return -EINVAL;
		unsigned value =
			isdigit(c) ? (unsigned)(c - '0') : (unsigned)(tolower(c) - 'a') + 10;
		uuid[digit / 2] |= (uint8_t)(digit % 2 ? value : value << 4);
		digit++;
	}
	memcpy(ret_uuid, uuid, 16);
	return 0;
}

void text_time(uint64_t wall_ns, char out[TIME_TEXT_BYTES])
{
	time_t seconds = (time_t)(wall_ns / NSEC_PER_SEC);
	struct tm tm;
	gmtime_r(&seconds, &tm);
	strftime(out, TIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* Exactly two digits, not above max; -1 otherwise. */
static int text_two(const char *at, int max)
{
	if (!isdigit((unsigned char)at[0]) || !isdigit((unsigned char)at[1]))
		return -1;
	int value = (at[0] - '0') * 10 + at[1] - '0';
	return value <= max ? value : -1;
}

int text_time_parse(const char *text, uint64_t *ret_wall_ns)
{
	struct tm tm = {0};
	size_t bytes = strlen(text);
	long offset = 0;
	if (bytes < 10 || text[4] != '-' || text[7] != '-')
		return -EINVAL;
	int century = text_two(text, 99), year = text_two(text + 2, 99);
	int month = text_two(text + 5, 12), day = text_two(text + 8, 31);
	if (century < 19 || year < 0 || month < 1 || day < 1)
		return -EINVAL;
	tm.tm_year = century * 100 + year - 1900;
	tm.tm_mon = month - 1;
	tm.tm_mday = day;
	if (bytes > 10) {
		if (bytes < 20 || text[10] != 'T' || text[13] != ':' || text[16] != ':')
			return -EINVAL;
		tm.tm_hour = text_two(text + 11, 23);
		tm.tm_min = text_two(text + 14, 59);
		tm.tm_sec = text_two(text + 17, 59);
		if (tm.tm_hour < 0 || tm.tm_min < 0 || tm.tm_sec < 0)
			return -EINVAL;
		const char *zone = text + 19;
		if ((*zone == '+' || *zone == '-') && strlen(zone) == 6 && zone[3] == ':') {
			int hours = text_two(zone + 1, 23), minutes = text_two(zone + 4, 59);
			if (hours < 0 || minutes < 0)
				return -EINVAL;
			offset = (hours * 60L + minutes) * 60 * (*zone == '-' ? -1 : 1);
		} else if (strcmp(zone, "Z") != 0) {
			return -EINVAL;
		}
	}
	struct tm given = tm;
	time_t seconds = timegm(&tm);
	if (tm.tm_mday != given.tm_mday || tm.tm_mon != given.tm_mon) /* the 31st of February */
		return -EINVAL;
	if (seconds - offset < 0 || (uint64_t)(seconds - offset) > UINT64_MAX / NSEC_PER_SEC)
		return -EINVAL; /* the year 2554 is the last that can be said in nanoseconds */
	*ret_wall_ns = (uint64_t)(seconds - offset) * NSEC_PER_SEC;
	return 0;
}

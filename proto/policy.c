/* SPDX-License-Identifier: Apache-2.0 */
/* Policies, see policy.h. */
#include "proto/policy.h"

#include "proto/text.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define PLAIN_BYTES 104u /* of one that sends nothing */
#define NAME_ROOM_BYTES (NAME_BYTES_MAX + 1)
static_assert(POLICY_BYTES_MAX == PLAIN_BYTES + 8 + POLICY_HOSTS_MAX * NAME_ROOM_BYTES, "");

/* Names, each once, the empty ones last. */
static bool hosts_good(const char hosts[POLICY_HOSTS_MAX][NAME_ROOM_BYTES])
{
	for (unsigned i = 0; i < POLICY_HOSTS_MAX; i++) {
		if (!memchr(hosts[i], 0, NAME_ROOM_BYTES) ||
		    (hosts[i][0] && !text_name_ok(hosts[i], strlen(hosts[i]))))
			return false;
		for (unsigned k = 0; k < i; k++)
			if (hosts[i][0] && (!hosts[k][0] || strcmp(hosts[i], hosts[k]) == 0))
				return false;
	}
	return true;
}

int policy_check(const struct named_policy *policy, char ret_sentence[SENTENCE_BYTES])
{
	const struct policy_rules *rules = &policy->rules;
	size_t name_bytes = strnlen(policy->name, NAME_ROOM_BYTES);
	if (name_bytes > POLICY_NAME_BYTES_MAX || !text_name_ok(policy->name, name_bytes))
		snprintf(ret_sentence, SENTENCE_BYTES,
			 "'%.63s' cannot be a policy's name: use letters, digits, dots, dashes and "
			 "underscores, at most %u.",
			 policy->name, POLICY_NAME_BYTES_MAX);
	else if (rules->every_ns && rules->every_ns < 60 * NSEC_PER_SEC)
		snprintf(ret_sentence, SENTENCE_BYTES,
			 "Snapshots every %llu seconds are too many: give at least a minute.",
			 (unsigned long long)(rules->every_ns / NSEC_PER_SEC));
	else if (rules->every_ns > POLICY_EVERY_NS_MAX)
		snprintf(ret_sentence, SENTENCE_BYTES,
			 "Snapshots are taken at least once a year, or not by themselves.");
	else if (!hosts_good(rules->send_to) || !window_good(&rules->window))
		snprintf(ret_sentence, SENTENCE_BYTES,
			 "A policy sends to at most %u hosts, each named once.", POLICY_HOSTS_MAX);
	else if (!rules->send_to[0][0] && (rules->rate_bytes || !window_always(&rules->window)))
		snprintf(ret_sentence, SENTENCE_BYTES,
			 "A limit or hours (--limit, --window) are for what is sent: say where to "
			 "with --send-to.");
	else
		return 0;
	return -EINVAL;
}

bool policy_same(const struct named_policy *a, const struct named_policy *b)
{
	uint8_t bytes[2][POLICY_BYTES_MAX] = {0};
	struct cursor ca = cursor_over(bytes[0], sizeof bytes[0]);
	struct cursor cb = cursor_over(bytes[1], sizeof bytes[1]);
	policy_put(&ca, a);
	policy_put(&cb, b);
	return memcmp(bytes[0], bytes[1], sizeof bytes[0]) == 0;
}

/* ---- bytes ---- */

uint32_t policy_bytes(const struct policy_rules *rules)
{
	return rules->send_to[0][0] ? POLICY_BYTES_MAX : PLAIN_BYTES;
}

static void name_put(struct cursor *c, const char *name)
{
	size_t bytes = strnlen(name, NAME_BYTES_MAX);
	put_bytes(c, name, bytes);
	put_zeros(c, NAME_ROOM_BYTES - bytes);
}

void policy_put(struct cursor *c, const struct named_policy *policy)
{
	const struct policy_rules *rules = &policy->rules;
	name_put(c, policy->name);
	put_u64(c, rules->every_ns);
	for (unsigned i = 0; i < POLICY_KEEPS; i++)
		put_u32(c, rules->keep[i]);
	put_u64(c, rules->rate_bytes);
	if (!rules->send_to[0][0])
		return;
	put_u16(c, rules->window.from);
	put_u16(c, rules->window.until);
	put_u32(c, 0);
	for (unsigned i = 0; i < POLICY_HOSTS_MAX; i++)
		name_put(c, rules->send_to[i]);
}

/* Of one without an end all is kept, for who refuses it. */
static void name_get(struct cursor *c, char ret[NAME_ROOM_BYTES])
{
	get_bytes(c, ret, NAME_ROOM_BYTES);
	size_t bytes = strnlen(ret, NAME_ROOM_BYTES);
	memset(ret + bytes, 0, NAME_ROOM_BYTES - bytes);
}

bool policy_get(struct cursor *c, struct named_policy *ret)
{
	struct named_policy policy = {0};
	struct policy_rules *rules = &policy.rules;
	bool sends;
	name_get(c, policy.name);
	rules->every_ns = get_u64(c);
	for (unsigned i = 0; i < POLICY_KEEPS; i++)
		rules->keep[i] = get_u32(c);
	rules->rate_bytes = get_u64(c);
	if ((sends = cursor_left(c))) {
		rules->window.from = get_u16(c);
		rules->window.until = get_u16(c);
		get_u32(c);
		for (unsigned i = 0; i < POLICY_HOSTS_MAX; i++)
			name_get(c, rules->send_to[i]);
	}
	if (c->failed || cursor_left(c) || sends != (rules->send_to[0][0] != 0) ||
	    !window_good(&rules->window) || !hosts_good(rules->send_to) ||
	    !memchr(policy.name, 0, NAME_ROOM_BYTES) ||
	    !text_name_ok(policy.name, strlen(policy.name)))
		return false;
	*ret = policy;
	return true;
}

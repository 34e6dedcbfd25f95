/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs about other hosts: peers, domains, and copies of snapshots. */
#include "agent/ctl/verbs.h"

#include "agent/ctl/call.h"
#include "agent/ctl/names.h"
#include "agent/ctl/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLICAS_MAX 16u

static int list(struct ctl *ctl, const char *path, const struct table *table)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, path, &document);
	return res ? res : table_print_list(ctl, table, document);
}

int verb_peer_list(struct ctl *ctl)
{
	return list(ctl, "/v1/peers", &table_peers);
}

int verb_domain_list(struct ctl *ctl)
{
	return list(ctl, "/v1/domains", &table_domains);
}

/* What we send, and, for a person, what policies send, and what we are sent. */
int verb_replica_status(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/replicas", &document);
	bool chosen = ctl->columns || ctl->filter || ctl->sort; /* of the first table */
	if (res)
		return res;
	if (ctl->format == FORMAT_JSON && !chosen) {
		table_print_json(document);
		return CTL_OK;
	}
	res = table_print_list(ctl, &table_replicas, document);
	if (res || chosen || (ctl->format != FORMAT_TABLE && ctl->format != FORMAT_WIDE))
		return res;
	const struct table *more[] = {&table_shipped, &table_received};
	for (unsigned i = 0; i < 2 && res == 0; i++) {
		if (!value_count(value_get(document, more[i]->key)))
			continue;
		putchar('\n');
		res = table_print_list(ctl, more[i], document);
	}
	return res;
}

int verb_witness_list(struct ctl *ctl)
{
	return list(ctl, "/v1/voters", &table_voters);
}

int verb_replica_transfers(struct ctl *ctl)
{
	return list(ctl, "/v1/transfers", &table_transfers);
}

int verb_peer_add(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[512];
	VALUE_AUTO body = value_object();
	int res = name_check(ctl, ctl->args[0]);
	if (res)
		return res;
	value_set_text(body, "address", ctl->args[1]);
	snprintf(words, sizeof words,
		 "%.63s is known at %.127s; what is sent there brings its domain's key along.",
		 ctl->args[0], ctl->args[1]);
	const struct call_change change = {
		.method = "PUT",
		.path = client_path(path, "/v1/peers/", ctl->args[0], ""),
		.body = body,
		.done = words};
	return call_change(ctl, &change, NULL);
}

int verb_peer_show(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/peers", &document);
	const struct value *peers = value_get(document, table_peers.key);
	if (res)
		return res;
	for (size_t i = 0; i < value_count(peers); i++) {
		const struct value *peer = value_at(peers, i);
		if (strcmp(value_get_text(peer, "name"), ctl->args[0]) == 0) {
			VALUE_AUTO one = value_object();
			value_set_integer(one, "schema", 1);
			value_set(one, "object", value_ref(peer));
			return table_print_one(ctl, &table_peers, peer, one);
		}
	}
	return ctl_fail(ctl, CTL_NOT_FOUND,
			"There is no peer '%.63s'; vstorectl peer list shows those that are.",
			ctl->args[0]);
}

int verb_peer_delete(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[256];
	int res;
	if (!ctl_confirm(ctl, ctl->args[0], "Nothing is sent to that host any more.", &res))
		return res;
	snprintf(words, sizeof words, "%.63s is forgotten; its copies stay there.", ctl->args[0]);
	const struct call_change change = {
		.method = "DELETE",
		.path = client_path(path, "/v1/peers/", ctl->args[0], ""),
		.done = words};
	return call_change(ctl, &change, NULL);
}

int verb_replica_send(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[512];
	const char *limit = ctl_option(ctl, "limit");
	uint64_t rate_bytes = 0;
	VALUE_AUTO body = value_object();
	int res = name_check_snapshot(ctl, ctl->args[0]);
	if (res == 0)
		res = name_check(ctl, ctl->args[1]);
	if (res == 0 && limit)
		res = size_parse(ctl, limit, &rate_bytes);
	if (res)
		return res;
	value_set_text(body, "host", ctl->args[1]);
	if (rate_bytes)
		value_set_integer(body, "rate_bytes", (int64_t)rate_bytes);
	snprintf(words, sizeof words, "%.127s is on %.63s.", ctl->args[0], ctl->args[1]);
	const struct call_change change = {
		.method = "POST",
		.path = client_path(path, "/v1/snapshots/", ctl->args[0], "/send"),
		.body = body,
		.wait_as_job = true,
		.done = words};
	return call_change(ctl, &change, NULL);
}

/* /v1/volumes/VOL/KIND/HOST, whose host needs no escapes. */
static int host_path(const struct ctl *ctl, const char *kind, char path[CLIENT_PATH_ROOM])
{
	char tail[128];
	int res = name_check_either(ctl, ctl->args[0]);
	if (res == 0)
		res = name_check(ctl, ctl->args[1]);
	if (res)
		return res;
	snprintf(tail, sizeof tail, "/%s/%s", kind, ctl->args[1]);
	client_path(path, "/v1/volumes/", ctl->args[0], tail);
	return 0;
}

int verb_replica_add(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[512];
	const char *lag = ctl_option(ctl, "max-lag"), *lag_bytes = ctl_option(ctl, "max-lag-bytes");
	const char *limit = ctl_option(ctl, "limit"), *window = ctl_option(ctl, "window");
	int64_t lag_seconds = 0;
	uint64_t bytes = 0, rate_bytes = 0;
	VALUE_AUTO body = value_object();
	int res = host_path(ctl, "replicas", path);
	if (res == 0 && lag)
		res = seconds_parse(ctl, lag, &lag_seconds);
	if (res == 0 && lag && lag_seconds == 0)
		res = ctl_fail(ctl, CTL_USAGE,
			       "A copy is always a little behind: --max-lag is 1s or more.");
	if (res == 0 && lag_bytes)
		res = size_parse(ctl, lag_bytes, &bytes);
	if (res == 0 && limit)
		res = size_parse(ctl, limit, &rate_bytes);
	if (res == 0 && window)
		res = window_check(ctl, window);
	if (res)
		return res;
	if (window)
		value_set_text(body, "window", window);
	if (ctl_option(ctl, "mode"))
		value_set_text(body, "mode", ctl_option(ctl, "mode"));
	if (ctl_option(ctl, "on-missing"))
		value_set_text(body, "on_missing", ctl_option(ctl, "on-missing"));
	if (lag)
		value_set_integer(body, "lag_seconds", lag_seconds);
	if (bytes)
		value_set_integer(body, "lag_bytes", (int64_t)bytes);
	if (rate_bytes)
		value_set_integer(body, "rate_bytes", (int64_t)rate_bytes);
	snprintf(words, sizeof words, "%.63s follows %.127s.", ctl->args[1], ctl->args[0]);
	const struct call_change change = {
		.method = "PUT", .path = path, .body = body, .done = words};
	return call_change(ctl, &change, NULL);
}

/* The only host that has a replica of the volume. */
static int only_replica(struct ctl *ctl, const char *volume, char ret_host[NAME_BYTES_MAX + 1])
{
	VALUE_AUTO document = NULL;
	unsigned found = 0;
	int res = call_get(ctl, "/v1/replicas", &document);
	const struct value *replicas = value_get(document, "replicas");
	for (size_t i = 0; res == 0 && i < value_count(replicas); i++) {
		const struct value *replica = value_at(replicas, i);
		if (strcmp(value_get_text(replica, "volume"), volume) != 0)
			continue;
		found++;
		snprintf(ret_host, NAME_BYTES_MAX + 1, "%s", value_get_text(replica, "host"));
	}
	if (res || found == 1)
		return res;
	if (found)
		return ctl_fail(ctl, CTL_USAGE,
				"%.127s has %u replicas: say which one with --to HOST.", volume,
				found);
	return ctl_fail(ctl, CTL_NOT_FOUND,
			"'%.127s' has no replica; vstorectl replica status shows those that are.",
			volume);
}

int verb_replica_set(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], tail[128], words[512], only[NAME_BYTES_MAX + 1];
	const char *limit = ctl_option(ctl, "limit"), *window = ctl_option(ctl, "window");
	const char *host = ctl_option(ctl, "to");
	uint64_t rate_bytes = 0;
	VALUE_AUTO body = value_object();
	int res = name_check_either(ctl, ctl->args[0]);
	if (res == 0 && !limit && !window)
		res = ctl_fail(
			ctl, CTL_USAGE,
			"Say what is to change: --limit SIZE, --window HH:MM-HH:MM, or both.");
	if (res == 0 && limit)
		res = size_parse(ctl, limit, &rate_bytes);
	if (res == 0 && window)
		res = window_check(ctl, window);
	if (res == 0)
		res = host ? name_check(ctl, host) : only_replica(ctl, ctl->args[0], only);
	if (res)
		return res;
	host = host ? host : only;
	if (limit)
		value_set_integer(body, "rate_bytes", (int64_t)rate_bytes);
	if (window)
		value_set_text(body, "window", window);
	snprintf(tail, sizeof tail, "/replicas/%s", host);
	snprintf(words, sizeof words, "The replica of %.127s on %.63s is sent to as you said.",
		 ctl->args[0], host);
	const struct call_change change = {
		.method = "PATCH",
		.path = client_path(path, "/v1/volumes/", ctl->args[0], tail),
		.body = body,
		.done = words};
	return call_change(ctl, &change, NULL);
}

int replicas_choose(struct ctl *ctl, struct value **ret_peers, size_t *ret_count)
{
	const char *wanted = ctl_option(ctl, "replicas"), *mode = ctl_option(ctl, "mode");
	VALUE_AUTO document = NULL;
	char *end;
	*ret_count = 0;
	if (!wanted && !mode)
		return 0;
	if (mode && strcmp(mode, "sync") != 0 && strcmp(mode, "async") != 0)
		return ctl_fail(ctl, CTL_USAGE, "--mode is sync or async, not \"%.40s\".", mode);
	if (!wanted)
		return ctl_fail(ctl, CTL_USAGE,
				"--mode says how copies follow: how many, this one included? Say "
				"it with --replicas, such as --replicas 2.");
	unsigned long copies = strtoul(wanted, &end, 10);
	if (end == wanted || *end || wanted[0] == '-' || copies < 1 || copies > REPLICAS_MAX)
		return ctl_fail(ctl, CTL_USAGE,
				"\"%.40s\" is no number of copies: 1 (this one alone) to %u.",
				wanted, REPLICAS_MAX);
	if (copies == 1)
		return 0;
	if (ctl->async)
		return ctl_fail(
			ctl, CTL_USAGE,
			"--replicas needs the volume to be there first: leave --async out, or add "
			"hosts with 'vstorectl replica add' later.");
	int res = call_get(ctl, "/v1/peers", &document);
	if (res)
		return res;
	const struct value *peers = value_get(document, "peers");
	size_t count = value_count(peers);
	if (count < copies - 1)
		return ctl_fail(ctl, CTL_NOT_FOUND,
				"%lu copies need %lu other host%s, and this one knows %zu: add one "
				"with 'vstorectl peer add HOST ADDRESS'; nothing was created.",
				copies, copies - 1, copies == 2 ? "" : "s", count);
	*ret_peers = value_ref(peers);
	*ret_count = copies - 1;
	return 0;
}

int replicas_add(struct ctl *ctl, const char *volume, const struct value *peers, size_t count)
{
	char path[CLIENT_PATH_ROOM], tail[128];
	VALUE_AUTO body = value_object();
	if (ctl_option(ctl, "mode"))
		value_set_text(body, "mode", ctl_option(ctl, "mode"));
	char *text = value_dump(body, false);
	int res = text ? 0 : CTL_FAILED;
	for (size_t i = 0; i < count && res == 0; i++) {
		struct client_reply reply;
		snprintf(tail, sizeof tail, "/replicas/%s",
			 value_get_text(value_at(peers, i), "name"));
		const struct client_request request = {
			.method = "PUT",
			.path = client_path(path, "/v1/volumes/", volume, tail),
			.body = text,
			.timeout_ms = -1};
		res = call_raw(ctl, &request, &reply);
		if (res)
			break;
		if (reply.status >= 300)
			res = call_error(ctl, &reply);
		free(reply.body);
	}
	free(text);
	return res ? CTL_PARTLY : 0; /* the volume is there */
}

int verb_replica_remove(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[512];
	int res = host_path(ctl, "replicas", path);
	if (res)
		return res;
	snprintf(words, sizeof words, "%.63s follows %.127s no more; its copy stays there.",
		 ctl->args[1], ctl->args[0]);
	const struct call_change change = {.method = "DELETE", .path = path, .done = words};
	return call_change(ctl, &change, NULL);
}

int verb_witness_add(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[512];
	int res = host_path(ctl, "witnesses", path);
	if (res)
		return res;
	snprintf(words, sizeof words, "%.63s is a witness of %.127s.", ctl->args[1], ctl->args[0]);
	const struct call_change change = {.method = "PUT", .path = path, .done = words};
	return call_change(ctl, &change, NULL);
}

int verb_witness_remove(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[512];
	VALUE_AUTO body = value_object();
	int res = host_path(ctl, "witnesses", path);
	if (res)
		return res;
	if (ctl_option(ctl, "accept-loss"))
		value_set_bool(body, "accept_loss", true);
	snprintf(words, sizeof words, "%.63s is no witness of %.127s any more.", ctl->args[1],
		 ctl->args[0]);
	const struct call_change change = {
		.method = "DELETE", .path = path, .body = body, .done = words};
	return call_change(ctl, &change, NULL);
}

/* A copy becomes a volume here, by the verb that `what` names and with what `body` says. */
static int become_volume(struct ctl *ctl, const char *what, struct value *body)
{
	char path[CLIENT_PATH_ROOM], words[512];
	const char *as = ctl_option(ctl, "as"), *slash = strchr(ctl->args[0], '/');
	int res = name_check_either(ctl, ctl->args[0]);
	if (res == 0 && as)
		res = name_check(ctl, as);
	if (res)
		return res;
	if (as)
		value_set_text(body, "name", as);
	snprintf(words, sizeof words, "%.127s is a volume of this host now.",
		 as	 ? as
		 : slash ? slash + 1
			 : ctl->args[0]);
	const struct call_change change = {
		.method = "POST",
		.path = client_path(path, "/v1/volumes/", ctl->args[0], what),
		.body = body,
		.done = words};
	return call_change(ctl, &change, NULL);
}

int verb_replica_promote(struct ctl *ctl)
{
	char what[320];
	int res;
	VALUE_AUTO body = value_object();
	snprintf(what, sizeof what,
		 "%.127s becomes a volume of this host: what the host that it is a copy of writes "
		 "from now on is not taken any more.",
		 ctl->args[0]);
	if (!ctl_confirm(ctl, ctl->args[0], what, &res))
		return res;
	if (ctl_option(ctl, "accept-loss"))
		value_set_bool(body, "accept_loss", true);
	return become_volume(ctl, "/promote", body);
}

int verb_replica_recover(struct ctl *ctl)
{
	VALUE_AUTO body = value_object();
	return become_volume(ctl, "/recover", body);
}

/* The volumes here that are copies of another host's. */
int verb_replica_list(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/volumes", &document);
	if (res)
		return res;
	VALUE_AUTO shown = value_object();
	struct value *rows = value_array();
	const struct value *volumes = value_get(document, "volumes");
	for (size_t i = 0; i < value_count(volumes); i++)
		if (value_true(value_get(value_at(volumes, i), "replica")))
			value_append(rows, value_ref(value_at(volumes, i)));
	value_set(shown, "volumes", rows);
	return table_print_list(ctl, &table_volumes, shown);
}

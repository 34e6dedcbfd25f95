/* SPDX-License-Identifier: Apache-2.0 */
/* The API's part about policies: rules, which volumes have them, what they would do, and running
 * one now. */
#include "storage/daemon/call.h"

#include "storage/daemon/policies.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const keep_keys[POLICY_KEEPS] = {"keep_last",   "keep_hourly",  "keep_daily",
						    "keep_weekly", "keep_monthly", "keep_yearly"};

static json_t *policy_json(const struct daemon *daemon, const struct policy_info *policy)
{
	struct volume_info *volumes;
	size_t count;
	json_t *names = json_array();
	if (store_volumes(daemon->store, false, &volumes, &count) == 0) {
		for (size_t i = 0; i < count; i++)
			if (volumes[i].policy == policy->number)
				json_array_append_new(names, json_string(volumes[i].name));
		free(volumes);
	}
	json_t *out =
		json_pack("{s:s, s:I, s:I, s:o}", "name", policy->name, "number",
			  (json_int_t)policy->number, "every_seconds",
			  (json_int_t)(policy->rules.every_ns / NSEC_PER_SEC), "volumes", names);
	for (unsigned i = 0; i < POLICY_KEEPS; i++)
		json_object_set_new(out, keep_keys[i], json_integer(policy->rules.keep[i]));
	char hours[WINDOW_TEXT_BYTES];
	json_t *hosts = json_array();
	window_text(&policy->rules.window, hours);
	for (unsigned i = 0; i < POLICY_HOSTS_MAX && policy->rules.send_to[i][0]; i++)
		json_array_append_new(hosts, json_string(policy->rules.send_to[i]));
	json_object_set_new(out, "send_to", hosts);
	json_object_set_new(out, "rate_bytes", json_integer((json_int_t)policy->rules.rate_bytes));
	json_object_set_new(out, "window", json_string(hours));
	return out;
}

/* False: there is none with this name, and that was said. */
static bool call_policy(struct call *call, struct policy_info *ret_policy)
{
	struct policy_info *list;
	size_t count;
	bool found = false;
	char sentence[SENTENCE_BYTES];
	if (store_policies(call->daemon->store, &list, &count) == 0) {
		for (size_t i = 0; i < count && !found; i++)
			if (strcmp(list[i].name, call->args[0]) == 0) {
				*ret_policy = list[i];
				found = true;
			}
		free(list);
	}
	if (found)
		return true;
	snprintf(sentence, sizeof sentence,
		 "There is no policy named '%s'; vstorectl policy list shows those that are.",
		 call->args[0]);
	call_refuse(call, -ENOENT, sentence);
	return false;
}

void policy_list(struct call *call)
{
	struct policy_info *list;
	size_t count;
	json_t *array = json_array();
	if (store_policies(call->daemon->store, &list, &count) == 0) {
		for (size_t i = 0; i < count; i++)
			json_array_append_new(array, policy_json(call->daemon, &list[i]));
		free(list);
	}
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "policies", array));
}

void policy_show(struct call *call)
{
	struct policy_info policy;
	if (!call_policy(call, &policy))
		return;
	json_t *out = policy_json(call->daemon, &policy);
	json_object_set_new(out, "schema", json_integer(1));
	call_reply(call, 200, out);
}

/* Where to, how fast, when. False: refused. */
static bool sends_set(struct call *call, struct policy_rules *rules)
{
	const json_t *hosts = json_object_get(call->body, "send_to");
	size_t count = json_array_size(hosts);
	rules->rate_bytes = body_number(call, "rate_bytes");
	if (!body_window(call, &rules->window))
		return false;
	if (count > POLICY_HOSTS_MAX) {
		call_refuse(call, -EINVAL, "A policy sends to at most 3 hosts.");
		return false;
	}
	if (count && !call->daemon->replicas) {
		call_refuse(
			call, -ENOTCONN,
			"This vstored has no certificate, so it can send nothing: start it with "
			"--tls DIR, made by 'vstorectl pki issue'.");
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		const char *host = json_string_value(json_array_get(hosts, i));
		if (!host || !host[0] || strlen(host) >= NAME_ROOM) {
			call_refuse(call, -EINVAL,
				    "'send_to' has something that is no host's name.");
			return false;
		}
		memcpy(rules->send_to[i], host, strlen(host));
	}
	return true;
}

void policy_set(struct call *call)
{
	struct policy_rules rules = {0};
	uint64_t seconds = body_number(call, "every_seconds"), all = 0;
	for (unsigned i = 0; i < POLICY_KEEPS; i++) {
		uint64_t keep = body_number(call, keep_keys[i]);
		rules.keep[i] = (uint32_t)min_u64(keep, UINT32_MAX);
		all += rules.keep[i];
	}
	if (seconds > POLICY_EVERY_NS_MAX / NSEC_PER_SEC) {
		call_refuse(call, -EINVAL, "'every_seconds' must be at most a year.");
		return;
	}
	if (all == 0 && !json_is_true(json_object_get(call->body, "keep_nothing"))) {
		call_refuse(
			call, -VS_ERETAINED,
			"These rules keep nothing: every snapshot that the policy took would be "
			"removed. Give a number to keep, or say --yes (keep_nothing).");
		return;
	}
	rules.every_ns = seconds * NSEC_PER_SEC;
	if (!sends_set(call, &rules))
		return;
	call->rules = true;
	store_policy_set(call->daemon->store, change_begin(call, ""), call->args[0], &rules);
}

void policy_delete(struct call *call)
{
	store_policy_delete(call->daemon->store, change_begin(call, ""), call->args[0]);
}

void policy_attach(struct call *call)
{
	call->rules = true;
	store_policy_attach(call->daemon->store, change_begin(call, call->args[1]), call->args[1],
			    call->args[0]);
}

void policy_detach(struct call *call)
{
	struct policy_info policy;
	struct volume_info *volumes;
	size_t count;
	bool has = false;
	char sentence[SENTENCE_BYTES];
	if (!call_policy(call, &policy))
		return;
	if (store_volumes(call->daemon->store, false, &volumes, &count) == 0) {
		for (size_t i = 0; i < count; i++)
			has |= volumes[i].policy == policy.number &&
			       strcmp(volumes[i].name, call->args[1]) == 0;
		free(volumes);
	}
	if (!has) {
		snprintf(sentence, sizeof sentence, "There is no volume '%s' with the policy '%s'.",
			 call->args[1], call->args[0]);
		call_refuse(call, -ENOENT, sentence);
		return;
	}
	store_policy_attach(call->daemon->store, change_begin(call, call->args[1]), call->args[1],
			    "");
}

/* What a run now would do with one volume: the snapshot that it would take counts as the newest. */
static void plan_volume(struct call *call, const struct policy_info *policy,
			const struct volume_info *volume, const struct snapshot_brief *list,
			size_t list_count, json_t *rows)
{
	struct snapshot_brief taken = {.policy = policy->number,
				       .number = UINT32_MAX,
				       .created_wall_ns = env_wall_ns(call->daemon->env),
				       .name = "(new)"};
	size_t count;
	char name[SNAP_NAME_ROOM];
	struct retention_item *items = policies_items(list, list_count, volume->number, &count);
	if (!items)
		return;
	if (!policies_received(policy, volume)) {
		memmove(&items[1], &items[0], count++ * sizeof(*items)); /* there is room */
		items[0] = (struct retention_item){.snapshot = &taken};
	}
	policies_plan(call->daemon->env, policy, volume, items, count);
	for (size_t i = 0; i < count; i++) {
		const struct snapshot_brief *s = items[i].snapshot;
		snprintf(name, sizeof name, "%s@%s", volume->name, s->name);
		json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:o}", "snapshot", name,
						      "action", items[i].keep ? "keep" : "remove",
						      "rule", items[i].rule, "created",
						      time_json(s->created_wall_ns)));
	}
	free(items);
}

/* Of all its volumes; with ?volume=NAME of that one, as if it had the policy. */
void policy_plan(struct call *call)
{
	struct policy_info policy;
	struct volume_info *volumes = NULL;
	struct snapshot_brief *list = NULL;
	size_t count, list_count;
	const char *query = call->request->query;
	char one[API_ARG_ROOM] = "", sentence[SENTENCE_BYTES];
	bool found = false;
	if (!call_policy(call, &policy))
		return;
	if (strncmp(query, "volume=", 7) == 0 && !api_decode(query + 7, strlen(query + 7), one)) {
		call_refuse(call, -EINVAL, "'volume' in the query is no name.");
		return;
	}
	json_t *rows = json_array();
	if (store_volumes(call->daemon->store, false, &volumes, &count) == 0 &&
	    policies_list(call->daemon->store, &list, &list_count) == 0)
		for (size_t i = 0; i < count; i++)
			if (one[0] ? strcmp(volumes[i].name, one) == 0
				   : volumes[i].policy == policy.number) {
				plan_volume(call, &policy, &volumes[i], list, list_count, rows);
				found = true;
			}
	free(list);
	free(volumes);
	if (one[0] && !found) {
		json_decref(rows);
		snprintf(sentence, sizeof sentence,
			 "There is no volume named '%.63s'; vstorectl volume list shows those that "
			 "are.",
			 one);
		call_refuse(call, -ENOENT, sentence);
		return;
	}
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "plan", rows));
}

void policy_run(struct call *call)
{
	policies_run(call->daemon->policies, change_begin(call, ""), call->args[0]);
}

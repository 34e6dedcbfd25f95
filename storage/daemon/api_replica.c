/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API of other hosts: peers, snapshots that are sent to them, hosts that follow a volume, and
 * copies that become volumes.
 */
#include "storage/daemon/call.h"

#include "storage/daemon/copies.h"
#include "storage/daemon/follow.h"
#include "storage/daemon/ship.h"

#include "proto/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAG_SECONDS_DEFAULT 30u

/* ---- peers ---- */

void peer_list(struct call *call)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "peers", peers_json(call->daemon)));
}
void domain_list(struct call *call)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "domains", domains_json(call->daemon)));
}
void transfer_list(struct call *call)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "transfers", transfers_json(call->daemon)));
}

void peer_put(struct call *call)
{
	store_peer_add(call->daemon->store, change_begin(call, ""), call->args[0],
		       body_text(call, "address"));
}
void peer_delete(struct call *call)
{
	store_peer_delete(call->daemon->store, change_begin(call, ""), call->args[0]);
}

void snapshot_send(struct call *call)
{
	struct job *job;
	if (!call->daemon->replicas) {
		call_refuse(call, -ENOTCONN,
			    "This vstored has no certificate: start it with --tls DIR, made by "
			    "'vstorectl pki issue'.");
		return;
	}
	job = job_new(call->daemon, "send", call->args[0]);
	if (!job || replica_send(job, call->daemon, body_text(call, "host"),
				 body_number(call, "rate_bytes")) < 0) {
		if (job)
			job_end(job, -ENOMEM, "There is no memory for it.", "", NULL);
		call_refuse(call, -EBUSY, "Too many jobs run; wait for one, or cancel one.");
		return;
	}
	call_reply(call, 202, json_pack("{s:i, s:o}", "schema", 1, "job", job_json(job)));
}

/* ---- followers ---- */

/* Of a volume, this host's included, that are known to have what their rules say. */
static unsigned copies_of(const struct follow_state *states, size_t count, const char *volume)
{
	unsigned copies = 1;
	for (size_t i = 0; i < count; i++)
		copies += strcmp(states[i].info.volume, volume) == 0 && states[i].verified &&
			  !states[i].late && !states[i].info.left_out;
	return copies;
}

#define WAITS_BYTES 80
/* The hours of something that is sent, and that it waits for them, if it does. */
static void hours_text(const struct window *window, bool held, char hours[WINDOW_TEXT_BYTES],
		       char waits[WAITS_BYTES])
{
	window_text(window, hours);
	waits[0] = 0;
	if (held)
		snprintf(waits, WAITS_BYTES, "It waits for its hours, %s.", hours);
}

/* Nothing is lost and nothing is known are not the same. */
static json_t *if_known(const struct follow_state *state, uint64_t figure)
{
	return state->verified ? json_integer((json_int_t)figure) : json_null();
}

static json_t *state_json(const struct daemon *daemon, const struct follow_state *state,
			  unsigned copy_count)
{
	char taken[TIME_TEXT_BYTES] = "", oldest[TIME_TEXT_BYTES] = "", root[2 * ID_BYTES + 1] = "";
	if (state->verified)
		text_time(state->taken_wall_ns, taken);
	if (state->verified && !state->in_step) {
		text_hex(state->root, ID_BYTES, root);
	}
	if (state->verified && state->lag_ns)
		text_time(env_wall_ns(daemon->env) - state->lag_ns, oldest);
	/* What it is, in a word: that no flush waits for it, that all is there, that some is not,
	 * more than it may be, that it is not sent now, or that nothing is known. */
	char hours[WINDOW_TEXT_BYTES], waits[WAITS_BYTES];
	bool held = state->held && state->behind;
	hours_text(&state->info.rules.window, held, hours, waits);
	const char *word = state->info.left_out ? "left out"
			   : state->late	? "late"
			   : held		? "waits"
			   : !state->verified	? "unknown"
			   : state->in_step	? "in step"
			   : state->behind	? "behind"
						: "same";
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:b, s:I, s:I, s:I, "
			 "s:I, s:I, s:s, s:i, s:s, s:s, s:b, s:s, s:s}",
			 "volume", state->info.volume, "host", state->info.host, "mode",
			 state->info.rules.in_step ? "sync" : "async", "state", word, "verified",
			 taken, "verified_root", root, "verified_epoch", (json_int_t)state->epoch,
			 "verified_vseq", (json_int_t)state->vseq, "lag_seconds",
			 if_known(state, state->lag_ns / NSEC_PER_SEC), "lag_bytes",
			 if_known(state, state->lag_bytes), "sending", state->sending, "cuts",
			 (json_int_t)state->cuts, "sent_bytes", (json_int_t)state->sent_bytes,
			 "max_lag_seconds", (json_int_t)(state->info.rules.lag_ns / NSEC_PER_SEC),
			 "max_lag_bytes", (json_int_t)state->info.rules.lag_bytes, "rate_bytes",
			 (json_int_t)state->info.rules.rate_bytes, "error", state->sentence,
			 "copies", (int)copy_count, "oldest_unreplicated", oldest, "on_missing",
			 state->info.rules.degrade ? "degrade" : "wait", "comes_in_step",
			 state->info.rules.comes_in_step, "window", hours, "waits", waits);
}

static json_t *received_json(const struct daemon *daemon)
{
	struct copy_state *copies;
	size_t count;
	json_t *array = json_array();
	if (copies_states(daemon->store, env_wall_ns(daemon->env), &copies, &count) < 0)
		return array;
	for (size_t i = 0; i < count; i++) {
		char as_of[TIME_TEXT_BYTES] = "";
		if (copies[i].as_of_wall_ns)
			text_time(copies[i].as_of_wall_ns, as_of);
		json_array_append_new(array, json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "volume",
						       copies[i].name, "host", copies[i].host,
						       "state", copies[i].word, "as_of", as_of,
						       "epoch", (json_int_t)copies[i].epoch, "vseq",
						       (json_int_t)copies[i].vseq));
	}
	free(copies);
	return array;
}

/* What policies send: where to, and what is not there yet. */
static json_t *shipped_json(const struct daemon *daemon)
{
	struct ship_state *states;
	size_t count;
	json_t *array = json_array();
	if (ships_states(replicas_ships(daemon), &states, &count) < 0)
		return array;
	for (size_t i = 0; i < count; i++) {
		const struct ship_state *s = &states[i];
		char hours[WINDOW_TEXT_BYTES], waits[WAITS_BYTES];
		hours_text(&s->window, s->held, hours, waits);
		const char *word = s->late	? "late"
				   : s->held	? "waits"
				   : s->sending ? "sending"
				   : s->waiting ? "behind"
						: "same";
		json_array_append_new(
			array,
			json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:b, s:I, s:I, s:I, s:s, "
				  "s:s, s:s}",
				  "volume", s->volume, "host", s->host, "policy", s->policy,
				  "state", word, "waiting", (json_int_t)s->waiting, "lag_seconds",
				  (json_int_t)(s->waits_ns / NSEC_PER_SEC), "snapshot", s->snapshot,
				  "sending", s->sending, "snapshots_sent", (json_int_t)s->sent,
				  "sent_bytes", (json_int_t)s->sent_bytes, "rate_bytes",
				  (json_int_t)s->rate_bytes, "window", hours, "waits", waits,
				  "error", s->sentence));
	}
	free(states);
	return array;
}

void replica_list(struct call *call)
{
	struct follow_state *states;
	size_t count;
	json_t *array = json_array();
	if (follows_states(replicas_follows(call->daemon), &states, &count) == 0) {
		for (size_t i = 0; i < count; i++)
			json_array_append_new(
				array, state_json(call->daemon, &states[i],
						  copies_of(states, count, states[i].info.volume)));
		free(states);
	}
	call_reply(call, 200,
		   json_pack("{s:i, s:o, s:o, s:o}", "schema", 1, "replicas", array, "shipped",
			     shipped_json(call->daemon), "received", received_json(call->daemon)));
}

bool body_window(struct call *call, struct window *ret)
{
	char sentence[SENTENCE_BYTES];
	const char *text = body_text(call, "window");
	if (!text[0] || window_parse(text, ret) == 0)
		return true;
	snprintf(sentence, sizeof sentence,
		 "'%.40s' are no hours: write them like 22:00-06:00, by this host's local time, or "
		 "'always'.",
		 text);
	call_refuse(call, -EINVAL, sentence);
	return false;
}

void replica_set(struct call *call)
{
	uint64_t seconds = body_number(call, "lag_seconds");
	struct follower_rules rules = {.lag_bytes = body_number(call, "lag_bytes"),
				       .rate_bytes = body_number(call, "rate_bytes")};
	if (!call->daemon->replicas) {
		call_refuse(call, -ENOTCONN,
			    "This vstored has no certificate: start it with --tls DIR, made by "
			    "'vstorectl pki issue'.");
		return;
	}
	seconds = seconds ? min_u64(seconds, 365ull * 24 * 3600) : LAG_SECONDS_DEFAULT;
	rules.lag_ns = seconds * NSEC_PER_SEC;
	const char *mode = body_text(call, "mode");
	rules.in_step = strcmp(mode, "sync") == 0;
	if (mode[0] && !rules.in_step && strcmp(mode, "async") != 0) {
		call_refuse(call, -EINVAL, "'mode' must be sync or async.");
		return;
	}
	const char *missing = body_text(call, "on_missing");
	rules.degrade = strcmp(missing, "degrade") == 0;
	if (missing[0] && !rules.degrade && strcmp(missing, "wait") != 0) {
		call_refuse(call, -EINVAL, "'on_missing' must be wait or degrade.");
		return;
	}
	if (body_window(call, &rules.window))
		store_follower_set(call->daemon->store, change_begin(call, call->args[0]),
				   call->args[0], call->args[1], &rules);
}

void replica_pace(struct call *call)
{
	struct follower_pace pace = {.has_rate = json_object_get(call->body, "rate_bytes"),
				     .rate_bytes = body_number(call, "rate_bytes"),
				     .has_window = body_text(call, "window")[0]};
	if (!pace.has_rate && !pace.has_window)
		call_refuse(call, -EINVAL, "Say what changes: 'rate_bytes', 'window' or both.");
	else if (body_window(call, &pace.window))
		store_follower_pace(call->daemon->store, change_begin(call, call->args[0]),
				    call->args[0], call->args[1], &pace);
}

void replica_remove(struct call *call)
{
	store_follower_delete(call->daemon->store, change_begin(call, call->args[0]), call->args[0],
			      call->args[1]);
}

/* The name that a copy's volume has on its own host, unless another one is asked for. */
static const char *volume_name(const struct call *call)
{
	const char *name = body_text(call, "name"), *slash = strchr(call->args[0], '/');
	return name[0] ? name : slash ? slash + 1 : call->args[0];
}

void replica_recover(struct call *call)
{
	const char *name = volume_name(call);
	call->status = 201;
	call->rules = true; /* it may have a policy now */
	store_replica_adopt(call->daemon->store, change_begin(call, name), call->args[0], name);
}

/* A promotion that the voters are asked for. */
struct promoting {
	struct call *call;
	struct repl_election election;
	char copy[SNAP_NAME_ROOM], name[SNAP_NAME_ROOM];
};

static void elected(struct io_op *op)
{
	struct promoting *promoting = container_of(op, struct promoting, election.op);
	struct call *call = promoting->call;
	struct store *store = call->daemon->store;
	const struct repl_election *election = &promoting->election;
	struct admin_op *change = &call->op;
	if (op->res == 0) {
		store_replica_promote_voted(store, change, promoting->copy, promoting->name,
					    &election->word, election->base_term);
	} else {
		snprintf(change->sentence, SENTENCE_BYTES, "%s", election->sentence);
		env_complete(call->daemon->env, &change->op, op->res);
	}
	free(promoting);
}

/* False: there are no voters to ask. */
static bool promote_by_vote(struct call *call, const char *name)
{
	struct promoting *promoting = calloc(1, sizeof(*promoting));
	if (!promoting || !call->daemon->replicas) {
		free(promoting);
		return false;
	}
	struct repl_election *election = &promoting->election;
	int res = store_word_plan(call->daemon->store, call->args[0], &election->word,
				  &election->base_term, election->sentence);
	if (res < 0) {
		if (res != -ENOENT)
			call_refuse(call, res, election->sentence);
		free(promoting);
		return res != -ENOENT;
	}
	promoting->call = call;
	snprintf(promoting->copy, sizeof promoting->copy, "%s", call->args[0]);
	snprintf(promoting->name, sizeof promoting->name, "%s", name);
	election->op.done = elected;
	change_begin(call, name);
	replica_elect(call->daemon, election);
	return true;
}

void replica_promote(struct call *call)
{
	const char *name = volume_name(call);
	bool accept_loss = json_is_true(json_object_get(call->body, "accept_loss"));
	call->status = 201;
	if (!accept_loss && promote_by_vote(call, name))
		return;
	store_replica_promote(call->daemon->store, change_begin(call, name), call->args[0], name,
			      accept_loss);
}

/* ---- voters ---- */

void witness_set(struct call *call)
{
	store_witness_add(call->daemon->store, change_begin(call, call->args[0]), call->args[0],
			  call->args[1]);
}

void witness_remove(struct call *call)
{
	store_witness_delete(call->daemon->store, change_begin(call, call->args[0]), call->args[0],
			     call->args[1],
			     json_is_true(json_object_get(call->body, "accept_loss")));
}

/* What a voter says of a volume, and that volume's word. */
static json_t *voter_json(const char *volume, const struct voter_info *voter, const char *kind,
			  const struct store_word *word, bool stands)
{
	return json_pack("{s:s, s:s, s:s, s:b, s:b, s:b, s:b, s:I, s:I}", "volume", volume, "host",
			 voter->host, "kind", kind, "in_step", voter->in_step, "knows",
			 voter->heard, "agrees", voter->stands, "stands", stands, "term",
			 (json_int_t)word->term, "seq", (json_int_t)word->seq);
}

/* One of ours that has voters: this host, then the others. */
static void voters_add(const struct daemon *daemon, json_t *array, const struct voter_info *infos,
		       size_t count, uint32_t number)
{
	struct store_word word;
	struct volume_info volume;
	bool stands;
	if (store_volume_info(daemon->store, number, &volume) < 0 ||
	    store_word(daemon->store, number, &word, &stands) < 0)
		return;
	struct voter_info own = {.in_step = true, .heard = true, .stands = volume.answers};
	snprintf(own.host, sizeof own.host, "%s", word.voters[word.owner]);
	json_array_append_new(array, voter_json(volume.name, &own, "primary", &word, stands));
	for (size_t i = 0; i < count; i++)
		if (infos[i].volume_number == number && infos[i].voter)
			json_array_append_new(array, voter_json(volume.name, &infos[i],
								infos[i].copy ? "copy" : "witness",
								&word, stands));
}

void voter_list(struct call *call)
{
	struct voter_info *infos = NULL;
	struct volume_info *volumes = NULL;
	size_t count = 0, volume_count = 0;
	json_t *array = json_array();
	if (store_voters(call->daemon->store, &infos, &count) == 0 &&
	    store_volumes(call->daemon->store, false, &volumes, &volume_count) == 0)
		for (size_t i = 0; i < volume_count; i++)
			voters_add(call->daemon, array, infos, count, volumes[i].number);
	free(volumes);
	free(infos);
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "voters", array));
}

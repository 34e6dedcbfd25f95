/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Followers, see follow.h.
 *
 *     IDLE (-> LINE) -> CUT -> SEAL -> SEND -> DROP -> IDLE (-> JOIN -> IDLE)
 *
 * Each tick looks at each follower that is idle: if its volume has changed since the cut that the
 * follower has, for half of the time or by half of the bytes that it may lag behind, a new cut is
 * taken and sent; the other half is for the sending. A cut that did not get there is dropped, and
 * the next one has all that it had, so nothing piles up here and nothing pins the log. After a
 * start nothing is known, so a cut is sent at once; of what the follower has, nothing goes over.
 *
 * A follower in step gets what is written as it is written (repl_stream). It is asked first whether
 * it stands where the volume is; if not, the stream queues what is written while a cut is sent, and
 * goes on behind that. A stream that broke is made anew. Where it stands further, in the same
 * opening of the volume, a crash took writes here that it has: a new opening begins (LINE), from
 * which it takes the cut, for nobody was promised those writes.
 *
 * A follower may have hours of the day: outside of them nothing is sent to it, and what is on its
 * way is ended; what has arrived is not sent again. It is late when a day more than it may lag
 * behind is over, for the hours come once a day; the bytes are no bound then, but for when to send.
 *
 * Who was the primary before a promotion lags behind first, as nothing can wait for a host that is
 * away (comes_in_step). With the first cut that it has its rules change (JOIN): it is in step
 * again.
 *
 * Keeps true: "verified" is said of a root that the follower has published, or of writes
 * that it said to be durable, and of nothing else.
 */
#include "storage/daemon/follow.h"

#include "storage/daemon/cut_sweep.h"
#include "storage/daemon/retry.h"
#include "storage/rt/log_event.h"
#include "storage/store/store_transfer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_NS (NSEC_PER_SEC / 2)
#define DAY_NS (24 * 3600 * NSEC_PER_SEC)
#define ACTIVE_MAX 4u /* cuts on their way to a host at once */

enum chase_phase {
	CHASE_IDLE,
	CHASE_LINE,
	CHASE_CUT,
	CHASE_SEAL,
	CHASE_SEND,
	CHASE_DROP,
	CHASE_JOIN
};

/* A follower, and how it is kept near. */
struct chase {
	struct follows *follows;
	struct chase *next;
	struct follower_info info;
	bool listed; /* the store still has it */
	enum chase_phase phase;
	struct admin_op op;
	struct repl_send send;
	char cut[SNAP_NAME_ROOM];
	struct store_offer offer;     /* of the cut */
	uint64_t cut_written, cut_ns; /* the volume's written_bytes when it was taken, and when */
	struct repl_stream *stream;   /* in step */
	bool cut_first;		      /* it said that it stands somewhere else */
	bool line_first;	      /* and that it stands further */
	uint64_t missing_ns;	      /* not in step since then; 0: it is */
	bool met;		      /* since our start it took what is here */
	bool refused;		      /* the last time it did not: it has what is not here */
	/* Of the newest cut that is there. */
	bool verified;
	struct store_offer there;
	uint64_t there_written, there_ns;
	struct retry retry;
	uint64_t sent_bytes, cuts;
};

struct follows {
	struct env *env;
	struct store *store;
	struct repl *repl;
	struct env_timer timer;
	struct chase *chases;
	unsigned active;
	bool stopping;
	struct cut_sweep sweep;
};

/* ---- one cut's way ---- */

static void chase_idle(struct chase *chase)
{
	chase->phase = CHASE_IDLE;
	chase->follows->active--;
}

/* The first failure of a row is told, and one that says something else. */
static void chase_failed(struct chase *chase, int res, const char *sentence)
{
	bool other = retry_failed(&chase->retry, env_now_ns(chase->follows->env), res, sentence);
	chase->refused = res == -VS_EFENCED;
	if (other && !chase->follows->stopping)
		log_event(LOG_LEVEL_WARNING, "replica.behind", "volume=%s host=%s error=\"%s\"",
			  chase->info.volume, chase->info.host, chase->retry.sentence);
}

/* What it queued is not needed when no cut leads there. */
static void stream_drop(struct chase *chase)
{
	repl_stream_free(chase->stream);
	chase->stream = NULL;
}

/* A cut on its way, if one is: what arrived there stays. */
static void send_stop(struct chase *chase)
{
	if (chase->phase != CHASE_SEND || chase->send.cancel)
		return;
	chase->send.cancel = true;
	repl_send_cancel(&chase->send);
}

/* Not now: its hours are over, or did not begin. */
static bool chase_held(const struct chase *chase)
{
	return !window_open(&chase->info.rules.window, env_wall_ns(chase->follows->env));
}

static void chase_dropped(struct io_op *op)
{
	struct chase *chase = container_of(op, struct chase, op.op);
	if (op->res < 0)
		chase->follows->sweep.done = false; /* found again */
	chase_idle(chase);
}

static void chase_drop(struct chase *chase)
{
	chase->phase = CHASE_DROP;
	chase->op = (struct admin_op){.op.done = chase_dropped};
	store_cut_drop(chase->follows->store, &chase->op, chase->cut);
}

/* The incarnation of the cut's epoch is the volume's, if that is its epoch still. */
static void stream_behind_cut(struct chase *chase)
{
	struct store_position at = {.epoch = chase->offer.epoch, .vseq = chase->offer.vseq};
	struct volume_info volume;
	if (store_volume_info(chase->follows->store, chase->info.volume_number, &volume) == 0 &&
	    volume.epoch == at.epoch)
		memcpy(at.incarnation, volume.incarnation, sizeof at.incarnation);
	repl_stream_from(chase->stream, &at);
}

static void chase_sent(struct io_op *op)
{
	struct chase *chase = container_of(op, struct chase, send.op);
	chase->sent_bytes += chase->send.sent_bytes;
	if (op->res < 0 && chase->send.cancel) {
		stream_drop(chase); /* nothing is wrong with it */
	} else if (op->res < 0) {
		chase->line_first |= op->res == -ESTALE;
		chase_failed(chase, (int)op->res, chase->send.sentence);
		stream_drop(chase);
	} else {
		if (chase->retry.sentence[0] || !chase->verified)
			log_event(LOG_LEVEL_INFO, "replica.near",
				  "volume=%s host=%s epoch=%llu "
				  "vseq=%llu",
				  chase->info.volume, chase->info.host,
				  (unsigned long long)chase->offer.epoch,
				  (unsigned long long)chase->offer.vseq);
		chase->verified = chase->met = true;
		chase->refused = false;
		chase->there = chase->offer;
		chase->there_written = chase->cut_written;
		chase->there_ns = chase->cut_ns;
		chase->cuts++;
		retry_worked(&chase->retry);
		chase->cut_first = false;
		if (chase->stream)
			stream_behind_cut(chase);
	}
	chase_drop(chase);
}

static void chase_sealed(struct io_op *op)
{
	struct chase *chase = container_of(op, struct chase, op.op);
	struct follows *follows = chase->follows;
	int res = (int)op->res;
	if (res == 0)
		res = store_offer(follows->store, chase->cut, &chase->offer);
	if (res < 0)
		chase_failed(chase, res, chase->op.sentence);
	if (res < 0 || follows->stopping || !chase->listed || chase_held(chase)) {
		stream_drop(chase);
		chase_drop(chase);
		return;
	}
	chase->phase = CHASE_SEND;
	chase->send = (struct repl_send){.op.done = chase_sent,
					 .snapshot = chase->cut,
					 .host = chase->info.host,
					 .rate_bytes = chase->info.rules.rate_bytes};
	repl_send(follows->repl, &chase->send);
}

static void chase_cut(struct io_op *op)
{
	struct chase *chase = container_of(op, struct chase, op.op);
	if (op->res < 0) {
		chase_failed(chase, (int)op->res, chase->op.sentence);
		stream_drop(chase);
		chase_idle(chase);
		return;
	}
	chase->phase = CHASE_SEAL;
	chase->op = (struct admin_op){.op.done = chase_sealed};
	store_snap_seal(chase->follows->store, &chase->op, chase->cut);
}

static void chase_lined(struct io_op *op)
{
	struct chase *chase = container_of(op, struct chase, op.op);
	if (op->res < 0)
		chase_failed(chase, (int)op->res, chase->op.sentence);
	else
		chase->line_first = false;
	stream_drop(chase); /* the cut is the next tick's, of the new epoch */
	chase_idle(chase);
}

static void chase_start(struct chase *chase, const struct volume_info *volume)
{
	struct follows *follows = chase->follows;
	const char *names[1] = {chase->cut};
	uint32_t tail;
	if (chase->line_first) {
		chase->phase = CHASE_LINE;
		follows->active++;
		chase->op = (struct admin_op){.op.done = chase_lined};
		store_line_begin(follows->store, &chase->op, chase->info.volume);
		return;
	}
	env_random(follows->env, &tail, sizeof tail);
	snprintf(chase->cut, sizeof chase->cut, "%s@cut-%llu-%llu-%08x", volume->name,
		 (unsigned long long)volume->epoch, (unsigned long long)volume->vseq, tail);
	chase->phase = CHASE_CUT;
	chase->cut_written = volume->written_bytes;
	chase->cut_ns = env_now_ns(follows->env);
	follows->active++;
	chase->op = (struct admin_op){.op.done = chase_cut};
	store_policy_snap(follows->store, &chase->op, names, 1, POLICY_CUT);
}

/* ---- in step ---- */

static void chase_joined(struct io_op *op)
{
	struct chase *chase = container_of(op, struct chase, op.op);
	if (op->res < 0)
		chase_failed(chase, (int)op->res, chase->op.sentence);
	else
		log_event(LOG_LEVEL_INFO, "replica.joins", "volume=%s host=%s", chase->info.volume,
			  chase->info.host);
	chase_idle(chase);
}

static void chase_join(struct chase *chase)
{
	struct follows *follows = chase->follows;
	chase->phase = CHASE_JOIN;
	follows->active++;
	chase->op = (struct admin_op){.op.done = chase_joined};
	store_follower_join(follows->store, &chase->op, chase->info.volume, chase->info.host);
}

/* Who refuses what is here is not missing: our store may be an older one, and must not go on
 * without who knows. Nor is one of whom we do not know yet what it says of that. */
static void missing_look(struct chase *chase)
{
	uint64_t now = env_now_ns(chase->follows->env);
	struct repl_stream_state state = {.phase = STREAM_BROKEN};
	if (chase->stream)
		repl_stream_state(chase->stream, &state);
	if (state.phase == STREAM_LIVE) {
		chase->missing_ns = 0; /* it may be another record of it than when it became live */
		chase->met = true;
		chase->refused = false;
		store_follower_live(chase->follows->store, chase->info.volume_number,
				    chase->info.host, true);
	} else if (!chase->missing_ns) {
		chase->missing_ns = now;
	} else if (now - chase->missing_ns >= REPL_MISSING_NS && !chase->refused &&
		   (chase->met || chase->retry.sentence[0])) {
		store_follower_missing(chase->follows->store, chase->info.volume_number,
				       chase->info.host);
	}
}

/* A host that is silent holds up those that follow there, and no others. */
static bool host_taken(const struct follows *follows, const char *host)
{
	unsigned active = 0;
	for (const struct chase *at = follows->chases; at; at = at->next)
		active += at->phase != CHASE_IDLE && strcmp(at->info.host, host) == 0;
	return active >= ACTIVE_MAX;
}

static void stream_look(struct chase *chase, const struct volume_info *volume)
{
	struct repl_stream_state state;
	struct follows *follows = chase->follows;
	uint64_t now = env_now_ns(follows->env);
	if (chase->stream) {
		repl_stream_state(chase->stream, &state);
		if (state.phase == STREAM_LIVE)
			retry_worked(&chase->retry);
		if (state.phase != STREAM_BROKEN)
			return;
		chase->sent_bytes += state.sent_bytes;
		stream_drop(chase);
		bool cut = state.res == -EAGAIN || state.res == -ENOENT || state.res == -ESTALE;
		chase->cut_first |= cut;
		chase->line_first |= state.res == -ESTALE;
		if (!cut)
			chase_failed(chase, state.res, state.sentence);
	}
	if (now < chase->retry.at_ns || host_taken(follows, chase->info.host))
		return;
	chase->stream = repl_stream_new(follows->repl, volume, chase->info.host);
	if (!chase->stream)
		return;
	if (chase->cut_first) {
		chase_start(chase, volume);
		return;
	}
	struct store_position at = {.epoch = volume->epoch, .vseq = volume->vseq};
	memcpy(at.incarnation, volume->incarnation, sizeof at.incarnation);
	repl_stream_from(chase->stream, &at);
}

/* ---- which one is due ---- */

/* What is told of the volume's policy is not what went there with the last cut. */
static bool policy_changed(const struct chase *chase)
{
	struct told_policy now;
	store_policy_told(chase->follows->store, chase->info.volume_number, &now);
	return now.told && !policy_same(&now.policy, &chase->there.policy.policy);
}

static bool chase_behind(const struct chase *chase, const struct volume_info *volume)
{
	/* The root differs where a snapshot was restored; and may where a fold is to come, which a
	 * cut brings about. */
	return !chase->verified || volume->vseq != chase->there.vseq ||
	       volume->size_bytes != chase->there.size_bytes ||
	       memcmp(volume->root, chase->there.root, ID_BYTES) != 0;
}

static bool chase_due(const struct chase *chase, const struct volume_info *volume)
{
	const struct follower_rules *rules = &chase->info.rules;
	uint64_t now = env_now_ns(chase->follows->env);
	if (now < chase->retry.at_ns || chase_held(chase) ||
	    (!chase_behind(chase, volume) && !policy_changed(chase)))
		return false;
	if (!chase->verified || now - chase->there_ns >= rules->lag_ns / 2)
		return true;
	return rules->lag_bytes &&
	       volume->written_bytes - chase->there_written >= rules->lag_bytes / 2;
}

/* ---- those that the store has ---- */

/* Of what is on its way name and host stay; how fast and when it goes may change. */
static void chase_pace(struct chase *chase, const struct follower_rules *rules)
{
	bool other = chase->info.rules.rate_bytes != rules->rate_bytes;
	chase->info.rules.rate_bytes = rules->rate_bytes;
	chase->info.rules.window = rules->window;
	if (other && chase->phase == CHASE_SEND)
		repl_send_rate(&chase->send, rules->rate_bytes);
}

static void chase_list(struct follows *follows, const struct follower_info *info)
{
	struct chase *chase = follows->chases;
	while (chase && (chase->info.volume_number != info->volume_number ||
			 strcmp(chase->info.host, info->host) != 0))
		chase = chase->next;
	if (!chase) {
		chase = calloc(1, sizeof(*chase));
		if (!chase)
			return; /* the next tick tries again */
		chase->follows = follows;
		chase->next = follows->chases;
		follows->chases = chase;
	}
	chase->listed = true;
	bool renamed = strcmp(chase->info.volume, info->volume) != 0;
	if (renamed)
		follows->sweep.done = false; /* a cut may have been dropped by its old name */
	if (chase->phase != CHASE_IDLE) {
		chase_pace(chase, &info->rules);
		return;
	}
	if (!info->rules.in_step || renamed)
		stream_drop(chase);
	if (renamed)
		chase->verified = false; /* the copy is named after the volume: that is a new one */
	chase->info = *info;
}

static void chases_list(struct follows *follows)
{
	struct follower_info *infos;
	size_t count;
	if (store_followers(follows->store, &infos, &count) < 0)
		return;
	for (struct chase *chase = follows->chases; chase; chase = chase->next)
		chase->listed = false;
	for (size_t i = 0; i < count; i++)
		chase_list(follows, &infos[i]);
	free(infos);
	for (struct chase **at = &follows->chases; *at;) {
		struct chase *chase = *at;
		if (chase->listed || chase->phase != CHASE_IDLE) {
			if (!chase->listed || chase_held(chase))
				send_stop(chase);
			at = &chase->next;
			continue;
		}
		*at = chase->next;
		repl_stream_free(chase->stream);
		free(chase);
	}
}

static void tick(struct env_timer *timer)
{
	struct follows *follows = container_of(timer, struct follows, timer);
	struct volume_info volume;
	if (follows->stopping)
		return;
	env_timer_start(follows->env, timer, TICK_NS);
	if (!follows->active)
		cut_sweep_look(&follows->sweep);
	chases_list(follows);
	for (struct chase *chase = follows->chases; chase; chase = chase->next) {
		if (chase->listed && chase->info.rules.in_step)
			missing_look(chase);
		if (chase->phase != CHASE_IDLE || !chase->listed ||
		    store_volume_info(follows->store, chase->info.volume_number, &volume) < 0)
			continue;
		if (chase->info.rules.in_step)
			stream_look(chase, &volume);
		else if (chase->info.rules.comes_in_step && chase->verified &&
			 env_now_ns(follows->env) >= chase->retry.at_ns)
			chase_join(chase);
		else if (chase_due(chase, &volume) && !host_taken(follows, chase->info.host))
			chase_start(chase, &volume);
	}
}

/* ---- the whole ---- */

int follows_new(struct env *env, struct store *store, struct repl *repl, struct follows **ret)
{
	struct follows *follows = calloc(1, sizeof(*follows));
	if (!follows)
		return -ENOMEM;
	follows->env = env;
	follows->store = follows->sweep.store = store;
	follows->repl = repl;
	follows->timer.fire = tick;
	env_timer_start(env, &follows->timer, TICK_NS);
	*ret = follows;
	return 0;
}

void follows_stop(struct follows *follows)
{
	if (!follows)
		return;
	follows->stopping = true;
	env_timer_stop(follows->env, &follows->timer);
	for (struct chase *chase = follows->chases; chase; chase = chase->next)
		send_stop(chase);
}

bool follows_idle(const struct follows *follows)
{
	return !follows || (!follows->active && !follows->sweep.busy);
}

void follows_free(struct follows *follows)
{
	while (follows && follows->chases) {
		struct chase *chase = follows->chases;
		follows->chases = chase->next;
		repl_stream_free(chase->stream);
		free(chase);
	}
	free(follows);
}

/* False: it is not in step now. */
static bool stream_fill(const struct chase *chase, const struct volume_info *volume,
			struct follow_state *state)
{
	struct repl_stream_state stream = {.phase = STREAM_BROKEN};
	if (chase->stream)
		repl_stream_state(chase->stream, &stream);
	if (stream.phase != STREAM_LIVE)
		return false;
	state->in_step = state->verified = true;
	state->epoch = stream.acked.epoch;
	state->vseq = stream.acked.vseq;
	state->taken_wall_ns = env_wall_ns(chase->follows->env) - stream.lag_ns;
	state->behind = volume && volume->vseq > stream.acked.vseq;
	state->lag_ns = stream.lag_ns;
	state->lag_bytes = stream.lag_bytes;
	state->late = stream.lag_ns > chase->info.rules.lag_ns;
	state->sent_bytes += stream.sent_bytes;
	return true;
}

static void state_fill(const struct chase *chase, const struct volume_info *volume,
		       struct follow_state *state)
{
	*state = (struct follow_state){.info = chase->info,
				       .verified = chase->verified,
				       .behind = !volume || chase_behind(chase, volume),
				       .held = chase_held(chase),
				       .sending = chase->phase == CHASE_SEND,
				       .sent_bytes = chase->sent_bytes,
				       .cuts = chase->cuts};
	memcpy(state->sentence, chase->retry.sentence, SENTENCE_BYTES);
	if (chase->info.rules.in_step && stream_fill(chase, volume, state))
		return;
	if (state->sending)
		state->sent_bytes += chase->send.sent_bytes;
	if (!chase->verified)
		return;
	state->epoch = chase->there.epoch;
	state->vseq = chase->there.vseq;
	state->taken_wall_ns = chase->there.created_wall_ns;
	memcpy(state->root, chase->there.root, ID_BYTES);
	if (!state->behind || !volume)
		return;
	state->lag_ns = env_now_ns(chase->follows->env) - chase->there_ns;
	state->lag_bytes = volume->written_bytes - chase->there_written;
	const struct follower_rules *rules = &chase->info.rules;
	if (!window_always(&rules->window))
		state->late = state->lag_ns > rules->lag_ns + DAY_NS;
	else
		state->late = state->lag_ns > rules->lag_ns ||
			      (rules->lag_bytes && state->lag_bytes > rules->lag_bytes);
}

int follows_states(const struct follows *follows, struct follow_state **ret, size_t *ret_count)
{
	struct volume_info volume;
	size_t count = 0;
	*ret = NULL;
	*ret_count = 0;
	if (!follows || !follows->chases)
		return 0;
	for (const struct chase *chase = follows->chases; chase; chase = chase->next)
		count++;
	struct follow_state *states = calloc(count + 1, sizeof(*states));
	if (!states)
		return -ENOMEM;
	count = 0;
	for (const struct chase *chase = follows->chases; chase; chase = chase->next) {
		if (!chase->listed)
			continue;
		int res = store_volume_info(follows->store, chase->info.volume_number, &volume);
		state_fill(chase, res == 0 ? &volume : NULL, &states[count++]);
	}
	*ret = states;
	*ret_count = count;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of copies on other hosts, for Prometheus and for `vstorectl status`: a replica that
 * has less than its rules say, and clocks that differ (no safety depends on them, dates and
 * policies do). */
#include "storage/daemon/copies.h"
#include "storage/daemon/daemon.h"
#include "storage/daemon/follow.h"
#include "storage/daemon/ship.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CERTIFICATE_WARN_S (30 * 86400)
#define CLOCK_WARN_NS (5ll * (int64_t)NSEC_PER_SEC)

enum replica_figure {
	REPLICA_KNOWN,
	REPLICA_IN_STEP,
	REPLICA_LEFT_OUT,
	REPLICA_LATE,
	REPLICA_HELD,
	REPLICA_LAG_SECONDS,
	REPLICA_LAG_BYTES,
	REPLICA_SENT_BYTES,
	REPLICA_CUTS,
};
static const struct {
	const char *name, *type, *help;
} replica_figures[] = {
	[REPLICA_KNOWN] = {"replica_known", "gauge",
			   "1: what the replica has is known since vstored started."},
	[REPLICA_IN_STEP] = {"replica_in_step", "gauge", "1: it gets each write as it is made."},
	[REPLICA_LEFT_OUT] =
		{"replica_left_out", "gauge",
		 "1: in step by its rules, and its voters know that no flush waits for it."},
	[REPLICA_LATE] = {"replica_late", "gauge",
			  "1: it lags by more than its rules say, and a day, if it has hours."},
	[REPLICA_HELD] = {"replica_held", "gauge",
			  "1: something is to be sent to it, and its hours are not now."},
	[REPLICA_LAG_SECONDS] = {"replica_lag_seconds", "gauge",
				 "Age of the oldest write that it may not have."},
	[REPLICA_LAG_BYTES] =
		{"replica_lag_bytes", "gauge",
		 "Written, and lost if this host died now and it went on; NaN: it is not known."},
	[REPLICA_SENT_BYTES] = {"replica_sent_bytes_total", "counter", "Sent to it, on the wire."},
	[REPLICA_CUTS] = {"replica_cuts_total", "counter", "Cuts that it has published."},
};

static double figure_of(const struct follow_state *state, enum replica_figure figure)
{
	switch (figure) {
	case REPLICA_KNOWN:
		return state->verified;
	case REPLICA_IN_STEP:
		return state->in_step;
	case REPLICA_LEFT_OUT:
		return state->info.left_out;
	case REPLICA_LATE:
		return state->late;
	case REPLICA_HELD:
		return state->held && state->behind;
	case REPLICA_LAG_SECONDS:
		return state->verified ? (double)state->lag_ns / (double)NSEC_PER_SEC : NAN;
	case REPLICA_LAG_BYTES:
		return state->verified ? (double)state->lag_bytes : NAN;
	case REPLICA_SENT_BYTES:
		return (double)state->sent_bytes;
	case REPLICA_CUTS:
		return (double)state->cuts;
	}
	return 0;
}

static void figure_print(const struct follow_state *state, enum replica_figure figure, FILE *out)
{
	double value = figure_of(state, figure);
	fprintf(out, "vstore_%s{volume=\"%s\",host=\"%s\",mode=\"%s\"} ",
		replica_figures[figure].name, state->info.volume, state->info.host,
		state->info.rules.in_step ? "sync" : "async");
	if (isnan(value))
		fputs("NaN\n", out); /* as Prometheus writes it, and printf may not */
	else
		fprintf(out, "%.15g\n", value);
}

static void counters_print(const struct daemon *daemon, FILE *out)
{
	struct repl_counters c;
	if (!replicas_counters(daemon, &c))
		return;
	const struct {
		const char *name, *help;
		uint64_t value;
	} counters[] = {
		{"repl_connections_total", "Connections of peers.", c.connections},
		{"repl_refused_total",
		 "Connections that were refused: of nobody we know, or without sense.", c.refused},
		{"repl_sent_bytes_total", "Sent to peers, on the wire.", c.sent_bytes},
		{"repl_received_bytes_total", "Received from peers, on the wire.",
		 c.received_bytes},
		{"repl_lanes_total", "Further connections that snapshots were sent over.", c.lanes},
		{"repl_sends_total", "Snapshots and cuts that a peer published.", c.sends},
		{"repl_sends_failed_total", "Snapshots and cuts that did not get there.",
		 c.sends_failed},
		{"repl_receives_total", "Snapshots and cuts of peers, published here.", c.receives},
		{"repl_receives_failed_total", "Snapshots and cuts of peers that were not.",
		 c.receives_failed},
	};
	for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
		metric_print(out, counters[i].name, "counter", counters[i].help, counters[i].value);
	struct store_counters store;
	store_counters(daemon->store, &store);
	metric_print(out, "volumes_yielded_total", "counter",
		     "Volumes of this host that became copies: another one was promoted.",
		     store.volumes_yielded);
}

static void certificate_print(const struct daemon *daemon, FILE *out)
{
	const struct tls_identity *identity = replicas_identity(daemon);
	if (identity)
		metric_print(out, "certificate_expires_timestamp_seconds", "gauge",
			     "When this host's certificate expires, in seconds since 1970.",
			     (uint64_t)identity->not_after_s);
}

static void certificate_problem(const struct daemon *daemon, json_t *problems)
{
	const struct tls_identity *identity = replicas_identity(daemon);
	int64_t now_s = (int64_t)(env_wall_ns(daemon->env) / NSEC_PER_SEC);
	char sentence[SENTENCE_BYTES], hint[SENTENCE_BYTES];
	if (!identity || identity->not_after_s - now_s > CERTIFICATE_WARN_S)
		return;
	if (identity->not_after_s < now_s)
		snprintf(sentence, sizeof sentence,
			 "The certificate of this host has expired: no peer connects any more.");
	else
		snprintf(
			sentence, sizeof sentence,
			"The certificate of this host expires in %lld days: no peer connects then.",
			(long long)((identity->not_after_s - now_s) / 86400));
	snprintf(
		hint, sizeof hint,
		"Where the site's CA is: vstorectl pki rotate CADIR %.63s OUTDIR; then copy OUTDIR "
		"into the folder that vstored has as --tls.",
		identity->host);
	problem_add(problems, sentence, hint);
}

static void voters_print(const struct daemon *daemon, FILE *out)
{
	struct voter_info *voters;
	struct volume_info volume;
	size_t count;
	bool headed = false;
	if (store_voters(daemon->store, &voters, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		if (!voters[i].voter ||
		    store_volume_info(daemon->store, voters[i].volume_number, &volume) < 0)
			continue;
		if (!headed)
			metric_head(
				out, "voter_agrees", "gauge",
				"1: the host takes this one for the volume's primary, and knows "
				"its last change.");
		headed = true;
		fprintf(out, "vstore_voter_agrees{volume=\"%s\",host=\"%s\"} %d\n", volume.name,
			voters[i].host, voters[i].stands && voters[i].heard);
	}
	free(voters);
}

static void ships_print(const struct daemon *daemon, FILE *out)
{
	struct ship_state *states;
	size_t count;
	if (ships_states(replicas_ships(daemon), &states, &count) < 0)
		return;
	for (unsigned f = 0; count && f < 3; f++) {
		static const char *const names[3] = {"policy_unsent_snapshots",
						     "policy_unsent_seconds", "policy_late"};
		static const char *const help[3] = {
			"Snapshots that a policy took, and that are not at the host that it names.",
			"Age of the oldest of them.",
			"1: it is older than the policy's period, and a day where there are "
			"hours."};
		metric_head(out, names[f], "gauge", help[f]);
		for (size_t i = 0; i < count; i++)
			fprintf(out, "vstore_%s{volume=\"%s\",host=\"%s\",policy=\"%s\"} %llu\n",
				names[f], states[i].volume, states[i].host, states[i].policy,
				(unsigned long long)(f == 0   ? states[i].waiting
						     : f == 1 ? states[i].waits_ns / NSEC_PER_SEC
							      : states[i].late));
	}
	free(states);
}

static void ships_problems(const struct daemon *daemon, json_t *problems)
{
	struct ship_state *states;
	size_t count;
	char sentence[SENTENCE_BYTES];
	if (ships_states(replicas_ships(daemon), &states, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		if (!states[i].late)
			continue;
		snprintf(
			sentence, sizeof sentence,
			"%s has %u snapshots of the policy %s that are not on %s; the oldest waits "
			"for %llu s.",
			states[i].volume, states[i].waiting, states[i].policy, states[i].host,
			(unsigned long long)(states[i].waits_ns / NSEC_PER_SEC));
		problem_add(problems, sentence, "vstorectl replica status says why.");
	}
	free(states);
}

/* Time of day, and not an age: what is old is for who asks to say, by its own clock. */
static void copies_print(const struct daemon *daemon, FILE *out)
{
	struct copy_state *copies;
	size_t count;
	if (copies_states(daemon->store, env_wall_ns(daemon->env), &copies, &count) < 0)
		return;
	if (count)
		metric_head(out, "copy_as_of_seconds", "gauge",
			    "What was durable at the original's host by then (since 1970) is in "
			    "this copy of it.");
	for (size_t i = 0; i < count; i++)
		fprintf(out, "vstore_copy_as_of_seconds{volume=\"%s\",host=\"%s\"} %llu\n",
			copies[i].name, copies[i].host,
			(unsigned long long)(copies[i].as_of_wall_ns / NSEC_PER_SEC));
	free(copies);
}

void replicas_print(const struct daemon *daemon, FILE *out)
{
	struct follow_state *states;
	struct repl_clock *clocks;
	size_t count;
	counters_print(daemon, out);
	certificate_print(daemon, out);
	voters_print(daemon, out);
	ships_print(daemon, out);
	copies_print(daemon, out);
	if (follows_states(replicas_follows(daemon), &states, &count) == 0) {
		for (unsigned f = 0; count && f < sizeof replica_figures / sizeof *replica_figures;
		     f++) {
			metric_head(out, replica_figures[f].name, replica_figures[f].type,
				    replica_figures[f].help);
			for (size_t i = 0; i < count; i++)
				figure_print(&states[i], (enum replica_figure)f, out);
		}
		free(states);
	}
	if (replicas_clocks(daemon, &clocks, &count) < 0)
		return;
	if (count)
		metric_head(out, "peer_clock_ahead_seconds", "gauge",
			    "A peer's time of day against ours, when it connected last.");
	for (size_t i = 0; i < count; i++)
		fprintf(out, "vstore_peer_clock_ahead_seconds{host=\"%s\"} %.3f\n", clocks[i].host,
			(double)clocks[i].ahead_ns / (double)NSEC_PER_SEC);
	free(clocks);
}

void replicas_problems(const struct daemon *daemon, json_t *problems)
{
	struct follow_state *states;
	struct repl_clock *clocks;
	size_t count;
	char sentence[SENTENCE_BYTES];
	certificate_problem(daemon, problems);
	ships_problems(daemon, problems);
	if (follows_states(replicas_follows(daemon), &states, &count) == 0) {
		for (size_t i = 0; i < count; i++) {
			const struct follow_state *s = &states[i];
			if (s->info.left_out) {
				snprintf(sentence, sizeof sentence,
					 "The replica of %s on %s is left out: no flush waits for "
					 "it.",
					 s->info.volume, s->info.host);
				problem_add(problems, sentence,
					    "vstorectl replica status says why.");
				continue;
			}
			if (!s->late && (s->verified || !s->sentence[0]))
				continue;
			if (s->verified)
				snprintf(sentence, sizeof sentence,
					 "The replica of %s on %s is %llu s behind, and %llu bytes "
					 "would be lost with this host.",
					 s->info.volume, s->info.host,
					 (unsigned long long)(s->lag_ns / NSEC_PER_SEC),
					 (unsigned long long)s->lag_bytes);
			else
				snprintf(sentence, sizeof sentence,
					 "What %s has of %s is not known: %.*s", s->info.host,
					 s->info.volume, SENTENCE_BYTES - 160, s->sentence);
			problem_add(problems, sentence, "vstorectl replica status says why.");
		}
		free(states);
	}
	if (replicas_clocks(daemon, &clocks, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		int64_t ahead = clocks[i].ahead_ns;
		if (ahead <= CLOCK_WARN_NS && ahead >= -CLOCK_WARN_NS)
			continue;
		snprintf(sentence, sizeof sentence, "The clock of %s is %lld s %s this host's.",
			 clocks[i].host, (long long)(llabs(ahead) / (int64_t)NSEC_PER_SEC),
			 ahead > 0 ? "ahead of" : "behind");
		problem_add(
			problems, sentence,
			"Set both by NTP: dates and policies go by them, no data depends on them.");
	}
	free(clocks);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers and copies, for the API: certificates that are read again when their files change, sends as
 * jobs, lists.
 */
#include "storage/daemon/daemon.h"
#include "storage/daemon/follow.h"
#include "storage/daemon/ship.h"

#include "proto/text.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LOOK_NS NSEC_PER_SEC

struct replicas {
	struct daemon *daemon;
	struct repl *repl;
	struct follows *follows;
	struct ships *ships;
	char tls_folder[512];
	struct timespec seen[4]; /* of its files */
	struct tls_identity identity;
	struct env_timer timer;
	uint64_t receives;	      /* when sockets were made for copies */
	uint64_t superseded, yielded; /* when their clients were looked after */
};

/* A send as a job: first the snapshot's root must be known. */
struct sending {
	struct job *job;
	struct replicas *replicas;
	struct admin_op seal;
	struct repl_send send;
	char host[NAME_ROOM];
	struct env_timer timer;
	bool cancelled;
};

/* ---- certificates ---- */

/* Any of them, and who may read it, too: what could not be used as a whole, as half of it was
 * there, is looked at again when the rest has come. */
static bool files_changed(struct replicas *replicas)
{
	static const char *const names[] = {"ca.crt", "ca.crl", "host.crt", "host.key"};
	bool changed = false;
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
		char path[560];
		struct stat status = {0};
		snprintf(path, sizeof path, "%s/%s", replicas->tls_folder, names[i]);
		if (stat(path, &status) < 0)
			continue;
		changed |= status.st_ctim.tv_sec != replicas->seen[i].tv_sec ||
			   status.st_ctim.tv_nsec != replicas->seen[i].tv_nsec;
		replicas->seen[i] = status.st_ctim;
	}
	return changed;
}

static bool expired(const struct daemon *daemon, const struct tls_identity *identity)
{
	return identity->not_after_s < (int64_t)(env_wall_ns(daemon->env) / NSEC_PER_SEC);
}

/* Another certificate of this host, and no other host's: copies are known by its name. */
static bool may_follow(const struct replicas *replicas, const struct tls_identity *newer,
		       char sentence[SENTENCE_BYTES])
{
	const struct tls_identity *own = &replicas->identity;
	if (strcmp(newer->host, own->host) != 0 || strcmp(newer->cluster, own->cluster) != 0) {
		snprintf(sentence, SENTENCE_BYTES,
			 "host.crt is of %.63s in %.63s, and this is %.63s in %.63s: give it its "
			 "own.",
			 newer->host, newer->cluster, own->host, own->cluster);
		return false;
	}
	if (expired(replicas->daemon, newer)) {
		snprintf(sentence, SENTENCE_BYTES, "host.crt has expired.");
		return false;
	}
	return true;
}

static void certificates_look(struct replicas *replicas)
{
	char sentence[SENTENCE_BYTES];
	struct tls_context *tls;
	if (!files_changed(replicas))
		return;
	bool good = tls_context_new(replicas->tls_folder, &tls, sentence) == 0;
	if (good && !may_follow(replicas, tls_context_identity(tls), sentence)) {
		tls_context_free(tls);
		good = false;
	}
	if (!good) {
		log_event(LOG_LEVEL_ERROR, "tls.kept",
			  "reason=\"%s\" effect=\"the certificate from before goes on\"", sentence);
		return;
	}
	replicas->identity = *tls_context_identity(tls);
	repl_set_tls(replicas->repl, tls);
	log_event(LOG_LEVEL_INFO, "tls.changed", "host=%s effect=\"for new connections\"",
		  replicas->identity.host);
}

/* A volume of ours that another host was promoted for is given up when nobody uses it any more
 * (store/yield.c), and is a copy then: under another name, and nobody's lease. */
static void yields_look(struct replicas *replicas)
{
	struct daemon *daemon = replicas->daemon;
	struct store_counters counters;
	struct volume_info *infos;
	size_t count;
	store_counters(daemon->store, &counters);
	if (counters.volumes_superseded != replicas->superseded &&
	    store_volumes(daemon->store, false, &infos, &count) == 0) {
		replicas->superseded = counters.volumes_superseded;
		for (size_t i = 0; i < count; i++)
			if (infos[i].superseded)
				nbd_server_drop_volume(daemon->nbd, infos[i].name);
		free(infos);
	}
	if (counters.volumes_yielded != replicas->yielded) {
		replicas->yielded = counters.volumes_yielded;
		attachments_sweep(daemon);
		exports_sync(daemon);
	}
}

static void look(struct env_timer *timer)
{
	struct replicas *replicas = container_of(timer, struct replicas, timer);
	struct repl_counters counters;
	env_timer_start(replicas->daemon->env, timer, LOOK_NS);
	repl_counters(replicas->repl, &counters);
	if (counters.receives != replicas->receives) {
		replicas->receives = counters.receives;
		exports_sync(replicas->daemon);
	}
	yields_look(replicas);
	certificates_look(replicas);
}

/* ---- life ---- */

/* By what peers are known. In the clear only in the program that bench/ measures (meson.build). */
static int security_of(const char *tls_folder, struct repl_options *options, char *sentence)
{
#ifdef PEERS_IN_THE_CLEAR
	static const char clear[] = "plaintext:";
	if (strncmp(tls_folder, clear, sizeof clear - 1) == 0) {
		options->plain_host = tls_folder + sizeof clear - 1;
		return 0;
	}
#endif
	return tls_context_new(tls_folder, &options->tls, sentence);
}

int replicas_new(struct daemon *daemon, const char *listen, const char *tls_folder, char *sentence)
{
	struct repl_options options = {.listen = listen[0] ? listen : NULL};
	struct replicas *replicas;
	if (!tls_folder[0]) /* and then no --listen, see options.c */
		return 0;
	replicas = calloc(1, sizeof(*replicas));
	if (!replicas)
		return -ENOMEM;
	replicas->daemon = daemon;
	snprintf(replicas->tls_folder, sizeof replicas->tls_folder, "%s", tls_folder);
	files_changed(replicas);
	int res = security_of(tls_folder, &options, sentence);
	if (res == 0 && options.tls) { /* repl_new has it from there on */
		replicas->identity = *tls_context_identity(options.tls);
		if (expired(daemon, &replicas->identity))
			log_event(
				LOG_LEVEL_ERROR, "tls.expired",
				"host=%s effect=\"no peer connects\" hint=\"vstorectl pki rotate\"",
				replicas->identity.host);
	}
	if (res == 0)
		res = repl_new(daemon->env, daemon->store, &options, &replicas->repl, sentence);
	if (res < 0) {
		free(replicas);
		return res;
	}
	daemon->replicas = replicas;
	res = follows_new(daemon->env, daemon->store, replicas->repl, &replicas->follows);
	if (res == 0)
		res = ships_new(daemon->env, daemon->store, replicas->repl, &replicas->ships);
	if (res < 0) {
		snprintf(sentence, SENTENCE_BYTES, "There is no memory for replicas.");
		return res;
	}
	replicas->timer.fire = look;
	env_timer_start(daemon->env, &replicas->timer, LOOK_NS);
	return 0;
}

/* The store must be idle of us before it closes. */
void replicas_stop(struct daemon *daemon)
{
	struct io_op stopped = {0};
	if (!daemon->replicas)
		return;
	env_timer_stop(daemon->env, &daemon->replicas->timer);
	follows_stop(daemon->replicas->follows);
	ships_stop(daemon->replicas->ships);
	env_wait_prepare(&stopped);
	repl_stop(daemon->replicas->repl, &stopped);
	env_wait(daemon->env, &stopped);
}

void replicas_free(struct daemon *daemon)
{
	if (!daemon->replicas)
		return;
	follows_free(daemon->replicas->follows);
	ships_free(daemon->replicas->ships);
	repl_free(daemon->replicas->repl);
	free(daemon->replicas);
	daemon->replicas = NULL;
}

/* ---- sending ---- */

static void progress(struct env_timer *timer)
{
	struct sending *sending = container_of(timer, struct sending, timer);
	job_waits(sending->job, sending->send.waits);
	/* The peer says how many differ as it finds them: there is no total before the end. */
	job_progress(sending->job, sending->send.fetched + sending->send.found,
		     sending->send.chunks);
	env_timer_start(sending->replicas->daemon->env, timer, NSEC_PER_SEC / 2);
}

static void sending_end(struct sending *sending, int res, const char *sentence)
{
	const struct repl_send *send = &sending->send;
	json_t *result =
		json_pack("{s:I, s:I, s:I, s:I}", "chunks", (json_int_t)send->chunks, "sent",
			  (json_int_t)send->fetched, "found", (json_int_t)send->found, "sent_bytes",
			  (json_int_t)send->sent_bytes);
	env_timer_stop(sending->replicas->daemon->env, &sending->timer);
	job_progress(sending->job, send->fetched + send->found, send->chunks);
	job_end(sending->job, sending->cancelled && res < 0 ? -VS_ECANCELLED : res, sentence, "",
		result);
	free(sending);
}

static void sent(struct io_op *op)
{
	struct sending *sending = container_of(op, struct sending, send.op);
	sending_end(sending, (int)op->res, sending->send.sentence);
}

static void sealed(struct io_op *op)
{
	struct sending *sending = container_of(op, struct sending, seal.op);
	if (op->res < 0 || sending->cancelled) {
		sending_end(sending, op->res < 0 ? (int)op->res : -VS_ECANCELLED,
			    sending->seal.sentence);
		return;
	}
	sending->send.op.done = sent;
	repl_send(sending->replicas->repl, &sending->send);
	job_waits(sending->job, sending->send.waits); /* it is never done before that returns */
}

static void cancel(struct job *job, void *state)
{
	struct sending *sending = state;
	sending->cancelled = true;
	sending->send.cancel = true;
	repl_send_cancel(&sending->send);
}

int replica_send(struct job *job, struct daemon *daemon, const char *host, uint64_t rate_bytes)
{
	struct sending *sending = calloc(1, sizeof(*sending));
	if (!sending)
		return -ENOMEM;
	sending->job = job;
	sending->replicas = daemon->replicas;
	snprintf(sending->host, sizeof sending->host, "%s", host);
	sending->send.snapshot = job_object(job);
	sending->send.host = sending->host;
	sending->send.rate_bytes = rate_bytes;
	sending->send.goes_on = true;
	sending->timer.fire = progress;
	env_timer_start(daemon->env, &sending->timer, NSEC_PER_SEC / 2);
	job_cancels(job, cancel, sending);
	sending->seal.op.done = sealed;
	store_snap_seal(daemon->store, &sending->seal, job_object(job));
	return 0;
}

void replica_elect(const struct daemon *daemon, struct repl_election *election)
{
	repl_elect(daemon->replicas->repl, election);
}

/* ---- lists ---- */

json_t *peers_json(const struct daemon *daemon)
{
	struct peer_info *peers;
	size_t count;
	json_t *array = json_array();
	if (store_peers(daemon->store, &peers, &count) < 0)
		return array;
	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_pack("{s:s, s:s}", "name", peers[i].host,
						       "address", peers[i].address));
	free(peers);
	return array;
}

json_t *domains_json(const struct daemon *daemon)
{
	struct domain_info *domains;
	size_t count;
	json_t *array = json_array();
	if (store_domains(daemon->store, &domains, &count) < 0)
		return array;
	for (size_t i = 0; i < count; i++) {
		char uuid[UUID_TEXT_BYTES];
		text_uuid(domains[i].uuid, uuid);
		json_array_append_new(array, json_pack("{s:s, s:s, s:I, s:b}", "name",
						       domains[i].name, "uuid", uuid, "volumes",
						       (json_int_t)domains[i].volume_count, "own",
						       domains[i].own));
	}
	free(domains);
	return array;
}

json_t *transfers_json(const struct daemon *daemon)
{
	struct repl_session_info *sessions;
	size_t count;
	json_t *array = json_array();
	if (!daemon->replicas || repl_sessions(daemon->replicas->repl, &sessions, &count) < 0)
		return array;
	for (size_t i = 0; i < count; i++)
		json_array_append_new(
			array, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "host", sessions[i].host,
					 "direction", sessions[i].incoming ? "in" : "out", "object",
					 sessions[i].object, "sent_bytes",
					 (json_int_t)sessions[i].sent_bytes, "received_bytes",
					 (json_int_t)sessions[i].received_bytes, "clock_ahead_ms",
					 (json_int_t)(sessions[i].clock_ahead_ns / 1000000)));
	free(sessions);
	return array;
}

bool replicas_counters(const struct daemon *daemon, struct repl_counters *ret)
{
	if (!daemon->replicas)
		return false;
	repl_counters(daemon->replicas->repl, ret);
	return true;
}

const struct tls_identity *replicas_identity(const struct daemon *daemon)
{
	return daemon->replicas && daemon->replicas->identity.host[0] ? &daemon->replicas->identity
								      : NULL;
}

int replicas_clocks(const struct daemon *daemon, struct repl_clock **ret, size_t *ret_count)
{
	return daemon->replicas ? repl_clocks(daemon->replicas->repl, ret, ret_count) : -ENOENT;
}

const struct follows *replicas_follows(const struct daemon *daemon)
{
	return daemon->replicas ? daemon->replicas->follows : NULL;
}

const struct ships *replicas_ships(const struct daemon *daemon)
{
	return daemon->replicas ? daemon->replicas->ships : NULL;
}

bool replicas_idle(const struct daemon *daemon)
{
	return !daemon->replicas ||
	       (follows_idle(daemon->replicas->follows) && ships_idle(daemon->replicas->ships));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of vstored share. All of it belongs to the reactor's thread. */
#ifndef STORAGE_DAEMON_DAEMON_H
#define STORAGE_DAEMON_DAEMON_H

#include "storage/control/api.h"
#include "storage/nbd/nbd.h"
#include "storage/repl/repl.h"
#include "storage/store/store_list.h"
#include "storage/store/store_work.h"

#include <jansson.h>
#include <stdio.h>

#define VSTORED_VERSION "0.1.0"

struct daemon {
	struct env *env;
	struct store *store;
	struct nbd_server *nbd;
	struct http *http;
	struct jobs *jobs;
	struct exports *exports;
	struct attachments *attachments;
	struct policies *policies;
	struct replicas *replicas; /* NULL: no certificate, no peers */
	char store_path[512], run_path[96];
	int64_t group; /* vstore-admin's; -1: there is none */
	struct env_timer tick;
	struct nbd_heir *heirs; /* between an end and a start, see handover.c */
	size_t heir_count;
	uint8_t heirs_store[16];
	unsigned full_told; /* the percentage that was warned of last */
	bool stopping;
};

/* ---- api.c ---- */
void api_handle(void *state, struct http_request *request);

/* ---- jobs.c: long work, and changes that the client does not wait for ---- */
struct job;
int jobs_new(struct daemon *daemon);
void jobs_free(struct daemon *daemon);
bool jobs_idle(const struct daemon *daemon);
unsigned jobs_running(const struct daemon *daemon);
void jobs_cancel_all(struct daemon *daemon);
/* NULL: no memory, or too many run. */
struct job *job_new(struct daemon *daemon, const char *kind, const char *object);
struct job *job_find(struct daemon *daemon, uint64_t id);
/* Starts long work; it ends the job by itself. */
void job_work(struct job *job, void (*start)(struct job *job, struct store_work *work));
struct store *job_store(const struct job *job);
const char *job_object(const struct job *job);
const char *job_other(const struct job *job);
void job_set_other(struct job *job, const char *other);
void job_end(struct job *job, int res, const char *sentence, const char *holder, json_t *result);
int job_cancel(struct job *job); /* -EBUSY: this one cannot be */
/* Of work that is not the store's: how it goes, and how it is cancelled. */
void job_progress(struct job *job, uint64_t progress, uint64_t total);
void job_waits(struct job *job, const char *sentence); /* what it waits for now; "": nothing */
void job_cancels(struct job *job, void (*cancel)(struct job *job, void *state), void *state);
json_t *job_json(const struct job *job);
json_t *jobs_json(const struct daemon *daemon);
/* Answers with the job when it has ended, or after that time. */
void job_wait(struct job *job, struct http_request *request, uint64_t timeout_ns);

/* ---- exports.c: a socket for each volume ---- */
int exports_new(struct daemon *daemon);
void exports_free(struct daemon *daemon);
void exports_sync(struct daemon *daemon); /* after any change of volumes */

/* ---- attach.c: a socket for each lease, its holder's alone ---- */
int attachments_new(struct daemon *daemon);
void attachments_free(struct daemon *daemon);
json_t *attachments_json(const struct daemon *daemon);
/* Of a leased volume; "socket" is "" while nobody asked for one. */
json_t *attachment_json(const struct daemon *daemon, const struct volume_info *info);
/* 0: this user may have the holder's sockets; -EEXIST: *ret_other has it. */
int attachment_user_free(const struct daemon *daemon, const char *holder, uint32_t uid,
			 char ret_other[NAME_ROOM]);
/* The socket of the lease that stands, for this user (0: root alone); there already is fine. */
int attachment_serve(struct daemon *daemon, const struct volume_info *info, uint32_t uid);
/* Removes it and cuts who came by it; ends op with 0 when nothing of them can land any more, also
 * when there is no socket. Never done before it returns. */
void attachment_cut(struct daemon *daemon, uint32_t number, struct io_op *op);
/* Removes the sockets of leases that ended although nobody ended them: with their volume, which
 * became a copy. */
void attachments_sweep(struct daemon *daemon);
/* Drops its connections, without an answer: its client connects again. -ENOENT: it has no socket.
 */
int attachment_reconnect(struct daemon *daemon, uint32_t number);
/* By its name: -ENOENT. By its number: store_volume_info. */
int daemon_volume(const struct daemon *daemon, const char *name, struct volume_info *ret);

/* ---- handover.c: a planned restart keeps the NBD connections ---- */
/* Of the process that ends, with its heirs: leaves them for the program that is executed next. */
int handover_write(struct daemon *daemon);
/* Of the one that starts: what was left, if anything; before the first export; after the last. */
void handover_read(struct daemon *daemon);
void handover_inherit(struct daemon *daemon);
void handover_adopt(struct daemon *daemon);
void handover_drop(struct daemon *daemon); /* closes what nobody took */

/* ---- replica.c: peers and copies ---- */
int replicas_new(struct daemon *daemon, const char *listen, const char *tls_folder, char *sentence);
void replicas_stop(struct daemon *daemon);
void replicas_free(struct daemon *daemon);
/* The job's object to a peer; it ends the job by itself. */
int replica_send(struct job *job, struct daemon *daemon, const char *host, uint64_t rate_bytes);
void replica_elect(const struct daemon *daemon, struct repl_election *election); /* with TLS only */
json_t *peers_json(const struct daemon *daemon);
json_t *domains_json(const struct daemon *daemon);
json_t *transfers_json(const struct daemon *daemon);
bool replicas_counters(const struct daemon *daemon, struct repl_counters *ret); /* false: none */
const struct follows *replicas_follows(const struct daemon *daemon);		/* NULL: none */
const struct ships *replicas_ships(const struct daemon *daemon);		/* NULL: none */
int replicas_clocks(const struct daemon *daemon, struct repl_clock **ret, size_t *ret_count);
const struct tls_identity *replicas_identity(const struct daemon *daemon); /* NULL: none */
bool replicas_idle(const struct daemon *daemon);

/* ---- metrics_replica.c ---- */
void replicas_print(const struct daemon *daemon, FILE *out);
void replicas_problems(const struct daemon *daemon, json_t *problems); /* adds to them */

/* ---- metrics.c ---- */
char *metrics_text(const struct daemon *daemon, size_t *ret_bytes); /* NULL: no memory */
json_t *status_json(const struct daemon *daemon);
/* "vstore_NAME" and what it is; the samples follow, or (metric_print) its only one. */
void metric_head(FILE *out, const char *name, const char *type, const char *help);
void metric_print(FILE *out, const char *name, const char *type, const char *help, uint64_t value);
void problem_add(json_t *problems, const char *sentence, const char *hint); /* to a status */
json_t *store_json(const struct daemon *daemon);
json_t *format_json(const struct daemon *daemon);
json_t *forecast_json(const struct daemon *daemon);
unsigned daemon_full_percent(const struct daemon *daemon); /* of what the store may use */

/* ---- options.c ---- */
struct daemon_options {
	char store_path[512], run_path[96], log_dir[512], config_path[512];
	char listen[PEER_ADDRESS_ROOM], tls[512];
	bool init, check, any_file_system;
	uint64_t log_bytes;
	struct store_options store;
	struct nbd_server_options nbd;
	unsigned worker_count;
};
/* 0; 1: all is said (--help, --version); negative: the sentence says what is wrong. */
int options_read(int argc, char **argv, struct daemon_options *ret, char sentence[SENTENCE_BYTES]);

#endif

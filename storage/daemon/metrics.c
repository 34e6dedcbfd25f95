/* SPDX-License-Identifier: Apache-2.0 */
/* What the store and the NBD server count, for Prometheus, for `vstorectl status` and as JSON.
 * Tables by subject name each figure once. */
#include "storage/daemon/daemon.h"

#include "proto/text.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FULL_WARN_PERCENT 80u
#define FULL_ALARM_PERCENT 90u

struct figure {
	const char *name, *type, *help;
	uint64_t value;
};

#define FIGURES_MAX 80u

struct figures {
	struct figure at[FIGURES_MAX];
	size_t count;
};

static void figures_add(struct figures *to, const struct figure *from, size_t count)
{
	assert(to->count + count <= FIGURES_MAX);
	memcpy(&to->at[to->count], from, count * sizeof *from);
	to->count += count;
}

/* What the store takes, and may take. */
static void space_figures(struct figures *to, const struct store_info *i)
{
	const struct figure figures[] = {
		{"disk_free_bytes", "gauge", "Free on the store's file system.",
		 i->disk_free_bytes},
		{"disk_total_bytes", "gauge", "Size of the store's file system.",
		 i->disk_total_bytes},
		{"room_bytes", "gauge", "What new data may still take.", i->room_bytes},
		{"capacity_bytes", "gauge", "What the store may take at most; 0: no bound.",
		 i->capacity_bytes},
		{"segments", "gauge", "Segment files.", i->segment_count},
		{"segment_bytes", "gauge", "Bytes of all segment files.", i->segment_bytes},
		{"live_bytes", "gauge", "Part of segment_bytes that is needed, or not counted yet.",
		 i->live_bytes},
		{"garbage_bytes", "gauge", "Part of segment_bytes that a collection may free.",
		 i->garbage_bytes},
		{"prepared_bytes", "gauge", "Part of segment_bytes that nothing is in yet.",
		 i->prepared_bytes},
		{"reserve_bytes", "gauge", "Part of segment_bytes kept for collections.",
		 i->reserve_bytes},
		{"unique_bytes", "gauge", "Chunks that are stored, 64 KiB each, as last counted.",
		 i->unique_bytes},
		{"trash_objects", "gauge", "Volumes and snapshots in the trash.", i->trash_count},
		{"trash_bytes", "gauge",
		 "Part of live_bytes that only the trash needs, as last counted.", i->trash.bytes},
		{"counted_age_seconds", "gauge",
		 "How long ago the last collection counted; 0 before the first one.",
		 i->counted_age_ns / NSEC_PER_SEC},
	};
	figures_add(to, figures, sizeof figures / sizeof *figures);
}

/* What it does by itself: scrubs, mends, collects. */
static void care_figures(struct figures *to, const struct store_info *i,
			 const struct store_counters *c)
{
	const struct figure figures[] = {
		{"scrub_oldest_seconds", "gauge",
		 "How long ago, in time that the store was open, the record verified longest ago "
		 "was so.",
		 i->scrub_oldest_ns / NSEC_PER_SEC},
		{"scrubbed_records_total", "counter", "Records that the scrub verified.",
		 c->scrubbed_records},
		{"scrub_damaged_total", "counter", "Records that the scrub found bad.",
		 c->scrub_damaged},
		{"healed_total", "counter",
		 "Damaged or missing records that a peer had, stored anew.", c->healed},
		{"heals_failed_total", "counter", "Damaged or missing records that no peer gave.",
		 c->heals_failed},
		{"collections_total", "counter", "Collections that ended.", c->collections},
		{"collections_failed_total", "counter", "Collections that stopped with an error.",
		 c->collections_failed},
		{"collection_failing", "gauge", "1: the last collection stopped with an error.",
		 i->gc_failed[0] != 0},
		{"scrubs_failed_total", "counter", "Segments that the scrub could not go over.",
		 c->scrubs_failed},
		{"scrub_failing", "gauge", "1: the scrub does not get on.",
		 i->scrub_failed[0] != 0},
		{"moved_bytes_total", "counter", "Records that collections copied.",
		 c->moved_bytes},
		{"repacked_in_bytes_total", "counter",
		 "Records that collections compressed anew, before it.", c->repacked_in_bytes},
		{"repacked_out_bytes_total", "counter", "The same, after it.",
		 c->repacked_out_bytes},
		{"lost_segments", "gauge", "Segments that could not be opened.", i->lost_segments},
	};
	figures_add(to, figures, sizeof figures / sizeof *figures);
}

/* What it has in its index, memory and log. */
static void inside_figures(struct figures *to, const struct store_info *i)
{
	const struct figure figures[] = {
		{"chunks", "gauge", "Records in the index.", i->chunk_count},
		{"index_bytes", "gauge", "Memory of the index.", i->index_bytes},
		{"memory_bound_bytes", "gauge", "What the configuration lets the store use.",
		 i->memory_bound_bytes},
		{"log_bytes", "gauge", "Size of the write-ahead log.", i->log_bytes},
		{"log_used_bytes", "gauge", "Part of the log that is needed.", i->log_used_bytes},
		{"dirty_bytes", "gauge", "Chunks that are not folded yet, 64 KiB each.",
		 i->dirty_bytes},
		{"logical_bytes", "gauge",
		 "Data of all volumes that is folded, as their clients see it.", i->logical_bytes},
		{"read_only", "gauge", "1: the store takes no writes.", i->read_only},
		{"full", "gauge", "1: there was no space for a new segment.", i->full},
	};
	figures_add(to, figures, sizeof figures / sizeof *figures);
}

/* What its clients ask for. */
static void request_figures(struct figures *to, const struct store_counters *c)
{
	const struct figure figures[] = {
		{"reads_total", "counter", "Read requests.", c->reads},
		{"read_bytes_total", "counter", "Bytes read.", c->read_bytes},
		{"writes_total", "counter", "Write requests.", c->writes},
		{"written_bytes_total", "counter", "Bytes written.", c->write_bytes},
		{"trims_total", "counter", "Trim and zero requests.", c->trims},
		{"flushes_total", "counter", "Flush requests.", c->flushes},
		{"cache_hits_total", "counter", "Reads of chunks that memory answered.",
		 c->cache_hits},
		{"cache_misses_total", "counter", "Reads of chunks that went to a segment.",
		 c->cache_misses},
		{"prefetched_chunks_total", "counter",
		 "Chunks read ahead of guests that read in order.", c->prefetched_chunks},
	};
	figures_add(to, figures, sizeof figures / sizeof *figures);
}

/* What becomes of what they wrote; and bad records and disks. */
static void write_figures(struct figures *to, const struct store_counters *c)
{
	const struct figure figures[] = {
		{"log_commits_total", "counter", "Commits written to the log.", c->commits},
		{"chunks_stored_total", "counter", "Records appended to segments.",
		 c->chunks_stored},
		{"chunks_deduplicated_total", "counter", "Chunks that were stored already.",
		 c->chunks_deduplicated},
		{"chunk_in_bytes_total", "counter", "Bytes hashed.", c->chunk_bytes_in},
		{"chunk_out_bytes_total", "counter", "Bytes stored, compressed.",
		 c->chunk_bytes_out},
		{"folds_total", "counter", "Layers folded into maps.", c->folds},
		{"folded_chunks_total", "counter", "Chunks put together by folds.",
		 c->folded_chunks},
		{"checkpoints_total", "counter", "Checkpoints written.", c->checkpoints},
		{"segments_sealed_total", "counter", "Segments sealed.", c->segments_sealed},
		{"segments_dropped_total", "counter", "Segments given back.", c->segments_dropped},
		{"checksum_errors_total", "counter", "Records that were read and found bad.",
		 c->checksum_errors},
		{"io_errors_total", "counter", "Errors of the disk.", c->io_errors},
	};
	figures_add(to, figures, sizeof figures / sizeof *figures);
}

static void nbd_figures(struct figures *to, const struct nbd_counters *n)
{
	const struct figure figures[] = {
		{"nbd_connections", "gauge", "NBD connections.", n->connections},
		{"nbd_connections_total", "counter", "NBD connections accepted.",
		 n->connections_total},
		{"nbd_refused_total", "counter", "NBD connections beyond the limit.",
		 n->connections_refused},
		{"nbd_dropped_total", "counter", "NBD connections dropped for what they sent.",
		 n->connections_dropped},
		{"nbd_requests_total", "counter", "NBD requests.", n->requests},
		{"nbd_errors_total", "counter", "NBD requests answered with an error.", n->errors},
	};
	figures_add(to, figures, sizeof figures / sizeof *figures);
}

static void figures_collect(const struct daemon *daemon, struct figures *out)
{
	struct store_info info;
	struct store_counters counters;
	struct nbd_counters nbd;
	store_info(daemon->store, &info);
	store_counters(daemon->store, &counters);
	nbd_server_counters(daemon->nbd, &nbd);
	const struct figure jobs = {"jobs_running", "gauge", "Jobs that run.",
				    jobs_running(daemon)};
	out->count = 0;
	space_figures(out, &info);
	care_figures(out, &info, &counters);
	inside_figures(out, &info);
	request_figures(out, &counters);
	write_figures(out, &counters);
	nbd_figures(out, &nbd);
	figures_add(out, &jobs, 1);
}

void metric_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP vstore_%s %s\n# TYPE vstore_%s %s\n", name, help, name, type);
}

void metric_print(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
	metric_head(out, name, type, help);
	fprintf(out, "vstore_%s %llu\n", name, (unsigned long long)value);
}

/* Of volumes with limits alone. */
static void throttled_print(const struct daemon *daemon, FILE *out)
{
	struct nbd_throttled *list;
	size_t count;
	if (nbd_server_throttled(daemon->nbd, &list, &count) < 0)
		return;
	if (count)
		metric_head(out, "volume_throttled_seconds_total", "counter",
			    "Time that connections waited for their volume's limits.");
	for (size_t i = 0; i < count; i++)
		fprintf(out, "vstore_volume_throttled_seconds_total{volume=\"%s\"} %.6f\n",
			list[i].volume, (double)list[i].waited_ns / (double)NSEC_PER_SEC);
	if (count)
		metric_head(out, "volume_throttled_requests_total", "counter",
			    "Requests that had to wait for it.");
	for (size_t i = 0; i < count; i++)
		fprintf(out, "vstore_volume_throttled_requests_total{volume=\"%s\"} %llu\n",
			list[i].volume, (unsigned long long)list[i].requests);
	free(list);
}

char *metrics_text(const struct daemon *daemon, size_t *ret_bytes)
{
	struct figures figures;
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_bytes);
	if (!out)
		return NULL;
	figures_collect(daemon, &figures);
	for (size_t i = 0; i < figures.count; i++)
		metric_print(out, figures.at[i].name, figures.at[i].type, figures.at[i].help,
			     figures.at[i].value);
	throttled_print(daemon, out);
	replicas_print(daemon, out);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static json_t *features_json(uint64_t features)
{
	json_t *array = json_array();
	for (unsigned bit = 0; store_feature_name(bit); bit++)
		if (features >> bit & 1)
			json_array_append_new(array, json_string(store_feature_name(bit)));
	return array;
}

/* What the store may hold, and what an upgrade would add. */
json_t *format_json(const struct daemon *daemon)
{
	struct store_info info;
	store_info(daemon->store, &info);
	return json_pack("{s:i, s:o, s:o}", "version", (int)info.format_version, "features",
			 features_json(info.features), "missing",
			 features_json(info.features_missing));
}

json_t *store_json(const struct daemon *daemon)
{
	struct figures figures;
	struct store_info info;
	char uuid[UUID_TEXT_BYTES], created[TIME_TEXT_BYTES];
	figures_collect(daemon, &figures);
	store_info(daemon->store, &info);
	text_uuid(info.uuid, uuid);
	text_time(info.created_wall_ns, created);
	json_t *out =
		json_pack("{s:i, s:s, s:s, s:s, s:b, s:s, s:s, s:s, s:s}", "schema", 1, "uuid",
			  uuid, "created", created, "path", daemon->store_path, "read_only",
			  info.read_only, "reason", info.reason, "collection_error", info.gc_failed,
			  "scrub_error", info.scrub_failed, "scrub_finding", info.scrub_found);
	json_object_set_new(out, "format", format_json(daemon));
	if (info.trash.known)
		json_object_set_new(out, "trash_counted",
				    time_json(env_wall_ns(daemon->env) - info.trash.age_ns));
	for (size_t i = 0; i < figures.count; i++)
		if (!json_object_get(out, figures.at[i].name))
			json_object_set_new(out, figures.at[i].name,
					    json_integer((json_int_t)figures.at[i].value));
	return out;
}

static json_t *days_json(double days)
{
	return days < 0 ? json_null() : json_real(days);
}

json_t *forecast_json(const struct daemon *daemon)
{
	struct store_forecast f;
	store_forecast(daemon->store, &f);
	return json_pack("{s:i, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "schema", 1,
			 "known", f.known, "sentence", f.sentence, "history_seconds",
			 (json_int_t)(f.history_ns / NSEC_PER_SEC), "points", (json_int_t)f.points,
			 "used_bytes", (json_int_t)f.used_bytes, "available_bytes",
			 (json_int_t)f.available_bytes, "bytes_per_day", (json_int_t)f.bytes_a_day,
			 "days", days_json(f.days), "days_low", days_json(f.days_low), "days_high",
			 days_json(f.days_high));
}

void problem_add(json_t *problems, const char *sentence, const char *hint)
{
	json_array_append_new(problems,
			      json_pack("{s:s, s:s}", "sentence", sentence, "hint", hint));
}

unsigned daemon_full_percent(const struct daemon *daemon)
{
	struct store_info info;
	store_info(daemon->store, &info);
	uint64_t all = info.segment_bytes + info.room_bytes;
	return all ? (unsigned)(info.segment_bytes * 100 / all) : 100;
}

json_t *status_json(const struct daemon *daemon)
{
	struct store_info info;
	struct store_counters counters;
	char uuid[UUID_TEXT_BYTES], sentence[SENTENCE_BYTES];
	json_t *problems = json_array();
	store_info(daemon->store, &info);
	store_counters(daemon->store, &counters);
	if (info.read_only)
		problem_add(problems, info.reason[0] ? info.reason : "The store is read-only.",
			    "Look at the disk's health, then restart vstored.");
	if (info.lost_segments) {
		snprintf(sentence, sizeof sentence, "%u segments could not be opened.",
			 info.lost_segments);
		problem_add(problems, sentence, "vstorectl store check names what they affect.");
	}
	if (counters.healed && !counters.heals_failed)
		problem_add(problems, "Records were read that are damaged; peers had them.",
			    "Look at the disk's health; vstorectl store scrub mends the rest.");
	else if (counters.checksum_errors)
		problem_add(problems, "Records were read that are damaged.",
			    "vstorectl store check names what they affect.");
	if (info.scrub_found[0]) {
		snprintf(sentence, sizeof sentence, "The scrub found damage: %.*s",
			 SENTENCE_BYTES - 40, info.scrub_found);
		problem_add(problems, sentence, "vstorectl store check names what it affects.");
	}
	if (info.scrub_failed[0])
		problem_add(problems, info.scrub_failed, "Look at the disk's health.");
	if (info.gc_failed[0]) {
		snprintf(sentence, sizeof sentence, "Nothing is freed: %.*s", SENTENCE_BYTES - 40,
			 info.gc_failed);
		problem_add(problems, sentence, "Mend what it says, then run vstorectl store gc.");
	}
	unsigned percent = daemon_full_percent(daemon);
	if (info.full || percent >= FULL_WARN_PERCENT) {
		snprintf(sentence, sizeof sentence, "The store is %u %% full%s.", percent,
			 info.full ? ", and new data is refused" : "");
		problem_add(problems, sentence, "Purge the trash, delete snapshots, or add space.");
	}
	replicas_problems(daemon, problems);
	text_uuid(info.uuid, uuid);
	const char *state = info.read_only		? "readonly"
			    : json_array_size(problems) ? "warning"
							: "ok";
	json_t *store = store_json(daemon);
	return json_pack("{s:i, s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:I}", "schema", 1, "version",
			 VSTORED_VERSION, "uuid", uuid, "state", state, "problems", problems,
			 "store", store, "volumes", (json_int_t)info.volume_count, "snapshots",
			 (json_int_t)info.snapshot_count, "jobs_running",
			 (json_int_t)jobs_running(daemon));
}

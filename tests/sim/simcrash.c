/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ends of a world: a process that is gone, a disk without power, rot. Whatever a crash finds in
 * doubt is kept, dropped or torn, by chance or by a plan.
 */
#include "tests/sim/simenv_int.h"

#include <stdalign.h>

/* What becomes of the next thing that a crash finds in doubt. */
static enum sim_fate fate_next(struct sim *sim)
{
	const struct sim_crash_plan *plan = sim->plan;
	uint32_t number = sim->doubts++;
	if (!plan)
		return (enum sim_fate)sim_random(sim, 3);
	return number == plan->one ? plan->fate_of_one : plan->fate;
}

/* Lets a write reach `to` whole, not at all, or in some of its sectors. */
static void write_survives(struct sim *sim, uint8_t *to, const uint8_t *data, uint64_t offset,
			   uint32_t bytes)
{
	enum sim_fate fate = fate_next(sim);
	if (fate == SIM_KEPT)
		memcpy(to + offset, data, bytes);
	for (uint32_t at = 0; fate == SIM_TORN && at < bytes; at += SECTOR_BYTES)
		if (sim_random(sim, 2))
			memcpy(to + offset + at, data + at, SECTOR_BYTES);
	*(fate == SIM_KEPT	? &sim->counts.kept
	  : fate == SIM_DROPPED ? &sim->counts.dropped
				: &sim->counts.torn) += 1;
}

static void file_power_cut(struct sim *sim, struct sim_file *file)
{
	if (!file->entry_durable && fate_next(sim) != SIM_KEPT) {
		sim->counts.lost_files++;
		file_gone(file);
		return;
	}
	for (struct unsynced *write = file->writes; write; write = write->next)
		write_survives(sim, file->durable, write->data, write->offset, write->bytes);
	for (struct unsynced *write = file->writes; write; write = write->next)
		memcpy(file->now + write->offset, file->durable + write->offset, write->bytes);
	if (file->differs)
		memcpy(file->now, file->durable, file->touched);
	file->differs = false;
	writes_drop(file);
	if (file->bytes != file->durable_bytes && fate_next(sim) == SIM_KEPT)
		file->durable_bytes = file->bytes;
	file->bytes = file->durable_bytes;
}

void *sim_process_memory(struct sim *sim, size_t bytes)
{
	void *at = sim_process_memory_raw(sim, bytes, alignof(max_align_t));
	return memset(at, 0, bytes);
}

static struct process_memory *memory_of(void *at)
{
	return container_of(at, struct process_memory, data);
}

size_t sim_process_memory_bytes(void *at)
{
	return memory_of(at)->bytes;
}

void *sim_process_memory_raw(struct sim *sim, size_t bytes, size_t align)
{
	char *raw = malloc(sizeof(struct process_memory) + align + bytes);
	assert(raw);
	void *at = (void *)round_up((uintptr_t)(raw + sizeof(struct process_memory)), align);
	struct process_memory *memory = memory_of(at);
	memory->raw = raw;
	memory->bytes = bytes;
	memory->next = sim->process_memory;
	memory->before = &sim->process_memory;
	if (memory->next)
		memory->next->before = &memory->next;
	sim->process_memory = memory;
	return memory->data;
}

void sim_process_memory_free(void *at)
{
	struct process_memory *memory = memory_of(at);
	*memory->before = memory->next;
	if (memory->next)
		memory->next->before = memory->before;
	free(memory->raw);
}

void sim_process_stays(struct sim *sim)
{
	sim->memory_stays = true;
}

void sim_process_end(struct sim *sim)
{
	while (sim->process_memory) {
		struct process_memory *next = sim->process_memory->next;
		free(sim->process_memory->raw);
		sim->process_memory = next;
	}
}

/* A write that was under way: after a kill it is there, or not, or in part; a power cut finds it
 * among what was not synced. */
static void write_interrupted(struct sim *sim, const struct event *event, bool power_cut)
{
	struct event landed = *event;
	uint8_t *merged = malloc(event->bytes), *buf = event->buf;
	memcpy(merged, event->file->now + event->offset, event->bytes);
	if (power_cut)
		memcpy(merged, buf, event->bytes);
	else
		write_survives(sim, merged - event->offset, buf, event->offset, event->bytes);
	landed.buf = merged;
	landed.flags = 0;
	file_write(sim, &landed);
	free(merged);
}

static int event_compare(const void *a, const void *b)
{
	uint64_t x = ((const struct event *)a)->number, y = ((const struct event *)b)->number;
	return x < y ? -1 : x > y;
}

void sim_crash(struct sim *sim, bool power_cut)
{
	*(power_cut ? &sim->counts.power_cuts : &sim->counts.kills) += 1;
	qsort(sim->events, sim->event_count, sizeof(*sim->events), event_compare);
	for (size_t i = 0; i < sim->event_count; i++)
		if (sim->events[i].kind == EVENT_WRITE)
			write_interrupted(sim, &sim->events[i], power_cut);
	if (!sim->net && !sim->memory_stays)
		sim_process_end(sim);
	sim->event_count = sim->timer_count = 0;
	for (unsigned i = 0; i < FILES_MAX; i++) {
		struct sim_file *file = &sim->files[i];
		if (!file->used)
			continue;
		bool back = power_cut && file->unlinked && !file->unlink_durable &&
			    fate_next(sim) == SIM_DROPPED;
		if (file->unlinked && !back) {
			file_gone(file);
			continue;
		}
		sim->counts.files_back += file->unlinked;
		file->unlinked = false;
		if (power_cut)
			file_power_cut(sim, file);
	}
}

uint32_t sim_crash_planned(struct sim *sim, const struct sim_crash_plan *plan)
{
	sim->plan = plan;
	sim->doubts = 0;
	sim_crash(sim, plan->power_cut);
	sim->plan = NULL;
	return sim->doubts;
}

/* ---- a copy of the disk, made while no process runs, and put back later ---- */

struct sim_backup {
	struct sim_file files[FILES_MAX];
};

struct sim_backup *sim_backup_new(const struct sim *sim)
{
	struct sim_backup *backup = calloc(1, sizeof(*backup));
	for (unsigned i = 0; i < FILES_MAX; i++) {
		const struct sim_file *from = &sim->files[i];
		struct sim_file *to = &backup->files[i];
		if (!from->used || from->unlinked)
			continue;
		*to = *from;
		to->now = malloc(from->touched + 1);
		memcpy(to->now, from->now, from->touched);
	}
	return backup;
}

void sim_backup_restore(struct sim *sim, const struct sim_backup *backup)
{
	for (unsigned i = 0; i < FILES_MAX; i++) {
		const struct sim_file *from = &backup->files[i];
		struct sim_file *to = &sim->files[i];
		assert(!to->used || !to->handles);
		if (to->used)
			file_gone(to);
		if (!from->used)
			continue;
		*to = *from;
		to->entry_durable = true;
		to->differs = false;
		to->handles = 0;
		to->durable_bytes = to->bytes;
		to->writes = NULL;
		to->last = &to->writes;
		to->now = file_memory();
		to->durable = file_memory();
		memcpy(to->now, from->now, from->touched);
		memcpy(to->durable, from->now, from->touched);
	}
}

void sim_backup_free(struct sim_backup *backup)
{
	for (unsigned i = 0; backup && i < FILES_MAX; i++)
		free(backup->files[i].now);
	free(backup);
}

/* ---- rot ---- */

/* In whatever folder. */
static struct sim_file *file_named(struct sim *sim, const char *name)
{
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (sim->files[i].used && !sim->files[i].unlinked &&
		    strcmp(sim->files[i].name, name) == 0)
			return &sim->files[i];
	return NULL;
}

static void bit_flip(struct sim *sim, struct sim_file *file, uint64_t at, uint8_t bit)
{
	file->touched = max_u64(file->touched, at + 1);
	file->now[at] ^= bit;
	file->durable[at] ^= bit;
	sim->counts.rotten++;
}

const uint8_t *sim_file_look(struct sim *sim, const char *name, uint64_t *ret_bytes)
{
	struct sim_file *file = file_named(sim, name);
	if (!file)
		return NULL;
	*ret_bytes = file->bytes;
	return file->now;
}

void sim_flip(struct sim *sim, const char *name, uint64_t offset)
{
	struct sim_file *file = file_named(sim, name);
	if (file)
		bit_flip(sim, file, offset, (uint8_t)(1u << sim_random(sim, 8)));
}

bool sim_rot(struct sim *sim, const char *prefix, uint64_t from)
{
	for (unsigned tries = 0; tries < 200; tries++) {
		struct sim_file *file = &sim->files[sim_random(sim, FILES_MAX)];
		if (!file->used || file->unlinked ||
		    strncmp(file->name, prefix, strlen(prefix)) != 0 || file->high <= from)
			continue;
		uint64_t at = from + sim_random(sim, file->high - from);
		bit_flip(sim, file, at, 0x40);
		return true;
	}
	return false;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Guests of a cluster: writes, reads and flushes side by side, at each volume's primary. */
#include "tests/sim/cluster.h"
#include "tests/sim/model.h"

struct operation {
	struct store_request request; /* first: found back by its address */
	struct cluster *cluster;
	unsigned volume, host;
	uint32_t block, count;
	uint64_t number, generation;
	uint64_t expected[16]; /* a read: of blocks that nobody writes to; 0: zeros */
	bool known[16];
	uint8_t *data;
	void *memory;
};

static void write_done(const struct operation *operation, struct volume *volume)
{
	if (!volume->written)
		volume->written = volume->model.events;
	for (uint32_t i = 0; i < operation->count; i++)
		cluster_answered(&volume->model, operation->block + i, operation->number);
}

static void read_done(const struct operation *operation)
{
	for (uint32_t i = 0; i < operation->count; i++)
		if (operation->known[i] &&
		    !cluster_is(operation->expected[i], operation->data + i * (size_t)BLOCK_BYTES))
			operation->cluster->wrong =
				"a read saw what is not the last answered write";
}

static void flush_done(const struct operation *operation, struct volume *volume)
{
	bool in_step = false;
	cluster_flushed(&volume->model, operation->number);
	for (unsigned h = 0; h < HOSTS; h++) {
		volume->sure[h] |= volume->in_step[h] && volume->written &&
				   volume->written < operation->number;
		in_step |= volume->in_step[h];
	}
	totals.flushes_in_step += in_step;
	totals.flushes_voted += volume->voted;
}

static void operation_done(struct io_op *op)
{
	struct operation *operation = (struct operation *)op;
	struct cluster *cluster = operation->cluster;
	struct volume *volume = &cluster->volumes[operation->volume];
	const struct host *host = &cluster->hosts[operation->host];
	enum request_kind kind = operation->request.kind;
	bool current = operation->generation == volume->generation;
	bool answered = !volume->voted || store_view_answers(operation->request.view);
	volume->under_way[operation->host]--;
	volume->model.events++;
	if (op->res < 0 && !host->ill && !host->leaving &&
	    !(volume->voted && op->res == -VS_EFENCED))
		cluster->wrong = "a request failed without a reason";
	for (uint32_t i = 0; i < operation->count && current; i++)
		volume->model.blocks[operation->block + i].busy = false;
	totals.unanswered += !answered;
	if (!current || !answered)
		; /* nobody hears of it */
	else if (op->res == 0 && (kind == REQUEST_WRITE || kind == REQUEST_ZERO))
		write_done(operation, volume);
	else if (op->res == 0 && kind == REQUEST_READ)
		read_done(operation);
	else if (op->res == 0 && kind == REQUEST_FLUSH)
		flush_done(operation, volume);
	sim_process_memory_free(operation->memory);
	sim_process_memory_free(operation);
}

static struct operation *operation_at(struct cluster *cluster, unsigned number, unsigned at,
				      enum request_kind kind, uint32_t block, uint32_t count)
{
	struct volume *volume = &cluster->volumes[number];
	struct host *host = &cluster->hosts[at];
	host_enter(host);
	struct operation *operation = sim_process_memory(host->sim, sizeof *operation);
	uint8_t *memory = sim_process_memory(host->sim, (count + 1) * (size_t)BLOCK_BYTES);
	*operation = (struct operation){
		.cluster = cluster,
		.volume = number,
		.host = at,
		.generation = at == volume->primary ? volume->generation : UINT64_MAX,
		.block = block,
		.count = count,
		.number = ++volume->model.events,
		.memory = memory,
		.data = (uint8_t *)round_up((uintptr_t)memory, BLOCK_BYTES)};
	operation->request = (struct store_request){.op.done = operation_done,
						    .view = at == volume->primary ? volume->view
										  : volume->old[at],
						    .kind = kind,
						    .offset_bytes = block * (uint64_t)BLOCK_BYTES,
						    .length_bytes = count * (uint64_t)BLOCK_BYTES,
						    .data = operation->data};
	volume->under_way[at]++;
	return operation;
}

static struct operation *operation_new(struct cluster *cluster, unsigned number,
				       enum request_kind kind, uint32_t block, uint32_t count)
{
	return operation_at(cluster, number, cluster->volumes[number].primary, kind, block, count);
}

void guest_write(struct cluster *cluster, unsigned number)
{
	struct volume *volume = &cluster->volumes[number];
	struct sim *sim = cluster->hosts[volume->primary].sim;
	bool chunk = sim_random(sim, 4) == 0, zero = sim_random(sim, 12) == 0;
	uint32_t count = chunk ? CHUNK_BLOCKS : 1 + (uint32_t)sim_random(sim, 4);
	uint32_t block = (uint32_t)sim_random(sim, BLOCKS - count + 1);
	if (chunk)
		block = block / CHUNK_BLOCKS * CHUNK_BLOCKS;
	if (!cluster_idle(&volume->model, block, count))
		return;
	struct operation *operation =
		operation_new(cluster, number, zero ? REQUEST_ZERO : REQUEST_WRITE, block, count);
	uint64_t value = (number + 1) * 10000000 + operation->number * 16;
	if (chunk && sim_random(sim, 2)) /* what others may have */
		value = 16 * (1 + sim_random(sim, 20));
	totals.writes++;
	for (uint32_t i = 0; i < count; i++) {
		volume->model.blocks[block + i].busy = true;
		cluster_submit(&volume->model, block + i, zero ? 0 : value + i, operation->number);
		if (!zero)
			model_fill(operation->data + i * (size_t)BLOCK_BYTES, value + i);
	}
	store_submit(&operation->request);
}

void guest_read(struct cluster *cluster, unsigned number)
{
	struct volume *volume = &cluster->volumes[number];
	struct sim *sim = cluster->hosts[volume->primary].sim;
	uint32_t count = 1 + (uint32_t)sim_random(sim, 8);
	uint32_t block = (uint32_t)sim_random(sim, BLOCKS - count + 1);
	if (!cluster_idle(&volume->model, block, count))
		return;
	struct operation *operation = operation_new(cluster, number, REQUEST_READ, block, count);
	totals.reads++;
	for (uint32_t i = 0; i < count; i++) {
		struct cluster_block *at = &volume->model.blocks[block + i];
		const struct cluster_version *newest = &at->versions[at->count - 1];
		operation->known[i] = newest->answered;
		operation->expected[i] = newest->value;
		at->busy = true; /* nobody writes there meanwhile */
	}
	store_submit(&operation->request);
}

void guest_flush(struct cluster *cluster, unsigned number)
{
	totals.flushes++;
	store_submit(&operation_new(cluster, number, REQUEST_FLUSH, 0, 0)->request);
}

void guest_ask_old(struct cluster *cluster, unsigned number, unsigned at)
{
	static const enum request_kind kinds[] = {REQUEST_READ, REQUEST_WRITE, REQUEST_FLUSH};
	struct volume *volume = &cluster->volumes[number];
	struct sim *sim = cluster->hosts[at].sim;
	enum request_kind kind = kinds[sim_random(sim, 3)];
	uint32_t count = kind == REQUEST_FLUSH ? 0 : 1;
	uint32_t block = count ? (uint32_t)sim_random(sim, BLOCKS) : 0;
	struct operation *operation = operation_at(cluster, number, at, kind, block, count);
	if (kind ==
	    REQUEST_WRITE) { /* nobody hears of it, but should it be the primary again ... */
		uint64_t value = (number + 1) * 100000000 + operation->number;
		model_fill(operation->data, value);
		cluster_submit(&volume->model, block, value, 0);
	}
	store_submit(&operation->request);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/simenv_int.h"
#include "tests/sim/simnet.h"

#include <stdalign.h>

struct sim *sim_process;

void *process_malloc(size_t bytes)
{
	return sim_process_memory_raw(sim_process, bytes, alignof(max_align_t));
}

void *process_calloc(size_t count, size_t bytes)
{
	return memset(process_malloc(count * bytes), 0, count * bytes);
}

void *process_aligned(size_t align, size_t bytes)
{
	return sim_process_memory_raw(sim_process, bytes, align);
}

int process_memalign(void **ret, size_t align, size_t bytes)
{
	*ret = process_aligned(align, bytes);
	return 0;
}

void process_free(void *at)
{
	if (at)
		sim_process_memory_free(at);
}

void *process_realloc(void *at, size_t bytes)
{
	void *larger = process_malloc(bytes);
	if (at)
		memcpy(larger, at, min_u64(bytes, sim_process_memory_bytes(at)));
	process_free(at);
	return larger;
}

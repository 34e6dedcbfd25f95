/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's definition beside its volumes. NAME-meta has two places of 256 KiB; generation n is
 * written to place n % 2, so the one before stays whole until this one is durable.
 *
 *   0 "vstoreVM"  8 generation  16 bytes of text  20 CRC-32C of the text  24 the text, JSON
 */
#include "agent/vm/spec.h"

#include "proto/crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PLACE_BYTES (META_BYTES / 2)

struct meta_head {
	char magic[8];
	uint64_t generation;
	uint32_t text_bytes, text_crc;
};
_Static_assert(sizeof(struct meta_head) == 24, "the head's size is on disk");

int meta_write(const struct storage *storage, const json_t *spec, struct problem *problem)
{
	char *text = json_dumps(spec, JSON_INDENT(1) | JSON_SORT_KEYS);
	size_t bytes = text ? strlen(text) : 0;
	struct meta_head head = {.magic = "vstoreVM",
				 .generation = (uint64_t)spec_number(spec, "generation"),
				 .text_bytes = (uint32_t)bytes};
	size_t whole = round_up(sizeof head + bytes, BLOCK_BYTES);
	uint8_t *place = text && whole <= PLACE_BYTES ? calloc(1, whole) : NULL;
	int res = -E2BIG;
	if (place) {
		head.text_crc = crc32c(0, text, bytes);
		memcpy(place, &head, sizeof head);
		memcpy(place + sizeof head, text, bytes);
		res = volume_write(storage, spec_text(spec, "meta"),
				   head.generation % 2 * PLACE_BYTES, place, whole, problem);
	} else {
		problem_set(problem, res, "The VM's definition is too large to be kept.");
	}
	free(place);
	free(text);
	return res;
}

/* NULL: nothing whole is in this place. */
static json_t *place_read(const uint8_t *place, uint64_t *ret_generation)
{
	struct meta_head head;
	memcpy(&head, place, sizeof head);
	if (memcmp(head.magic, "vstoreVM", 8) != 0 || head.text_bytes > PLACE_BYTES - sizeof head ||
	    crc32c(0, place + sizeof head, head.text_bytes) != head.text_crc)
		return NULL;
	*ret_generation = head.generation;
	return json_loadb((const char *)place + sizeof head, head.text_bytes, 0, NULL);
}

int meta_read(const struct storage *storage, const char *volume, json_t **ret_spec,
	      struct problem *problem)
{
	uint8_t *both = malloc(META_BYTES);
	uint64_t generations[2] = {0, 0};
	int res = both ? volume_read(storage, volume, 0, both, META_BYTES, problem) : -ENOMEM;
	if (res == 0) {
		json_t *first = place_read(both, &generations[0]);
		json_t *second = place_read(both + PLACE_BYTES, &generations[1]);
		bool newer = second && (!first || generations[1] > generations[0]);
		json_t *spec = newer ? second : first;
		json_decref(newer ? first : second);
		if (spec)
			*ret_spec = spec;
		else
			res = problem_set(problem, -VS_EFORMAT,
					  "Volume %.63s holds no VM's definition.", volume);
	}
	free(both);
	return res;
}

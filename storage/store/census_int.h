/* SPDX-License-Identifier: Apache-2.0 */
/* What census.c and census_diff.c share. */
#ifndef STORAGE_STORE_CENSUS_INT_H
#define STORAGE_STORE_CENSUS_INT_H

#include "storage/store/census.h"

/* A change is to be counted, before all that are. */
void census_change(struct census *census, const struct id *old, const struct id *new,
		   const struct root *root, uint32_t depth);

/* A node came (old: what went for it, null: nothing did), and what changed below it is known: true,
 * and that is counted, or to be counted. */
bool census_known(struct census *census, const struct id *old, const struct census_change *change);
/* A change is about to be counted; several were pushed. */
void census_prefetch_next(const struct census *census);
void census_prefetch_first(const struct census *census);
void census_diffs_free(struct map_diffs *diffs); /* empty, and usable again */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What a store keeps of a volume that it votes about: nothing tells that outside, so this file
 * looks inside. */
#include "storage/store/vote.h"

#include "tests/sim/cluster_word.h"

bool cluster_word_kept(const struct store *store, const struct store_word *word)
{
	const struct ballot *ballot = ballot_of(store, word->volume_uuid);
	return ballot && !word_newer(word, &ballot->word);
}

bool cluster_word_any(const struct store *store, const uint8_t uuid[16])
{
	return ballot_of(store, uuid) != NULL;
}

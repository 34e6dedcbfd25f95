/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of the log's records, see FORMAT.md, and what a put means. Pure functions. */
#ifndef STORAGE_STORE_CATALOG_H
#define STORAGE_STORE_CATALOG_H

#include "storage/store/store_int.h"

/* The flags of LOG_PUT_VOLUME and LOG_PUT_SNAPSHOT: which fields count. */
enum put_flags {
	PUT_FULL = 0,  /* all: a new volume, and checkpoints */
	PUT_NEW = 1,   /* a new snapshot: what it holds is decided when the record takes effect */
	PUT_ADMIN = 2, /* names, sizes, dates, holds; never data */
	PUT_FOLD = 3,  /* a volume's map, and the layer that went into it */
	PUT_RESET = 4, /* the volume becomes a snapshot again */
};

uint32_t volume_encode_flags(const struct volume *volume, enum put_flags flags, void *out);
uint32_t snapshot_encode_flags(const struct snapshot *snapshot, enum put_flags flags, void *out);
/* Foreign bytes: -VS_EFORMAT. The cursor stands behind the number. */
int volume_decode(struct cursor *c, uint32_t number, struct volume *ret);
int snapshot_decode(struct cursor *c, uint32_t number, struct snapshot *ret);
/* From a checkpoint: replaces the volume's layers, takes them over. -VS_EFORMAT. */
bool replica_name_good(const char name[NAME_ROOM]);
bool frame_bytes_good(uint32_t frame_bytes); /* one that a volume may ask for */
int volume_set_layers(struct volume *volume, struct layer **layers, uint32_t count);

#endif

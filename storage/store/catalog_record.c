/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of the log's records. What they do is in catalog.c. */
#include "storage/store/catalog.h"

#include "proto/err.h"
#include "proto/text.h"

#include <assert.h>
#include <errno.h>

static struct cursor record_begin(void *out, enum log_op op, unsigned flags, uint32_t bytes,
				  uint32_t number)
{
	assert(bytes % 8 == 0 && bytes <= LOG_RECORD_BYTES_MAX);
	struct cursor c = cursor_over(out, bytes);
	put_u8(&c, (uint8_t)op);
	put_u8(&c, (uint8_t)flags);
	put_u16(&c, (uint16_t)bytes);
	put_u32(&c, number);
	return c;
}

/* What every record of data begins with: the next vseq of the volume, in its epoch. A copy stays at
 * its position until all of a batch is there (copy.c). */
static struct cursor record_begin_data(struct volume *volume, enum log_op op, uint32_t bytes,
				       void *out)
{
	struct cursor c = record_begin(out, op, 0, bytes, volume->number);
	put_u64(&c, volume->replica ? volume->vseq : ++volume->admitted_vseq);
	put_u64(&c, volume->epoch);
	return c;
}

uint32_t record_write(struct volume *volume, uint64_t block_no, uint32_t count, void *out)
{
	struct cursor c = record_begin_data(volume, LOG_WRITE, WRITE_RECORD_BYTES, out);
	put_u64(&c, block_no);
	put_u32(&c, count);
	put_u32(&c, 0);
	assert(!c.failed && cursor_left(&c) == 0);
	return WRITE_RECORD_BYTES;
}

uint32_t record_zero(struct volume *volume, uint64_t block_no, uint64_t count, void *out)
{
	struct cursor c = record_begin_data(volume, LOG_ZERO, ZERO_RECORD_BYTES, out);
	put_u64(&c, block_no);
	put_u64(&c, count);
	assert(!c.failed && cursor_left(&c) == 0);
	return ZERO_RECORD_BYTES;
}

uint32_t record_chunk(struct volume *volume, uint64_t chunk_no, const struct id *id, void *out)
{
	struct cursor c = record_begin_data(volume, LOG_CHUNK, CHUNK_RECORD_BYTES, out);
	put_u64(&c, chunk_no);
	put_bytes(&c, id, sizeof *id);
	assert(!c.failed && cursor_left(&c) == 0);
	return CHUNK_RECORD_BYTES;
}

uint32_t record_epoch(uint32_t volume, uint64_t epoch, const uint8_t incarnation[16], void *out)
{
	struct cursor c = record_begin(out, LOG_EPOCH, 0, EPOCH_RECORD_BYTES, volume);
	put_u64(&c, epoch);
	put_bytes(&c, incarnation, 16);
	assert(!c.failed && cursor_left(&c) == 0);
	return EPOCH_RECORD_BYTES;
}

uint32_t record_number(enum log_op op, uint32_t number, void *out)
{
	struct cursor c = record_begin(out, op, 0, 8, number);
	assert(!c.failed && cursor_left(&c) == 0);
	return 8;
}

#define SEGMENT_PUT_BYTES 24u

uint32_t record_segment(uint64_t id, uint32_t slot, void *out)
{
	struct cursor c = record_begin(out, LOG_PUT_SEGMENT, 0, SEGMENT_PUT_BYTES, slot);
	put_u64(&c, id);
	put_u32(&c, 0); /* device */
	put_u32(&c, 0);
	assert(!c.failed && cursor_left(&c) == 0);
	return SEGMENT_PUT_BYTES;
}

#define VOLUME_RECORD_BYTES 456u

uint32_t volume_encode_flags(const struct volume *volume, enum put_flags flags, void *out)
{
	struct cursor c =
		record_begin(out, LOG_PUT_VOLUME, flags, VOLUME_RECORD_BYTES, volume->number);
	put_bytes(&c, volume->uuid, 16);
	put_u8(&c, volume->state);
	put_u8(&c, (uint8_t)(int8_t)volume->level);
	put_u8(&c, volume->domain);
	put_u8(&c, volume->replica ? (uint8_t)(1 + volume->whole + 2 * volume->stepped) : 0);
	put_u32(&c, volume->frame_bytes);
	put_u64(&c, volume->size_bytes);
	put_u64(&c, volume->quota_bytes);
	put_u64(&c, volume->created_wall_ns);
	put_u64(&c, volume->deleted_wall_ns);
	put_u64(&c, volume->epoch);
	put_u64(&c, volume->vseq);
	put_u64(&c, volume->mapped_chunks);
	put_u64(&c, volume->folded_layer);
	put_bytes(&c, &volume->top, sizeof volume->top);
	put_bytes(&c, volume->name, NAME_ROOM);
	put_bytes(&c, volume->origin, SNAP_NAME_ROOM);
	put_bytes(&c, volume->incarnation, 16);
	put_u64(&c, volume->deleted_age_ns);
	put_u32(&c, volume->policy);
	put_u32(&c, volume->limits.burst_s);
	put_u64(&c, volume->limits.iops);
	put_u64(&c, volume->limits.bytes_per_s);
	put_u64(&c, volume->lease.generation);
	put_bytes(&c, volume->lease.holder, 16);
	put_bytes(&c, volume->lease.holder_name, NAME_ROOM);
	assert(!c.failed && cursor_left(&c) == 0);
	return VOLUME_RECORD_BYTES;
}

uint32_t volume_encode(const struct volume *volume, void *out)
{
	return volume_encode_flags(volume, PUT_FULL, out);
}

/* A name of a record: terminated, and one that could have been given. */
static bool name_good(const char *name, size_t room)
{
	return memchr(name, 0, room) && text_name_ok(name, strlen(name));
}

/* HOST/VOLUME: what a volume of another host is called here. */
bool replica_name_good(const char name[NAME_ROOM])
{
	return memchr(name, 0, NAME_ROOM) && strchr(name, '/') &&
	       text_volume_ok(name, strlen(name));
}

bool frame_bytes_good(uint32_t frame_bytes)
{
	return frame_bytes == 4096 || frame_bytes == 8192 || frame_bytes == 16384 ||
	       frame_bytes == 65536;
}

/* Somebody who has a name and a generation, or nobody. */
static bool lease_good(const struct volume_lease *lease)
{
	static const uint8_t nobody[16];
	if (lease->holder_name[0])
		return lease->generation > 0 && name_good(lease->holder_name, NAME_ROOM);
	return memcmp(lease->holder, nobody, sizeof nobody) == 0;
}

int volume_decode(struct cursor *c, uint32_t number, struct volume *ret)
{
	struct volume v = {.number = number};
	get_bytes(c, v.uuid, 16);
	v.state = get_u8(c);
	v.level = (int8_t)get_u8(c);
	v.domain = get_u8(c);
	uint8_t replica = get_u8(c);
	v.frame_bytes = get_u32(c);
	v.size_bytes = get_u64(c);
	v.quota_bytes = get_u64(c);
	v.created_wall_ns = get_u64(c);
	v.deleted_wall_ns = get_u64(c);
	v.epoch = get_u64(c);
	v.vseq = get_u64(c);
	v.mapped_chunks = get_u64(c);
	v.folded_layer = get_u64(c);
	get_bytes(c, &v.top, sizeof v.top);
	get_bytes(c, v.name, NAME_ROOM);
	get_bytes(c, v.origin, SNAP_NAME_ROOM);
	get_bytes(c, v.incarnation, 16);
	v.deleted_age_ns = get_u64(c);
	v.policy = cursor_left(c) ? get_u32(c) : 0; /* stores older than policies */
	v.limits.burst_s = cursor_left(c) ? get_u32(c) : 0;
	if (cursor_left(c)) { /* younger than leases */
		v.limits.iops = get_u64(c);
		v.limits.bytes_per_s = get_u64(c);
		v.lease.generation = get_u64(c);
		get_bytes(c, v.lease.holder, 16);
		get_bytes(c, v.lease.holder_name, NAME_ROOM);
	}
	v.replica = replica > 0;
	v.whole = replica == 2 || replica == 4;
	v.stepped = replica > 2;
	if (c->failed || number == 0 || v.state > OBJECT_TRASH || replica > 4 ||
	    !(replica ? replica_name_good(v.name) : name_good(v.name, NAME_ROOM)) ||
	    !memchr(v.origin, 0, SNAP_NAME_ROOM) || !frame_bytes_good(v.frame_bytes) ||
	    v.size_bytes == 0 || v.size_bytes % BLOCK_BYTES || v.size_bytes > VOLUME_BYTES_MAX ||
	    v.folded_layer >= UINT64_MAX / 2 || !lease_good(&v.lease) ||
	    v.limits.burst_s > BURST_S_MAX)
		return -VS_EFORMAT;
	*ret = v;
	return 0;
}

#define SNAPSHOT_RECORD_BYTES 704u

uint32_t snapshot_encode_flags(const struct snapshot *snapshot, enum put_flags flags, void *out)
{
	struct cursor c =
		record_begin(out, LOG_PUT_SNAPSHOT, flags, SNAPSHOT_RECORD_BYTES, snapshot->number);
	put_u32(&c, snapshot->volume);
	put_u32(&c, snapshot->parent);
	put_u8(&c, snapshot->state);
	put_u8(&c, snapshot->sealed);
	put_u8(&c, (uint8_t)snapshot->hold_count);
	put_u8(&c, 0);
	put_u32(&c, snapshot->policy);
	put_u64(&c, snapshot->layer);
	put_u64(&c, snapshot->size_bytes);
	put_u64(&c, snapshot->vseq);
	put_u64(&c, snapshot->created_wall_ns);
	put_u64(&c, snapshot->deleted_wall_ns);
	put_u64(&c, snapshot->retain_until_wall_ns);
	put_u64(&c, snapshot->mapped_chunks);
	put_bytes(&c, &snapshot->top, sizeof snapshot->top);
	put_bytes(&c, snapshot->name, NAME_ROOM);
	put_bytes(&c, snapshot->holds, sizeof snapshot->holds);
	put_u64(&c, snapshot->age_ns);
	put_u64(&c, snapshot->epoch);
	put_zeros(&c, cursor_left(&c));
	assert(!c.failed);
	return SNAPSHOT_RECORD_BYTES;
}

uint32_t snapshot_encode(const struct snapshot *snapshot, void *out)
{
	return snapshot_encode_flags(snapshot, PUT_FULL, out);
}

int snapshot_decode(struct cursor *c, uint32_t number, struct snapshot *ret)
{
	struct snapshot s = {.number = number};
	s.volume = get_u32(c);
	s.parent = get_u32(c);
	s.state = get_u8(c);
	uint8_t sealed = get_u8(c);
	s.hold_count = get_u8(c);
	get_u8(c);
	s.policy = get_u32(c);
	s.layer = get_u64(c);
	s.size_bytes = get_u64(c);
	s.vseq = get_u64(c);
	s.created_wall_ns = get_u64(c);
	s.deleted_wall_ns = get_u64(c);
	s.retain_until_wall_ns = get_u64(c);
	s.mapped_chunks = get_u64(c);
	get_bytes(c, &s.top, sizeof s.top);
	get_bytes(c, s.name, NAME_ROOM);
	get_bytes(c, s.holds, sizeof s.holds);
	s.age_ns = get_u64(c);
	s.epoch = cursor_left(c) ? get_u64(c) : 0; /* stores older than positions */
	bool good = !c->failed && number != 0 && s.state <= OBJECT_TRASH && sealed <= 1 &&
		    s.hold_count <= HOLDS_MAX && name_good(s.name, NAME_ROOM) &&
		    s.size_bytes % BLOCK_BYTES == 0 && s.size_bytes <= VOLUME_BYTES_MAX;
	for (uint32_t i = 0; good && i < s.hold_count; i++)
		good = name_good(s.holds[i], NAME_ROOM);
	if (!good)
		return -VS_EFORMAT;
	s.sealed = sealed;
	*ret = s;
	return 0;
}

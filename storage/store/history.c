/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's history and what follows from it, see history.h.
 *
 * A forecast takes what is used for a walk with a drift: the mean growth, and how much the growth
 * of one part of the history differs from that of another. What is used t days ahead is then spread
 * around the drift by what chance adds in t days, and by how little a short history says about the
 * drift itself. The band is where a tenth and nine tenths of that spread reach the end of the room.
 * Parts, not points, are compared: garbage that comes and goes between two collections is no
 * growth.
 */
#include "storage/store/history.h"

#include "proto/cursor.h"
#include "proto/text.h"
#include "storage/store/store_int.h"

#include <math.h>
#include <stdio.h>

#define DAY_NS (86400.0 * 1e9)
#define SPAN_LEAST_NS (86400 * NSEC_PER_SEC)
#define POINTS_LEAST 8u
#define PARTS_MAX 16u
#define TENTH 1.2816 /* a normal deviate is below -TENTH in a tenth of cases, above in another */
#define DAYS_LEAST 0.01
#define DAYS_MOST 36525.0
#define DAYS_FACTOR 1.02 /* how exactly a day is looked for, before it is bisected */

static bool history_due(const struct history *history, uint64_t age_ns)
{
	if (history->count == 0)
		return true;
	uint64_t last_ns = history->points[history->count - 1].age_ns;
	return age_ns > last_ns && age_ns - last_ns >= HISTORY_SPACING_NS << history->shift;
}

bool history_add(struct history *history, const struct history_point *point)
{
	if (!history_due(history, point->age_ns))
		return false;
	if (history->count == HISTORY_MAX && history->shift < HISTORY_SHIFT_MAX) {
		for (uint32_t i = 0; i < HISTORY_MAX / 2; i++) /* the newest stays */
			history->points[i] = history->points[2 * i + 1];
		history->count = HISTORY_MAX / 2;
		history->shift++;
	} else if (history->count == HISTORY_MAX) {
		memmove(&history->points[0], &history->points[1],
			(HISTORY_MAX - 1) * sizeof(*history->points));
		history->count--;
	}
	history->points[history->count++] = *point;
	return true;
}

void history_encode(const struct history *history, uint8_t out[HISTORY_BYTES])
{
	struct cursor c = cursor_over(out, HISTORY_BYTES);
	put_u32(&c, history->count);
	put_u32(&c, history->shift);
	for (uint32_t i = 0; i < history->count; i++) {
		put_u64(&c, history->points[i].age_ns);
		put_u64(&c, history->points[i].used_bytes);
		put_u64(&c, history->points[i].next_segment_id);
	}
	put_zeros(&c, cursor_left(&c));
}

void history_decode(struct history *history, const uint8_t in[HISTORY_BYTES])
{
	struct cursor c = cursor_reading(in, HISTORY_BYTES);
	struct history read = {0};
	read.count = get_u32(&c);
	read.shift = get_u32(&c);
	*history = (struct history){0};
	if (read.count > HISTORY_MAX || read.shift > HISTORY_SHIFT_MAX)
		return;
	for (uint32_t i = 0; i < read.count; i++) {
		read.points[i].age_ns = get_u64(&c);
		read.points[i].used_bytes = get_u64(&c);
		read.points[i].next_segment_id = get_u64(&c);
		if (i && read.points[i].age_ns <= read.points[i - 1].age_ns)
			return;
	}
	*history = read;
}

uint64_t history_segments_before(const struct history *history, uint64_t age_ns)
{
	for (uint32_t i = history->count; i-- > 0;)
		if (history->points[i].age_ns <= age_ns)
			return history->points[i].next_segment_id;
	return 0;
}

/* ---- the forecast ---- */

struct trend {
	double span, drift; /* days, bytes a day */
	double spread;	    /* variance that chance adds in a day */
};

static struct trend trend_of(const struct history *history)
{
	const struct history_point *points = history->points;
	uint32_t last = history->count - 1, step = last / PARTS_MAX + (last % PARTS_MAX != 0);
	struct trend trend = {0};
	trend.span = (double)(points[last].age_ns - points[0].age_ns) / DAY_NS;
	trend.drift = ((double)points[last].used_bytes - (double)points[0].used_bytes) / trend.span;
	uint32_t parts = 0;
	for (uint32_t to = last; to >= step; to -= step) {
		const struct history_point *a = &points[to - step], *b = &points[to];
		double days = (double)(b->age_ns - a->age_ns) / DAY_NS;
		double off = (double)b->used_bytes - (double)a->used_bytes - trend.drift * days;
		trend.spread += off * off / days;
		parts++;
	}
	trend.spread /= parts > 1 ? parts - 1 : 1;
	return trend;
}

/* The first day on which drift and `times` the spread have used up the room; negative: none. */
static double days_until(const struct trend *trend, double room, double times)
{
	double before = 0;
	for (double days = DAYS_LEAST; days <= DAYS_MOST; days *= DAYS_FACTOR) {
		double low = before, high = days;
		before = days;
		if (trend->drift * days +
			    times * sqrt(trend->spread * (days + days * days / trend->span)) <
		    room)
			continue;
		for (unsigned i = 0; i < 30; i++) {
			double middle = (low + high) / 2;
			double used = trend->drift * middle +
				      times * sqrt(trend->spread *
						   (middle + middle * middle / trend->span));
			if (used < room)
				low = middle;
			else
				high = middle;
		}
		return high;
	}
	return -1;
}

static void forecast_say(struct store_forecast *f)
{
	char rate[32], low[32] = "later", high[32] = "never";
	text_human((uint64_t)fabs(f->bytes_a_day), rate, sizeof rate);
	if (f->days_low >= 0)
		snprintf(low, sizeof low, "%.1f", f->days_low);
	if (f->days_high >= 0)
		snprintf(high, sizeof high, "%.1f", f->days_high);
	if (f->days >= 0)
		snprintf(f->sentence, sizeof f->sentence,
			 "At %s a day the store is full in %.1f days (10 to 90 %%: %s to %s).",
			 rate, f->days, low, high);
	else if (f->days_low >= 0)
		snprintf(f->sentence, sizeof f->sentence,
			 "The store %s; with one chance in ten it is full in %s days all the same.",
			 f->bytes_a_day > 0 ? "grows so slowly that it is not full in 100 years"
					    : "does not grow",
			 low);
	else
		snprintf(f->sentence, sizeof f->sentence,
			 "The store %s: it is not full in 100 years.",
			 f->bytes_a_day > 0 ? "grows slowly" : "does not grow");
}

void history_forecast(const struct history *history, uint64_t available_bytes,
		      struct store_forecast *ret)
{
	struct store_forecast f = {.points = history->count,
				   .available_bytes = available_bytes,
				   .days = -1,
				   .days_low = -1,
				   .days_high = -1};
	if (history->count) {
		const struct history_point *last = &history->points[history->count - 1];
		f.history_ns = last->age_ns - history->points[0].age_ns;
		f.used_bytes = last->used_bytes;
	}
	if (f.points < POINTS_LEAST || f.history_ns < SPAN_LEAST_NS) {
		snprintf(
			f.sentence, sizeof f.sentence,
			"There is no forecast yet: the store remembers %.1f hours of its life, and "
			"needs 24.",
			(double)f.history_ns / 3600e9);
		*ret = f;
		return;
	}
	struct trend trend = trend_of(history);
	double room = (double)available_bytes;
	f.known = true;
	f.bytes_a_day = trend.drift;
	f.days = days_until(&trend, room, 0);
	f.days_low = days_until(&trend, room, TENTH);
	f.days_high = days_until(&trend, room, -TENTH);
	forecast_say(&f);
	*ret = f;
}

/* ---- the store's own ---- */

void history_tick(struct store *store)
{
	struct history *history = &store->history;
	struct history_point point = {.age_ns = store_age_ns(store),
				      .next_segment_id = store->next_segment_id};
	struct store_info info;
	if (store->read_only || store->failed || !history_due(history, point.age_ns))
		return;
	store_info(store, &info);
	point.used_bytes = info.live_bytes;
	history_add(history, &point);
}

void store_forecast(const struct store *store, struct store_forecast *ret)
{
	struct store_info info;
	store_info(store, &info);
	history_forecast(&store->history, info.room_bytes + info.garbage_bytes, ret);
}

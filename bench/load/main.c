/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load: random 4 KiB writes or reads over NBD, see load.h and the text of --help. A block is never
 * under way twice, so that what it must hold at the end is known. Prints one JSON object.
 */
#include "bench/load/load.h"

#include "proto/nbd.h"
#include "proto/text.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define SECONDS_MAX 86400u
#define REPLY_WRITE_BYTES NBD_SIMPLE_REPLY_BYTES
#define REPLY_READ_BYTES (NBD_SIMPLE_REPLY_BYTES + BLOCK_BYTES)
#define SLOT_OUT_BYTES (NBD_REQUEST_BYTES + BLOCK_BYTES)

struct slot {
	uint64_t block_no, start_ns;
	bool flushing;
};

struct client {
	int fd;
	uint64_t first_block, block_count; /* its part of the region */
	struct slot slots[DEPTH_MAX];
	uint8_t *in, *out;
	size_t in_bytes, out_bytes;
	uint32_t under_way;
};

static struct load {
	const char *socket_path, *export_name, *payload, *base, *state;
	uint64_t region_bytes, connections, depth, seconds, seed;
	bool flush, read, verify;

	struct content content;
	struct client clients[CONNECTIONS_MAX];
	uint8_t *busy; /* one byte a block */
	struct histogram latencies;
	uint64_t start_ns, end_ns, answered;
	uint32_t *per_second;
} load = {.export_name = "", .connections = 1, .depth = 1, .seconds = 5, .seed = 1};

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static uint64_t draw(uint64_t below)
{
	load.seed ^= load.seed << 13;
	load.seed ^= load.seed >> 7;
	load.seed ^= load.seed << 17;
	return (load.seed >> 11) % below;
}

static void client_put(struct client *client, uint16_t type, uint32_t slot_no, uint64_t block_no)
{
	struct cursor c = cursor_over(client->out + client->out_bytes, SLOT_OUT_BYTES);
	bool ranged = type != NBD_CMD_FLUSH;
	nbd_put_request(&c,
			&(struct nbd_request){.type = type,
					      .cookie = slot_no,
					      .offset_bytes = ranged ? block_no * BLOCK_BYTES : 0,
					      .length_bytes = ranged ? BLOCK_BYTES : 0});
	if (type == NBD_CMD_WRITE) {
		uint32_t generation = ++load.content.generations[block_no];
		content_fill(&load.content, block_no, generation, c.at);
		c.at += BLOCK_BYTES;
	}
	client->out_bytes = (size_t)(c.at - client->out);
}

static void client_start(struct client *client, uint32_t slot_no, uint64_t now)
{
	struct slot *slot = &client->slots[slot_no];
	do
		slot->block_no = client->first_block + draw(client->block_count);
	while (load.busy[slot->block_no]);
	load.busy[slot->block_no] = 1;
	slot->start_ns = now;
	slot->flushing = false;
	client->under_way++;
	client_put(client, load.read ? NBD_CMD_READ : NBD_CMD_WRITE, slot_no, slot->block_no);
}

/* A write of a flushing client goes on as its flush; everything else was answered. */
static void client_answered(struct client *client, uint32_t slot_no, uint64_t now)
{
	struct slot *slot = &client->slots[slot_no];
	if (load.flush && !slot->flushing) {
		slot->flushing = true;
		client_put(client, NBD_CMD_FLUSH, slot_no, 0);
		return;
	}
	client->under_way--;
	load.busy[slot->block_no] = 0;
	if (now < load.end_ns) {
		load.answered++;
		load.per_second[(now - load.start_ns) / NSEC_PER_SEC]++;
		histogram_add(&load.latencies, now - slot->start_ns);
		client_start(client, slot_no, now);
	}
}

/* What has arrived: whole replies are taken, a part of one stays for the next time. */
static void client_receive(struct client *client)
{
	size_t reply_bytes = load.read ? REPLY_READ_BYTES : REPLY_WRITE_BYTES, at = 0;
	size_t room = DEPTH_MAX * REPLY_READ_BYTES;
	ssize_t n = recv(client->fd, client->in + client->in_bytes, room - client->in_bytes,
			 MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		die("the server ended a connection");
	client->in_bytes += (size_t)n;
	uint64_t now = now_ns();
	while (client->in_bytes - at >= reply_bytes) {
		struct cursor c = cursor_reading(client->in + at, NBD_SIMPLE_REPLY_BYTES);
		uint32_t magic = get_be_u32(&c), error = get_be_u32(&c);
		uint64_t cookie = get_be_u64(&c);
		if (magic != NBD_SIMPLE_REPLY_MAGIC || cookie >= load.depth)
			die("the server's answer is not understood");
		if (error)
			die("a request failed with NBD error %u", error);
		client_answered(client, (uint32_t)cookie, now);
		at += reply_bytes;
	}
	client->in_bytes -= at;
	memmove(client->in, client->in + at, client->in_bytes);
}

static void client_send(struct client *client)
{
	if (client->out_bytes)
		conn_send(client->fd, client->out, client->out_bytes);
	client->out_bytes = 0;
}

static void clients_open(void)
{
	for (uint64_t i = 0; i < load.connections; i++) {
		struct client *client = &load.clients[i];
		uint64_t bytes;
		client->fd = conn_open(load.socket_path, load.export_name, &bytes);
		if (bytes < load.region_bytes)
			die("the export is smaller than the region");
		client->block_count = load.content.block_count / load.connections;
		client->first_block = i * client->block_count;
		client->in = malloc(DEPTH_MAX * REPLY_READ_BYTES);
		client->out = malloc(DEPTH_MAX * SLOT_OUT_BYTES);
		if (!client->in || !client->out || client->block_count <= load.depth)
			die("the region is too small for this depth");
	}
}

static void run(void)
{
	struct pollfd polls[CONNECTIONS_MAX];
	uint64_t under_way = 0;
	clients_open();
	load.start_ns = now_ns();
	load.end_ns = load.start_ns + load.seconds * NSEC_PER_SEC;
	for (uint64_t i = 0; i < load.connections; i++) {
		for (uint32_t s = 0; s < load.depth; s++)
			client_start(&load.clients[i], s, now_ns());
		client_send(&load.clients[i]);
	}
	do {
		for (uint64_t i = 0; i < load.connections; i++)
			polls[i] = (struct pollfd){.fd = load.clients[i].fd, .events = POLLIN};
		if (poll(polls, load.connections, -1) < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
		under_way = 0;
		for (uint64_t i = 0; i < load.connections; i++) {
			if (polls[i].revents)
				client_receive(&load.clients[i]);
			client_send(&load.clients[i]);
			under_way += load.clients[i].under_way;
		}
	} while (under_way);
	for (uint64_t i = 0; i < load.connections; i++)
		conn_close(load.clients[i].fd);
}

static void report(void)
{
	const struct histogram *h = &load.latencies;
	printf("{\"seconds\": %llu, \"answered\": %llu, \"iops\": %.1f, \"latency_us\": {\"p50\": "
	       "%.1f, "
	       "\"p99\": %.1f, \"p99.9\": %.1f, \"max\": %.1f}, \"per_second\": [",
	       (unsigned long long)load.seconds, (unsigned long long)load.answered,
	       (double)load.answered / (double)load.seconds, (double)histogram_at(h, 0.5) / 1e3,
	       (double)histogram_at(h, 0.99) / 1e3, (double)histogram_at(h, 0.999) / 1e3,
	       (double)h->max_ns / 1e3);
	for (uint64_t i = 0; i < load.seconds; i++)
		printf("%s%u", i ? ", " : "", load.per_second[i]);
	puts("]}");
}

static const char help[] =
	"usage: load --socket PATH --region SIZE [--payload FILE] [--export NAME] "
	"[--base FILE] [--state FILE]\n"
	"            [--connections N] [--depth N] [--seconds N] [--seed N] "
	"[--flush | --read | --verify]\n"
	"Random 4 KiB writes (each followed by its own flush with --flush) or "
	"reads (these need no --payload); --verify reads the region and\n"
	"fails unless every block holds what --state says was written last, or "
	"what --base has there.\n";

static const struct option options[] = {
	{"socket", required_argument, NULL, 's'},
	{"export", required_argument, NULL, 'e'},
	{"payload", required_argument, NULL, 'p'},
	{"base", required_argument, NULL, 'b'},
	{"state", required_argument, NULL, 'g'},
	{"region", required_argument, NULL, 'r'},
	{"connections", required_argument, NULL, 'c'},
	{"depth", required_argument, NULL, 'd'},
	{"seconds", required_argument, NULL, 't'},
	{"seed", required_argument, NULL, 'x'},
	{"flush", no_argument, NULL, 'f'},
	{"read", no_argument, NULL, 'R'},
	{"verify", no_argument, NULL, 'v'},
	{0},
};

static uint64_t number(const char *text, uint64_t max)
{
	char *end;
	unsigned long long value = strtoull(text, &end, 10);
	if (*end || !value || value > max)
		die("'%s' is no number from 1 to %llu", text, (unsigned long long)max);
	return value;
}

static void options_read(int argc, char **argv)
{
	int flag;
	while ((flag = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (flag) {
		case 's':
			load.socket_path = optarg;
			break;
		case 'e':
			load.export_name = optarg;
			break;
		case 'p':
			load.payload = optarg;
			break;
		case 'b':
			load.base = optarg;
			break;
		case 'g':
			load.state = optarg;
			break;
		case 'r':
			if (text_size(optarg, &load.region_bytes) < 0)
				die("'%s' is no size", optarg);
			break;
		case 'c':
			load.connections = number(optarg, CONNECTIONS_MAX);
			break;
		case 'd':
			load.depth = number(optarg, DEPTH_MAX);
			break;
		case 't':
			load.seconds = number(optarg, SECONDS_MAX);
			break;
		case 'x':
			load.seed = number(optarg, UINT64_MAX);
			break;
		case 'f':
			load.flush = true;
			break;
		case 'R':
			load.read = true;
			break;
		case 'v':
			load.verify = true;
			break;
		default:
			fputs(help, stderr);
			exit(2);
		}
	}
	if (!load.socket_path || (!load.payload && !load.read) || load.region_bytes < CHUNK_BYTES ||
	    optind < argc) {
		fputs(help, stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	options_read(argc, argv);
	uint64_t block_count = load.region_bytes / BLOCK_BYTES;
	load.content.block_count = block_count;
	if (!load.read)
		content_open(&load.content, load.payload, load.base, load.state, block_count);
	if (load.verify) {
		uint64_t bytes;
		int fd = conn_open(load.socket_path, load.export_name, &bytes);
		uint64_t wrong = content_verify(&load.content, fd);
		conn_close(fd);
		if (wrong)
			die("%llu of %llu blocks are wrong", (unsigned long long)wrong,
			    (unsigned long long)block_count);
		return 0;
	}
	load.busy = calloc(block_count, 1);
	load.per_second = calloc(load.seconds + 1, sizeof *load.per_second);
	if (!load.busy || !load.per_second)
		die("there is no memory");
	run();
	report();
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A long link between two network namespaces, for rows that need one where the kernel has no netem:
 *
 *     long_link NETNS-A NETNS-B DELAY-MS LOST-OF-A-MILLION MBIT-A-SECOND    # until SIGTERM
 *
 * Makes a tun device `long0` in each and carries packets between them: each waits its turn at the
 * link's rate, then half of the round trip; some are lost, the same ones in each run with the same
 * packets. A queue longer than a round trip drops its end, as a router would.
 */
#include "proto/units.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PACKET_MAX 1600u   /* above the devices' MTU of 1500 */
#define PACKETS_MAX 65536u /* under way in one direction */
#define TAKEN_AT_ONCE 64u
#define QUEUE_NS_MIN (50 * NSEC_PER_MSEC)

struct packet {
	uint64_t due_ns;
	size_t bytes;
	uint8_t data[PACKET_MAX];
};
struct way {
	int in, out;
	struct packet *packets;
	uint32_t head, tail; /* counts; the place is % PACKETS_MAX */
	uint64_t busy_until_ns;
};
struct link {
	uint64_t delay_ns, queue_ns;
	unsigned lost;
	double ns_a_byte;
	struct way ways[2];
};

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* A device `long0` in the namespace, for as long as this process lives. */
static int device(const char *namespace)
{
	char path[256];
	struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	snprintf(path, sizeof path, "/run/netns/%s", namespace);
	memcpy(request.ifr_name, "long0", 6);
	int within = open(path, O_RDONLY | O_CLOEXEC);
	if (within < 0 || setns(within, CLONE_NEWNET) < 0)
		return -errno;
	close(within);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 ? -errno : fd;
}

/* Takes what was sent into this end. */
static bool take(const struct link *link, struct way *way)
{
	bool some = false;
	for (unsigned i = 0; i < TAKEN_AT_ONCE && way->head - way->tail < PACKETS_MAX; i++) {
		struct packet *packet = &way->packets[way->head % PACKETS_MAX];
		ssize_t bytes = read(way->in, packet->data, sizeof packet->data);
		if (bytes <= 0)
			break;
		some = true;
		uint64_t now = now_ns(), starts = max_u64(way->busy_until_ns, now);
		if ((unsigned)(random() % 1000000) < link->lost || starts - now > link->queue_ns)
			continue;
		way->busy_until_ns = starts + (uint64_t)((double)bytes * link->ns_a_byte);
		packet->due_ns = way->busy_until_ns + link->delay_ns;
		packet->bytes = (size_t)bytes;
		way->head++;
	}
	return some;
}

/* Gives what has been under way for long enough; when the next one is due. */
static uint64_t give(struct way *way)
{
	for (; way->tail != way->head; way->tail++) {
		const struct packet *packet = &way->packets[way->tail % PACKETS_MAX];
		if (packet->due_ns > now_ns())
			return packet->due_ns;
		if (write(way->out, packet->data, packet->bytes) < 0 && errno != EAGAIN)
			fprintf(stderr, "long_link: %s\n", strerror(errno)); /* it is lost */
	}
	return UINT64_MAX;
}

static void carry(struct link *link)
{
	struct pollfd fds[2] = {{.fd = link->ways[0].in, .events = POLLIN},
				{.fd = link->ways[1].in, .events = POLLIN}};
	for (;;) {
		bool some = take(link, &link->ways[0]) | take(link, &link->ways[1]);
		uint64_t next = min_u64(give(&link->ways[0]), give(&link->ways[1]));
		uint64_t now = now_ns();
		if (some || next <= now)
			continue;
		uint64_t left = min_u64(next - now, NSEC_PER_SEC);
		struct timespec wait = {.tv_sec = (time_t)(left / NSEC_PER_SEC),
					.tv_nsec = (long)(left % NSEC_PER_SEC)};
		ppoll(fds, 2, &wait, NULL);
	}
}

int main(int argc, char **argv)
{
	struct link link;
	if (argc != 6 || atof(argv[5]) <= 0) {
		fprintf(stderr, "usage: long_link NETNS-A NETNS-B DELAY-MS LOST-OF-A-MILLION "
				"MBIT-A-SECOND\n");
		return 2;
	}
	int a = device(argv[1]), b = a < 0 ? a : device(argv[2]);
	if (b < 0) {
		fprintf(stderr, "long_link: a tun device cannot be made: %s\n", strerror(-b));
		return 1;
	}
	link = (struct link){.delay_ns = (uint64_t)(atof(argv[3]) * (double)NSEC_PER_MSEC / 2),
			     .lost = (unsigned)atoi(argv[4]),
			     .ns_a_byte = 8e3 / atof(argv[5]),
			     .ways = {{.in = a, .out = b}, {.in = b, .out = a}}};
	link.queue_ns = max_u64(2 * link.delay_ns, QUEUE_NS_MIN);
	for (unsigned i = 0; i < 2; i++) {
		link.ways[i].packets = malloc(PACKETS_MAX * sizeof(struct packet));
		if (!link.ways[i].packets)
			return 1;
	}
	srandom(7);
	puts("up");
	fflush(stdout);
	carry(&link);
	return 0;
}

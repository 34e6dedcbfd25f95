/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded: the time of day is CLOCK_SHIFT seconds ahead. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *ret)
{
	const char *shift = getenv("CLOCK_SHIFT");
	int res = (int)syscall(SYS_clock_gettime, clock, ret);
	if (res == 0 && clock == CLOCK_REALTIME && shift)
		ret->tv_sec += atoi(shift);
	return res;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a fuzz target is without a fuzzing engine: `TARGET FOLDER` replays a corpus, each file as it
 * is, with every byte changed once, and cut at every length; `TARGET --write FOLDER` makes one of
 * valid inputs. A target defines LLVMFuzzerTestOneInput and corpus_write before it includes this.
 */
#ifndef TESTS_FUZZ_REPLAY_H
#define TESTS_FUZZ_REPLAY_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef REPLAY_CHANGES_MAX
#define REPLAY_CHANGES_MAX 8192u /* bytes of an input that are changed; slow targets: fewer */
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* One file of a corpus; the first byte says which decoder it is for. */
__attribute__((unused)) static void corpus_put(const char *folder, const char *name, unsigned which,
					       const void *data, size_t bytes)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, "w");
	uint8_t first = (uint8_t)which;
	if (!file || fwrite(&first, 1, 1, file) != 1 || fwrite(data, 1, bytes, file) != bytes ||
	    fclose(file) != 0)
		exit(1);
}

static int corpus_write(const char *folder);

#ifdef VSTORE_FUZZ_ENGINE
__attribute__((unused)) static int (*const keep)(const char *) = corpus_write;
#else
static void replay_file(const char *path)
{
	static uint8_t data[1 << 20];
	FILE *file = fopen(path, "r");
	size_t bytes = file ? fread(data, 1, sizeof data, file) : 0;
	if (!file || fclose(file) != 0)
		exit(1);
	LLVMFuzzerTestOneInput(data, bytes);
	size_t step = bytes / REPLAY_CHANGES_MAX + 1;
	for (size_t i = 0; i < bytes; i += step) {
		uint8_t *exact = malloc(i + 1); /* exactly as long: an overrun is seen */
		memcpy(exact, data, i);
		LLVMFuzzerTestOneInput(exact, i);
		free(exact);
		data[i] ^= (uint8_t)(1 + i * 7);
		LLVMFuzzerTestOneInput(data, bytes);
		data[i] ^= (uint8_t)(1 + i * 7);
	}
}

int main(int argc, char **argv)
{
	unsigned count = 0;
	if (argc == 3 && strcmp(argv[1], "--write") == 0)
		return corpus_write(argv[2]);
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	for (struct dirent *at; dir && (at = readdir(dir));) {
		char path[512];
		snprintf(path, sizeof path, "%s/%s", argv[1], at->d_name);
		if (at->d_name[0] == '.')
			continue;
		replay_file(path);
		count++;
	}
	if (dir)
		closedir(dir);
	printf("%u inputs\n", count);
	return count ? 0 : 1;
}
#endif

#endif

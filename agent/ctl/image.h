/* SPDX-License-Identifier: Apache-2.0 */
/* Image files in formats that are not raw, left to qemu-img: there is no parser of them here. */
#ifndef AGENT_CTL_IMAGE_H
#define AGENT_CTL_IMAGE_H

#include "agent/ctl/ctl.h"
#include "proto/err.h"

struct image {
	char path[4096];   /* absolute, so that qemu-img never takes it for a URL */
	char format[16];   /* "raw", "qcow2" ... */
	uint64_t bytes;	   /* of the disk in it */
	char outside[256]; /* another file that it refers to, or "" */
};

/* Looks at a file with qemu-img info, or (format "raw") without. `format` NULL: it finds out.
 * Returns 0 or an exit code, having said why. Reads no other file. */
int image_look(const struct ctl *ctl, const char *file, const char *format,
	       struct image *ret_image);

/* Streams an image into an NBD export with qemu-img convert. The export must read as zeros.
 * `progress` gets percent * 100. 0 or a negative code (-EINTR, -ETIMEDOUT among them) and a
 * sentence; the child has ended in any case. */
int image_convert(const struct ctl *ctl, const struct image *image, const char *socket_path,
		  const char *export_name, void (*progress)(void *state, unsigned percent_100),
		  void *state, char ret_sentence[SENTENCE_BYTES]);

#endif

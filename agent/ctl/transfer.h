/* SPDX-License-Identifier: Apache-2.0 */
/* What import and export share. */
#ifndef AGENT_CTL_TRANSFER_H
#define AGENT_CTL_TRANSFER_H

#include "agent/ctl/ctl.h"
#include "agent/ctl/nbdio.h"

#define TRANSFER_PATH_BYTES 108 /* sun_path */

/* Opens NAME or NAME@SNAP by RUN/nbd/NAME.sock, else RUN/nbd.sock, RUN being where the control
 * socket is. Tries again for a moment: the socket of a new volume may come a little later than the
 * answer that it exists. ret_socket: which one it was. Negative codes as nbdio_open. */
int transfer_open(const struct ctl *ctl, const char *name, bool with_status,
		  char ret_socket[TRANSFER_PATH_BYTES], struct nbdio **ret_nbdio,
		  char ret_sentence[SENTENCE_BYTES]);

bool transfer_is_zero(const uint8_t *data, size_t bytes);

#endif

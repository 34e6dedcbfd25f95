/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outgoing side of a session: hands over the domain, offers a snapshot, and waits until the
 * peer has published it; the peer asks for what it lacks (serve.c).
 */
#include "storage/repl/session.h"

#include <stdlib.h>

static void send_domain(struct session *session)
{
	uint8_t message[REPL_HEADER_BYTES + 256];
	struct repl_domain domain = {.name = "local"};
	memcpy(domain.uuid, session->sender->offer.domain, 16);
	int res = store_domain_key(session->repl->store, domain.uuid, domain.key);
	assert(res == 0); /* of our own snapshot */
	struct domain_info *infos;
	size_t count;
	if (store_domains(session->repl->store, &infos, &count) == 0) {
		for (size_t i = 0; i < count; i++)
			if (memcmp(infos[i].uuid, domain.uuid, 16) == 0)
				memcpy(domain.name, infos[i].name, sizeof domain.name);
		free(infos);
	}
	session->state = SESSION_DOMAIN;
	channel_send(session->channel, message,
		     repl_encode_domain(session_request(session), &domain, message));
	explicit_bzero(&domain, sizeof domain);
	explicit_bzero(message, sizeof message);
}

static void send_offer(struct session *session)
{
	uint8_t message[REPL_HEADER_BYTES + 2048];
	const struct store_offer *from = &session->sender->offer;
	struct repl_offer offer = {.size_bytes = from->size_bytes,
				   .created_wall_ns = from->created_wall_ns,
				   .epoch = from->epoch,
				   .vseq = from->vseq,
				   .mapped_chunks = from->mapped_chunks,
				   .frame_bytes = from->frame_bytes,
				   .level = (uint8_t)from->level,
				   .cut = from->cut,
				   .beside = from->beside};
	env_random(session->repl->env, offer.transfer, 16);
	memcpy(session->sender->transfer, offer.transfer, 16);
	memcpy(offer.domain, from->domain, 16);
	memcpy(offer.volume_uuid, from->volume_uuid, 16);
	memcpy(offer.top, from->top, ID_BYTES);
	memcpy(offer.root, from->root, ID_BYTES);
	memcpy(offer.volume, from->volume, sizeof offer.volume);
	memcpy(offer.snapshot, from->snapshot, sizeof offer.snapshot);
	static_assert(REPL_LINES_MAX == STORE_LINES_MAX, "all of them go over");
	for (; offer.line_count < from->lines.count; offer.line_count++) {
		const struct store_line *line = &from->lines.at[offer.line_count];
		struct repl_line *to = &offer.lines[offer.line_count];
		*to = (struct repl_line){.epoch = line->epoch, .begin_vseq = line->begin_vseq};
		memcpy(to->incarnation, line->incarnation, 16);
	}
	if (channel_hello(session->channel)->features_known & REPL_FEATURE_POLICIES)
		offer.policy = from->policy;
	session->state = SESSION_OFFER;
	channel_send(session->channel, message,
		     repl_encode_offer(session_request(session), &offer, message));
}

void send_opened(struct session *session)
{
	session->sender->reached = true;
	send_domain(session);
}

static int send_state(struct session *session, const struct repl_header *header,
		      const uint8_t *body)
{
	struct repl_state state;
	if (repl_decode_state(body, header->body_bytes, &state) < 0)
		return -VS_EFORMAT;
	line_progress(session->sender, &state, channel_sent_bytes(session->channel));
	if (state.state == REPL_RECEIVING) {
		/* It may ask for nothing for long: all is there, or is being folded. */
		session_alive(session);
		lanes_look(session->sender);
		return 0;
	}
	if (memcmp(state.root, session->sender->offer.root, ID_BYTES) != 0) {
		session_end(session, -VS_ECHECKSUM,
			    "The peer published another root than the snapshot's: its copy is not "
			    "to be trusted.");
		return 0;
	}
	session->res = 1; /* published */
	session_end(session, 0, "");
	return 0;
}

int send_message(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	struct repl_error error;
	bool asks = header->type == REPL_GET || header->type == REPL_GET_DELTA;
	if (asks && !(header->flags & REPL_REPLY)) {
		if (session->state != SESSION_OFFER)
			return -VS_EFORMAT;
		return header->type == REPL_GET ? serve_get(session, header, body)
						: serve_get_delta(session, header, body);
	}
	if (!(header->flags & REPL_REPLY) || header->request != session->next_request - 1)
		return -VS_EFORMAT;
	if (header->type == REPL_ERROR) {
		if (repl_decode_error(body, header->body_bytes, &error) < 0)
			return -VS_EFORMAT;
		session_refused(session, &error);
		return 0;
	}
	if (header->type == REPL_OK && session->state == SESSION_DOMAIN) {
		send_offer(session);
		return 0;
	}
	if (header->type == REPL_STATE && session->state == SESSION_OFFER)
		return send_state(session, header, body);
	return -VS_EFORMAT;
}

void send_ended(struct session *session)
{
	struct sender *sender = session->sender;
	if (!sender)
		return;
	session->sender = NULL;
	line_session_ended(sender, session->res == 1 ? 0 : session->res, session->sentence);
}

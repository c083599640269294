#include "base/infer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void og_infer_params_default(struct og_infer_params *p)
{
	memset(p, 0, sizeof(*p));
	p->top_p = 1.0f;
	p->repetition_penalty = 1.0f;
}

int og_infer_request_create(struct og_infer_request **out, uint64_t id,
	const struct og_infer_params *params, bool raw, const struct og_infer_message *messages,
	uint32_t nb_messages)
{
	size_t bytes = sizeof(struct og_infer_request) + nb_messages * sizeof(*messages);
	struct og_infer_request *req;
	char *text;

	if (nb_messages == 0 || nb_messages > OG_INFER_MESSAGES_MAX || (raw && nb_messages != 1))
		return -EINVAL;
	for (uint32_t i = 0; i < nb_messages; i++)
		bytes += strlen(messages[i].role) + 1 + messages[i].content_bytes + 1;
	req = malloc(bytes);
	if (!req)
		return -ENOMEM;
	memset(req, 0, sizeof(*req));
	req->id = id;
	req->params = *params;
	req->raw = raw;
	req->nb_messages = nb_messages;
	req->credits = UINT32_MAX;
	text = (char *)&req->messages[nb_messages];
	for (uint32_t i = 0; i < nb_messages; i++) {
		const struct og_infer_message *m = &messages[i];
		size_t role_bytes = strlen(m->role) + 1;

		req->messages[i].role = memcpy(text, m->role, role_bytes);
		text += role_bytes;
		req->messages[i].content = text;
		req->messages[i].content_bytes = m->content_bytes;
		if (m->content_bytes > 0)
			memcpy(text, m->content, m->content_bytes);
		text += m->content_bytes;
		*text++ = '\0';
	}
	*out = req;
	return 0;
}

void og_infer_request_free(struct og_infer_request *req)
{
	free(req);
}

/*
 * echo.c: an engine without a model, for tests and network labs: a token is a word.
 */
#include "gpu/engine_priv.h"

static const char greeting[] = "[echo] ";

/* The next word with the spaces before it. */
static struct og_text next_word(const struct og_sequence *s)
{
	const struct og_infer_message *m = &s->req->messages[s->req->nb_messages - 1];
	uint32_t start = s->echo_at, at = start;

	while (at < m->content_bytes && m->content[at] == ' ' && at - start < OG_TOKEN_MAX_BYTES)
		at++;
	while (at < m->content_bytes && m->content[at] != ' ' && at - start < OG_TOKEN_MAX_BYTES)
		at++;
	return (struct og_text){m->content + start, at - start};
}

static void echo_word(struct og_engine *e, struct og_sequence *s)
{
	struct og_text word;

	if (s->nb_sampled == 0) {
		og_sequence_add_text(e, s, (struct og_text){greeting, sizeof(greeting) - 1});
		return;
	}
	word = next_word(s);
	s->echo_at += word.len_bytes;
	if (word.len_bytes == 0)
		og_sequence_finish(s, OG_FINISH_STOP);
	else
		og_sequence_add_text(e, s, word);
}

bool og_engine_step_echo(struct og_engine *e)
{
	struct og_sequence *s;
	bool worked = false;

	TAILQ_FOREACH(s, &e->lists[OG_SEQUENCE_RUNNING], link)
	{
		if (!og_sequence_is_ready(s) || s->credits == 0)
			continue;
		echo_word(e, s);
		worked = true;
	}
	return worked;
}

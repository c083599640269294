/*
 * ctl_prompt.c: one prompt, or a small conversation: each line of stdin is a turn, and the model sees
 * those before it.
 */
#include "cli/ctl.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct talk {
	const char *model;
	bool stream;
	json_t *messages; /* of the conversation so far */
};

static void print_line(const json_t *o)
{
	json_dumpf(o, stdout, JSON_COMPACT);
	putchar('\n');
}

/* Adds what came to `answer`, and shows it if it is to be seen as it comes. */
static void take_text(const struct talk *t, const json_t *o, FILE *answer)
{
	fputs(og_ctl_text(o, "text"), answer);
	if (!t->stream)
		return;
	if (og_ctl_json)
		print_line(o);
	else
		fputs(og_ctl_text(o, "text"), stdout);
	fflush(stdout);
}

static void show_end(const struct talk *t, const json_t *data)
{
	if (og_ctl_json && t->stream)
		print_line(data);
	else if (og_ctl_json)
		og_ctl_print(data);
	else
		printf("%s\n", og_ctl_text(data, "text"));
	fflush(stdout);
}

/* Asks with all messages. `*answer` is the caller's, also on failure. */
static int ask(const struct talk *t, char **answer)
{
	size_t len;
	FILE *text = open_memstream(answer, &len), *f;
	const json_t *data;
	json_t *o;
	int status = OG_EXIT_DONE;

	f = text ? og_ctl_request(json_pack("{s:s, s:{s:s, s:O, s:b}}", "cmd", "prompt", "body",
			   "model", t->model, "messages", t->messages, "stream", t->stream))
		 : NULL;
	if (!f) {
		if (text)
			fclose(text);
		return text ? OG_EXIT_NOT_RUNNING : OG_EXIT_FAILED;
	}
	while ((o = og_ctl_answer(f)) && !json_object_get(o, "ok")) {
		take_text(t, o, text);
		json_decref(o);
	}
	fclose(f);
	data = json_object_get(o, "data");
	if (json_is_true(json_object_get(o, "ok"))) {
		fputs(og_ctl_text(data, "text"), text);
		show_end(t, data);
	} else {
		status = og_ctl_failure(o);
	}
	json_decref(o);
	fclose(text);
	return status;
}

/* One turn; one that failed is forgotten. */
static int turn(struct talk *t, const char *prompt)
{
	json_t *message = json_pack("{s:s, s:s}", "role", "user", "content", prompt);
	char *answer = NULL;
	int status;

	if (!message) {
		og_ctl_say("the prompt is not UTF-8");
		return OG_EXIT_USAGE;
	}
	json_array_append_new(t->messages, message);
	status = ask(t, &answer);
	if (status == OG_EXIT_DONE)
		json_array_append_new(t->messages,
			json_pack("{s:s, s:s}", "role", "assistant", "content", answer));
	else
		json_array_remove(t->messages, json_array_size(t->messages) - 1);
	free(answer);
	return status;
}

static int chat(struct talk *t)
{
	bool terminal = isatty(STDIN_FILENO);
	char *line = NULL;
	size_t cap = 0;
	int status = OG_EXIT_DONE;

	if (terminal)
		og_ctl_say("a conversation: /new starts another one, /end or Ctrl-D ends it");
	while (status != OG_EXIT_NOT_RUNNING) {
		if (terminal)
			fputs("> ", stderr);
		if (getline(&line, &cap, stdin) <= 0)
			break;
		line[strcspn(line, "\r\n")] = '\0';
		if (strcmp(line, "/end") == 0)
			break;
		if (strcmp(line, "/new") == 0)
			json_array_clear(t->messages);
		else if (line[0])
			status = turn(t, line);
	}
	free(line);
	return status;
}

int og_ctl_prompt(int argc, char **argv)
{
	static const struct option options[] = {
		{"model", 1, NULL, 'm'}, {"stream", 0, NULL, 's'}, {0}};
	struct talk t = {.model = ""};
	int opt, status;

	optind = 0; /* starts getopt anew */
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'm')
			t.model = optarg;
		else if (opt == 's')
			t.stream = true;
		else
			return og_ctl_usage();
	}
	if (optind + 1 < argc)
		return og_ctl_usage();
	t.messages = json_array();
	if (optind < argc) {
		status = turn(&t, argv[optind]);
	} else {
		t.stream |= isatty(STDOUT_FILENO) && !og_ctl_json;
		status = chat(&t);
	}
	json_decref(t.messages);
	return status;
}

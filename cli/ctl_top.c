/*
 * ctl_top.c: a screen that is drawn anew each second until q or Ctrl-C; one picture where stdout is no
 * terminal.
 */
#include "cli/ctl.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

enum { REFRESH_MS = 1000 };

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = 1;
}

/* Both answers, or NULL when the node does not run. */
static json_t *look(void)
{
	json_t *state = og_ctl_try(json_pack("{s:s}", "cmd", "status")), *gauge;

	gauge = state ? og_ctl_try(json_pack("{s:s}", "cmd", "gauge")) : NULL;
	if (!gauge) {
		json_decref(state);
		return NULL;
	}
	return json_pack("{s:o, s:o}", "status", state, "gauge", gauge);
}

static void draw(FILE *out, const json_t *picture)
{
	og_ctl_show_status(out, json_object_get(picture, "status"));
	fputc('\n', out);
	og_ctl_show_gauge(out, json_object_get(picture, "gauge"));
}

static int not_running(void)
{
	og_ctl_say("the node of %s is not running", og_ctl_root);
	return OG_EXIT_NOT_RUNNING;
}

static int once(void)
{
	json_t *picture = look();

	if (!picture)
		return not_running();
	if (og_ctl_json)
		og_ctl_print(picture);
	else
		draw(stdout, picture);
	json_decref(picture);
	return OG_EXIT_DONE;
}

/* A key within a refresh, or 0. */
static int key_pressed(bool keys)
{
	struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
	char c = 0;

	if (poll(&fd, keys ? 1 : 0, REFRESH_MS) > 0 && read(STDIN_FILENO, &c, 1) <= 0)
		return 'q';
	return c;
}

/* Returns false when the node has ended. */
static bool refresh(bool keys)
{
	while (!interrupted) {
		json_t *picture = look();
		char *text = NULL;
		size_t len;
		FILE *out = open_memstream(&text, &len);
		int key;

		if (!picture || !out) {
			json_decref(picture);
			if (out)
				fclose(out);
			free(text);
			return false;
		}
		draw(out, picture);
		fclose(out);
		json_decref(picture);
		/* Home, away with the old picture, and the new one. */
		printf("\033[H\033[2J%s\nq ends\n", text);
		fflush(stdout);
		free(text);
		key = key_pressed(keys);
		if (key == 'q' || key == 'Q')
			return true;
	}
	return true;
}

int og_ctl_top(void)
{
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	struct termios before, raw;
	bool keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
	bool running;

	if (og_ctl_json || !isatty(STDOUT_FILENO))
		return once();
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	if (keys) {
		raw = before;
		raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	fputs("\033[?1049h", stdout); /* the alternate screen: what was there comes back */
	running = refresh(keys);
	fputs("\033[?1049l", stdout);
	fflush(stdout);
	if (keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
	return running ? OG_EXIT_DONE : not_running();
}

/* import.c - user import: many accounts from a file, in chunks with several requests in flight.
 *
 * A line is JID, secret, number. Fields are separated by tabs; a line without a tab by its first
 * and, when a number stands behind it, its last comma; one without commas by white space in the
 * same way. The secret is a password, or verifiers (SCRAM-...$ITER:SALT$STORED:SERVER, several
 * separated by spaces). */
#include <ctype.h>
#include <errno.h>
#include <unistd.h>

#include "appliance/base/clock.h"
#include "appliance/child/frame.h"
#include "appliance/ctl/ctl.h"
#include "appliance/ctl/import.h"

#define CHUNK         250u
#define CHUNK_OCTETS  (FRAME_CONTROL_MAX / 2)
#define IN_FLIGHT     4u
#define LINE_MAX      8192u
#define ANSWER_MS     300000
#define REFUSED_SHOWN 20u

static bool is_number(struct sl s)
{
	if (s.n == 0)
		return true;
	for (size_t i = 0; i < s.n; i++)
		if (!isdigit((unsigned char)s.p[i]) && !(i == 0 && s.p[i] == '+'))
			return false;
	return s.n > 1;
}

/* Cut at the first and the last sep. */
static void split(struct sl line, const char *seps, struct import_line *l)
{
	size_t a = 0, b = line.n;

	while (a < line.n && !strchr(seps, line.p[a]))
		a++;
	l->jid = sl_trim(sl_sub(line, 0, a));
	l->secret = sl_trim(sl_sub(line, a + 1, line.n));
	while (b > a + 1 && !strchr(seps, line.p[b - 1]))
		b--;
	if (b > a + 1 && is_number(sl_trim(sl_sub(line, b, line.n)))) {
		l->secret = sl_trim(sl_sub(line, a + 1, b - 1));
		l->number = sl_trim(sl_sub(line, b, line.n));
	}
}

static void split_tabs(struct sl line, struct import_line *l)
{
	size_t a = sl_find(line, '\t', 0), b = sl_find(line, '\t', a + 1);

	l->jid = sl_trim(sl_sub(line, 0, a));
	l->secret = sl_sub(line, a + 1, b); /* a password may begin with a space */
	l->number = sl_trim(sl_sub(line, b + 1, line.n));
}

static bool is_verifier(struct sl s)
{
	return sl_starts(s, SL("SCRAM-SHA-")) && sl_find(s, '$', 0) < s.n &&
	       sl_find(s, ':', 0) < s.n;
}

int import_parse(struct sl line, struct import_line *l, struct err *e)
{
	*l = (struct import_line){ 0 };
	while (line.n && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
		line.n--;
	if (sl_trim(line).n == 0 || sl_trim(line).p[0] == '#')
		return 0;
	if (sl_find(line, '\t', 0) < line.n)
		split_tabs(line, l);
	else if (sl_find(line, ',', 0) < line.n)
		split(sl_trim(line), ",", l);
	else
		split(sl_trim(line), " ", l);
	if (l->jid.n == 0)
		return err_set(e, E_SYNTAX, NULL, "no JID");
	if (l->secret.n == 0)
		return err_set(e, E_SYNTAX, NULL, "no password or verifiers");
	if (!is_number(l->number))
		return err_set(e, E_SYNTAX, NULL, "\"" SLFMT "\" is not a number",
			       SLARG(sl_sub(l->number, 0, 40)));
	l->verifiers = is_verifier(l->secret);
	return 1;
}

static json_t *verifiers_json(struct sl s)
{
	json_t *a = json_array();

	for (size_t i = 0, end; i < s.n; i = end + 1) {
		end = i;
		while (end < s.n && s.p[end] != ' ' && s.p[end] != ';')
			end++;
		if (end > i)
			json_array_append_new(a, json_stringn(s.p + i, end - i));
	}
	return a;
}

json_t *import_json(const struct import_line *l)
{
	json_t *o = json_object();
	int rc = json_object_set_new(o, "jid", json_stringn(l->jid.p, l->jid.n));

	if (l->verifiers)
		rc |= json_object_set_new(o, "verifiers", verifiers_json(l->secret));
	else
		rc |= json_object_set_new(o, "password", json_stringn(l->secret.p, l->secret.n));
	if (l->number.n)
		rc |= json_object_set_new(o, "number", json_stringn(l->number.p, l->number.n));
	if (rc < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* ---- the run ---- */

struct import {
	struct ctl *c;
	FILE *f;
	const char *name;
	unsigned line, in_flight;
	uint64_t read, answered, added, updated, numbers, refused;
	uint64_t open_lines[IN_FLIGHT + 1]; /* lines of each open request, to know the progress */
	uint64_t ids[IN_FLIGHT + 1];
	uint64_t shown_ms, started_ms;
	bool eof, tty;
	json_t *refusals; /* of --json */
	struct err e;
	int status;
};

static void show_progress(struct import *im, bool last)
{
	uint64_t now = clock_mono_ms();

	if (!last && now - im->shown_ms < (im->tty ? 200u : 2000u))
		return;
	im->shown_ms = now;
	fprintf(stderr, "%s%llu accounts, %llu refused, %.1f s%s", im->tty ? "\r" : "",
		(unsigned long long)im->answered, (unsigned long long)im->refused,
		(double)(now - im->started_ms) / 1000.0, im->tty && !last ? "   " : "\n");
}

static void note_refused(struct import *im, const char *jid, const char *text)
{
	im->refused++;
	if (im->refused <= REFUSED_SHOWN)
		fprintf(stderr, "%s%s: %s\n", im->tty ? "\r" : "", jid, text);
	else if (im->refused == REFUSED_SHOWN + 1)
		fprintf(stderr, "%smore were refused: --json has them all\n", im->tty ? "\r" : "");
}

static void refuse_line(struct import *im, const char *text)
{
	char where[200];

	snprintf(where, sizeof(where), "%.150s:%u", im->name, im->line);
	json_array_append_new(im->refusals, json_pack("{s:s,s:s,s:s}", "jid", where, "code",
						      "syntax", "text", text));
	note_refused(im, where, text);
}

/* One chunk of lines as the users of a request; NULL: the file has ended. */
static json_t *read_chunk(struct import *im)
{
	json_t *users = json_array();
	size_t octets = 0;
	char text[LINE_MAX];

	while (json_array_size(users) < CHUNK && octets < CHUNK_OCTETS && !im->eof) {
		struct import_line l;
		if (!fgets(text, sizeof(text), im->f)) {
			im->eof = true;
			break;
		}
		im->line++;
		size_t n = strlen(text);
		if (n == sizeof(text) - 1 && text[n - 1] != '\n') {
			refuse_line(im, "line too long");
			for (int ch; (ch = fgetc(im->f)) != EOF && ch != '\n';)
				;
			continue;
		}
		int rc = import_parse(sl_mk(text, n), &l, &im->e);
		json_t *u = rc > 0 ? import_json(&l) : NULL;
		if (rc < 0 || (rc > 0 && !u))
			refuse_line(im, rc < 0 ? im->e.text : "not UTF-8");
		if (!u)
			continue;
		octets += n + 40;
		json_array_append_new(users, u);
	}
	wipe(text, sizeof(text));
	if (json_array_size(users))
		return users;
	json_decref(users);
	return NULL;
}

static int send_chunk(struct import *im)
{
	json_t *users = read_chunk(im), *args;
	uint64_t n = json_array_size(users);

	if (!users)
		return 0;
	args = json_pack("{s:o}", "users", users);
	if (json_is_true(json_object_get(im->c->args, "replace")))
		json_object_set_new(args, "replace", json_true());
	uint64_t id = client_send(&im->c->client, "user import", args, &im->e);
	if (id == 0)
		return im->e.code;
	for (unsigned i = 0; i < IN_FLIGHT + 1; i++)
		if (im->ids[i] == 0) {
			im->ids[i] = id;
			im->open_lines[i] = n;
			break;
		}
	im->in_flight++;
	im->read += n;
	return 1;
}

static uint64_t count_of(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static int take_answer(struct import *im)
{
	json_t *msg, *r;
	size_t i;
	int rc;

	do
		rc = client_receive(&im->c->client, ANSWER_MS, &msg, &im->e);
	while (rc == E_AGAIN);
	if (rc < 0)
		return rc;
	const json_t *result = json_object_get(msg, "result"),
		     *error = json_object_get(msg, "error");
	for (i = 0; i < IN_FLIGHT + 1; i++)
		if (im->ids[i] == frame_id(msg)) {
			im->answered += im->open_lines[i];
			im->ids[i] = 0;
		}
	im->in_flight--;
	im->added += count_of(result, "added");
	im->updated += count_of(result, "updated");
	im->numbers += count_of(result, "numbers");
	json_array_extend(im->refusals, json_object_get(result, "refused"));
	json_array_foreach(json_object_get(result, "refused"), i, r)
	{
		const char *jid = json_string_value(json_object_get(r, "jid"));
		const char *text = json_string_value(json_object_get(r, "text"));
		note_refused(im, jid ? jid : "?", text ? text : "refused");
	}
	if (error) {
		const char *text = json_string_value(json_object_get(error, "text"));
		err_set(&im->e, E_INTERNAL, NULL, "%s", text ? text : "refused");
		im->status = im->added + im->updated ? EXIT_PARTLY : EXIT_REFUSED;
	}
	json_decref(msg);
	return error ? E_INTERNAL : 0;
}

static bool unfinished(const struct import *im)
{
	return im->in_flight || !im->eof;
}

static int run(struct import *im)
{
	int rc = 1;

	while (rc >= 0 && unfinished(im)) {
		while (rc >= 0 && im->in_flight < IN_FLIGHT && !im->eof)
			rc = send_chunk(im);
		if (rc >= 0 && im->in_flight)
			rc = take_answer(im);
		if (rc >= 0 && unfinished(im))
			show_progress(im, false);
	}
	show_progress(im, true);
	return rc < 0 ? rc : 0;
}

static int report(struct import *im, int rc)
{
	if (im->c->json) {
		json_t *o = json_pack("{s:I,s:I,s:I,s:O}", "added", (json_int_t)im->added,
				      "updated", (json_int_t)im->updated, "numbers",
				      (json_int_t)im->numbers, "refused", im->refusals);
		if (rc < 0)
			json_object_set_new(o, "error", json_string(im->e.text));
		json_dumpf(o, stdout, JSON_INDENT(1));
		putchar('\n');
		json_decref(o);
	} else {
		printf("%llu accounts added, %llu changed, %llu numbers, %llu refused\n",
		       (unsigned long long)im->added, (unsigned long long)im->updated,
		       (unsigned long long)im->numbers, (unsigned long long)im->refused);
	}
	if (rc < 0)
		fprintf(stderr, "tandemctl: stopped near line %u: %s\n", im->line, im->e.text);
	if (rc < 0)
		return im->status ? im->status : EXIT_UNKNOWN;
	return im->refused ? EXIT_PARTLY : EXIT_DONE;
}

int import_run(struct ctl *c)
{
	struct import im = { .c = c, .started_ms = clock_mono_ms() };
	int rc;

	im.shown_ms = im.started_ms;
	im.name = json_string_value(json_object_get(c->args, "file"));
	if (!im.name) {
		cmdline_help_command(stderr, c->cmd);
		return EXIT_USAGE;
	}
	im.tty = isatty(STDERR_FILENO);
	im.f = strcmp(im.name, "-") == 0 ? stdin : fopen(im.name, "r");
	if (!im.f) {
		fprintf(stderr, "tandemctl: %s: %s\n", im.name, strerror(errno));
		return EXIT_REFUSED;
	}
	im.refusals = json_array();
	rc = ctl_connect(c);
	if (rc == 0)
		rc = report(&im, run(&im));
	json_decref(im.refusals);
	if (im.f != stdin)
		fclose(im.f);
	return rc;
}

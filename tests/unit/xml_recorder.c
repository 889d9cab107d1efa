/* xml_recorder.c - see xml_recorder.h. */
#include "tests/unit/xml_recorder.h"

const struct xml_limits recorder_limits = {
	.stanza_octets = 8192, .depth = 16, .attrs = 24, .nodes = 200
};

static void put(struct recorder *r, const char *what, const struct xml_node *n)
{
	if (buf_add(&r->log, sl_cstr(what)) < 0 || (n && xml_write(&r->log, n, NS_NONE) < 0))
		r->out_of_memory = true;
}

static int on_open(void *self, const struct xml_node *root, struct sl content_ns)
{
	struct recorder *r = self;

	put(r, "O", root);
	if (buf_addf(&r->log, "[" SLFMT "]", SLARG(content_ns)) < 0)
		r->out_of_memory = true;
	return 0;
}

static int on_element(void *self, struct arena *a, struct xml_node *n)
{
	struct recorder *r = self;

	put(r, "E", n);
	if (r->look)
		r->look(n);
	r->arena_used = arena_used(a);
	arena_free(&a);
	if (r->stop_after && (int)++r->elements == r->stop_after)
		return E_DENIED;
	return r->pause ? XML_PAUSE : 0;
}

static void on_close(void *self)
{
	put(self, "C", NULL);
}

const struct xml_stream_ops recorder_ops = { on_open, on_element, on_close };

int recorder_init(struct recorder *r, const struct xml_limits *lim)
{
	*r = (struct recorder){ 0 };
	buf_init(&r->log, 64u << 20);
	if (xml_pool_new(&r->pool[0], 2) < 0 || xml_pool_new(&r->pool[1], 2) < 0 ||
	    xml_stream_new(r->pool[0], lim, &recorder_ops, r, &r->x) < 0) {
		recorder_free(r);
		return E_NOMEM;
	}
	return 0;
}

void recorder_free(struct recorder *r)
{
	xml_stream_free(&r->x);
	xml_pool_free(&r->pool[0]);
	xml_pool_free(&r->pool[1]);
	buf_free(&r->log);
}

int recorder_feed(struct recorder *r, struct sl data)
{
	struct err e = { 0 };
	int rc = xml_stream_feed(r->x, data, &e);

	while (rc == XML_PAUSE)
		rc = xml_stream_resume(r->x, &e);
	if (rc < 0 && buf_addf(&r->log, "!%s", e.clause ? e.clause : "?") < 0)
		r->out_of_memory = true;
	return rc;
}

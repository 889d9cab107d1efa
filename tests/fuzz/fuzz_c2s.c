/* fuzz_c2s.c - bytes to whole stream machines: a client before login and after it, components.
 *
 * The first octet chooses the kind of stream. The rest is cut at NUL octets into pieces that arrive
 * one after the other. A piece that begins with 0x01 is an order instead: something that happens
 * around the stream (a delivery, a commit, a broken connection, a resumption, time). */
#include "tests/unit/access_rig.h"

static int peer = -1;
static char sm_id[SM_ID_OCTETS + 1];

static struct c2s *c2s_now(void)
{
	struct stream *s;

	if (list_empty(&ar.w.conns))
		return NULL;
	s = LIST_ENTRY(ar.w.conns.prev, struct stream, node);
	return s->f.def == &c2s_fsm ? container_of(s, struct c2s, st) : NULL;
}

static void deliver(void)
{
	static struct mail mail = { .id = 1 };
	struct stanza *st;
	struct jid to = jid_split(SL("alice@localhost"));

	if (!ar.last || stanza_new(STANZA_MESSAGE, ST_CHAT, NULL, &to, SL("d"), &st) != 0)
		return;
	xml_add_text(st->arena, xml_add(st->arena, st->root, NS_STANZA, SL("body")), SL("x"));
	if (stanza_seal(st) == 0)
		ar.last->ops->deliver(ar.last, st, SL("<x/>"), mail.holders < 1000 ? &mail : NULL);
	stanza_unref(&st);
}

static void connect_again(bool login)
{
	struct stream *s;
	char text[128];

	if (peer >= 0)
		close(peer);
	ar_turn();
	peer = ar_connect(ACCESS_C2S, &s);
	if (!login || !s)
		return;
	ar_talk(peer, AR_OPEN);
	ar_authed(container_of(s, struct c2s, st));
	ar_talk(peer, AR_OPEN);
	snprintf(text, sizeof(text), "<resume xmlns='urn:xmpp:sm:3' h='0' previd='%s'/>", sm_id);
	ar_talk(peer, text);
}

static void order(unsigned char what)
{
	struct c2s *c = c2s_now();

	if (c && c->st.as && c->st.as->sm)
		memcpy(sm_id, c->st.as->sm->id, SM_ID_OCTETS);
	switch (what % 10) {
	case 0:
		deliver();
		break;
	case 1:
		ar.hold = !ar.hold;
		break;
	case 2:
		ar_commit(0);
		break;
	case 3:
		ar_commit(E_IO);
		break;
	case 4:
		connect_again(true);
		break;
	case 5:
		connect_again(false);
		break;
	case 6:
		clock_fake_advance_ms(70000);
		break;
	case 7:
		if (ar.last)
			ar.last->ops->close(ar.last, what & 16 ? "reset" : NULL, SL("x"));
		break;
	case 8:
		if (ar.last)
			ar.last->ops->flow(ar.last, what & 16);
		break;
	default:
		ar.echo = !ar.echo;
	}
}

static void start(unsigned char kind)
{
	struct stream *s;
	struct c2s *c;

	switch (kind % 4) {
	case 0:
		peer = ar_connect(ACCESS_C2S, &s);
		break;
	case 1:
		peer = ar_bound(&c);
		break;
	case 2:
		peer = ar_connect(ACCESS_COMPONENT_UNIX, &s);
		break;
	default:
		peer = ar_connect(ACCESS_COMPONENT, &s);
	}
}

static void play(struct sl in)
{
	while (in.n) {
		size_t end = sl_find(in, '\0', 0);
		struct sl piece = sl_sub(in, 0, end);

		in = sl_sub(in, end + 1, in.n);
		if (piece.n == 2 && piece.p[0] == 1)
			order((unsigned char)piece.p[1]);
		else
			ar_send(peer, piece);
		ar_turn();
		ar_recv(peer);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static bool started;

	if (n < 1 || n > 60000)
		return 0;
	if (!started) {
		log_set_level(LOG_L_ERROR);
		ar_new();
		started = true;
	}
	clock_fake(true, 1000000, 1700000000000);
	ar.hold = ar.echo = false;
	ar.sm_owner = SL("alice@localhost");
	start(data[0]);
	play(sl_mk((const char *)data + 1, n - 1));
	if (peer >= 0)
		close(peer);
	peer = -1;
	ar_turn();
	ar_commit(0);
	clock_fake_advance_ms(1000000);
	ar_turn();
	if (!access_worker_idle(&ar.w))
		abort(); /* a stream or a session is left */
	return 0;
}

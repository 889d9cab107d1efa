/* addr.c - see addr.h. */
#include "xmpp/access/addr.h"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "appliance/base/hash.h"

#define MANY 1000u /* of fewer connections the memory is kept for the next ones */

struct addr_slot {
	struct hnode hn;
	uint32_t n;
	uint8_t len;
	/* kind; IPv4 address, or the first 64 bits of an IPv6 one, or nothing more */
	unsigned char key[9];
};

struct addr_table {
	pthread_mutex_t lock;
	struct htable slots;
	uint32_t total[ADDR_KINDS];
	uint32_t all, most; /* of all kinds; since addr_leave said so */
};

int addr_table_new(struct addr_table **t_r)
{
	struct addr_table *t = calloc(1, sizeof(*t));

	if (!t)
		return E_NOMEM;
	pthread_mutex_init(&t->lock, NULL);
	htable_init(&t->slots);
	*t_r = t;
	return 0;
}

void addr_table_free(struct addr_table **tp)
{
	struct addr_table *t = *tp;
	struct hnode *n;

	if (!t)
		return;
	while ((n = htable_next(&t->slots, NULL))) {
		htable_del(&t->slots, n);
		free(container_of(n, struct addr_slot, hn));
	}
	htable_free(&t->slots);
	pthread_mutex_destroy(&t->lock);
	free(t);
	*tp = NULL;
}

/* The key of fd's peer: its length, 0 when it has no address. */
static uint8_t key_of(int fd, unsigned char key[8])
{
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_storage ss;
	} u;
	socklen_t n = sizeof(u);

	memset(&u, 0, sizeof(u));
	if (getpeername(fd, &u.sa, &n) != 0)
		return 0;
	if (u.sa.sa_family == AF_INET) {
		memcpy(key, &u.in.sin_addr, 4);
		return 4;
	}
	if (u.sa.sa_family != AF_INET6)
		return 0;
	if (IN6_IS_ADDR_V4MAPPED(&u.in6.sin6_addr)) {
		memcpy(key, u.in6.sin6_addr.s6_addr + 12, 4);
		return 4;
	}
	memcpy(key, u.in6.sin6_addr.s6_addr, 8);
	return 8;
}

static bool match(const struct hnode *n, const void *key)
{
	const struct addr_slot *s = container_of(n, const struct addr_slot, hn);

	return sl_eq(sl_mk((const char *)s->key, s->len), *(const struct sl *)key);
}

static struct addr_slot *slot_get(struct addr_table *t, struct sl key)
{
	uint64_t h = hash_bytes(key);
	struct hnode *n = htable_find(&t->slots, h, match, &key);
	struct addr_slot *s;

	if (n)
		return container_of(n, struct addr_slot, hn);
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->len = (uint8_t)key.n;
	memcpy(s->key, key.p, key.n);
	if (htable_add(&t->slots, &s->hn, h) != 0) {
		free(s);
		return NULL;
	}
	return s;
}

int addr_enter(struct addr_table *t, int fd, enum addr_kind kind, uint32_t per_addr_max,
	       uint32_t total_max, struct addr_slot **slot_r)
{
	unsigned char key[9] = { (unsigned char)kind };
	uint8_t n = key_of(fd, key + 1);
	struct addr_slot *s = NULL;
	int rc = 0;

	pthread_mutex_lock(&t->lock);
	if (total_max && t->total[kind] >= total_max)
		rc = E_LIMIT;
	else if (!(s = slot_get(t, sl_mk((const char *)key, n + 1u))))
		rc = E_NOMEM;
	else if (n && per_addr_max && s->n >= per_addr_max)
		rc = E_LIMIT;
	if (rc == 0) {
		t->total[kind]++;
		if (++t->all > t->most)
			t->most = t->all;
		s->n++;
		*slot_r = s;
	}
	pthread_mutex_unlock(&t->lock);
	return rc;
}

bool addr_leave(struct addr_table *t, struct addr_slot *slot)
{
	bool ebb;

	pthread_mutex_lock(&t->lock);
	t->total[slot->key[0]]--;
	ebb = --t->all < t->most / 2 && t->most >= MANY;
	if (ebb)
		t->most = t->all;
	if (--slot->n == 0) {
		htable_del(&t->slots, &slot->hn);
		free(slot);
	}
	pthread_mutex_unlock(&t->lock);
	return ebb;
}

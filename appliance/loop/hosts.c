/* hosts.c - see hosts.h. */
#include "appliance/loop/hosts.h"
#include "appliance/base/buf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define FILE_MAX        (64u << 20)
#define NAME_MAX_OCTETS 255u

struct host {
	struct hnode node;
	struct sl name; /* lower case */
	struct host_addr *first, **last;
};

static bool same_name(const struct hnode *n, const void *key)
{
	return sl_eq(container_of(n, struct host, node)->name, *(const struct sl *)key);
}

/* False: too long for any host name. */
static bool lower(struct sl name, char dst[NAME_MAX_OCTETS], struct sl *low_r)
{
	if (name.n == 0 || name.n > NAME_MAX_OCTETS)
		return false;
	for (size_t i = 0; i < name.n; i++)
		dst[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] + 32) : name.p[i];
	*low_r = sl_mk(dst, name.n);
	return true;
}

static struct host *find(const struct hosts *h, struct sl low)
{
	struct hnode *n = htable_find(&h->names, hash_bytes(low), same_name, &low);

	return n ? container_of(n, struct host, node) : NULL;
}

static struct host *find_or_add(struct hosts *h, struct sl low)
{
	struct host *x = find(h, low);

	if (x)
		return x;
	x = arena_new_obj(h->a, struct host);
	if (!x)
		return NULL;
	x->name = arena_dup(h->a, low);
	x->last = &x->first;
	if (!x->name.p || htable_add(&h->names, &x->node, hash_bytes(low)) < 0)
		return NULL;
	return x;
}

static int add(struct hosts *h, struct sl name, const struct host_addr *addr)
{
	char low[NAME_MAX_OCTETS];
	struct host_addr *a;
	struct host *x;
	struct sl key;

	if (!lower(name, low, &key))
		return 0;
	x = find_or_add(h, key);
	a = arena_new_obj(h->a, struct host_addr);
	if (!x || !a)
		return E_NOMEM;
	*a = *addr;
	*x->last = a;
	x->last = &a->next;
	return 0;
}

/* Next word of a line, with the white space before it. */
static struct sl word(struct sl *rest)
{
	size_t n = 0;

	*rest = sl_trim(*rest);
	while (n < rest->n && rest->p[n] != ' ' && rest->p[n] != '\t')
		n++;
	struct sl w = sl_sub(*rest, 0, n);
	*rest = sl_sub(*rest, n, rest->n);
	return w;
}

static int parse_line(struct hosts *h, struct sl line)
{
	struct host_addr a = { 0 };
	char text[INET6_ADDRSTRLEN];
	struct sl w;
	int rc = 0;

	line = sl_sub(line, 0, sl_find(line, '#', 0));
	if (sl_to_cstr(word(&line), text, sizeof(text)) < 0)
		return 0;
	if (inet_pton(AF_INET, text, a.addr) == 1)
		a.family = AF_INET;
	else if (inet_pton(AF_INET6, text, a.addr) == 1)
		a.family = AF_INET6;
	else
		return 0;
	while (rc == 0 && (w = word(&line)).n)
		rc = add(h, w, &a);
	return rc;
}

int hosts_parse(struct hosts *h, struct sl text)
{
	int rc = 0;

	htable_init(&h->names);
	h->a = arena_new(4096, 8u * FILE_MAX);
	if (!h->a)
		return E_NOMEM;
	while (rc == 0 && text.n) {
		size_t n = sl_find(text, '\n', 0);

		rc = parse_line(h, sl_sub(text, 0, n));
		text = sl_sub(text, n + 1, text.n);
	}
	if (rc < 0)
		hosts_free(h);
	return rc;
}

static int slurp(int fd, struct buf *b)
{
	for (;;) {
		char *p = buf_reserve(b, 65536);
		ssize_t n;

		if (!p)
			return b->n + 65536 > b->max ? E_TOOBIG : E_NOMEM;
		do
			n = read(fd, p, 65536);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return E_IO;
		if (n == 0)
			return 0;
		buf_commit(b, (size_t)n);
	}
}

int hosts_read(struct hosts *h, const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY), rc = 0;
	struct buf b;

	buf_init(&b, FILE_MAX);
	if (fd >= 0) {
		rc = slurp(fd, &b);
		close(fd);
	} else if (errno != ENOENT && errno != EACCES) {
		rc = E_IO;
	}
	if (rc == 0)
		rc = hosts_parse(h, buf_sl(&b));
	buf_free(&b);
	if (rc < 0)
		return err_set(e, rc, NULL, "%s: %s", path, e_name(rc));
	return 0;
}

const struct host_addr *hosts_find(const struct hosts *h, struct sl name)
{
	char low[NAME_MAX_OCTETS];
	struct host *x;
	struct sl key;

	if (!lower(name, low, &key))
		return NULL;
	x = find(h, key);
	return x ? x->first : NULL;
}

void hosts_free(struct hosts *h)
{
	htable_free(&h->names);
	arena_free(&h->a);
}

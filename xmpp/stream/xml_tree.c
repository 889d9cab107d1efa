/* xml_tree.c - reading and building element trees. See xml.h. */
#include "xmpp/stream/xml.h"

struct sl xml_attr(const struct xml_node *n, struct sl name)
{
	for (const struct xml_attr *t = n ? n->attrs : NULL; t; t = t->next)
		if (t->ns == NS_NONE && sl_eq(t->name, name))
			return t->value;
	return SL_NULL;
}

static struct xml_node *match_from(struct xml_node *n, enum xml_ns ns, struct sl name)
{
	for (; n; n = n->next)
		if (n->name.n && n->ns == ns && (name.n == 0 || sl_eq(n->name, name)))
			return n;
	return NULL;
}

struct xml_node *xml_child(const struct xml_node *n, enum xml_ns ns, struct sl name)
{
	return n ? match_from(n->first, ns, name) : NULL;
}

struct xml_node *xml_child_next(const struct xml_node *after, enum xml_ns ns, struct sl name)
{
	return after ? match_from(after->next, ns, name) : NULL;
}

struct xml_node *xml_first_element(const struct xml_node *n)
{
	for (struct xml_node *c = n ? n->first : NULL; c; c = c->next)
		if (c->name.n)
			return c;
	return NULL;
}

struct xml_node *xml_next_element(const struct xml_node *n)
{
	for (struct xml_node *c = n ? n->next : NULL; c; c = c->next)
		if (c->name.n)
			return c;
	return NULL;
}

struct sl xml_text(struct arena *a, const struct xml_node *n)
{
	const struct xml_node *only = NULL;
	size_t parts = 0, len = 0;

	for (const struct xml_node *c = n ? n->first : NULL; c; c = c->next)
		if (!c->name.n && c->text.n) {
			parts++;
			len += c->text.n;
			only = c;
		}
	if (parts <= 1)
		return only ? only->text : SL_NULL;
	char *p = arena_bytes(a, len), *d = p;
	if (!p)
		return SL_NULL;
	for (const struct xml_node *c = n->first; c; c = c->next)
		if (!c->name.n && c->text.n) {
			memcpy(d, c->text.p, c->text.n);
			d += c->text.n;
		}
	return sl_mk(p, len);
}

struct xml_node *xml_new(struct arena *a, enum xml_ns ns, struct sl name)
{
	struct xml_node *n = a ? arena_new_obj(a, struct xml_node) : NULL;

	if (n) {
		n->ns = ns;
		n->name = name;
	}
	return n;
}

void xml_append(struct xml_node *parent, struct xml_node *child)
{
	if (!parent || !child)
		return;
	child->parent = parent;
	child->next = NULL;
	if (parent->last)
		parent->last->next = child;
	else
		parent->first = child;
	parent->last = child;
}

struct xml_node *xml_add(struct arena *a, struct xml_node *parent, enum xml_ns ns, struct sl name)
{
	struct xml_node *n = parent ? xml_new(a, ns, name) : NULL;

	xml_append(parent, n);
	return n;
}

struct xml_node *xml_add_text(struct arena *a, struct xml_node *parent, struct sl text)
{
	struct xml_node *n;

	if (!parent || text.n == 0)
		return parent;
	n = xml_new(a, NS_NONE, SL_NULL);
	if (!n)
		return NULL;
	n->text = text;
	xml_append(parent, n);
	return parent;
}

struct xml_node *xml_set(struct arena *a, struct xml_node *n, struct sl name, struct sl value)
{
	struct xml_attr **pp;

	if (!n)
		return NULL;
	for (pp = &n->attrs; *pp; pp = &(*pp)->next)
		if ((*pp)->ns == NS_NONE && sl_eq((*pp)->name, name)) {
			(*pp)->value = value;
			return n;
		}
	struct xml_attr *t = arena_new_obj(a, struct xml_attr);
	if (!t)
		return NULL;
	t->name = name;
	t->value = value;
	*pp = t;
	return n;
}

void xml_unset(struct xml_node *n, struct sl name)
{
	for (struct xml_attr **pp = n ? &n->attrs : NULL; pp && *pp; pp = &(*pp)->next)
		if ((*pp)->ns == NS_NONE && sl_eq((*pp)->name, name)) {
			*pp = (*pp)->next;
			return;
		}
}

void xml_unlink(struct xml_node *child)
{
	struct xml_node *parent = child ? child->parent : NULL, *prev = NULL;

	if (!parent)
		return;
	for (struct xml_node *c = parent->first; c && c != child; c = c->next)
		prev = c;
	if (prev)
		prev->next = child->next;
	else
		parent->first = child->next;
	if (parent->last == child)
		parent->last = prev;
	child->parent = child->next = NULL;
}

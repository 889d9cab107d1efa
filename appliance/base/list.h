/* list.h - intrusive doubly linked list. The head is a struct list; nodes are embedded members. */
#ifndef TANDEM_BASE_LIST_H
#define TANDEM_BASE_LIST_H

#include "appliance/base/base.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}
static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}
/* True if the node is in some list; nodes must be list_init'ed before. */
static inline bool list_linked(const struct list *n)
{
	return n->next != n;
}
static inline void list_insert_before(struct list *at, struct list *n)
{
	n->prev = at->prev;
	n->next = at;
	at->prev->next = n;
	at->prev = n;
}
static inline void list_append(struct list *head, struct list *n)
{
	list_insert_before(head, n);
}
static inline void list_prepend(struct list *head, struct list *n)
{
	list_insert_before(head->next, n);
}
static inline void list_remove(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}
static inline struct list *list_pop(struct list *head)
{
	struct list *n = head->next;

	if (n == head)
		return NULL;
	list_remove(n);
	return n;
}
/* Move everything in src to the end of dst. */
static inline void list_splice(struct list *dst, struct list *src)
{
	if (list_empty(src))
		return;
	src->next->prev = dst->prev;
	dst->prev->next = src->next;
	src->prev->next = dst;
	dst->prev = src->prev;
	list_init(src);
}

#define LIST_ENTRY(n, type, member) container_of(n, type, member)
/* Safe against removal of the current node. */
#define LIST_FOREACH(it, tmp, head) \
	for (struct list *it = (head)->next, *tmp = it->next; it != (head); \
	     it = tmp, tmp = it->next)

#endif

/* auth.c - the threads and queues of the auth pool (auth.h). */
#include "xmpp/access/auth.h"

#include <pthread.h>

#include "xmpp/router/worker.h"

#define AUTH_THREADS_MAX  16u
#define AUTH_STACK_OCTETS (256u * 1024u)

struct auth_queue {
	struct auth_job *head, **tail;
};

struct auth_pool {
	struct bus *bus;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct auth_queue login, bulk;
	unsigned backlog, nthreads;
	bool stop;
	pthread_t thread[AUTH_THREADS_MAX];
};

static void queue_init(struct auth_queue *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

static void queue_put(struct auth_queue *q, struct auth_job *j)
{
	j->next = NULL;
	*q->tail = j;
	q->tail = &j->next;
}

static struct auth_job *queue_get(struct auth_queue *q)
{
	struct auth_job *j = q->head;

	if (!j)
		return NULL;
	q->head = j->next;
	if (!q->head)
		q->tail = &q->head;
	return j;
}

static void job_undelivered(struct bus_msg *m)
{
	struct auth_job *j = container_of(m, struct auth_job, msg);

	j->drop(j);
}

/* CORE_MSG_AUTH in the worker. */
static void job_answered(void *worker_arg, struct bus_msg *m_take)
{
	struct auth_job *j = container_of(m_take, struct auth_job, msg);

	UNUSED(worker_arg);
	j->done(j);
}

static void *auth_thread(void *arg)
{
	struct auth_pool *p = arg;
	struct auth_job *j;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->stop && !p->login.head && !p->bulk.head)
			pthread_cond_wait(&p->work, &p->lock);
		if (p->stop)
			break;
		j = queue_get(p->login.head ? &p->login : &p->bulk);
		pthread_mutex_unlock(&p->lock);
		j->run(j);
		bus_post(p->bus, &j->msg);
		pthread_mutex_lock(&p->lock);
		p->backlog--;
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int auth_pool_new(unsigned threads, struct bus *bus, struct auth_pool **p_r, struct err *e)
{
	struct auth_pool *p = calloc(1, sizeof(*p));
	pthread_attr_t attr;
	int rc = 0;

	if (!p)
		return err_set(e, E_NOMEM, NULL, "out of memory for the auth pool");
	p->bus = bus;
	queue_init(&p->login);
	queue_init(&p->bulk);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	bus_on(bus, CORE_MSG_AUTH, job_answered);
	if (threads < 1)
		threads = 1;
	if (threads > AUTH_THREADS_MAX)
		threads = AUTH_THREADS_MAX;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, AUTH_STACK_OCTETS);
	while (p->nthreads < threads && rc == 0) {
		rc = pthread_create(&p->thread[p->nthreads], &attr, auth_thread, p);
		if (rc == 0)
			p->nthreads++;
	}
	pthread_attr_destroy(&attr);
	if (rc) {
		auth_pool_free(&p);
		return err_set(e, E_IO, NULL, "cannot start an auth thread: %s", strerror(rc));
	}
	*p_r = p;
	return 0;
}

void auth_pool_free(struct auth_pool **pp)
{
	struct auth_pool *p = *pp;
	struct auth_job *j;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->nthreads; i++)
		pthread_join(p->thread[i], NULL);
	while ((j = queue_get(&p->login)) || (j = queue_get(&p->bulk)))
		j->drop(j);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
	*pp = NULL;
}

void auth_submit(struct auth_pool *p, struct auth_job *j)
{
	bool stopped;

	j->msg.type = CORE_MSG_AUTH;
	j->msg.free = job_undelivered;
	j->msg.to = (struct bus_addr){ .node = BUS_NODE_SELF, .worker = j->worker };
	pthread_mutex_lock(&p->lock);
	stopped = p->stop;
	if (!stopped) {
		queue_put(j->bulk ? &p->bulk : &p->login, j);
		p->backlog++;
		pthread_cond_signal(&p->work);
	}
	pthread_mutex_unlock(&p->lock);
	if (stopped)
		j->drop(j);
}

unsigned auth_backlog(struct auth_pool *p)
{
	unsigned n;

	pthread_mutex_lock(&p->lock);
	n = p->backlog;
	pthread_mutex_unlock(&p->lock);
	return n;
}

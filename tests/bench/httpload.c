/* httpload.c - requests to Kannel's sendsms over kept-alive connections, for the SMS benchmark.
 *
 *	httpload PORT CONNECTIONS MESSAGES NUMBERS
 *
 * Each request sends about 100 octets of text to one of NUMBERS telephone numbers; a connection has
 *one request on its way. Prints when the first was sent and how many were accepted (202), as JSON.
*/
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct client {
	int fd;
	char in[2048];
	size_t nin;
};

static unsigned long sent, answered, accepted, messages, numbers;

static void die(const char *what)
{
	fprintf(stderr, "httpload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static unsigned long long now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (unsigned long long)t.tv_sec * 1000000000u + (unsigned long long)t.tv_nsec;
}

static void request(struct client *c)
{
	char text[512];
	if (sent == messages)
		return;
	int n = snprintf(
		text, sizeof text,
		"GET /cgi-bin/sendsms?username=u&password=p&from=100&to=1555%07lu&text=Message+%lu:"
		"+the+quick+brown+fox+jumps+over+the+lazy+dog,+and+over+the+lazy+dog+it+jumps+again. "
		"HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
		sent * 7919 % numbers, sent);
	sent++;
	if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		die("send");
}

/* One whole answer in the buffer? Then its length. */
static size_t answer_length(const char *s, size_t n)
{
	const char *head = memmem(s, n, "\r\n\r\n", 4);
	const char *length = memmem(s, n, "Content-Length: ", 16);
	if (!head || !length)
		return 0;
	size_t whole = (size_t)(head + 4 - s) + strtoul(length + 16, NULL, 10);
	return whole <= n ? whole : 0;
}

static void answer(struct client *c)
{
	ssize_t got = recv(c->fd, c->in + c->nin, sizeof c->in - c->nin, 0);
	if (got <= 0)
		die("connection closed");
	c->nin += (size_t)got;
	for (size_t n; (n = answer_length(c->in, c->nin));) {
		answered++;
		if (!memcmp(c->in + 9, "202", 3))
			accepted++;
		else if (answered == accepted + 1)
			fprintf(stderr, "httpload: %.*s\n", (int)n, c->in);
		c->nin -= n;
		memmove(c->in, c->in + n, c->nin);
		request(c);
	}
}

int main(int argc, char **argv)
{
	if (argc != 5)
		die("usage: httpload PORT CONNECTIONS MESSAGES NUMBERS");
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10)),
				 .sin_addr = { htonl(INADDR_LOOPBACK) } };
	size_t n = strtoul(argv[2], NULL, 10);
	messages = strtoul(argv[3], NULL, 10);
	numbers = strtoul(argv[4], NULL, 10);
	struct client *c = calloc(n, sizeof *c);
	int ep = epoll_create1(0), one = 1;
	for (size_t i = 0; c && i < n; i++) {
		c[i].fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(c[i].fd, (struct sockaddr *)&a, sizeof a))
			die("connect");
		setsockopt(c[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &c[i] };
		epoll_ctl(ep, EPOLL_CTL_ADD, c[i].fd, &ev);
	}
	unsigned long long start = now_ns();
	for (size_t i = 0; c && i < n; i++)
		request(&c[i]);
	while (answered < messages) {
		struct epoll_event ev[64];
		int k = epoll_wait(ep, ev, 64, 30000);
		if (k <= 0)
			die("no answer in 30 s");
		for (int i = 0; i < k; i++)
			answer(ev[i].data.ptr);
	}
	printf("{\"start_ns\": %llu, \"sent\": %lu, \"accepted\": %lu, \"seconds\": %.3f}\n", start,
	       sent, accepted, (double)(now_ns() - start) / 1e9);
	return 0;
}

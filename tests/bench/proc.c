/* proc.c - processor time and memory of process trees, from /proc.
 *
 * A tree is its root and everything below it that is alive, with the time of children that have
 * ended and were waited for. */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/xl.h"

struct process {
	int pid, parent;
	double cpu_s;
	uint64_t rss;
	bool chosen;
};

#define PROC_MAX 8192

static bool process_read(int pid, struct process *p)
{
	char path[64], line[2048];
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *f = fopen(path, "r");
	if (!f)
		return false;
	size_t n = fread(line, 1, sizeof line - 1, f);
	fclose(f);
	line[n] = 0;
	char *rest = strrchr(line, ')');
	unsigned long u, s;
	long cu, cs, rss;
	if (!rest || sscanf(rest + 2,
			    "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld %*d %*d "
			    "%*d %*d %*u %*u %ld",
			    &p->parent, &u, &s, &cu, &cs, &rss) != 6)
		return false;
	p->pid = pid;
	p->cpu_s = ((double)u + (double)s + (double)cu + (double)cs) / (double)sysconf(_SC_CLK_TCK);
	p->rss = (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE);
	p->chosen = false;
	return true;
}

static unsigned process_list(struct process *all)
{
	DIR *d = opendir("/proc");
	if (!d)
		xl_die("cannot read /proc");
	unsigned n = 0;
	for (struct dirent *e; (e = readdir(d)) && n < PROC_MAX;)
		if (isdigit((unsigned char)e->d_name[0]) &&
		    process_read((int)strtol(e->d_name, NULL, 10), &all[n]))
			n++;
	closedir(d);
	return n;
}

static void choose(struct process *all, unsigned n, const int *root, unsigned nroot)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < nroot; k++)
			if (all[i].pid == root[k])
				all[i].chosen = true;
	for (bool again = true; again;) {
		again = false;
		for (unsigned i = 0; i < n; i++)
			for (unsigned k = 0; k < n && !all[i].chosen; k++)
				if (all[k].chosen && all[k].pid == all[i].parent)
					all[i].chosen = again = true;
	}
}

static void totals(const int *root, unsigned nroot, double *cpu_s, uint64_t *rss)
{
	struct process *all = calloc(PROC_MAX, sizeof *all);
	if (!all)
		xl_die("out of memory");
	unsigned n = process_list(all);
	choose(all, n, root, nroot);
	*cpu_s = 0;
	*rss = 0;
	for (unsigned i = 0; i < n; i++)
		if (all[i].chosen) {
			*cpu_s += all[i].cpu_s;
			*rss += all[i].rss;
		}
	free(all);
}

double proc_cpu_s(const int *root, unsigned n)
{
	double cpu_s;
	uint64_t rss;
	totals(root, n, &cpu_s, &rss);
	return cpu_s;
}

uint64_t proc_rss_octets(const int *root, unsigned n)
{
	double cpu_s;
	uint64_t rss;
	totals(root, n, &cpu_s, &rss);
	return rss;
}

/* local.c - commands that need no tandemd. See ctl.h. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "appliance/config/config.h"
#include "appliance/ctl/ctl.h"
#include "appliance/loop/tls.h"

static const char *arg(const struct ctl *c, const char *name)
{
	return json_string_value(json_object_get(c->args, name));
}

/* What tandem-core would find: a key that does not fit is refused, an old certificate is not. */
static int check_certificate(const struct config_host *h, struct err *e)
{
	struct tls_ctx *t = NULL;
	struct err why = { 0, NULL, "" };
	int rc = tls_ctx_server(h->certificate, h->key, NULL, &t, &why);

	if (rc < 0)
		return err_set(e, rc, NULL, "host[" SLFMT "]: " SLFMT ", " SLFMT ": %s",
			       SLARG(h->name), SLARG(h->certificate_file), SLARG(h->key_file),
			       why.text);
	if (tls_ctx_valid_s(t) < 0)
		fprintf(stderr,
			"tandemctl: host[" SLFMT "]: " SLFMT
			" has expired: clients refuse such a certificate\n",
			SLARG(h->name), SLARG(h->certificate_file));
	tls_ctx_unref(&t);
	return 0;
}

static int check_certificates(const struct config *cfg, struct err *e)
{
	int rc = 0;

	tls_init();
	for (uint32_t i = 0; i < cfg->nhost && rc == 0; i++)
		if (cfg->host[i].certificate.n)
			rc = check_certificate(&cfg->host[i], e);
	return rc;
}

static int config_check(struct ctl *c)
{
	const char *path = arg(c, "file") ? arg(c, "file") : "/etc/tandem/tandem.conf";
	const struct config *cfg;
	struct err e = { 0, NULL, "" };

	if (config_load(path, &cfg, &e) < 0)
		return ctl_complain(c, EXIT_REFUSED, &e);
	if (check_certificates(cfg, &e) < 0) {
		config_unref(&cfg);
		return ctl_complain(c, EXIT_REFUSED, &e);
	}
	if (c->json)
		printf("{\"file\": \"ok\", \"hosts\": %u, \"links\": %u}\n", cfg->nhost,
		       cfg->nlink);
	else
		printf("%s: good (%u host%s, %u link%s)\n", path, cfg->nhost,
		       cfg->nhost == 1 ? "" : "s", cfg->nlink, cfg->nlink == 1 ? "" : "s");
	config_unref(&cfg);
	return EXIT_DONE;
}

static int print_page(int (*page)(struct buf *out))
{
	struct buf b;
	int rc;

	buf_init(&b, 1u << 20);
	rc = page(&b);
	if (rc == 0)
		fwrite(buf_sl(&b).p, 1, b.n, stdout);
	buf_free(&b);
	return rc == 0 ? EXIT_DONE : EXIT_REFUSED;
}

/* Whole or not at all, and never over a file that is there. */
static int write_new(const char *path, struct sl text, unsigned mode, struct err *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
	ssize_t n;

	if (fd < 0)
		return err_errno(e, E_IO, "cannot make %s", path);
	n = write(fd, text.p, text.n);
	if (n != (ssize_t)text.n || fsync(fd) < 0 || close(fd) < 0) {
		int rc = err_errno(e, E_IO, "cannot write %s", path);
		unlink(path);
		return rc;
	}
	return 0;
}

static int self_signed(struct ctl *c)
{
	const char *crt = arg(c, "certificate"), *key = arg(c, "key");
	json_int_t days = json_integer_value(json_object_get(c->args, "days"));
	struct err e = { 0, NULL, "" };
	struct secret key_pem = { NULL, 0 };
	char *cert_pem = NULL;
	int rc;

	if (access(crt, F_OK) == 0 && access(key, F_OK) == 0) {
		printf("%s and %s are there: kept\n", crt, key);
		return EXIT_DONE;
	}
	tls_init();
	rc = tls_self_signed(arg(c, "names"), days ? (unsigned)days : 3650, &cert_pem, &key_pem,
			     &e);
	if (rc == 0)
		rc = write_new(key, sl_mk(key_pem.p, key_pem.n), 0600, &e);
	if (rc == 0)
		rc = write_new(crt, sl_cstr(cert_pem), 0644, &e);
	free(cert_pem);
	secret_clear(&key_pem);
	return rc < 0 ? ctl_complain(c, EXIT_REFUSED, &e) : EXIT_DONE;
}

int local_run(struct ctl *c)
{
	const char *name = c->cmd->name;

	if (strcmp(name, "config check") == 0)
		return config_check(c);
	if (strcmp(name, "config sample") == 0)
		return print_page(config_print_sample);
	if (strcmp(name, "config reference") == 0)
		return print_page(config_print_reference);
	if (strcmp(name, "certificate self-signed") == 0)
		return self_signed(c);
	cmdline_document(stdout);
	return EXIT_DONE;
}

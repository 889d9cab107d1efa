/* fuzz_config.c - tandem.conf as text, and the configuration document that children get.
 *
 * What is accepted is turned into a document for each process, which must be accepted there too. */
#include <jansson.h>

#include "appliance/config/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_documents(const struct config *c)
{
	static const enum config_who all[] = { CONFIG_CORE, CONFIG_SMS, CONFIG_ALL };

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		const struct config *back;
		json_t *doc = config_to_json(c, all[i]);
		if (!doc || config_from_json(doc, all[i], &back, NULL) < 0)
			abort();
		json_decref(doc);
		config_unref(&back);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const struct config *c = NULL;
	struct config_link *l = NULL;
	struct sl text = sl_mk((const char *)data, n);
	struct err e;

	if (n && data[0] == '{') {
		json_t *doc =
			json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
		if (doc && config_from_json(doc, CONFIG_ALL, &c, &e) == 0)
			check_documents(c);
		config_unref(&c);
		if (doc && config_link_from_json(doc, &l, &e) == 0)
			config_link_free(&l);
		json_decref(doc);
		return 0;
	}
	/* No folder: files that it names are not found, or are what they are. */
	if (config_load_text(text, "fuzz", SL("/nonexistent"), &c, &e) == 0) {
		check_documents(c);
		config_unref(&c);
	}
	return 0;
}

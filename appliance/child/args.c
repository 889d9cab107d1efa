/* args.c - the arguments of a command, checked against a table. See child.h. */
#include "appliance/child/args.h"

const char *args_kind_name(enum child_arg_kind k)
{
	static const char *const names[] = { "a text", "a number", "true or false", "a list" };

	return names[k];
}

int args_check_one(const struct child_arg *a, json_t *v, struct err *e)
{
	switch (a->kind) {
	case CHILD_STR:
		if (!json_is_string(v))
			break;
		if (json_string_length(v) > a->max)
			return err_set(e, E_TOOBIG, NULL, "%s: more than %llu octets", a->name,
				       (unsigned long long)a->max);
		if (a->value_r)
			*(struct sl *)a->value_r =
				sl_mk(json_string_value(v), json_string_length(v));
		return 0;
	case CHILD_UINT:
		if (!json_is_integer(v) || json_integer_value(v) < 0)
			break;
		if ((uint64_t)json_integer_value(v) > a->max)
			return err_set(e, E_RANGE, NULL, "%s: more than %llu", a->name,
				       (unsigned long long)a->max);
		if (a->value_r)
			*(uint64_t *)a->value_r = (uint64_t)json_integer_value(v);
		return 0;
	case CHILD_BOOL:
		if (!json_is_boolean(v))
			break;
		if (a->value_r)
			*(bool *)a->value_r = json_is_true(v);
		return 0;
	case CHILD_ARRAY:
		if (!json_is_array(v))
			break;
		if (json_array_size(v) > a->max)
			return err_set(e, E_TOOBIG, NULL, "%s: more than %llu members", a->name,
				       (unsigned long long)a->max);
		if (a->value_r)
			*(json_t **)a->value_r = v;
		return 0;
	}
	return err_set(e, E_SYNTAX, NULL, "%s must be %s", a->name, args_kind_name(a->kind));
}

static bool known(const struct child_arg *a, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(a[i].name, name) == 0)
			return true;
	return false;
}

int args_take(json_t *args, const struct child_arg *a, size_t n, struct err *e)
{
	const char *name;
	json_t *v;

	json_object_foreach(args, name, v) if (!known(a, n, name)) return err_set(
		e, E_SYNTAX, NULL, "unknown argument %.60s", name);
	for (size_t i = 0; i < n; i++) {
		v = json_object_get(args, a[i].name);
		if (!v && a[i].required)
			return err_set(e, E_SYNTAX, NULL, "%s is missing", a[i].name);
		int rc = v ? args_check_one(&a[i], v, e) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* program.h - the program tandem-core: between tandemd's socketpair (appliance/child) and core.h.
 */
#ifndef TANDEM_XMPP_PROGRAM_H
#define TANDEM_XMPP_PROGRAM_H

#include "appliance/child/child.h"
#include "appliance/config/config.h"
#include "xmpp/core/core.h"

struct program {
	struct child *child;
	struct core *core;
	json_t *listening; /* for the ready report */
	uint64_t started_ms;
	bool stopping;
};

/* main() of tandem-core: returns the exit status. */
int program_main(void);

/* ---- core_config.c ---- */

/* A snapshot of what the operator set. E_SYNTAX, E_AUTH (certificates), E_NOMEM. */
int core_config_from(const struct config *cfg, const struct core_config **c_r, struct err *e);
/* The rest of the set-up: opens the listeners (before the jail); json_r gets {"name", "address"} of
 * each. On error those that are open stay in s. */
int core_setup_from(const struct config *cfg, struct core_setup *s, json_t *listening,
		    struct err *e);

/* ---- control.c, control_user.c, control_component.c ---- */

extern const struct child_command core_commands[];

/* Refuses while the program is ending: true, and r has been failed. */
bool control_refused(struct program *p, struct child_req *r);

void control_user_add(void *self, struct child_req *r, json_t *args);
void control_user_get(void *self, struct child_req *r, json_t *args);
void control_user_password(void *self, struct child_req *r, json_t *args);
void control_user_delete(void *self, struct child_req *r, json_t *args);
void control_user_list(void *self, struct child_req *r, json_t *args);
void control_user_import(void *self, struct child_req *r, json_t *args);
void control_component_list(void *self, struct child_req *r, json_t *args);
void control_component_add(void *self, struct child_req *r, json_t *args);
void control_component_delete(void *self, struct child_req *r, json_t *args);
void control_trace(void *self, struct child_req *r, json_t *args);

#endif

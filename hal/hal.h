/* hal.h - the hardware abstraction: what a driver offers, and what its host gives it (DESIGN
 * section 7).
 *
 * State that must survive lies in the working folder, which is the process's own. Drivers are
 * behind ops tables and know nothing of XMPP, SMPP or the store. Classes: radio (SMS now; USSD,
 * voice, signal with the modem drivers), line and chassis (later steps). A driver runs in its
 * host's loop and never blocks; it owns what it makes.
 *
 * Rules for every class: a request is answered by exactly one completion, which carries the
 * request's cookie; events are copied by who keeps them (slices in an event are borrowed for the
 * call); what a driver has taken from the network it offers again, also after a restart, until it
 * is acknowledged. */
#ifndef TANDEM_HAL_HAL_H
#define TANDEM_HAL_HAL_H

#include "appliance/loop/loop.h"
#include "hal/gsm/concat.h"

#define HAL_ABI 1u

struct hal_radio;

/* How a request ended. */
enum hal_result {
	HAL_OK,
	HAL_TEMPORARY, /* may succeed later */
	HAL_PERMANENT, /* never */
	HAL_AMBIGUOUS, /* perhaps it happened */
};

struct hal_sms {
	struct sl from, to; /* digits, "+" in front of international ones; from is the SIM's own for
			       most radios */
	struct gsm_body body;
	bool want_report;
	uint32_t validity_s; /* 0: the network's default */
};

enum hal_report { HAL_REPORT_DELIVERED, HAL_REPORT_FAILED, HAL_REPORT_EXPIRED };

struct hal_host { /* given to a driver; outlives it */
	struct loop *loop;
	void *arg;
	void (*radio_state)(void *arg, struct hal_radio *r, bool up, const char *why);
	/* Completion of sms_send. reference: the network's name of the message (HAL_OK); text: the
	 * reason otherwise. */
	void (*sms_sent)(void *arg, struct hal_radio *r, uint64_t cookie, enum hal_result res,
			 struct sl reference, const char *text);
	/* Acknowledge with ops->sms_ack(token), now or later; offered again after a while
	 * otherwise. */
	void (*sms_received)(void *arg, struct hal_radio *r, uint64_t token,
			     const struct hal_sms *m, uint64_t sent_ms);
	void (*sms_report)(void *arg, struct hal_radio *r, uint64_t token, struct sl reference,
			   enum hal_report what, const char *text);
};

struct hal_radio_ops {
	uint32_t abi, size;
	const char *name;
	/* 0: accepted, sms_sent follows; E_AGAIN: not now; E_NOTFOUND: this radio's network has no
	 * such number. */
	int (*sms_send)(struct hal_radio *r, const struct hal_sms *m, uint64_t cookie);
	/* ok false: not taken; offered again later. */
	void (*sms_ack)(struct hal_radio *r, uint64_t token, bool ok);
	/* Octets of the longest known prefix of the number + 1, or 0: not reachable. */
	unsigned (*serves)(const struct hal_radio *r, struct sl number);
	unsigned (*room)(const struct hal_radio *r);
	/* Parts in flight are completed before it returns: HAL_AMBIGUOUS, unless the driver knows
	 * better. */
	void (*close)(struct hal_radio **r);
};

struct hal_radio { /* first member of a driver's object */
	const struct hal_radio_ops *ops;
	const struct hal_host *host;
};

/* ---- the sim driver (hal/radio/sim.c): a network of handsets in this process
 * ---------------------- */

enum hal_sim_behaviour {
	HAL_SIM_ANSWER, /* receives, reports delivery, answers */
	HAL_SIM_REPORT, /* receives, reports delivery */
	HAL_SIM_SILENT, /* receives, reports nothing */
	HAL_SIM_REFUSE, /* reports failure */
	HAL_SIM_ABSENT, /* is never reached: the report says expired when the validity is over */
};

struct hal_sim_handset { /* texts borrowed for the sim's life */
	struct sl number;
	enum hal_sim_behaviour behaviour;
	struct sl answer;  /* "%s" in it is replaced by the text received */
	uint32_t delay_ms; /* before report and answer */
};

int hal_sim_open(const struct hal_host *host, const struct hal_sim_handset *h, unsigned n,
		 struct hal_radio **r_r, struct err *e);

#endif

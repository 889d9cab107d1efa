/* fuzz_gsm_udh.c - octets as user data with a header; what is found, built again, is found again.
 */
#include "hal/gsm/concat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sl in = sl_mk((const char *)data, size), rest;
	struct gsm_udh udh, again;
	struct gsm_ie ie;
	uint8_t built[GSM_UDH_CONCAT_OCTETS];

	if (gsm_udh_parse(in, &udh, &rest) < 0)
		return 0;
	if (udh.ies.n + 1 + rest.n != size)
		abort();
	for (struct sl walk = udh.ies; gsm_ie_next(&walk, &ie);)
		if (ie.data.n && (ie.data.p < in.p || ie.data.p + ie.data.n > in.p + in.n))
			abort();
	size_t n = gsm_udh_build(&udh.concat, built);
	if (n == 0)
		return 0;
	if (gsm_udh_parse(sl_mk((const char *)built, n), &again, &rest) < 0 ||
	    again.concat.ref != udh.concat.ref || again.concat.seq != udh.concat.seq ||
	    again.concat.total != udh.concat.total)
		abort();
	return 0;
}

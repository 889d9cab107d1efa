/* main.c - tandem-sms, the SMS translator. Started by tandemd; see app.c. */
#include "translators/sms/app.h"

int main(int argc, char **argv)
{
	return sms_main(argc, argv);
}

/* main.c - tandem-core. */
#include "xmpp/core/program.h"

int main(void)
{
	return program_main();
}

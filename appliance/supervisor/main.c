/* main.c - tandemd, the one program that an init system starts. */
#include "appliance/supervisor/tandemd.h"

int main(int argc, char **argv)
{
	return tandemd_main(argc, argv);
}

/* main.c - tandemctl, the operator's tool. */
#include "appliance/ctl/ctl.h"

int main(int argc, char **argv)
{
	return tandemctl_main(argc, argv);
}

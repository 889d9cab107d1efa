/* app.h - the entry of tandem-sms, for its main.c. */
#ifndef TANDEM_SMS_APP_H
#define TANDEM_SMS_APP_H

int sms_main(int argc, char **argv);

#endif

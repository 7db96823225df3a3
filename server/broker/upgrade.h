/* Upgrades: a broker hands over to a program that it starts, whatever lies at its own path by now, with everything that
 * it has, and ends when that one serves.  Where the new one fails, or does not understand all of it, the old one goes
 * on as if nothing had been.  Thread: the loop's. */
#ifndef SLC__BROKER_UPGRADE_H
#define SLC__BROKER_UPGRADE_H

#include <sys/types.h>

#include "broker/broker.h"
#include "store/handover.h"

/* ---- the old one ---- */

/* Once, when the program starts: what it was started as. */
void upgrade_note(char **argv);
/* 0: that process serves in our place, and we end now and touch nothing.  Otherwise nobody does but us, and
 * slc__error_detail says why. */
int upgrade_run(struct broker *broker, pid_t *ret_pid);

/* ---- the new one ---- */

struct upgrade {
  int socket; /* -1: we were started in the ordinary way */
  struct slc__handover handover;
};

/* Whether somebody hands over to us, and if so, everything.  Statuses of slc__handover_receive. */
int upgrade_receive(struct upgrade *ret_upgrade);
/* We have understood everything; 0: the old one does nothing more. */
int upgrade_confirm(struct upgrade *upgrade);

#endif

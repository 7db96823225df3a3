/* A page that a test shares with the one process it starts with mortal.c preloaded. */
#ifndef SLC_TEST_MORTAL_H
#define SLC_TEST_MORTAL_H

#include <stdatomic.h>
#include <stdint.h>

#define MORTAL_PAGE "SLOTCAST_TEST_MORTAL_PAGE" /* the environment variable with the page's path */

#define MORTAL_DIES UINT32_MAX /* in the place of the moment: it has come */

struct mortal_page {
  _Atomic uint32_t stops; /* it is stopped then, and not killed */
  _Atomic uint32_t at;    /* the moment of death, 1, 2 ..; 0: it lives */
  _Atomic uint32_t count; /* moments so far: one before and one after each message sent, one after each received */
};

#endif

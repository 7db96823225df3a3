/* A channel as JSON and as words; what ls and info share.  Thread: main. */
#ifndef SLOTCAST_CLI_JSON_H
#define SLOTCAST_CLI_JSON_H

#include <jansson.h>

#include <slotcast/slotcast.h>

/* The figures that every listing of a channel has. */
json_t *channel_to_json(const slc_channel_info *channel);
/* The one with all that the other has; takes both, and gives NULL when either is, or memory is short. */
json_t *json_joined(json_t *object, json_t *more);
/* Prints and frees it; the exit code. */
int print_json(json_t *value);

#endif

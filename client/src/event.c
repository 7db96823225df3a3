/* Events, taken out of the messages of the channel that the broker tells them on.  Threads: any. */
#include <stddef.h>
#include <string.h>

#include "base/error.h"
#include "settings.h"
#include "slotcast/slotcast.h"

enum { EVENT_SIZE_MIN = sizeof(slc_event) }; /* of the first version */

const char *slc_event_name(uint32_t kind) {
  switch (kind) {
#define EVENT_NAME_(name, value, text)                                                                                 \
  case value:                                                                                                          \
    return text;
    SLC_EVENT_MAP(EVENT_NAME_)
#undef EVENT_NAME_
  default:
    return "?";
  }
}

int slc_event_read(const slc_message *message, slc_event *ret_event) {
  if (message == NULL || ret_event == NULL)
    return slc__fail(SLC_INVALID, "slc_event_read: message and ret_event must be given");
  slc_event event = {0};
  if (message->size < EVENT_SIZE_MIN)
    return slc__fail(SLC_INVALID, "a message of %zu bytes is no event: these are those of " SLC_EVENTS_CHANNEL,
                     message->size);
  memcpy(&event, message->data, sizeof event);
  if (event.size != message->size)
    return slc__fail(SLC_INVALID, "a message of %zu bytes that says %u is no event", message->size, event.size);
  event.channel[sizeof event.channel - 1] = '\0';
  event.program[sizeof event.program - 1] = '\0';
  event.client_name[sizeof event.client_name - 1] = '\0';
  return slc__stats_copy(ret_event, &event, sizeof event);
}

/* Which peers there are, and what several of them need.  Thread: main. */
#include "peer.h"

#include <unistd.h>

#include "cli.h"

extern const struct peer peer_slotcast, peer_iceoryx, peer_cyclonedds, peer_cyclonedds_shared, peer_zeromq, peer_nng;

/* CMake defines PEERS_.. for what it found. */
#ifdef PEERS_ICEORYX
#define ICEORYX &peer_iceoryx
#else
#define ICEORYX NULL
#endif
#ifdef PEERS_CYCLONEDDS
#define CYCLONEDDS &peer_cyclonedds
#else
#define CYCLONEDDS NULL
#endif
#if defined PEERS_CYCLONEDDS && defined PEERS_ROUDI
#define CYCLONEDDS_SHARED &peer_cyclonedds_shared
#else
#define CYCLONEDDS_SHARED NULL
#endif
#ifdef PEERS_ZEROMQ
#define ZEROMQ &peer_zeromq
#else
#define ZEROMQ NULL
#endif
#ifdef PEERS_NNG
#define NNG &peer_nng
#else
#define NNG NULL
#endif

const struct peer_entry peer_entries[] = {
    {"slotcast", "Slotcast", &peer_slotcast},
    {"iceoryx", "iceoryx", ICEORYX},
    {"cyclonedds", "CycloneDDS", CYCLONEDDS},
    {"cyclonedds-shm", "CycloneDDS, shm", CYCLONEDDS_SHARED},
    {"zeromq", "ZeroMQ", ZEROMQ},
    {"nng", "nng", NNG},
};
const size_t peer_count = sizeof peer_entries / sizeof peer_entries[0];

void peer_fail(const char *call, const char *reason) {
  _exit(fail(EXIT_FAILED, "%s: %s", call, reason));
}

size_t receive_one_by_one(bool (*take)(uint64_t *number, bool sleeps), const struct topic *topic, uint64_t *numbers,
                          size_t max, bool waits) {
  size_t count = 0;
  do {
    while (count < max && take(&numbers[count], waits && topic->blocks && count == 0)) count++;
  } while (waits && count == 0);
  return count;
}

const char *address_of(const struct topic *topic) {
  static char address[ADDRESS_MAX];
  snprintf(address, sizeof address, "ipc://%s/%s", topic->directory, topic->name);
  return address;
}

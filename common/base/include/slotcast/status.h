/* Status codes: every fallible function of Slotcast returns 0 (or a count) or one of these, all negative.
 *
 * One table makes the enum, the names, the sentences and the test of docs/status.md (what to do).  Values are stable:
 * a code is never renumbered or reused; new ones are appended. */
#ifndef SLOTCAST_STATUS_H
#define SLOTCAST_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* X(NAME, value, sentence) */
#define SLC_STATUS_MAP(X)                                                                                              \
  X(OK, 0, "success")                                                                                                  \
  X(EMPTY, -1, "no unread message")                                                                                    \
  X(WOULD_BLOCK, -2, "no slot can be taken now: wait for the reliable subscribers, or try again")                      \
  X(TIMED_OUT, -3, "the time-out has passed")                                                                          \
  X(HOLD_LIMIT, -4, "all holds of this subscriber are in use: release a message first")                                \
  X(LOAN_LIMIT, -5, "all loans of this publisher are in use: publish or discard one first")                            \
  X(STALE, -6, "this loan or message has been published, discarded or released already")                               \
  X(INVALID, -7, "an argument is not valid")                                                                           \
  X(TOO_LARGE, -8, "the message is larger than the channel's slots")                                                   \
  X(NAME_INVALID, -9, "a channel name is 1 to 255 bytes of printable UTF-8, and .slotcast/ is reserved")               \
  X(INCOMPATIBLE, -10, "the request contradicts what the channel already is")                                          \
  X(NO_BUDGET, -11, "the channel has too few slots for one more user of this size")                                    \
  X(LIMIT, -12, "a limit of the broker or of the channel has been reached")                                            \
  X(NOT_FOUND, -13, "there is no such channel")                                                                        \
  X(DENIED, -14, "not permitted")                                                                                      \
  X(NO_BROKER, -15, "no broker answers at this address: start slotcastd, or use `slotcast run`")                       \
  X(BROKER_GONE, -16, "the broker has gone: what is open goes on, nothing new can be opened before it is back")        \
  X(PROTOCOL, -17, "the other side broke the control protocol")                                                        \
  X(VERSION, -18, "the other side speaks another version")                                                             \
  X(CORRUPT, -19, "shared memory holds impossible values: a publisher of this channel has damaged it")                 \
  X(NO_MEMORY, -20, "out of memory")                                                                                   \
  X(NO_DESCRIPTORS, -21, "out of file descriptors: raise the limit (ulimit -n, LimitNOFILE=)")                         \
  X(SYSTEM, -22, "a system call failed")                                                                               \
  X(EXHAUSTED, -23, "the channel has used up its ordinals: open a new one")                                            \
  X(FORKED, -24, "this handle belongs to the parent process: open a new one after fork")                               \
  X(BUSY, -25, "in use: this address by another broker, or this channel by its users")                                 \
  X(GONE, -26, "this message is not retained any more")                                                                \
  X(REFUSED, -27, "a callback of this program refused it")                                                             \
  X(CHECKSUM, -28, "the checksum of this message does not match its bytes")                                            \
  X(DISCONNECTED, -29, "this subscriber was too slow for its channel: open a new one")

typedef enum slc_status {
#define SLC_STATUS_ENUM_(name, value, text) SLC_##name = (value),
  SLC_STATUS_MAP(SLC_STATUS_ENUM_)
#undef SLC_STATUS_ENUM_
} slc_status;

#ifdef __cplusplus
}
#endif
#endif

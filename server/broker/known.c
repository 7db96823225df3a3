/* The users of a process, found by what they are called in requests: by id, and by token together with the program's
 * instance.  A process may have thousands, and each that is opened is looked for first.
 *
 * Invariants: every user is in the tree by id as long as it is of the process, in the tree by token exactly while it
 * has one.  Thread: the loop's. */
#include <search.h>
#include <string.h>

#include "broker/broker.h"

static int by_id(const void *a, const void *b) {
  uint64_t first = ((const struct user *)a)->id, second = ((const struct user *)b)->id;
  return first < second ? -1 : first > second;
}

static int by_token(const void *a, const void *b) {
  const struct user *first = a, *second = b;
  int order = memcmp(first->token, second->token, sizeof first->token);
  return order != 0 ? order : memcmp(first->instance, second->instance, sizeof first->instance);
}

/* False where there is one of that key already, or no memory. */
static bool add(void **tree, struct user *user, int (*order)(const void *a, const void *b)) {
  struct user **found = tsearch(user, tree, order);
  return found != NULL && *found == user;
}

bool known_add(struct user *user) {
  return add(&user->process->users_by_id, user, by_id);
}

void known_add_token(struct user *user, const uint8_t *token) {
  memcpy(user->token, token, sizeof user->token);
  user->has_token = add(&user->process->users_by_token, user, by_token);
}

void known_remove(const struct user *user) {
  tdelete(user, &user->process->users_by_id, by_id);
  if (user->has_token) tdelete(user, &user->process->users_by_token, by_token);
}

struct user *known_by_id(const struct process *process, uint64_t id) {
  const struct user wanted = {.id = id};
  struct user **found = tfind(&wanted, &process->users_by_id, by_id);
  return found == NULL ? NULL : *found;
}

struct user *known_by_token(const struct process *process, const uint8_t *token, const uint8_t *instance) {
  struct user wanted = {.id = 0};
  memcpy(wanted.token, token, sizeof wanted.token);
  memcpy(wanted.instance, instance, sizeof wanted.instance);
  struct user **found = tfind(&wanted, &process->users_by_token, by_token);
  return found == NULL ? NULL : *found;
}

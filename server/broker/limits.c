/* Accounts: what each uid makes the broker hold, charged before it is made.  Thread: the loop's. */
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "broker/broker.h"

static const struct {
  const char *option;
  uint64_t standard;
  const char *what;
} kinds[LIMIT_KINDS] = {
#define KIND_ROW(field, option, standard, what) [LIMIT_##field] = {option, standard, what},
    SLC__LIMIT_MAP(KIND_ROW)
#undef KIND_ROW
};

uint64_t *limit_field(struct limits *limits, enum limit_kind kind) {
  switch (kind) {
#define FIELD_CASE(field, option, standard, what)                                                                      \
  case LIMIT_##field:                                                                                                  \
    return &limits->field;
    SLC__LIMIT_MAP(FIELD_CASE)
#undef FIELD_CASE
  }
  return &limits->memory;
}

const char *limit_option(enum limit_kind kind) {
  return kinds[kind].option;
}

void limits_init(struct limits *limits) {
  for (int i = 0; i < LIMIT_KINDS; i++) *limit_field(limits, (enum limit_kind)i) = kinds[i].standard;
}

struct account *account_ref(struct broker *broker, uid_t uid) {
  struct account *account;
  LIST_FOREACH(account, &broker->accounts, link) {
    if (account->uid == uid && !account->is_unlimited) break;
  }
  if (account == NULL) {
    account = calloc(1, sizeof *account);
    if (account == NULL) return NULL;
    account->uid = uid;
    LIST_INSERT_HEAD(&broker->accounts, account, link);
  }
  account->references++;
  return account;
}

struct account *account_own(struct broker *broker) {
  struct account *account = calloc(1, sizeof *account);
  if (account == NULL) return NULL;
  account->uid = geteuid();
  account->is_unlimited = true;
  account->references = 1;
  LIST_INSERT_HEAD(&broker->accounts, account, link);
  return account;
}

void account_unref(struct account *account) {
  if (account == NULL || --account->references > 0) return;
  LIST_REMOVE(account, link);
  free(account);
}

int charge(struct broker *broker, struct account *account, enum limit_kind kind, uint64_t amount) {
  uint64_t limit = *limit_field(&broker->options.limits, kind);
  uint64_t *used = limit_field(&account->used, kind);
  if (!account->is_unlimited && (amount > limit || *used > limit - amount))
    return slc__fail(SLC_LIMIT,
                     "user %u has %llu %s and wants %llu more; the broker allows each user %llu: close some, or start "
                     "slotcastd with a larger --%s",
                     account->uid, (unsigned long long)*used, kinds[kind].what, (unsigned long long)amount,
                     (unsigned long long)limit, kinds[kind].option);
  *used += amount;
  return SLC_OK;
}

void charge_again(struct account *account, enum limit_kind kind, uint64_t amount) {
  *limit_field(&account->used, kind) += amount;
}

void discharge(struct account *account, enum limit_kind kind, uint64_t amount) {
  *limit_field(&account->used, kind) -= amount;
}

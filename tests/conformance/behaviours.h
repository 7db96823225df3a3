/* What every kind of channel does.  A behaviour that is listed here runs for every kind that it is for. */
#ifndef SLC_TEST_BEHAVIOURS_H
#define SLC_TEST_BEHAVIOURS_H

#include "world.h"

enum only { ONLY_ALL, ONLY_RELIABLE, ONLY_UNRELIABLE };

/* X(name, only) */
#define BEHAVIOURS(X)                                                                                                  \
  /* publishing.c */                                                                                                   \
  X(messages_arrive_whole_and_in_order, ONLY_ALL)                                                                      \
  X(every_size_fits, ONLY_ALL)                                                                                         \
  X(two_loans_are_published_in_either_order, ONLY_ALL)                                                                 \
  X(a_loan_is_used_once, ONLY_ALL)                                                                                     \
  X(a_size_out_of_range_is_refused_and_the_loan_stays, ONLY_ALL)                                                       \
  X(loans_are_limited, ONLY_ALL)                                                                                       \
  X(a_larger_message_makes_the_channel_grow, ONLY_ALL)                                                                 \
  X(a_fixed_size_is_kept, ONLY_ALL)                                                                                    \
  X(messages_carry_metadata_and_a_checksum, ONLY_ALL)                                                                  \
  X(messages_are_stamped_with_the_time, ONLY_ALL)                                                                      \
  /* subscribing.c */                                                                                                  \
  X(a_subscriber_starts_at_what_comes, ONLY_ALL)                                                                       \
  X(a_subscriber_starts_at_what_is_retained, ONLY_ALL)                                                                 \
  X(a_subscriber_starts_at_the_last, ONLY_ALL)                                                                         \
  X(a_subscriber_starts_at_an_ordinal, ONLY_ALL)                                                                       \
  X(the_newest_are_kept_for_those_who_come_late, ONLY_UNRELIABLE)                                                      \
  X(many_are_taken_at_once, ONLY_ALL)                                                                                  \
  X(retained_messages_are_found, ONLY_ALL)                                                                             \
  X(a_weak_reference_holds_what_is_still_there, ONLY_ALL)                                                              \
  X(a_subscriber_may_come_first, ONLY_ALL)                                                                             \
  X(the_newest_skips_without_drops, ONLY_ALL)                                                                          \
  X(held_messages_stay_as_they_are, ONLY_ALL)                                                                          \
  X(holds_are_limited_and_the_message_waits, ONLY_ALL)                                                                 \
  X(a_message_is_released_once, ONLY_ALL)                                                                              \
  X(two_subscribers_each_get_everything, ONLY_ALL)                                                                     \
  X(a_wait_ends_with_a_message_or_its_time, ONLY_ALL)                                                                  \
  X(the_descriptor_is_readable_while_something_may_be_taken, ONLY_ALL)                                                 \
  X(who_publishes_later_rings_everybody, ONLY_ALL)                                                                     \
  X(figures_add_up, ONLY_ALL)                                                                                          \
  /* reliability.c */                                                                                                  \
  X(an_overrun_subscriber_knows_what_it_lost, ONLY_UNRELIABLE)                                                         \
  X(an_unreliable_publisher_never_waits, ONLY_UNRELIABLE)                                                              \
  X(every_message_is_retired_once, ONLY_ALL)                                                                           \
  X(a_reliable_publisher_waits_for_its_subscriber, ONLY_RELIABLE)                                                      \
  X(a_reliable_publisher_does_not_wait_for_others, ONLY_RELIABLE)                                                      \
  /* lives.c */                                                                                                        \
  X(what_was_published_outlives_its_publisher, ONLY_ALL)                                                               \
  X(loans_of_the_dead_come_back, ONLY_ALL)                                                                             \
  X(holds_of_the_dead_come_back, ONLY_ALL)                                                                             \
  X(nobody_waits_for_a_dead_subscriber_without_a_broker, ONLY_RELIABLE)                                                \
  X(nobody_waits_for_a_dead_subscriber, ONLY_RELIABLE)                                                                 \
  X(users_that_do_not_fit_are_refused, ONLY_ALL)

#define BEHAVIOUR_DECLARATION(name, only) void name(struct world *world);
BEHAVIOURS(BEHAVIOUR_DECLARATION)
#undef BEHAVIOUR_DECLARATION

#endif

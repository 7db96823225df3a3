/* Publishers that wait for a slot: the gate of gate.h the other way round.  A publisher arms `waiting` with the value of
 * `released` that it read, looks for a slot once more, and sleeps on `released`; a subscriber that releases its hold
 * looks at `waiting` and rings.  Two publishers want a slot each; two subscribers of two tables hold one each; one may die,
 * and then the broker clears its line and rings.  Does a publisher sleep for ever while a slot can be had? */
byte released[2]; byte waiting[2]; bool held[2]; bool free_slot[2];
bool asleep[2]; byte slept0[2]; byte slept1[2]; byte got = 0; byte gone = 0;
#define RING(t) atomic { released[t]++; \
    if :: asleep[0] && slept0[0] != released[0] -> asleep[0] = false :: asleep[0] && slept1[0] != released[1] -> asleep[0] = false :: else fi; \
    if :: asleep[1] && slept0[1] != released[0] -> asleep[1] = false :: asleep[1] && slept1[1] != released[1] -> asleep[1] = false :: else fi }
proctype subscriber(byte t) {
  bool died = false;
  if
  :: t == 0 -> died = true             /* killed while holding */
  :: skip
  fi;
  if
  :: died ->
     held[t] = false;                  /* the broker, after the pidfd */
#ifndef BUG_NORING
     RING(t)
#endif
  :: else ->
#ifdef BUG_LOOKFIRST
     if :: waiting[t] == released[t] -> held[t] = false; RING(t) :: else -> held[t] = false fi
#else
     held[t] = false;                  /* seq_cst */
     if :: waiting[t] == released[t] -> RING(t) :: else fi
#endif
  fi;
  gone++
}
proctype publisher(byte p) {
  byte v0, v1;
  do
  :: atomic { !held[0] && !free_slot[0] -> free_slot[0] = true; got++; break }
  :: atomic { !held[1] && !free_slot[1] -> free_slot[1] = true; got++; break }
  :: else ->
#ifdef BUG_READAFTER
     waiting[0] = released[0]; waiting[1] = released[1];
     if :: (!held[0] && !free_slot[0]) || (!held[1] && !free_slot[1]) -> goto again :: else fi;
     v0 = released[0]; v1 = released[1];
#else
     v0 = released[0]; atomic { if :: waiting[0] < v0 -> waiting[0] = v0 :: else fi };
     v1 = released[1]; atomic { if :: waiting[1] < v1 -> waiting[1] = v1 :: else fi };
     if :: (!held[0] && !free_slot[0]) || (!held[1] && !free_slot[1]) -> goto again :: else fi;
#endif
     /* futex_waitv compares all of them under its lock */
     atomic { if :: released[0] == v0 && released[1] == v1 -> slept0[p] = v0; slept1[p] = v1; asleep[p] = true :: else fi };
     !asleep[p];
again: skip
  od
}
proctype check() {
end: atomic { gone == 2 && ((asleep[0] || asleep[1]) && ((!held[0] && !free_slot[0]) || (!held[1] && !free_slot[1]))) -> assert(false) }
}
init { atomic { released[0] = 1; released[1] = 1; held[0] = true; held[1] = true;
  run subscriber(0); run subscriber(1); run publisher(0); run publisher(1); run check() } }

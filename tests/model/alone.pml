/* A channel of one publisher does without compare-and-swap: a publish is plain stores, and one fence behind them, before
 * it looks who sleeps, and at the epoch.  Stores leave the publisher's FIFO store buffer at any later moment
 * (x86-TSO), and its loads see what is still in there.  The publisher may be killed before any step; what is in its
 * buffer reaches memory all the same, before its death is certain; then the broker repairs, and a successor goes on.
 *
 * A subscriber takes by both ways; its hold store is an exchange.  With NEWCOMER it joins while the publisher is
 * at work, and is reliable: nothing is evicted from its start on before it has been taken.  With SLEEPER there is
 * somebody instead who sleeps while nothing is unread. */
#ifndef R
#define R 2          /* log words */
#endif
#ifndef SLOTS
#define SLOTS 2      /* at most R */
#endif
#ifndef M1
#define M1 2         /* messages of the publisher */
#endif
#ifndef M2
#define M2 1         /* of the successor */
#endif
#ifndef FILL
#define FILL 0       /* messages that are there at the beginning */
#endif
#ifndef B
#define B 2          /* batch */
#endif

#define NONE 255
#define BIT(s) (1 << (s))
#define LAPOF(n) ((n) / R + 1)
#define WORD(n, s) (LAPOF(n) * 16 + (s))
#define EVICTED(n) (LAPOF(n) * 16 + 8)
#define LAP(w) ((w) / 16)
#define IS_EVICTED(w) (((w) / 8) % 2)
#define SLOT(w) ((w) % 8)
#define ABSENT(w, n) (LAP(w) < LAPOF(n))
#define PRESENT(w, n) (LAP(w) == LAPOF(n) && !IS_EVICTED(w))
#define AT(n) (64 + (n))
#define OWNED(n) (128 + (n))
#define FREE(n) (192 + (n))
#define IS_AT(o) ((o) / 64 == 1)
#define IS_OWNED(o) ((o) / 64 == 2)
#define IS_FREE(o) ((o) / 64 == 3)
#define ORDINAL(o) ((o) % 64)
#define PENDING(n) (128 + (n) + 1)

/* Shared memory that the publisher writes, and its buffer in front of it.  Head and tail are hints that may be old:
 * whoever begins begins at 0. */
#define LOG(n) ((n) % R)
#define OWN(s) (R + (s))
#define SEQ(s) (R + SLOTS + (s))
#define WORDS (R + 2 * SLOTS)
#ifndef CAPACITY
#define CAPACITY 8   /* a store waits while it is full */
#endif
byte mem[WORDS];
byte where[CAPACITY], what[CAPACITY], buffered;

#define ROOM (buffered < CAPACITY)
inline put(at, value) { where[buffered] = at; what[buffered] = value; buffered++ }
inline store(at, value) { d_step { ROOM -> put(at, value) } }
inline fence() { (buffered == 0) }
inline load(x, at) {
  i = buffered;
  do :: i > 0 && where[i - 1] != at -> i-- :: else -> break od;
  if :: i > 0 -> x = what[i - 1] :: else -> x = mem[at] fi;
  i = 0
}

active proctype memory() {
  byte i;
end:
  do
  :: d_step {
       buffered > 0 ->
       mem[where[0]] = what[0];
       buffered--;
       do :: i < buffered -> where[i] = where[i + 1]; what[i] = what[i + 1]; i++ :: else -> break od;
       where[buffered] = 0; what[buffered] = 0; i = 0
     }
  od
}

byte hold = NONE;
bool dead = false, left = false, given = false, finished = false;
/* Of what the assertions speak: the slots that the publisher believes to have, and those of them that it writes; what a
 * slot contains; what is held and verified. */
byte has, writes;
byte contents[SLOTS];
byte verified = NONE;
byte published = FILL;
/* The subscriber, and who sleeps. */
byte next, since, cursor = NONE, epoch;
byte bell = 1, armed;
bool asleep = false;

inline gain(x) { assert(!(has & BIT(x))); has = has | BIT(x) }
inline lose(x) { assert(has & BIT(x)); has = has & ~BIT(x); writes = writes & ~BIT(x) }
inline give_back(x) { d_step { ROOM -> load(o, OWN(x)); put(OWN(x), FREE(ORDINAL(o))); lose(x); o = 0 } }

/* Nobody else writes log and owner words while it lives, so it makes no difference when they are loaded. */
inline claim_free() {
  s = 0;
  do
  :: s < SLOTS && c < B ->
     d_step { load(o, OWN(s)) };
     if
     :: IS_FREE(o) -> d_step { ROOM -> put(OWN(s), OWNED(ORDINAL(o))); gain(s); cand = cand | BIT(s); c++ }
     :: else
     fi;
     o = 0; s++
  :: else -> break
  od;
  s = 0
}

/* Whether a reliable subscriber still wants h; asked after the log word was read. */
inline look_at_gate() {
#ifdef NEWCOMER
  o = epoch;
  if :: o != known || h >= gate -> known = o; gate = (o -> cursor : NONE) :: else fi;
  o = 0
#else
  skip
#endif
}

inline find_oldest() {
  d_step { do :: load(e, LOG(h)); if :: ABSENT(e, h) || PRESENT(e, h) -> break :: else -> h++ fi od; s = SLOT(e) }
}

inline evict() {
  do
  :: c < B ->
     find_oldest();
     if :: PRESENT(e, h) -> look_at_gate() :: else fi;
     if :: ABSENT(e, h) || h >= gate -> break :: else fi;
     d_step { load(o, OWN(s)); assert(o == AT(h)); o = 0 };
#ifdef HARMLESS_LOGFIRST
     d_step { ROOM -> put(LOG(h), EVICTED(h)); gain(s); cand = cand | BIT(s); c++ };
     store(OWN(s), OWNED(h));
#else
     d_step { ROOM -> put(OWN(s), OWNED(h)); gain(s); cand = cand | BIT(s); c++ };
     store(LOG(h), EVICTED(h));
#endif
     h++
  :: else -> break
  od;
  e = 0; s = 0
}

inline clear() {
  s = 0;
  do
  :: s < SLOTS -> if :: (cand & BIT(s)) -> store(SEQ(s), 0) :: else fi; s++
  :: else -> break
  od;
  s = 0
}

inline settle() {
#ifndef BUG_CLEARLATE
  clear();
#endif
#ifdef BUG_EPOCHFIRST
  known = epoch; gate = (known -> cursor : NONE);
#endif
#ifndef BUG_NOFENCE
  fence();
#endif
#if defined(NEWCOMER) && !defined(BUG_EPOCHFIRST)
  if :: known != epoch -> known = epoch; gate = cursor :: else fi;
#endif
#ifdef NEWCOMER
  seen = (known -> hold : NONE);
#else
  seen = hold;
#endif
#ifdef BUG_CLEARLATE
  clear();
#endif
  do
  :: s < SLOTS ->
     if
     :: (cand & BIT(s)) && seen == s -> give_back(s); cand = cand & ~BIT(s); c--
     :: (cand & BIT(s)) && seen != s -> d_step { fr = fr | BIT(s); writes = writes | BIT(s); assert(verified != s) }
     :: else
     fi;
     s++
  :: else -> break
  od;
  s = 0; cand = 0; seen = NONE
}

/* One that does not know of all who subscribe, or that wants no slots, gives all back without a scan. */
inline return_all() {
  clear();
  do
  :: s < SLOTS -> if :: (cand & BIT(s)) -> give_back(s); c-- :: else fi; s++
  :: else -> break
  od;
  s = 0; cand = 0
}

inline publish() {
  d_step {
    do :: load(e, LOG(n)); if :: ABSENT(e, n) -> break :: else -> n++ fi od;
    assert(e == 0 || IS_EVICTED(e));         /* SLC_CORRUPT */
    assert(verified != s);
    contents[s] = n; e = 0
  };
#ifndef BUG_ATLATE
  store(OWN(s), AT(n));
#endif
#ifndef HARMLESS_NOPENDING
  store(SEQ(s), PENDING(n));
#endif
#ifdef BUG_SEQFIRST
  store(SEQ(s), n + 1);
#endif
  d_step {
    ROOM -> put(LOG(n), WORD(n, s));
    assert(n == published); published++;
    lose(s)
  };
#ifdef BUG_ATLATE
  store(OWN(s), AT(n));
#endif
#ifndef BUG_SEQFIRST
  store(SEQ(s), n + 1);
#endif
#ifndef BUG_NOLATEFENCE
  fence();
#endif
  s = 0;
#ifdef SLEEPER
  o = armed;
  if
  :: o == bell -> d_step { buffered == 0 -> bell++ }; asleep = false
  :: else
  fi;
  o = 0
#endif
}

proctype publisher(byte p; byte k) {
  byte fr, cand, c, s, o, e, n, h, i, seen = NONE, known, gate = NONE;
  {
    if :: p == 1 -> given :: else fi;
    do
    :: k > 0 && fr != 0 ->
       d_step { do :: (fr & BIT(s)) -> break :: else -> s++ od; fr = fr & ~BIT(s); c--; k-- };
       publish()
    :: k > 0 && c < B ->
       claim_free();
       evict();
#ifdef RETURN
       if :: settle() :: return_all() fi
#else
       settle()
#endif
    :: k == 0 || c == 0 -> break
    od;
    do
    :: s < SLOTS -> if :: (fr & BIT(s)) -> fr = fr & ~BIT(s); give_back(s) :: else fi; s++
    :: else -> break
    od;
    s = 0; c = 0; k = 0; h = 0; n = 0;
#ifndef BUG_UNCERTAIN
    fence();                               /* goodbye: a system call */
#endif
    atomic { if :: p == 0 -> !dead -> left = true :: p == 1 -> finished = true fi; known = 0; gate = NONE }
  } unless {
    atomic { p == 0 && dead && !left ->
      fr = 0; cand = 0; c = 0; s = 0; o = 0; e = 0; n = 0; h = 0; k = 0; i = 0; seen = NONE; known = 0; gate = NONE }
  }
}

proctype killer() { if :: atomic { !left -> dead = true } :: left fi }

proctype broker() {
  byte s, o, n;
  (dead || left);
#ifdef BUG_IDEARLY
  given = true;
#endif
#ifndef BUG_UNCERTAIN
  fence();                                 /* its death is certain: what it has stored is there */
#endif
  do
  :: s < SLOTS ->
     o = mem[OWN(s)]; n = ORDINAL(o);
     if
     :: IS_AT(o) ->
        if
        :: mem[LOG(n)] == WORD(n, s)
        :: else -> d_step { if :: mem[OWN(s)] == o -> mem[OWN(s)] = FREE(n); lose(s) :: else fi }
        fi
     :: IS_OWNED(o) ->
        d_step { if :: mem[LOG(n)] == WORD(n, s) -> mem[LOG(n)] = EVICTED(n) :: else fi };
        d_step { mem[OWN(s)] = FREE(n); lose(s) }
     :: else
     fi;
     o = 0; n = 0; s++
  :: else -> break
  od;
#ifdef SLEEPER
  if :: !left -> bell++; asleep = false :: left fi;   /* only the dead may have left somebody asleep */
#endif
  given = true
}

/* The second look.  The hold is released by a plain store: the loads for the next message may come before it. */
inline look(is_still_there) {
  if
  :: d_step {
       is_still_there ->
       assert(contents[s] == next && !(writes & BIT(s)) && !ABSENT(mem[LOG(next)], next));
       verified = s; s = 0; w = 0
     };
     d_step { next++; cursor = (cursor == NONE -> NONE : next) };
     verified = NONE
  :: else -> s = 0; w = 0
  fi
}

inline find_since() { do :: !ABSENT(mem[LOG(since)], since) -> since++ :: else -> break od }

proctype subscriber() {
  byte s, w;
#ifdef NEWCOMER
#ifdef BUG_START
  find_since();
#endif
  cursor = 0;                              /* the line, then the push, then the bump, then the look at the log */
  epoch = 1;
#ifndef BUG_START
  find_since();
#endif
  if :: next = since; cursor = since :: true fi;   /* from the newest on, or the oldest */
#endif
end:
  do
  :: hold != NONE -> hold = NONE
  :: d_step { mem[SEQ(0)] == next + 1 -> s = 0 }; hold = s; look(mem[SEQ(s)] == next + 1)
#if SLOTS > 1
  :: d_step { mem[SEQ(1)] == next + 1 -> s = 1 }; hold = s; look(mem[SEQ(s)] == next + 1)
#endif
  :: d_step { PRESENT(mem[LOG(next)], next) -> w = mem[LOG(next)]; s = SLOT(w) }; hold = s; look(mem[LOG(next)] == w)
  :: d_step {
       !ABSENT(mem[LOG(next)], next) && !PRESENT(mem[LOG(next)], next) ->
#ifdef NEWCOMER
       assert(next < since);
       cursor = next + 1;
#endif
       next++
     }
  od
}

proctype sleeper() {
  byte b;
end:
  do
  :: !ABSENT(mem[LOG(next)], next) -> next++
  :: ABSENT(mem[LOG(next)], next) ->
     b = bell;
     armed = b;
     if
     :: ABSENT(mem[LOG(next)], next) -> atomic { if :: bell == b -> asleep = true :: else fi };
end2:   !asleep
     :: else
     fi;
     b = 0
  od
}

/* When all is done, each slot is in the log once, or FREE, and nobody sleeps on an unread message. */
proctype check() {
  byte s, n, c;
  d_step {
    given && finished && buffered == 0;
    assert(has == 0 && !(asleep && !ABSENT(mem[LOG(next)], next)));
    do
    :: s < SLOTS ->
       c = IS_FREE(mem[OWN(s)]);
       n = 0;
       do
       :: n < published ->
          if :: mem[LOG(n)] == WORD(n, s) -> assert(mem[OWN(s)] == AT(n)); c++ :: else fi;
          n++
       :: else -> break
       od;
       assert(c == 1);
       s++
    :: else -> break
    od
  }
}

init {
  byte s;
  d_step {
    do
    :: s < SLOTS ->
       if
       :: s < FILL -> mem[LOG(s)] = WORD(s, s); mem[OWN(s)] = AT(s); mem[SEQ(s)] = s + 1; contents[s] = s
       :: else -> mem[OWN(s)] = FREE(0)
       fi;
       s++
    :: else -> break
    od;
    s = 0
  }
  atomic {
    run publisher(0, M1); run publisher(1, M2); run killer(); run broker(); run check();
#ifdef SLEEPER
    run sleeper()
#else
    run subscriber()
#endif
  }
}

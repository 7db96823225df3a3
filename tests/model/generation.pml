/* Generations of payload buffers: how a channel gets larger slots, and the end of an older generation.  Publisher, broker
 * and subscriber take the steps of protocol.md.
 *
 * Generation 1 is the first one, which has all prefixes and never ends; 2 and 3 have larger slots, here of size 2 and 3.  A
 * publisher puts the oldest later generation that it may write to into its line, and then looks whether what it chose is
 * still the newest.  The broker makes the number of a newer one known before it reads the lines; when none says 2 or
 * older it notes the first absent ordinal, and drops generation 2 when the log's head has reached that.
 * Publisher 0 may be killed before any step; process 2 is a newcomer that gets its line after the repair.  Who has a slot is
 * ownership.pml's subject: claiming and evicting are one step here, and so is a request to the broker other than growth. */
#ifndef M0
#define M0 1         /* loans of publisher 0 */
#endif
#ifndef M1
#define M1 1
#endif
#ifndef M2
#define M2 0         /* of the newcomer */
#endif
#ifndef L
#define L 1          /* loans at once */
#endif
#ifndef SLOTS
#define SLOTS 2      /* and log words */
#endif
#ifndef NSUB
#define NSUB 0
#endif
#ifdef RELIABLE      /* nothing is evicted that the subscriber's cursor has not passed */
#define MAY_EVICT(n) (cursor > (n))
#define IS_RELIABLE true
#else
#define MAY_EVICT(n) true
#define IS_RELIABLE false
#endif
#define FIRST 1
#define OLD 2
#define NEW 3
#define NONE 255
#define BIT(x) (1 << (x))
#define LAPOF(n) ((n) / SLOTS + 1)
#define WORD(n, s) (LAPOF(n) * 16 + (s))
#define EVICTED(n) (LAPOF(n) * 16 + 8)
#define LAP(w) ((w) / 16)
#define IS_EVICTED(w) (((w) / 8) % 2)
#define SLOT(w) ((w) % 8)
#define ABSENT(w, n) (LAP(w) < LAPOF(n))
#define PRESENT(w, n) (LAP(w) == LAPOF(n) && !IS_EVICTED(w))
#define FREE 0       /* owner words: FREE, 1 + publisher, LOGGED */
#define LOGGED 9

byte log[SLOTS], own[SLOTS], prefix[SLOTS];   /* prefix: the generation of its payload */
byte head, hold = NONE, cursor;
byte line[2];
byte newest = FIRST;          /* in the control page */
bool exists[4];               /* at the broker */
bool grow2, grow3;            /* requests that are not served yet */
bool dead = false, joined = false;
/* Of what the assertions speak: the generation that each message's payload was written to. */
byte generation_of[8], published;

/* ---- publishers ---- */

/* The oldest generation with a loan. */
inline line_update() {
  atomic {
    if
    :: loans[OLD] != 0 -> line[id] = OLD
    :: loans[OLD] == 0 && loans[NEW] != 0 -> line[id] = NEW
    :: else -> line[id] = 0
    fi
  }
}

inline advance() {
  if
  :: newest > known -> atomic { known = newest; assert(exists[known]) }   /* fetched */
  :: else ->
     if :: want == NEW -> grow3 = true :: else -> grow2 = true fi;
     atomic { newest >= want -> known = newest }
  fi
}

/* Leaves with a generation that is large enough, and that the line covers. */
inline enter() {
  do
  :: known >= want && line[id] != 0 ->
#ifdef BUG_YOUNGESTLINE
     line[id] = known;
#endif
     break
  :: known >= want && line[id] == 0 ->
     line[id] = known;
#ifdef BUG_NORECHECK
     break
#else
     if
     :: newest == known -> break
     :: else -> line[id] = 0; advance()
     fi
#endif
  :: known < want -> advance()
  od
}

/* A FREE slot or the oldest message's, and then the look at the holds. */
inline get_slot() {
  atomic {
    if
    :: own[0] == FREE -> s = 0; own[s] = id + 1
#if SLOTS > 1
    :: own[1] == FREE -> s = 1; own[s] = id + 1
#endif
    :: PRESENT(log[head % SLOTS], head) && MAY_EVICT(head) ->
       s = SLOT(log[head % SLOTS]); own[s] = id + 1; log[head % SLOTS] = EVICTED(head); head++
    :: else -> s = NONE
    fi
  };
#if NSUB
  if
  :: s != NONE && hold == s -> own[s] = FREE; s = NONE
  :: else
  fi
#endif
}

inline loan() {
  atomic { k--; if :: want = OLD :: want = NEW
#ifdef SMALL
  :: want = FIRST
#endif
  fi };
  if :: want > FIRST -> enter() :: else fi;
  get_slot();
  atomic {
    if :: want > FIRST -> want = known :: else fi;
    assert(exists[want]);
    if
    :: s != NONE -> loans[want] = loans[want] | BIT(s); count++; s = 0; want = 0
    :: else -> s = 0; want = 0; goto leave       /* without a slot it has entered in vain */
    fi
  }
}

/* Whatever is done with a loan, it is done where its generation is. */
inline publish(g) {
  atomic { s = 0; do :: (loans[g] & BIT(s)) -> break :: else -> s++ od };
#ifndef BUG_GENLATE
  prefix[s] = g;
#endif
#ifdef BUG_LEAVEEARLY
  line[id] = 0;
#endif
  atomic {
    assert(exists[g]);
    assert(ABSENT(log[published % SLOTS], published));
    log[published % SLOTS] = WORD(published, s); own[s] = LOGGED; generation_of[published] = g; published++;
#ifdef BUG_GENLATE
    t = s;
#endif
    loans[g] = loans[g] & ~BIT(s); count--; s = 0
  };
#ifdef BUG_GENLATE
  prefix[t] = g; t = 0;
#endif
  goto leave
}

inline discard(g) {
  atomic {
    s = 0; do :: (loans[g] & BIT(s)) -> break :: else -> s++ od;
    assert(exists[g]);
    own[s] = FREE; loans[g] = loans[g] & ~BIT(s); count--; s = 0; goto leave
  }
}

proctype publisher(byte process; byte id; byte k) {
  byte known = FIRST, want, count, s, t;
  byte loans[4];
  {
    skip;
end_newcomer:
    if :: process == 2 && joined :: process != 2 -> known = newest fi;
end:
    do
    :: k > 0 && count < L -> loan()
#ifdef SMALL
    :: loans[FIRST] != 0 -> publish(FIRST)
#endif
    :: loans[OLD] != 0 -> publish(OLD)
    :: loans[OLD] != 0 -> discard(OLD)
    :: loans[NEW] != 0 -> publish(NEW)
    od;
leave:
    line_update();
    goto end
  } unless {
    /* What only it knew is forgotten: it would make one state many. */
    atomic { process == 0 && dead ->
      known = 0; want = 0; count = 0; s = 0; t = 0; k = 0; loans[FIRST] = 0; loans[OLD] = 0; loans[NEW] = 0 }
  }
}

/* ---- the broker ---- */

/* The repair of a publisher that died, and its line's end; then another may have it. */
proctype killer() {
  byte s;
  if
#ifdef BUG_UNCERTAIN
  :: line[0] = 0                                 /* a connection that ended is no death */
#endif
  :: dead = true;
     do
     :: s < SLOTS -> atomic { if :: own[s] == 1 -> own[s] = FREE :: else fi; s++ }
     :: else -> break
     od;
#ifdef BUG_GIVEFIRST
     joined = true;
#endif
     line[0] = 0;
     joined = true
  :: skip
  fi
}

/* In one go from the first line to the last; to wait at each allows more, and takes fewer states. */
#define NOT_WRITTEN(p) (line[p] == 0 || line[p] > OLD)
#define READ_LINES \
  end_line0: NOT_WRITTEN(0); \
  end_line1: NOT_WRITTEN(1)

proctype broker() {
  byte t, s;
end_request:
  if
  :: grow2 && newest < OLD -> exists[OLD] = true; newest = OLD; goto end_request
  :: grow3 ->
  fi;
#ifdef BUG_TAILFIRST
  t = published;                                 /* the first absent ordinal */
#endif
#ifdef BUG_LINESFIRST
  READ_LINES;
#endif
  exists[NEW] = true;
  newest = NEW;
#ifndef BUG_LINESFIRST
  READ_LINES;
#endif
#ifndef BUG_TAILFIRST
  t = published;                                 /* the first absent ordinal */
#endif
#ifndef BUG_NOHEAD
end_head:
  head >= t;
#endif
  d_step {
    exists[OLD] = false;
    /* What is retained is never without its generation. */
    do
    :: s < SLOTS ->
       if :: log[s] != 0 && !IS_EVICTED(log[s]) -> assert(generation_of[(LAP(log[s]) - 1) * SLOTS + s] != OLD) :: else fi;
       s++
    :: else -> break
    od
  }
}

/* ---- a subscriber ---- */

#if NSUB
proctype subscriber() {
  byte n, e, g;
  bool mapped[4];
end:
  do
  :: atomic { PRESENT(log[n % SLOTS], n) -> e = log[n % SLOTS] };
     hold = SLOT(e);
#ifdef BUG_PREFIXEARLY
     g = prefix[SLOT(e)];
#endif
     if
     :: log[n % SLOTS] == e ->
#ifdef BUG_UNHELD
        hold = NONE;
#endif
#ifndef BUG_PREFIXEARLY
        g = prefix[SLOT(e)];
#endif
        assert(g == generation_of[n]);
#ifdef BUG_CURSORFIRST
        cursor = n + 1;
#endif
        if
        :: g != FIRST && !mapped[g] ->
           atomic {
             if
             :: exists[g] -> mapped[g] = true
             :: else ->
                /* Passed over, and counted as dropped (SLC_GONE).  Were it still retained it would be SLC_CORRUPT. */
#ifdef REACH_GONE
                assert(false);
#endif
                assert(!IS_RELIABLE); assert(!PRESENT(log[n % SLOTS], n))
             fi
           }
        :: else
        fi;
        atomic { n++; cursor = n }
     :: else
     fi;
     atomic { hold = NONE; e = 0; g = 0 }
  :: atomic { !PRESENT(log[n % SLOTS], n) && !ABSENT(log[n % SLOTS], n) -> assert(!IS_RELIABLE); n++ }
  od
}
#endif

init {
  d_step {
    exists[FIRST] = true;
#ifndef FRESH
    /* Generation 2 is in use, and one of its messages is there. */
    exists[OLD] = true; newest = OLD;
    log[0] = WORD(0, 0); own[0] = LOGGED; prefix[0] = OLD; generation_of[0] = OLD; published = 1
#endif
  }
  atomic {
    run publisher(0, 0, M0); run publisher(1, 1, M1);
#if M2
    run publisher(2, 0, M2);
#endif
#if NSUB
    run subscriber();
#endif
    run killer(); run broker()
  }
}

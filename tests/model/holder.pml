/* A subscriber dies while it takes, holds or releases, and its line goes to a newcomer that may hold more.  The broker
 * clears the line once the death is certain, and announces the newcomer's line to the publishers before it answers.
 * A publisher evicts, scans and rewrites meanwhile.  Is what a living subscriber holds ever rewritten, and does what the
 * dead one held come back?  Evicting is one step here (see ownership.pml); the pushes that get lost are member.pml's. */
#ifndef H0
#define H0 1         /* holds of the first subscriber, which may die */
#endif
#ifndef H1
#define H1 2         /* of the newcomer */
#endif
#ifndef M
#define M 2          /* messages, after the two that are there */
#endif
#define SLOTS 2      /* and log words */
#define BIT(s) (1 << (s))
#define LAPOF(n) ((n) / SLOTS + 1)
#define WORD(n, s) (LAPOF(n) * 16 + (s))
#define EVICTED(n) (LAPOF(n) * 16 + 8)
#define LAP(w) ((w) / 16)
#define IS_EVICTED(w) (((w) / 8) % 2)
#define SLOT(w) ((w) % 8)
#define PRESENT(w, n) (LAP(w) == LAPOF(n) && !IS_EVICTED(w))
#define GONE(w, n) (LAP(w) > LAPOF(n) || LAP(w) == LAPOF(n) && IS_EVICTED(w))

byte log[SLOTS], seq[SLOTS], holds[2];  /* holds: 1 + slot, 0: none */
bool is_free[SLOTS];
byte head, epoch = 1, line_holds = H0;  /* line_holds: as the broker's last push says */
bool dead = false, answered = false;
/* Of what the assertions speak. */
byte contents[SLOTS], reading[2];       /* reading: the slots that a living subscriber believes to hold */

inline look(is_still_there) {
  if
#ifdef BUG_NOLOOK
  :: true ->
#else
  :: is_still_there ->
#endif
     d_step { assert(contents[s] == n); reading[p] = reading[p] | BIT(s); mine = mine | BIT(h) };
     n++
  :: else -> holds[h] = 0
  fi
}
#define FREE_HOLD(h) (((mine >> (h)) % 2) == 0)

proctype subscriber(byte p; byte max) {
  byte n, s, e, h, mine;                /* mine: the holds in use */
  {
    if :: p == 1 && answered :: p == 0 fi;
    do
    /* The log's way, and that of the announcement. */
    :: atomic { mine < BIT(max) - 1 && PRESENT(log[n % SLOTS], n) ->
         e = log[n % SLOTS]; s = SLOT(e); h = 0; if :: FREE_HOLD(0) :: else -> h = 1 fi };
       holds[h] = s + 1;
       look(log[n % SLOTS] == e);
       atomic { s = 0; e = 0; h = 0 }
    :: atomic { mine < BIT(max) - 1 && (seq[0] == n + 1 || seq[1] == n + 1) ->
         s = (seq[0] == n + 1 -> 0 : 1); h = 0; if :: FREE_HOLD(0) :: else -> h = 1 fi };
       holds[h] = s + 1;
       look(seq[s] == n + 1);
       atomic { s = 0; h = 0 }
    :: atomic { GONE(log[n % SLOTS], n) -> n++ }
    :: atomic { mine != 0 -> h = 0; if :: !FREE_HOLD(0) :: !FREE_HOLD(1) -> h = 1 fi;
         reading[p] = reading[p] & ~BIT(holds[h] - 1); mine = mine & ~BIT(h) };
       holds[h] = 0; h = 0
    :: mine == 0 -> break
    od;
    if :: p == 0 -> dead = true :: else fi       /* it has left */
  } unless {
    atomic { p == 0 && dead -> n = 0; s = 0; e = 0; h = 0; mine = 0 }
  }
}

proctype killer() { d_step { dead = true; reading[0] = 0 } }

proctype broker() {
#ifndef BUG_UNCERTAIN
  dead;                                 /* the pidfd says so; the end of a connection does not */
#endif
#ifdef BUG_GIVEFIRST
  line_holds = H1; epoch++; answered = true;
#endif
#ifndef BUG_NOCLEAR
  holds[0] = 0;
  holds[1] = 0;
#endif
#ifndef BUG_GIVEFIRST
  line_holds = H1;                      /* pushed, then announced, then answered */
#ifdef BUG_ANSWERFIRST
  answered = true;
#endif
#ifndef BUG_NOEPOCH
  epoch++;
#endif
  answered = true
#endif
}

proctype publisher() {
  byte k = M, n = SLOTS, s, i, seen = 1, known = H0;
  bool is_held;
end:
  do
  :: k > 0 ->
     if
     :: atomic { is_free[0] -> is_free[0] = false; s = 0 }
     :: atomic { is_free[1] -> is_free[1] = false; s = 1 }
     :: atomic { PRESENT(log[head % SLOTS], head) -> s = SLOT(log[head % SLOTS]); log[head % SLOTS] = EVICTED(head); head++ }
     fi;
     seq[s] = 0;
     if
     :: epoch != seen -> atomic { seen = epoch; known = line_holds }
     :: else
     fi;
     do
     :: i < known -> is_held = is_held || holds[i] == s + 1; i++
     :: else -> break
     od;
     if
     :: is_held -> atomic { is_free[s] = true; is_held = false; i = 0; s = 0 }
     :: else ->
        i = 0;
        /* Rewritten: nobody may read it. */
        d_step { assert(!((reading[0] | reading[1]) & BIT(s))); contents[s] = n };
        log[n % SLOTS] = WORD(n, s);
        seq[s] = n + 1;
        atomic { n++; k--; s = 0 }
     fi
  :: k == 0 -> break
  od
}

/* What the dead one and the newcomer held comes back. */
proctype check() {
end:
  d_step { _nr_pr == 2 && answered -> assert(holds[0] == 0 && holds[1] == 0) }
}

init {
  d_step {
    log[0] = WORD(0, 0); log[1] = WORD(1, 1); seq[0] = 1; seq[1] = 2; contents[0] = 0; contents[1] = 1
  }
  atomic { run check(); run subscriber(0, H0); run subscriber(1, H1); run killer(); run broker(); run publisher() }
}

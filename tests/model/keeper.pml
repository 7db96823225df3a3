/* What outlives the broker: two keepers (shadows) that come, go and come back, a broker that is killed anywhere, and
 * the file that says which sets are old.  Two clients open, close or die; they ask again with their token when the
 * broker was gone.  Is what a client was told known to every later broker that found an up-to-date keeper; is an old
 * set ever taken; has one token ever two users; is an id ever one's whom the records do not name?
 *
 * A set has four records of two bits: whose is id 0, id 1; which id has client 0, client 1.  Every change touches two of
 * them, so a set that is not whole shows itself.  What is staged can be seen nowhere until it is committed: so a Commit is
 * one message, with the whole as it was when it was sent; the bugs that make it visible send one record at a time.
 *
 * A generation numbers what is between two changes of who is up to date; no broker takes a number that one before it
 * took (it is a time).  The file says the oldest that still counts: written when everybody who is up to date has it,
 * before anybody is answered under it. */
#ifndef CRASHES
#define CRASHES 2  /* of the broker */
#endif
#ifndef LOSSES
#define LOSSES 2   /* keepers killed, or their connections lost */
#endif
#ifndef CLIENTS
#define CLIENTS 2
#endif
#ifndef QUEUE
#define QUEUE 1    /* Commits under way to a keeper, and answers from there */
#endif
#if defined(BUG_APPLYEARLY) || defined(BUG_MIDDLE)
#define ONE_BY_ONE
#endif
#define OWNER(i) (i)
#define TOKEN(c) (2 + (c))
#define ALL 15
#define GET(set, k) (((set) >> (2 * (k))) & 3)
#define SET(set, k, v) set = (set & (255 - (3 << (2 * (k))))) | ((v) << (2 * (k)))

chan out[2] = [QUEUE] of { byte, byte, byte }; /* the set, its number, its generation */
chan ack[2] = [QUEUE] of { byte, byte };
byte crashes = CRASHES, losses = LOSSES;

byte oldest; /* the file */
byte clock;  /* the last generation that anybody took */
/* A keeper: what counts there. */
bool complete[2]; byte set[2]; byte set_gen[2];
bool linked[2];
/* The broker. */
mtype = { AWAY, BEHIND, COUNTS };
bool alive; byte mem; byte gen; byte number;
mtype place[2] = AWAY; byte sent[2]; byte sent_gen[2]; byte acked[2]; byte acked_gen[2];
bool handled[2]; byte hold[2];
#ifdef ONE_BY_ONE
byte staged[2]; byte todo[2];
#endif
/* A client. */
mtype = { OPENING, OPEN, CLOSING, CLOSED, DEAD };
mtype client[2] = OPENING; byte id[2];
/* Who asks: is all that anybody was told in what this keeper has?  Nobody in the protocol reads it. */
bool current[2];

#define USES(c, i) (client[c] == OPEN && id[c] == i + 1)
#define HAS(s, n) (place[s] != COUNTS || (acked_gen[s] == gen && acked[s] >= n))
#define SOME (place[0] == COUNTS || place[1] == COUNTS)
#define NOBODY (place[0] == AWAY && place[1] == AWAY)
#ifdef BUG_NOFILE
#define FILE_SAYS true
#else
#define FILE_SAYS (oldest == gen)
#endif
/* What follows it in time may be told when all that count have it; those that are behind are waited for where they are
 * the only ones. */
#define KEPT(n) (HAS(0, n) && HAS(1, n) && (SOME || NOBODY) && FILE_SAYS)

inline flush3(s) { do :: out[s]?_,_,_ :: empty(out[s]) -> break od }
inline flush2(s) { do :: ack[s]?_,_ :: empty(ack[s]) -> break od }

/* ---- the broker ---- */

inline changed(a, b) {
  number++;
#ifdef ONE_BY_ONE
  if :: place[0] != AWAY -> todo[0] = todo[0] | (1 << (a)) | (1 << (b)) :: else fi;
  if :: place[1] != AWAY -> todo[1] = todo[1] | (1 << (a)) | (1 << (b)) :: else fi
#endif
}
inline next_generation() {
#ifdef BUG_GENREUSE
  gen++
#else
  clock++; gen = clock
#endif
}
/* An id without a record of its user is given to whoever comes. */
inline open(c) {
#ifdef BUG_AGAIN
  if
  :: GET(mem, OWNER(0)) && GET(mem, OWNER(1)) -> skip
  :: else ->
#else
  if
  :: GET(mem, TOKEN(c)) -> skip
  :: else ->
#endif
     i = (GET(mem, OWNER(0)) -> 1 : 0);
     SET(mem, OWNER(i), c + 1); SET(mem, TOKEN(c), i + 1);
     changed(OWNER(i), TOKEN(c));
     assert(GET(mem, OWNER(0)) != GET(mem, OWNER(1)))
  fi
}
/* The repair of what its user left in shared memory: nobody else may be at work under that id. */
inline remove(c) {
  i = GET(mem, TOKEN(c)) - 1;
  assert(!USES(1 - c, i));
  SET(mem, OWNER(i), 0); SET(mem, TOKEN(c), 0);
  changed(OWNER(i), TOKEN(c))
}
inline check(whole) {
  i = 0;
  do
  :: i < 2 ->
     assert(GET(whole, OWNER(i)) == 0 || GET(whole, TOKEN(GET(whole, OWNER(i)) - 1)) == i + 1);
     assert(GET(whole, TOKEN(i)) == 0 || GET(whole, OWNER(GET(whole, TOKEN(i)) - 1)) == i + 1);
     assert(client[i] != OPEN || GET(whole, TOKEN(i)) == id[i]);
     assert(client[i] != CLOSED || GET(whole, TOKEN(i)) == 0);
     i++
  :: else -> break
  od; i = 0
}
proctype serving(byte c) {
  byte i;
end:
  do
  :: atomic { alive && client[c] == OPENING && !handled[c] && (GET(mem, TOKEN(c)) || !GET(mem, OWNER(0)) || !GET(mem, OWNER(1))) ->
       open(c); handled[c] = true; hold[c] = number; i = 0 }
  :: atomic { alive && client[c] == CLOSING && !handled[c] ->
       if :: GET(mem, TOKEN(c)) -> remove(c) :: else fi; handled[c] = true; hold[c] = number; i = 0 }
  :: atomic { alive && client[c] == DEAD && GET(mem, TOKEN(c)) -> remove(c); i = 0 }
#ifdef BUG_ANSWERFIRST
  :: atomic { alive && handled[c] && client[c] != DEAD ->
#else
  :: atomic { alive && handled[c] && client[c] != DEAD && KEPT(hold[c]) ->
#endif
       if
       :: client[c] == OPENING -> id[c] = GET(mem, TOKEN(c)); assert(!USES(1 - c, id[c] - 1)); client[c] = OPEN
       :: else -> client[c] = CLOSED; id[c] = 0
       fi;
       handled[c] = false; hold[c] = 0 }
  od
}
inline join(s) { place[s] = COUNTS; next_generation() }
inline away(s) {
  flush2(s); sent[s] = 0; sent_gen[s] = 0; acked[s] = 0; acked_gen[s] = 0;
  if
  :: place[s] == COUNTS -> place[s] = AWAY;
#ifndef BUG_NOBUMP
     next_generation()
#endif
  :: else -> place[s] = AWAY
  fi
}
/* One keeper, from the broker's side. */
proctype keeping(byte s) {
  byte i;
end:
  do
  :: atomic { alive && place[s] == AWAY && !linked[s] -> /* what an older connection brought, and was not committed, goes */
       flush3(s); flush2(s); linked[s] = true; sent_gen[s] = 0; acked_gen[s] = 0; acked[s] = 0;
#ifdef ONE_BY_ONE
       todo[s] = ALL; staged[s] = 0;
#endif
#ifdef BUG_BEGINDROPS
       complete[s] = false; set[s] = 0;
#endif
#ifdef BUG_EARLYUP
       join(s); acked[s] = number; acked_gen[s] = gen
#else
       place[s] = BEHIND
#endif
     }
#ifdef ONE_BY_ONE
  :: atomic { alive && linked[s] && place[s] != AWAY && todo[s] && empty(out[s]) ->
       i = 0; do :: todo[s] & (1 << i) -> break :: else -> i++ od;
       SET(staged[s], i, GET(mem, i)); todo[s] = todo[s] - (1 << i);
#ifdef BUG_APPLYEARLY
       SET(set[s], i, GET(mem, i));
#endif
       i = 0 }
#endif
#if defined(ONE_BY_ONE) && !defined(BUG_MIDDLE)
  :: atomic { !todo[s] && alive && linked[s] && place[s] != AWAY && (sent[s] != number || sent_gen[s] != gen) && nfull(out[s]) ->
#else
  :: atomic { alive && linked[s] && place[s] != AWAY && (sent[s] != number || sent_gen[s] != gen) && nfull(out[s]) ->
#endif
#ifndef BUG_LATEJOIN
       /* It has everything but the commit: from now on nobody is told anything before this keeper has it, too. */
       if :: place[s] == BEHIND -> join(s) :: else fi;
#endif
#ifdef ONE_BY_ONE
       out[s]!staged[s],number,gen;
#else
       out[s]!mem,number,gen;
#endif
       sent[s] = number; sent_gen[s] = gen; }
  :: atomic { alive && place[s] != AWAY && nempty(ack[s]) -> ack[s]?acked[s],acked_gen[s]; current[s] = linked[s];
#ifdef BUG_LATEJOIN
       if :: place[s] == BEHIND -> join(s) :: else fi
#endif
     }
  :: atomic { alive && place[s] != AWAY && !linked[s] -> away(s) }
  :: atomic { alive && linked[s] && place[s] != AWAY && losses -> losses--; linked[s] = false; away(s) } /* it does not answer: given up */
  od
}
inline forget(s) { linked[s] = false; place[s] = AWAY; sent[s] = 0; sent_gen[s] = 0; acked[s] = 0; acked_gen[s] = 0; flush2(s) }
inline look(s) {
  if
  :: flush3(s); reached[s] = true
  :: reached[s] = false
  fi;
#ifdef BUG_STALE
  usable[s] = reached[s] && complete[s]
#else
  usable[s] = reached[s] && complete[s] && set_gen[s] >= oldest
#endif
}
#ifdef HARMLESS_ANY
#define NEWEST(s) usable[s]
#else
#define NEWEST(s) (usable[s] && (!usable[1 - s] || set_gen[s] >= set_gen[1 - s]))
#endif
proctype broker() {
  byte i; bool reached[2]; bool usable[2];
end:
  do
#ifdef BUG_FILEFIRST
  :: atomic { alive && oldest != gen && (SOME || NOBODY) ->
#else
  :: atomic { alive && oldest != gen && HAS(0, 0) && HAS(1, 0) && (SOME || NOBODY) ->
#endif
       oldest = gen;
       if :: place[0] != COUNTS -> current[0] = false :: else fi;
       if :: place[1] != COUNTS -> current[1] = false :: else fi }
  :: atomic { alive && crashes -> crashes--;
       alive = false; mem = 0; gen = 0; number = 0; handled[0] = false; handled[1] = false; hold[0] = 0; hold[1] = 0; forget(0); forget(1) }
  :: atomic { !alive ->
       look(0); look(1);
       if
       :: NEWEST(0) -> mem = set[0]; gen = set_gen[0]; check(mem)
       :: NEWEST(1) -> mem = set[1]; gen = set_gen[1]; check(mem)
       :: !usable[0] && !usable[1] ->
          assert(!(reached[0] && current[0])); assert(!(reached[1] && current[1]));
          if :: client[0] == OPEN -> client[0] = OPENING :: else fi; id[0] = 0; /* they join anew */
          if :: client[1] == OPEN -> client[1] = OPENING :: else fi; id[1] = 0
       fi;
       if :: gen < oldest -> gen = oldest :: else fi;
       next_generation();
       reached[0] = false; reached[1] = false; usable[0] = false; usable[1] = false; i = 0;
       alive = true }
  od
}

/* ---- a keeper ---- */

proctype keeper(byte s) {
  byte a, b, c;
end:
  do
  :: atomic { nempty(out[s]) && nfull(ack[s]) -> out[s]?a,b,c; set[s] = a; set_gen[s] = c; complete[s] = true;
       if :: alive && linked[s] -> ack[s]!b,c :: else fi;
       a = 0; b = 0; c = 0 }
  :: atomic { losses && (complete[s] || linked[s]) -> losses--; linked[s] = false; flush3(s); /* killed, and started again */
       complete[s] = false; set[s] = 0; set_gen[s] = 0; current[s] = false }
  :: atomic { losses && linked[s] -> losses--; linked[s] = false; flush3(s) } /* it ends the connection */
  od
}

proctype user(byte c) {
  if
  :: atomic { client[c] == OPEN -> client[c] = CLOSING; id[c] = 0 }; client[c] == CLOSED /* whoever waits for ever is found as a blocked end */
  :: atomic { client[c] != CLOSED -> client[c] = DEAD; handled[c] = false; hold[c] = 0; id[c] = 0 }
  fi
}

/* In the beginning both keepers are up to date; how a broker begins with less shows itself after its end. */
init {
  atomic {
    alive = true; clock = 1; gen = 1; oldest = 1;
    byte s = 0;
    do
    :: s < 2 -> complete[s] = true; set_gen[s] = 1; linked[s] = true; place[s] = COUNTS; sent_gen[s] = 1; acked_gen[s] = 1; current[s] = true; s++
    :: else -> break
    od; s = 0;
    run broker(); run serving(0); run serving(1); run keeping(0); run keeping(1); run keeper(0); run keeper(1); run user(0);
    if :: CLIENTS == 2 -> run user(1) :: else -> client[1] = CLOSED fi
  }
}

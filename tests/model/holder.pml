/* A subscriber dies holding a slot; its line is cleared by the broker and given to a newcomer; a publisher evicts and scans
 * meanwhile.  The slot must come back, and what the living hold must never be reused.
 * Slot 0 is held by the first subscriber (it may die at any moment), slot 1 may be taken by the newcomer, through the same
 * line.  The publisher wants both. */
byte line = 1;                         /* hold word: 1 + slot; 0: none */
bool dead = false, certain = false, cleared = false, given = false;
bool logged1 = true;                   /* ordinal in slot 1 still in the log */
bool first_holds = true, newcomer_holds = false;
bool reused0 = false, reused1 = false;
active proctype first() {
  if
  :: d_step { dead = true; first_holds = false }
  :: d_step { assert(!reused0); first_holds = false }; line = 0   /* releases, then leaves */
     ; dead = true
  fi
}
active proctype broker() {
#ifdef BUG_UNCERTAIN
  skip;                                /* the socket has closed: no death */
#else
  dead;                                /* the pidfd says so */
#endif
#ifdef BUG_GIVEFIRST
  given = true;
  line = 0;
#else
  line = 0;                            /* slc__line_close */
  cleared = true;
  given = true                         /* only then the line is somebody else's */
#endif
}
active proctype newcomer() {
  given;
  if
  :: logged1 -> line = 2;
     if
     :: d_step { logged1 -> newcomer_holds = true; assert(!reused1) };
        d_step { assert(!reused1); newcomer_holds = false };
        line = 0
     :: else -> line = 0
     fi
  :: else -> skip
  fi
}
active proctype publisher() {
  byte seen;
  logged1 = false;                     /* both are evicted; slot 0 was before */
  do
  :: seen = line;
     if
     :: seen != 1 && !reused0 -> d_step { assert(!first_holds); reused0 = true }
     :: else
     fi;
     if
     :: seen != 2 && !reused1 -> d_step { assert(!newcomer_holds); reused1 = true }
     :: else
     fi;
     if
     :: reused0 && reused1 -> break
     :: else
     fi
  od
}

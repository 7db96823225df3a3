/* Store buffers: is a fence between clearing seq and reading the holds enough?  (protocol.md, refill and take.)
 * Each process has a FIFO of stores that reach memory later, at any moment (x86-TSO).  The reader's hold store is seq_cst,
 * so its buffer is drained before it looks again; the publisher's clear is relaxed, one fence drains it before the scan.
 * A slot may be reused only if the scan saw no hold; then the reader must not believe that it holds it. */
byte seq = 1;            /* memory: 1 announced, 0 cleared */
byte hold = 0;           /* memory */
bool seq_buffered = false, hold_buffered = false, unhold_buffered = false;
bool verified = false, reused = false;
active proctype reader() {
  if
  :: seq == 1 -> hold_buffered = true
  :: seq == 0 -> goto out
  fi;
#ifndef BUG_READERNOFENCE
  !hold_buffered;                      /* xchg: waits until its own store is in memory */
#endif
  if
  :: seq == 1 -> d_step { assert(!reused); verified = true }
  :: seq == 0 -> unhold_buffered = true
  fi;
out: skip
}
active proctype publisher() {
  seq_buffered = true;                 /* store(seq, 0, relaxed) */
#ifndef BUG_NOFENCE
  !seq_buffered;                       /* atomic_thread_fence(seq_cst) */
#endif
  if
  :: hold == 0 -> d_step { assert(!verified); reused = true }
  :: hold == 1 -> skip                 /* goes back to FREE */
  fi
}
active proctype memory() {
end:
  do
  :: seq_buffered -> atomic { seq = 0; seq_buffered = false }
  :: hold_buffered -> atomic { hold = 1; hold_buffered = false }
  :: unhold_buffered && !hold_buffered -> atomic { hold = 0; unhold_buffered = false }
  od
}

/* What `compiled_core.pml` leaves out: a processor may delay a store past the loads that follow it in the same thread.

   One thread calls clear(), looks for work and waits if there is none. Another thread makes work and calls set(). Both calls
   read or change the flag under the mutex, so one of the two threads sees what the other has done. A BUG_ define plants a bug
   that the search has to find. */

bool flag = true;
bool work;
bool mutex;
bool queued;       /* the waiter is in the queue */
bool woken;
bool clearing;     /* the store of the flag by clear() is on its way */
bool unlocking;    /* the store that unlocks the mutex is on its way, behind it */
bool working;      /* the store of the work is on its way */

/* A store arrives at some time, and the stores of one thread arrive in order. To lock the mutex is an atomic operation, which
   waits for the stores of its thread. */
active proctype Memory() {
end:
    do
    :: atomic { clearing -> flag = false; clearing = false }
    :: atomic { unlocking && !clearing -> mutex = false; unlocking = false }
    :: atomic { working -> work = true; working = false }
    od
}

active proctype ClearAndWait() {
#ifdef BUG_CLEAR_WITHOUT_MUTEX
    clearing = true;
#else
    atomic { !mutex -> mutex = true };
    clearing = true;
    unlocking = true;
#endif
    if
    :: work -> goto done
    :: !work
    fi;
    atomic { !clearing && !unlocking && !mutex -> mutex = true };
    if
    :: flag
    :: !flag -> queued = true
    fi;
    mutex = false;
    !queued || woken;    /* a lost wake-up is an invalid end state */
done:
    skip
}

active proctype WorkAndSet() {
    working = true;
#ifdef BUG_LOOK_BEFORE_MUTEX
    if
    :: flag -> goto done
    :: !flag
    fi;
#endif
    atomic { !working && !mutex -> mutex = true };
    if
    :: flag
    :: !flag ->
        flag = true;
        if
        :: queued -> woken = true
        :: !queued
        fi
    fi;
    mutex = false;
done:
    skip
}

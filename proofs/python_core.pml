/* The waiters of `_core_py.py`: set(), clear(), restart_timeout() and wait(), over all interleavings.

   A state never changes, except that it receives its successor, once. So the search for the newest state is one step: the read
   that finds no successor. To offer a successor is one step, too, and so is each operation on a dict or a lock. What stands
   with it in an atomic block is a check or a ghost. A ghost is a variable that only the checks read. A BUG_ define plants a bug
   that the search has to find. See proofs/README.md. */

#ifndef SETTERS
#define SETTERS 1
#endif
#ifndef CLEARERS
#define CLEARERS 1
#endif
#ifndef RESTARTERS
#define RESTARTERS 0    /* threads that call restart_timeout() */
#endif
#ifndef UNTIMED
#define UNTIMED 1       /* waiters that only a set() ends */
#endif
#ifndef TIMED
#define TIMED 1         /* waiters that a timeout may end at any step */
#endif
#ifndef OWN
#define OWN 0           /* waiters that wait until the event's own deadline */
#endif
#ifndef EXCEPTIONS
#define EXCEPTIONS 0    /* 1: one exception, from a signal handler, comes in any thread and between any two steps */
#endif
#ifndef WINDOW
#define WINDOW 1        /* how many waiters a set() wakes: with the GIL 64, without it all */
#endif

#define WAITERS (UNTIMED + TIMED + OWN)
#define is_timed(w) (UNTIMED <= (w) && (w) < UNTIMED + TIMED)
#define is_own(w) ((w) >= UNTIMED + TIMED)

mtype = { NEAR, FAR };

typedef Waiters { bool has[WAITERS] }    /* a dict */

/* The newest state. */
byte state;
bool is_set;
byte period;                       /* whose waiters it holds: those of the last unset period while the event is set */
mtype deadline = FAR;

bool passed;                       /* the near deadline has passed */
Waiters waiters[CLEARERS + 1];     /* of each period */
bool locked[WAITERS] = true;       /* each waiter's lock */
bool raised = (EXCEPTIONS == 0);   /* the exception has come */

byte joined[WAITERS];              /* ghost: the period of the waiter */
bool waits[WAITERS];               /* ghost: it has joined the others of its period, and not left */
bool woken[WAITERS];               /* ghost: another thread took it out of the dict */
bool overlaps[WAITERS];            /* ghost: the event was set at some moment of its wait() */
mtype deadline_of[WAITERS] = FAR;  /* ghost: the event's deadline as its thread last read it */
byte places;                       /* ghost: how many waiters were woken, and have not handed on their place in the window */
byte most_places;                  /* ghost: how many the calls of set() so far, and an exception, allow */

#define is_over(p) (is_set || period != (p))

/* The label stands where the `except` or `finally` begins. */
#define may_raise if :: !raised -> raised = true; goto interrupted :: true fi

inline look() { atomic { seen = state; ours = period; was_set = is_set } }

inline append(set, p) { state++; is_set = set; period = p }

inline set_state(p) {
    append(true, p);
    i = 0;
    do
    :: i < WAITERS -> overlaps[i] = true; i++
    :: else -> break
    od;
    i = 0
}

inline forget_copy() {
    d_step {
        i = 0;
        do
        :: i < WAITERS -> copy[i] = false; i++
        :: else -> break
        od;
        i = 0
    }
}

inline copy_waiters(p) {
    d_step {
        i = 0;
        do
        :: i < WAITERS -> copy[i] = waiters[p].has[i]; i++
        :: else -> break
        od;
        i = 0
    }
}

#define next_waiter if :: copy[0] -> w = 0 :: copy[1] -> w = 1 :: copy[2] -> w = 2 :: else -> break fi; copy[w] = false

/* To release a lock that is free raises an error, which is ignored. The lock of a waiter that has left does not matter. */
inline release_lock(w) { locked[w] = !waits[w] }

/* The thread that takes a waiter out of the dict has woken it. If another thread has done so, it tries the next one. */
inline take_out(p) {
    if
    :: waiters[p].has[w] ->
        waiters[p].has[w] = false;
        count--;
        woken[w] = true;
        places++;
        assert(places <= most_places)
#ifdef BUG_WOKEN_BY_TWO
    :: else -> count--
#else
    :: else
#endif
    fi
}

inline wake(p, at_most) {
    atomic { may_raise; count = at_most; copy_waiters(p) };
    do
    :: count == 0 -> break
    :: count > 0 ->
#ifdef BUG_TAKE_OUT_BEFORE_WAKING
        atomic { may_raise; next_waiter; take_out(p) };
        atomic { may_raise; release_lock(w) }
#else
        atomic { may_raise; next_waiter; release_lock(w) };
        atomic { may_raise; take_out(p) }
#endif
    od;
    forget_copy()
}

proctype Set() {
    byte seen, ours, w, count, i;
    bool copy[3];
    bool was_set, taken;

again:
    atomic { may_raise; look() };
#ifdef BUG_WAKE_BEFORE_SET
    most_places = most_places + WINDOW;
    wake(ours, WINDOW);
#endif
    if
    :: was_set
    :: else ->
        atomic { may_raise;
            if
#ifdef BUG_SET_OVERWRITES
            :: true -> set_state(ours); taken = true
#else
            :: state == seen -> set_state(ours); taken = true
#ifdef BUG_NO_SECOND_TRY
            :: else
#else
            :: else -> goto again
#endif
#endif
            fi
        }
    fi;
finish:
    most_places = most_places + WINDOW;
#ifndef BUG_WAKE_BEFORE_SET
    wake(ours, WINDOW);    /* also if the event was set already */
#endif
    assert(taken || was_set);    /* the event was set at some moment of this set() */
    goto done;
interrupted:
#ifndef BUG_NO_RETRY
    if
    :: taken -> goto finish
    :: else
    fi;
#endif
done:
    skip
}

#ifdef BUG_SAME_WAITERS
#define next_period ours
#else
#ifdef BUG_NEW_WAITERS
#define next_period (ours + 1)
#else
#define next_period (ours + was_set)
#endif
#endif

/* Of an event with a timeout, so that it has an effect also if the event is not set. The deadline moves away. */
proctype Clear() {
    byte seen, ours;
    bool was_set;

again:
    look();
    atomic {
        if
#ifdef BUG_CLEAR_OVERWRITES
        :: true -> append(false, next_period); deadline = FAR
#else
        :: state == seen -> append(false, next_period); deadline = FAR
        :: else -> goto again
#endif
        fi
    }
}

/* restart_timeout() with an earlier deadline. It wakes waiters without taking them out of the dict. */
proctype Restart() {
    byte seen, ours, w, i;
    bool copy[3];
    bool was_set, taken;

again:
    atomic { may_raise; look() };
    if
    :: was_set || passed -> goto done
    :: else
    fi;
    atomic { may_raise;
        if
        :: state == seen -> append(false, ours); deadline = NEAR; taken = true
        :: else -> goto again
        fi
    };
finish:
#ifndef BUG_RESTART_WAKES_NOBODY
    atomic { may_raise; copy_waiters(ours); w = 0 };
    do
    :: atomic { w < WAITERS && copy[w] -> may_raise; release_lock(w); copy[w] = false; w++ }
#ifdef BUG_RESTART_TAKES_OUT
        ;
        waiters[ours].has[w - 1] = false
#endif
    :: atomic { w < WAITERS && !copy[w] -> w++ }
    :: w == WAITERS -> break
    od;
#endif
    goto done;
interrupted:
#ifndef BUG_NO_RETRY_OF_RESTART
    if
    :: taken -> goto finish
    :: else
    fi;
#endif
done:
    skip
}

/* The near deadline passes at some time. */
proctype Clock() { passed = true }

/* A False says that there was no set() so far. */
inline look_again() { atomic { may_raise; result = is_over(mine); assert(result || !overlaps[self]) } }

/* One step, because the time between the two reads makes no difference that a user can see. */
inline read_deadline_and_clock() {
    atomic { may_raise; deadline_of[self] = deadline; expired = (deadline == NEAR && passed) }
}

proctype Wait(byte self) {
    byte mine, w, count, i;
    bool copy[3];
    bool result, expired, failed, gone;

    atomic {
        mine = period;
        overlaps[self] = is_set;
        if
        :: is_set -> goto done    /* True */
        :: else
        fi
    };
#ifdef BUG_DEADLINE_BEFORE_JOINING
    read_deadline_and_clock();
#endif
    atomic { waiters[mine].has[self] = true; joined[self] = mine; waits[self] = true };
#ifdef BUG_NO_LOOK_AFTER_JOINING
    goto block;
#endif
again:
#ifdef BUG_LOOK_AT_FLAG
    result = is_set;
#else
    look_again();
#endif
    if
    :: result -> goto leave
    :: else
    fi;
#ifndef BUG_DEADLINE_BEFORE_JOINING
    if
    :: is_own(self) -> read_deadline_and_clock()
    :: else
    fi;
#endif
    if
    :: expired -> goto time_ran_out
    :: else
    fi;
#ifdef BUG_NO_LOOK_AFTER_JOINING
block:
#endif
end:
    if
    :: atomic { !locked[self] -> locked[self] = true };
#ifdef BUG_SPURIOUS_IS_SET
        result = true;
        goto leave
#else
        goto again
#endif
    :: is_timed(self)
    :: atomic { deadline_of[self] == NEAR && passed -> goto again }
    fi;
time_ran_out:
    look_again();
    goto leave;

interrupted:
    failed = true;
    most_places++;    /* if it comes while the waiter leaves, the waiter may hand on a place twice, which does little harm */
leave:
    atomic { may_raise;
        gone = !waiters[mine].has[self] && is_over(mine);
        waiters[mine].has[self] = false;
        waits[self] = false;
        places = places - woken[self];
        d_step { woken[self] = false; joined[self] = 0; deadline_of[self] = FAR; locked[self] = true }
    };
    if
#ifdef BUG_PLACE_KEPT
    :: true
#endif
#ifdef BUG_PLACE_KEPT_ON_EXCEPTION
    :: failed
#endif
#ifdef BUG_PLACE_FROM_NOWHERE
    :: is_over(mine) -> wake(mine, 1)
#endif
#ifdef BUG_PLACE_TWICE
    :: gone -> wake(mine, 2)
#endif
#ifdef BUG_WAKE_PAST_CLEAR
    :: gone -> wake(period, 1)
#endif
    :: gone -> wake(mine, 1)
    :: !gone
    fi;
    assert(result || is_timed(self) || expired || failed);
    assert(!result || overlaps[self]);    /* no True without a set() */
done:
    skip
}

/* What holds when no thread can go on. */
proctype End() {
    byte i;

    timeout;
    d_step {
        i = 0;
        do
        :: i < WAITERS ->
            assert(!waits[i] || !is_over(joined[i]));    /* no wake-up is lost */
            assert(!waits[i] || !is_own(i) || deadline_of[i] == deadline);
            i++
        :: else -> break
        od
    }
}

#define run_all(process, how_many) n = 0; do :: n < how_many -> run process; n++ :: else -> break od

init {
    byte n;
    atomic {
        run_all(Set(), SETTERS);
        run_all(Clear(), CLEARERS);
        run_all(Restart(), RESTARTERS);
        run_all(Clock(), RESTARTERS);
        run_all(Wait(n), WAITERS);
        run End()
    }
}

/* The waiters of `_core_c.pyx`: set(), clear(), restart_timeout() and wait(), over all interleavings.

   Each access to shared memory is one step. What stands with it in an atomic block is a check or a ghost. A ghost is a variable
   that only the checks read. With the GIL, the GIL is the mutex. "Invariant n" is the one at the top of `_core_c.pyx`. A BUG_
   define plants a bug that the search has to find. See proofs/README.md. */

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
#define TIMED 1         /* waiters that a timeout, or an exception from a signal handler, may end at any step */
#endif
#ifndef OWN
#define OWN 0           /* waiters that wait until the event's own deadline */
#endif

#define WAITERS (UNTIMED + TIMED + OWN)
#ifndef WINDOW          /* how many waiters a set() wakes */
#define WINDOW 1
#endif
#define NONE WAITERS
#define is_timed(w) (UNTIMED <= (w) && (w) < UNTIMED + TIMED)
#define is_own(w) ((w) >= UNTIMED + TIMED)

mtype = { NEAR, FAR };

typedef Waiter {
    byte previous;
    byte next;
    byte sets;               /* the event's count when the waiter entered the queue */
    bool queued;
    bool locked = true;      /* its lock */
    bool released;           /* its lock was released, and its thread has not said yet that it has it again */

    mtype deadline = FAR;    /* ghost: the event's deadline as its thread last read it */
    bool waits;              /* ghost: it has entered the queue, and has not taken the mutex to leave */
    bool freed;              /* ghost */
    bool woken;              /* ghost: another thread took it out of the queue */
    bool pending;            /* ghost: the event was set while it was in the queue */
    bool overlaps;           /* ghost: the event was set at some moment of its wait() */
}

bool flag;
byte sets;               /* how often the event was set */
mtype deadline = FAR;    /* the event's own */
bool passed;             /* the near deadline has passed */
bool mutex;
byte first = NONE;       /* in the wait queue, which is a circular list */
Waiter waiter[WAITERS];

byte places;             /* ghost: how many waiters were woken, and have not handed on their place in the window */
byte most_places;        /* ghost: how many the last set() allows */

/* What holds whenever the mutex is free. */
inline check_queue() {
    d_step {
        assert(first == NONE || waiter[first].queued);
        i = 0;
        do
        :: i < WAITERS ->
            assert(!waiter[i].waits || waiter[i].queued != waiter[i].woken);    /* invariant 2 */
            assert(!waiter[i].queued || waiter[i].waits && !waiter[i].freed);   /* invariant 4 */
            assert(!waiter[i].queued || first != NONE);
            assert(!waiter[i].queued || waiter[waiter[i].next].queued && waiter[waiter[i].next].previous == i);
            assert(!waiter[i].queued || waiter[i].pending == (waiter[i].sets != sets));    /* invariant 3 */
            assert(!waiter[i].queued || waiter[i].pending || !flag);                       /* invariant 3 */
            i++
        :: else -> break
        od;
        i = 0
    }
}

inline touch(w) { assert(!waiter[w].freed) }

inline lock_mutex() { atomic { !mutex -> mutex = true } }

inline unlock_mutex() { atomic { check_queue(); mutex = false } }

inline set_flag() {
    d_step {
        flag = true;
        sets++;
        i = 0;
        do
        :: i < WAITERS ->
            waiter[i].pending = waiter[i].pending || waiter[i].queued;
            waiter[i].overlaps = true;
            i++
        :: else -> break
        od;
        i = 0
    }
}

inline enqueue(w) {
    next = first;
    if
    :: next == NONE ->
        waiter[w].next = w;
        waiter[w].previous = w;
        first = w
    :: else ->
        atomic { touch(next); previous = waiter[next].previous };
        waiter[w].previous = previous;
        waiter[w].next = next;
        atomic { touch(previous); waiter[previous].next = w };
        atomic { touch(next); waiter[next].previous = w }
    fi;
    atomic { waiter[w].sets = sets; waiter[w].queued = true; waiter[w].waits = true }
}

inline dequeue(w) {
    atomic { touch(w); next = waiter[w].next };
    if
    :: next == w -> first = NONE
    :: else ->
        atomic { touch(w); previous = waiter[w].previous };
        atomic { touch(previous); waiter[previous].next = next };
        atomic { touch(next); waiter[next].previous = previous };
        if
        :: atomic { first == w -> first = next }
        :: atomic { first != w -> skip }
        fi
    fi;
    atomic { touch(w); waiter[w].queued = false }
}

/* Some platforms end a process that releases a lock that no thread holds. */
inline release(w) {
    if
    :: atomic { waiter[w].released -> touch(w) }
    :: atomic { !waiter[w].released ->
            touch(w);
            assert(waiter[w].locked);
            waiter[w].locked = false;
#ifndef BUG_RELEASED_UNMARKED
            waiter[w].released = true
#endif
        }
    fi
}

inline wake(w) {
    dequeue(w);
    d_step { waiter[w].woken = true; places++; assert(places <= most_places) };
#ifdef BUG_RELEASE_OUTSIDE_MUTEX
    mutex = false;
    release(w);
    lock_mutex()
#else
    release(w)
#endif
}

/* The pending waiters stand first in the queue. */
#ifdef BUG_WAKE_PAST_CLEAR
#define must_wake (first != NONE)
#else
#ifdef BUG_RELEASED_STAYS_QUEUED
#define must_wake (first != NONE && waiter[first].sets != sets && !waiter[first].released)
#else
#define must_wake (first != NONE && waiter[first].sets != sets)
#endif
#endif

inline wake_pending(at_most) {
    count = at_most;
    do
    :: atomic { count == 0 || !must_wake -> break }
    :: atomic { count > 0 && must_wake -> count--; w = first };
        wake(w)
    od
}

proctype Set() {
    byte w, count, next, previous, i;

#ifdef BUG_FLAG_OUTSIDE_MUTEX
    set_flag();
    lock_mutex();
#else
    lock_mutex();
#ifndef BUG_FLAG_AFTER_WAKING
    if
    :: flag
    :: else -> set_flag()
    fi;
#endif
#endif
    most_places = places + WINDOW;
    wake_pending(WINDOW);   /* also if the event was set already */
#ifdef BUG_FLAG_AFTER_WAKING
    set_flag();
#endif
    unlock_mutex()
}

/* The timeout restarts, so the deadline moves away. */
proctype Clear() {
    byte i;

    lock_mutex();
    flag = false;
    deadline = FAR;
    unlock_mutex()
}

/* restart_timeout() with an earlier deadline. It wakes all waiters, and leaves them in the queue. */
proctype Restart() {
    byte w, i;

    lock_mutex();
    if
    :: flag || passed
    :: else ->
        deadline = NEAR;
#ifndef BUG_DEADLINE_WAKES_NOBODY
        w = first;
        do
        :: w == NONE -> break
        :: else ->
            release(w);
            atomic { touch(w); w = (waiter[w].next == first -> NONE : waiter[w].next) }
        od
#endif
    fi;
    unlock_mutex()
}

/* The near deadline passes at some time. */
proctype Clock() { passed = true }

/* One step, because the time between the two reads makes no difference that a user can see. */
inline read_deadline_and_clock() {
    atomic { waiter[self].deadline = deadline; expired = (deadline == NEAR && passed) }
}

proctype Wait(byte self) {
    byte w, count, next, previous, i;
    bool is_woken, expired, result;

    if
    :: atomic { flag -> goto done }    /* True, before there is a waiter */
    :: atomic { !flag -> waiter[self].overlaps = false }
    fi;
#ifdef BUG_DEADLINE_BEFORE_QUEUE
    read_deadline_and_clock();
#endif
    lock_mutex();
#ifndef BUG_NO_LOOK_UNDER_MUTEX
    result = flag;
#endif
    if
    :: result -> unlock_mutex(); goto free
    :: else -> enqueue(self); unlock_mutex()
    fi;
again:
    lock_mutex();
    is_woken = !waiter[self].queued || waiter[self].sets != sets;
    unlock_mutex();
    if
    :: is_woken -> goto leave
    :: else
    fi;
#ifndef BUG_DEADLINE_BEFORE_QUEUE
    if
    :: is_own(self) -> read_deadline_and_clock()
    :: else
    fi;
#endif
    if
    :: expired -> goto leave
    :: else
    fi;
end:
    if
    :: atomic { !waiter[self].locked -> waiter[self].locked = true };
#ifdef BUG_SPURIOUS_IS_SET
        result = true;
        goto leave;
#endif
#ifndef BUG_RELEASED_STAYS
        lock_mutex();
        waiter[self].released = false;
        unlock_mutex();
#endif
        goto again
    :: is_timed(self)
#ifdef BUG_NO_SECOND_READ_OF_DEADLINE
    :: atomic { waiter[self].deadline == NEAR && passed -> skip }
#else
    :: atomic { waiter[self].deadline == NEAR && passed -> goto again }
#endif
    fi;
leave:
#ifndef BUG_UNQUEUE_WITHOUT_MUTEX
    lock_mutex();
#endif
#ifdef BUG_PENDING_BUT_FALSE
    result = result || !waiter[self].queued;
#else
    result = result || !waiter[self].queued || waiter[self].sets != sets;
#endif
    if
    :: atomic { waiter[self].queued -> waiter[self].waits = false };
#ifndef BUG_FREE_WHILE_QUEUED
        dequeue(self);
#endif
#ifdef BUG_PLACE_FROM_NOWHERE
        wake_pending(1)
#else
        skip
#endif
    :: atomic { !waiter[self].queued -> waiter[self].waits = false; places-- };
        if
#ifdef BUG_PLACE_KEPT
        :: true
#endif
#ifdef BUG_PLACE_KEPT_ON_EXCEPTION
        :: !is_woken
#endif
#ifdef BUG_PLACE_TWICE
        :: wake_pending(2)
#else
        :: wake_pending(1)
#endif
        fi
    fi;
#ifndef BUG_UNQUEUE_WITHOUT_MUTEX
    unlock_mutex();
#endif
free:
#ifdef BUG_LOOK_AFTER_WAKING
    result = flag;
#endif
    atomic {
        touch(self);
        waiter[self].freed = true;
        assert(!waiter[self].queued);
        assert(result || is_timed(self) || expired);
        assert(!result || waiter[self].overlaps);    /* no True without a set() */
        assert(result || !waiter[self].pending)      /* no set() is missed because time ran out, or because of a clear() */
    };
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
            assert(!waiter[i].waits || !waiter[i].pending && !flag);    /* no wake-up is lost */
            assert(!waiter[i].waits || !is_own(i) || waiter[i].deadline == deadline);
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

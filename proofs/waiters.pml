/* The waiters of `_core_c.pyx`: set(), clear() and wait() without the GIL, over all interleavings.

   Each access to what threads share is one step. What stands with it in an atomic block is a check, or a ghost: a variable
   that only the checks read. "Invariant n" is the one at the top of `_core_c.pyx`. A BUG_ define plants a bug that has to be
   found; see docs/proofs.md. */

#ifndef SETTERS
#define SETTERS 2
#endif
#ifndef CLEARERS
#define CLEARERS 1
#endif
#ifndef PATIENT
#define PATIENT 1    /* waiters without a timeout */
#endif
#ifndef TIMED
#define TIMED 1      /* waiters with one, which may run out at any step */
#endif

#define WAITERS (PATIENT + TIMED)
#define NOBODY WAITERS

typedef Record {
    byte previous;
    byte next;
    byte born;             /* the count of sets when it was linked */
    bool linked;
    bool locked = true;    /* the record's own lock */

    bool freed;            /* ghost */
    bool joined;           /* ghost: linked by its thread, which did not unlink it again */
    bool sent;             /* ghost: the wake-up was */
    bool due;              /* ghost: the flag went up while the record was linked */
    bool overlaps;         /* ghost: the flag was up at some moment of this wait() */
}

bool flag;
byte sets;            /* how often the flag went up */
bool mutex;
byte first = NOBODY;
Record record[WAITERS];
byte running = SETTERS + CLEARERS;    /* ghost: until the last set() */

/* What holds whenever the mutex is free. */
inline check_ring() {
    d_step {
        assert(first == NOBODY || record[first].linked);
        i = 0;
        do
        :: i < WAITERS ->
            assert(!record[i].joined || record[i].linked != record[i].sent);    /* invariant 2 */
            assert(!record[i].linked || record[i].joined && !record[i].freed);  /* invariant 4 */
            assert(!record[i].linked || first != NOBODY);
            assert(!record[i].linked || record[record[i].next].linked && record[record[i].next].previous == i);
            assert(!record[i].linked || record[i].due == (record[i].born != sets));    /* invariant 3 */
            assert(!record[i].linked || record[i].due || !flag);                       /* invariant 3 */
            i++
        :: else -> break
        od;
        i = 0
    }
}

inline touch(w) { assert(!record[w].freed) }

inline lock_mutex() { atomic { !mutex -> mutex = true } }

inline unlock_mutex() { atomic { check_ring(); mutex = false } }

inline raise_flag() {
    d_step {
        flag = true;
        sets++;
        i = 0;
        do
        :: i < WAITERS ->
            record[i].due = record[i].due || record[i].linked;
            record[i].overlaps = true;
            i++
        :: else -> break
        od;
        i = 0
    }
}

inline link(w) {
    head = first;
    if
    :: head == NOBODY ->
        record[w].next = w;
        record[w].previous = w;
        first = w
    :: else ->
        atomic { touch(head); previous = record[head].previous };
        record[w].previous = previous;
        record[w].next = head;
        atomic { touch(previous); record[previous].next = w };
        atomic { touch(head); record[head].previous = w }
    fi;
    atomic { record[w].born = sets; record[w].linked = true; record[w].joined = true }
}

inline unlink(w) {
    atomic { touch(w); next = record[w].next };
    if
    :: next == w -> first = NOBODY
    :: else ->
        atomic { touch(w); previous = record[w].previous };
        atomic { touch(previous); record[previous].next = next };
        atomic { touch(next); record[next].previous = previous };
        if
        :: atomic { first == w -> first = next }
        :: atomic { first != w -> skip }
        fi
    fi;
    atomic { touch(w); record[w].linked = false }
}

/* Sent once, to a lock that is held. */
inline release_lock(w) {
    atomic {
        touch(w);
        assert(record[w].locked && !record[w].sent);
        record[w].locked = false;
        record[w].sent = true
    }
}

proctype Setter(bool last) {
    byte waiter, next, previous, i;

    /* A last set() always comes: who waits for ever has lost a wake-up. */
    !last || running == 0;
#ifdef BUG_FLAG_OUTSIDE_MUTEX
    raise_flag();
    lock_mutex();
#else
    lock_mutex();
    if
    :: flag -> goto leave
    :: !flag
    fi;
#ifndef BUG_FLAG_AFTER_WAKING
    raise_flag();
#endif
#endif
    do
    :: atomic { first == NOBODY -> break }
#ifndef BUG_WAKE_WHO_COMES_LATER
    :: atomic { first != NOBODY && record[first].born == sets -> break }
    :: atomic { first != NOBODY && record[first].born != sets -> waiter = first };
#else
    :: atomic { first != NOBODY -> waiter = first };
#endif
#ifdef BUG_RELEASE_BEFORE_UNLINK
        release_lock(waiter);
        unlink(waiter)
#else
        unlink(waiter);
#ifdef BUG_RELEASE_OUTSIDE_MUTEX
        mutex = false;
        release_lock(waiter);
        lock_mutex()
#else
        release_lock(waiter)
#endif
#endif
        ;
        unlock_mutex();    /* as after each part of a large herd */
        lock_mutex()
    od;
#ifdef BUG_FLAG_AFTER_WAKING
    raise_flag();
#endif
leave:
    unlock_mutex();
    running = (last -> running : running - 1)
}

proctype Clearer() {
    byte i;

    lock_mutex();
    flag = false;
    unlock_mutex();
    running--
}

proctype Waiter(byte self; bool timed) {
    byte head, next, previous, i;
    bool woken;

    if
    :: atomic { flag -> goto done }    /* True, before there is a record */
    :: atomic { !flag -> record[self].overlaps = false }
    fi;
    lock_mutex();
#ifndef BUG_NO_LOOK_UNDER_MUTEX
    woken = flag;
#endif
    if
    :: !woken -> link(self)
    :: else
    fi;
    unlock_mutex();
    if
    :: !woken ->
        if
        :: atomic { !record[self].locked -> record[self].locked = true; woken = true }
        :: timed
        fi
    :: else
    fi;
    if
    :: !woken ->
#ifndef BUG_UNLINK_WITHOUT_MUTEX
        lock_mutex();
#endif
#ifndef BUG_FREE_WHILE_LINKED
#ifndef BUG_WOKEN_BUT_FALSE
        woken = !record[self].linked || record[self].born != sets;
#endif
        if
        :: atomic { record[self].linked -> record[self].joined = false }
            unlink(self)
        :: !record[self].linked
        fi;
#endif
#ifndef BUG_UNLINK_WITHOUT_MUTEX
        unlock_mutex()
#else
        skip
#endif
    :: else
    fi;
#ifdef BUG_LOOK_AFTER_WAKING
    woken = flag;
#endif
    atomic {
        assert(!record[self].freed);
        record[self].freed = true;
        record[self].joined = false;
        assert(!record[self].linked);
        assert(woken || timed);
        assert(!woken || record[self].overlaps);    /* no True out of nothing */
        assert(woken || !record[self].due)          /* no wake-up lost by who timed out, or taken back by clear() */
    };
done:
    skip
}

init {
    byte n;
    atomic {
        for (n : 1 .. SETTERS) { run Setter(false) }
        for (n : 1 .. CLEARERS) { run Clearer() }
        for (n : 0 .. WAITERS - 1) { run Waiter(n, n >= PATIENT) }
        run Setter(true)
    }
}

/* The waiters of `_core_py.py`: set(), clear() and wait() over all interleavings.

   A state is constant but for its successor, so to find the newest is one step: the look that finds none next to it. To offer a
   successor is one, too, and so is each operation on a crowd or a lock. What stands with it in an atomic block is a check, or a
   ghost: a variable that only the checks read. A BUG_ define plants a bug that has to be found; see docs/proofs.md. */

#ifndef SETTERS
#define SETTERS 2
#endif
#ifndef CLEARERS
#define CLEARERS 2
#endif
#ifndef PATIENT
#define PATIENT 1    /* waiters without a timeout */
#endif
#ifndef TIMED
#define TIMED 1      /* waiters with one, which may run out at any step */
#endif

#define WAITERS (PATIENT + TIMED)
#define NONE 0
#define CROWDS (SETTERS + CLEARERS + 2)    /* NONE, the one to start with, and those that each clear() may make */

typedef Crowd { bool has[WAITERS] }

Crowd crowd[CROWDS];
byte state;               /* the number of the newest state */
byte waiting = 1;         /* its crowd, or NONE while the event is set */
byte newest = 1;          /* the last crowd that was made */
bool locked[WAITERS] = true;

bool overlaps[WAITERS];               /* ghost: the event was set at some moment of this wait() */
byte running = SETTERS + CLEARERS;    /* ghost: until the last set() */

#ifdef INTERRUPTS
#define MAY_RAISE if :: main && !raised -> raised = true; goto handler :: true fi
#else
#define MAY_RAISE skip
#endif

/* Wakes a copy: who left since is woken in vain. */
inline wake(who) {
    d_step {
        i = 0;
        do
        :: i < WAITERS -> copy[i] = crowd[who].has[i]; i++
        :: else -> break
        od;
        i = 0
    };
    do
    :: i < WAITERS ->
        MAY_RAISE;
        if
        :: copy[i] -> atomic { locked[i] = false; copy[i] = false }
        :: else
        fi;
        i++
    :: else -> break
    od
}

/* What a thread has found and offers to succeed is what setdefault() compares with. */
inline look() { atomic { seen = state; ours = waiting } }

inline follow(successor) { state++; waiting = successor }

inline go_up() {
    follow(NONE);
    i = 0;
    do
    :: i < WAITERS -> overlaps[i] = true; i++
    :: else -> break
    od;
    i = 0
}

/* In the main thread, a signal handler may raise between any two steps, once. */
proctype Setter(bool main; bool last) {
    byte seen, ours, i;
    bool copy[WAITERS];
    bool taken, was_up;
#ifdef INTERRUPTS
    bool raised;
#endif

    /* A last set() always comes: who waits for ever has lost a wake-up. */
    !last || running == 0;
again:
    MAY_RAISE;
    look();
    if
    :: ours == NONE -> was_up = true; goto done
    :: else
    fi;
    MAY_RAISE;
#ifdef BUG_WAKE_BEFORE_SUCCESSOR
    wake(ours);
#endif
#ifdef BUG_SET_OVERWRITES
    d_step { go_up(); taken = true };
#else
    if
    :: d_step { state == seen -> go_up(); taken = true }
#ifdef BUG_NO_SECOND_TRY
    :: state != seen -> goto done
#else
    :: state != seen -> goto again
#endif
    fi;
#endif
    MAY_RAISE;
#ifndef BUG_WAKE_BEFORE_SUCCESSOR
    wake(ours);
#endif
#ifdef INTERRUPTS
    goto done;
handler:
#ifndef BUG_NO_RESCUE
    if
    :: taken -> wake(ours)
    :: else
    fi;
#endif
    goto leave;
done:
#endif
#ifndef INTERRUPTS
done:
#endif
    assert(taken || was_up);    /* the event was set at some moment of this set() */
#ifdef INTERRUPTS
leave:
#endif
    running = (last -> running : running - 1)
}

/* Of an event with a timeout: also clear() of one that is not set has an effect. */
proctype Clearer() {
    byte seen, ours;

again:
    look();
    if
    :: ours == NONE ->
#ifndef BUG_ONE_CROWD
        atomic { newest++; ours = newest }
#else
        ours = newest
#endif
    :: else ->
#ifdef BUG_NEW_CROWD
        atomic { newest++; ours = newest }
#else
        skip
#endif
    fi;
#ifdef BUG_CLEAR_OVERWRITES
    d_step { follow(ours) };
#else
    if
    :: d_step { state == seen -> follow(ours) }
    :: state != seen -> goto again
    fi;
#endif
    running--
}

proctype Waiter(byte self; bool timed) {
    byte mine;
    bool woken;

    atomic { mine = waiting; overlaps[self] = (mine == NONE) };
    if
    :: mine == NONE -> goto done
    :: else
    fi;
    crowd[mine].has[self] = true;
    do
#ifndef BUG_NO_LOOK_AFTER_JOINING
#ifdef BUG_LOOK_AT_FLAG
    :: atomic { waiting == NONE -> woken = true; break }
    :: waiting != NONE ->
#else
    :: atomic { waiting != mine -> woken = true; break }
    :: atomic { waiting == mine -> assert(!overlaps[self]) };    /* False is said of a moment without any set() so far */
#endif
#else
    :: true ->
#endif
        if
        :: atomic { !locked[self] -> locked[self] = true; woken = true };
            break
        :: timed    /* the lock was not released in time: look again */
        :: timed -> break
        fi
    od;
    atomic {
        crowd[mine].has[self] = false;
        assert(woken || timed);
        assert(!woken || overlaps[self])    /* no True out of nothing */
    };
done:
    skip
}

init {
    byte n;
    atomic {
        for (n : 1 .. SETTERS) { run Setter(n == 1, false) }
        for (n : 1 .. CLEARERS) { run Clearer() }
        for (n : 0 .. WAITERS - 1) { run Waiter(n, n >= PATIENT) }
        run Setter(false, true)
    }
}

/* The waiters of `_core_py.py`: set(), clear() and wait() over all interleavings.

   Each operation on a dict or a lock is one step, with and without the GIL. What stands with it in an atomic block is a check,
   or a ghost: a variable that only the checks read. A BUG_ define plants a bug that has to be found; see docs/proofs.md. */

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
#define CROWDS (CLEARERS + 2)    /* NONE, the one to start with, and one of each clear() */

typedef Crowd { bool has[WAITERS] }

Crowd crowd[CROWDS];
byte state = 1;           /* the crowd that counts, or NONE while the event is set */
byte newest = 1;
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

inline pop_state() {
    d_step {
        popped = state;
        state = NONE;
        i = 0;
        do
        :: i < WAITERS -> overlaps[i] = true; i++
        :: else -> break
        od;
        i = 0
    }
}

/* In the main thread, a signal handler may raise between any two steps, once. */
proctype Setter(bool main; bool last) {
    byte taken, popped, i;
    bool copy[WAITERS];
#ifdef INTERRUPTS
    bool raised;
#endif

    /* A last set() always comes: who waits for ever has lost a wake-up. */
    !last || running == 0;
    taken = NONE;
    MAY_RAISE;
#ifdef BUG_POP_AFTER_WAKING
    taken = state;
    if
    :: taken != NONE -> wake(taken)
    :: else
    fi;
    pop_state();
#else
#ifdef BUG_STORE_AFTER_POP
    pop_state();
    MAY_RAISE;
    taken = popped;
#else
    atomic { pop_state(); taken = popped };
#endif
    MAY_RAISE;
    if
    :: taken != NONE -> wake(taken)
    :: else
    fi;
#endif
#ifdef INTERRUPTS
    goto done;
handler:
    if
    :: taken != NONE -> wake(taken)
    :: else
    fi;
done:
#endif
    running = (last -> running : running - 1)
}

proctype Clearer() {
#ifdef BUG_NO_SETDEFAULT
    d_step { newest++; state = newest };
#else
    d_step {
        if
        :: state != NONE
        :: else ->
#ifndef BUG_ONE_CROWD
            newest++;
#endif
            state = newest
        fi
    };
#endif
    running--
}

proctype Waiter(byte self; bool timed) {
    byte mine;
    bool woken;

    atomic { mine = state; overlaps[self] = (mine == NONE) };
    if
    :: mine == NONE -> goto done
    :: else
    fi;
    crowd[mine].has[self] = true;
    do
#ifndef BUG_NO_LOOK_AFTER_JOINING
#ifdef BUG_LOOK_AT_FLAG
    :: atomic { state == NONE -> woken = true; break }
    :: state != NONE ->
#else
    :: atomic { state != mine -> woken = true; break }
    :: atomic { state == mine -> assert(!overlaps[self]) };    /* False is said of a moment without any set() so far */
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

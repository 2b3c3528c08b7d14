/* The messages of `fastevent/shared`: one shared event, its home and two followers, over all interleavings. Each of the three may set
   the event, and each may be killed at any step. Once nothing more happens, all that live agree, and a set() that has returned
   has reached them.

   A process has two threads: one of the user's, which takes the ticket and may call set(), and "fastevent shared", which reads.
   Each access to what they share is one step. What stands with it in an atomic block is a check, or a ghost: a variable that
   only the checks read. "Invariant n" is the one in its `__init__.py`. With INTERRUPTS, a signal handler raises at any step
   of a set(), whose notifying then begins again. A BUG_ define plants a bug that has to be found; see proofs/README.md. */

#ifndef KILLED
#define KILLED 1      /* how many processes may be killed */
#endif
#ifndef ROOM
#define ROOM 8        /* messages on their way in one direction; an interrupted set() repeats some */
#endif

#ifdef BUG_REMOVED_BEFORE_SENT
#define INTERRUPTS
#endif

#define HOME 2        /* the followers are 0 and 1 */

mtype = { FOLLOW, SET };

chan to_home[2] = [ROOM] of { mtype };
chan to_follower[2] = [ROOM] of { mtype };
bool alive[3] = true;
bool flag[3];              /* of the event as the process holds it */
bool cause;                /* the home has recorded that the event is set */
bool registered[2];        /* by the home: the follower is to be notified */
bool follows[2];           /* by the follower: it has neither received a set nor sent one */
bool raises[3];            /* a signal handler has run in the user's thread of that process, and raises */
bool home_holds;           /* otherwise the home has dropped the event, and knows its number only */

bool called;               /* ghost: some set() has begun */
bool returned;             /* ghost: some set() has returned */
bool was_killed;           /* ghost: the home was */

/* What is sent to a process that is gone is lost. What a process sent before it was killed is not. */
inline send_to_home(i, message) {
    atomic {
        alive[i] -> if
        :: alive[HOME] -> assert(nfull(to_home[i])); to_home[i]!message
        :: else
        fi
    }
}

inline send_to_follower(i) {
    atomic {
        alive[HOME] -> if
        :: alive[i] -> assert(nfull(to_follower[i])); to_follower[i]!SET
        :: else
        fi
    }
}

/* A set() is interrupted before its next step, and notifies again. */
#ifdef INTERRUPTS
#define OR_INTERRUPTED(p, step) { step } unless { atomic { alive[p] && raises[p] -> raises[p] = false }; step }
#else
#define OR_INTERRUPTED(p, step) step
#endif

/* Invariant 4: to be removed after it was sent. */
inline notify_follower(i) {
    if
    :: atomic { alive[HOME] && registered[i] -> skip }
#ifdef BUG_REMOVED_BEFORE_SENT
        atomic { alive[HOME] -> registered[i] = false };
        send_to_follower(i)
#else
        send_to_follower(i);
        atomic { alive[HOME] -> registered[i] = false }
#endif
    :: atomic { alive[HOME] && !registered[i] -> skip }
    fi
}

/* Invariant 2: the cause, then the followers. */
inline publish() {
#ifdef BUG_FOLLOWERS_BEFORE_CAUSE
    notify_follower(0);
    notify_follower(1);
    atomic { alive[HOME] -> cause = true }
#else
    atomic { alive[HOME] -> cause = true };
    notify_follower(0);
    notify_follower(1)
#endif
}

proctype HomeUser() {
    if
    :: atomic { alive[HOME] && home_holds -> called = true; flag[HOME] = true }
        OR_INTERRUPTED(HOME, publish());
        atomic { alive[HOME] -> returned = true }
    :: true
    fi
}

proctype HomeThread() {
    byte i;

    do
    :: atomic { alive[HOME] && to_home[0]?[FOLLOW] -> to_home[0]?FOLLOW; i = 0 }; goto follow
    :: atomic { alive[HOME] && to_home[1]?[FOLLOW] -> to_home[1]?FOLLOW; i = 1 }; goto follow
    :: atomic { alive[HOME] && to_home[0]?[SET] -> to_home[0]?SET; i = 0 }; goto set
    :: atomic { alive[HOME] && to_home[1]?[SET] -> to_home[1]?SET; i = 1 }; goto set
#if KILLED
    /* Its connection ends. */
    :: atomic { alive[HOME] && !alive[0] && empty(to_home[0]) && registered[0] -> registered[0] = false }
    :: atomic { alive[HOME] && !alive[1] && empty(to_home[1]) && registered[1] -> registered[1] = false }
#endif
next:
        skip
    od;

follow:
    /* Invariant 2: register, then look. */
    if
    :: atomic { alive[HOME] && cause -> skip }
        goto answer
    :: atomic { alive[HOME] && !cause -> skip }
    fi;
    atomic { alive[HOME] -> registered[i] = true };
#ifndef BUG_LOOK_BEFORE_REGISTERING
    if
    :: atomic { alive[HOME] && cause -> skip }
        goto answer
    :: atomic { alive[HOME] && !cause -> skip }
    fi;
#endif
    goto next;
answer:
    send_to_follower(i);
    atomic { alive[HOME] -> registered[i] = false };
    goto next;

set:
    atomic { alive[HOME] -> registered[i] = false };    /* it knows */
    if
    :: atomic { alive[HOME] && home_holds -> flag[HOME] = true }
#ifdef BUG_PASSED_ON_ONLY_IF_HELD
        publish()
    :: atomic { alive[HOME] && !home_holds -> skip }
    fi;
#else
    :: atomic { alive[HOME] && !home_holds -> skip }
    fi;
#ifndef BUG_NOT_PASSED_ON
    publish();
#else
    atomic { alive[HOME] -> cause = true };
#endif
#endif
    goto next
}

inline notify_home(i) {
    if
    :: atomic { alive[i] && follows[i] -> skip }
#ifdef BUG_REMOVED_BEFORE_SENT
        atomic { alive[i] -> follows[i] = false };
        send_to_home(i, SET)
#else
        send_to_home(i, SET);
        atomic { alive[i] -> follows[i] = false }
#endif
    :: atomic { alive[i] && !follows[i] -> skip }    /* the home knows */
    fi
}

proctype FollowerUser(byte i) {
    /* The ticket arrives; it says that the event is not set. */
    atomic { alive[i] -> follows[i] = true };
    send_to_home(i, FOLLOW);
    if
    :: atomic { alive[i] -> called = true; flag[i] = true }
#ifdef BUG_SENT_AFTER_THE_RETURN
        atomic { alive[i] -> returned = true };
#endif
        OR_INTERRUPTED(i, notify_home(i));
        atomic { alive[i] -> returned = true }
    :: true
    fi
}

proctype FollowerThread(byte i) {
    do
    :: atomic { alive[i] && to_follower[i]?[SET] -> to_follower[i]?SET }
        atomic { alive[i] -> follows[i] = false };
        atomic { alive[i] -> flag[i] = true }
#if KILLED && !defined(BUG_END_IS_IGNORED)
    /* Invariant 5. */
    :: atomic { alive[i] && !alive[HOME] && empty(to_follower[i]) && !flag[i] -> flag[i] = true }
#endif
    od
}

#if KILLED
proctype Killer() {
    byte left = KILLED;

    do
    :: atomic { left > 0 && alive[0] -> alive[0] = false; left-- }
    :: atomic { left > 0 && alive[1] -> alive[1] = false; left-- }
    :: atomic { left > 0 && alive[HOME] -> alive[HOME] = false; was_killed = true; left-- }
    :: break
    od
}
#endif

#ifdef INTERRUPTS
proctype Interrupter() {
    if
    :: raises[0] = true
    :: raises[1] = true
    :: raises[HOME] = true
    fi
}
#endif

/* Once nothing more happens. */
proctype End() {
    byte i;
    bool idle;

    atomic {
        timeout;
        assert(!alive[HOME] || !home_holds || flag[HOME] == cause);
        i = 0;
        do
        :: i < 2 ->
            assert(!alive[i] || flag[i] == (!alive[HOME] || cause));
            assert(!alive[i] || flag[i] || !returned);
            assert(!flag[i] || called || was_killed);    /* no set out of nothing */
            i++
        :: else -> break
        od;
        assert(!alive[HOME] || cause || !returned)
    };
    do    /* for ever, since a process that was killed comes to no end, and the verifier would object */
    :: idle = !idle
    od
}

init {
    atomic {
        if
        :: home_holds = true
        :: home_holds = false
        fi;
        run HomeUser();
        run HomeThread();
        run FollowerUser(0);
        run FollowerThread(0);
        run FollowerUser(1);
        run FollowerThread(1);
#ifdef INTERRUPTS
        run Interrupter();
#endif
#if KILLED
        run Killer();
#endif
        run End()
    }
}

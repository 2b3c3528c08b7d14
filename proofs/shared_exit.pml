/* How a home of shared events ends, with several followers: set() and then `os._exit()`, or an ordinary exit; or it stays.
   See `OwnHome.publish` in `fastevent/shared/_home.py`, `_connection.py`, and `Hub.finish` in `_hub.py`.

   - set() waits for no follower: it returns even if none of them reads.
   - Each follower whose socket takes the message is set, for the reason that set() was given, whatever the home does next.
     The exception is one to which another thread of the home was sending, for so long that set() has waited a moment in
     vain.
   - The other followers learn that the home is gone, and are set for that reason. No follower learns that before it has
     read what the home has sent.
   - An ordinary exit, and a home that stays, lose no message to a follower that reads.

   Each access to what the threads share is one step. What stands with it in an atomic block is a check, or a ghost: a
   variable that only the checks read. A BUG_ define plants a bug that has to be found; see proofs/README.md. */

#ifndef FOLLOWERS
#define FOLLOWERS 2
#endif
#ifndef OTHERS
#define OTHERS 1       /* lines that the thread has for some follower, such as an answer */
#endif
#define ROOM 1         /* lines that a socket takes until they are read */

mtype = { SET, OTHER, BYE };    /* lines */
mtype = { USER, THREAD };       /* the threads of the home */
mtype = { REASON, GONE };       /* why a follower is set */

chan outbox[FOLLOWERS] = [OTHERS + 2] of { mtype };
chan socket[FOLLOWERS] = [ROOM] of { mtype };
mtype claim[FOLLOWERS];    /* the thread that holds it, or 0 */
bool is_full[FOLLOWERS];   /* the thread "fastevent shared" sends what is left, as soon as the socket takes it */
mtype why[FOLLOWERS];      /* why the follower is set, or 0 */
bool thread_ends;          /* as the home exits */
bool thread_ended;
bool alive = true;         /* the home */
bool stopped;              /* follower 0 does not read while the home is alive */

bool called;               /* ghost: set() has begun */
bool returned;             /* ghost: it has returned */
bool done;                 /* ghost: an exit has come to its end */
bool at_once;              /* ghost: then the home has called `os._exit()` */
bool was_full[FOLLOWERS];  /* ghost: the socket has not taken the message at once */
bool was_busy[FOLLOWERS];  /* ghost: set() has waited for another thread in vain */

/* Connection._write, for the call that holds the claim: to be removed after it was sent. */
inline write(i) {
    do
    :: atomic { alive && nempty(outbox[i]) && nfull(socket[i]) -> outbox[i]?<line>; socket[i]!line; line = 0 }
        atomic { alive -> outbox[i]?_ }
    :: atomic { alive && nempty(outbox[i]) && full(socket[i]) ->
            if
            :: outbox[i]??[SET] -> was_full[i] = true
            :: else
            fi
        }
        break
    :: atomic { alive && empty(outbox[i]) -> break }
    od
}

/* Connection._send: a call that has finished looks at the outbox once more, for those that have found the claim taken. */
inline send(i, me) {
    taken = false;
    do
    :: atomic { alive && empty(outbox[i]) -> break }
    :: atomic { alive && nempty(outbox[i]) && !claim[i] -> claim[i] = me }
        write(i);
        if
        :: atomic { alive && nempty(outbox[i]) -> skip }
            atomic { alive -> claim[i] = 0 };
#ifndef BUG_REST_IS_LEFT
            atomic { alive -> is_full[i] = true };
#endif
            break
        :: atomic { alive && empty(outbox[i]) -> skip }
            atomic { alive -> claim[i] = 0 };
#ifdef BUG_NO_SECOND_LOOK
            break
#endif
        fi
    :: atomic { alive && nempty(outbox[i]) && claim[i] -> taken = true; break }
    od
}

/* Connection.send of a set(): it waits until the claim is free, for a moment. */
inline send_soon(i) {
    do
    :: send(i, USER);
        if
#ifndef BUG_SET_WAITS_FOR_NO_THREAD
        :: taken && !claim[i]
        :: taken -> was_busy[i] = true; break
        :: !taken -> break
#else
        :: break
#endif
        fi
    od
}

/* Hub.finish, after the thread has ended: what is left, then "bye", until those that do not read have had their time. */
inline finish() {
    thread_ends = true;
    thread_ended;
    i = 0;
    do
    :: i < FOLLOWERS ->
#ifdef BUG_BYE_COMES_FIRST
        if
        :: nfull(socket[i]) -> socket[i]!BYE
        :: full(socket[i]) -> outbox[i]!BYE
        fi;
#else
        outbox[i]!BYE;
#endif
        i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < FOLLOWERS ->
        do
        :: nempty(outbox[i]) && nfull(socket[i]) -> send(i, USER); assert(!taken)
        :: empty(outbox[i]) -> break
        :: stopped && i == 0 && full(socket[i]) -> break    /* the time is over */
#ifdef BUG_EXIT_WAITS_FOR_NO_FOLLOWER
        :: full(socket[i]) -> break
#endif
        od;
        i++
    :: else -> break
    od
}

proctype HomeUser() {
    byte i;
    mtype line;
    bool taken;

    called = true;
    do
    :: i < FOLLOWERS ->
#ifdef BUG_SET_WAITS_FOR_FOLLOWERS
        nfull(socket[i]);
#endif
        outbox[i]!SET;
        send_soon(i);
        i++
    :: else -> break
    od;
    returned = true;
    if
    :: atomic { at_once = true; alive = false }
    :: finish();
        alive = false
    :: true
    fi;
    done = true
}

/* "fastevent shared" */
proctype HomeThread() {
    byte i, others;
    mtype line;
    bool taken;

    do
    :: atomic { alive && others < OTHERS -> others++; select(i : 0 .. FOLLOWERS - 1) }
        atomic { alive -> outbox[i]!OTHER };
        send(i, THREAD)
    :: atomic { alive && is_full[0] && nfull(socket[0]) -> is_full[0] = false; i = 0 }
        send(i, THREAD)
    :: atomic { alive && is_full[1] && nfull(socket[1]) -> is_full[1] = false; i = 1 }
        send(i, THREAD)
#if FOLLOWERS > 2
    :: atomic { alive && is_full[2] && nfull(socket[2]) -> is_full[2] = false; i = 2 }
        send(i, THREAD)
#endif
    :: atomic { alive && thread_ends -> break }
    od;
    thread_ended = true
}

proctype Follower(byte i) {
    do
    :: atomic { (!alive || !(stopped && i == 0)) && socket[i]?[SET] -> socket[i]?SET; assert(called) }
        if
        :: !why[i] -> why[i] = REASON
        :: else
        fi
    :: atomic { (!alive || !(stopped && i == 0)) && socket[i]?[OTHER] -> socket[i]?OTHER }
    :: atomic { (!alive || !(stopped && i == 0)) && socket[i]?[BYE] -> socket[i]?BYE; why[i] = (why[i] -> why[i] : GONE) }
#ifdef BUG_END_BEFORE_THE_REST
    :: atomic { !alive && !why[i] -> why[i] = GONE }
#else
    :: atomic { !alive && empty(socket[i]) && !why[i] -> why[i] = GONE }
#endif
    od
}

/* Once nothing more happens. */
proctype End() {
    byte i;
    bool idle;

    atomic {
        timeout;
        assert(returned && done);
        i = 0;
        do
        :: i < FOLLOWERS ->
            if
            :: at_once -> assert(why[i] == REASON || was_full[i] || was_busy[i])
            :: else -> assert(why[i] == REASON || (i == 0 && stopped))
            fi;
            assert(why[i] || alive);
            i++
        :: else -> break
        od
    };
    do    /* for ever, since a thread of a process that has ended comes to no end, and the verifier would object */
    :: idle = !idle
    od
}

init {
    byte i;

    atomic {
        if
        :: stopped = true
        :: stopped = false
        fi;
        run HomeUser();
        run HomeThread();
        do
        :: i < FOLLOWERS -> run Follower(i); i++
        :: else -> break
        od;
        run End()
    }
}

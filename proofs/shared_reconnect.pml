/* The connection between a follower and its home may end at any time, and is made again: `fastevent/shared/_reach.py`,
   `_follower.py`, `_home.py`. The home ends it when no descriptor is left, or when the follower has not read for long. Its
   lines may be unread then.

   - What the follower sets reaches the home, even if the event is dropped, or the process of the follower ends by
     `os._exit()`, as soon as set() has returned.
   - What is set at the home reaches the follower, as long as it holds the event.
   - A set() that another thread calls while the event arrives is no exception.
   - A follower that takes its home for gone, because nobody has listened for some seconds, sets its event. When it finds
     the home again, it does not pass that on: the home is set only if somebody has called set().

   Each access to what the threads share is one step. What stands with it in an atomic block is a check, or a ghost: a
   variable that only the checks read. A BUG_ define plants a bug that has to be found; see proofs/README.md. */

#ifndef ENDS
#define ENDS 1         /* how often the home ends the connection */
#endif

mtype = { FOLLOW, SET, GOT };
mtype = { CALLED, GONE };    /* why the event of the follower is set */

chan to_home = [6] of { mtype };
chan to_follower = [4] of { mtype };
chan apart = [2] of { mtype };    /* with the greeting of another connection, which the home has not accepted yet */
bool connected;            /* neither side has ended the connection */
bool takes_lines;          /* the home receives what is sent over it */

/* The follower */
bool exited;               /* by os._exit() */
bool has_socket;           /* Sending.socket */
byte sockets;              /* how many there were: one is not the other */
bool is_broken;            /* Sending.is_broken */
bool held;                 /* the program has the event */
mtype why;                 /* it is set, or 0 */
bool follows;              /* ToHome.follows: it has neither received a set nor sent one */
bool unconfirmed;          /* ToHome.unconfirmed */
bool wanted;               /* the connection is needed for another event */
bool claim;
bool is_gone;              /* Reaching.is_gone */

/* The home */
bool registered;           /* FromFollower.follows */
bool cause;                /* it has recorded that the event is set */

bool called;               /* ghost: somebody has called set() */
bool returned;             /* ghost: a set() of the follower has returned */
bool was_gone;             /* ghost: the follower has taken its home for gone */

inline say(line) {
    atomic {
        if
        :: has_socket && takes_lines -> to_home!line
        :: has_socket && !takes_lines -> is_broken = true
        :: else
        fi
    }
}

/* ToHome.publish. If it does not follow, the home knows. */
inline publish() {
    if
#ifdef BUG_GONE_IS_PASSED_ON
    :: follows ->
#else
    :: follows && why == CALLED ->
#endif
        unconfirmed = true;
        socket_was = (has_socket -> sockets : 0);
        if
        :: !socket_was -> apart!SET    /* with the greeting: this connection is not followed further here */
        :: socket_was ->
            atomic { !claim -> claim = true };
            say(SET);
            claim = false;
            if
#ifndef BUG_NOTHING_IS_SENT_APART
            :: is_broken || !has_socket || socket_was != sockets -> apart!SET    /* send_apart() */
#endif
            :: else
            fi
        fi;
        follows = false
    :: else
    fi
}

/* The ticket arrives: Hub.hold. Another thread finds the event as soon as it is held. */
proctype Arrival() {
#ifndef BUG_HELD_BEFORE_IT_FOLLOWS
    follows = true;
#endif
    held = true;
    if
    :: !why -> atomic { follows = true; is_gone = false };    /* of another connection, if that one is */
        say(FOLLOW)
    :: why
    fi
}

proctype FollowerUser() {
    byte socket_was;

    if
    :: atomic { held && !why -> why = CALLED; called = true }
        publish();
        returned = true;
        if
        :: held = false    /* the program drops the event */
        :: exited = true
        :: true
        fi
    :: true
    fi
}

/* ToHome.introduce */
inline introduce() {
    if
    :: atomic { held && !why -> skip }
        follows = true;
        say(FOLLOW)
    :: atomic { held && why && follows -> skip }
#ifdef BUG_GONE_IS_PASSED_ON
        unconfirmed = true
#else
        unconfirmed = unconfirmed || why == CALLED
#endif
    :: atomic { !held || (why && !follows) -> skip }
    fi;
    if
    :: unconfirmed -> say(SET)
    :: !unconfirmed
    fi
}

/* "fastevent shared" of the follower */
proctype FollowerThread() {
    do
    :: atomic { !exited && has_socket && to_follower?[SET] -> to_follower?SET }
        follows = false;
        unconfirmed = false;
        atomic {
            if
            :: held && !why -> why = CALLED
            :: else
            fi
        }
    :: atomic { !exited && has_socket && to_follower?[GOT] -> to_follower?GOT; unconfirmed = false }
    /* The home has ended the connection, and all is read: Reaching.end. */
    :: !exited && has_socket && !connected && empty(to_follower) ->
        atomic { !claim -> claim = true };
        atomic { has_socket = false; is_broken = false; claim = false }
    /* Reaching._connect */
    :: atomic { !exited && !has_socket && !is_gone && !connected && !claim && (follows || unconfirmed || wanted) ->
            has_socket = true;
            sockets++;
            connected = true;
            takes_lines = true
        }
        introduce()
    /* Reaching.give_up */
    :: atomic { !exited && !has_socket && !is_gone && !was_gone && (follows || unconfirmed) -> is_gone = true; was_gone = true }
        unconfirmed = false;
        follows = false;
        atomic {
            if
            :: held && !why -> why = GONE
            :: else
            fi
        }
    /* A ticket of another event arrives: Hub.to_home makes another connection. */
    :: atomic { !exited && is_gone -> is_gone = false; wanted = true }
    od
}

inline notify_follower() {
    atomic {
        registered = false;
        if
        :: connected -> to_follower!SET
        :: else
        fi
    }
}

/* OwnHome.publish. That it may be interrupted is a subject of shared.pml. */
proctype HomeUser() {
    if
    :: called = true;
        cause = true;
        if
        :: atomic { registered -> notify_follower() }
        :: atomic { !registered -> skip }
        fi
    :: true
    fi
}

/* FromFollower.receive */
inline receive() {
    if
    :: to_home?SET ->
        registered = false;    /* it knows; there is no other follower to notify */
        cause = true;
        atomic {
            if
            :: connected -> to_follower!GOT
            :: else
            fi
        }
    :: to_home?FOLLOW ->
        registered = true;
        if
        :: cause -> notify_follower()
        :: !cause
        fi
    fi
}

inline read_all() {
    do
    :: nempty(to_home) -> receive()
    :: empty(to_home) -> break
    od
}

/* "fastevent shared" of the home. FromFollower.on_broken: the follower can send no more, then what it has sent is read. */
proctype HomeThread() {
    byte ends;

    do
    :: nempty(to_home) -> receive()
    :: apart?SET -> cause = true
    :: connected && (ends < ENDS || exited) ->
        ends = (ends < ENDS -> ends + 1 : ends);
#ifdef BUG_CLOSED_AFTER_THE_LAST_LOOK
        read_all();
#endif
        takes_lines = false;
#if defined(BUG_CLOSED_UNREAD) || defined(BUG_CLOSED_AFTER_THE_LAST_LOOK)
        do
        :: to_home?_
        :: empty(to_home) -> break
        od;
#else
        read_all();
#endif
        registered = false;
        connected = false
    od
}

/* Once nothing more happens. */
proctype End() {
    bool idle;

    atomic {
        timeout;
        assert(!cause || called);
        assert(cause || !returned || was_gone);
        assert(!cause || why || !held || exited)
    };
    do    /* for ever, since the threads come to no end, and the verifier would object */
    :: idle = !idle
    od
}

init {
    atomic {
        run Arrival();
        run FollowerUser();
        run FollowerThread();
        run HomeUser();
        run HomeThread();
        run End()
    }
}

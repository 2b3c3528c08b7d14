/* Who is believed: the proofs of `fastevent/shared/_wire.py`, as `Reaching` in `_reach.py`, `ToHome` in `_follower.py` and
   `FromFollower` in `_home.py` give them and ask for them. A follower, its home, and a stranger without the key, over all
   interleavings.

   The home listens at two addresses: a path in a directory for its user alone, and a name. The stranger is another user's
   program. It listens in place of the home where the directory was removed, or where the program of the home has closed its
   sockets. It connects to the home by the name. It knows what was said to it, and says that again to anybody. It makes up
   the rest, but not a proof or a sealed line, which need the key. What is assumed: when it gives the name up, it keeps no
   connection to a follower that has come by it. Otherwise it could connect both by the same name, which the proofs do not
   tell from one connection.

   - A follower believes only its home, and the home only its follower.
   - Until the other side has proved itself, a follower says nothing but a greeting and sealed sets, and a home nothing but
     a random number and its proof. So the stranger learns neither a reason nor what is followed.
   - The stranger sets nothing. What it says again changes nothing.
   - The stranger keeps nothing away: as long as the home has one of its addresses, the follower finds it, and then each of
     them knows what the other has set.

   Each line is one step. A BUG_ define plants a bug that has to be found; see proofs/README.md. */

#ifndef CONNECTIONS
#define CONNECTIONS 4    /* of the follower, one after the other */
#endif
#ifndef STRANGERS
#define STRANGERS 1      /* connections of the stranger to the home */
#endif
#define ALL (CONNECTIONS + STRANGERS)
#define CALM (CONNECTIONS - 2)    /* from this connection on, the home loses no address, and no connection is cut */

#define PATH 0
#define NAME 1

/* Nonces. That of the follower in its connection c is c. */
#define OF_HOME(k) (CONNECTIONS + (k))
#define OF_STRANGER (CONNECTIONS + ALL)
#define NONE (CONNECTIONS + ALL + 1)

mtype = { HELLO, GREET, SEALED, PROVE, FOLLOW, SET };

chan to_home[CONNECTIONS] = [6] of { mtype, byte };
chan to_follower[CONNECTIONS] = [4] of { mtype };
bool taken[2];             /* the stranger listens at this address */
byte cuts;                 /* how often the home has lost all its sockets */

/* The follower: its connection c, or none yet */
byte c = CONNECTIONS;
bool ended = true;         /* the connection has: the next one is made */
bool to_stranger;          /* whom it has reached */
bit address;
byte nonce = NONE;         /* of the other side */
bool believes;             /* Sending.is_trusted */
bool set_here;             /* the event of the follower is set */

/* The home: connections of the follower, and then those of the stranger */
byte greeted[ALL] = NONE;  /* the nonce of the other side */
bit accepted_at[ALL];
bool believed[ALL];        /* Sending.is_trusted */
bool follows[ALL];
bool cause;                /* it has recorded that the event is set */

/* What the stranger knows */
bool knows_greeting[CONNECTIONS * 2];    /* by nonce and address */
bool knows_sealed;

bool called;               /* ghost: somebody has called set() */

#ifdef BUG_ADDRESS_OF_THE_TICKET
#define AT(address) PATH     /* what is proved contains the first address, whichever was used */
#else
#define AT(address) address
#endif

/* What a follower may say to anybody: to its home, or the stranger knows it from now on. */
inline say_to_anybody(line) {
    if
    :: !to_stranger -> to_home[c]!line, c
    :: else ->
        if
        :: line == GREET -> knows_greeting[c * 2 + AT(address)] = true
        :: line == SEALED -> knows_sealed = true
        fi
    fi
}

/* And what it may say only to its home. */
inline say(line, what) {
    assert(!to_stranger);
    to_home[c]!line, what
}

/* Reaching._connect: after a connection that came to nothing, to the other address. */
inline connect() {
#ifndef BUG_SAME_ADDRESS_AGAIN
    if
    :: c < CONNECTIONS && !believes -> address = 1 - address
    :: else
    fi;
#endif
    c = (c == CONNECTIONS -> 0 : c + 1);
    ended = false;
    believes = false;
    nonce = NONE;
    to_stranger = taken[address];
    say_to_anybody(GREET);    /* Reaching._greet */
    if
    :: set_here -> say_to_anybody(SEALED)
    :: else
    fi;
    if
    :: !to_stranger ->
        accepted_at[c] = AT(address);
        to_follower[c]!HELLO
    :: else
    fi
#ifdef BUG_FOLLOWS_BEFORE_THE_PROOF
    say(FOLLOW, 0)
#endif
}

/* Reaching.receive, ToHome.introduce */
inline introduce() {
    believes = true;
    say(PROVE, nonce);
    if
    :: set_here -> say(SET, 0)
    :: else -> say(FOLLOW, 0)
    fi
}

proctype Follower() {
    do
    :: atomic { ended && c != CONNECTIONS - 1 -> connect() }
    :: atomic { !ended && to_follower[c]?[HELLO] -> to_follower[c]?HELLO; nonce = OF_HOME(c) }
#ifdef BUG_HELLO_IS_BELIEVED
        introduce()
#endif
    :: atomic { !ended && to_follower[c]?[PROVE] -> to_follower[c]?PROVE;
            if
            :: !believes -> introduce()
            :: else
            fi
        }
    :: atomic { !ended && to_follower[c]?[SET] -> to_follower[c]?SET; assert(called && believes); set_here = true }
    /* The connection is cut, or has shown nothing for some seconds. */
    :: atomic { !ended && c < CALM && believes -> ended = true }
    :: atomic { !ended && c != CONNECTIONS - 1 && to_stranger -> ended = true }
    od
}

/* ToHome.publish. The call that writes the line decides whether it is sealed (ToHome.line_of). */
proctype FollowerUser() {
    bool was_believed;

    if
    :: atomic { c != CONNECTIONS -> called = true; set_here = true }
        atomic {
            was_believed = believes
#ifdef BUG_SEALED_OR_NOT_BY_AN_EARLIER_LOOK
        };
        atomic {
#endif
            if
            :: !ended && was_believed -> say(SET, 0)
            :: !ended && !was_believed -> say_to_anybody(SEALED)
            :: ended    /* the next connection begins with it */
            fi
        }
    :: true
    fi
}

/* OwnHome.publish */
inline publish() {
    cause = true;
    if
    :: c < CONNECTIONS && !ended && follows[c] -> follows[c] = false; to_follower[c]!SET
    :: else
    fi
}

proctype HomeUser() {
    if
    :: atomic { called = true; publish() }
    :: true
    fi
}

/* FromFollower: the connection k of the follower, as the home hears it. One thread reads them all, line by line. */
proctype Home(byte k) {
    byte n;

    do
    :: atomic { to_home[k]?GREET, n -> greeted[k] = n }
        to_follower[k]!PROVE
    :: atomic { to_home[k]?SEALED, n -> assert(called && greeted[k] != NONE); cause = true }
    :: atomic { to_home[k]?PROVE, n -> assert(n == OF_HOME(k)); believed[k] = true }
    :: atomic { to_home[k]?SET, n -> assert(called && believed[k]); cause = true }
    :: atomic { to_home[k]?FOLLOW, n -> assert(believed[k]); follows[k] = true;
            if
            :: cause -> publish()
            :: else
            fi
        }
    od
}

#ifdef BUG_NO_NONCE_OF_THE_FOLLOWER
#define IS_FOR(n, k) (greeted[k] != NONE)
#else
#define IS_FOR(n, k) (greeted[k] == n)
#endif

/* The home has answered the greeting with its proof: for this nonce, its own in this connection, and the address. */
#define HAS_PROOF(k) (nonce == OF_HOME(k) && IS_FOR(c, k) && accepted_at[k] == AT(address))

/* The stranger listens where the home does not, because the directory was removed or the sockets were closed. */
proctype Impostor() {
    byte moves = 4;

    do
    :: atomic { moves > 0 && (c == CONNECTIONS || c < CALM) && !taken[PATH] -> taken[PATH] = true; moves-- }
    :: atomic { moves > 0 && (c == CONNECTIONS || c < CALM) && !taken[NAME] -> taken[NAME] = true; moves--;
            cuts++;    /* a program that closes its sockets closes all of them */
            if
            :: !to_stranger -> ended = true
            :: else
            fi
        }
    :: atomic { moves > 0 && (c == CONNECTIONS || c < CALM) && taken[NAME] -> taken[NAME] = false; moves--;
            if
            :: to_stranger && address == NAME -> ended = true    /* so much is assumed: see above */
            :: else
            fi
        }
    :: atomic { c < CONNECTIONS && !ended && to_stranger && nonce == NONE -> nonce = OF_STRANGER }
    od
}

/* A connection of the stranger to the home. What it hears there it says to the follower, and the other way round. */
proctype Stranger(byte k) {
    byte n, since;
    bool has_repeated;

    atomic { select(n : 0 .. CONNECTIONS - 1) };    /* whose greeting it repeats */
    atomic { !taken[NAME] -> accepted_at[k] = AT(NAME); since = cuts };
    do
    :: atomic { c < CONNECTIONS && !ended && to_stranger && nonce == NONE -> nonce = OF_HOME(k); assert(!HAS_PROOF(k)) }
    :: atomic { since == cuts && greeted[k] == NONE && knows_greeting[n * 2 + accepted_at[k]] -> greeted[k] = n }
#ifdef BUG_GREETING_IS_BELIEVED
        believed[k] = true;
#endif
        atomic { assert(!believed[k]); assert(ended || !to_stranger || !HAS_PROOF(k)) }
    :: atomic { since == cuts && greeted[k] != NONE && knows_sealed && !has_repeated -> has_repeated = true }
        atomic { assert(called); cause = true }
#ifdef BUG_NO_ROLE
    :: atomic { since == cuts && greeted[k] != NONE -> assert(false) }    /* it repeats the proof of the home itself */
#endif
#ifdef BUG_GREETED_MAY_SET
    :: atomic { since == cuts && greeted[k] != NONE -> assert(called); cause = true }
#endif
    od
}

/* Once nothing more happens. */
proctype End() {
    bool idle;

    atomic {
        timeout;
        if
        :: !taken[PATH] || !taken[NAME] ->
            assert(!to_stranger && believes && believed[c]);
            assert(set_here == called && cause == called)
        :: else
        fi
    };
    do    /* for ever, since the threads come to no end, and the verifier would object */
    :: idle = !idle
    od
}

init {
    byte i;

    atomic {
        run Follower();
        run FollowerUser();
        run HomeUser();
        run Impostor();
        do
        :: i < CONNECTIONS -> run Home(i); i++
        :: else -> break
        od;
        do
        :: i < ALL -> run Stranger(i); i++
        :: else -> break
        od;
        run End()
    }
}

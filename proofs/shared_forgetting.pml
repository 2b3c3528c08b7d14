/* What a home of shared events remembers: `Causes` and `Numbers` in `fastevent/shared/_sets.py`, over all interleavings of
   threads that set events, of the thread "fastevent shared", and of threads that ask whether an event is set.

   - An event that nobody has set is never answered as set, whatever was forgotten. A set that was recorded before a
     question is never answered as unset.
   - A follower that asks to be notified is notified if and only if the event is set.
   - No more reasons are remembered than the bound and what the thread has not seen yet. Each of them can be forgotten.

   Each access to what the threads share is one step. What stands with it in an atomic block is a check, or a ghost: a
   variable that only the checks read. A BUG_ define plants a bug that has to be found; see proofs/README.md. */

#ifndef NUMBERS
#define NUMBERS 4      /* events of this home */
#endif
#ifndef SETTERS
#define SETTERS 2      /* threads that set one event each */
#endif
#ifndef ARRIVALS
#define ARRIVALS 1     /* sets that followers send */
#endif
#define BLOCK 2        /* numbers in a block, where the code has 8,192 */
#define BLOCKS (NUMBERS / BLOCK)
#define MOST_CAUSES 1

bool line[NUMBERS];    /* Causes._lines: the reason is remembered */
chan recent = [NUMBERS] of { byte };
chan order = [NUMBERS] of { byte };
bool block[BLOCKS];    /* Numbers._blocks: which blocks there are */
bool is_in[NUMBERS];    /* in these; a block that a thread has found stays as it is after it was taken out */
bool is_full[BLOCKS];     /* Numbers._full */
bool follows;          /* FromFollower.follows: a follower is to be notified of event 0 */
bool notified;

bool called[NUMBERS];  /* ghost: some set() has begun */
bool recorded[NUMBERS];    /* ghost: the home has recorded it */

/* Causes.add: `setdefault()`, and then the order. */
inline add(n) {
    if
    :: atomic { !line[n] -> line[n] = true; recorded[n] = true }
        recent!n
    :: atomic { line[n] -> skip }
    fi
}

/* Numbers.__contains__: the block, then whether all are in, then the bit. */
inline look_into_forgotten(n) {
#if defined(BUG_ALL_OLDER_ARE_SET)
    found = n <= newest_forgotten
#elif defined(BUG_FULL_IS_READ_FIRST)
    found = is_full[n / BLOCK];
    if
    :: atomic { !found && block[n / BLOCK] -> found = is_in[n] }
    :: atomic { found || !block[n / BLOCK] -> skip }
    fi
#else
    has_block = block[n / BLOCK];
    found = is_full[n / BLOCK];
#ifdef BUG_ANY_OF_A_BLOCK
    found = found || has_block
#else
    if
    :: atomic { !found && has_block -> found = is_in[n] }
    :: found || !has_block
    fi
#endif
#endif
}

/* Causes.line, Causes.__contains__: the reasons, then the numbers whose reason is forgotten. */
inline look(n) {
#ifdef BUG_FORGOTTEN_IS_READ_FIRST
    look_into_forgotten(n);
    found = found || line[n]
#else
    if
    :: atomic { line[n] -> found = true }
    :: atomic { !line[n] -> skip }
        look_into_forgotten(n)
    fi
#endif
}

/* OwnHome.publish: record, then notify. Connection.send takes a number from the outbox and looks for its line, which is there:
   *its_line* of the thread that alone forgets is among the reasons. */
#define publish(n, its_line) \
    add(n); \
    if \
    :: atomic { n == 0 && follows -> skip } \
        its_line; \
        atomic { assert(found); notified = true; found = false }; \
        follows = false \
    :: atomic { n != 0 || !follows -> skip } \
    fi

#ifdef BUG_ALL_OLDER_ARE_SET
short newest_forgotten = -1;
#endif

/* Numbers.add: the bit; once all are in, that they are, and then the block goes. */
inline forget(n) {
#if defined(BUG_ALL_OLDER_ARE_SET)
    newest_forgotten = (n > newest_forgotten -> n : newest_forgotten)
#elif defined(BUG_SET_IS_FORGOTTEN)
    skip
#else
    if
    :: is_full[n / BLOCK]
    :: else ->
        block[n / BLOCK] = true;
        is_in[n] = true;
        if
        :: is_in[(n / BLOCK) * BLOCK] && is_in[(n / BLOCK) * BLOCK + 1] ->
#ifdef BUG_BLOCK_GOES_FIRST
            block[n / BLOCK] = false;
            is_full[n / BLOCK] = true
#else
            is_full[n / BLOCK] = true;
            block[n / BLOCK] = false
#endif
        :: else
        fi
    fi
#endif
}

/* Causes.trim */
inline trim() {
    do
    :: recent?n -> order!n
    :: empty(recent) -> break
    od;
    do
    :: len(order) > MOST_CAUSES ->
        order?n;
        assert(line[n]);    /* each reason is in the order once */
#ifdef BUG_REASON_GOES_FIRST
        line[n] = false;
        forget(n)
#else
        forget(n);
        line[n] = false
#endif
    :: else -> break
    od
}

/* Any thread of the home, or a signal handler. */
proctype Setter() {
    byte n;
    bool found, has_block;

    atomic { select(n : 0 .. NUMBERS - 1) };
    called[n] = true;
    publish(n, look(0))
}

/* "fastevent shared" */
proctype Thread() {
    byte n, arrivals;
    bool found, has_block, asked;

end:
    do
    :: nempty(recent) ->    /* add() has posted it */
        trim();
        n = 0
    :: arrivals < ARRIVALS ->
        arrivals++;
        atomic { select(n : 0 .. NUMBERS - 1) };
        called[n] = true;
        look(n);    /* OwnHome.was_set */
        if
        :: found
        :: else ->
            publish(n, found = line[0]);
            trim()
        fi;
        atomic { n = 0; found = false; has_block = false }
    :: !asked ->    /* FromFollower._follow: register, then look */
        asked = true;
        follows = true;
        look(0);
        if
        :: found ->
            notified = true;
            follows = false
        :: else
        fi;
        atomic { found = false; has_block = false }
    od
}

/* A ticket that comes back home (Hub.hold, OwnHome.reason_of), or a number that is being sent (OwnHome.line). The numbers
   differ in nothing, so one stands for all. */
proctype Asker() {
    bool found, has_block, was_recorded;

    was_recorded = recorded[0];
    look(0);
    atomic {
        assert(!found || called[0]);
        assert(found || !was_recorded)
    }
}

/* Once nothing more happens. */
proctype End() {
    byte n, reasons;

    atomic {
        timeout;
        n = 0;
        do
        :: n < NUMBERS ->
            reasons = reasons + line[n];
            assert(!line[n] || called[n]);
            n++
        :: else -> break
        od;
        assert(reasons <= MOST_CAUSES);
        assert(notified == recorded[0])
    }
}

init {
    byte i;

    atomic {
        do
        :: i < SETTERS -> run Setter(); i++
        :: else -> break
        od;
        run Thread();
        run Asker();
        run End()
    }
}

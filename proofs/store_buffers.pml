/* What `waiters.pml` cannot see: a processor may delay a store past the loads that follow it in the same thread.

   One thread says clear(), looks for work and waits if there is none; another makes work and says set(). Because both calls
   change or look at the flag under the mutex, one of the two sees the other. A BUG_ define plants a bug that has to be found. */

bool flag = true;
bool work;
bool mutex;
bool linked;
bool woken;
bool clearing;     /* the clearer's store of the flag is on its way */
bool unlocking;    /* and so, behind it, that of the mutex */
bool working;      /* the setter's store of the work is on its way */

/* A store arrives some time, and those of one thread in their order. To lock the mutex is an atomic operation: it waits for the
   stores of its thread. */
active proctype Memory() {
end:
    do
    :: atomic { clearing -> flag = false; clearing = false }
    :: atomic { unlocking && !clearing -> mutex = false; unlocking = false }
    :: atomic { working -> work = true; working = false }
    od
}

active proctype Clearer() {
#ifdef BUG_CLEAR_WITHOUT_MUTEX
    clearing = true;
#else
    atomic { !mutex -> mutex = true };
    clearing = true;
    unlocking = true;
#endif
    if
    :: work -> goto done
    :: !work
    fi;
    atomic { !clearing && !unlocking && !mutex -> mutex = true };
    if
    :: flag
    :: !flag -> linked = true
    fi;
    mutex = false;
    !linked || woken;    /* a lost wake-up is an invalid end state */
done:
    skip
}

active proctype Setter() {
    working = true;
#ifdef BUG_LOOK_BEFORE_MUTEX
    if
    :: flag -> goto done
    :: !flag
    fi;
#endif
    atomic { !working && !mutex -> mutex = true };
    if
    :: flag
    :: !flag ->
        flag = true;
        if
        :: linked -> woken = true
        :: !linked
        fi
    fi;
    mutex = false;
done:
    skip
}

# cython: language_level=3, binding=False, always_allow_keywords=False, embedsignature=True, embedsignature.format=clinic, auto_pickle=False, freethreading_compatible=True
"""EventCore, compiled: the flag, the deadline and the waiters of an event.

`_core_py.py` says the same in Python and is the one to read first. What holds here, and the tests that fail if it does not:

1. The flag is one pointer, to True or to False. A polling method reads it once and takes no lock.
   (test_contract: flag_follows_is_set; test_waiting: what_is_written_before_set_is_seen_after_wait)
2. The waiters of an event are a ring of records, the oldest first. A record is linked if and only if no wake-up was sent to it
   and its thread has not left.
   (test_waiting: a_timed_out_waiter_leaves_the_others_alone, set_against_timeout_at_the_same_moment)
3. The flag, the count of its steps from False to True, the ring, and the `linked` of its records change only under the event's
   mutex. Nobody links while the flag is up. So a record is due, that is, a `set()` came for it, if and only if it was born at
   another count; a `set()` wakes all that are due and nobody else, whatever comes in between. And since `set()` looks at the flag
   under the mutex, too, what a thread does after its `clear()` sees all that came before a `set()` that found the flag up.
   (test_waiting: clear_takes_nothing_from_who_was_waiting, a_large_herd_wakes_its_own_and_nobody_who_comes_later)
4. A record is freed by the thread that made it, and only when it is unlinked: nobody else holds a pointer to it then. Who wakes
   it does not touch it after the release of its lock.
   (test_faults: races_of_everything, timed_out_waits)
5. Under the mutex no Python code runs, nothing is allocated, no reference is dropped, and nothing blocks. So `set()` may be
   called from a signal handler, a finalizer or a weakref callback at any point of any method.
   (test_faults: signal_storm, handlers_that_raise, finalizers)
6. With the GIL, the GIL is the mutex: nothing inside gives it up. Without it, the mutex is one byte, a `PyMutex`.
7. Other threads do not survive a fork. Whoever enters the mutex first after one forgets their records (their memory is lost
   with them) and the state in which they left the mutex.
   (test_waiting: a_wait_goes_on_in_the_child_that_its_signal_handler_forked; test_faults: fork_in_the_midst)
8. Whoever waits reads the precise clock before it says that time ran out; who polls may read a coarser clock that lags it.
   So nothing ever times out early.
   (test_contract: check_timeout_is_never_true_early_and_stays_true; test_faults: never_early)
9. The reason goes up and down with the flag, in the same hold of the mutex; so does the count that tells subscribers which
   `set()` was for them. A reason is dropped outside of the mutex.
   (test_cancellation: who_sees_the_flag_sees_the_reason, no_callback_hears_of_a_set_before_it, reason_is_dropped)

Why no wake-up is lost: a waiter looks at the flag and links in one hold of the mutex (3), so a `set()` either comes before, and
the waiter sees the flag, or after, and finds the record due; a due record is unlinked either by a `set()`, which releases its
lock (2), or by its own thread, which then knows that it was due. No `clear()` changes a record or the count (3). `proofs/` has
this as models that are searched exhaustively.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, Py_XINCREF
from libc.math cimport NAN, ceil, isnan
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

# In C variables: the module is emptied at the exit of the interpreter, before the last finalizers.
cdef int64_t LONGEST_WAIT
cdef object implicit_timeout, tell, event_seconds, longest_wait, wait_seconds
from fastevent._config import implicit_timeout
from fastevent._subscribers import tell
from fastevent._timeouts import LONGEST_WAIT, event_seconds, longest_wait, wait_seconds


cdef extern from *:
    """
    #include <structmember.h>
    #include <time.h>

    #define NEVER INT64_MAX   /* the deadline of what never times out */
    #define NO_TIMEOUT (-1.0)

    /* After so many wake-ups, a set() lets go of the GIL: if all of a large herd wait for it at once, they thrash. */
    #define HERD 32

    #define WATCHED 1   /* somebody has subscribed: tell() is called at every set() */
    #define LINKED 2    /* _fe_link() was called */

    /* The clock of time.monotonic(), in nanoseconds. */
    #if PY_VERSION_HEX >= 0x030D0000
    static inline int64_t monotonic(void) { PyTime_t now; (void)PyTime_MonotonicRaw(&now); return now; }
    #else
    static inline int64_t monotonic(void) { return _PyTime_GetMonotonicClock(); }
    #endif

    /* A clock that never runs ahead of it and costs a fifth. Linux updates it at every tick, so it lags by a tick or two:
       with four ticks to go or fewer, the precise clock decides. */
    #if defined(__linux__) && defined(CLOCK_MONOTONIC_COARSE)
    static int64_t coarse_margin = INT64_MAX;
    static void measure_coarse_clock(void) {
        struct timespec tick;
        if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) == 0)
            coarse_margin = 4 * (tick.tv_sec * 1000000000LL + tick.tv_nsec);
    }
    static inline int surely_before(int64_t deadline) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec < deadline - coarse_margin;
    }
    #else
    static void measure_coarse_clock(void) {}
    static inline int surely_before(int64_t deadline) { return 0; }
    #endif

    /* Shared fields and the mutex. With the GIL, it orders every access, and it is the mutex. */
    #ifdef Py_GIL_DISABLED
    typedef PyMutex Mutex;
    #define load_acquire(pointer) _Py_atomic_load_ptr_acquire(pointer)
    #define store_release(pointer, value) _Py_atomic_store_ptr_release(pointer, value)
    #define load_time(pointer) _Py_atomic_load_int64_relaxed(pointer)
    #define store_time(pointer, value) _Py_atomic_store_int64_relaxed(pointer, value)
    #define load_uint16(pointer) _Py_atomic_load_uint16(pointer)
    #define store_uint16(pointer, value) _Py_atomic_store_uint16(pointer, value)
    #define load_uint32(pointer) _Py_atomic_load_uint32_acquire(pointer)
    #define store_uint32(pointer, value) _Py_atomic_store_uint32_release(pointer, value)
    #define lock_mutex(mutex) PyMutex_Lock(mutex)
    #define unlock_mutex(mutex) PyMutex_Unlock(mutex)
    #define let_others_run()
    #define reset_mutex(mutex) memset(mutex, 0, sizeof(Mutex))
    #else
    typedef struct { char unused; } Mutex;
    #define load_acquire(pointer) (*(pointer))
    #define store_release(pointer, value) (*(pointer) = (value))
    #define load_time(pointer) (*(pointer))
    #define store_time(pointer, value) (*(pointer) = (value))
    #define load_uint16(pointer) (*(pointer))
    #define store_uint16(pointer, value) (*(pointer) = (value))
    #define load_uint32(pointer) (*(pointer))
    #define store_uint32(pointer, value) (*(pointer) = (value))
    #define let_others_run() PyEval_RestoreThread(PyEval_SaveThread())
    #define lock_mutex(mutex) ((void)(mutex))
    #define unlock_mutex(mutex) ((void)(mutex))
    #define reset_mutex(mutex) ((void)(mutex))
    #endif

    /* Which process this is, counted from the one that loaded the module, and the only thread of its parent that lives on. */
    static uint16_t this_process;
    static unsigned long surviving_thread;
    static Mutex module_mutex;
    static void after_fork_in_child(void) {
        this_process++;
        surviving_thread = PyThread_get_thread_ident();
        reset_mutex(&module_mutex);
    }
    #ifdef HAVE_FORK
    #include <pthread.h>
    static void watch_forks(void) {
        static int watched;  /* by the first interpreter that loads the module */
        if (!watched) watched = pthread_atfork(NULL, NULL, after_fork_in_child) == 0;
    }
    #else
    static void watch_forks(void) { (void)after_fork_in_child; }
    #endif

    /* The timeout of an event made without one, once it is known. */
    static double implicit_seconds;
    static uint32_t implicit_known;

    /* What __init__ is while nobody replaces it. */
    static initproc core_init;

    /* Only object.__new__ refuses an abstract class; and on 3.12 only it gives an instance the array of attribute values that
       the interpreter's specialised method calls want. */
    static PyObject *allocate(PyTypeObject *cls) {
        if ((PY_VERSION_HEX < 0x030C0000 || PY_VERSION_HEX >= 0x030D0000) && !(cls->tp_flags & Py_TPFLAGS_IS_ABSTRACT))
            return cls->tp_alloc(cls, 0);
        PyObject *nothing = PyTuple_New(0);
        PyObject *self = nothing == NULL ? NULL : PyBaseObject_Type.tp_new(cls, nothing, NULL);
        Py_XDECREF(nothing);
        return self;
    }

    /* The reason is all that an event refers to. Cython would make the core itself a type that takes part in the collection of
       garbage, which costs every event a fifth of its creation; it is enough that Event does. */
    static Py_ssize_t reason_offset;
    #define reason_of(self) (*(PyObject **)((char *)(self) + reason_offset))
    static int visit_reason(PyObject *self, visitproc visit, void *arg) { Py_VISIT(reason_of(self)); return 0; }
    static int clear_reason(PyObject *self) { Py_CLEAR(reason_of(self)); return 0; }
    static void drop_event(PyObject *self) { Py_XDECREF(reason_of(self)); Py_TYPE(self)->tp_free(self); }

    /* What attach() needs: the definition behind a method descriptor, and an attribute that the interpreter reads inline. */
    #define definition_of(descriptor) (((PyMethodDescrObject *)(descriptor))->d_method)
    static PyMemberDef flag_member = {"flag", T_OBJECT_EX, 0, READONLY,
        "The flag as an attribute, True or False, read-only: the cheapest way to poll.\\n\\n"
        "Thread safety: atomic."};
    """
    ctypedef struct Mutex:
        pass
    ctypedef struct PyMethodDef:
        pass
    ctypedef struct PyMemberDef:
        Py_ssize_t offset

    ctypedef void *initproc
    ctypedef void *traverseproc
    ctypedef void *inquiry
    ctypedef void *destructor
    traverseproc visit_reason
    inquiry clear_reason
    destructor drop_event
    Py_ssize_t reason_offset
    ctypedef void *vectorcallfunc
    initproc core_init
    ctypedef struct PyTypeObject:
        object (*tp_new)(PyTypeObject *cls, PyObject *args, PyObject *kwargs)
        initproc tp_init
        traverseproc tp_traverse
        inquiry tp_clear
        destructor tp_dealloc
        vectorcallfunc tp_vectorcall
    object allocate(PyTypeObject *cls)
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf) noexcept
    Py_ssize_t PyTuple_GET_SIZE(object items) noexcept
    PyObject *PyTuple_GET_ITEM(object items, Py_ssize_t index) noexcept
    int PyUnicode_CompareWithASCIIString(object text, const char *ascii) noexcept

    PyObject *PY_NONE "Py_None"
    PyObject *PY_TRUE "Py_True"
    PyObject *PY_FALSE "Py_False"
    const int64_t NEVER
    const double NO_TIMEOUT
    const int HERD
    const uint8_t WATCHED
    const uint8_t LINKED

    int64_t monotonic() noexcept nogil
    void measure_coarse_clock() noexcept nogil
    bint surely_before(int64_t deadline) noexcept nogil

    PyObject *load_acquire(PyObject **pointer) noexcept nogil
    void store_release(PyObject **pointer, PyObject *value) noexcept nogil
    int64_t load_time(int64_t *pointer) noexcept nogil
    void store_time(int64_t *pointer, int64_t value) noexcept nogil
    uint16_t load_uint16(uint16_t *pointer) noexcept nogil
    void store_uint16(uint16_t *pointer, uint16_t value) noexcept nogil
    uint32_t load_uint32(uint32_t *pointer) noexcept nogil
    void store_uint32(uint32_t *pointer, uint32_t value) noexcept nogil
    void lock_mutex(Mutex *mutex) noexcept nogil
    void unlock_mutex(Mutex *mutex) noexcept nogil
    void reset_mutex(Mutex *mutex) noexcept nogil
    void let_others_run() noexcept

    const uint16_t this_process
    const unsigned long surviving_thread
    Mutex module_mutex
    void watch_forks() noexcept

    double implicit_seconds
    uint32_t implicit_known

    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) noexcept
    PyMethodDef *definition_of(object descriptor)
    object PyDescr_NewMethod(type cls, PyMethodDef *definition)
    object PyDescr_NewMember(type cls, PyMemberDef *definition)
    PyMemberDef flag_member

    void *PyMem_RawMalloc(size_t size) noexcept nogil
    void PyMem_RawFree(void *memory) noexcept nogil
    ctypedef void *PyThread_type_lock
    ctypedef enum PyLockStatus:
        PY_LOCK_FAILURE
        PY_LOCK_ACQUIRED
        PY_LOCK_INTR
    unsigned long PyThread_get_thread_ident() noexcept nogil
    PyThread_type_lock PyThread_allocate_lock() noexcept nogil
    void PyThread_free_lock(PyThread_type_lock lock) noexcept nogil
    bint PyThread_acquire_lock(PyThread_type_lock lock, bint blocking) noexcept nogil
    PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, bint interruptible) noexcept nogil
    void PyThread_release_lock(PyThread_type_lock lock) noexcept nogil


cdef struct Waiter:
    # On the heap: until 3.14 a daemon thread that wakes while the interpreter exits is ended where it stands, and its stack
    # goes with it, while a finalizer may still call set().
    Waiter *previous           # the ring; under the mutex
    Waiter *next               # the ring; under the mutex
    PyThread_type_lock lock    # held by the waiter's thread; released, once, by who unlinks it to wake it
    unsigned long thread       # who waits; constant
    uint32_t born              # the count of sets when it was linked; constant
    bint linked                # in the ring; under the mutex


@cython.no_gc  # see visit_reason()
cdef class EventCore:
    "EventCore(timeout=None, *, parents=(), set_on_timeout=False)\n--\n\nWhat an event does often: its flag, its deadline, its waiters."

    cdef PyObject *_flag       # Py_True or Py_False, both immortal in effect; written under the mutex, read without
    cdef Waiter *_waiters      # the first of the ring, NULL if nobody waits; under the mutex
    cdef PyObject *_reason     # why the flag is up, or NULL; owned; under the mutex
    cdef int64_t _start        # when the running period began, in nanoseconds; under the mutex
    cdef int64_t _deadline     # when it times out, or NEVER; written under the mutex, read without
    cdef double _seconds       # the timeout, or NO_TIMEOUT; under the mutex
    cdef uint32_t _sets        # how often the flag went up; under the mutex
    cdef uint16_t _process     # the process that the ring and the mutex belong to; under the module's mutex
    cdef uint8_t _marks        # WATCHED, LINKED; under the mutex
    cdef Mutex _mutex

    def __init__(self, timeout=None, *, parents=(), set_on_timeout=False):
        init_event(self, timeout)
        if parents != () or set_on_timeout or marked(self, 0) & LINKED:
            marked(self, LINKED)
            self._fe_link(parents, set_on_timeout)

    def is_set(self):
        """Return the flag: True if the event is set, False otherwise.

        A timeout that has passed does not set it: see `check_timeout`.

        Thread safety: atomic. What a thread wrote before its `set()` is visible to every thread that reads True here.
        """
        return <object>load_acquire(&self._flag)

    def check_timeout(self):
        """Return True once the event's timeout has passed since its start, set or not; never early.

        False without a timeout. It changes nothing.

        Thread safety: atomic.
        """
        return timed_out(self)

    def check(self):
        """Raise `EventCancelled` if the event is set, `EventTimeout` if it has timed out; return None otherwise.

        `EventTimeout` is an `EventCancelled` and a `TimeoutError`. It is also raised if the event is set because of a timeout.
        The text names the reason.

        Thread safety: atomic.
        """
        if load_acquire(&self._flag) == PY_TRUE or timed_out(self):
            self._fe_raise()

    def set(self, reason=None):
        """Set the flag to True and wake every thread that waits for it; then tell children, coroutines and callbacks.

        The *reason*, any object, stays until `clear()`. On an event that is set already it is dropped: the first one counts.

        Thread safety: atomic. It never blocks, so a signal handler, a finalizer or a weakref callback may call it.
        """
        cdef Told told
        if put_up(self, <PyObject *>reason, False, &told):
            tell_of(self, told)

    def clear(self):
        """Set the flag to False and forget the reason; a timeout starts anew.

        Thread safety: atomic. It takes nothing from a thread that a `set()` has woken.
        """
        enter(self)
        cdef PyObject *reason = begin_period(self)
        unlock_mutex(&self._mutex)
        Py_XDECREF(reason)

    def wait(self, timeout=None):
        """Wait until the event is set. Return True if it is, False if time ran out first; never early.

        *timeout* is in seconds. A number alone decides how long the call waits, even after the event's own timeout has passed;
        one that is not above zero does not wait. With None, the event's own timeout ends the call, if it has one. Raises
        `TypeError` for what is not a number, unless the event is set.

        Thread safety: safe on shared objects. Signal handlers run while it waits, and what they raise ends it. A thread that a
        `set()` has woken returns True, even if the event was cleared at once.
        """
        cdef double seconds
        if load_acquire(&self._flag) == PY_TRUE:
            return True
        if timeout is None:
            return wait_until(self, 0, True)
        seconds = plain_seconds(timeout)
        if isnan(seconds):
            seconds = wait_seconds(timeout)
        return seconds > 0 and wait_until(self, deadline_after(monotonic(), seconds), False)

    def _fe_is_set_by_now(self):
        """Return True if the event is set, which it is once its timeout has passed; False otherwise.

        Thread safety: atomic, but that whoever comes first after the timeout sets the event: see `set`.
        """
        return flag_by_now(self)

    @property
    def _fe_flag_by_now(self):
        """The flag as an attribute, True or False, read-only: what `is_set()` returns."""
        return flag_by_now(self)

    def _fe_put_up(self, reason, list told not None, bint timed_out=False):
        """Do what `set()` does, but leave `tell()` to the caller, for *told*. If *timed_out*, only once the timeout passed."""
        cdef Told mine
        if put_up(self, <PyObject *>reason, timed_out, &mine):
            told.append((self, mine.sets, owned(mine.reason)))

    def _fe_watch(self):
        """Have every `set()` from now on call `tell()`. Return what `_fe_snapshot()` does."""
        marked(self, WATCHED)
        return self._fe_snapshot()

    def _fe_snapshot(self):
        """Return how often the flag went up so far, whether it is, and why."""
        cdef uint32_t sets
        cdef bint is_set
        cdef PyObject *reason
        enter(self)
        sets = self._sets
        is_set = load_acquire(&self._flag) == PY_TRUE
        reason = self._reason
        Py_XINCREF(reason)
        unlock_mutex(&self._mutex)
        return sets, is_set, owned(reason)

    def _fe_waiting(self):
        """Return how many threads wait."""
        cdef Py_ssize_t count = 0
        cdef Waiter *waiter
        enter(self)
        waiter = self._waiters
        while waiter != NULL:
            count += 1
            waiter = NULL if waiter.next == self._waiters else waiter.next
        unlock_mutex(&self._mutex)
        return count

    def _fe_period(self):
        """Return the timeout in seconds or None, and the start and the deadline of the running period in nanoseconds."""
        enter(self)
        cdef double seconds = self._seconds
        cdef int64_t start = self._start
        cdef int64_t deadline = self._deadline
        unlock_mutex(&self._mutex)
        return None if seconds == NO_TIMEOUT else seconds, start, deadline

    def _at_fork_reinit(self):
        """Forget the threads that waited when this process was forked off; `threading` calls it in the child."""
        enter(self)
        unlock_mutex(&self._mutex)


cdef inline double plain_seconds(object timeout) noexcept:
    """The value of a plain float or int; NaN where somebody has to look closer."""
    cdef int overflow = 0
    cdef long long seconds
    if type(timeout) is float:
        return PyFloat_AS_DOUBLE(timeout)
    if type(timeout) is int:
        seconds = PyLong_AsLongLongAndOverflow(timeout, &overflow)
        if not overflow:
            return <double>seconds
    return NAN


cdef inline int64_t deadline_after(int64_t start, double seconds) noexcept nogil:
    cdef double nanoseconds = ceil(seconds * 1e9)
    return start + <int64_t>nanoseconds if nanoseconds < <double>(NEVER - start) else NEVER


cdef uint8_t marked(EventCore self, uint8_t mark) noexcept:
    enter(self)
    self._marks |= mark
    mark = self._marks
    unlock_mutex(&self._mutex)
    return mark


cdef inline bint timed_out(EventCore self) noexcept:
    cdef int64_t deadline = load_time(&self._deadline)
    return deadline != NEVER and not surely_before(deadline) and monotonic() >= deadline


cdef inline object flag_by_now(EventCore self):
    if load_acquire(&self._flag) != PY_TRUE and timed_out(self):
        self._fe_set_if_timed_out()
    return <object>load_acquire(&self._flag)


cdef struct Told:  # what tell() has to know
    uint32_t sets
    PyObject *reason  # owned


cdef inline bint put_up(EventCore self, PyObject *reason, bint only_if_timed_out, Told *told) noexcept:
    """Put the flag up and wake the waiters. Return whether somebody has to be told, and of what."""
    cdef bint goes_up, watched
    enter(self)
    goes_up = load_acquire(&self._flag) != PY_TRUE and not (only_if_timed_out and monotonic() < self._deadline)
    if goes_up:
        if reason != PY_NONE:  # there is none while the flag is down
            Py_INCREF(<object>reason)
            self._reason = reason
        self._sets += 1
        store_release(&self._flag, PY_TRUE)
    # Only of a set: whom an earlier one was for, that one tells, and its reason is gone.
    watched = self._marks & WATCHED and (goes_up or load_acquire(&self._flag) == PY_TRUE)
    if watched:
        Py_XINCREF(self._reason)
        told.reason = self._reason
        told.sets = self._sets
    if goes_up and self._waiters != NULL:
        wake_all(self)
    unlock_mutex(&self._mutex)
    return watched


cdef int tell_of(EventCore self, Told of) except -1:
    cdef list told = [(self, of.sets, owned(of.reason))]
    try:
        tell(told)
    except BaseException:  # a signal handler's: tell the others all the same; twice does no harm
        tell(told)
        raise
    return 0


cdef void wake_all(EventCore self) noexcept:
    cdef Waiter *waiter
    cdef int woken = 0
    while self._waiters != NULL and self._waiters.born != self._sets:
        waiter = self._waiters
        unlink(self, waiter)
        PyThread_release_lock(waiter.lock)
        woken += 1
        if woken % HERD == 0:
            unlock_mutex(&self._mutex)
            let_others_run()
            enter(self)


cdef inline object owned(PyObject *reason):
    """A reason as an object, which takes over the reference."""
    if reason == NULL:
        return None
    held = <object>reason
    Py_DECREF(held)
    return held


cdef inline PyObject *begin_period(EventCore self) noexcept:
    """Put the flag down. Return the reason why it was up, or NULL, to be dropped outside of the mutex."""
    cdef PyObject *reason = self._reason
    self._reason = NULL
    if self._seconds != NO_TIMEOUT:
        self._start = monotonic()
        store_time(&self._deadline, deadline_after(self._start, self._seconds))
    else:
        store_time(&self._deadline, NEVER)
    store_release(&self._flag, PY_FALSE)
    return reason


cdef inline void enter(EventCore self) noexcept:
    if load_uint16(&self._process) != this_process:
        forget_other_processes(self)
    lock_mutex(&self._mutex)


cdef void forget_other_processes(EventCore self) noexcept:
    cdef Waiter *waiter
    cdef Waiter *survivors = NULL
    lock_mutex(&module_mutex)
    if load_uint16(&self._process) != this_process:
        # A signal handler may have forked in the middle of wait(), which may itself be nested in a wait(): that thread goes on
        # waiting here, unless a set() came for it whose thread did not come along.
        while self._waiters != NULL:
            waiter = self._waiters
            unlink(self, waiter)
            if waiter.thread == surviving_thread:
                waiter.next = survivors
                survivors = waiter
        while survivors != NULL:
            waiter = survivors
            survivors = waiter.next
            if waiter.born == self._sets:
                link(self, waiter)
            else:
                PyThread_release_lock(waiter.lock)
        reset_mutex(&self._mutex)
        store_uint16(&self._process, this_process)
    unlock_mutex(&module_mutex)


cdef inline void link(EventCore self, Waiter *waiter) noexcept:
    cdef Waiter *first = self._waiters
    if first == NULL:
        waiter.previous = waiter.next = self._waiters = waiter
    else:
        waiter.previous = first.previous
        waiter.next = first
        first.previous.next = first.previous = waiter
    waiter.linked = True


cdef inline void unlink(EventCore self, Waiter *waiter) noexcept:
    if waiter.next == waiter:
        self._waiters = NULL
    else:
        waiter.previous.next = waiter.next
        waiter.next.previous = waiter.previous
        if self._waiters == waiter:
            self._waiters = waiter.next
    waiter.linked = False


cdef bint wait_until(EventCore self, int64_t deadline, bint own) except -1:
    """Wait for the flag until *deadline*, or until the event's *own* one, which clear() may put off."""
    cdef PyLockStatus status
    cdef int64_t left
    # One int, not a tuple of them: that an object is made here makes a herd of 1,000 without the GIL take four times as long.
    cdef int64_t longest = longest_wait()
    cdef int64_t endless = NEVER if longest == LONGEST_WAIT else longest
    cdef bint woken
    cdef Waiter *waiter = <Waiter *>PyMem_RawMalloc(sizeof(Waiter))
    if waiter == NULL:
        raise MemoryError
    waiter.lock = PyThread_allocate_lock()
    if waiter.lock == NULL:
        PyMem_RawFree(waiter)
        raise MemoryError
    PyThread_acquire_lock(waiter.lock, False)
    waiter.thread = PyThread_get_thread_ident()
    waiter.linked = False

    enter(self)
    woken = load_acquire(&self._flag) == PY_TRUE
    if not woken:
        waiter.born = self._sets
        link(self, waiter)
    unlock_mutex(&self._mutex)
    try:
        while not woken:
            if own:
                deadline = load_time(&self._deadline)
            left = endless if deadline == NEVER else min(deadline - monotonic(), longest)
            if left <= 0:
                break
            with nogil:
                status = PyThread_acquire_lock_timed(waiter.lock, -1 if left == NEVER else (left + 999) // 1000, True)
            woken = status == PY_LOCK_ACQUIRED
            if not woken:
                PyErr_CheckSignals()
                enter(self)  # a handler may have forked: see forget_other_processes()
                unlock_mutex(&self._mutex)
    finally:
        if not woken:
            enter(self)
            woken = not waiter.linked or waiter.born != self._sets
            if waiter.linked:
                unlink(self, waiter)
            unlock_mutex(&self._mutex)
        PyThread_free_lock(waiter.lock)
        PyMem_RawFree(waiter)
    return woken


cdef object new_event(PyTypeObject *cls, PyObject *args, PyObject *kwargs):
    self = <EventCore>allocate(cls)
    self._flag = PY_FALSE
    self._deadline = NEVER
    self._seconds = NO_TIMEOUT
    self._process = this_process
    return self


cdef inline int init_event(EventCore self, object timeout) except -1:
    cdef double seconds
    cdef PyObject *reason
    if timeout is None:
        if not load_uint32(&implicit_known):
            ask_for_implicit_seconds()
        seconds = implicit_seconds
    else:
        seconds = plain_seconds(timeout)
        if not seconds >= 0:
            seconds = event_seconds(timeout)
    enter(self)
    self._seconds = seconds
    reason = begin_period(self)
    unlock_mutex(&self._mutex)
    Py_XDECREF(reason)
    return 0


cdef object make_event(PyTypeObject *cls, PyObject **args, size_t nargsf, PyObject *names):
    """Call the class that attach() had: `Event()`, `Event(timeout)` and `Event(timeout=timeout)` without a detour."""
    cdef Py_ssize_t count = PyVectorcall_NARGS(nargsf)
    cdef Py_ssize_t named = 0 if names == NULL else PyTuple_GET_SIZE(<object>names)
    cdef bint plain = count + named == 0 or count + named == 1 and (
        named == 0 or PyUnicode_CompareWithASCIIString(<object>PyTuple_GET_ITEM(<object>names, 0), "timeout") == 0
    )
    if plain and cls.tp_new == new_event and cls.tp_init == core_init:
        self = <EventCore>new_event(cls, NULL, NULL)
        init_event(self, None if count + named == 0 else <object>args[0])
        return self
    # Somebody replaced __new__ or __init__, or the arguments are wrong.
    positional = tuple([<object>args[i] for i in range(count)])
    keywords = {<object>PyTuple_GET_ITEM(<object>names, i): <object>args[count + i] for i in range(named)}
    return type.__call__(<object>cls, *positional, **keywords)


cdef int ask_for_implicit_seconds() except -1:
    global implicit_seconds
    timeout = implicit_timeout()
    lock_mutex(&module_mutex)
    if not load_uint32(&implicit_known):
        implicit_seconds = NO_TIMEOUT if timeout is None else timeout
        store_uint32(&implicit_known, True)
    unlock_mutex(&module_mutex)
    return 0


def attach_method(type cls not None, name, method):
    """Give *cls* the core's *method* under *name*, so that calls of it are as short as they can be.

    The interpreter's specialised calls want a method descriptor's type to be exactly the object's: an inherited one costs
    twice as much. Classes derived from *cls* inherit as usual.
    """
    setattr(cls, name, PyDescr_NewMethod(cls, definition_of(EventCore.__dict__[method])))


def attach(type cls not None):
    """Make the calls of *cls* and of its hot methods as short as they can be."""
    global core_init
    for name in ("is_set", "check_timeout", "check", "set", "clear", "wait"):
        attach_method(cls, name, name)
    cls.flag = PyDescr_NewMember(cls, &flag_member)
    core_init = (<PyTypeObject *>EventCore).tp_init
    (<PyTypeObject *>cls).tp_vectorcall = <vectorcallfunc>make_event


cdef EventCore probe = EventCore.__new__(EventCore)
reason_offset = <char *>&probe._reason - <char *><PyObject *>probe
flag_member.offset = <char *>&probe._flag - <char *><PyObject *>probe
probe = None
(<PyTypeObject *>EventCore).tp_new = new_event
(<PyTypeObject *>EventCore).tp_traverse = visit_reason
(<PyTypeObject *>EventCore).tp_clear = clear_reason
(<PyTypeObject *>EventCore).tp_dealloc = drop_event
measure_coarse_clock()
watch_forks()

# cython: language_level=3, binding=False, always_allow_keywords=False, embedsignature=True, embedsignature.format=clinic, auto_pickle=False, freethreading_compatible=True, subinterpreters_compatible=own_gil
"""EventCore, compiled: the flag, the deadline, the reason and the waiters of an event.

It behaves as `_core_py.py` does, by another algorithm; neither explains the other. What holds here, with the tests that fail if it
does not:

1. The flag is one pointer, to True or to False. A poll reads it once and takes no lock.
   (test_contract: flag_follows_is_set; test_waiting: what_precedes_set_is_read_after_wait)
2. The waiters of an event stand in a wait queue, a circular list, the oldest first. A waiter is queued until a set() wakes it or
   its own thread leaves. A new deadline wakes it too, but leaves it in the queue.
   (test_waiting: a_timed_out_waiter_leaves_the_others_alone, set_against_timeout_at_the_same_moment)
3. The flag, the reason, the count of sets, the queue, and the `queued` and `released` of its waiters change only under the event's
   mutex. No waiter enters the queue while the flag is set. So a waiter is pending, which means that a set() has come for it, if and
   only if the count of sets is no longer the one it remembers. A set() wakes pending waiters and no others, whatever comes in
   between; and since it looks at the flag under the mutex, too, what a thread does after its clear() sees all that came before a
   set() that found the flag set.
   (test_waiting: clear_takes_no_wakeup_back, many_waiters_wake_none_that_comes_later; test_faults: clear_then_look_for_work)
4. A waiter is freed by the thread that made it, after it has left the queue under the mutex. The thread that wakes it is in the
   mutex until it no longer touches it.
   (test_faults: races_of_everything, timed_out_waits)
5. Under the mutex no Python code runs, nothing is allocated, no reference is dropped, and nothing blocks. So set() may be called
   from a signal handler, a finalizer or a weakref callback at any point of any method.
   (test_faults: signal_storm, handlers_that_raise, finalizers)
6. With the GIL, the GIL is the mutex: nothing inside gives it up. Without it, the mutex is one byte, a `PyMutex`. An event is of
   one interpreter, and so is every object that this module keeps; what C variables hold is of the process.
   (test_interpreters: interpreters_come_and_go_in_many_threads)
7. A set() wakes the first WINDOW pending waiters. Each waiter that a set() has woken wakes another one as it leaves, by
   a return, an exception or a fork. So as long as a waiter is pending, one that was woken is on its way, or a later set() wakes more.
   (test_waiting: many_waiters_are_all_woken; test_waiting_signals: a_woken_waiter_that_raises_wakes_another)
8. Other threads do not survive a fork. The first thread to take the mutex after one forgets their waiters (whose memory is lost with
   them) and the state in which they left the mutex.
   (test_waiting_forks: a_forked_wait_is_woken_in_the_child; test_faults: forks_during_every_method)
9. A waiter reads the precise clock before it says that time ran out; a poll may read a coarser clock that lags it. So nothing ever
   times out early. (test_contract: check_timeout_is_never_early_and_stays_true; test_faults: never_early)
10. A callback is called by the one thread that has written its ident into the call, or by none if `remove()` was first. A thread that
   waits for the end writes its token before it looks whether that has come, and the end is noted before the token is looked for.
   (test_callbacks: each_callback_is_called_once, of_a_removal_and_a_set_one_wins; test_callback_blocks: no_call_after_the_block_under_load)

Why no wake-up is lost: a waiter looks at the flag and enters the queue in one hold of the mutex (3). So a set() comes either before,
and the waiter sees the flag, or after, and makes it pending. No clear() changes a waiter or the count (3). A pending waiter leaves
the queue either by its own thread, which then knows that it was pending, or by a wake-up (7). `proofs/` has this as a model that is
searched exhaustively.
"""

import sys

cimport cython
from cpython.dict cimport PyDict_SetItem, PyDict_Size
from cpython.exc cimport PyErr_CheckSignals
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from cpython.pythread cimport PY_LOCK_ACQUIRED, PyLockStatus, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock
from cpython.pythread cimport PyThread_release_lock, PyThread_type_lock
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, Py_XINCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New
from libc.math cimport NAN, isnan
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastevent import _call, _config, _errors, _notify, _options, _process, _time, _timers


cdef extern from "_core_c.h":
    const int64_t NEVER
    const double NO_TIMEOUT
    const int WINDOW
    int64_t longest_wait
    const uint8_t HAS_OPTIONS
    const uint8_t SELF_SETTING
    const uint8_t CLEAR_WAKES

    int64_t monotonic() noexcept nogil
    void freeze_clock(int64_t now) noexcept nogil
    void run_clock() noexcept nogil
    bint surely_before(int64_t deadline) noexcept nogil
    int64_t deadline_after(int64_t start, double seconds) noexcept nogil

    ctypedef struct Mutex:
        pass
    PyObject *load_pointer_acquire(PyObject **pointer) noexcept nogil
    void store_pointer_release(PyObject **pointer, PyObject *value) noexcept nogil
    int64_t load_time_relaxed(int64_t *pointer) noexcept nogil
    void store_time_relaxed(int64_t *pointer, int64_t value) noexcept nogil
    uint32_t load_process(uint32_t *pointer) noexcept nogil
    void store_process(uint32_t *pointer, uint32_t value) noexcept nogil
    uint8_t load_bits_acquire(uint8_t *pointer) noexcept nogil
    void store_bits_release(uint8_t *pointer, uint8_t value) noexcept nogil
    uint32_t load_known_acquire(uint32_t *pointer) noexcept nogil
    void store_known_release(uint32_t *pointer, uint32_t value) noexcept nogil
    void lock_mutex(Mutex *mutex) noexcept nogil
    void unlock_mutex(Mutex *mutex) noexcept nogil
    void reset_mutex(Mutex *mutex) noexcept nogil
    int stack_left() noexcept
    int enter_call() except -1
    void leave_call() noexcept

    ctypedef struct Waiter:
        Waiter *previous
        Waiter *next
        PyThread_type_lock lock
        unsigned long thread
        uint64_t sets
        uint32_t process
        bint queued
        bint released

    const uint32_t this_process
    int64_t this_pid
    Mutex module_mutex
    void watch_forks() noexcept
    void watch_end() noexcept
    int add_last() except -1
    void enter_wait(Waiter *waiter) noexcept
    void leave_wait(Waiter *waiter) noexcept

    const uint64_t NOBODY
    const uint64_t REMOVED
    int calls_of_thread
    uint64_t load_caller(uint64_t *place) noexcept nogil
    bint write_caller(uint64_t *place, uint64_t caller) noexcept nogil
    PyObject *load_token(PyObject **place) noexcept nogil
    bint write_token(PyObject **place, PyObject *token) noexcept nogil
    uint32_t load_over(uint32_t *place) noexcept nogil
    void store_over(uint32_t *place) noexcept nogil

    double implicit_seconds
    uint32_t implicit_known
    uint32_t implicit_claimed
    uint32_t process_begun
    bint claim(uint32_t *place) noexcept nogil

cdef extern from "_core_c_objects.h":
    ctypedef struct Imports:
        PyObject *Children
        PyObject *NO_SUBSCRIBERS
        PyObject *Period
        PyObject *State
        PyObject *arrive
        PyObject *asleep
        PyObject *awake
        PyObject *begin_wait
        PyObject *call_now
        PyObject *check_callback
        PyObject *check_name
        PyObject *clear_and_notify
        PyObject *clock
        PyObject *ended_error
        PyObject *event_seconds
        PyObject *expire
        PyObject *finish_child
        PyObject *fire
        PyObject *get_ident
        PyObject *implicit_timeout
        PyObject *log
        PyObject *look
        PyObject *set_and_notify
        PyObject *survivors
        PyObject *take_options
        PyObject *unread
        PyObject *wait_seconds
        PyObject *wake_wakers
        PyObject *core_class
        PyObject *event_class
        PyObject *call_class
        uint32_t process
    Imports *here() except NULL
    Imports *find_imports(bint make) except NULL
    void keep(PyObject **place, object item) noexcept
    void let_module_go(object module) noexcept

    ctypedef void *initproc
    ctypedef void *traverseproc
    ctypedef void *inquiry
    ctypedef void *destructor
    ctypedef void *vectorcallfunc
    ctypedef struct PyTypeObject:
        object (*tp_new)(PyTypeObject *cls, PyObject *args, PyObject *kwargs)
        initproc tp_init
        traverseproc tp_traverse
        inquiry tp_clear
        destructor tp_dealloc
        vectorcallfunc tp_vectorcall
    initproc core_init
    int cython_init(object self, PyObject *arguments, PyObject *keywords) except -1
    int put_init(PyTypeObject *cls, void *init) except -1
    traverseproc visit_event
    inquiry clear_event
    destructor drop_event
    Py_ssize_t reason_offset
    Py_ssize_t extras_offset
    Py_ssize_t waiters_offset
    ctypedef struct Extras:
        PyObject *items[5]
    const int CHILDREN
    const int CALLBACKS
    const int WAKERS
    const int PARENTS
    const int NAME
    bint has_subscribers(const Extras *extras) noexcept
    bint has_only_callbacks(const Extras *extras) noexcept
    bint is_plain_function(object function) noexcept
    object allocate(PyTypeObject *cls)

    ctypedef struct PyMethodDef:
        pass
    ctypedef struct PyMemberDef:
        Py_ssize_t offset
    PyMemberDef flag_member
    PyMethodDef *definition_of(object descriptor)
    object new_key()

    ctypedef struct PyType_Spec:
        pass
    PyType_Spec method_spec
    int put_before(PyTypeObject *cls, const char *name, void *function, object argument, object type) except -1
    void expect(object method, object cls) noexcept


cdef extern from *:
    PyObject *PY_NONE "Py_None"
    object PyType_FromSpec(PyType_Spec *spec)
    PyObject *PY_TRUE "Py_True"
    PyObject *PY_FALSE "Py_False"
    object PyWeakref_NewRef(object item, PyObject *callback)
    bint PyObject_TypeCheck(object item, PyTypeObject *cls) noexcept
    Py_ssize_t PyList_GET_SIZE(object items) noexcept
    PyObject *PySequence_List(object items) noexcept
    void PyErr_Clear() noexcept
    object PyDescr_NewMethod(type cls, PyMethodDef *definition)
    object PyDescr_NewMember(type cls, PyMemberDef *definition)
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) noexcept
    int PyUnicode_CompareWithASCIIString(object text, const char *ascii) noexcept
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf) noexcept

    unsigned long PyThread_get_thread_ident() noexcept nogil
    PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, bint interruptible) noexcept nogil


@cython.no_gc  # see visit_event()
cdef class EventCore:
    "EventCore(timeout=None, *, parents=(), set_on_timeout=False, name=None)\n--\n\nThe flag, the deadline, the reason and the waiters of an event."

    cdef PyObject *_flag       # Py_True or Py_False, both immortal in effect; written under the mutex, read without
    cdef Waiter *_waiters      # the first in the wait queue, or NULL; under the mutex
    cdef PyObject *_reason     # of the set event, or NULL; owned; under the mutex
    cdef PyObject *_extras     # an `Extras` or NULL; set once under the mutex, read without; its items are under the mutex
    cdef int64_t _start        # of the timeout, in nanoseconds; under the mutex
    cdef int64_t _deadline     # of the timeout, or NEVER; written under the mutex, read without
    cdef double _seconds       # the timeout, or NO_TIMEOUT; under the mutex
    cdef uint64_t _sets        # how often the event was set; under the mutex
    cdef uint32_t _process     # the process that the queue and the mutex belong to; under the module's mutex
    cdef uint8_t _bits         # SELF_SETTING and so on; written under the mutex, read without
    cdef Mutex _mutex

    def __init__(self, timeout=None, *, parents=(), set_on_timeout=False, name=None):
        init_event(self, timeout, parents, set_on_timeout, name)

    def is_set(self):
        """Return the flag: True if the event is set, False otherwise.

        A timeout that has passed does not set it: see `check_timeout`.

        Thread safety: atomic. What a thread wrote before its `set()` is visible to every thread that reads True here.
        """
        return <object>load_pointer_acquire(&self._flag)

    def check_timeout(self):
        """Return True once the event's timeout has passed since its start, set or not; never early.

        False without a timeout. It changes nothing.

        Thread safety: atomic.
        """
        return is_expired(self)

    def check(self):
        """Raise `EventCancelled` if the event is set, `EventTimeout` if it has timed out; return None otherwise.

        `EventTimeout` is an `EventCancelled` and a `TimeoutError`. It is also raised if the event is set because of a timeout.
        The text names the reason.

        Thread safety: atomic.
        """
        if load_pointer_acquire(&self._flag) == PY_TRUE or is_expired(self):
            error = (<object>here().ended_error)(self)
            if error is not None:
                raise error

    # These three bind as methods of Python do, and a call reaches the C function at once: see put_before().

    def set(self, reason=None):
        """Set the flag to True and wake every thread that waits for it; then notify children, tasks and callbacks.

        The *reason*, any object, stays until `clear()`. On an event that is set already it is dropped: the first one counts.

        Thread safety: atomic. It never blocks, so a signal handler, a finalizer or a weakref callback may call it.
        """
        set_event(self, <PyObject *>reason)

    def clear(self):
        """Set the flag to False and forget the reason; a timeout restarts.

        Thread safety: atomic. It takes nothing from a thread that a `set()` has woken.
        """
        clear_event_flag(self, PY_NONE)

    def wait(self, timeout=None):
        """Wait until the event is set. Return True if it is, False if time ran out first; never early.

        *timeout* is in seconds. A number decides alone how long the call waits, even after the event's own timeout has passed;
        with zero or less it does not wait. With None, the event's own timeout ends the call, if it has one. Raises `TypeError`
        for what is not a number, unless the event is set.

        Thread safety: safe on shared objects. Signal handlers run while it waits, and what they raise ends it. A thread that a
        `set()` has woken returns True, even if the event was cleared at once.
        """
        return wait_for_event(self, <PyObject *>timeout)

    # Where a method takes several arguments, they are positional only: Cython looks for the names of others at each call.

    def _fe_wait_until(self, int64_t deadline):
        """Wait until the event is set or has timed out, or until *deadline*, in nanoseconds. Return whether it was set."""
        return load_pointer_acquire(&self._flag) == PY_TRUE or wait_until(self, deadline, True)

    def _fe_try_set(self, reason, list pending not None, bint only_if_expired=False, /):
        """Set the flag and wake waiters. Append to *pending* what subscribers are still to be notified of.

        If *only_if_expired*, set the flag only once the deadline has passed.
        """
        cdef uint64_t sets
        cdef bint is_set, notifies, fits
        need_stack()
        while True:
            # All memory is allocated before the flag is set, so that there is nothing half done without it.
            lock(self)
            sets = self._sets
            is_set = load_pointer_acquire(&self._flag) == PY_TRUE
            notifies = has_subscribers(<Extras *>self._extras)
            found = unlock_and_take_reason(self)
            if notifies:
                pending.append((self, sets if is_set else sets + 1, found if is_set else reason))
            lock(self)
            fits = sets == self._sets and is_set == (load_pointer_acquire(&self._flag) == PY_TRUE)
            fits = fits and notifies == has_subscribers(<Extras *>self._extras)
            if fits and not is_set and only_if_expired and monotonic() < self._deadline:
                unlock_mutex(&self._mutex)
                if notifies:
                    pending.pop()
                return
            if fits:
                set_flag(self, <PyObject *>reason)
                unlock_mutex(&self._mutex)
                return
            unlock_mutex(&self._mutex)
            if notifies:
                pending.pop()

    def _fe_reset(self):
        """Clear the flag and restart the timeout."""
        need_stack()
        reset(self)

    def _fe_restart(self, seconds):
        """Restart the timeout, with *seconds* as the new one if given. Return whether the deadline has come nearer.

        Return None, and change nothing, if the event is set or has timed out.
        """
        cdef double new_seconds = NO_TIMEOUT if seconds is None else seconds
        cdef int64_t now, before
        cdef bint in_time, nearer = False
        need_stack()
        lock(self)
        now = monotonic()
        before = self._deadline
        in_time = load_pointer_acquire(&self._flag) != PY_TRUE and now < before
        if in_time:
            if seconds is not None:
                self._seconds = new_seconds
            self._start = now
            store_time_relaxed(&self._deadline, deadline_after(now, self._seconds))
            nearer = self._deadline < before
            if nearer:
                wake_for_deadline(self)
        unlock_mutex(&self._mutex)
        return nearer if in_time else None

    def _fe_child(self, timeout, name, /):
        """Return a new event of the class that attach() had, a child of this one; with a *timeout* it is self-setting."""
        cdef Imports *imports = here()
        if imports.event_class == NULL:
            raise RuntimeError("attach() comes first")
        child = <EventCore>new_event(<PyTypeObject *>imports.event_class, NULL, NULL)
        child._bits = HAS_OPTIONS
        if name is not None:
            (<object>imports.check_name)(name)
            set_extra(child, NAME, name, True)
        if timeout is not None:
            init_timeout(child, timeout)
            child._bits |= SELF_SETTING
            schedule(child)
        set_extra(child, PARENTS, (self,), True)
        key = add_child(self, child)
        if key is not None:
            (<object>imports.finish_child)(self, child, key)
        if timeout is not None and monotonic() >= load_time_relaxed(&child._deadline):
            (<object>imports.expire)(child)
        return child

    def _fe_add_child(self, child):
        """Add a child, which it does not keep alive. Return None, or the child's key if `finish_child()` must be called."""
        return add_child(self, child)

    def _fe_add_callback(self, function, args, kwargs, /):
        """Have *function* called, with the event if *args* is None. Return a `Call`, of the class that attach() had."""
        cdef Imports *imports = here()
        cdef uint64_t sets = 0
        if not is_plain_function(function):
            (<object>imports.check_callback)(function)
        call = new_call(imports, self, function, args, kwargs)
        arrive(imports)
        register(self, CALLBACKS, call, call, &sets)
        if is_set_since(self, sets):
            try:
                (<object>imports.call_now)(self, call, call)
            except BaseException:  # from a signal handler: the caller gets nothing
                call.remove()
                raise
        return call

    def _fe_add_waker(self, waker):
        """Add a waker. Return the event's count of sets at that moment."""
        cdef uint64_t sets = 0
        arrive(here())
        register(self, WAKERS, waker, None, &sets)
        return sets

    def _fe_set_since(self, uint64_t sets):
        """Return whether the event is set, or has been set since its count of sets was *sets*."""
        return is_set_since(self, sets)

    def _fe_read(self):
        """Return how often the event was set, whether it is, and the reason, all of one moment."""
        cdef uint64_t sets
        cdef bint is_set
        lock(self)
        sets = self._sets
        is_set = load_pointer_acquire(&self._flag) == PY_TRUE
        reason = unlock_and_take_reason(self)
        return named_tuple(here().State, (sets, is_set, reason))

    def _fe_period(self):
        """Return the timeout in seconds or None, and the start and the deadline in nanoseconds, all of one moment."""
        lock(self)
        cdef double seconds = self._seconds
        cdef int64_t start = self._start
        cdef int64_t deadline = self._deadline
        unlock_mutex(&self._mutex)
        return named_tuple(here().Period, (None if seconds == NO_TIMEOUT else seconds, start, deadline))

    def _fe_start_at(self, double seconds, int64_t start, /):
        """Give a new event its timeout, which started at *start*, in nanoseconds."""
        lock(self)
        self._seconds = seconds
        self._start = start
        store_time_relaxed(&self._deadline, deadline_after(start, seconds))
        unlock_mutex(&self._mutex)

    def _fe_deadline(self):
        """Return the deadline in nanoseconds, or `NEVER`."""
        return load_time_relaxed(&self._deadline)

    def _fe_waiters(self):
        """Return the idents of the threads in `wait()`."""
        cdef unsigned long *idents = NULL
        cdef Py_ssize_t room = 0, count = 0
        try:
            while True:
                count = copy_idents(self, idents, room)
                if count <= room:
                    found = []  # no list comprehension: Cython 3.3.1 drops an item twice if the list cannot grow
                    for i in range(count):
                        found.append(idents[i])
                    return found
                room = 2 * count
                PyMem_RawFree(idents)
                idents = <unsigned long *>PyMem_RawMalloc(room * sizeof(unsigned long))
                if idents == NULL:
                    raise MemoryError
        finally:
            PyMem_RawFree(idents)

    @property
    def _fe_self_setting(self):
        return bool(load_bits_acquire(&self._bits) & SELF_SETTING)

    @_fe_self_setting.setter
    def _fe_self_setting(self, bint value):
        change_bit(self, SELF_SETTING, value)

    @property
    def _fe_clear_wakes(self):
        return bool(load_bits_acquire(&self._bits) & CLEAR_WAKES)

    @_fe_clear_wakes.setter
    def _fe_clear_wakes(self, bint value):
        change_bit(self, CLEAR_WAKES, value)

    @property
    def _fe_children(self):
        return get_extra(self, CHILDREN, <object>here().NO_SUBSCRIBERS)

    @property
    def _fe_callbacks(self):
        return get_extra(self, CALLBACKS, <object>here().NO_SUBSCRIBERS)

    @property
    def _fe_wakers(self):
        return get_extra(self, WAKERS, <object>here().NO_SUBSCRIBERS)

    @property
    def _fe_parents(self):
        return get_extra(self, PARENTS, PyTuple_New(0))

    @_fe_parents.setter
    def _fe_parents(self, tuple parents):
        set_extra(self, PARENTS, parents, True)

    @property
    def _fe_name(self):
        return get_extra(self, NAME, None)

    @_fe_name.setter
    def _fe_name(self, name):
        set_extra(self, NAME, name, True)

    @property
    def _fe_has_options(self):
        return bool(load_bits_acquire(&self._bits) & HAS_OPTIONS)

    @_fe_has_options.setter
    def _fe_has_options(self, bint value):
        change_bit(self, HAS_OPTIONS, value)

    def _at_fork_reinit(self):
        """Forget the threads that waited when this process was forked; `threading` calls it in the child."""
        lock(self)
        unlock_mutex(&self._mutex)


cdef object set_event(EventCore self, PyObject *reason):
    if not try_set_alone(self, reason) and not try_set_and_call(self, reason):
        (<object>here().set_and_notify)(self, <object>reason)


cdef class Call:
    """A call of a function, which is made when an event is set. See `Registration`, which is made of it."""

    cdef object __weakref__
    cdef object _event       # a weak reference
    cdef object _function
    cdef object _args        # None: the function is called with the event
    cdef object _kwargs
    cdef PyObject *_token    # what a thread that waits for the end of the call rests on, or NULL; owned; written once
    cdef uint64_t _thread    # that makes the call: its ident, NOBODY or REMOVED; written once
    cdef uint64_t _ident     # of the green thread, which only the same thread reads
    cdef int64_t _forks      # written before `_thread`, by each thread that would make the call: all write the same
    cdef int64_t _pid        # likewise
    cdef uint32_t _over      # whether the call has ended

    def __call__(self, event):
        # Call the function, unless that has been done or it was removed. Of a special method with a docstring, Cython keeps a
        # reference that it never releases: an interpreter that ends would leave all its memory behind.
        make_call(self, event)

    def remove(self):
        """Take the function back. Return True if it has not been called and will not be, False if the call has begun.

        Thread safety: safe on shared objects. It never waits: a call that has begun goes on.
        """
        if not write_caller(&self._thread, REMOVED):
            return load_caller(&self._thread) == REMOVED
        event = self._event()
        if event is not None:
            forget_call(<EventCore>event, self)
        return True

    @property
    def is_pending(self):
        """Whether the call has not begun, and may still come."""
        return load_caller(&self._thread) == NOBODY

    @property
    def _called(self):
        return self._function

    def _caller(self):
        """Return which green thread and which thread make the call, or have made it; None if there is none."""
        cdef uint64_t thread = load_caller(&self._thread)
        if thread == NOBODY or thread == REMOVED:
            return None
        mine = thread == PyThread_get_thread_ident()
        return self._ident if mine else None, (thread, load_time_relaxed(&self._forks), load_time_relaxed(&self._pid))

    def _put_token(self, token):
        """Have a *token* woken at the end of the call, unless there is one. Return the one that is."""
        Py_INCREF(token)
        if write_token(&self._token, <PyObject *>token):
            return token
        Py_DECREF(token)
        return <object>load_token(&self._token)

    def _is_over(self):
        """Return whether the call has ended."""
        return load_over(&self._over) != 0

    def __dealloc__(self):
        Py_XDECREF(self._token)


cdef Call new_call(Imports *imports, EventCore event, object function, object args, object kwargs):
    cls, nothing = <PyTypeObject *>imports.call_class, PyTuple_New(0)
    call = <Call>cls.tp_new(cls, <PyObject *>nothing, NULL)
    call._event = PyWeakref_NewRef(event, NULL)
    call._function = function
    call._args = args
    call._kwargs = kwargs
    return call


cdef int make_call(Call self, object event) except -1:
    cdef Imports *imports = here()
    if not PyObject_TypeCheck(event, <PyTypeObject *>imports.core_class):
        raise TypeError(f"a callback is called with an event, not {event!r}")
    if load_caller(&self._thread) != NOBODY:
        return 0
    store_time_relaxed(&self._forks, PyList_GET_SIZE(<object>imports.survivors))
    store_time_relaxed(&self._pid, this_pid)
    ident = PyThread_get_thread_ident() if imports.get_ident == NULL else <uint64_t>(<object>imports.get_ident)()
    if not write_caller(&self._thread, PyThread_get_thread_ident()):
        return 0
    self._ident = ident
    global calls_of_thread
    calls_of_thread += 1
    try:
        if self._args is None or self._kwargs is None:
            self._function(event)
        else:
            self._function(*self._args, **self._kwargs)
    finally:
        calls_of_thread -= 1
        forget_call(<EventCore>event, self)
        store_over(&self._over)
        if load_token(&self._token) != NULL:
            wake_token(self)
    return 0


cdef int forget_call(EventCore event, Call call) except -1:
    callbacks = get_extra(event, CALLBACKS, None)
    if callbacks is not None:
        (<dict>callbacks).pop(call, None)
    return 0


cdef int wake_token(Call self) except -1:
    token = <object>load_token(&self._token)
    try:
        token.wake()
    except BaseException:  # from a signal handler: a thread would wait for ever
        token.wake()
        raise
    return 0


cdef bint try_set_and_call(EventCore self, PyObject *reason) except -1:
    """Do what `set_and_notify()` does for an event that has callbacks, and no children nor wakers. Return whether that is so."""
    cdef Imports *imports = here()
    cdef uint64_t sets
    cdef bint only_callbacks
    cdef Py_ssize_t called = 0
    cdef PyObject *listed
    cdef tuple found
    cdef object function = None
    cdef object error = None
    need_stack()
    enter_call()  # nothing below raises anything up to leave_call()
    lock(self)
    only_callbacks = has_only_callbacks(<Extras *>self._extras)
    if only_callbacks:
        set_flag(self, reason)
    sets = self._sets
    unlock_mutex(&self._mutex)
    callbacks = <dict>get_extra(self, CALLBACKS, <object>imports.NO_SUBSCRIBERS)
    listed = PySequence_List(callbacks) if only_callbacks else NULL
    if listed == NULL:
        PyErr_Clear()  # without memory, set_and_notify() makes another attempt
        leave_call()
        return False
    keys = <list>steal(listed)
    while called < PyList_GET_SIZE(keys):
        try:
            while called < PyList_GET_SIZE(keys):
                key = keys[called]
                called += 1
                found = callbacks.get(key)
                if found is not None and <uint64_t>found[1] < sets:
                    function = found[0]
                    if PyObject_TypeCheck(function, <PyTypeObject *>imports.call_class):
                        make_call(<Call>function, self)
                    else:
                        function(self)
        except BaseException as raised:
            if isinstance(raised, Exception) and has_begun(function):
                raised = try_log(self, function)
            error = raised if error is None else error  # sys.exit(), Ctrl-C: raised after the other callbacks
    leave_call()
    if error is not None:
        raise error
    return True


cdef bint has_begun(object function) noexcept:
    """Return whether a callback has begun. If not, the next set() calls it."""
    return not isinstance(function, Call) or load_caller(&(<Call>function)._thread) != NOBODY


cdef object try_log(EventCore self, object function):
    """Log what a callback has raised. Return None, or what a signal handler has raised meanwhile."""
    try:
        (<object>here().log)("the callback %r of %r raised", function, self)
    except BaseException as error:
        return error


cdef object clear_event_flag(EventCore self, PyObject *_):
    if load_bits_acquire(&self._bits) & (SELF_SETTING | CLEAR_WAKES):
        (<object>here().clear_and_notify)(self)
    else:
        reset(self)
        if load_bits_acquire(&self._bits) & CLEAR_WAKES:  # the first fileno() has come in between
            (<object>here().wake_wakers)(self)


cdef object wait_for_event(EventCore self, PyObject *timeout):
    cdef double seconds
    if load_pointer_acquire(&self._flag) == PY_TRUE:
        return True
    if timeout == PY_NONE:
        return wait_until(self, NEVER, True)
    seconds = plain_seconds(<object>timeout)
    if isnan(seconds):
        seconds = (<object>here().wait_seconds)(<object>timeout)
    return seconds > 0 and wait_until(self, deadline_after(monotonic(), seconds), False)


cdef inline int need_stack() except -1:
    """Raise `RecursionError` unless waking subscribers fits: once the event has changed, it would come too late."""
    if stack_left() < 12:
        raise RecursionError("maximum recursion depth exceeded")
    return 0


cdef inline double plain_seconds(object timeout) noexcept:
    """The value of a plain float or int; NaN for all else."""
    cdef int overflow = 0
    cdef long long seconds
    if type(timeout) is float:
        return PyFloat_AS_DOUBLE(timeout)
    if type(timeout) is int:
        seconds = PyLong_AsLongLongAndOverflow(timeout, &overflow)
        if not overflow:
            return <double>seconds
    return NAN


cdef inline bint is_expired(EventCore self) noexcept:
    cdef int64_t deadline = load_time_relaxed(&self._deadline)
    return deadline != NEVER and not surely_before(deadline) and monotonic() >= deadline


cdef inline void lock(EventCore self) noexcept:
    if load_process(&self._process) != this_process:
        forget_other_processes(self)
    lock_mutex(&self._mutex)


cdef inline object unlock_and_take_reason(EventCore self):
    """Unlock the mutex. Return the reason as it was under it."""
    cdef PyObject *reason = self._reason
    Py_XINCREF(reason)
    unlock_mutex(&self._mutex)
    return None if reason == NULL else steal(reason)


cdef inline bint has_extras(EventCore self) noexcept:
    return load_pointer_acquire(&self._extras) != NULL


cdef inline object get_extra(EventCore self, int which, object default):
    cdef PyObject *found
    if not has_extras(self):
        return default
    lock(self)
    found = (<Extras *>self._extras).items[which]
    Py_XINCREF(found)
    unlock_mutex(&self._mutex)
    return default if found == NULL else steal(found)


cdef object set_extra(EventCore self, int which, object item, bint replace):
    """Set an extra; unless *replace*, only if there is none. Return what it is then."""
    cdef Extras *extras = NULL
    cdef PyObject *before
    if not has_extras(self):
        extras = <Extras *>PyMem_RawCalloc(1, sizeof(Extras))
        if extras == NULL:
            raise MemoryError
    lock(self)
    if self._extras == NULL:
        store_pointer_release(&self._extras, <PyObject *>extras)
        extras = NULL
    before = (<Extras *>self._extras).items[which]
    if replace or before == NULL:
        Py_INCREF(item)
        (<Extras *>self._extras).items[which] = <PyObject *>item
    else:
        Py_INCREF(<object>before)
    unlock_mutex(&self._mutex)
    PyMem_RawFree(extras)
    if before == NULL:
        return item
    found = steal(before)  # dropped only now, outside of the mutex
    return item if replace else found


cdef object register(EventCore self, int which, object key, object subscriber, uint64_t *sets):
    """Add a subscriber, with the event's count of sets, which *sets* receives. Return the dict that has it."""
    lock(self)
    sets[0] = self._sets
    unlock_mutex(&self._mutex)
    subscribers = get_extra(self, which, None)
    if subscribers is None:
        subscribers = set_extra(self, which, (<object>here().Children)() if which == CHILDREN else {}, False)
    PyDict_SetItem(subscribers, key, (subscriber, sets[0]))
    return subscribers


cdef object add_child(EventCore self, object child):
    """Do what `_fe_add_child()` does."""
    cdef uint64_t sets = 0
    key = new_key()
    children = register(self, CHILDREN, key, PyWeakref_NewRef(child, NULL), &sets)
    # One in 64 looks whether there are many that are dead.
    return key if is_set_since(self, sets) or PyDict_Size(children) % 64 == 0 else None


cdef inline bint is_set_since(EventCore self, uint64_t sets) noexcept:
    cdef bint is_set
    lock(self)
    is_set = load_pointer_acquire(&self._flag) == PY_TRUE or self._sets != sets
    unlock_mutex(&self._mutex)
    return is_set


cdef inline object steal(PyObject *owned):
    """Return an owned reference as an object."""
    item = <object>owned
    Py_DECREF(item)
    return item


cdef void change_bit(EventCore self, uint8_t bit, bint value) noexcept:
    lock(self)
    store_bits_release(&self._bits, self._bits | bit if value else self._bits & ~bit)
    unlock_mutex(&self._mutex)


cdef inline bint try_set_alone(EventCore self, PyObject *reason) noexcept:
    """Set an event that has no subscribers. Return whether it has none."""
    cdef bint alone
    lock(self)
    alone = not has_subscribers(<Extras *>self._extras)
    if alone:
        set_flag(self, reason)
    unlock_mutex(&self._mutex)
    return alone


cdef inline void set_flag(EventCore self, PyObject *reason) noexcept:
    if load_pointer_acquire(&self._flag) != PY_TRUE:
        if reason != PY_NONE:  # there is none while the flag is unset
            Py_INCREF(<object>reason)
            self._reason = reason
        self._sets += 1
        store_pointer_release(&self._flag, PY_TRUE)
    if self._waiters != NULL:
        wake_pending(self, WINDOW)


cdef inline void reset(EventCore self) noexcept:
    """Clear the flag and restart the timeout."""
    lock(self)
    cdef PyObject *reason = begin_period(self)
    unlock_mutex(&self._mutex)
    Py_XDECREF(reason)


cdef inline PyObject *begin_period(EventCore self) noexcept:
    """Clear the flag and restart the timeout. Return the reason or NULL, to be dropped outside of the mutex."""
    cdef PyObject *reason = self._reason
    self._reason = NULL
    if self._seconds != NO_TIMEOUT:
        self._start = monotonic()
        store_time_relaxed(&self._deadline, deadline_after(self._start, self._seconds))
    else:
        store_time_relaxed(&self._deadline, NEVER)
    store_pointer_release(&self._flag, PY_FALSE)
    return reason


# The wait queue


cdef inline void enqueue(EventCore self, Waiter *waiter) noexcept:
    cdef Waiter *first = self._waiters
    if first == NULL:
        waiter.previous = waiter.next = self._waiters = waiter
    else:
        waiter.previous = first.previous
        waiter.next = first
        first.previous.next = first.previous = waiter
    waiter.queued = True


cdef inline void dequeue(EventCore self, Waiter *waiter) noexcept:
    if waiter.next == waiter:
        self._waiters = NULL
    else:
        waiter.previous.next = waiter.next
        waiter.next.previous = waiter.previous
        if self._waiters == waiter:
            self._waiters = waiter.next
    waiter.queued = False


cdef inline void release(Waiter *waiter) noexcept:
    if not waiter.released:  # a lock that is free must not be released
        waiter.released = True
        PyThread_release_lock(waiter.lock)


cdef void wake_pending(EventCore self, int count) noexcept:
    """Wake the first *count* pending waiters."""
    cdef Waiter *waiter
    while count > 0 and self._waiters != NULL and self._waiters.sets != self._sets:
        waiter = self._waiters
        dequeue(self, waiter)
        release(waiter)
        count -= 1


cdef void wake_for_deadline(EventCore self) noexcept:
    """Wake all waiters, and leave them in the queue: each looks at the deadline again."""
    cdef Waiter *waiter = self._waiters
    while waiter != NULL:
        release(waiter)
        waiter = NULL if waiter.next == self._waiters else waiter.next


cdef Py_ssize_t copy_idents(EventCore self, unsigned long *idents, Py_ssize_t room) noexcept:
    """Copy the idents of the waiting threads, as far as there is room. Return how many there are."""
    cdef Py_ssize_t count = 0
    cdef Waiter *waiter
    lock(self)
    waiter = self._waiters
    while waiter != NULL:
        if count < room:
            idents[count] = waiter.thread
        count += 1
        waiter = NULL if waiter.next == self._waiters else waiter.next
    unlock_mutex(&self._mutex)
    return count


cdef void forget_other_processes(EventCore self) noexcept:
    cdef Waiter *waiter
    cdef Waiter *survivors = NULL
    lock_mutex(&module_mutex)
    if load_process(&self._process) != this_process:
        # A signal handler may have forked during wait(), which may itself be nested in a wait(). That thread goes on waiting here,
        # unless it is pending, because the thread that would have woken it does not exist here.
        while self._waiters != NULL:
            waiter = self._waiters
            dequeue(self, waiter)
            if waiter.process == this_process:
                waiter.next = survivors
                survivors = waiter
        while survivors != NULL:
            waiter = survivors
            survivors = waiter.next
            if waiter.sets == self._sets:
                enqueue(self, waiter)
            else:
                release(waiter)
        reset_mutex(&self._mutex)
        store_process(&self._process, this_process)
    unlock_mutex(&module_mutex)


cdef bint wait_until(EventCore self, int64_t deadline, bint until_timeout) except -1:
    """Wait for a set() until *deadline*, and *until_timeout* until the event's own, too. Return whether there was one."""
    cdef PyLockStatus status
    cdef int64_t own, now, end, left, longest
    cdef Imports *imports = here()
    cdef bint self_setting, was_set
    cdef Waiter *waiter = <Waiter *>PyMem_RawMalloc(sizeof(Waiter))
    if waiter == NULL:
        raise MemoryError
    waiter.lock = PyThread_allocate_lock()
    if waiter.lock == NULL:
        PyMem_RawFree(waiter)
        raise MemoryError
    PyThread_acquire_lock(waiter.lock, False)
    waiter.thread = PyThread_get_thread_ident()
    waiter.process = this_process
    waiter.queued = waiter.released = False

    lock(self)
    was_set = load_pointer_acquire(&self._flag) == PY_TRUE
    if not was_set:
        waiter.sets = self._sets
        enqueue(self, waiter)
        enter_wait(waiter)
    unlock_mutex(&self._mutex)
    if was_set:
        PyThread_free_lock(waiter.lock)
        PyMem_RawFree(waiter)
        return True
    try:
        while not is_woken(self, waiter):
            arrive(imports)  # in a process that was forked in C, the helpers set what a wait is for
            longest = (<object>imports.begin_wait)()  # each time: the clock may be frozen meanwhile, or run again
            own = load_time_relaxed(&self._deadline)  # clear() and restart_timeout() move it
            self_setting = load_bits_acquire(&self._bits) & SELF_SETTING
            now = monotonic()
            if self_setting and now >= own:
                (<object>imports.expire)(self)
                continue
            end = min(deadline, own) if until_timeout or self_setting else deadline
            left = longest if end == NEVER else min(end - now, longest)
            if left <= 0:
                break
            if end == NEVER and left == longest_wait:
                left = -1  # a lock without a timeout needs no timer
            with nogil:
                status = PyThread_acquire_lock_timed(waiter.lock, -1 if left == -1 else (left + 999) // 1000, True)
            if status == PY_LOCK_ACQUIRED:
                take_again(self, waiter)
            else:
                PyErr_CheckSignals()
    finally:
        lock(self)
        was_set = not waiter.queued or waiter.sets != self._sets
        if waiter.queued:
            dequeue(self, waiter)
        else:
            wake_pending(self, 1)  # it was woken: it hands its place on
        leave_wait(waiter)
        unlock_mutex(&self._mutex)
        PyThread_free_lock(waiter.lock)
        PyMem_RawFree(waiter)
    return was_set


cdef inline bint is_woken(EventCore self, Waiter *waiter) noexcept:
    cdef bint woken
    lock(self)  # after a fork in a signal handler, this itself wakes a pending waiter: see forget_other_processes()
    woken = not waiter.queued or waiter.sets != self._sets
    unlock_mutex(&self._mutex)
    return woken


cdef inline void take_again(EventCore self, Waiter *waiter) noexcept:
    lock(self)
    waiter.released = False
    unlock_mutex(&self._mutex)


# The type
#
# Cython makes it. adapt_type(), attach() and attach_polls() change it, each for a reason that a test or `make instructions` shows:
#
# - new_event(): an event works without __init__(). (test_object: new_without_init_works)
# - init_core(): a subclass is made in four fifths of the time.
# - visit_event(), clear_event(): EventCore itself takes no part in the collection of garbage, which is a fifth of an event's
#   creation; Event does. (test_object: cycles_are_collected)
# - drop_event(): events may refer to each other in a chain of any length. (test_memory: a_long_chain_of_reasons_is_dropped)
# - set(), clear(), wait(): `Method`, which binds as a function does. (test_object: methods_are_like_functions)
# - make_event(): creation needs no tuple and no dict of arguments.
# - attach_polls(): a poll takes half the time.


cdef inline object named_tuple(PyObject *cls, tuple items):
    """What `cls._make(items)` returns, in a third of the time."""
    arguments = (items,)
    return (<PyTypeObject *>tuple).tp_new(<PyTypeObject *>cls, <PyObject *>arguments, NULL)


cdef object new_event(PyTypeObject *cls, PyObject *args, PyObject *kwargs):
    self = <EventCore>allocate(cls)
    self._flag = PY_FALSE
    self._deadline = NEVER
    self._seconds = NO_TIMEOUT
    self._process = this_process
    return self


cdef inline int init_timeout(EventCore self, object timeout) except -1:
    cdef double seconds
    cdef PyObject *reason
    if timeout is None:
        if not load_known_acquire(&implicit_known):
            seconds = ask_for_implicit_seconds()
        else:
            seconds = implicit_seconds
    else:
        seconds = plain_seconds(timeout)
        if not seconds >= 0:
            seconds = (<object>here().event_seconds)(timeout)
    lock(self)
    self._seconds = seconds
    reason = begin_period(self)
    unlock_mutex(&self._mutex)
    Py_XDECREF(reason)
    return 0


cdef inline bint is_empty_tuple(object items) noexcept:
    return type(items) is tuple and PyTuple_GET_SIZE(items) == 0


cdef int init_event(EventCore self, object timeout, object parents, object set_on_timeout, object name) except -1:
    init_timeout(self, timeout)
    if not is_empty_tuple(parents) or name is not None or load_bits_acquire(&self._bits) & (HAS_OPTIONS | CLEAR_WAKES):
        take_options(self, parents, set_on_timeout, name)
    elif set_on_timeout:
        change_bit(self, HAS_OPTIONS | SELF_SETTING, True)
        schedule(self)
        if is_expired(self):
            (<object>here().expire)(self)
    return 0


cdef inline int arrive(Imports *imports) except -1:
    """Do what `generation()` does: after a fork, what that has left to do."""
    cdef uint32_t process = this_process
    if load_process(&imports.process) != process and (<object>imports.arrive)():
        store_process(&imports.process, process)
    return 0


cdef int schedule(EventCore self) except -1:
    """Do what `schedule()` and `Schedule.add()` do, for an event that is self-setting."""
    cdef Imports *imports = here()
    cdef int64_t time = load_time_relaxed(&self._deadline)
    if time != NEVER:
        arrive(imports)
        deadline, unread = time, <object>imports.unread
        unread.append((deadline, <object>imports.fire, PyWeakref_NewRef(self, NULL)))
        until = (<dict>imports.asleep).setdefault("until", <object>imports.awake)
        if deadline < until or len(unread) % 1000 == 0:
            (<object>imports.look)()
    return 0


cdef int take_options(EventCore self, object parents, object set_on_timeout, object name) except -1:
    cdef Imports *imports = here()
    (<object>imports.take_options)(self, <object>imports.core_class, parents, set_on_timeout, name)
    return 0


cdef int init_core(EventCore self, PyObject *arguments, PyObject *keywords) except -1:
    """The `__init__` of EventCore."""
    cdef Py_ssize_t count = PyTuple_GET_SIZE(<object>arguments)
    if keywords != NULL or count > 1:
        return cython_init(self, arguments, keywords)
    init_timeout(self, <object>PyTuple_GET_ITEM(<object>arguments, 0) if count else None)
    if load_bits_acquire(&self._bits) & (HAS_OPTIONS | CLEAR_WAKES):
        take_options(self, PyTuple_New(0), False, None)
    return 0


cdef object make_event(PyTypeObject *cls, PyObject **args, size_t nargsf, PyObject *names):
    """Call the class that attach() had, without the tuple and the dict that `type.__call__` makes."""
    cdef Py_ssize_t count = PyVectorcall_NARGS(nargsf)
    cdef Py_ssize_t named = 0 if names == NULL else PyTuple_GET_SIZE(<object>names)
    if count + named <= 1 and cls.tp_new == new_event and cls.tp_init == core_init:
        if named == 0 or PyUnicode_CompareWithASCIIString(<object>PyTuple_GET_ITEM(<object>names, 0), "timeout") == 0:
            self = <EventCore>new_event(cls, NULL, NULL)
            init_timeout(self, None if count + named == 0 else <object>args[0])
            return self
    return make_event_with_options(cls, args, count, named, names)


cdef object make_event_with_options(PyTypeObject *cls, PyObject **args, Py_ssize_t count, Py_ssize_t named, PyObject *names):
    cdef PyObject *timeout = args[0] if count else PY_NONE
    cdef PyObject *parents = NULL
    cdef PyObject *set_on_timeout = PY_FALSE
    cdef PyObject *name = PY_NONE
    cdef bint known = count <= 1 and cls.tp_new == new_event and cls.tp_init == core_init
    cdef Py_ssize_t i
    for i in range(named if known else 0):
        keyword = <object>PyTuple_GET_ITEM(<object>names, i)
        if PyUnicode_CompareWithASCIIString(keyword, "parents") == 0:
            parents = args[count + i]
        elif PyUnicode_CompareWithASCIIString(keyword, "set_on_timeout") == 0:
            set_on_timeout = args[count + i]
        elif PyUnicode_CompareWithASCIIString(keyword, "name") == 0:
            name = args[count + i]
        elif PyUnicode_CompareWithASCIIString(keyword, "timeout") == 0 and count == 0:
            timeout = args[i]
        else:
            known = False
    if known:
        self = <EventCore>new_event(cls, NULL, NULL)
        init_event(self, <object>timeout, PyTuple_New(0) if parents == NULL else <object>parents, <object>set_on_timeout, <object>name)
        return self
    # __new__ or __init__ was replaced, or the arguments are wrong.
    positional, keywords = [], {}
    for i in range(count):
        positional.append(<object>args[i])
    for i in range(named):
        keywords[<object>PyTuple_GET_ITEM(<object>names, i)] = <object>args[count + i]
    return type.__call__(<object>cls, *positional, **keywords)


cdef double ask_for_implicit_seconds() except? 0:
    global implicit_seconds
    timeout = (<object>here().implicit_timeout)()
    cdef double seconds = NO_TIMEOUT if timeout is None else timeout
    if claim(&implicit_claimed):  # the first one of all interpreters decides
        implicit_seconds = seconds
        store_known_release(&implicit_known, True)
    return seconds


def in_callback():
    """Return whether the calling thread makes a `Call`."""
    return calls_of_thread > 0


def freeze(int64_t now):
    """Have the clock stand still at *now*, in nanoseconds."""
    (<object>here().clock).freeze(now)
    freeze_clock(now)


def unfreeze():
    """Have the clock run again."""
    (<object>here().clock).run()
    run_clock()


def attach_polls(type cls not None):
    """Make the polls of *cls* as short as they can be.

    The interpreter's specialised calls want a method descriptor's type to be exactly the object's: an inherited one costs
    twice as much. Classes derived from *cls* inherit as usual.
    """
    if not issubclass(cls, EventCore):
        raise TypeError(f"{cls!r} is not derived from EventCore")
    for name in ("is_set", "check_timeout", "check"):
        setattr(cls, name, PyDescr_NewMethod(cls, definition_of(EventCore.__dict__[name])))
    cls.flag = PyDescr_NewMember(cls, &flag_member)


def attach(type cls not None, type call not None, /):
    """Make the polls and the creation of *cls* as short as they can be.

    Have `child()` make events of it, and `_fe_add_callback()` calls of that other class.
    """
    if (<PyTypeObject *>call).tp_new != (<PyTypeObject *>Call).tp_new:
        raise TypeError(f"{call!r} is not derived from Call, or has a __new__() of its own")
    attach_polls(cls)
    keep(&here().call_class, call)
    for name in ("set", "clear", "wait"):
        expect(EventCore.__dict__[name], cls)
    keep(&here().event_class, cls)
    (<PyTypeObject *>cls).tp_vectorcall = <vectorcallfunc>make_event


cdef int import_all() except -1:
    global longest_wait, this_pid
    cdef Imports *imports = find_imports(True)
    events = _timers.timers.events
    longest_wait = _time.LONGEST_WAIT
    this_pid = _process.getpid()
    keep(&imports.Children, _notify.Children)
    keep(&imports.NO_SUBSCRIBERS, _notify.NO_SUBSCRIBERS)
    keep(&imports.Period, _time.Period)
    keep(&imports.State, _notify.State)
    keep(&imports.arrive, _process.arrive)
    keep(&imports.asleep, events.asleep)
    keep(&imports.awake, _timers.AWAKE)
    keep(&imports.begin_wait, _time.begin_wait)
    keep(&imports.call_now, _notify.call_now)
    keep(&imports.check_callback, _call.check_callback)
    keep(&imports.check_name, _options.check_name)
    keep(&imports.clear_and_notify, _notify.clear_and_notify)
    keep(&imports.clock, _time.clock)
    keep(&imports.ended_error, _errors.ended_error)
    keep(&imports.event_seconds, _time.event_seconds)
    keep(&imports.expire, _notify.expire)
    keep(&imports.finish_child, _notify.finish_child)
    keep(&imports.fire, _notify.fire)
    if _call.get_ident is not _process.native.get_ident:  # green threads
        keep(&imports.get_ident, _call.get_ident)
    keep(&imports.implicit_timeout, _config.implicit_timeout)
    keep(&imports.log, _process.log)
    keep(&imports.look, _timers.timers.look)
    keep(&imports.set_and_notify, _notify.set_and_notify)
    keep(&imports.survivors, _process.survivors)
    keep(&imports.take_options, _options.take_options)
    keep(&imports.unread, events.unread)
    keep(&imports.wait_seconds, _time.wait_seconds)
    keep(&imports.wake_wakers, _notify.wake_wakers)
    keep(&imports.core_class, EventCore)
    keep(&imports.call_class, Call)
    return 0


cdef int adapt_type() except -1:
    """Put our own functions into the slots of EventCore."""
    cdef EventCore probe = EventCore.__new__(EventCore)
    cdef PyTypeObject *core = <PyTypeObject *>EventCore
    global reason_offset, extras_offset, waiters_offset
    reason_offset = <char *>&probe._reason - <char *><PyObject *>probe
    extras_offset = <char *>&probe._extras - <char *><PyObject *>probe
    waiters_offset = <char *>&probe._waiters - <char *><PyObject *>probe
    flag_member.offset = <char *>&probe._flag - <char *><PyObject *>probe
    core.tp_new = new_event
    core.tp_traverse = visit_event
    core.tp_clear = clear_event
    core.tp_dealloc = drop_event
    put_init(core, <void *>init_core)
    method_type = PyType_FromSpec(&method_spec)
    put_before(core, "set", <void *>set_event, "reason", method_type)
    put_before(core, "clear", <void *>clear_event_flag, None, method_type)
    put_before(core, "wait", <void *>wait_for_event, "timeout", method_type)
    return 0


watch_end()
add_last()
import_all()
adapt_type()
if claim(&process_begun):
    run_clock()
    watch_forks()
let_module_go(sys.modules[__name__])

/* What the compiled core takes from C: clocks, atomic access, the mutex, waiters and forks. `_core_c_objects.h` has its objects.

   Static variables are of the process, for all interpreters in it, each of which may have a GIL of its own. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>
#include <time.h>

#define NEVER INT64_MAX    /* the deadline of an event that never times out */
#define NO_TIMEOUT (-1.0)  /* the seconds of an event without a timeout */

enum {
    HAS_OPTIONS = 1,   /* take_options() was called */
    SELF_SETTING = 2,  /* set at its deadline */
    CLEAR_WAKES = 4,   /* a clear() must call wakers */
};

#ifdef _MSC_VER
#include <intrin.h>
#define THREAD_LOCAL __declspec(thread)
#else
#define THREAD_LOCAL __thread
#endif

/* The clock of time.monotonic(), in nanoseconds; or the time at which a test has frozen it, if that is not zero. */
static volatile int64_t frozen_at;
static inline int64_t monotonic(void) {
    int64_t frozen = frozen_at;
    if (frozen) return frozen;
#if PY_VERSION_HEX >= 0x030D0000
    PyTime_t now;
    (void)PyTime_MonotonicRaw(&now);
    return now;
#else
    return _PyTime_GetMonotonicClock();
#endif
}

/* A clock that never runs ahead of it and costs a fifth. Linux updates it at every tick, so it lags by a tick or two. With four
   ticks to go or fewer, the precise clock decides, and always while it is frozen. */
#if defined(__linux__) && defined(CLOCK_MONOTONIC_COARSE)
static int64_t coarse_margin = INT64_MAX;
static void freeze_clock(int64_t now) {
    coarse_margin = INT64_MAX;
    frozen_at = now;
}
static void run_clock(void) {
    struct timespec tick;
    frozen_at = 0;
    if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) == 0)
        coarse_margin = 4 * (tick.tv_sec * 1000000000LL + tick.tv_nsec);
}
static inline int surely_before(int64_t deadline) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec < deadline - coarse_margin;
}
#else
static void freeze_clock(int64_t now) { frozen_at = now; }
static void run_clock(void) { frozen_at = 0; }
static inline int surely_before(int64_t deadline) { (void)deadline; return 0; }
#endif

static inline int64_t deadline_after(int64_t start, double seconds) {
    volatile double nanoseconds = seconds * 1e9;  /* rounded to a double even where registers are wider */
    nanoseconds = ceil(nanoseconds);
    return nanoseconds < (double)(NEVER - start) ? start + (int64_t)nanoseconds : NEVER;
}

/* The longest time that a lock can be waited for, in nanoseconds: `_time.LONGEST_WAIT`. */
static int64_t longest_wait;

/* How many waiters a set() wakes, because all of them would only compete: for the GIL, or for the event's mutex. Measured: fewer
   are slower beside a thread that computes, more are slower if all are idle. */
#define WINDOW 64

/* Shared fields and the mutex. With the GIL, it orders every access, and it is the mutex. */
#ifdef Py_GIL_DISABLED
typedef PyMutex Mutex;
#define load_pointer_acquire(pointer) _Py_atomic_load_ptr_acquire(pointer)
#define store_pointer_release(pointer, value) _Py_atomic_store_ptr_release(pointer, value)
#define load_time_relaxed(pointer) _Py_atomic_load_int64_relaxed(pointer)
#define store_time_relaxed(pointer, value) _Py_atomic_store_int64_relaxed(pointer, value)
#define load_process(pointer) _Py_atomic_load_uint32(pointer)
#define store_process(pointer, value) _Py_atomic_store_uint32(pointer, value)
#define load_bits_acquire(pointer) _Py_atomic_load_uint8(pointer)
#define store_bits_release(pointer, value) _Py_atomic_store_uint8(pointer, value)
#define lock_mutex(mutex) PyMutex_Lock(mutex)
#define unlock_mutex(mutex) PyMutex_Unlock(mutex)
#define reset_mutex(mutex) memset(mutex, 0, sizeof(Mutex))
#else
typedef struct { char unused; } Mutex;
#define load_pointer_acquire(pointer) (*(pointer))
#define store_pointer_release(pointer, value) (*(pointer) = (value))
#define load_time_relaxed(pointer) (*(pointer))
#define store_time_relaxed(pointer, value) (*(pointer) = (value))
#define load_process(pointer) (*(pointer))
#define store_process(pointer, value) (*(pointer) = (value))
#define load_bits_acquire(pointer) (*(pointer))
#define store_bits_release(pointer, value) (*(pointer) = (value))
#define lock_mutex(mutex) ((void)(mutex))
#define unlock_mutex(mutex) ((void)(mutex))
#define reset_mutex(mutex) ((void)(mutex))
#endif

/* The thread that makes a call: its ident, or one of these. */
#define NOBODY 0
#define REMOVED 1

/* Of a call, each of `caller` and `token` is written once: by the thread for which these return true. */
#ifdef Py_GIL_DISABLED
#define load_caller(place) _Py_atomic_load_uint64(place)
#define load_over(place) _Py_atomic_load_uint32(place)
#define store_over(place) _Py_atomic_store_uint32(place, 1)
#define load_token(place) _Py_atomic_load_ptr(place)
static inline int write_caller(uint64_t *place, uint64_t caller) {
    uint64_t nobody = NOBODY;
    return _Py_atomic_compare_exchange_uint64(place, &nobody, caller);
}
static inline int write_token(PyObject **place, PyObject *token) {
    PyObject *nothing = NULL;
    return _Py_atomic_compare_exchange_ptr(place, &nothing, token);
}
#else
#define load_caller(place) (*(place))
#define load_over(place) (*(place))
#define store_over(place) (*(place) = 1)
#define load_token(place) (*(place))
static inline int write_caller(uint64_t *place, uint64_t caller) {
    if (*place != NOBODY) return 0;
    *place = caller;
    return 1;
}
static inline int write_token(PyObject **place, PyObject *token) {
    if (*place != NULL) return 0;
    *place = token;
    return 1;
}
#endif

/* What interpreters share, each under a GIL of its own. A volatile access is as strong with this compiler. */
#ifdef _MSC_VER
#define load_known_acquire(pointer) (*(volatile uint32_t *)(pointer))
#define store_known_release(pointer, value) (*(volatile uint32_t *)(pointer) = (value))
#else
#define load_known_acquire(pointer) __atomic_load_n(pointer, __ATOMIC_ACQUIRE)
#define store_known_release(pointer, value) __atomic_store_n(pointer, value, __ATOMIC_RELEASE)
#endif

/* How many more calls of Python functions fit into each other. */
static inline int stack_left(void) {
    PyThreadState *thread = PyThreadState_Get();
#if PY_VERSION_HEX >= 0x030E0000
    return thread->py_recursion_remaining;
#elif PY_VERSION_HEX >= 0x030C0000
    return Py_MIN(thread->py_recursion_remaining, thread->c_recursion_remaining);
#elif PY_VERSION_HEX >= 0x030B0000
    return thread->recursion_remaining;
#else
    return Py_GetRecursionLimit() - thread->recursion_depth;
#endif
}

/* Begin and end what may be nested in itself without a Python function in between: a callback may be the set() of another event.
   After need_stack(), which looks at what is counted here. From 3.14 on, the interpreter does not count such calls, but looks where
   the stack is; it is asked below the room that Python functions need which are still to be called. */
#if PY_VERSION_HEX >= 0x030E0000
static Py_NO_INLINE int enter_call(void) {
    volatile int room[256 * sizeof(void *)];
    room[0] = Py_EnterRecursiveCall(" in set()");
    return room[0] ? -1 : 0;
}
#define leave_call() Py_LeaveRecursiveCall()
#elif PY_VERSION_HEX >= 0x030C0000
static inline int enter_call(void) { PyThreadState_Get()->c_recursion_remaining--; return 0; }
#define leave_call() (PyThreadState_Get()->c_recursion_remaining++)
#elif PY_VERSION_HEX >= 0x030B0000
static inline int enter_call(void) { PyThreadState_Get()->recursion_remaining--; return 0; }
#define leave_call() (PyThreadState_Get()->recursion_remaining++)
#else
static inline int enter_call(void) { PyThreadState_Get()->recursion_depth++; return 0; }
#define leave_call() (PyThreadState_Get()->recursion_depth--)
#endif

/* A thread in wait(). On the heap: until 3.14, a daemon thread that wakes while the interpreter exits is ended where it stands,
   and its stack goes with it, while a finalizer may still call set(). */
typedef struct Waiter {
    struct Waiter *previous;   /* in the event's wait queue, a circular list; under the mutex */
    struct Waiter *next;       /* likewise */
    struct Waiter *outer;      /* the wait() of the same thread that a signal handler interrupted; for that thread */
    PyThread_type_lock lock;   /* held by the waiting thread, until another one wakes it */
    unsigned long thread;      /* its ident; constant */
    uint64_t sets;             /* the event's count of sets as it was queued; constant */
    uint32_t process;          /* in which it waits; written by its thread */
    char queued;               /* whether it is in the queue; under the mutex */
    char released;             /* whether the lock was released and not taken again since; under the mutex */
} Waiter;

/* Which process this is, counted from the one that loaded the module. */
static uint32_t this_process;
static Mutex module_mutex;

/* How many calls the thread is making, each in another. */
static THREAD_LOCAL int calls_of_thread;

static int64_t this_pid;
#ifdef HAVE_FORK
#include <pthread.h>
static THREAD_LOCAL Waiter *waits_of_thread;  /* the innermost one */
static void after_fork_in_child(void) {
    this_process++;
    this_pid = getpid();
    reset_mutex(&module_mutex);
    for (Waiter *waiter = waits_of_thread; waiter != NULL; waiter = waiter->outer)
        waiter->process = this_process;  /* its thread came along */
}
static void watch_forks(void) { (void)pthread_atfork(NULL, NULL, after_fork_in_child); }
static inline void enter_wait(Waiter *waiter) {
    waiter->outer = waits_of_thread;
    waits_of_thread = waiter;
}
static inline void leave_wait(Waiter *waiter) {
    Waiter **place = &waits_of_thread;  /* where greenlets switch inside a signal handler, it need not be the innermost one */
    while (*place != NULL && *place != waiter) place = &(*place)->outer;
    if (*place != NULL) *place = waiter->outer;
}
#else
static void watch_forks(void) {}
#define enter_wait(waiter) ((void)(waiter))
#define leave_wait(waiter) ((void)(waiter))
#endif

/* What one interpreter of the process does for all. Whether the caller is the first one to claim it. */
static inline int claim(uint32_t *place) {
#ifdef _MSC_VER
    return _InterlockedCompareExchange((volatile long *)place, 1, 0) == 0;
#else
    uint32_t unclaimed = 0;
    return __atomic_compare_exchange_n(place, &unclaimed, 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
#endif
}
static uint32_t process_begun;

/* By which number to know an interpreter: no other one of the process ever has it. Python itself numbers them anew when a program
   that embeds it ends and begins it again. */
static uint32_t runtimes_ended, end_watched;
static void end_runtime(void) {
    runtimes_ended++;
    end_watched = 0;
}
static void watch_end(void) { if (claim(&end_watched)) (void)Py_AtExit(end_runtime); }
static inline int64_t number_of(PyInterpreterState *interpreter) {
    return (int64_t)runtimes_ended << 40 | (int64_t)PyInterpreterState_GetID(interpreter);
}

/* Cython numbers them likewise in its table of modules, where it takes the last entry for one that is still there after it was
   removed, and removes another one in its place. So the last entry is of no interpreter, and stays. */
#if CYTHON_USE_MODULE_STATE && CYTHON_HEX_VERSION < 0x03040000
static int __Pyx_State_AddModule(PyObject *, void *);  /* Cython's */
static uint32_t last_claimed;
static THREAD_LOCAL int adds_last;
static int add_last(void) {
    if (!claim(&last_claimed)) return 0;
    adds_last = 1;
    int result = __Pyx_State_AddModule(NULL, NULL);
    adds_last = 0;
    if (result < 0) last_claimed = 0;
    return result;
}
static int64_t number_for_cython(PyInterpreterState *interpreter) { return adds_last ? INT64_MAX : number_of(interpreter); }
#define PyInterpreterState_GetID number_for_cython
#else
#define add_last() 0
#define PyInterpreterState_GetID number_of
#endif

/* The timeout of an event made without one, once it is known. */
static double implicit_seconds;
static uint32_t implicit_known, implicit_claimed;

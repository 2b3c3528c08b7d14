/* Begins and ends Python four times. Each time it has a second interpreter, used by this thread and by a native one that stays. */
#include <Python.h>

#include <pthread.h>
#include <stdio.h>

static const char *script; /* what each interpreter runs */
static PyInterpreterState *second;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int begun, done;

static void run(const char *who) {
    if (PyRun_SimpleString(script)) printf("%s failed in runtime %d\n", who, begun);
}

static void move(int *place) {
    pthread_mutex_lock(&mutex);
    ++*place;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static void await(int *place, int value) {
    pthread_mutex_lock(&mutex);
    while (*place < value) pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
}

static void *stay(void *unused) {
    for (int i = 1; i <= 4; i++) {
        await(&begun, i);
        PyThreadState *thread = PyThreadState_New(second);
        PyEval_RestoreThread(thread);
        run("the native thread");
        PyThreadState_Clear(thread);
        PyThreadState_DeleteCurrent();
        move(&done);
    }
    return unused;
}

int main(int count, char **arguments) {
    pthread_t native;
    script = arguments[1];
    pthread_create(&native, NULL, stay, NULL);
    for (int i = 1; i <= 4; i++) {
        Py_Initialize();
        PyThreadState *first = PyThreadState_Get();
        if (count > 2) run("the first interpreter");
        PyThreadState *thread = Py_NewInterpreter();
        second = thread->interp;
        run("the second interpreter");
        PyEval_SaveThread();
        move(&begun);
        await(&done, i);
        PyEval_RestoreThread(thread);
        Py_EndInterpreter(thread);
        PyThreadState_Swap(first);
        if (Py_FinalizeEx()) printf("runtime %d has not ended well\n", i);
    }
    pthread_join(native, NULL);
    return 0;
}

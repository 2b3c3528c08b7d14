/* Serves requests of three applications, each in an interpreter of its own, from threads of its own, as web servers do. */
#include <Python.h>

#include <pthread.h>
#include <stdio.h>

enum { APPLICATIONS = 3, THREADS = 4, REQUESTS = 60 };
static PyThreadState *applications[APPLICATIONS];

static void run(const char *script) {
    if (PyRun_SimpleString(script)) printf("failed: %.40s\n", script);
}

static void *serve(void *first) {
    for (int i = 0; i < REQUESTS; i++) {
        PyThreadState *thread = PyThreadState_New(applications[((size_t)first + i) % APPLICATIONS]->interp);
        PyEval_RestoreThread(thread);
        run("serve()");
        PyThreadState_Clear(thread);
        PyThreadState_DeleteCurrent();
    }
    return NULL;
}

int main(int count, char **arguments) {
    pthread_t threads[THREADS];
    (void)count;
    Py_Initialize();
    PyThreadState *main_thread = PyThreadState_Get();
    for (int i = 0; i < APPLICATIONS; i++) {
        applications[i] = Py_NewInterpreter();
        run(arguments[1]);
    }
    PyEval_SaveThread();
    for (size_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, serve, (void *)i);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < APPLICATIONS; i++) {
        PyEval_RestoreThread(applications[i]);
        run("end()");
        Py_EndInterpreter(applications[i]);
        PyThreadState_Swap(main_thread);
        PyEval_SaveThread();
    }
    PyEval_RestoreThread(main_thread);
    if (Py_FinalizeEx()) printf("the end has failed\n");
    return 0;
}

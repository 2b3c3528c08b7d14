/* What the compiled core takes from C for its objects: what it imports, the slots of its type, and methods that bind. */

#include <structmember.h>

/* What the core has from Python modules, in each interpreter. Not in the module, because a module is cleared before the last
   finalizers run, and not in C variables, because no object may be of two interpreters. */
typedef struct Imports {
    PyObject *Children, *NO_SUBSCRIBERS, *Period, *State;
    PyObject *arrive, *asleep, *awake, *begin_wait, *call_now, *check_callback, *check_name, *clear_and_notify, *clock, *ended_error;
    PyObject *event_seconds, *expire, *finish_child, *fire, *get_ident, *implicit_timeout, *log, *look, *set_and_notify, *survivors;
    PyObject *take_options, *unread, *wait_seconds, *wake_wakers;
    PyObject *core_class, *event_class, *call_class;  /* EventCore; the classes that attach() had */
    uint32_t process;  /* in which nothing is left to do that a fork asks for */
} Imports;

/* Where a thread finds them: those of the main interpreter, and those of the one that it asked for last. */
static PyInterpreterState *main_interpreter;
static Imports *imports_of_main;
static THREAD_LOCAL Imports *imports_here;
static THREAD_LOCAL int64_t imports_here_of = -1;
static char imports_key;

static void drop_imports(PyObject *capsule) {
    Imports *imports = PyCapsule_GetPointer(capsule, NULL);
    PyObject **items = (PyObject **)imports;
    if (imports_of_main == imports) imports_of_main = NULL;
    imports_here_of = -1;
    for (size_t i = 0; i < offsetof(Imports, process) / sizeof(PyObject *); i++) Py_XDECREF(items[i]);
    PyMem_RawFree(imports);
}

/* Ask the dict of the interpreter; if it has none, make them if `make`, or raise RuntimeError. */
static Imports *find_imports(int make) {
    PyInterpreterState *interpreter = PyInterpreterState_Get();
    PyObject *dict = PyInterpreterState_GetDict(interpreter), *capsule = NULL;
    PyObject *key = dict == NULL ? NULL : PyLong_FromVoidPtr(&imports_key);
    Imports *imports = NULL;
    if (key != NULL && (capsule = PyDict_GetItemWithError(dict, key)) != NULL) {
        imports = PyCapsule_GetPointer(capsule, NULL);
    } else if (key != NULL && make && !PyErr_Occurred()) {
        imports = PyMem_RawCalloc(1, sizeof(Imports));
        capsule = imports == NULL ? PyErr_NoMemory() : PyCapsule_New(imports, NULL, drop_imports);
        if (capsule == NULL) {
            PyMem_RawFree(imports);
            imports = NULL;
        } else {
            if (PyDict_SetItem(dict, key, capsule) < 0) imports = NULL;
            Py_DECREF(capsule);
        }
    }
    Py_XDECREF(key);
    if (imports != NULL) {
        imports_here = imports;
        imports_here_of = number_of(interpreter);
        if (interpreter == PyInterpreterState_Main()) {
            imports_of_main = imports;
            main_interpreter = interpreter;
        }
    } else if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_RuntimeError, "this interpreter has ended: of an event, only what needs no Python code is left");
    }
    return imports;
}

static inline Imports *here(void) {
    PyInterpreterState *interpreter = PyThreadState_Get()->interp;
    if (interpreter == main_interpreter && imports_of_main != NULL) return imports_of_main;
    return imports_here_of == number_of(interpreter) ? imports_here : find_imports(0);
}

static int keep(PyObject **place, PyObject *item) {
    Py_INCREF(item);
    Py_XSETREF(*place, item);
    return 0;
}

/* Cython 3 leaks the module, and what its state holds, as an interpreter ends: it keeps a reference of its own to the module, and
   clears the state only if the collector does. In the main interpreter, that lets the last finalizers run; of others, many may
   come and go. Newer versions are left alone: the test of leaks says whether they need it. */
#if CYTHON_USE_MODULE_STATE && CYTHON_HEX_VERSION < 0x03040000
static PyObject *__Pyx_State_FindModule(void *);  /* Cython's */
static void free_module(void *module) {
    PyModuleDef *definition = PyModule_GetDef(module);
    if (__Pyx_State_FindModule(definition) == module) (void)definition->m_clear(module);  /* else it was cleared */
}
static void let_module_go(PyObject *module) {
    PyModuleDef *definition = PyModule_GetDef(module);
    if (PyInterpreterState_Get() == PyInterpreterState_Main() || definition == NULL) return;
    if (definition->m_free == NULL) definition->m_free = free_module;
    Py_DECREF(module);
}
#else
#define let_module_go(module) ((void)(module))
#endif

/* The __init__ of EventCore, one function in all interpreters; a class that has another one has replaced it. `cython_init` is what
   Cython made of it: it looks for the names of the arguments before it looks whether any is named. */
static initproc core_init, cython_init;

/* Have `init` be the __init__ of EventCore. */
static int put_init(PyTypeObject *cls, initproc init) {
    PyObject *wrapper = PyDict_GetItemString(cls->tp_dict, "__init__");
    PyObject *other = wrapper == NULL ? NULL : PyDescr_NewWrapper(cls, ((PyWrapperDescrObject *)wrapper)->d_base, (void *)init);
    int result = other == NULL ? -1 : PyDict_SetItemString(cls->tp_dict, "__init__", other);
    Py_XDECREF(other);
    if (result == 0) {
        cython_init = cls->tp_init;
        core_init = cls->tp_init = init;
        PyType_Modified(cls);
    }
    return result;
}

/* Only object.__new__ refuses an abstract class. On 3.12 only it gives an instance the array of attribute values that the
   interpreter's specialised method calls want. */
static PyObject *allocate(PyTypeObject *cls) {
    if ((PY_VERSION_HEX < 0x030C0000 || PY_VERSION_HEX >= 0x030D0000) && !(cls->tp_flags & Py_TPFLAGS_IS_ABSTRACT))
        return cls->tp_alloc(cls, 0);
    PyObject *nothing = PyTuple_New(0);
    PyObject *self = nothing == NULL ? NULL : PyBaseObject_Type.tp_new(cls, nothing, NULL);
    Py_XDECREF(nothing);
    return self;
}

/* What few events have. It is not in the `__dict__` of the event: up to Python 3.13, polling an event that has one takes twice as
   long. */
enum { CHILDREN, CALLBACKS, WAKERS, PARENTS, NAME, EXTRAS };
typedef struct Extras { PyObject *items[EXTRAS]; } Extras;

/* Whether an event has any; under its mutex. A subscriber that is being added looks at the event after that. */
static inline int has_subscribers(const Extras *extras) {
    if (extras != NULL)
        for (int i = CHILDREN; i <= WAKERS; i++)
            if (extras->items[i] != NULL && PyDict_Size(extras->items[i]) > 0) return 1;
    return 0;
}

/* Whether all of them are callbacks; likewise. */
static inline int has_only_callbacks(const Extras *extras) {
    return (extras->items[CHILDREN] == NULL || PyDict_Size(extras->items[CHILDREN]) == 0)
        && (extras->items[WAKERS] == NULL || PyDict_Size(extras->items[WAKERS]) == 0);
}

/* Whether `function` surely passes check_callback(). */
static inline int is_plain_function(PyObject *function) {
    if (Py_TYPE(function) == &PyFunction_Type)
        return !(((PyCodeObject *)PyFunction_GET_CODE(function))->co_flags & CO_COROUTINE);
    return Py_TYPE(function) == &PyCFunction_Type;
}

/* The reason and the extras are all that an event refers to. Cython would make the core itself a type that takes part in the
   collection of garbage, which costs every event a fifth of its creation; it is enough that Event does. */
static Py_ssize_t reason_offset, extras_offset, waiters_offset;
#define reason_of(self) (*(PyObject **)((char *)(self) + reason_offset))
#define extras_of(self) ((Extras *)*(PyObject **)((char *)(self) + extras_offset))
#define next_kept(self) (*(PyObject **)((char *)(self) + waiters_offset))  /* an event that is dropped has no waiters */
static int visit_event(PyObject *self, visitproc visit, void *arg) {
#if CYTHON_USE_TYPE_SPECS
    Py_VISIT(Py_TYPE(self));
#endif
    Py_VISIT(reason_of(self));
    if (extras_of(self) != NULL)
        for (int i = 0; i < EXTRAS; i++) Py_VISIT(extras_of(self)->items[i]);
    return 0;
}
static int clear_event(PyObject *self) {
    Py_CLEAR(reason_of(self));
    if (extras_of(self) != NULL)
        for (int i = 0; i < EXTRAS; i++) Py_CLEAR(extras_of(self)->items[i]);
    return 0;
}

/* An event may be the reason of another one, and so on. A long chain of them must not be dropped by recursion: below DEEPEST, an
   event is kept for the call above it. The interpreter does likewise for types that take part in the collection of garbage. A
   finalizer may run another interpreter in this thread, whose events it must drop itself. */
#define DEEPEST 32
typedef struct Drops {
    PyInterpreterState *interpreter;
    int depth;
    PyObject *kept;  /* the first; `next_kept()` of it is the next one */
} Drops;
static THREAD_LOCAL Drops drops;
static void drop_content(PyObject *self) {
    (void)clear_event(self);
    PyMem_RawFree(extras_of(self));
}
static void drop_deep(PyObject *self, PyTypeObject *type) {
    PyInterpreterState *interpreter = PyThreadState_Get()->interp;
    Drops outer = drops;
    if (outer.interpreter != interpreter) drops = (Drops){interpreter, 0, NULL};
    if (drops.depth == DEEPEST) {
#if !CYTHON_USE_TYPE_SPECS
        Py_INCREF(type);  /* the caller may drop it */
#endif
        next_kept(self) = drops.kept;
        drops.kept = self;
        return;
    }
    drops.depth++;
    drop_content(self);
    while (drops.kept != NULL) {
        PyObject *other = drops.kept;
        PyTypeObject *its_type = Py_TYPE(other);
        drops.kept = next_kept(other);
        drop_content(other);
        its_type->tp_free(other);
        Py_DECREF(its_type);
    }
    drops.depth--;
    if (outer.interpreter != interpreter) drops = outer;
    type->tp_free(self);
#if CYTHON_USE_TYPE_SPECS
    Py_DECREF(type);
#endif
}
static void drop_event(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (reason_of(self) != NULL || extras_of(self) != NULL) {  /* few events have one */
        drop_deep(self, type);
        return;
    }
    type->tp_free(self);
#if CYTHON_USE_TYPE_SPECS  /* the type is one of each interpreter, and its instances refer to it */
    Py_DECREF(type);
#endif
}

/* A key that no other subscriber has: object(). */
#define new_key() (PyBaseObject_Type.tp_alloc(&PyBaseObject_Type, 0))

/* What attach() needs: the definition behind a method descriptor, and an attribute that the interpreter reads inline. */
#define definition_of(descriptor) (((PyMethodDescrObject *)(descriptor))->d_method)
static PyMemberDef flag_member = {"flag", T_OBJECT_EX, 0, READONLY,
    "The flag as an attribute, True or False, read-only: the cheapest way to poll.\n\n"
    "Thread safety: atomic."};

/* A method that binds as a function of Python does: `event.set` is a `types.MethodType`, and `__func__` of it can be held weakly,
   as `weakref.WeakMethod` does. A call goes straight to `function`; one that is wrong, or may be, goes to the method
   descriptor that it stands for, which knows the texts of errors. */
typedef PyObject *(*MethodFunction)(PyObject *self, PyObject *argument);
typedef struct Method {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    MethodFunction function;
    size_t most;           /* how many arguments it takes, 0 or 1 */
    PyObject *argument;    /* the name of the one, whose default is None; or NULL */
    PyTypeObject *common;  /* the class of most objects that it is called with */
    PyObject *descriptor;
    PyObject *dict;
    PyObject *references;
} Method;

static PyObject *call_another_way(Method *method, PyObject *const *arguments, size_t nargsf, PyObject *names) {
    Py_ssize_t count = PyVectorcall_NARGS(nargsf) - 1, named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    if (0 <= count && count + named <= (Py_ssize_t)method->most
        && (named == 0 || PyTuple_GET_ITEM(names, 0) == method->argument)  /* both are interned, as a rule */
        && PyObject_TypeCheck(arguments[0], PyDescr_TYPE(method->descriptor)))
        return method->function(arguments[0], count + named ? arguments[1] : Py_None);
    return PyObject_Vectorcall(method->descriptor, arguments, nargsf, names);
}
static PyObject *call_method(PyObject *self, PyObject *const *arguments, size_t nargsf, PyObject *names) {
    Method *method = (Method *)self;
    size_t count = (size_t)PyVectorcall_NARGS(nargsf) - 1;  /* very large if there is no object */
    if (names == NULL && count <= method->most && Py_TYPE(arguments[0]) == method->common)
        return method->function(arguments[0], count ? arguments[1] : Py_None);
    return call_another_way(method, arguments, nargsf, names);
}

static PyObject *bind_method(PyObject *self, PyObject *object, PyObject *Py_UNUSED(cls)) {
    if (object != NULL) return PyMethod_New(self, object);
    Py_INCREF(self);
    return self;
}
static PyObject *show_method(PyObject *self) { return PyObject_Repr(((Method *)self)->descriptor); }
static PyObject *ask_descriptor(PyObject *self, void *name) {
    return PyObject_GetAttrString(((Method *)self)->descriptor, name);
}
static PyObject *reduce_method(PyObject *self, PyObject *Py_UNUSED(nothing)) {
    return PyObject_CallMethod(((Method *)self)->descriptor, "__reduce__", NULL);  /* its class and its name: what leads here */
}
static int visit_method(PyObject *self, visitproc visit, void *arg) {
    Method *method = (Method *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(method->descriptor);
    Py_VISIT(method->common);
    Py_VISIT(method->dict);
    return 0;
}
static int clear_method(PyObject *self) {
    Py_CLEAR(((Method *)self)->dict);  /* all cycles go through it or through the class */
    return 0;
}
static void drop_method(PyObject *self) {
    Method *method = (Method *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (method->references != NULL) PyObject_ClearWeakRefs(self);
    Py_XDECREF(method->dict);
    Py_XDECREF(method->argument);
    Py_XDECREF(method->common);
    Py_XDECREF(method->descriptor);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef method_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(Method, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Method, references), READONLY, NULL},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Method, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};
static PyGetSetDef method_attributes[] = {
    {"__dict__", PyObject_GenericGetDict, NULL, NULL, NULL},
    {"__doc__", ask_descriptor, NULL, NULL, "__doc__"},
    {"__name__", ask_descriptor, NULL, NULL, "__name__"},
    {"__qualname__", ask_descriptor, NULL, NULL, "__qualname__"},
    {"__objclass__", ask_descriptor, NULL, NULL, "__objclass__"},
    {"__text_signature__", ask_descriptor, NULL, NULL, "__text_signature__"},
    {NULL, NULL, NULL, NULL, NULL}};
static PyMethodDef method_methods[] = {{"__reduce__", reduce_method, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static PyType_Slot method_slots[] = {
    {Py_tp_call, PyVectorcall_Call}, {Py_tp_descr_get, bind_method}, {Py_tp_repr, show_method}, {Py_tp_traverse, visit_method},
    {Py_tp_clear, clear_method}, {Py_tp_dealloc, drop_method}, {Py_tp_members, method_members},
    {Py_tp_getset, method_attributes}, {Py_tp_methods, method_methods}, {0, NULL}};
static PyType_Spec method_spec = {"fastevent._core_c.Method", sizeof(Method), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR
    | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION, method_slots};

/* Have a Method stand before the method `name` of `cls`. Cython writes to the dict of a type likewise. */
static int put_before(PyTypeObject *cls, const char *name, void *function, PyObject *argument, PyObject *type) {
    PyObject *descriptor = PyDict_GetItemString(cls->tp_dict, name);
    Method *method = descriptor == NULL ? NULL : (Method *)((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
    if (method == NULL) return -1;
    if (argument != Py_None) {
        Py_INCREF(argument);
        method->argument = argument;
        method->most = 1;
        PyUnicode_InternInPlace(&method->argument);
    }
    Py_INCREF(descriptor);
    Py_INCREF(cls);
    method->vectorcall = call_method;
    method->function = (MethodFunction)function;
    method->common = cls;
    method->descriptor = descriptor;
    method->dict = Py_BuildValue("{s{}}", "__annotations__");  /* `typing.get_type_hints()` wants it of a callable */
    int result = method->dict == NULL ? -1 : PyDict_SetItemString(cls->tp_dict, name, (PyObject *)method);
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    PyUnstable_Object_EnableDeferredRefcount((PyObject *)method);  /* as a function has it: threads do not compete for its count */
#endif
    Py_DECREF(method);
    PyType_Modified(cls);
    return result;
}
static void expect(PyObject *method, PyObject *cls) {
    Py_INCREF(cls);
    Py_SETREF(((Method *)method)->common, (PyTypeObject *)cls);
}

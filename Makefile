# make demo, make test: all set-up included, on a machine with Python (and its venv module) and a C compiler.
# make proofs, after make test: needs the model checker spin as well, and fails without it.
# PYTHON=python3.13 takes another interpreter, VENV=.venv-3.13 another place, ARGS="-k wait -x" go to pytest.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
IN := $(VENV)/bin/python

.PHONY: demo test soak faults proofs sanitize tsan valgrind coverage clean
.NOTPARALLEL:

demo: $(VENV)/made
	$(IN) -m pip install --quiet .
	$(IN) -m fastevent

# What a user gets is tested: the wheel, built from the sdist, installed.
test: $(VENV)/made
	$(IN) -m pip install --quiet --only-binary :all: --group test
	rm -rf dist/
	$(IN) -m build --outdir dist/ . >/dev/null
	$(IN) -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	$(IN) -m pytest $(ARGS)

# The faults and the random sequences, longer: SCALE times as much, after make test.
SCALE ?= 10
soak:
	FASTEVENT_TEST_SCALE=$(SCALE) FASTEVENT_TEST_EXAMPLES=$$((150 * $(SCALE))) \
		$(IN) -m pytest tests/test_faults.py tests/test_model.py $(ARGS)

# What happens to an event when...: the faults over the peers, too, after make test.
faults:
	$(IN) -m pip install --quiet --group peers
	$(IN) tests/faults_table.py >docs/faults.md

# Installs nothing: in the environment that `make test` made.
proofs:
	CI_PROOFS=1 $(IN) -m pytest tests/test_proofs.py $(ARGS)

# The tools on the compiled core, each over a core built for it, in a virtual environment of its own: CONTRIBUTING says what
# they prove. Object files of other flags must not be used again, hence the two removals.
TOOL = $(VENV)-$@/bin/python
UNBUILD = rm -rf build/ src/fastevent/_core_c.c
define INSTALL
	$(MAKE) $(VENV)-$@/made VENV=$(VENV)-$@
	$(UNBUILD)
	CFLAGS="$(FLAGS)" LDFLAGS="$(FLAGS)" $(TOOL) -m pip install --quiet --force-reinstall --no-deps .
	$(UNBUILD)
endef
SECONDS ?= 20
library = $(shell $(CC) -print-file-name=$(1).so)

# PYTHONMALLOC=malloc: objects in the interpreter's own arenas would hide an access to a freed one. Leaks are not
# looked at: the interpreter's own at exit would drown the core's.
sanitize: FLAGS = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g -O1
sanitize: export ASAN_OPTIONS = detect_leaks=0
sanitize: export UBSAN_OPTIONS = print_stacktrace=1
sanitize:
	$(INSTALL)
	$(TOOL) -m pip install --quiet pytest
	LD_PRELOAD="$(call library,libasan) $(call library,libubsan)" PYTHONMALLOC=malloc \
	    $(TOOL) -m pytest -p no:cacheprovider tests/test_contract.py tests/test_waiting.py tests/test_parity.py $(ARGS)
	LD_PRELOAD="$(call library,libasan) $(call library,libubsan)" PYTHONMALLOC=malloc $(TOOL) tests/stress.py $(SECONDS)

# PYTHON is a free-threaded one configured with --with-thread-sanitizer, SUPPRESSIONS its source's
# Tools/tsan/suppressions_free_threading.txt. A core that was not instrumented would pass: hence the grep.
tsan: FLAGS = -fsanitize=thread -g -O1
tsan:
	$(INSTALL)
	grep -q __tsan_ $(VENV)-$@/lib/python*/site-packages/fastevent/_core_c.*.so
	TSAN_OPTIONS="suppressions=$(abspath $(SUPPRESSIONS)) $(TSAN_OPTIONS)" $(TOOL) tests/stress.py $(SECONDS)

valgrind: FLAGS = -g -O1
valgrind:
	$(INSTALL)
	PYTHONMALLOC=malloc valgrind --quiet --fair-sched=yes --error-exitcode=9 $(TOOL) tests/stress.py $(SECONDS)

# In a copy: only there Cython traces lines, for a Python before 3.13, which coverage then follows. Left out are the tests that
# tracing slows down too much, and those that interrupt the tracer or take its memory.
coverage: export COVERAGE_CORE = ctrace
coverage:
	$(MAKE) $(VENV)-$@/made VENV=$(VENV)-$@
	$(TOOL) -m pip install --quiet 'setuptools>=77' Cython 'coverage>=7.10' pytest
	rm -rf build/coverage && mkdir -p build/coverage
	cp -r LICENSE README.md docs pyproject.toml setup.py src tests build/coverage
	sed -i '1s/$$/, linetrace=True/' build/coverage/src/fastevent/_core_c.pyx
	cd build/coverage && CFLAGS="-O0 -DCYTHON_TRACE_NOGIL=1" $(abspath $(TOOL)) setup.py --quiet build_ext --inplace
	cd build/coverage && PYTHONPATH=$$PWD/src $(abspath $(TOOL)) -m coverage run -m pytest tests/test_contract.py \
		tests/test_parity.py tests/test_waiting.py "tests/test_faults.py::test_fault[c-fork_while_a_herd_is_woken]" \
		-k "not interpreter and not ping_pong and not moment and not midst and not written and not ctrl_c and not memory"
	cd build/coverage && $(abspath $(TOOL)) -m coverage combine --quiet && \
		$(abspath $(TOOL)) -m coverage report --include='*.pyx' --fail-under=98

# Other people's suites with the patch and without, in environments of their own; these write docs/compatibility.md.
# NAMES="test_queue test_threading" takes some of them.
.PHONY: stdlib-tests third-party engine thread-cost ecosystem
stdlib-tests third-party engine thread-cost: $(VENV)/made
	$(IN) tests/compatibility.py $@ $(NAMES)

# What gevent and PyInstaller make of it, after make test.
ecosystem:
	$(IN) -m pip install --quiet --only-binary :all: --group ecosystem
	$(IN) -m pytest tests/test_ecosystem.py $(ARGS)

$(VENV)/made:
	$(PYTHON) -m venv $(VENV)
	$(IN) -m pip install --quiet --upgrade 'pip>=25.1'
	touch $@

clean:
	rm -rf .venv*/ build/ dist/ src/*.egg-info/ src/fastevent/_core_c.c

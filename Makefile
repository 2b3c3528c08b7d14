# make demo, make test: all set-up included, on a machine with Python (and its venv module) and a C compiler.
# make proofs, after make test: needs the model checker spin as well, and fails without it.
# PYTHON=python3.13 takes another interpreter, VENV=.venv-3.13 another place, ARGS="-k wait -x" go to pytest.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
IN := $(VENV)/bin/python

.PHONY: demo test soak faults proofs sanitize tsan valgrind coverage bench bench-report instructions check docs dist reproducible
.PHONY: identifiers wheels test-all clean
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
# looked at: the interpreter's own at exit would drown the core's. Freed memory is kept for a while, so it does not stay flat.
sanitize: FLAGS = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g -O1
sanitize: export ASAN_OPTIONS = detect_leaks=0
sanitize: export UBSAN_OPTIONS = print_stacktrace=1
sanitize:
	$(INSTALL)
	$(TOOL) -m pip install --quiet pytest
	LD_PRELOAD="$(call library,libasan) $(call library,libubsan)" PYTHONMALLOC=malloc \
	    $(TOOL) -m pytest -p no:cacheprovider tests/test_contract.py tests/test_waiting.py tests/test_parity.py \
	    tests/test_cancellation.py -k "not memory_flat" $(ARGS)
	LD_PRELOAD="$(call library,libasan) $(call library,libubsan)" PYTHONMALLOC=malloc $(TOOL) tests/stress.py $(SECONDS)

# PYTHON is a free-threaded one configured with --with-thread-sanitizer, SUPPRESSIONS its source's
# Tools/tsan/suppressions_free_threading.txt. A core that was not instrumented would pass: hence the grep. In a child that was
# forked off, the thread of the timers starts anew, for which the sanitizer would end the process: die_after_fork.
tsan: FLAGS = -fsanitize=thread -g -O1
tsan:
	$(INSTALL)
	grep -q __tsan_ $(VENV)-$@/lib/python*/site-packages/fastevent/_core_c.*.so
	TSAN_OPTIONS="suppressions=$(abspath $(SUPPRESSIONS)) die_after_fork=0 $(TSAN_OPTIONS)" $(TOOL) tests/stress.py $(SECONDS)

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
		tests/test_parity.py tests/test_waiting.py tests/test_cancellation.py "tests/test_faults.py::test_fault[c-fork_while_a_herd_is_woken]" \
		-k "not interpreter and not ping_pong and not moment and not midst and not written and not ctrl_c and not memory and not many and not 100_000 and not timers"
	cd build/coverage && $(abspath $(TOOL)) -m coverage combine --quiet && \
		$(abspath $(TOOL)) -m coverage report --include='*.pyx' --fail-under=98

# A few minutes for each interpreter; then one report of all that were measured.
RESULTS = benchmarks/results
bench: $(VENV)/made
	$(IN) -m pip install --quiet --prefer-binary --group bench .
	mkdir -p $(RESULTS)
	$(IN) -m pytest -p no:cacheprovider benchmarks/bench_event.py --quiet --benchmark-quiet $(ARGS) \
		--benchmark-json=$(RESULTS)/$$($(IN) -c 'import sys; print(sys.implementation.cache_tag + sys.abiflags)').json
	$(MAKE) bench-report

bench-report:
	PYTHONPATH=tests $(IN) benchmarks/report.py $(RESULTS)/*.json

# Needs valgrind. The compiler and its flags decide what is counted.
instructions: export CC = gcc-12
instructions: FLAGS = -O2
instructions:
	$(INSTALL)
	$(TOOL) benchmarks/instructions.py $(if $(UPDATE),--update)

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

# The targets from here on look at the repository as a whole, with tools in an environment of their own.
TOOLS = $(VENV)-tools
check docs dist reproducible identifiers wheels test-all: export PATH := $(abspath $(TOOLS)/bin):$(PATH)
docs: export NO_MKDOCS_2_WARNING = 1

$(TOOLS)/installed: pyproject.toml
	$(MAKE) $(TOOLS)/made VENV=$(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --upgrade --group check --group release
	touch $@

$(TOOLS)/package: $(TOOLS)/installed setup.py $(wildcard src/*/*.py src/*/*.pyx)
	$(TOOLS)/bin/python -m pip install --quiet --force-reinstall --no-deps .
	touch $@

# Before every commit.
check: $(TOOLS)/package dist docs identifiers
	ruff check
	ruff format --check
	cython-lint src
	codespell $$(git ls-files)
	mypy
	pyright
	pyright --verifytypes fastevent --ignoreexternal
	stubtest fastevent --allowlist tests/stubtest.txt
	md-dead-link-check --no-color
	zizmor --offline --quiet .github
	log=$$(check-sdist 2>&1) || { echo "$$log"; exit 1; }
	check-wheel-contents dist/*.whl
	twine check --strict dist/*

docs: $(TOOLS)/installed
	mkdocs build --strict --site-dir build/docs

# The sdist, and from it the wheel without an extension. From one commit the same bytes come, whoever makes them: hence the
# second archive, which has no owner, no umask and no time of its own.
NAME := fastevent-$(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
dist: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
dist: $(TOOLS)/installed
	rm -rf build/ dist/ && mkdir -p dist
	python -m build --quiet --sdist --outdir build .
	tar -C build -xzf build/$(NAME).tar.gz
	cd build && rptar -czf ../dist/$(NAME).tar.gz $(NAME)
	umask 022 && FASTEVENT_PURE_PYTHON=1 python -m pip wheel --quiet --no-deps --wheel-dir dist dist/$(NAME).tar.gz

# Proves that: two clones of the last commit, which differ in place, age, time zone and umask.
CLONED = $(MAKE) --no-print-directory VENV=$(abspath $(VENV)) --assume-old=$(abspath $(TOOLS))/installed
reproducible: $(TOOLS)/installed
	rm -rf build/one build/two
	git clone --quiet . build/one && $(CLONED) -C build/one dist
	umask 077 && git clone --quiet . build/two && TZ=Asia/Tokyo $(CLONED) -C build/two dist
	diff -r build/one/dist build/two/dist
	sha256sum build/one/dist/*

# The wheels that a release consists of, beside the pure one: none is forgotten, none too many.
PYTHONS = 310 311 312 313 314 314t 315 315t
SYSTEMS = manylinux_x86_64 manylinux_aarch64 musllinux_x86_64 musllinux_aarch64 macosx_x86_64 macosx_arm64 win_amd64 win_arm64
identifiers: $(TOOLS)/installed
	mkdir -p build
	@printf '%s\n' $(sort $(foreach system,$(SYSTEMS),$(PYTHONS:%=cp%-$(system)))) >build/expected
	for platform in linux macos windows; do cibuildwheel --print-build-identifiers --platform $$platform || exit; done | \
		LC_ALL=C sort | diff build/expected -

# DISCOVER: interpreters that are not on the PATH.
DISCOVER ?= $(wildcard $(HOME)/.pyenv/versions/3.*/bin/python)
TOX = tox run $(if $(DISCOVER),--discover $(DISCOVER))

# For each interpreter that is here: its wheel, from the sdist, made fit for any Linux, and the fast tests on that.
wheels: dist
	$(TOX) -f wheel $(if $(ARGS),-- $(ARGS))
	check-wheel-contents dist/*.whl
	twine check --strict dist/*
	for wheel in dist/*.whl; do echo "$$wheel" && python -m zipfile -l "$$wheel"; done

# The tests on each interpreter that is here, both cores.
test-all: $(TOOLS)/installed
	$(TOX) -f test $(if $(ARGS),-- $(ARGS))

clean:
	rm -rf .venv*/ build/ dist/ src/*.egg-info/ src/fastevent/_core_c.c

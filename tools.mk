# The targets behind those of the Makefile.

.PHONY: announce install test-more dist proofs # the last two are folders, too
.NOTPARALLEL:
export PIP_DISABLE_PIP_VERSION_CHECK = 1
unexport CFLAGS # which replace the flags of the interpreter; some recipes have their own
quietly = log=$$($(1) 2>&1) || { echo "$$log"; exit 1; } # shows what a command prints only if it fails

# The virtual environment VENV, and for what needs one of its own, VENV-tools and so on.
%/made:
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

announce:
	@echo 'make $(MAKECMDGOALS): $(SAYS)'
	@$(PYTHON) tests/needs.py

install $(VENV)/installed: $(VENV)/made
	$(IN) -m pip install --quiet --only-binary :all: --group $(GROUP)
	rm -rf dist/
	$(call quietly,$(IN) -m build --outdir dist/ .)
	$(IN) -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	@touch $(VENV)/installed

# What `make test GROUP=test-all` leaves out: .ci/run.
test-more: | $(VENV)/installed
	$(IN) -m pytest $(filter-out tests/unit/ tests/__pycache__/,$(wildcard tests/*/)) $(ARGS)

# The sources as they are, and the core beside them. Only a change of what is compiled installs again.
$(VENV)-quick/installed: $(VENV)-quick/made $(wildcard src/fastevent/_core_c.pyx src/fastevent/*.h src/fastevent/*.pxd) setup.py pyproject.toml
	$(@D)/bin/python -m pip install --quiet --only-binary :all: --group test
	$(@D)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

# On what `make test` installed.
soak ecosystem: GROUP = test-all
soak faults proofs ecosystem: | $(VENV)/installed
soak:
	FASTEVENT_TEST_SCALE=$(or $(SCALE),10) $(IN) -m pytest tests/search tests/processes $(ARGS)
faults:
	$(IN) -m pip install --quiet --group peers
	$(IN) tools/faults_table.py
proofs:
	FASTEVENT_TEST_COMPLETE=1 $(IN) -m pytest tests/search/test_proofs.py $(ARGS)
ecosystem:
	$(IN) -m pip install --quiet --only-binary :all: --group ecosystem
	$(IN) -m pytest tests -k "ecosystem or anyio or joblib or task_queues or docs or notebooks" $(ARGS)

# On a core that is compiled with FLAGS, from a copy of the sources: BEFORE, then RUN under a tool.
CHECKERS = sanitize tsan valgrind instructions
$(CHECKERS) coverage: FOR = -$@
$(CHECKERS) coverage: %: $(VENV)-%/made
COPY = rm -rf build/$@ && mkdir -p build/$@ && git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t build/$@
FLAGS = -g -O1
RUN = tools/stress.py $(SECONDS)
# The interpreter's arenas would hide an access to a freed object: PYTHONMALLOC. Its leaks at exit would drown the core's.
sanitize: FLAGS = -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
sanitize: UNDER = LD_PRELOAD="$(foreach library,libasan libubsan,$(shell $(CC) -print-file-name=$(library).so))" \
	PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
sanitize: BEFORE = $(IN) -m pip install --quiet pytest && \
	$(UNDER) $(IN) -m pytest -p no:cacheprovider -m "not not_sanitized" tests/unit $(ARGS)
# A core that is not instrumented would pass: the grep.
tsan: FLAGS = -g -O1 -fsanitize=thread
tsan: UNDER = TSAN_OPTIONS="suppressions=$(abspath $(SUPPRESSIONS)) $(TSAN_OPTIONS)"
tsan: BEFORE = grep -q __tsan_ $(VENV)-$@/lib/python*/site-packages/fastevent/_core_c.*.so
valgrind: UNDER = PYTHONMALLOC=malloc valgrind --quiet --fair-sched=yes --error-exitcode=9
instructions: export CC = gcc-12
instructions: FLAGS = -O2 # they and the compiler decide what is counted
instructions: RUN = benchmarks/instructions.py $(if $(UPDATE),--update)
$(CHECKERS):
	$(COPY)
	CFLAGS="$(FLAGS)" LDFLAGS="$(FLAGS)" $(IN) -m pip install --quiet --force-reinstall --no-deps ./build/$@
	$(BEFORE)
	PYTHONPATH=tests $(UNDER) $(IN) $(RUN)
# Python 3.10 to 3.12. Cython traces lines only where its source is beside the extension.
coverage:
	$(COPY)
	$(IN) -m pip install --quiet 'setuptools>=77' Cython 'coverage>=7.10' pytest
	sed -i '1s/$$/, linetrace=True/' build/$@/src/fastevent/_core_c.pyx
	cd build/$@ && export PYTHONPATH=$$PWD/src COVERAGE_CORE=ctrace CFLAGS="-O0 -DCYTHON_TRACE_NOGIL=1" && \
		python=$(abspath $(IN)) && $$python setup.py --quiet egg_info build_ext --inplace && \
		$$python -m coverage run -m pytest -m "not not_traced" tests/unit tests/processes/test_waiting_forks.py tests/search/test_leaks.py $(ARGS) && \
		$$python -m coverage combine --quiet && $$python -m coverage report

# A few minutes for each interpreter; then one report of all that were measured.
bench: $(VENV)/made
	$(IN) -m pip install --quiet --prefer-binary --group bench .
	mkdir -p benchmarks/results
	$(IN) -m pytest -p no:cacheprovider benchmarks/bench_*.py --quiet --benchmark-quiet $(ARGS) \
		--benchmark-json=benchmarks/results/$$($(IN) -c 'import sys; print(sys.implementation.cache_tag + sys.abiflags)').json
	PYTHONPATH=tests $(IN) benchmarks/report.py benchmarks/results/*.json

# Other people's suites with the patch and without; these write docs/compatibility.md. NAMES="test_queue ..." takes some.
stdlib-tests third-party engine thread-cost: $(VENV)/made
	$(IN) tools/compatibility.py $@ $(NAMES)

# On NAME=debug, i386, s390x ...: writes a line of docs/platforms.md.
platform:
	tools/platforms.sh $(NAME)

# For a release.
check style docs dist reproducible wheel: export PATH := $(abspath $(VENV)-tools/bin):$(PATH)
dist reproducible: $(VENV)-tools/installed
$(VENV)-tools/installed: $(VENV)-tools/made pyproject.toml
	$(@D)/bin/python -m pip install --quiet --upgrade --group check --group release
	@touch $@
# The second archive has no owner, umask or time of its own, so that one commit always gives the same bytes.
dist: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
dist:
	rm -rf build/dist/ dist/ && mkdir dist
	$(call quietly,python -m build --sdist --outdir build/dist .)
	cd build/dist && tar -xzf *.tar.gz && name=$$(basename *.tar.gz .tar.gz) && rptar -czf ../../dist/$$name.tar.gz $$name
	umask 022 && FASTEVENT_PURE_PYTHON=1 python -m pip wheel --quiet --no-deps --wheel-dir dist dist/*.tar.gz
# Two clones that differ in place, age, time zone and umask.
reproducible:
	rm -rf build/one build/two
	git clone --quiet . build/one && $(MAKE) -C build/one dist VENV=$(abspath $(VENV))
	umask 077 && git clone --quiet . build/two && TZ=Asia/Tokyo $(MAKE) -C build/two dist VENV=$(abspath $(VENV))
	diff -r build/one/dist build/two/dist && sha256sum build/one/dist/*
# The wheel of PYTHON as release.yml publishes it, fit for any Linux, in dist/ beside the sdist; and the fast tests on it.
wheel: FOR = -wheel
wheel: dist $(VENV)-wheel/made
	rm -rf build/wheel && $(IN) -m pip wheel --quiet --no-deps --wheel-dir build/wheel dist/*.tar.gz
	auditwheel repair --strip --wheel-dir dist build/wheel/*.whl
	$(IN) -m pip install --quiet --group test
	$(IN) -m pip install --quiet --force-reinstall --no-deps --no-index --only-binary :all: --find-links dist fastevent
	$(IN) -m pytest $(ARGS)

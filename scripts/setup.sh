#!/usr/bin/env bash
# Make .venv in the checkout and install the package into it, editable, with the development tools.
#
#   ./scripts/setup.sh                      the newest Python >= 3.11 on the PATH
#   PYTHON=python3.13 ./scripts/setup.sh    this interpreter
#
# Does nothing when .venv is there and pyproject.toml has not changed since. demo.sh and test.sh call it.
set -euo pipefail
unset CDPATH

stop() {
    printf '%s\n' "$@" >&2
    exit 2
}

# Whether the command $1 is a Python that this package runs on (a pyenv shim may exist and not run).
is_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

can_make_venv() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo unknown
}

# Print the interpreter to use: the newest one that can make a virtual environment, else the newest.
choose_python() {
    local candidate newest=""
    for candidate in python3.14 python3.13 python3.12 python3.11 python3; do
        is_python "$candidate" || continue
        newest=${newest:-$candidate}
        if can_make_venv "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "$newest"
}

make_venv() {
    local python=${PYTHON:-$(choose_python)} package=python3-venv
    [ -n "$python" ] || stop \
        "setup: needs Python 3.11 or newer; python3 is $(version_of python3)." \
        "Install one (sudo apt-get install -y python3 python3-venv), or name one: PYTHON=/path/to/python $0"
    if ! can_make_venv "$python"; then
        [ "$(version_of "$python")" = "$(version_of /usr/bin/python3)" ] || package="python$(version_of "$python")-venv"
        stop "setup: $python cannot make a virtual environment: the system package $package is missing." \
            "Install it and run this again: sudo apt-get update && sudo apt-get install -y $package"
    fi
    echo "setup: making .venv with $python ($(version_of "$python"))"
    "$python" -m venv "$@" .venv
}

if [ -n "${PYTHON:-}" ]; then
    command -v "$PYTHON" >/dev/null || stop "setup: PYTHON=$PYTHON: no such command."
    # A relative path is meant from the caller's folder.
    [[ $PYTHON != */* ]] || PYTHON="$(cd "$(dirname "$PYTHON")" && pwd)/${PYTHON##*/}"
    is_python "$PYTHON" || stop "setup: PYTHON=$PYTHON is $(version_of "$PYTHON"); this package needs Python 3.11 or newer."
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=.venv/retina-detector.stamp
if [ ! -e .venv/bin/python ] && [ ! -L .venv/bin/python ]; then
    make_venv # nothing there, or a folder with other content, which stays
elif ! .venv/bin/python -c '' 2>/dev/null; then
    echo "setup: the interpreter of .venv is gone"
    make_venv --clear
elif ! is_python .venv/bin/python || [ "$(version_of "${PYTHON:-.venv/bin/python}")" != "$(version_of .venv/bin/python)" ]; then
    [ -e "$stamp" ] || stop "setup: .venv has Python $(version_of .venv/bin/python), wanted ${PYTHON:-3.11 or newer}." \
        "This script did not fill that .venv, so it does not replace it. Move it away and run this again."
    echo "setup: replacing .venv of Python $(version_of .venv/bin/python)"
    make_venv --clear
fi
.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip

# What an editable install depends on: what to install, and where the checkout lies.
wanted="$(cksum <pyproject.toml) $PWD"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    echo "setup: installing the package and its development tools into .venv (a few GB at the first time)"
    rm -f "$stamp"
    .venv/bin/python -m pip install --disable-pip-version-check --editable '.[dev]'
    printf '%s\n' "$wanted" >"$stamp"
fi

#!/usr/bin/env bash
# Everything that must pass: format, lint, import layers, types, tests.
#
#   ./scripts/test.sh              the quick tests
#   ./scripts/test.sh --all        the slow ones too
#   ./scripts/test.sh -k focal     other arguments go to pytest
#
# Makes or reuses .venv (PYTHON= chooses the interpreter, see setup.sh).
set -euo pipefail
unset CDPATH
start=$SECONDS
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/scripts/setup.sh"
cd "$root"
python=.venv/bin/python

selection=(-m "not slow")
pytest_args=()
for argument in "$@"; do
    if [ "$argument" = --all ]; then selection=(); else pytest_args+=("$argument"); fi
done

# Run the check named $1: its output if it fails, one line if not. It is called through the interpreter, because the
# programs in .venv/bin name the folder that the checkout once lay in.
check() {
    local name=$1 began=$SECONDS output
    shift
    if ! output=$("$python" "$@" 2>&1); then
        printf '%s\n' "$output" "test: $name: FAILED" >&2
        exit 1
    fi
    echo "test: $name: ok ($((SECONDS - began)) s)"
}

check format -m ruff format --check --quiet .
check lint -m ruff check --quiet .
check "import layers" .venv/bin/lint-imports
check types -m mypy
echo "test: $((SECONDS - start)) s before the tests"
exec "$python" -m pytest --durations=10 "${selection[@]}" "${pytest_args[@]}"

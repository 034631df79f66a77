#!/usr/bin/env bash
# What must hold on a machine with a CUDA device, in under 10 minutes: the tests marked `gpu`, all benchmarks with
# targets, and measured runs of the real train path (gpu_check.py). A page with the table of targets goes to
# benchmarks/ under the hardware's name, or to the folder OUT=, with the log.
#
#   ./scripts/gpu_check.sh                                 .venv if it is there, else python3
#   PYTHON=/path/to/python ./scripts/gpu_check.sh          this interpreter, as it is
#   WHEELS=folder ./scripts/gpu_check.sh                   packages that it lacks, from wheels, without a network
#   ./scripts/gpu_check.sh --only tests train              some parts
#   ./scripts/gpu_check.sh --device cpu                    the benchmarks on the processor, and its page
#   ./scripts/gpu_check.sh --annotations COCO.json --images FOLDER   the loader on these photos
#   ./scripts/gpu_check.sh --device cpu --tiny             tries a GPU's other parts on a machine without one
#
# Makes no .venv and changes none: wheels are unpacked into a temporary folder for this run.
set -euo pipefail
unset CDPATH
# Relative paths are meant from the caller's folder, in which gpu_check.py runs too.
[[ ${PYTHON:-} != */* ]] || PYTHON="$(cd "$(dirname "$PYTHON")" && pwd)/${PYTHON##*/}"
[ -z "${WHEELS:-}" ] || WHEELS=$(cd "$WHEELS" && pwd)
[ -z "${OUT:-}" ] || OUT=$(cd "$OUT" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
default=python3
[ ! -x "$root/.venv/bin/python" ] || default=$root/.venv/bin/python
python=${PYTHON:-$default}
command -v "$python" >/dev/null || { echo "gpu_check: PYTHON=$python: no such command" >&2; exit 2; }

missing() {
    "$python" - <<'PROGRAM'
import importlib

for name in ("torch", "torchvision", "albumentations", "cv2", "pycocotools.coco", "pydantic", "rich", "tensorboard",
             "yaml", "pytest"):
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(f"gpu_check: {name}: {error}")
PROGRAM
}

export NO_ALBUMENTATIONS_UPDATE=1 PYTHONUNBUFFERED=1
if [ -n "$(missing)" ] && [ -n "${WHEELS:-}" ]; then
    packages=$(mktemp -d)
    trap 'rm -rf "$packages"' EXIT
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --no-cache-dir \
        --target "$packages" "$WHEELS"/*.whl
    export PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"  # the package need not be installed
problems=$(missing)
if [ -n "$problems" ]; then
    printf '%s\n' "$problems" "gpu_check: make an environment with ./scripts/setup.sh, or name a folder: WHEELS=" >&2
    exit 2
fi
"$python" "$root/scripts/gpu_check.py" "$@"

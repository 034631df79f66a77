#!/usr/bin/env bash
# What must hold on a machine with a CUDA device: the tests marked `gpu`, then the measured checks of gpu_check.py.
#
#   ./scripts/gpu_check.sh                     .venv if it is there, else python3
#   PYTHON=/path/to/python ./scripts/gpu_check.sh
#
# Installs nothing, so that it also runs where no package index is at hand.
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."
default=python3
[ ! -x .venv/bin/python ] || default=.venv/bin/python
python=${PYTHON:-$default}

"$python" - <<'PROGRAM'
import sys

import torch

if not torch.cuda.is_available():
    sys.exit("gpu_check: torch sees no CUDA device")
print(f"gpu_check: {torch.cuda.get_device_name()}, torch {torch.__version__}, Python {sys.version.split()[0]}")
PROGRAM
"$python" -m pytest -m gpu "$@"
if [ -e scripts/gpu_check.py ]; then
    "$python" scripts/gpu_check.py
fi

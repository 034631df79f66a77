#!/usr/bin/env bash
# The whole way on a generated data set: set up, make the data, train, evaluate, draw predictions.
#
#   ./scripts/demo.sh                                  about 5 minutes on 2 CPU cores with bf16, after the set-up
#   PYTHON=python3.13 ./scripts/demo.sh                with this interpreter, see setup.sh
#   ./scripts/demo.sh schedule.max_steps=50            overrides go to the training
set -euo pipefail
unset CDPATH
start=$SECONDS
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
"$root/scripts/setup.sh"
cd "$root"
setup_seconds=$((SECONDS - start))
python=.venv/bin/python
run=runs/retina_demo

step() {
    printf '\n== %s\n' "$*"
    "$@"
}

step .venv/bin/detector make-demo --output data/demo
step "$python" tools/train.py --config configs/retina_demo.yaml --overwrite "$@" "output_dir=$run"
step "$python" tools/evaluate.py --checkpoint "$run/checkpoints/best.pt" --metrics-out "$run/metrics_best.json" |
    tee "$run/evaluation.txt"
step "$python" tools/predict.py --checkpoint "$run/checkpoints/best.pt" --input data/demo/val --output "$run/pictures"

printf '\n== The demo is done: the best checkpoint on the held-out images\n'
sed '/^$/d; /^== /d' "$run/evaluation.txt"
cat <<END

Curves, pictures, histograms   $root/.venv/bin/tensorboard --logdir $root/$run --host 127.0.0.1
                               and open http://127.0.0.1:6006
Predictions drawn              $root/$run/pictures
Checkpoints and numbers        $root/$run/checkpoints, $root/$run/metrics.jsonl
Time                           $((SECONDS - start - setup_seconds)) s, and $setup_seconds s for the set-up
END

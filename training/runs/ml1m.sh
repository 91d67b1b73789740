#!/usr/bin/env bash
# The ml-1m figures: both models from three seeds, asked by the published protocol, beside the baselines.
#
#   training/runs/ml1m.sh            writes build/runs/ml1m.json: figures with intervals, aims, commit, seconds, machine
#   SEEDS=1 PRESET=quick …           less, for a first impression
#
# Half an hour to an hour a seed on one core. What is done is stamped and training leaves checkpoints: started again
# after a kill, it goes on where it was. On one thread the same seed gives the same figures on the same machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OMP_WAIT_POLICY=PASSIVE
python="${PYTHON:-.venv/bin/python}"
options=(--data ml-1m --preset "${PRESET:-full}" --seeds "${SEEDS:-3}")

"$python" -m cli evaluate "${options[@]}"
mkdir -p build/runs
"$python" -m cli evaluate "${options[@]}" --json > build/runs/.ml1m.part
mv build/runs/.ml1m.part build/runs/ml1m.json
echo "written to build/runs/ml1m.json"

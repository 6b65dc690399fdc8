#!/usr/bin/env bash
# Everything that needs a GPU, in one command: tests/gpu/measure.sh OUT
#
# The marked tests, throughput at three sizes of minibatches (normal, Bernoulli and categorical latents, eager and compiled),
# the flagship comparison on five seeds, the speed of the probe: at most six minutes.
# Each part has its own time limit, and what is done is kept. Run it in the source tree, where estbench can be imported and
# MNIST is in ESTBENCH_DATA_DIR or can be fetched.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${1:?give the folder for the results}
mkdir -p "$out"

part() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 began=$SECONDS
  shift 2
  timeout --signal=INT --kill-after=20 "$limit" "$@" > "$out/$name.log" 2>&1
  echo "$name: exit code $? after $((SECONDS - began)) of $limit s" | tee -a "$out/parts.txt"
}

python3 -c "import torch; assert torch.cuda.is_available(), 'torch finds no CUDA device'" || exit 1
python3 -m estbench doctor > "$out/doctor.txt" 2>&1
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv > "$out/card.txt" 2>&1

part tests 70 python3 -m pytest -q -n 0 -m gpu tests/gpu
part throughput 110 python3 -m estbench run experiments/gpu.toml --device cuda --out "$out/gpu"
part bernoulli 40 python3 -m estbench run experiments/gpu.toml --device cuda --out "$out/gpu_bernoulli" \
  --set 'problems=["vae[dataset=mnist,latents=bernoulli]"]' --set 'estimators=["rloo", "disarm"]' \
  --set throughput.reference=rloo
part categorical 40 python3 -m estbench run experiments/gpu.toml --device cuda --out "$out/gpu_categorical" \
  --set 'problems=["vae[dataset=mnist,latents=categorical]"]' --set 'estimators=["rloo", "gumbel-softmax"]' \
  --set throughput.reference=rloo
part flagship 70 python3 -m estbench run experiments/reparam_vs_reinforce.toml --device cuda \
  --set 'problems=["vae[dataset=mnist]"]' --set throughput.rounds=10 --out "$out/flagship"
part probe 30 python3 tests/benchmarks/probe_speed.py --device cuda --rounds 5
find "$out" -name "*.pt" -delete
du -sh "$out" | tee -a "$out/parts.txt"

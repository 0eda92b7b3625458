#!/usr/bin/env bash
# LeNets of the logit pairing paper on MNIST, trained and attacked as far as two cores go.
#
#     PYTHON=.venv/bin/python DATA=/data WORK=logit_pairing results/logit_pairing.sh
#     .venv/bin/python -m results.logit_pairing logit_pairing
#
# DATA as of reproduce.sh. What is finished is not repeated: train.py and test_adv.py go on where they were.
set -euo pipefail
code=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath -ms "${PYTHON:-$code/.venv/bin/python}")
data=$(realpath "${DATA:-$PWD}")/mnist_dataset
work=$(realpath -m "${WORK:-logit_pairing}")
mkdir -p "$work" && cd "$work"

train() { # network, flags
    local network=$1
    shift
    "$python" "$code/train.py" --dataset=mnist --train_data_path="$data/data_train.bin" \
        --eval_data_path="$data/data_test.bin" --model=lenet --log_root="networks/$network" \
        --checkpoint_every=1000 "$@"
}

attack() { # network, preset, flags
    local network=$1 preset=$2
    shift 2
    [[ -f attacked/$network/$preset/test_adv_run.json ]] && return
    "$python" "$code/test_adv.py" --dataset=mnist --eval_data_path="$data/data_test.bin" --model=lenet \
        --log_root="networks/$network" --mode=attack --attack_method=pgd --pgd_preset="$preset" \
        --save_pwd="attacked/$network/$preset" "$@"
}

# Two epochs with a training attack of a quarter of the published steps: the published one, 40 × 0.01, takes
# four times as long.
short=(--total_steps=469 --train_attack_iterations=10 --train_attack_step_size=0.04)
train clp --objective=clp --total_steps=2344
train lsq --objective=lsq --total_steps=2344
train plain --objective=plain --total_steps=1172
for network in at50 alp at50_alp; do
    train $network --objective=$network "${short[@]}"
done
for preset in baseline mid; do
    for network in plain clp lsq at50 alp at50_alp; do
        attack $network $preset --published_subset=True
    done
done
for network in clp lsq at50; do
    attack $network lite
done

#!/usr/bin/env bash
# LeNets of the logit pairing paper on MNIST, trained and attacked as far as two cores go.
#
#     PYTHON=.venv/bin/python DATA=/data WORK=logit_pairing results/logit_pairing.sh
#     .venv/bin/python -m results.logit_pairing logit_pairing
#
# NETWORKS="clp lsq" trains and attacks those alone.
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

attack() { # network, preset, folder, flags
    local network=$1 preset=$2 folder=attacked/$1/$3
    shift 3
    [[ -f $folder/test_adv_run.json ]] && return
    "$python" "$code/test_adv.py" --dataset=mnist --eval_data_path="$data/data_test.bin" --model=lenet \
        --log_root="networks/$network" --mode=attack --attack_method=pgd --pgd_preset="$preset" \
        --save_pwd="$folder" "$@"
}

# Two epochs with a training attack of a quarter of the published steps: the published one, 40 × 0.01, takes
# four times as long.
short=(--total_steps=469 --train_attack_iterations=10 --train_attack_step_size=0.04)
steps_of() { # network: flags of its training
    case $1 in
        plain) echo --total_steps=1172 ;;
        clp | lsq) echo --total_steps=6000 ;;
        *) echo "${short[@]}" ;;
    esac
}

for network in ${NETWORKS:-plain clp lsq at50 alp at50_alp}; do
    case $network in
        clp | lsq) # Apparent robustness takes time to appear: how far it is there after every 1,000 steps.
            for steps in {1000..6000..1000}; do
                train "$network" --objective="$network" --total_steps="$steps"
                attack "$network" baseline baseline_"$steps" --published_subset=True
            done ;;
        *) read -ra flags <<<"$(steps_of "$network")"
            train "$network" --objective="$network" "${flags[@]}" ;;
    esac
    for preset in baseline mid; do
        attack "$network" $preset $preset --published_subset=True
    done
    case $network in
        clp | lsq | at50) # Of strongest as many restarts as half an hour does; the published figures: 10,000.
            attack "$network" lite lite
            attack "$network" strongest strongest --published_subset=True --num_restarts=100 ;;
    esac
done

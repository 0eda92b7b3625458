#!/usr/bin/env bash
# The standard challenge of the shipped networks: attackers who know their detectors, and who do not.
#
#     PYTHON=.venv/bin/python DATA=/data WORK=attackers results/attack_shipped.sh
#     .venv/bin/python -m results.attackers attackers
#
# DATA as of reproduce.sh. 100 images that no threshold was fitted on, three seeds; an attack that is
# finished is not repeated, one that was killed goes on.
set -euo pipefail
code=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath -ms "${PYTHON:-$code/.venv/bin/python}")
data=$(realpath "${DATA:-$PWD}")
work=$(realpath -m "${WORK:-attackers}")

shipped() { # data set, objective, seed, values of eps
    local dataset=$1 objective=$2 seed=$3 eps=$4 rce=False path=$data/cifar-10-batches-bin
    [[ $objective == rce ]] && rce=True
    [[ $dataset == mnist ]] && path=$data/mnist_dataset/data_test.bin
    local network=$code/pretrained/${dataset}_resnet32_$objective
    local flags=(--dataset="$dataset" --num_residual_units=5 --RCE_train=$rce --log_root="$network"
                 --eval_data_path="$path" --seed="$seed" --detector="$network/detector.npz"
                 --eps_sweep="$eps" --mode=challenge --budget=standard)
    mkdir -p "$work/$dataset/seed$seed" && cd "$work/$dataset/seed$seed"
    "$python" "$code/test_adv.py" "${flags[@]}"
}

for seed in 0 1 2; do
    shipped mnist rce $seed 0.1,0.2
    shipped mnist ce $seed 0.2
    shipped cifar10 rce $seed 0.03137254901960784 # 8/255
    shipped cifar10 ce $seed 0.03137254901960784
done

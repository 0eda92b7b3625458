#!/usr/bin/env bash
# Networks of the logit pairing paper, trained and attacked as far as two cores go.
#
#     PYTHON=.venv/bin/python DATA=/data WORK=logit_pairing results/logit_pairing.sh
#     .venv/bin/python -m results.logit_pairing logit_pairing
#
# NETWORKS="clp lsq" trains and attacks those alone.
# DATA as of reproduce.sh. What is finished is not repeated: train.py and test_adv.py go on where they were.
set -euo pipefail
code=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath -ms "${PYTHON:-$code/.venv/bin/python}")
data=$(realpath "${DATA:-$PWD}")
work=$(realpath -m "${WORK:-logit_pairing}")
mkdir -p "$work" && cd "$work"

# The network $network, by its name: `same`, the flags of train.py and test_adv.py, and where it lies.
choose() {
    log_root=networks/$network
    case $network in
        cifar10_*) same=(--dataset=cifar10 --num_residual_units=1 --eval_data_path="$data/cifar-10-batches-bin") ;;
        resnet32_*) same=(--dataset=mnist --num_residual_units=5)
            log_root=$code/pretrained/mnist_$network ;;
        *) same=(--dataset=mnist --model=lenet) ;;
    esac
    [[ $network == cifar10_* ]] || same+=(--eval_data_path="$data/mnist_dataset/data_test.bin")
    [[ $network == *_rce ]] && same+=(--RCE_train=True)
    same+=(--log_root="$log_root")
}

train() { # flags
    local path=$data/mnist_dataset/data_train.bin
    [[ $network == cifar10_* ]] && path=$data/cifar-10-batches-bin
    "$python" "$code/train.py" "${same[@]}" --train_data_path="$path" --checkpoint_every=1000 "$@"
}

attack() { # preset, folder, flags
    local preset=$1 folder=attacked/$network/$2
    shift 2
    [[ -f $folder/test_adv_run.json ]] && return
    "$python" "$code/test_adv.py" "${same[@]}" --mode=attack --attack_method=pgd --pgd_preset="$preset" \
        --save_pwd="$folder" "$@"
}

# Training attacks of a quarter of the published steps: the published one, 40 × 0.01, takes four times as
# long. One epoch of it is a control.
adversarially() { # flags
    train --train_attack_iterations=10 --train_attack_step_size=0.04 "$@"
}

for network in ${NETWORKS:-plain clp lsq at50 alp at50_alp at50_control clp_without_noise lsq_without_noise \
        clp_rce lsq_rce resnet32_rce cifar10_plain cifar10_clp cifar10_lsq}; do
    choose
    case $network in
        plain) train --objective=plain --total_steps=1172 ;;
        clp | lsq) # Apparent robustness takes time to appear: how far it is there after every 1,000 steps.
            for steps in {1000..6000..1000}; do
                train --objective="$network" --total_steps="$steps"
                attack baseline baseline_"$steps" --published_subset=True
            done ;;
        clp_* | lsq_*) noise=()
            [[ $network == *_without_noise ]] && noise=(--noise_std=0)
            train --objective="${network%%_*}" --total_steps=6000 "${noise[@]}" ;;
        at50_control) train --objective=at50 --total_steps=235 ;;
        cifar10_*) # Ten epochs, as the authors without crops and flips; a smaller network than theirs.
            train --objective="${network#cifar10_}" --augment=False --lr_schedule=one_cycle \
                --total_steps=3900 ;;
        resnet32_*) ;; # is shipped
        *) adversarially --objective="$network" --total_steps=469 ;;
    esac
    for preset in baseline mid; do
        attack $preset $preset --published_subset=True
    done
    # Of strongest as many restarts as half an hour does; the published figures: 10,000, of CIFAR-10 100.
    case $network in
        clp | lsq | at50 | resnet32_*) attack lite lite
            attack strongest strongest --published_subset=True --num_restarts=10 ;;
        clp_* | lsq_*) attack lite lite ;;
        cifar10_*) attack strongest strongest --published_subset=True --num_restarts=10 ;;
    esac
done

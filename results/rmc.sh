#!/usr/bin/env bash
# Runtime masking and cleansing on MNIST as far as two cores go: the defence, its controls, the attacks that follow it.
#
#     PYTHON=.venv/bin/python DATA=/data WORK=rmc results/rmc.sh
#     .venv/bin/python -m results.rmc rmc
#
# DATA as of reproduce.sh. What is finished is not repeated: every script goes on where it was.
set -euo pipefail
code=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath -ms "${PYTHON:-$code/.venv/bin/python}")
data=$(realpath "${DATA:-$PWD}")/mnist_dataset
work=$(realpath -m "${WORK:-rmc}")
mkdir -p "$work" && cd "$work"
network=(--dataset=mnist --train_data_path="$data/data_train.bin" --eval_data_path="$data/data_test.bin"
         --num_residual_units=1 --log_root=resnet8)

"$python" "$code/train.py" "${network[@]}" --total_steps=1500 --checkpoint_every=500
"$python" "$code/rmc.py" --mode=augment "${network[@]}" --rmc_num_train=5000
"$python" "$code/rmc.py" --mode=features "${network[@]}"

eval_() { # folder, flags
    local folder=$1
    shift
    [[ -f $folder/rmc_run.json ]] && return
    "$python" "$code/rmc.py" "${network[@]}" --rmc_epochs=20 --save_pwd="$folder" "$@"
}

points=${POINTS:-25} known=${KNOWN_POINTS:-10}
eval_ pgd/reset_nearest --rmc_state=reset --rmc_stream=adv --rmc_num_eval="$points"
eval_ gmsa_avg/reset_nearest --rmc_state=reset --rmc_stream=adv --rmc_num_eval="$known" \
    --rmc_attack=gmsa_avg --rmc_rounds=5
eval_ pgd/sequential_nearest --rmc_num_eval="$points"
eval_ pgd/sequential_random --rmc_neighbors=random --rmc_stream=adv --rmc_num_eval="$points"
eval_ pgd/reset_random --rmc_neighbors=random --rmc_state=reset --rmc_stream=adv --rmc_num_eval="$points"
eval_ fpa/reset_nearest --rmc_state=reset --rmc_stream=adv --rmc_num_eval="$known" --rmc_attack=fpa \
    --rmc_rounds=5
eval_ gmsa_avg/sequential_nearest --rmc_stream=adv --rmc_num_eval="$known" --rmc_attack=gmsa_avg \
    --rmc_rounds=5
eval_ gmsa_min/reset_nearest --rmc_state=reset --rmc_stream=adv --rmc_num_eval="$known" \
    --rmc_attack=gmsa_min --rmc_rounds=5

# The shipped ResNet-32 with RCE: a smaller augmented set, the defender alone.
shipped=(--dataset=mnist --train_data_path="$data/data_train.bin" --eval_data_path="$data/data_test.bin"
         --RCE_train=True --log_root="$code/pretrained/mnist_resnet32_rce" --rmc_dir=rmc_resnet32)
if [[ ! -f resnet32/sequential_nearest/rmc_run.json ]]; then
    "$python" "$code/rmc.py" --mode=augment "${shipped[@]}" --rmc_num_train=2000
    "$python" "$code/rmc.py" --mode=features "${shipped[@]}"
    "$python" "$code/rmc.py" "${shipped[@]}" --rmc_epochs=20 --rmc_stream=adv --rmc_num_eval="${DEEP_POINTS:-20}" \
        --save_pwd=resnet32/sequential_nearest
fi

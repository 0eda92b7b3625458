#!/usr/bin/env bash
# Runtime masking and cleansing beside its controls on the embedded data set, inside demo_run/.
# usage: demo_rmc.sh PYTHON
set -euo pipefail
python=$1
code=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$code/demo_run"
cd "$code/demo_run"

run() {
    echo "\$ python $*"
    "$python" "$code/$1" "${@:2}"
}

common=(--dataset=digits --num_residual_units=1 --log_root=models_digits/resnet8_rmc)
run train.py "${common[@]}" --total_steps=400
run rmc.py "${common[@]}" --mode=augment --rmc_num_train=300 --rmc_augment_eps=0.2
run rmc.py "${common[@]}" --mode=features
numbers=("${common[@]}" --mode=eval --eps=0.2 --rmc_k=256 --rmc_batch_size=32 --rmc_epochs=20
         --rmc_lr=0.0003 --rmc_num_eval=15 --rmc_num_heldout=200)
run rmc.py "${numbers[@]}" --rmc_state=reset --rmc_stream=adv
run rmc.py "${numbers[@]}" --rmc_state=reset --rmc_stream=adv --rmc_neighbors=random
run rmc.py "${numbers[@]}" --rmc_stream=adv --rmc_neighbors=random
run rmc.py "${numbers[@]}"
run rmc.py --dataset=digits --mode=table
echo "Pictures:"
find "$PWD" -path '*rmc_*' -name '*.png'

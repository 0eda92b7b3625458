#!/usr/bin/env bash
# The README's commands on the embedded data set, for RCE and for CE, inside demo_run/.
# usage: demo.sh PYTHON
set -euo pipefail
python=$1
code=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$code/demo_run"
cd "$code/demo_run"

run() {
    echo "\$ python $*"
    "$python" "$code/$1" "${@:2}"
}

for rce in True False; do
    common=(--dataset=digits --num_residual_units=1 --RCE_train=$rce
            --log_root=models_digits/resnet8_rce_$rce)
    run train.py "${common[@]}" --total_steps=1000
    run test_nor.py "${common[@]}" --mode=eval
    run test_adv.py "${common[@]}" --mode=attack --attack_method=fgsm --eval_batch_count=-1
    run test_adv.py "${common[@]}" --mode=attack --attack_method=bim --eval_batch_count=-1
    run others.py "${common[@]}" --mode=kernel_para --eval_batch_count=-1
done
run detect.py --dataset=digits --mode=select_kernel --num_kernels=100
run detect.py --dataset=digits --attack_method=fgsm
run detect.py --dataset=digits --attack_method=bim
echo "Pictures:"
find "$PWD" -name '*.png'

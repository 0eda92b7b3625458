#!/usr/bin/env bash
# Learned data-generation networks as far as two cores go: generators, hardened networks, the grid.
#
#     PYTHON=.venv/bin/python DATA=/data WORK=dgn results/dgn.sh
#     .venv/bin/python -m results.dgn dgn
#
# STAGES="lrp resnet" runs those alone. DATA as of reproduce.sh. What is finished is not repeated: a
# training goes on where it was.
set -euo pipefail
code=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath -ms "${PYTHON:-$code/.venv/bin/python}")
data=$(realpath "${DATA:-$PWD}")
work=$(realpath -m "${WORK:-dgn}")
mkdir -p "$work" && cd "$work"
mnist=(--dataset=mnist --train_data_path="$data/mnist_dataset/data_train.bin"
       --eval_data_path="$data/mnist_dataset/data_test.bin")
target=("${mnist[@]}" --model=mnist_5x30 --log_root=mnist_5x30)
made=dgn_mnist/mnist_mnist_5x30_CE
shipped=$code/pretrained/mnist_resnet32_rce
resnet=("${mnist[@]}" --RCE_train=True --log_root="$shipped")
colours=(--dataset=cifar10 --train_data_path="$data/cifar-10-batches-bin"
         --eval_data_path="$data/cifar-10-batches-bin" --model=cifar_cnn --log_root=cifar_cnn)

dgn() { # mode, flags
    "$python" "$code/dgn.py" --mode="$@"
}

generators() { # loss, flags of its training
    local loss=$1
    shift
    case $loss in
        lrp) [[ -f $made/relevance.npz ]] || dgn analyze "${target[@]}" --custom_loss=lrp ;;
        susp) [[ -f $made/suspicion.npz ]] || dgn analyze "${target[@]}" --custom_loss=susp ;;
    esac
    dgn train "${target[@]}" --custom_loss="$loss" "$@"
    [[ -f $made/$loss/adv_test.npz ]] || dgn generate "${target[@]}" --custom_loss="$loss"
}

adapted() { # hardened network: generators that are trained against it
    local network=("${mnist[@]}" --model=mnist_5x30 --log_root="$made/robust/$1")
    dgn train "${network[@]}" --custom_loss=nce --dgn_epochs=30
    [[ -f dgn_mnist/mnist_mnist_5x30_CE_$1/nce/adv_test.npz ]] ||
        dgn generate "${network[@]}" --custom_loss=nce --splits=test
}

# The published epochs are 100, 150 and 600; Suspiciousness at a tenth of them and ten times the rate.
for stage in ${STAGES:-target nce susp lrp baselines hardened grid adaptive grid resnet colours}; do
    case $stage in
        target) "$python" "$code/train.py" "${target[@]}" ;;
        nce) generators nce --dgn_epochs=30 ;;
        susp) generators susp --dgn_epochs=60 --dgn_lr=1e-4 ;;
        lrp) generators lrp --dgn_epochs=50 ;;
        baselines)
            for attack in fgsm pgd; do
                [[ -f $made/$attack/adv_test.npz ]] || dgn generate "${target[@]}" --attack_method=$attack
            done ;;
        hardened)
            for source in lrp nce susp fgsm pgd; do
                dgn adv_train "${target[@]}" --adv_data="$made/$source/adv_train.npz"
            done
            dgn adv_train "${target[@]}" --adv_type=online ;;
        adaptive)
            adapted nce_gf
            adapted pgd_gf ;;
        grid) dgn evaluate "${target[@]}" ;;
        resnet) # About 236 steps of each class; does what they make pass as normal images?
            dgn train "${resnet[@]}" --custom_loss=nce --dgn_epochs=4
            [[ -f resnet/test_adv_run.json ]] ||
                "$python" "$code/test_adv.py" "${resnet[@]}" --mode=attack --attack_method=dgn_nce --eps=0.3 \
                    --detector="$shipped/detector.npz" --eval_batch_count=5 --save_pwd=resnet
            "$python" "$code/detect.py" --mode=evaluate --attack_method=dgn_nce --save_pwd=resnet \
                --detector="$shipped/detector.npz" --output_dir=detection ;;
        colours) # Three classes alone, an hour: not to be compared with what is published.
            "$python" "$code/train.py" "${colours[@]}"
            dgn train "${colours[@]}" --custom_loss=nce --classes=0-2
            dgn generate "${colours[@]}" --custom_loss=nce --classes=0-2 --splits=test ;;
    esac
done

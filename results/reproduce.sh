#!/usr/bin/env bash
# Every command behind the results: networks, attacks, kernels, detectors, figures. `make reproduce`.
#
#     PYTHON=.venv/bin/python DATA=/data WORK=runs SETTINGS=floor results/reproduce.sh [--list]
#
# DATA holds mnist_dataset/data_train.bin, data_test.bin and cifar-10-batches-bin/. Everything is written
# in WORK. A step that is finished is not repeated, one that was killed goes on: give the command again.
# A folder WORK is of one kind of SETTINGS: a step does not know what the networks before it have become.
# SETTINGS: floor (fewer images and iterations, for a small machine; the CIFAR-10 networks and ResNet-56
# are those of results/networks, trained on a GPU), or paper (the published ones). MNIST_NOTE and
# CIFAR10_NOTE: what the model cards say of the images, where they are not the published ones. DATASETS:
# mnist, cifar10 or, as by default, both. --list prints the commands and runs nothing.
set -euo pipefail
code=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$code/.venv/bin/python}
[[ $python == */* ]] && python=$(realpath -ms "$python") # steps run in other folders
data=$(realpath "${DATA:-$PWD}")
work=${WORK:-runs}
settings=${SETTINGS:-floor}
list=${1:-}

case $settings in
floor)
    batches=5 # of 200 images
    jsma_images=200 carlini_batches=10 white_box_images=20 white_box_cifar10=10
    carlini=(--attack_iterations=500 --attack_search_steps=5)
    white_box=(--attack_iterations=1000,1000 --attack_search_steps=3,5)
    ;;
paper)
    batches=50
    jsma_images=1000 carlini_batches=100 white_box_images=1000 white_box_cifar10=1000
    carlini=(--attack_iterations=10000 --attack_search_steps=9)
    white_box=(--attack_iterations=5000,10000)
    ;;
*)
    echo "error: SETTINGS must be floor or paper. Received: SETTINGS=$settings." >&2
    exit 1
    ;;
esac

# Steps whose files would meet others of the same name run in a folder of their own.
folder=.

step() { # script and its flags
    if [[ $list == --list ]]; then
        local word line=
        for word; do
            [[ $word == *' '* ]] && word="'$word'"
            line+="$word "
        done
        [[ $folder == . ]] || line+="# in $folder"
        echo "${line% }"
        return
    fi
    mkdir -p "$folder/.done"
    local done_file
    done_file=$folder/.done/$(printf '%s' "$*" | sha256sum | cut -c1-16)
    [[ -e $done_file ]] && return
    echo "\$ python $*"
    (cd "$folder" && "$python" "$code/$1" "${@:2}")
    printf '%s\n' "$*" > "$done_file"
}

if [[ $list != --list ]]; then
    mkdir -p "$work"
    cd "$work"
    [[ -e .settings ]] || echo "$settings" > .settings
    if [[ $(< .settings) != "$settings" ]]; then
        echo "error: SETTINGS must be $(< .settings) in WORK=$work, or WORK another folder." \
            "Received: SETTINGS=$settings." >&2
        exit 1
    fi
fi

use() { # objective, where the folder of its network lies, its residual units: the flags of that
    local rce units=${3:-5}
    rce=$([[ $1 == rce ]] && echo True || echo False)
    name=resnet$((6 * units + 2))_$1
    network=(--dataset=$dataset --num_residual_units="$units" --RCE_train="$rce" --seed=0
             --log_root="${2:-}models_$dataset/$name")
}

train_and_test() { # of `use`
    local trained=$code/results/networks/${dataset}_$name
    if [[ $settings == floor && -d $trained ]]; then
        bring "$trained" "models_$dataset/$name"
    else
        step train.py "${network[@]}" --train_data_path="$train" --eval_data_path="$test" \
            "${training[@]}" --checkpoint_every=500
    fi
    step test_nor.py "${network[@]}" --eval_data_path="$test" --mode=eval --eval_once=True \
        --eval_batch_count=-1
}

bring() { # a network that was trained elsewhere, to where its training would have left it
    if [[ $list == --list ]]; then
        echo "# $2 is $(realpath --relative-to="$code" "$1")"
        return
    fi
    mkdir -p "$2/train"
    # What is shipped is not kept twice.
    local weights=$1
    [[ -e $weights/checkpoint ]] || weights=$code/pretrained/$(basename "$1")
    cp -n "$weights/checkpoint" "$weights"/model.ckpt-* "$2"
    cp -n "$1/train_run.json" "$1/training.csv" "$2/train"
}

attack() { # name of the attack, then its flags
    step test_adv.py "${network[@]}" --eval_data_path="$test" --mode=attack --attack_method="$1" "${@:2}"
}

# FGSM up to eps 0.4, with the CE or the RCE cost (arXiv v1, figures 3 to 6).
wide() { # folder, then the flags of the attack
    folder=$1
    for objective in rce ce; do
        use $objective ../
        step test_adv.py "${network[@]}" --eval_data_path="$test" --mode=attack --attack_method=fgsm \
            --eval_batch_count="$batches" \
            --eps_sweep=0.02,0.04,0.08,0.12,0.16,0.20,0.24,0.28,0.32,0.36,0.40 "${@:2}"
    done
    step detect.py --dataset=$dataset --mode=figures --kernel_dir=../kernel_para_$dataset
    aucs fgsm
    folder=.
}

aucs() { # attack, in a folder of its own
    step detect.py --dataset=$dataset --attack_method="$1" --kernel_dir=../kernel_para_$dataset
}

# Runs of results/experiments.json that no table shows.
experiments_mnist() {
    use ce ../
    for folder in kappa_5 kappa_20; do
        attack carliniL2_highcon --attack_confidence="${folder#kappa_}" --eval_batch_count=5 "${carlini[@]}"
        aucs carliniL2_highcon
    done
    folder=jsma_eps
    attack jsma --eps_sweep=0.1,0.4,1.0 --eval_batch_count="$jsma_images"
    aucs jsma
    folder=.
}

# A deeper network on the smaller data set, attacked and judged as ResNet-32 is, but for JSMA and white-box.
resnet56() {
    for objective in rce ce; do
        use $objective "" 9
        train_and_test
        folder=resnet56
        use $objective ../ 9
        step others.py "${network[@]}" --eval_data_path="$train" --mode=kernel_para --eval_batch_count=500
        for method in fgsm bim tgsm; do
            attack $method --eval_batch_count="$batches"
        done
        attack carliniL2 --eval_batch_count="$carlini_batches" "${carlini[@]}"
        folder=.
    done
    folder=resnet56
    step detect.py --dataset=$dataset --mode=select_kernel --num_kernels=1000
    for method in fgsm bim tgsm carliniL2; do
        step detect.py --dataset=$dataset --attack_method=$method
    done
    folder=.
}

# What a seed is worth: a small network five times, its accuracy and AUCs at three eps.
seeds() {
    for seed in 0 1 2 3 4; do
        folder=seeds/$seed
        for objective in rce ce; do
            use $objective "" 1
            network=("${network[@]/--seed=0/--seed=$seed}")
            step train.py "${network[@]}" --train_data_path="$train" --eval_data_path="$test" \
                --total_steps=1500 --lr_boundaries=667,1000,1333 --checkpoint_every=500
            step test_nor.py "${network[@]}" --eval_data_path="$test" --mode=eval --eval_once=True \
                --eval_batch_count=-1
            step others.py "${network[@]}" --eval_data_path="$train" --mode=kernel_para \
                --eval_batch_count=100
            for method in fgsm bim tgsm; do
                attack $method --eval_batch_count="$batches" --eps_sweep=0.04,0.08,0.16
            done
        done
        # Of 10,000 images no class has 1,000.
        step detect.py --dataset=$dataset --mode=select_kernel --num_kernels=800
        for method in fgsm bim tgsm; do
            step detect.py --dataset=$dataset --attack_method=$method
        done
        folder=.
    done
}

# The 2x100 dense net with CE, with RCE and as a deep ensemble of five with CE (arXiv v1, figure 7).
dense() { # folder of the networks' results, log_root, then the objective
    folder=$1
    local flags=(--dataset=mnist --model=mlp --RCE_train="$3" --log_root="$2")
    step test_adv.py "${flags[@]}" --eval_data_path="$test" --mode=attack --attack_method=fgsm \
        --eval_batch_count="$batches" --eps_sweep=0.1,0.2,0.3,0.4
    step others.py "${flags[@]}" --eval_data_path="$train" --mode=kernel_para --eval_batch_count=500
    folder=.
}

dense_train() { # log_root, objective, seed
    step train.py --dataset=mnist --model=mlp --RCE_train="$2" --seed="$3" --log_root="$1" \
        --train_data_path="$train" --eval_data_path="$test"
}

dense_detector() { # folder
    folder=$1
    step detect.py --dataset=mnist --mode=select_kernel --num_kernels=1000
    step detect.py --dataset=mnist --mode=fit --attack_method=fgsm
    folder=.
}

figure_7() {
    local members=()
    for seed in 0 1 2 3 4; do
        dense_train dense/models/ce_$seed False $seed
        members+=(../models/ce_$seed)
    done
    dense_train dense/models/rce True 0
    dense dense models/ce_0 False
    dense dense models/rce True
    dense_detector dense
    dense dense/ensemble_of_5 "$(IFS=,; echo "${members[*]}")" False
    dense_detector dense/ensemble_of_5
    folder=dense
    step detect.py --dataset=mnist --mode=figures --beside=ensemble_of_5
    folder=.
}

# The simple CNN of arXiv v1 (tables 2 to 4), by its recipe.
simple_cnn() { # objective
    local rce flags
    rce=$([[ $1 == rce ]] && echo True || echo False)
    flags=(--dataset=$dataset --model=simple_cnn --RCE_train="$rce" --seed=0
           --log_root=models_$dataset/simple_cnn_$1)
    step train.py "${flags[@]}" --train_data_path="$train" --eval_data_path="$test"
    step test_nor.py "${flags[@]}" --eval_data_path="$test" --mode=eval --eval_once=True \
        --eval_batch_count=-1
}

for dataset in ${DATASETS:-mnist cifar10}; do
    if [[ $dataset == mnist ]]; then
        train=$data/mnist_dataset/data_train.bin test=$data/mnist_dataset/data_test.bin
        training=(--total_steps=20000)
        note=${MNIST_NOTE:-the published MNIST, 60,000 images to train.}
    else
        train=$data/cifar-10-batches-bin test=$data/cifar-10-batches-bin
        training=(--total_steps=90000 --lr_boundaries=40000,60000,80000)
        white_box_images=$white_box_cifar10
        note=${CIFAR10_NOTE:-the published CIFAR-10, 50,000 images to train.}
    fi
    for objective in rce ce; do
        use $objective
        train_and_test
        step others.py "${network[@]}" --eval_data_path="$train" --mode=kernel_para --eval_batch_count=500
        for method in random fgsm bim tgsm; do
            attack $method --eval_batch_count="$batches"
        done
    done
    step detect.py --dataset=$dataset --mode=select_kernel --num_kernels=1000
    step detect.py --dataset=$dataset --mode=select_kernel_for_attack
    step detect.py --dataset=$dataset --mode=median_for_attack
    step detect.py --dataset=$dataset --mode=fit --attack_method=fgsm
    for objective in rce ce; do
        use $objective
        attack jsma --eps=0.2 --eval_batch_count="$jsma_images"
        attack carliniL2 --eval_batch_count="$carlini_batches" "${carlini[@]}"
        attack carliniL2_highcon --eval_batch_count="$carlini_batches" "${carlini[@]}"
        attack carliniL2_highden --eval_batch_count="$white_box_images" "${white_box[@]}"
        attack carliniL2_specific --eval_batch_count="$white_box_images" "${white_box[@]}"
    done
    step detect.py --dataset=$dataset --mode=evaluate
    step detect.py --dataset=$dataset --mode=figures --tsne_attack=all
    wide wide
    wide wide_rce_cost --attack_cost=rce
    if [[ $dataset == mnist ]]; then
        figure_7
        seeds
        [[ $settings == floor ]] && resnet56 && experiments_mnist
    fi
    # On a small machine the 60 epochs of CIFAR-10 would take days.
    if [[ $dataset == mnist || $settings == paper ]]; then
        simple_cnn rce
        simple_cnn ce
    fi
    # Deeper networks, of which only accuracies are published.
    if [[ $settings == paper ]]; then
        for units in 9 18; do
            for objective in rce ce; do
                use $objective "" $units
                train_and_test
            done
        done
    fi
    for objective in rce ce; do
        use $objective
        step others.py "${network[@]}" --eval_data_path="$test" --mode=export_pretrained \
            --output_dir=pretrained/${dataset}_resnet32_$objective --data_note="$note"
    done
done

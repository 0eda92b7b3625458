"""Trains a network with cross entropy or reverse cross-entropy, as the original's train.py.

    python train.py --dataset=digits --log_root=models_digits/resnet8 --num_residual_units=1 \
        --total_steps=1000 --RCE_train=True
"""

import functools

import flags

from options import network as network_options
from options import training as training_options

flags.start(__name__, network_options.define, training_options.define, check=training_options.check)

from tqdm import tqdm

from data import inputs, sense
from training import loop

MODES = ("train",)


def main() -> int:
    """Turns the flags into a run and trains it."""
    F = flags.FLAGS
    flags.check_choice("mode", MODES)
    training_options.check()
    options = training_options.loop_options(tqdm.write)  # over a bar print would leave pieces of it
    # Flushed: in the log of a job the line must stand there while the run waits.
    strategy = training_options.make_strategy(functools.partial(print, flush=True))
    train_set, test_set = inputs.load_for_training(
        F.dataset, F.train_data_path, F.eval_data_path, data_dir=F.data_dir,
        num_classes=F.num_classes)
    # Differs from the original: it takes the precision of an empty pattern then.
    if test_set is None:
        print("No --eval_data_path: no test precision during training.")
    sense.check_training(train_set, test_set, classes_given=bool(F.num_classes), note=print,
                         warn=flags.warn)
    run = training_options.run_of(train_set, strategy.num_replicas_in_sync)
    if told := training_options.told_of_objective(run):
        print(told)
    exit_code, figures = loop.train(run, strategy, train_set, test_set, options)
    loop.record(options, training_options.as_recorded(run), figures)
    return exit_code


if __name__ == "__main__":
    flags.run(main)

"""Flags of an attack."""

import flags

from absl import flags as absl_flags


def define() -> None:
    """Flags of test_adv.py alone."""
    flags.define_mode("train", "attack, merge or tSNE_logits")
    flags.define_eval_batches(10)
    absl_flags.DEFINE_string("eval_dir", "", "Accepted for the original's commands; not used.")
    flags.define_attack()
    absl_flags.DEFINE_float(
        "eps", 0.01,
        "Largest change of a pixel, in (0, 1]. Not given: attack sweeps 0.02, ..., 0.20.")
    absl_flags.DEFINE_list(
        "eps_sweep", [], "Values of eps that attack sweeps. Empty: 0.02, 0.04, ..., 0.20.")
    absl_flags.DEFINE_integer(
        "attack_batch_size", 0,
        "Images per call of the attack; 0: the fastest measured. No influence on results.")
    absl_flags.DEFINE_string(
        "target", "", "random, least_likely, all (the smallest success), none (untargeted) or a "
        "class. Empty: the original's for the attack.")
    define_attack_numbers()
    absl_flags.DEFINE_bool("jsma_pair", False, "jsma raises the best pair of pixels per step.")
    absl_flags.DEFINE_integer("num_restarts", 1, "Random starts of pgd.")
    absl_flags.DEFINE_string(
        "attack_cost", "ce", "What fgsm ascends: ce, or rce of the raw logits (figure 4 of arXiv v1).")
    absl_flags.DEFINE_string(
        "cw_abort", "image", "Which images of C&W share the abort rule: image (each its own) or "
        "batch (the original's ten).")
    absl_flags.DEFINE_string(
        "density_form", "log", "Density of the white-box attacks: log (logsumexp) or original.")
    absl_flags.DEFINE_string(
        "distance_from", "attack1", "Where the white-box attacks measure distance from: attack1 "
        "(the result of their first stage) or clean.")
    flags.define_kernel_dir()
    absl_flags.DEFINE_bool("overwrite", False, "Delete unfinished parts of another run and replace "
                           "results of another network.")
    define_shards()


def define_shards() -> None:
    """Runs that share one attack."""
    absl_flags.DEFINE_integer(
        "num_shards", 1,
        "Runs of --mode=attack that share one attack, each with its --shard_index; --mode=merge joins "
        "what they leave in <results>/parts. Runs elsewhere leave it in a folder of their own: copy "
        "the files of all into one first, no two parts have one name.")
    absl_flags.DEFINE_integer("shard_index", 0, "Which of --num_shards this run is, from 0.")


def define_attack_numbers() -> None:
    """Numbers of an attack; the white-box attacks take one, or two for their two stages."""
    for name, what in (("attack_confidence", "Confidence (kappa) of C&W"),
                       ("attack_iterations", "Steps per image; of C&W per search step"),
                       ("attack_learning_rate", "Learning rate of C&W"),
                       ("attack_search_steps", "Binary search steps of C&W"),
                       ("attack_initial_const", "First tradeoff constant of C&W")):
        absl_flags.DEFINE_list(
            name, [], f"{what}; white-box: one for both stages or two, a,b. Empty: the original's.")

"""Flags of train.py, and of test_nor.py, which follows it."""

import flags

from absl import flags as absl_flags


def define() -> None:
    """Flags of train.py alone."""
    flags.define_mode("train", "train")
    flags.define_total_steps(90000)
    flags.define_lr_decay()
    absl_flags.DEFINE_integer("batch_size", 128, "Images per step, over all replicas.")
    absl_flags.DEFINE_list(
        "lr_boundaries", [],
        "Steps at which the learning rate falls tenfold, e.g. 10000,15000,20000. Empty: the "
        "original's for the data set; digits and npz: 1/2, 3/4 and all of --total_steps.")
    absl_flags.DEFINE_float(
        "learning_rate", None, "First learning rate; of cosine and one_cycle the largest. None: 0.1, "
        "or the recipe's of --model.")
    absl_flags.DEFINE_string(
        "lr_schedule", "step", "step: falls at --lr_boundaries. cosine: to 0 over --total_steps. "
        "one_cycle: up from a tenth and down again, the momentum of mom and the beta_1 of adam the "
        "other way round.")
    absl_flags.DEFINE_integer("checkpoint_every", 2500, "Steps between checkpoints.")
    absl_flags.DEFINE_integer("keep_checkpoints", 5, "Newest checkpoints that are kept.")
    absl_flags.DEFINE_integer(
        "steps_per_loop", 20, "Steps per call of the traced loop; no influence on results.")
    absl_flags.DEFINE_bool(
        "sync_batch_norm", False, "Batch-norm statistics of the global batch, not per replica.")
    absl_flags.DEFINE_string(
        "mixed_precision", "", f"Compute in {' or '.join(flags.MIXED_PRECISIONS)}. Empty: float32.")
    absl_flags.DEFINE_bool("jit_compile", False, "Compile the gradients with XLA.")
    absl_flags.DEFINE_bool(
        "deterministic", False, "Only deterministic kernels: the same bytes on a GPU, too, slower.")


def define_test_nor() -> None:
    """Flags of test_nor.py alone."""
    flags.define_mode("train", "eval (train is the same thing)")
    flags.define_total_steps(100000)
    flags.define_lr_decay()
    flags.define_eval_batches(50)
    flags.define_eval_once()
    absl_flags.DEFINE_string("eval_dir", "", "TensorBoard summaries of evaluation.")
    absl_flags.DEFINE_integer(
        "eval_timeout", None, "Seconds to wait for a new checkpoint before ending. None: for ever.")

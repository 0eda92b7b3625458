"""Flags of detect.py, which reads files only."""

import flags

from absl import flags as absl_flags

from data import DATASETS
from defenses import SCORES
from options import network


def define() -> None:
    """All flags of detect.py, which reads files only."""
    absl_flags.DEFINE_string("dataset", "", f"Data set: {', '.join(DATASETS)}.")
    flags.define_mode(
        "auc", "auc, select_kernel, select_kernel_for_attack, median_for_attack, fit, evaluate, "
        "figures or apply")
    flags.define_attack()
    absl_flags.DEFINE_integer(
        "num_kernels", 1000,
        "Training features per class kept as kernels; of select_kernel_for_attack 100 if not given.")
    absl_flags.DEFINE_integer("eps_round", 0, "Round of the eps sweep, from 1. 0: all.")
    absl_flags.DEFINE_integer("num_per_eps", 0, "Images per eps. 0: as the run record says.")
    absl_flags.DEFINE_bool(
        "matlab_ties", False,
        "auc and evaluate count equal scores against detection, as the original's AUC.m.")
    flags.define_kernel_dir()
    absl_flags.DEFINE_string("objective_tag", "", "RCE or CE. Empty: both, where they exist.")
    define_detector()
    flags.define_seed()


def define_detector() -> None:
    """Flags of detect.py's modes fit, evaluate, figures and apply."""
    absl_flags.DEFINE_string(
        "detector", "", "The detector.npz. Empty: <kernel_dir>/detector_<RCE or CE>.npz.")
    absl_flags.DEFINE_list(
        "false_refusal_rate", ["0.01", "0.05"],
        "Shares of normal images that fit lets the detector refuse; apply takes the first.")
    absl_flags.DEFINE_float("eta", 1.0, "eta of the kernel non-ME and so of the J-score.")
    absl_flags.DEFINE_float(
        "holdout_share", 0.5, "Share of an attack's normal images that fit takes; evaluate the rest.")
    absl_flags.DEFINE_string(
        "score", "k_density", f"Score by which apply decides: {', '.join(SCORES)}.")
    absl_flags.DEFINE_string(
        "beside", "", "Folder in which another network was attacked and its detector fitted: figures "
        "draws its answers and refusals against T beside ours (figure 7 of arXiv v1).")
    absl_flags.DEFINE_list(
        "tsne_attack", [], "Attacks, or all, of whose features figures draws a t-SNE. It takes "
        "5 to 30 seconds per objective. Empty: none.")
    absl_flags.DEFINE_string("images", "", "Images for apply: a .npy file or a folder of PNG files.")
    absl_flags.DEFINE_string("log_root", "", "Network for apply. Empty: where the detector lies.")
    absl_flags.DEFINE_string(
        "model", "", "Network for apply, a file of Keras. Empty: <its name>.keras where the detector "
        "lies, of a detector of one.")
    network.define_trust_model()
    absl_flags.DEFINE_string("answers", "answers.csv", "File that apply writes.")
    absl_flags.DEFINE_string(
        "output_dir", "", "Folder that evaluate and figures write. Empty: detection_<dataset>.")

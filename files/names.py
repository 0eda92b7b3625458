"""Every folder and file name that users of the original have scripts for, once."""

import os
from pathlib import Path

# Suffix of file and folder names. "Features" (the pooled layer) are called logits on disk.
OBJECTIVE_TAG = {"ce": "CE", "rce": "RCE"}
OBJECTIVE_OF_TAG = {tag: objective for objective, tag in OBJECTIVE_TAG.items()}
RESULT_TEXTS = ("entropy_nor", "entropy_adv", "confidence_nor", "confidence_adv", "logits_nor",
                "logits_adv", "labels_nor", "labels_adv", "labels_true", "L2_distance")
RESULT_IMAGES = ("nor_img", "adv_img")
# Picture beside the result files: some of their images.
IMAGE_GRID = "images.png"
# What is stored: (file stem, name of the array in it), `{tag}` being RCE or CE.
KERNEL_NAMES = {
    "kernels": ("kernel1000_{tag}", "kernel_{tag}"),
    "attack_kernels": ("kernel1000_for_attack_{tag}", "kernel_{tag}_for_attack"),
    "attack_medians": ("kernel1000_median_for_attack_{tag}", "median_out"),
}


def attack_dir(attack: str, dataset: str) -> Path:
    """Folder `<attack>_<dataset>`, above the folders of the objectives."""
    return Path(f"{attack}_{dataset}")


def results_dir(attack: str, dataset: str, objective: str,
                save_pwd: str | os.PathLike | None = None) -> Path:
    """Folder of an attack's result files: `save_pwd` itself, else `<attack>_<dataset>/<RCE|CE>`."""
    if save_pwd:
        return Path(save_pwd)
    return attack_dir(attack, dataset) / OBJECTIVE_TAG[objective]


def kernel_dir(dataset: str) -> Path:
    """Folder of training features and kernels, `kernel_para_<dataset>`."""
    return Path(f"kernel_para_{dataset}")


def training_features_path(folder: str | os.PathLike, objective: str) -> Path:
    """The file training_logits_<RCE|CE> in `folder`."""
    return Path(folder) / f"training_logits_{OBJECTIVE_TAG[objective]}"


def training_labels_path(folder: str | os.PathLike, objective: str) -> Path:
    """The file training_logitslabels_<RCE|CE> in `folder`."""
    return Path(folder) / f"training_logitslabels_{OBJECTIVE_TAG[objective]}"


def training_scores_path(folder: str | os.PathLike, objective: str) -> Path:
    """The file training_scores_<RCE|CE>.npz in `folder`."""
    return Path(folder) / f"training_scores_{OBJECTIVE_TAG[objective]}.npz"


def normal_tsne_dir(dataset: str) -> Path:
    """Folder of the t-SNE of normal images, `nor_tsne_results_<dataset>`."""
    return Path(f"nor_tsne_results_{dataset}")


def tsne_dir(attack: str, dataset: str) -> Path:
    """Folder of the t-SNE of normal and adversarial images, `<attack>_<dataset>/tSNE`."""
    return attack_dir(attack, dataset) / "tSNE"

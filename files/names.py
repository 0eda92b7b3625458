"""Every folder and file name that users of the original have scripts for, once."""

import os
import re
from pathlib import Path

from errors import InputError

# Head → suffix of the files and folders of a network of plain training. "Features" (the pooled layer)
# are called logits on disk.
OBJECTIVE_TAG = {"ce": "CE", "rce": "RCE"}
OBJECTIVE_OF_TAG = {tag: objective for objective, tag in OBJECTIVE_TAG.items()}
# The training objective whose tags do not name it.
PLAIN = "plain"
# What attacks with restarts leave besides what every attack does.
RESTARTS_PICTURE, LOSSES = "restarts.png", "losses.npy"
# A head's tag, or that and a training objective: RCE, RCE_at50.
_TAG = re.compile(rf"({'|'.join(OBJECTIVE_OF_TAG)})(?:_([a-z0-9]+(?:_[a-z0-9]+)*))?")
# L2_distance is the original's name; what it writes there is a root mean square.
RESULT_TEXTS = ("entropy_nor", "entropy_adv", "confidence_nor", "confidence_adv", "logits_nor",
                "logits_adv", "labels_nor", "labels_adv", "labels_true", "L2_distance")
RESULT_IMAGES = ("nor_img", "adv_img")
# --against: every score of a detector.
ALL_SCORES = "all"
# Files of a checkpoint in its folder, as patterns.
CHECKPOINT_FILES = ("checkpoint", "model.ckpt-*")
# Picture beside the result files: some of their images.
IMAGE_GRID = "images.png"
# What is stored: (file stem, name of the array in it), `{tag}` being RCE or CE.
# The 1000 stays, whatever --num_kernels: users' scripts open these names.
KERNEL_NAMES = {
    "kernels": ("kernel1000_{tag}", "kernel_{tag}"),
    "attack_kernels": ("kernel1000_for_attack_{tag}", "kernel_{tag}_for_attack"),
    "attack_medians": ("kernel1000_median_for_attack_{tag}", "median_out"),
}


def tag_of(head: str, training_objective: str = PLAIN) -> str:
    """What files and folders of a network are called: `RCE`; not of plain training, `RCE_at50`.

    Args:
      head: "ce" or "rce".
      training_objective: what was minimised with it.
    """
    tag = OBJECTIVE_TAG[head]
    return tag if training_objective == PLAIN else f"{tag}_{training_objective}"


def is_tag(text: str) -> bool:
    """Whether `text` is what `tag_of` makes."""
    return _TAG.fullmatch(text) is not None


def head_of_tag(tag: str) -> str:
    """The head, "ce" or "rce", of a tag of `tag_of`; InputError when it is none."""
    if not is_tag(tag):
        raise InputError(f"objective_tag must be one of [{', '.join(OBJECTIVE_OF_TAG)}], or one of "
                         "these and a training objective, as in RCE_at50. "
                         f"Received: objective_tag={tag!r}.")
    return OBJECTIVE_OF_TAG[_TAG.fullmatch(tag)[1]]


def tag_of_network(network: str) -> str:
    """The tag itself, or the one that a head has after plain training: how the paths below are asked
    for may be either."""
    return OBJECTIVE_TAG.get(network, network)


def variant_of(attack: str, against: str = "", norm: str = "") -> str:
    """What folders and tables call an attack with what it was told to do.

    Args:
      attack: name of its row.
      against: the scores it aims at: one, several joined by "+", or ALL_SCORES; "" of one that aims at
        none.
      norm: "l2" where it has the choice and that was taken.
    """
    return "_".join(part for part in (attack, against, norm if norm == "l2" else "") if part)


def transferred(variant: str, weights_sha256: str) -> str:
    """What an attack is called, as of `variant_of`, that was made on another network."""
    return f"{variant}_from_{weights_sha256[:8]}"


def attack_dir(attack: str, dataset: str) -> Path:
    """Folder `<attack>_<dataset>`, above the folders of the objectives."""
    return Path(f"{attack}_{dataset}")


def results_dir(attack: str, dataset: str, network: str,
                save_pwd: str | os.PathLike | None = None) -> Path:
    """Folder of an attack's result files: `save_pwd` itself, else `<attack>_<dataset>/<tag>`; `network`
    is a tag or a head."""
    # As in the original, with no folder RCE or CE below it.
    if save_pwd:
        return Path(save_pwd)
    return attack_dir(attack, dataset) / tag_of_network(network)


def challenge_dir(budget: str, norm: str, dataset: str,
                  save_pwd: str | os.PathLike | None = None) -> Path:
    """Folder in which the attacks of a challenge leave their folders: `save_pwd` itself, else
    `challenge_<budget>[_l2]_<dataset>`."""
    return Path(save_pwd or "_".join(["challenge", budget, *(["l2"] if norm == "l2" else []), dataset]))


def defended_dir(variant: str, dataset: str, network: str, defender: str,
                 save_pwd: str | os.PathLike | None = None) -> Path:
    """Folder of what came of a defender under an attack: `save_pwd` itself, else
    `rmc_<variant>_<dataset>/<tag>/<defender>`."""
    return Path(save_pwd or attack_dir(f"rmc_{variant}", dataset) / tag_of_network(network) / defender)


def kernel_dir(dataset: str) -> Path:
    """Folder of training features and kernels, `kernel_para_<dataset>`."""
    return Path(f"kernel_para_{dataset}")


def training_features_path(folder: str | os.PathLike, network: str) -> Path:
    """The file training_logits_<tag> in `folder`; `network` is a tag or a head."""
    return Path(folder) / f"training_logits_{tag_of_network(network)}"


def training_labels_path(folder: str | os.PathLike, network: str) -> Path:
    """The file training_logitslabels_<tag> in `folder`; `network` is a tag or a head."""
    return Path(folder) / f"training_logitslabels_{tag_of_network(network)}"


def training_scores_path(folder: str | os.PathLike, network: str) -> Path:
    """The file training_scores_<tag>.npz in `folder`; `network` is a tag or a head."""
    return Path(folder) / f"training_scores_{tag_of_network(network)}.npz"


def normal_tsne_dir(dataset: str) -> Path:
    """Folder of the t-SNE of normal images, `nor_tsne_results_<dataset>`."""
    return Path(f"nor_tsne_results_{dataset}")


def tsne_dir(attack: str, dataset: str) -> Path:
    """Folder of the t-SNE of normal and adversarial images, `<attack>_<dataset>/tSNE`."""
    return attack_dir(attack, dataset) / "tSNE"

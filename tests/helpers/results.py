"""Results of an attack from arrays under their names on disk, and their AUCs."""

from pathlib import Path

import numpy as np

from defenses import PUBLISHED_SCORES
from defenses.kernels import Kernels
from defenses.scores import Reference
from evaluation import judging
from evaluation.rounds import check_rounds, rounds_of
from files.attack_results import AttackResults, Outputs


def results_of(arrays, eps_values, num_per_eps, tag="RCE"):
    """AttackResults of arrays as `load_attack_results` reads them."""
    sides = (Outputs(arrays[f"confidence_{side}"], arrays[f"entropy_{side}"], arrays[f"logits_{side}"],
                     arrays[f"labels_{side}"]) for side in ("nor", "adv"))
    return AttackResults(tag, Path(), *sides, np.asarray(arrays["labels_true"]), eps_values,
                         num_per_eps, None)


def auc_table(arrays, kernels, bandwidth, eps_values, num_per_eps, eps_round=0, *, matlab_ties=False):
    """Lines of `judging.auc_table`, of every image scored, whether it counts or not."""
    results = results_of(arrays, eps_values, num_per_eps)
    check_rounds(results, eps_round)
    rounds = rounds_of("fgsm", results, PUBLISHED_SCORES, Reference(Kernels(kernels, bandwidth)))
    return judging.auc_table(rounds, eps_round, matlab_ties=matlab_ties)

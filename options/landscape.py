"""Flags of the heat map and of the loss surface of test_adv.py, and of what draws one image."""

import flags

from absl import flags as absl_flags

import attacks
from errors import InputError

# Of the figure of Mosbach et al. 2018.
STEP_SIZES = tuple((2.5 + 2 * k) / 255 for k in range(38))
ITERATIONS = tuple(range(40, 401, 10))
# A million points.
_MOST_OF_A_GRID = 1001
# Sides of a surface → whether the first is the sign of the gradient.
_DIRECTIONS = {"grad_rand": True, "rand_rand": False}
# Flag → the modes that take it.
MODES_OF = {"image_index": ("loss_histogram", "loss_surface"),
            **dict.fromkeys(("heatmap_step_sizes", "heatmap_iterations"), ("heatmap",)),
            **dict.fromkeys(("surface_grid", "surface_radius", "surface_directions"),
                            ("loss_surface",))}


def define() -> None:
    """The flags."""
    absl_flags.DEFINE_list(
        "heatmap_step_sizes", [], "Changes of a pixel per step that --mode=heatmap tries, increasing. "
        "Empty: 2.5, 4.5, ..., 76.5 of 255.")
    absl_flags.DEFINE_list(
        "heatmap_iterations", [], "Numbers of steps after which --mode=heatmap looks, increasing. "
        "Empty: 40, 50, ..., 400.")
    absl_flags.DEFINE_integer(
        "surface_grid", 51, "Points along each side of --mode=loss_surface, an odd number.")
    absl_flags.DEFINE_float(
        "surface_radius", 0.15, "Largest change of a pixel along a side of --mode=loss_surface.")
    absl_flags.DEFINE_string(
        "surface_directions", "grad_rand", "Sides of --mode=loss_surface: grad_rand (sign of the "
        "gradient, random signs) or rand_rand.")
    absl_flags.DEFINE_integer(
        "image_index", 0, "Which image of the results --mode=loss_histogram draws, from 0; of "
        "--mode=loss_surface, of the data set.")


def check_heatmap(attack: attacks.Attack, num_eps: int) -> None:
    """Looks at the flags of --mode=heatmap; InputError where one is wrong or does nothing.

    Args:
      attack: the one that is asked for.
      num_eps: how many values of eps are.
    """
    if not attack.has_step_size:
        raise InputError("heatmap goes through step sizes, which only pgd has. Received: attack_method="
                         f"{flags.FLAGS.attack_method}.")
    # Steps and their size are what it goes through, from one start.
    flags.refuse("heatmap", ("attack_step_size", "attack_iterations", "num_restarts", "drop_broken",
                             "save_losses", "target", "num_shards", "check_steps", "jit_compile",
                             "attack_batch_size"))
    if num_eps > 1:
        raise InputError("heatmap needs one --eps, or a --pgd_preset that has one. Received: a sweep.")
    axes()


def axes() -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Step sizes and numbers of steps of a heat map; InputError where they do not increase."""
    found = (flags.numbers("heatmap_step_sizes", float, 0.0, above=True) or STEP_SIZES,
             flags.numbers("heatmap_iterations", int, 1) or ITERATIONS)
    for name, values in zip(("heatmap_step_sizes", "heatmap_iterations"), found, strict=True):
        if sorted(set(values)) != list(values):
            raise InputError(f"{name} must increase. Received: {name}="
                             f"{','.join(flags.FLAGS[name].value)}.")
    return found


def check_surface() -> None:
    """Looks at the flags of --mode=loss_surface; InputError where one is wrong or does nothing."""
    F = flags.FLAGS
    flags.refuse("loss_surface", (
        "attack_method", "eps", "eps_sweep", "target", "against", "against_rate", "kernel_dir",
        "num_shards", "eval_batch_count", "check_steps", "transfer_from", "pgd_preset",
        "published_subset", "save_losses", "detector", "jit_compile", "attack_batch_size",
        "attack_chunk", *attacks.settings()))
    flags.check_choice("surface_directions", _DIRECTIONS)
    flags.check_number("surface_radius", 0.0, above=True)
    if flags.check_at_least("surface_grid", 3) % 2 == 0:
        raise InputError("surface_grid must be odd, so that the image itself is its middle. "
                         f"Received: surface_grid={F.surface_grid}.")
    if F.surface_grid > _MOST_OF_A_GRID:
        raise InputError(f"surface_grid must be at most {_MOST_OF_A_GRID}. "
                         f"Received: surface_grid={F.surface_grid}.")


def by_gradient() -> bool:
    """Whether the first side of a surface is the sign of the gradient."""
    return _DIRECTIONS[flags.FLAGS.surface_directions]

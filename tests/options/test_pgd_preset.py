"""--pgd_preset and its neighbours: what they stand for, which flags win, what is refused."""

import flags

import pytest

import attacks
from attacks.presets import PRESETS
from errors import InputError
from options import attack as options
from tests.helpers import script_runner

PGD = attacks.get("pgd")
MNIST = ("--dataset=mnist", "--mode=attack", "--attack_method=pgd")


def parsed(*arguments):
    script_runner.parse("test_adv", *MNIST, *arguments)
    options.check()
    return options.settings(PGD), options.eps_values(PGD)


@pytest.mark.parametrize("dataset", PRESETS)
@pytest.mark.parametrize("name", ["baseline", "mid", "strongest", "lite"])
def test_a_preset_is_its_numbers(dataset, name):
    settings, eps = parsed(f"--pgd_preset={name}", f"--dataset={dataset}")
    row = PRESETS[dataset][name]
    assert eps == (row.eps,) and settings == {
        "step_size": row.step_size, "num_steps": row.num_steps, "num_restarts": row.num_restarts,
        "drop_broken": True}
    assert options.num_images(PGD) == (200 if name == "lite" else 0)


def test_what_is_given_wins():
    settings, eps = parsed("--pgd_preset=strongest", "--eps=0.1", "--num_restarts=7",
                           "--attack_step_size=0.02", "--attack_iterations=3", "--drop_broken=False")
    assert eps == (0.1,) and settings == {
        "step_size": 0.02, "num_steps": 3, "num_restarts": 7, "drop_broken": False}
    parsed("--pgd_preset=lite", "--eval_batch_count=1")
    assert options.num_images(PGD) == 0


def test_without_one_pgd_is_what_it_was():
    settings, eps = parsed("--eps=0.1")
    assert settings == {"num_restarts": 1} and eps == (0.1,)
    settings, _ = parsed("--eps=0.1", "--published_subset")
    assert settings == {"num_restarts": 1, "drop_broken": True}


@pytest.mark.parametrize(("arguments", "words"), [
    (["--pgd_preset=hard"], r"pgd_preset must be one of \[baseline, mid, strongest, lite\]\. Rec"),
    (["--pgd_preset=mid", "--dataset=digits"], "pgd_preset is known for mnist and cifar10"),
    (["--pgd_preset=mid", "--attack_method=bim"], "pgd_preset sets the step size, which only pgd has"),
    (["--pgd_preset=mid", "--eps_sweep=0.1,0.2"], "--pgd_preset takes no --eps_sweep"),
    (["--published_subset", "--eval_batch_count=2"], "--published_subset takes no --eval_batch_count"),
    (["--published_subset", "--target=3"], "--published_subset takes no class as --target"),
    (["--published_subset", "--detector=d.npz"], "--published_subset and --detector exclude each"),
    (["--save_losses", "--eps=0.1"], "save_losses needs --drop_broken=False: broken points would"),
    (["--save_losses", "--drop_broken=False"], "save_losses needs one --eps"),
    (["--save_losses", "--attack_method=bim"], "save_losses needs an attack of restarts that tells"),
    (["--mode=challenge", "--detector=d.npz", "--pgd_preset=mid"], "challenge takes no --"),
    (["--surface_grid=5"], "--mode=attack takes no --surface_grid"),
    (["--mode=heatmap"], "heatmap needs one --eps, or a --pgd_preset that has one"),
    (["--mode=heatmap", "--eps=0.1", "--attack_method=bim"], "heatmap goes through step sizes"),
    (["--mode=heatmap", "--eps=0.1", "--num_restarts=2"], "heatmap takes no --num_restarts"),
    (["--mode=heatmap", "--eps=0.1", "--heatmap_step_sizes=0.2,0.1"],
     "heatmap_step_sizes must increase. Received: heatmap_step_sizes=0.2,0.1"),
    (["--mode=heatmap", "--eps=0.1", "--heatmap_iterations=10,10"], "heatmap_iterations must increase"),
    (["--mode=heatmap", "--eps=0.1", "--heatmap_iterations=0"], "heatmap_iterations must be whole"),
    (["--mode=loss_surface"], "loss_surface takes no --attack_method")])
def test_what_cannot_be_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        parsed(*arguments)
    assert flags.FLAGS.is_parsed()


@pytest.mark.parametrize(("arguments", "words"), [
    (["--surface_grid=4"], "surface_grid must be odd, so that the image itself is its middle"),
    (["--surface_grid=1"], "surface_grid must be at least 3"),
    (["--surface_grid=2001"], "surface_grid must be at most 1001"),
    (["--surface_radius=0"], "surface_radius must be above 0"),
    (["--surface_directions=up"], "surface_directions must be one of"),
    (["--heatmap_iterations=3"], "--mode=loss_surface takes no --heatmap_iterations")])
def test_a_surface_that_cannot_be_is_refused(arguments, words):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["test_adv", "--dataset=digits", "--mode=loss_surface", *arguments])
    with pytest.raises(InputError, match=words):
        options.check()


def test_many_restarts_at_many_eps_are_warned_of(capfd):
    parsed("--num_restarts=101")
    assert "101 restarts at each of 10 values of eps" in capfd.readouterr().err
    parsed("--num_restarts=101", "--eps=0.1")
    assert "101 restarts" not in capfd.readouterr().err


@pytest.mark.parametrize(("given", "target"), [
    ("", ""), ("none", ""), ("random", "random"), ("3", "3")])
def test_the_class_that_pgd_is_to_reach(given, target):
    parsed("--eps=0.1", f"--target={given}")
    assert options.target(PGD, 10) == target
    flags.FLAGS.target = "10"
    with pytest.raises(InputError, match=r"\[none, least_likely, random\] or a class below 10"):
        options.target(PGD, 10)

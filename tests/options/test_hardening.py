"""Numbers of attacks and of hardening in dgn.py: the original's, and what is given in their place."""

import pytest

from errors import InputError
from options import dgn as dgn_options
from options import hardening
from tests.helpers import script_runner
from training import TrainingAttack
from training.mixed import Recipe


def parse(*arguments):
    script_runner.parse("dgn", *arguments)


# Of gf (DGN.md, section 8): what made the images → rate and epochs of one channel, and of three.
GF = {"lrp": ((1e-3, 10), (1e-4, 100)), "nce": ((1e-3, 10), (1e-4, 50)),
      "susp": ((1e-4, 50), (1e-4, 50)), "fgsm": ((1e-3, 20), (1e-4, 80)),
      "pgd": ((1e-3, 20), (1e-4, 50))}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("source", GF)
def test_gf_is_trained_as_published(source, channels):
    parse("--mode=adv_train")
    rate, epochs = GF[source][channels == 3]
    assert hardening.recipe(source, channels) == Recipe("gf", 0.5, rate, epochs, 100, False, 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_default_and_online_are_trained_as_published(channels):
    parse("--mode=adv_train", "--adv_type=default")
    assert hardening.recipe("nce", channels) == Recipe(
        "default", 0.5, 1e-3, 20 if channels == 1 else 50, 128, False, 0)
    parse("--mode=adv_train", "--adv_type=online")
    rate, epochs = GF["pgd"][channels == 3]
    assert hardening.recipe("pgd", channels) == Recipe("online", 0.5, rate, epochs, 100, False, 0)


def test_what_is_given_counts():
    parse("--mode=adv_train", "--adv_ratio=0", "--adv_lr=0.5", "--adv_epochs=7", "--adv_batch=3",
          "--adv_shuffle", "--seed=9")
    assert hardening.recipe("susp", 3) == Recipe("gf", 0.0, 0.5, 7, 3, True, 9)


@pytest.mark.parametrize(("channels", "given", "expected"), [
    (1, (), (0.01, 20, 10, True)), (3, (), (0.0078, 20, 1, False)),
    (1, ("--num_restarts=0",), (0.01, 20, 1, False)), (3, ("--num_restarts=1",), (0.0078, 20, 1, True)),
    (3, ("--attack_step_size=0.1", "--attack_iterations=4", "--num_restarts=5"), (0.1, 4, 5, True))])
def test_numbers_of_pgd(channels, given, expected):
    parse("--mode=generate", "--attack_method=pgd", *given)
    names = ("step_size", "num_steps", "num_restarts", "random_start")
    assert hardening.settings("pgd", channels) == dict(zip(names, expected, strict=True))
    assert hardening.settings("fgsm", channels) == {}
    assert hardening.online(0.2, channels) == TrainingAttack(0.2, *expected[:2])


def test_which_flags_go_together():
    """What no run is needed for; tests/scripts/test_dgn.py has the sentences."""
    for good in (("--mode=train", "--custom_loss=nce"), ("--mode=evaluate", "--num_restarts=0"),
                 ("--mode=generate", "--attack_method=fgsm"), ("--mode=adv_train", "--adv_data=x"),
                 ("--mode=generate", "--attack_method=pgd", "--attack_iterations=1"),
                 ("--mode=adv_train", "--adv_type=online", "--attack_step_size=0.1"),
                 ("--mode=adv_train", "--adv_type=default", "--adv_data=x", "--adv_ratio=1")):
        parse(*good)
        dgn_options.check()
    for bad in (("--mode=train",), ("--mode=generate",), ("--mode=adv_train", "--custom_loss=nce"),
                ("--mode=adv_train", "--adv_type=online", "--adv_data=x"),
                ("--mode=generate", "--attack_method=pgd", "--custom_loss=lrp")):
        parse(*bad)
        with pytest.raises(InputError):
            dgn_options.check()

"""options/rmc.py: the variants of an augmented set."""

import flags  # noqa: F401 sets TensorFlow's environment

import pytest

from errors import InputError
from evaluation.augmenting import step_size
from options.rmc import variants_of


def test_variants_of_a_text():
    assert variants_of("10:1.6,30:2.4,100:1.6") == ((10, 1.6), (30, 2.4), (100, 1.6))
    assert variants_of("1:10") == ((1, 10.0),)
    assert step_size(variants_of("10:1.6")[0], 0.3) == pytest.approx(0.048)


@pytest.mark.parametrize("text", [
    "", ",", "10", "10:", ":1.6", "10:1.6,", "10:1.6,30", "10:1.6:2", "0:1.6", "-1:1.6", "1.5:1.6",
    "1e2:1.6", "2147483648:1.6", "10:0", "10:-1.6", "10:10.5", "10:nan", "10:inf", "10:a", "a:1.6",
    "10;1.6"])
def test_what_are_no_variants(text):
    with pytest.raises(InputError) as error:
        variants_of(text)
    assert str(error.value) == (
        "rmc_augment must be steps:travel pairs separated by commas, steps whole and positive, travel "
        f"in (0, 10]. Received: rmc_augment={text!r}.")

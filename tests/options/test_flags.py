"""Every flag with its default, the devices, and the sentences of a wrong command line."""

import subprocess
import sys

import flags

import pytest
import tensorflow as tf
from absl import flags as absl_flags

from attacks import ATTACKS
from errors import InputError
from networks import NETWORKS
from options import attack as attack_options
from options import devices
from tests.helpers import script_runner

_COMMON = {
    "dataset": "", "mode": "train", "train_data_path": "", "eval_data_path": "", "train_dir": "",
    "log_root": "", "num_gpus": 0, "num_residual_units": 5, "Optimizer": "mom", "RCE_train": False,
}  # fmt: skip
_EVAL = {"eval_dir": ""}
_NEW_COMMON = {"model": "resnet", "seed": 0, "data_dir": "", "num_classes": 0, "num_cpu_replicas": 1}
_KERAS = {"model_input": "", "logits_layer": "", "features_layer": "", "trust_model": False}

# The table of the original (ORIGINAL.md section 1); values are the defaults.
ORIGINAL = {
    "train": {**_COMMON, "total_steps": 90000, "lr_decay": False},
    "test_nor": {**_COMMON, **_EVAL, "total_steps": 100000, "lr_decay": False,
                 "eval_batch_count": 50, "eval_once": False},
    "test_adv": {**_COMMON, **_EVAL, "eval_batch_count": 10, "attack_method": "fgsm", "eps": 0.01,
                 "save_pwd": None},
    "others": {**_COMMON, **_EVAL, "total_steps": 100000, "lr_decay": False,
               "eval_batch_count": 50, "eval_once": False},
    "detect": {},
    "rmc": {},
    "dgn": {},
}  # fmt: skip
NEW = {
    "train": {**_NEW_COMMON, "batch_size": 128, "lr_boundaries": [], "learning_rate": None,
              "lr_schedule": "step", "objective": "plain", "checkpoint_every": 2500,
              "ct_lambda": None, "at_lambda": None, "alp_lambda": None, "clp_lambda": None,
              "lsq_lambda": None, "noise_std": None, "train_attack_eps": None,
              "train_attack_step_size": None, "train_attack_iterations": None, "augment": None,
              "keep_checkpoints": 5, "steps_per_loop": 20, "sync_batch_norm": False,
              "mixed_precision": "", "jit_compile": False, "deterministic": False},
    "test_nor": {**_NEW_COMMON, **_KERAS, "eval_timeout": None},
    "test_adv": {
        **_NEW_COMMON, **_KERAS, "attack_batch_size": 0, "target": "", "attack_confidence": [],
        "attack_iterations": [], "attack_learning_rate": [], "attack_search_steps": [],
        "attack_initial_const": [], "jsma_pair": False, "num_restarts": 1, "attack_cost": "ce",
        "eps_sweep": [], "attack_chunk": 0, "jit_compile": False, "budget": "quick",
        "check_steps": False, "kappa_sweep": [], "pgd_preset": "", "published_subset": False,
        "save_losses": False, "image_index": 0, "heatmap_step_sizes": [], "heatmap_iterations": [],
        "surface_grid": 51, "surface_radius": 0.15, "surface_directions": "grad_rand",
        "cw_abort": "image", "cw_search_start": "anew", "project": "conflict",
        "attack_kernels": "files", "density_goal": "median",
        "density_form": "log", "distance_from": "attack1", "kernel_dir": "", "overwrite": False,
        "num_shards": 1, "shard_index": 0, "attack_norm": "linf", "attack_step_size": [],
        "drop_broken": None, "detector": "", "against": [], "against_rate": 0.05, "dgn_dir": "",
        "transfer_from": ""},
    "others": {**_NEW_COMMON, **_KERAS, "output_dir": "", "images": "", "num_images": 10, "weights": "",
               "data_note": ""},
    "detect": {"dataset": "", "mode": "auc", "attack_method": "fgsm", "save_pwd": None,
               "num_kernels": 1000, "eps_round": 0, "num_per_eps": 0, "matlab_ties": False,
               "kernel_dir": "",
               "objective_tag": "", "seed": 0, "detector": "", "eta": 1.0,
               "false_refusal_rate": ["0.01", "0.05"], "holdout_share": 0.5, "score": "k_density",
               "images": "", "log_root": "", "answers": "answers.csv", "tsne_attack": [],
               "beside": "", "output_dir": "", "model": "", "trust_model": False,
               "defended": False},
    "rmc": {**_COMMON, **_NEW_COMMON, **_KERAS, "mode": "eval", "rmc_dir": "", "save_pwd": None,
            "rmc_num_train": -1, "rmc_augment": "10:1.6,30:2.4,100:1.6", "rmc_augment_eps": None,
            "rmc_feature_layer": "final", "rmc_k": 1024, "rmc_epochs": 100, "rmc_patience": 5,
            "rmc_lr": 2.5e-5, "rmc_batch_size": 128, "rmc_state": "sequential",
            "rmc_neighbors": "nearest", "rmc_calibrate": "all", "rmc_num_eval": 100,
            "rmc_num_heldout": 400, "rmc_stream": "both", "rmc_order": "shuffled",
            "rmc_attack": "transfer", "attack_method": "pgd", "rmc_from": "", "rmc_rounds": 10,
            "eps": None, "attack_iterations": 40, "attack_step_size": None, "target": "none",
            "overwrite": False, "num_shards": 1, "shard_index": 0},
    "dgn": {**_COMMON, **_NEW_COMMON, **_KERAS, "mode": "", "custom_loss": "", "classes": "",
            "dgn_dir": "", "eps": None, "k": None, "dgn_lr": None, "dgn_epochs": None, "dgn_batch": 100,
            "custom_loss_constant": None, "dgn_lr_decay": "auto", "dgn_init": "original",
            "activation_threshold": 0.0, "analysis_split": "test", "lrp_eps": 0.01, "clipping": True,
            "mis_classification_check": False, "splits": ["train", "test"], "eval_batch_count": -1,
            "attack_method": "", "attack_iterations": None, "attack_step_size": None,
            "num_restarts": None, "adv_data": "", "adv_type": "gf", "adv_ratio": 0.5,
            "adv_epochs": None, "adv_lr": None, "adv_batch": None, "adv_shuffle": False},
}  # fmt: skip


@pytest.mark.parametrize("script", script_runner.SCRIPTS)
def test_flags_and_defaults(script):
    script_runner.parse(script)
    assert flags.as_dict() == ORIGINAL[script] | NEW[script]
    assert {name: type(value) for name, value in flags.as_dict().items()} == {
        name: type(value) for name, value in (ORIGINAL[script] | NEW[script]).items()}


@pytest.mark.parametrize("script", script_runner.SCRIPTS)
def test_every_flag_has_a_help_sentence(script):
    script_runner.define(script)
    for name in flags.as_dict():
        assert flags.FLAGS[name].help.rstrip().endswith("."), name


def test_a_flag_of_another_script_is_refused():
    with pytest.raises(absl_flags.UnrecognizedFlagError, match="attack_method"):
        script_runner.parse("train", "--attack_method=fgsm")


def test_as_dict_holds_what_was_given():
    script_runner.parse("train", "--RCE_train=True", "--lr_boundaries=1,2", "--seed=7")
    given = flags.as_dict()
    assert (given["RCE_train"], given["lr_boundaries"], given["seed"]) == (True, ["1", "2"], 7)


def test_importing_scripts_defines_no_flag():
    code = ("import flags; before = set(flags.FLAGS); "
            "import train, test_nor, test_adv, others, detect, rmc, dgn; "
            "print(sorted(n for n in set(flags.FLAGS) - before "
            "if flags.FLAGS.find_module_defining_flag(n) in "
            "('flags', 'train', 'test_nor', 'test_adv', 'others', 'detect', 'rmc', 'dgn')), "
            "len(flags.as_dict()))")
    done = subprocess.run([sys.executable, "-c", code], cwd=script_runner.ROOT, timeout=120,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[] 0\n"), done.stderr


def test_tensorflow_is_told_before_it_is_loaded():
    code = ("import os; [os.environ.pop(n, None) for n in ('TF_ENABLE_ONEDNN_OPTS', "
            "'TF_CPP_MIN_LOG_LEVEL')]; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '1'; import flags; "
            "print(os.environ['TF_ENABLE_ONEDNN_OPTS'], os.environ['TF_CPP_MIN_LOG_LEVEL'])")
    done = subprocess.run([sys.executable, "-c", code], cwd=script_runner.ROOT, timeout=60,
                          capture_output=True, text=True)
    assert done.stdout == "1 1\n", done.stderr


def test_sweep_is_that_of_the_original():
    assert attack_options.SWEEP_EPS == (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2)


# --- Checks of the command line ---

def _guarded(main, script, *arguments):
    argv = script_runner.parse(script, *arguments)
    return flags.guarded(lambda: (flags.check_command_line(argv), main())[1])


def test_lr_decay_warns_once(capfd):
    assert _guarded(lambda: 5, "train", "--dataset=digits", "--lr_decay=True") == 5
    error = capfd.readouterr().err
    assert error.startswith("warning: --lr_decay does nothing") and error.count("\n") == 1


def test_lr_decay_is_silent_when_not_given(capfd):
    assert _guarded(lambda: None, "train", "--dataset=digits") is None
    assert capfd.readouterr() == ("", "")


def test_an_input_error_becomes_one_sentence_and_exit_code_1(capfd):
    def main():
        raise InputError("x must be y. Received: x=z.")

    assert _guarded(main, "detect", "--dataset=digits") == 1
    assert capfd.readouterr() == ("", "error: x must be y. Received: x=z.\n")


def test_other_errors_pass():
    def main():
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        _guarded(main, "detect", "--dataset=digits")


@pytest.mark.parametrize(("script", "name", "allowed"), [
    ("train", "dataset", flags.DATASETS),
    ("train", "Optimizer", ("sgd", "mom", "adam", "rmsprop")),
    ("train", "model", NETWORKS),
    ("others", "model", NETWORKS),
    ("test_adv", "attack_method", tuple(ATTACKS)),
    ("detect", "dataset", flags.DATASETS),
])  # fmt: skip
def test_unknown_choices_list_what_is_allowed(script, name, allowed, capfd):
    given = {"dataset": "digits"} | {name: "nonsense"}
    arguments = [f"--{key}={value}" for key, value in given.items()]
    assert _guarded(lambda: 0, script, *arguments) == 1
    assert capfd.readouterr().err == (
        f"error: {name} must be one of [{', '.join(allowed)}]. Received: {name}='nonsense'.\n")


def test_check_choice():
    script_runner.parse("test_nor", "--mode=b")
    assert flags.check_choice("mode", ("a", "b")) == "b"
    with pytest.raises(InputError, match=r"^mode must be one of \[a, c\]\. Received: mode='b'\.$"):
        flags.check_choice("mode", ("a", "c"))


def test_check_at_least():
    script_runner.parse("test_nor", "--eval_batch_count=-1", "--num_residual_units=0")
    assert flags.check_at_least("eval_batch_count", 1, or_all=True) == -1
    assert flags.check_at_least("num_residual_units", 0) == 0
    with pytest.raises(InputError, match=r"eval_batch_count must be at least 1. Received: .*=-1"):
        flags.check_at_least("eval_batch_count", 1)
    with pytest.raises(InputError, match=r"num_residual_units must be at least 1 .or -1 for all.*=0"):
        flags.check_at_least("num_residual_units", 1, or_all=True)


def test_require():
    script_runner.parse("train", "--log_root=x")
    assert flags.require("log_root") == "x"
    with pytest.raises(InputError, match=r"--train_dir must be given\. Received: train_dir=''\."):
        flags.require("train_dir")


# --- Devices ---

@pytest.fixture
def no_gpu(monkeypatch):
    """No GPU is found, whatever the machine."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])


def _only_device(strategy):
    assert isinstance(strategy, tf.distribute.OneDeviceStrategy)
    assert strategy.num_replicas_in_sync == 1
    return strategy.extended.worker_devices[0].lower()


def test_0_is_the_cpu_without_a_warning(capfd):
    assert "cpu:0" in _only_device(devices.make_strategy(0))
    assert capfd.readouterr() == ("", "")


def test_1_without_a_gpu_warns_and_is_the_cpu(no_gpu, capfd):
    assert "cpu:0" in _only_device(devices.make_strategy(1))
    error = capfd.readouterr().err
    assert error.startswith("warning: --num_gpus=1 but no GPU") and error.count("\n") == 1


@pytest.mark.parametrize("num_gpus", [2, 5])
def test_more_than_found_says_how_many_were_found(no_gpu, num_gpus):
    with pytest.raises(InputError, match=f"found here, 0. Received: num_gpus={num_gpus}."):
        devices.make_strategy(num_gpus)


def test_negative_is_refused():
    with pytest.raises(InputError, match=r"num_gpus must be 0 .* Received: num_gpus=-1\."):
        devices.make_strategy(-1)


def test_0_hides_the_gpus_that_are_found(monkeypatch):
    hidden = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["A"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *given: hidden.append(given))
    assert "cpu:0" in _only_device(devices.make_strategy(0))
    assert hidden == [([], "GPU")]


def test_gpus_found_are_used_and_grow(monkeypatch):
    grown, asked = [], []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["A", "B", "C"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth",
                        lambda gpu, grow: grown.append((gpu, grow)))
    for name in ("OneDeviceStrategy", "MirroredStrategy"):
        monkeypatch.setattr(tf.distribute, name, lambda devices, name=name: asked.append(
            (name, devices)))
    devices.make_strategy(1)
    devices.make_strategy(2)
    assert asked == [("OneDeviceStrategy", "/gpu:0"),
                     ("MirroredStrategy", ["/gpu:0", "/gpu:1"])]
    assert set(grown) == {("A", True), ("B", True), ("C", True)}


LARGEST = {"num_cpu_replicas": 256, "num_residual_units": 1000, "batch_size": 10**6,
           "num_classes": 10**6, "seed": 2**32 - 1}


@pytest.mark.parametrize("value", [2**31, 10**30, -10**30])
@pytest.mark.parametrize(("script", "name"), [
    (script, name) for script in script_runner.SCRIPTS for name in script_runner.define(script)
    if flags.FLAGS[name].flag_type() == "int"])
def test_whole_numbers_have_an_end(script, name, value):
    argv = script_runner.parse(script, f"--{name}={value * 2 if name == 'seed' else value}")
    with pytest.raises(InputError, match=rf"^{name} must .*Received: {name}=-?\d+"):
        flags.check_command_line(argv)
    flags.FLAGS[name].value = LARGEST.get(name, 2**31 - 1)
    flags.check_command_line(argv)


@pytest.mark.parametrize(("text", "number"), [
    ("0", 0), (" 12 ", 12), (str(2**31 - 1), 2**31 - 1), (str(2**31), None), ("²", None), ("٣", None),
    ("1e3", None), ("1_000", None), ("-1", None), ("+1", None), ("", None), ("9" * 5000, None),
    ("½", None), ("0x10", None), ("1.0", None)])
def test_whole_numbers_in_texts(text, number):
    assert flags.whole(text) == number

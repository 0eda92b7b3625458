"""Bad input gets one sentence and exit code 1, and no file is touched (issue 2, section 5)."""

import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from files import provenance, result_files
from files.features import save_training_features
from files.names import RESULT_TEXTS
from tests.helpers import script_runner
from tests.helpers.script_runner import NETWORK, SCRIPTS, refused, run

NETWORK_SCRIPTS = {
    "train": ("--total_steps=70", *script_runner.TRAINING),
    "test_nor": ("--mode=eval", "--eval_once"),
    "test_adv": ("--mode=attack", "--eval_batch_count=1", "--eps=0.1"),
    "others": ("--mode=kernel_para", "--eval_batch_count=1"),
    "rmc": ("--mode=augment", "--rmc_num_train=20"),
}
MNIST = ("--dataset=mnist", "--log_root=m", "--num_residual_units=1")


@pytest.fixture
def work(tmp_path):
    """A working folder with one file that must stay as it is."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here/kept").write_text("kept")
    return tmp_path / "here"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folder of the tiny run; what fails must not write there."""
    return script_runner.tiny_run(tmp_path_factory)


# --- Data ---

def _records(count=3, label=1):
    records = np.zeros((count, 785), "<f4")
    records[:, 0] = label
    return records.tobytes()


@pytest.mark.parametrize(("script", "flag"), [
    ("train", "train_data_path"), ("test_nor", "eval_data_path"), ("test_adv", "eval_data_path"),
    ("others", "eval_data_path")])
@pytest.mark.parametrize("path", ["absent.bin", "absent_*.bin"])
def test_no_file_at_the_path(work, script, flag, path):
    refused(script, *MNIST, *NETWORK_SCRIPTS[script], f"--{flag}={path}", cwd=work,
            words=["no file", f"Received: .*{re.escape(path)}"])


@pytest.mark.parametrize("script", ["train", "test_nor"])
@pytest.mark.parametrize(("contents", "words"), [
    (_records()[:-5], ["x.bin", "3140-byte records", r"Received: bytes=9415"]),
    (_records(label=12), ["x.bin", r"labels must be integers in \[0, 9\]", r"label=12"]),
    (_records(label=-1), ["x.bin", r"\[0, 9\]", "label=-1"]),
], ids=["truncated", "label 12", "label -1"])
def test_damaged_records(work, script, contents, words):
    (work / "x.bin").write_bytes(contents)
    refused(script, *MNIST, *NETWORK_SCRIPTS[script], "--train_data_path=x.bin",
            "--eval_data_path=x.bin", cwd=work, words=words)


def test_damaged_test_records_do_not_start_a_training(work):
    (work / "x.bin").write_bytes(_records())
    (work / "y.bin").write_bytes(_records(label=12))
    refused("train", *MNIST, *NETWORK_SCRIPTS["train"], "--train_data_path=x.bin",
            "--eval_data_path=y.bin", cwd=work, words=["y.bin", "label=12"])


@pytest.mark.parametrize("script", ["train", "test_adv"])
def test_idx_with_wrong_magic(work, script):
    (work / "data").mkdir()
    for split in ("train", "t10k"):
        (work / f"data/{split}-images-idx3-ubyte").write_bytes(
            np.array([2052, 1, 28, 28], ">i4").tobytes() + bytes(784))
        (work / f"data/{split}-labels-idx1-ubyte").write_bytes(
            np.array([2049, 1], ">i4").tobytes() + bytes(1))
    refused(script, *MNIST, *NETWORK_SCRIPTS[script], "--train_data_path=data",
            "--eval_data_path=data", cwd=work,
            words=["images-idx3-ubyte", r"\[2051, 2049\]", "magic=2052"])


@pytest.mark.parametrize("script", NETWORK_SCRIPTS)
def test_image_size_not_divisible_by_4(work, script):
    np.savez(work / "x.npz", images=np.zeros((4, 10, 8), np.uint8), labels=np.arange(4))
    refused(script, "--dataset=npz", "--log_root=m", *NETWORK_SCRIPTS[script],
            "--train_data_path=x.npz", "--eval_data_path=x.npz", cwd=work,
            words=["x.npz", "divisible by 4", r"shape=\(4, 10, 8, 1\)"])


# --- Checkpoints ---

@pytest.mark.parametrize(("script", "arguments"), [
    ("train", ["--log_root=kept"]), ("train", ["--log_root=m", "--train_dir=kept"]),
    ("test_nor", ["--eval_dir=kept"]), ("test_adv", ["--save_pwd=kept"]),
    ("test_adv", ["--save_pwd=kept/below"]), ("rmc", ["--rmc_dir=kept"])])
def test_a_file_where_a_folder_belongs(work, tiny, script, arguments):
    log_root = () if script == "train" else (f"--log_root={tiny}/models/tiny",)
    result = run(script, *NETWORK, *log_root, *NETWORK_SCRIPTS[script], *arguments, cwd=work)
    assert result.code == 1
    assert result.err.startswith("error: ") and "kept" in result.err and result.err.count("\n") == 1
    assert "(0." not in result.out  # nothing was crafted for it
    assert (work / "kept").read_text() == "kept"


def test_several_arrays_are_no_images(work):
    np.savez(work / "x.npz", np.zeros((2, 8, 8)))
    refused("others", "--mode=export_png", "--images=x.npz", "--output_dir=out", cwd=work,
            words=["expected a .npy file of images", "an .npz file"])


def test_export_bin_keeps_what_is_there(work):
    (work / "digits_dataset").mkdir()
    (work / "digits_dataset/data_train.bin").write_bytes(b"the only copy")
    refused("others", "--dataset=digits", "--mode=export_bin", cwd=work,
            words=["no data_train.bin in digits_dataset yet, which is kept"])


def test_the_figures_of_another_training_are_kept(work, tiny):
    shutil.copytree(tiny / "models/tiny/train", work / "figures")
    result = run("train", *NETWORK, *script_runner.TRAINING, "--log_root=m", "--train_dir=figures",
                 "--total_steps=1", cwd=work)
    assert (result.code, result.err) == (
        1, "error: train_dir must not hold the record of another training, train_run.json, whose "
           "figures would be lost. Received: train_dir='figures'.\n")
    for path in (work / "figures").iterdir():
        assert path.read_bytes() == (tiny / "models/tiny/train" / path.name).read_bytes()


@pytest.mark.parametrize("script", NETWORK_SCRIPTS)
def test_no_log_root_given(work, script):
    refused(script, *NETWORK, *NETWORK_SCRIPTS[script], cwd=work, words=["--log_root must be given"])


def test_info_needs_a_log_root(work):
    refused("others", "--dataset=digits", "--mode=info", cwd=work, words=["--log_root"])
    refused("others", "--dataset=digits", "--mode=info", "--log_root=none", cwd=work,
            words=["checkpoint", "log_root='none'"])


@pytest.mark.parametrize("script", ["test_nor", "test_adv", "others", "rmc"])
@pytest.mark.parametrize("folder", ["empty", "absent"])
def test_log_root_without_a_checkpoint(work, script, folder):
    (work / "empty").mkdir()
    refused(script, *NETWORK, *NETWORK_SCRIPTS[script], f"--log_root={folder}", cwd=work,
            words=["checkpoint", f"log_root='{folder}'"])


def test_a_wait_in_vain_leaves_no_file(work):
    refused("test_nor", *NETWORK, "--log_root=absent", "--eval_timeout=1", cwd=work,
            words=["--eval_timeout=1", "log_root='absent'"])


@pytest.mark.parametrize("script", NETWORK_SCRIPTS)
@pytest.mark.parametrize(("changed", "words"), [
    (("--num_residual_units=2",), ["--num_residual_units contradicts the checkpoint",
                                   "expected blocks_per_stage=1", "Received: blocks_per_stage=2"]),
    (("--RCE_train=False",), ["--RCE_train contradicts the checkpoint", "expected objective='rce'",
                              "Received: objective='ce'"]),
    (("--dataset=npz", "--train_data_path=x.npz", "--eval_data_path=x.npz"),
     ["--dataset contradicts the checkpoint", "expected dataset='digits'",
      "Received: dataset='npz'"]),
], ids=["depth", "objective", "data set"])
def test_checkpoint_of_another_network(tiny, work, script, changed, words):
    np.savez(work / "x.npz", images=np.zeros((40, 8, 8), np.uint8), labels=np.arange(40) % 10)
    refused(script, *NETWORK, *NETWORK_SCRIPTS[script], f"--log_root={tiny}/models/tiny",
            "--train_dir=t", *changed, cwd=work, also=[tiny], words=words)


@pytest.mark.parametrize("changed", ["--batch_size=16", "--seed=4", "--Optimizer=sgd"])
def test_a_run_goes_on_as_it_began(tiny, work, changed):
    name = changed[2:].split("=")[0].lower()
    refused("train", *NETWORK, *NETWORK_SCRIPTS["train"], f"--log_root={tiny}/models/tiny",
            "--train_dir=t", changed, cwd=work, also=[tiny],
            words=[f"{changed.split('=')[0]} contradicts", f"expected {name}=", f"Received: {name}="])


# --- Result files and kernels ---

NUM_ROWS = 40


@pytest.fixture
def results(work):
    """Result files of an attack, and training features, in the working folder; returns their folder."""
    generator = np.random.default_rng(0)
    labels = np.arange(NUM_ROWS) % 4
    arrays = {name: generator.uniform(0.1, 1, NUM_ROWS) for name in RESULT_TEXTS}
    for side in ("nor", "adv"):
        arrays[f"logits_{side}"] = generator.normal(size=(NUM_ROWS, 5))
        arrays[f"{side}_img"] = np.zeros((NUM_ROWS, 4, 4, 1))
    arrays |= {"labels_true": labels, "labels_nor": labels, "labels_adv": (labels + 1) % 4}
    folder = work / "fgsm_digits/RCE"
    result_files.save_attack_results(folder, arrays)
    provenance.write(folder, "test_adv", flags={"RCE_train": True, "seed": 0},
                               metrics={"eps": [0.1, 0.2], "num_per_eps": NUM_ROWS // 2})
    features = generator.normal(size=(43, 5))
    save_training_features(work / "kernel_para_digits", "rce", features,
                                     np.concatenate([labels, [0, 1, 3]]))
    return folder


DETECT = ("--dataset=digits", "--attack_method=fgsm", "--num_kernels=5")


def test_good_result_files_are_read(results, work):
    result = run("detect", *DETECT, cwd=work)
    assert (result.code, result.err) == (0, "")


def test_result_files_of_unequal_length(results, work):
    path = results / "confidence_adv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    refused("detect", *DETECT, cwd=work, words=["expected 40 rows", "Received: confidence_adv=39"])


@pytest.mark.parametrize("name", RESULT_TEXTS)
def test_missing_result_file(results, work, name):
    (results / name).unlink()
    refused("detect", *DETECT, cwd=work, words=[rf"the file {name} in fgsm_digits/RCE", "no such file"])


def test_missing_result_folder(work):
    refused("detect", *DETECT, cwd=work, words=["fgsm_digits/CE or fgsm_digits/RCE", "no such folder"])


def _put_nan(path, row):
    lines = path.read_text().splitlines()
    lines[row - 1] = "nan " + " ".join(lines[row - 1].split()[1:])
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", [name for name in RESULT_TEXTS
                                  if not name.startswith("entropy_")])
def test_nan_names_the_file_and_the_row(results, work, name):
    _put_nan(results / name, 7)
    refused("detect", *DETECT, cwd=work, words=[f"fgsm_digits/RCE/{name}", "Received: row 7=nan"])


def test_nan_in_entropy_is_one_warning_with_the_count(results, work):
    for name, row in (("entropy_nor", 3), ("entropy_nor", 4), ("entropy_adv", 9)):
        _put_nan(results / name, row)
    result = run("detect", *DETECT, cwd=work)
    assert result.code == 0
    line, = result.err.splitlines()
    assert re.match(r"warning: 3 NaN in entropy_nor and entropy_adv of fgsm_digits/RCE", line)
    assert (work / "fgsm_digits/auc_fgsm_digits.json").is_file()


@pytest.mark.parametrize("mode", ["auc", "select_kernel"])
def test_too_few_features_for_the_kernels(results, work, mode):
    refused("detect", *DETECT, "--num_kernels=11", f"--mode={mode}", cwd=work,
            words=[r"num_kernels must lie in \[1, 10\]: class 2 has 10 training features",
                   "Received: num_kernels=11"])


def test_no_kernels_and_no_training_features(results, work):
    shutil.rmtree(work / "kernel_para_digits")
    refused("detect", *DETECT, cwd=work, words=["training_logits_RCE in kernel_para_digits",
                                                "others.py --mode=kernel_para"])
    refused("detect", *DETECT, "--mode=select_kernel", cwd=work, words=["training_logits_"])


def test_a_round_that_does_not_exist(results, work):
    refused("detect", *DETECT, "--eps_round=3", cwd=work, words=[r"\[0, 2\]", "eps_round=3"])


# --- Flags ---

@pytest.mark.parametrize("script", NETWORK_SCRIPTS)
@pytest.mark.parametrize("num_gpus", [-1, 2])
def test_num_gpus(work, monkeypatch, script, num_gpus):
    find = tf.config.list_physical_devices
    monkeypatch.setattr(tf.config, "list_physical_devices",
                        lambda kind=None: [] if kind == "GPU" else find(kind))
    refused(script, *NETWORK, *NETWORK_SCRIPTS[script], "--log_root=m", f"--num_gpus={num_gpus}",
            cwd=work, words=["num_gpus must be", f"Received: num_gpus={num_gpus}",
                             "found here, 0" if num_gpus > 0 else "number of GPUs"])


@pytest.mark.parametrize("mode", ["attack", "tSNE_logits"])
@pytest.mark.parametrize("eps", ["0", "-0.1", "1.5", "nan"])
def test_eps(tiny, work, mode, eps):
    refused("test_adv", *NETWORK, f"--log_root={tiny}/models/tiny", f"--mode={mode}", f"--eps={eps}",
            cwd=work, words=[r"eps must lie in \(0, 1\]", f"Received: eps={float(eps)}"])


@pytest.mark.parametrize("script", SCRIPTS)
def test_unknown_dataset(work, script):
    refused(script, "--dataset=minst", cwd=work,
            words=[r"dataset must be one of \[mnist, cifar10, cifar100, digits, npz\]", "'minst'"])


@pytest.mark.parametrize(("script", "allowed"), [
    ("train", "train"), ("test_nor", "train, eval"),
    ("test_adv", "attack, merge, transfer, challenge, heatmap, loss_surface, loss_histogram, "
                 "tSNE_logits"),
    ("others", "kernel_para, tSNE_logits, export_bin, export_png, info, import_checkpoint, "
               "import_keras, export_checkpoint, export_model, export_pretrained"),
    ("detect", "auc, select_kernel, select_kernel_for_attack, median_for_attack, fit, evaluate, "
               "figures, apply"),
    ("rmc", "augment, merge, features, eval, table"),
    ("dgn", "analyze, train, generate, adv_train, evaluate")])
def test_unknown_mode(work, script, allowed):
    refused(script, "--dataset=digits", "--mode=play", cwd=work,
            words=[rf"mode must be one of \[{allowed}\]", "Received: mode='play'"])


@pytest.mark.parametrize("script", ["test_adv", "others"])
def test_the_default_mode_does_nothing_useful_and_says_so(work, script):
    refused(script, *NETWORK, "--log_root=m", cwd=work, words=["mode must be one of", "mode='train'"])


@pytest.mark.parametrize("script", ["test_adv", "detect", "rmc"])
def test_unknown_attack(work, script):
    refused(script, "--dataset=digits", "--attack_method=fgms", cwd=work,
            words=[r"attack_method must be one of \[random, fgsm, bim, tgsm", "'fgms'"])


@pytest.mark.parametrize("script", NETWORK_SCRIPTS)
def test_unknown_optimizer(work, script):
    refused(script, *NETWORK, "--Optimizer=momentum", cwd=work,
            words=[r"Optimizer must be one of \[sgd, mom, adam, rmsprop\]", "'momentum'"])


@pytest.mark.parametrize("script", SCRIPTS)
def test_positional_argument(work, script):
    refused(script, "--dataset=digits", "rce", cwd=work, words=["flags only", "Received: 'rce'"])


@pytest.mark.parametrize(("replicas", "size"), [(2, 33), (4, 34)])
def test_batch_size_that_the_replicas_cannot_share(work, replicas, size):
    refused("train", *NETWORK, "--log_root=m", f"--num_cpu_replicas={replicas}",
            f"--batch_size={size}", cwd=work,
            words=[f"divisible by the {replicas} replicas", f"Received: batch_size={size}"])


@pytest.mark.parametrize("script", NETWORK_SCRIPTS)
@pytest.mark.parametrize(("replicas", "num_gpus"), [(0, 0), (-1, 0), (2, 1)])
def test_num_cpu_replicas(work, script, replicas, num_gpus):
    refused(script, *NETWORK, *NETWORK_SCRIPTS[script], "--log_root=m",
            f"--num_cpu_replicas={replicas}", f"--num_gpus={num_gpus}", cwd=work,
            words=["num_cpu_replicas must be at least 1, and 1 unless --num_gpus=0",
                   f"Received: num_cpu_replicas={replicas}, num_gpus={num_gpus}"])


def test_mixed_precision(work):
    refused("train", *NETWORK, "--log_root=m", "--mixed_precision=float8", cwd=work,
            words=[r"mixed_precision must be one of \[bfloat16, float16\]", "'float8'"])


def test_train_without_flags_shows_the_shortest_command_which_works(work):
    sentence = refused("train", cwd=work, words=["--dataset and --log_root must be given"])
    command = re.search(r"python train\.py( --[^ `]+)+", sentence)[0]
    script_runner.succeeded("train", *command.split()[2:], cwd=work)
    assert (work / "models/mlp/train/train_run.json").is_file()


def test_compiled_steps_cannot_wait_for_other_replicas(work):
    refused("train", *NETWORK, "--log_root=m", "--jit_compile", "--sync_batch_norm", cwd=work,
            words=["jit_compile and sync_batch_norm exclude each other"])


@pytest.mark.parametrize(("flag", "words"), [
    ("--mixed_precision=bfloat16", ["--mixed_precision contradicts", "mixed_precision='bfloat16'"]),
    ("--sync_batch_norm", ["--sync_batch_norm contradicts", "sync_batch_norm=True"])])
def test_resuming_in_another_way(tiny, work, flag, words):
    refused("train", *NETWORK, *NETWORK_SCRIPTS["train"], f"--log_root={tiny}/models/tiny", flag,
            cwd=work, words=words)


@pytest.mark.parametrize("boundaries", ["a,b", "20,10", "5,5", "0,5", "-3", "1.5", "5,"])
def test_lr_boundaries(work, boundaries):
    refused("train", *NETWORK, "--log_root=m", f"--lr_boundaries={boundaries}", cwd=work,
            words=["lr_boundaries must be increasing steps", "Received: lr_boundaries="])


@pytest.mark.parametrize(("arguments", "words"), [
    (["--lr_schedule=linear"], ["lr_schedule must be one of .step, cosine, one_cycle", "'linear'"]),
    (["--lr_schedule=cosine", "--lr_boundaries=5,6"],
     ["lr_boundaries are of --lr_schedule=step", "5,6"]),
    (["--learning_rate=0"], ["learning_rate must be a number above 0", "learning_rate=0.0"]),
    (["--learning_rate=nan"], ["learning_rate must be a number above 0", "learning_rate=nan"])])
def test_learning_rate(work, arguments, words):
    refused("train", *NETWORK, "--log_root=m", *arguments, cwd=work, words=words)


@pytest.mark.parametrize(("script", "name", "value"), [
    *(("train", name, 0) for name in ("total_steps", "batch_size", "checkpoint_every",
                                      "keep_checkpoints", "steps_per_loop", "num_residual_units")),
    ("test_nor", "eval_batch_count", 0), ("test_nor", "num_residual_units", 0),
    ("test_adv", "eval_batch_count", -2), ("test_adv", "attack_batch_size", -1),
    ("test_adv", "num_residual_units", 0), ("others", "eval_batch_count", 0),
    ("others", "num_residual_units", 0), ("detect", "num_kernels", 0), ("detect", "num_per_eps", -1),
    ("detect", "eps_round", -1)])
def test_numbers_that_are_too_small(results, work, script, name, value):
    mode = {"test_adv": ["--mode=attack"], "others": ["--mode=kernel_para"]}.get(script, [])
    refused(script, "--dataset=digits", *mode, f"--{name}={value}", *(
        ["--log_root=m"] if script != "detect" else []), cwd=work,
        words=[f"{name} must be", f"Received: {name}={value}"])

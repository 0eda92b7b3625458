"""--model=<file>.keras from the first evaluation to an answer, and all that is refused on the way."""

import csv
import json

import keras
import numpy as np
import pytest
from keras import layers

import networks
from data import inputs
from data.pixels import to_network_input
from defenses import deployed
from defenses import detector as detectors
from errors import InputError
from evaluation.budgets import BUDGETS, Budget, Task
from files import attack_results, provenance, result_files
from files import detectors as detector_files
from files.names import ALL_SCORES
from tests.helpers import script_runner
from tests.helpers.script_runner import NETWORK, refused, run, succeeded

DIGITS = ("--dataset=digits", "--model=mine.keras")
ATTACK = ("--mode=attack", "--attack_method=fgsm", "--eps=0.1", "--eval_batch_count=1")


def classifier(shape=(8, 8, 1), classes=10):
    return keras.Sequential([
        layers.Input(shape), layers.Rescaling(1 / 255),
        layers.Conv2D(8, 3, strides=2, activation="relu"), layers.BatchNormalization(),
        layers.Flatten(), layers.Dropout(0.2), layers.Dense(12),
        layers.Dense(classes, activation="softmax")])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Folder with a model trained by `fit`, another one, features, an attack and a detector of it."""
    folder = tmp_path_factory.mktemp("keras")
    train = inputs.load("digits", "", "train")
    keras.utils.set_random_seed(1)
    model = classifier()
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(train.images * 255.0, train.labels, epochs=4, verbose=0)
    model.save(folder / "mine.keras")
    classifier().save(folder / "other.keras")
    succeeded("others", *DIGITS, "--mode=kernel_para", "--eval_batch_count=-1", cwd=folder)
    succeeded("test_adv", *DIGITS, *ATTACK, cwd=folder)
    succeeded("detect", "--dataset=digits", "--mode=select_kernel", "--num_kernels=20", cwd=folder)
    succeeded("detect", "--dataset=digits", "--mode=fit", cwd=folder)
    return folder


def test_it_is_evaluated_as_keras_does(work):
    result = succeeded("test_nor", *DIGITS, "--mode=eval", "--eval_batch_count=-1", "--eval_dir=eval",
                       cwd=work)
    test = inputs.load("digits", "", "test")
    predicted = keras.saving.load_model(work / "mine.keras").predict(test.images * 255.0, verbose=0)
    precision = np.mean(predicted.argmax(axis=1) == test.labels)
    assert precision > 0.5
    told, line = result.out.splitlines()[-2:]
    assert told.startswith("mine.keras: images (8, 8, 1) of pixels in 0..255, logits [n, 10] of layer ")
    assert line == f"precision: {precision:.5f}, best precision: {precision:.5f}"
    network = provenance.read(work / "eval", "test_nor")["metrics"]["network"]
    assert (network["model"], network["model_input"]) == ("mine", "0..255")
    assert len(network["weights_sha256"]) == len(network["architecture_sha256"]) == 64


def test_its_identity_is_in_every_record(work):
    records = [provenance.read(work / folder, name)["metrics"]["network"] for folder, name in (
        ("fgsm_digits/CE", "test_adv"), ("kernel_para_digits", "kernel_para_CE"))]
    detector = detector_files.load(work / "kernel_para_digits/detector_CE.npz")["network"]
    opened = networks.from_keras(keras.saving.load_model(work / "mine.keras"), dataset="digits")
    expected = json.loads(json.dumps(opened.identity() | {"model": "mine"}))
    assert records == [expected, expected] and detector == expected


@pytest.mark.parametrize("arguments", [
    ("pgd", "--attack_iterations=2", "--eps=0.1"), ("jsma", "--attack_iterations=2"),
    ("carliniL2", "--attack_iterations=5", "--attack_search_steps=2"),
    pytest.param(("carliniL2_specific", "--attack_iterations=3", "--attack_search_steps=1"),
                 marks=pytest.mark.slow)])
def test_every_kind_of_attack(work, arguments, tmp_path):
    for kind in ("select_kernel_for_attack", "median_for_attack") if "spec" in arguments[0] else ():
        succeeded("detect", "--dataset=digits", f"--mode={kind}", "--num_kernels=10", cwd=work)
    method, *numbers = arguments
    succeeded("test_adv", *DIGITS, "--mode=attack", f"--attack_method={method}", *numbers,
              "--eval_batch_count=1", f"--save_pwd={tmp_path}", cwd=work)
    results = result_files.load_attack_results(tmp_path, images=True)
    assert np.abs(results["adv_img"]).max() <= 0.5
    assert results["logits_adv"].shape[1] == 12


def test_it_is_challenged(work, tmp_path, monkeypatch):
    monkeypatch.setitem(BUDGETS, "quick", Budget((
        Task("selective_pgd", ALL_SCORES, {"num_steps": 3}), Task("random"))))
    result = succeeded(
        "test_adv", "--dataset=digits", f"--model={work}/mine.keras", "--mode=challenge", "--eps=0.3",
        "--eval_batch_count=1", f"--detector={work}/kernel_para_digits/detector_CE.npz", cwd=tmp_path)
    assert "an attacker who knows the detector gets" in " ".join(result.out.split())
    assert (tmp_path / "challenge_quick_digits/evaluation_CE.json").is_file()


def test_a_detector_answers(work, tmp_path):
    test = inputs.load("digits", "", "test")
    np.save(tmp_path / "images.npy", test.images[:9])
    result = succeeded("detect", "--mode=apply", f"--images={tmp_path}/images.npy", *DIGITS,
                       "--objective_tag=CE", f"--answers={tmp_path}/answers.csv", cwd=work)
    assert "of 9 answered" in result.out
    with open(tmp_path / "answers.csv", newline="") as file:
        labels = [int(row["label"]) for row in csv.DictReader(file)]
    path = work / "kernel_para_digits/detector_CE.npz"
    for given in (keras.saving.load_model(work / "mine.keras"), work / "mine.keras"):
        answer = deployed.load_detector(path, model=given)(test.images[:9])
        assert answer.labels.tolist() == labels


def test_a_detector_of_arrays_is_that_of_the_scripts(work, tmp_path):
    train, test = (inputs.load("digits", "", split) for split in ("train", "test"))
    network = networks.from_keras(keras.saving.load_model(work / "mine.keras"), dataset="digits")
    found = deployed.fit_detector(network, train.images, train.labels, test.images[:90],
                                  fit=deployed.Fit(num_kernels=20))
    detectors.save(tmp_path / "detector.npz", found.detector)
    theirs = detectors.load(work / "kernel_para_digits/detector_CE.npz")
    for ours in (found.detector, detectors.load(tmp_path / "detector.npz")):
        assert ours.score_names == theirs.score_names
        np.testing.assert_array_equal(
            ours.reference.kernels.features, theirs.reference.kernels.features)
        assert ours.reference.non_me_variance == pytest.approx(theirs.reference.non_me_variance)
    accepted = found(test.images[:90]).accepted
    assert np.sum(~accepted) == 0  # 1 % of 90 is none
    images = attack_results.load("ce", work / "fgsm_digits/CE").image_digests
    assert np.isin(images, found.detector.fitted_images).any()


@pytest.mark.parametrize(("given", "words"), [
    ({"model": "other.keras"}, "weights of SHA-256 .*Received: a network with"),
    ({"log_root": "x"}, "expected model of the network .*log_root='x'"),
    ({}, "kernel_para_digits/mine.keras', no such file")])
def test_a_detector_of_another_network_is_refused(work, given, words):
    if "model" in given:
        given = {"model": work / given["model"]}
    with pytest.raises(InputError, match=words):
        deployed.load_detector(work / "kernel_para_digits/detector_CE.npz", **given)


def test_the_other_way_of_opening_is_another_network(work):
    refused("test_adv", *DIGITS, *ATTACK, "--model_input=0..1", cwd=work,
            words=["fgsm_digits/CE holds the results of another network, with an architecture of "
                   r"SHA-256 \w{12}….*--overwrite=True.*Received: a network with \w{12}…"])


def test_results_of_another_network_are_kept(work, tmp_path):
    for name in ("mine", "other"):
        (tmp_path / f"{name}.keras").write_bytes((work / f"{name}.keras").read_bytes())
    first, other = DIGITS, ("--dataset=digits", "--model=other.keras")
    succeeded("test_adv", *first, *ATTACK, cwd=tmp_path)
    refused("test_adv", *other, *ATTACK, cwd=tmp_path, words=["another network, with weights of SHA"])
    succeeded("test_adv", *first, *ATTACK, cwd=tmp_path)  # its own may be made anew
    succeeded("test_adv", *other, *ATTACK, "--overwrite=True", cwd=tmp_path)
    network = provenance.read(tmp_path / "fgsm_digits/CE", "test_adv")["metrics"]["network"]
    assert network["model"] == "other"


def test_results_of_another_checkpoint_are_kept(work, tmp_path_factory, tmp_path):
    (tmp_path / "mine.keras").write_bytes((work / "mine.keras").read_bytes())
    succeeded("test_adv", *DIGITS, *ATTACK, "--RCE_train=True", cwd=tmp_path)
    tiny = script_runner.tiny_run(tmp_path_factory)
    refused("test_adv", *NETWORK, f"--log_root={tiny}/models/tiny", *ATTACK, cwd=tmp_path,
            words=["fgsm_digits/RCE holds the results of another network"])


def test_images_of_any_size_and_fewer_classes_of_a_file(tmp_path):
    keras.Sequential([layers.Input((None, None, 3)), layers.Conv2D(4, 3), layers.GlobalMaxPooling2D(),
                      layers.Dense(5)]).save(tmp_path / "any.keras")
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3), np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.array([0, 1, 2, 1, 0, 2]))
    succeeded("test_adv", "--dataset=npz", "--eval_data_path=x.npz", "--model=any.keras",
              "--model_input=-1..1", *ATTACK, cwd=tmp_path)
    stored = result_files.open_normal_images(tmp_path / "fgsm_npz/CE")
    assert stored.shape[1:] == (9, 7, 3) and stored.min() >= -0.5
    assert to_network_input(images).min() == stored.min()


@pytest.mark.parametrize(("script", "arguments", "words"), [
    ("test_nor", ("--mode=eval", "--log_root=m"), "--log_root must not be given beside"),
    ("test_adv", (*ATTACK, "--log_root=m"), "--log_root must not be given beside"),
    ("test_nor", ("--mode=eval", "--dataset=cifar10", "--eval_data_path=c.npz"), "npz|expected|images"),
    ("others", ("--mode=info",), "--mode=info expected a network of train.py"),
    ("others", ("--mode=export_pretrained",), "--mode=export_pretrained expected a network"),
    ("test_nor", ("--mode=eval", "--model=absent.keras"), "model='absent.keras', no such file"),
    ("test_nor", ("--mode=eval", "--model=folder"), r"model must be a \.keras file.*a folder"),
    ("test_nor", ("--mode=eval", "--model=damaged.keras"), "a whole Keras model at damaged.keras"),
    ("test_nor", ("--mode=eval", "--model=lambda.keras"), "trust_model=True.*a Lambda layer"),
    ("test_nor", ("--mode=eval", "--model=small.keras"), r"\(6, 6, 1\).*images \(8, 8, 1\)"),
    ("test_nor", ("--mode=eval", "--model=three.keras"), "the 3 classes of three.keras.*10 classes"),
    ("test_nor", ("--mode=eval", "--model=unknown"), "model must be one of"),
    ("train", ("--log_root=m",), "model must be one of")])
def test_refused_in_one_sentence(tmp_path, script, arguments, words):
    classifier().save(tmp_path / "mine.keras")
    (tmp_path / "folder").mkdir()
    (tmp_path / "damaged.keras").write_bytes((tmp_path / "mine.keras").read_bytes()[:300])
    classifier((6, 6, 1)).save(tmp_path / "small.keras")
    classifier(classes=3).save(tmp_path / "three.keras")
    keras.Sequential([layers.Input((8, 8, 1)), layers.Lambda(lambda x: x), layers.Flatten(),
                      layers.Dense(10)]).save(tmp_path / "lambda.keras")
    refused(script, *DIGITS, *arguments, cwd=tmp_path, words=[words])


def test_a_lambda_layer_that_is_trusted(tmp_path):
    keras.Sequential([layers.Input((8, 8, 1)), layers.Lambda(lambda x: x), layers.Flatten(),
                      layers.Dense(10)]).save(tmp_path / "mine.keras")
    result = run("test_nor", *DIGITS, "--mode=eval", "--trust_model=True", "--model_input=0..1",
                 cwd=tmp_path)
    assert result.code == 0 and "warning: --trust_model=True runs" in result.err

"""Models as files: what each target writes gives the pixels of `emd.restore`, elsewhere."""

import functools
import json
import os

import numpy as np
import pytest

import emd
from emd import checkpoint, export
from emd.models.pixelwise import kernel_matrix

KERNEL = "tem_kernel_w7"
PUBLISHED = "temstem_kernel_w11_published"
AUTOENCODER = "tem_latent16"


@functools.cache
def load(name):
    return emd.load(name)


def noisy(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(20 + 10 * np.sin(np.arange(shape[-1]) / 9), shape).astype(np.float32) + 50


def convolved(x, matrix):
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), matrix.shape)
    return (windows * matrix).sum((2, 3))


@pytest.mark.parametrize("target", ["imagej", "csv"])
@pytest.mark.parametrize("name", [KERNEL, PUBLISHED])
def test_a_kernel_as_text_is_the_kernel(target, name, tmp_path):
    """Read as ImageJ reads it, the interior is denoise's up to the constant that keeps the mean."""
    path = export.export(load(name), tmp_path / "kernel.txt", target)
    separator = "," if target == "csv" else " "
    rows = [line.split(separator) for line in path.read_text("ascii").splitlines()]
    matrix = np.array(rows, np.float64)
    np.testing.assert_array_equal(
        matrix.astype(np.float32), kernel_matrix(load(name).model.variables["params"])
    )
    assert "e" not in path.read_text("ascii")
    x, half = noisy((40, 45)), len(matrix) // 2
    difference = load(name)(x)[half:-half, half:-half] - convolved(x, matrix)
    assert load(name)(x).std() > 1
    np.testing.assert_allclose(difference, difference.mean(), atol=1e-4)
    if name == PUBLISHED:  # no mean is kept: the constant is what the sum of the kernel leaves
        np.testing.assert_allclose(difference.mean(), (1 - matrix.sum()) * x.min(), rtol=1e-4)


@pytest.mark.parametrize("name", [KERNEL, "temstem_mlp2_w3", AUTOENCODER])
def test_npz_holds_all_weights_by_name(name, tmp_path):
    path = export.export(load(name), tmp_path / "weights.npz", "npz")
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    config = json.loads(arrays.pop("config").item())
    model = load(name).model
    assert config["name"] == name
    assert config["weights"] == checkpoint.fingerprint(model.variables)
    assert (config["family"], config["size"]) == (model.config.family, model.config.size)
    if model.config.family == "kernel":
        np.testing.assert_array_equal(
            arrays.pop("matrix"), kernel_matrix(model.variables["params"])
        )
    tree = {}
    for key, array in arrays.items():
        *folders, leaf = key.split("/")
        functools.reduce(lambda node, folder: node.setdefault(folder, {}), folders, tree)[leaf] = (
            array
        )
    assert checkpoint.fingerprint(tree) == checkpoint.fingerprint(model.variables)


def test_the_same_model_gives_the_same_file(tmp_path):
    for target in ("imagej", "csv", "dm-script", "npz"):
        files = [export.export(load(KERNEL), tmp_path / f"{target}{i}", target) for i in (0, 1)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_an_unknown_target_lists_those_there_are(tmp_path):
    with pytest.raises(ValueError, match="unknown target 'tiff': use one of imagej, csv, dm-scr"):
        export.export(load(KERNEL), tmp_path / "a", "tiff")


@pytest.mark.parametrize(
    ("name", "target", "able"),
    [
        (AUTOENCODER, "imagej", "npz, onnx, stablehlo$"),
        (AUTOENCODER, "dm-script", "npz, onnx, stablehlo$"),
        ("tem_mlp1_w7", "csv", "dm-script, npz, onnx, stablehlo$"),
    ],
)
def test_what_a_target_cannot_hold_is_told_with_those_that_can(name, target, able, tmp_path):
    with pytest.raises(ValueError, match=f"{target} cannot hold .*: use one of {able}"):
        export.export(load(name), tmp_path / "a", target)
    assert not list(tmp_path.iterdir())


def test_files_are_replaced_only_when_asked(tmp_path):
    path = tmp_path / "kernel.txt"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        export.export(load(KERNEL), path, "imagej")
    assert path.read_text() == "mine"
    assert export.export(load(KERNEL), path, "imagej", overwrite=True) == path
    assert path.read_text().count("\n") == 7
    with pytest.raises(FileNotFoundError, match="folder does not exist"):
        export.export(load(KERNEL), tmp_path / "none" / "kernel.txt", "imagej")
    with pytest.raises(IsADirectoryError):
        export.export(load(KERNEL), tmp_path, "imagej", overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kernel.txt"]


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "kernel.txt"
    path.write_text("mine")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        export.export(load(KERNEL), path, "imagej", overwrite=True)
    assert path.read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kernel.txt"]


def test_models_of_both_kinds_are_taken(tmp_path):
    ours = export.export(load(KERNEL), tmp_path / "a", "csv").read_bytes()
    assert export.export(load(KERNEL).model, tmp_path / "b", "csv").read_bytes() == ours


def test_every_target_is_described_in_one_line():
    assert list(export.TARGETS) == ["imagej", "csv", "dm-script", "npz", "onnx", "stablehlo"]
    for target in export.TARGETS.values():
        assert 10 < len(target.description) < 90
        assert "\n" not in target.description
        assert target.suffix.startswith(".")

"""The napari plugin without napari: layers restored, files opened and saved, and its manifest."""

import ast
import importlib.util
import pathlib

import dask.array as da
import numpy as np
import pytest
import yaml
import zarr

import emd
from emd import checkpoint
from emd.data import micrograph
from emd.data.formats.registry import TIFF_SUFFIXES, WRITERS
from emd.data.micrograph import SUFFIXES, FormatError, Micrograph
from emd.napari import files, layers

KERNEL = "tem_kernel_w7"
PLACE = {
    **{"scale": [0.5, 0.25], "translate": [3.0, -4.0], "units": ("nm", "nm")},
    **{"rotate": [[1.0, 0.0], [0.0, 1.0]], "shear": [0.1], "axis_labels": ("y", "x")},
}
LOOK = {"contrast_limits": [10.0, 30.0], "colormap": "viridis", "gamma": 0.8}
OTHER = {"visible": False, "multiscale": False, "rgb": False, "blending": "additive"}


def noisy(*shape, dtype="uint16"):
    return np.random.default_rng(0).poisson(20.0, shape).astype(dtype)


def image(data, **state):
    return data, {"name": "grain", "metadata": {}, **state}, "image"


# --- layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(24, 17), (3, 24, 17), (2, 3, 24, 17), (1, 1)])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_last_two_axes_are_restored(shape, dtype):
    data = noisy(*shape, dtype=dtype)
    ((restored, state, kind),), notes = layers.denoise(image(data), KERNEL)
    assert restored.dtype == dtype
    np.testing.assert_array_equal(restored, emd.load(KERNEL)(data))
    assert (state["name"], kind, notes) == (f"grain {KERNEL}", "image", [])


def test_place_and_look_stay():
    ((_, state, _),), _ = layers.denoise(image(noisy(24, 17), **PLACE, **LOOK, **OTHER), KERNEL)
    assert {k: state[k] for k in (*PLACE, *LOOK)} == {**PLACE, **LOOK}
    assert not set(OTHER) & set(state)


def test_metadata_gain_what_was_done():
    before = {"voltage [kV]": 200, "emd": [{"model": "other"}]}
    given = image(noisy(24, 17), metadata=before)
    ((_, state, _),), _ = layers.denoise(given, KERNEL)
    assert state["metadata"]["voltage [kV]"] == 200
    assert [step["model"] for step in state["metadata"]["emd"]] == ["other", KERNEL]
    weights = checkpoint.fingerprint(checkpoint.load(KERNEL).variables)
    assert state["metadata"]["emd"][-1]["weights"] == weights
    assert before == {"voltage [kV]": 200, "emd": [{"model": "other"}]}


def test_lazy_data_stay_lazy(tmp_path):
    data = noisy(3, 40, 33)
    array = da.from_array(data, chunks=(1, 40, 20))
    stored = zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(1, 40, 33))
    whole = emd.load(KERNEL)(data)
    for lazy in (array, stored):
        ((restored, state, _), (taken, _, _)), _ = layers.denoise(
            image(lazy), KERNEL, residual=True
        )
        assert isinstance(restored, da.Array)
        assert isinstance(taken, da.Array)
        assert restored.chunksize == (1, 40, lazy.chunks[2] if lazy is stored else 20)
        np.testing.assert_array_equal(restored.compute(), whole)
        np.testing.assert_array_equal(taken.compute(), data.astype(np.float32) - whole)
        assert state["metadata"]["emd"][-1] | {"weights": ""} == {
            **{"model": KERNEL, "weights": "", "version": emd.__version__, "lazy": True}
        }


def test_nothing_lazy_is_computed():
    def fail(block):
        raise AssertionError(f"{block.shape} computed")

    lazy = da.map_blocks(fail, da.zeros((2, 40, 32), chunks=(1, 40, 32)), dtype=np.float32)
    ((restored, *_),), _ = layers.denoise(image(lazy.astype(np.float32)), KERNEL)
    assert restored.shape == lazy.shape


def test_residual():
    data = noisy(3, 24, 17)
    (given, (taken, state, kind)), _ = layers.denoise(
        image(data, scale=[1, 0.5, 0.5], **LOOK), KERNEL, residual=True
    )
    assert kind == "image"
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, data.astype(float) - given[0].astype(float))
    low, high = state["contrast_limits"]
    assert low == -high < 0
    assert 0.99 < (np.abs(taken) <= high).mean() <= 1
    assert state["name"] == f"grain {KERNEL} residual"
    assert state["scale"] == [1, 0.5, 0.5]
    assert state["colormap"] != LOOK["colormap"]


def test_residual_of_a_constant_and_of_pixels_that_are_not_finite():
    data = np.full((9, 9), 5.0)
    (_, (taken, state, _)), _ = layers.denoise(image(data), KERNEL, residual=True)
    assert not taken.any()
    assert taken.dtype == np.float64
    assert state["contrast_limits"] == [-1.0, 1.0]
    data[2, 3], data[4, 4] = np.nan, np.inf
    (_, (taken, state, _)), _ = layers.denoise(image(data), KERNEL, residual=True)
    assert np.isnan(taken).sum() == 2
    assert np.isfinite(state["contrast_limits"]).all()


def test_the_finest_level_is_restored():
    levels = [noisy(24, 16), noisy(12, 8)]
    ((restored, state, _),), _ = layers.denoise(image(levels, multiscale=True), KERNEL)
    np.testing.assert_array_equal(restored, emd.load(KERNEL)(levels[0]))
    assert "multiscale" not in state


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        (image(noisy(9, 9, 3), rgb=True), "grain: is in colour: split it"),
        (image(noisy(9)), r"grain: of shape \(9,\) is no image"),
        ((noisy(9, 9), {"name": "cells"}, "labels"), "cells: is a layer of labels, not of counts"),
        (image(np.zeros((9, 9), bool)), "grain: pixels are boolean"),
        (image(np.zeros((9, 9), complex)), "grain: pixels are complex"),
        (image(noisy(9, 9, dtype="int64")), "grain: pixels of type int64 are not supported"),
        (image(da.zeros((9, 9), dtype="int64")), "grain: pixels of type int64 are not supported"),
        (image(np.zeros((0, 9), "f4")), "grain: pixels of shape .* are empty"),
    ],
)
def test_what_is_no_micrograph_is_refused_in_one_line(layer, line):
    with pytest.raises(ValueError, match=line) as caught:
        layers.denoise(layer, KERNEL)
    assert "\n" not in str(caught.value)


def test_auto_chooses_by_the_metadata():
    stem = image(noisy(9, 9), metadata={"mode": "STEM"})
    lazy = image(da.from_array(noisy(9, 9)), metadata={"mode": "STEM"})
    assert "grain: nothing is put back: the layer is lazy" in layers.denoise(lazy, layers.AUTO)[1]
    ((_, state, _),), notes = layers.denoise(stem, layers.AUTO)
    assert state["name"] == "grain stem_skip48_clean"
    assert notes[0] == "grain: stem_skip48_clean, as the file says STEM"
    assert state["metadata"]["emd"][-1]["put_back"] == [0.0]
    assert notes[1:] == ["grain: nothing is put back: a side is below 32 px"]
    _, state, _ = layers.denoise(stem, state["name"].removeprefix("grain ")).layers[0]
    assert state["metadata"]["emd"][-1]["put_back"] == []
    ((_, state, _),), _ = layers.denoise(image(noisy(9, 9)), layers.AUTO)
    assert state["name"] == "grain stem_skip48_clean"
    with pytest.raises(ValueError, match="grain: pixels are measured in 1/nm"):
        layers.denoise(image(noisy(9, 9), units=("1/nm", "1/nm")), layers.AUTO)


def test_a_hot_pixel_is_told_of():
    data = noisy(24, 17)
    data[5, 5] = 60_000
    _, (note,) = layers.denoise(image(data), KERNEL)
    assert note.startswith("grain: ")


def test_models_that_are_there():
    found = layers.models()
    assert list(found) == [layers.AUTO, *checkpoint.available()]
    assert found["tem_mlp1_w7"].startswith("Trained for 10000 of 10000 batches, taught by tem_lat")
    assert found["tem_kernel_w3_published"] == "As printed in arXiv:1808.09916, appendix."
    assert all("?" not in line for line in found.values())


# --- files -----------------------------------------------------------------------------------


def test_a_file_opens_with_its_calibration(tmp_path):
    path = tmp_path / "Grain.TIF"
    micrograph.write(path, Micrograph(noisy(9, 8), (0.5, 0.25), "nm", {"mode": "TEM"}))
    ((data, state, kind),) = files.get_reader(str(path))(str(path))
    np.testing.assert_array_equal(data, noisy(9, 8))
    assert (state["name"], kind) == ("Grain", "image")
    assert state["scale"] == [0.5, 0.25]
    assert state["units"] == ["nm", "nm"]
    assert state["metadata"]["mode"] == "TEM"


def test_a_stack_opens_in_its_shape_with_its_axes(tmp_path):
    path = tmp_path / "scan.hspy"
    moves = [
        {"name": "tilt", "scale": 2.0, "units": "deg"},
        {"name": "time", "scale": 0.5, "units": "weeks"},
    ]
    metadata = {"stack_shape": [2, 3], "frames": moves}
    micrograph.write(path, Micrograph(noisy(6, 9, 8), (0.5, 0.5), "Å", metadata))
    ((data, state, _),) = files.read(str(path))
    np.testing.assert_array_equal(data, noisy(6, 9, 8).reshape(2, 3, 9, 8))
    assert state["scale"] == [2.0, 0.5, 0.5, 0.5]
    assert state["units"] == ["deg", "pixel", "Å", "Å"]


def test_units_that_napari_does_not_know_are_left_out(tmp_path):
    path = tmp_path / "a.tif"
    micrograph.write(path, Micrograph(noisy(9, 8), (2.0, 1.0), "bananas"))
    ((_, state, _),) = files.read(str(path))
    assert (state["scale"], state["units"]) == ([2.0, 1.0], ["pixel", "pixel"])
    micrograph.write(path, Micrograph(noisy(9, 8)), overwrite=True)
    ((_, state, _),) = files.read(str(path))
    assert not {"scale", "units"} & set(state)


def test_each_image_of_a_file_is_a_layer(tmp_path):
    path = tmp_path / "two.npz"
    np.savez(path, haadf=noisy(9, 8), bf=noisy(7, 6), line=np.arange(5.0))
    opened = {state["name"]: data.shape for data, state, _ in files.read(str(path))}
    assert opened == {"two haadf": (9, 8), "two bf": (7, 6)}


def test_a_bad_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"")
    with pytest.raises(FormatError, match=r"a\.tif: is empty") as caught:
        files.read(str(path))
    assert "\n" not in str(caught.value)


def test_others_files_are_left_to_others():
    assert files.get_reader("photo.jpg") is None
    assert files.get_reader(["a.tif", "b.tif"]) is None
    assert all(files.get_reader(f"a{suffix}") for suffix in SUFFIXES)


@pytest.mark.parametrize("suffix", [".tif", ".hspy"])
@pytest.mark.parametrize("shape", [(9, 8), (2, 9, 8), (2, 3, 9, 8)])
def test_what_was_opened_is_saved_with_all_it_had(tmp_path, suffix, shape):
    path = str(tmp_path / f"a{suffix}")
    step = {"model": "m"}
    frames = [1.0] * (len(shape) - 2)
    state = {
        **{"name": "a", "scale": [*frames, 0.5, 0.25], "units": [*("pixel",) * len(frames)]},
        "metadata": {"emd": [step], "mode": "TEM", "napari's own": object()},
    }
    state["units"] += ["nm", "nm"]
    assert files.write(path, noisy(*shape), state) == [path]
    assert files.write(path, da.from_array(noisy(*shape)), state) == [path]  # over it
    ((data, back, _),) = files.read(path)
    np.testing.assert_array_equal(data, noisy(*shape))
    assert back["scale"][-2:] == [0.5, 0.25]
    assert back["units"][-2:] == ["nm", "nm"]
    assert back["metadata"]["emd"] == [step]
    assert back["metadata"]["mode"] == "TEM"
    assert "napari's own" not in back["metadata"]


def test_a_layer_without_units_is_saved_without_calibration(tmp_path):
    path = str(tmp_path / "a.tif")
    files.write(path, noisy(9, 8), {"scale": [2.0, 2.0], "units": ("pixel", "pixel")})
    assert micrograph.read(path).pixel_size is None
    with pytest.raises(ValueError, match=r"a\.tif: layer a is in colour"):
        files.write(path, noisy(9, 8, 3), {"name": "a", "rgb": True})


# --- the manifest ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifest():
    path = pathlib.Path(layers.__file__).with_name("napari.yaml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_manifest_names_what_is_there(manifest):
    assert manifest["name"] == "emd-micrograph"
    commands = manifest["contributions"]["commands"]
    for command in commands:
        module, _, name = command["python_name"].partition(":")
        source = importlib.util.find_spec(module).loader.get_source(module)
        assert name in [getattr(node, "name", "") for node in ast.parse(source).body]
    given = [
        c["command"] for k in ("widgets", "readers", "writers") for c in contributed(manifest, k)
    ]
    assert given == [command["id"] for command in commands]


def contributed(manifest, kind):
    return manifest["contributions"][kind]


def test_the_manifest_names_all_formats(manifest):
    (reader,), (writer,) = contributed(manifest, "readers"), contributed(manifest, "writers")
    assert reader["filename_patterns"] == [f"*{suffix}" for suffix in SUFFIXES]
    assert writer["filename_extensions"] == [*TIFF_SUFFIXES, *WRITERS]

"""HyperSpy itself: signals restored by `map`, and files that each writes opened by the other."""

import numpy as np
import pytest

import emd
from emd.data import micrograph
from emd.data.micrograph import Micrograph

hs = pytest.importorskip("hyperspy.api", reason="needs HyperSpy: pip install hyperspy")

AXES = (("tilt", 2.0, "deg"), ("time", 0.5, "s"), ("y", 0.5, "nm"), ("x", 0.25, "nm"))


def noisy():
    return np.random.default_rng(0).poisson(20.0, (2, 3, 40, 33)).astype("uint16")


@pytest.fixture
def signal():
    made = hs.signals.Signal2D(noisy())
    for axis, (name, scale, units) in zip(made.axes_manager._axes, AXES, strict=True):
        axis.name, axis.scale, axis.units, axis.offset = name, scale, units, 1.0
    made.metadata.General.title = "grain"
    return made


def axes(signal):
    return [(a.name, a.scale, a.units) for a in signal.axes_manager._axes]


@pytest.mark.parametrize("lazy", [False, True])
def test_map_restores_each_image_and_keeps_the_axes(signal, lazy):
    given = signal.as_lazy() if lazy else signal
    model = emd.load("tem_kernel_w7")
    restored = given.map(model, inplace=False, show_progressbar=False)
    if lazy:
        restored.compute(show_progressbar=False)
    np.testing.assert_array_equal(restored.data, model(noisy()))
    assert restored.data.dtype == np.uint16
    assert restored.axes_manager.as_dictionary() == signal.axes_manager.as_dictionary()
    assert restored.metadata.General.title == "grain"


def test_hyperspy_opens_what_is_written_here(tmp_path):
    moves = [{"name": n, "scale": s, "units": u} for n, s, u in AXES[:2]]
    metadata = {"title": "grain", "stack_shape": [2, 3], "frames": moves}
    pixels = noisy().reshape(6, 40, 33)
    micrograph.write(tmp_path / "a.hspy", Micrograph(pixels, (0.5, 0.25), "nm", metadata))
    opened = hs.load(tmp_path / "a.hspy")
    np.testing.assert_array_equal(opened.data, noisy())
    assert axes(opened) == list(AXES)
    assert opened.metadata.General.title == "grain"


def test_what_hyperspy_writes_opens_here(signal, tmp_path):
    signal.save(tmp_path / "a.hspy")
    opened = micrograph.read(tmp_path / "a.hspy")
    np.testing.assert_array_equal(opened.pixels.reshape(noisy().shape), noisy())
    assert (opened.pixel_size, opened.unit) == ((0.5, 0.25), "nm")
    assert opened.metadata["title"] == "grain"
    assert [(a["name"], a["scale"], a["units"]) for a in opened.metadata["frames"]] == [*AXES[:2]]


OFFSETS = (1.0, -60.0, -3.0, 4.0)


def test_offsets_of_all_axes_survive(signal, tmp_path):
    for axis, offset in zip(signal.axes_manager._axes, OFFSETS, strict=True):
        axis.offset = offset
    signal.save(tmp_path / "a.hspy")
    opened = micrograph.read(tmp_path / "a.hspy")
    assert opened.metadata["origin"] == [-3.0, 4.0]
    for name in ("b.hspy", "b.zspy"):
        micrograph.write(tmp_path / name, opened)
        again = hs.load(tmp_path / name)
        assert [a.offset for a in again.axes_manager._axes] == list(OFFSETS)
        assert axes(again) == list(AXES)


def test_a_crop_made_in_hyperspy_has_its_own_origin(signal, tmp_path):
    micrograph.write(tmp_path / "a.hspy", Micrograph(noisy()[0, 0], (0.5, 0.25), "nm"))
    cropped = hs.load(tmp_path / "a.hspy").isig[4:20, 6:30]
    cropped.axes_manager.signal_axes.set(units="nm")
    cropped.save(tmp_path / "b.hspy")
    opened = micrograph.read(tmp_path / "b.hspy")
    assert opened.metadata["origin"] == [3.0, 1.0]
    np.testing.assert_array_equal(opened.pixels, noisy()[0, 0, 6:30, 4:20])

"""The plugin's widget in napari without a screen, and its manifest as napari takes it."""

import importlib
import os
import pathlib
import time

import numpy as np
import pytest

import emd
from emd.napari import files, layers

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # before Qt is loaded
REASON = "needs napari and a Qt: pip install '.[napari]' pyqt6"
components = pytest.importorskip("napari.components", reason=REASON)
qt = pytest.importorskip("qtpy.QtWidgets", reason=REASON, exc_type=Exception)
npe2 = pytest.importorskip("npe2", reason=REASON)
napari_layers = importlib.import_module("napari.layers")
notifications = importlib.import_module("napari.utils.notifications")
Denoise = importlib.import_module("emd.napari.widget").Denoise

KERNEL = "tem_kernel_w7"


def noisy(*shape, dtype="uint16"):
    return np.random.default_rng(0).poisson(20.0, shape).astype(dtype)


@pytest.fixture(scope="module")
def application():
    return qt.QApplication.instance() or qt.QApplication([])


@pytest.fixture
def told():
    """What the user is shown meanwhile."""
    notifications.notification_manager.records.clear()
    return notifications.notification_manager.records


@pytest.fixture
def viewer(application):
    model = components.ViewerModel()
    yield model
    model.layers.clear()


@pytest.fixture
def widget(viewer):
    made = Denoise(viewer)
    made.model.value = KERNEL
    yield made
    made.close()


def finish(widget, application):
    """Presses the button and lets Qt run until the thread has come back."""
    widget.button.changed.emit(True)
    assert not widget.button.enabled
    for _ in range(2000):
        application.processEvents()
        if widget.button.enabled:
            return
        time.sleep(0.01)
    pytest.fail("the worker did not come back within 20 s")


def test_a_layer_is_denoised_into_a_new_one(viewer, widget, application, told):
    data = noisy(3, 40, 33)
    given = viewer.add_image(data, name="grain", scale=(1, 0.5, 0.25), translate=(0, 3, 4))
    given.units = ("pixel", "nm", "nm")
    given.contrast_limits = (12, 31)
    widget.residual.value = True
    finish(widget, application)
    assert [layer.name for layer in viewer.layers] == [
        *("grain", f"grain {KERNEL}", f"grain {KERNEL} residual")
    ]
    restored, residual = viewer.layers[1:]
    np.testing.assert_array_equal(restored.data, emd.load(KERNEL)(data))
    np.testing.assert_array_equal(residual.data, data.astype("f4") - restored.data)
    for layer in (restored, residual):
        assert layer.units == given.units
        np.testing.assert_array_equal(layer.scale, given.scale)
        np.testing.assert_array_equal(layer.translate, given.translate)
    assert restored.contrast_limits == [12, 31]
    low, high = residual.contrast_limits
    assert low == -high
    assert restored.metadata["emd"][-1]["model"] == KERNEL
    assert widget.layer.value is given
    assert not told


def test_the_selected_layer_is_chosen(viewer, widget):
    first = viewer.add_image(noisy(9, 9), name="first")
    second = viewer.add_image(noisy(9, 9), name="second")
    assert widget.layer.value is second
    viewer.layers.selection.active = first
    assert widget.layer.value is first
    labels = viewer.add_labels(np.zeros((9, 9), int))
    viewer.layers.selection.active = labels
    assert widget.layer.value is first
    assert widget.layer.choices == (first, second)


def test_errors_are_one_line(viewer, widget, application, told):
    widget.button.changed.emit(True)
    assert told.pop().message == "no image layer: open a micrograph first"
    viewer.add_image(np.zeros((9, 9, 3), np.uint8), rgb=True, name="photo")
    finish(widget, application)
    assert told.pop().message == "photo: is in colour: split it into channels and choose one"
    assert len(viewer.layers) == 1
    assert widget.button.enabled


def test_the_choice_of_auto_is_told(viewer, application, told):
    widget = Denoise(viewer)
    assert widget.model.value == layers.AUTO
    viewer.add_image(noisy(9, 9), name="grain", metadata={"mode": "TEM"})
    finish(widget, application)
    assert told.pop().message == "grain: tem_skip48_clean, as the file says TEM"
    assert viewer.layers[-1].name == "grain tem_skip48_clean"


def test_the_tooltip_is_the_card(widget):
    about = layers.models()
    assert widget.model.choices == tuple(about)
    for name in (KERNEL, layers.AUTO, "tem_latent16"):
        widget.model.value = name
        assert widget.model.tooltip == about[name]


def test_the_manifest_is_valid():
    manifest = npe2.PluginManifest.from_file(pathlib.Path(layers.__file__).with_name("napari.yaml"))
    manifest.validate_imports()
    assert manifest.contributions.widgets[0].get_callable is not None


def test_units_survive_a_file_through_napari(viewer, tmp_path):
    path = str(tmp_path / "a.hspy")
    for unit in ("nm", "µm", "Å", "1/nm", "1/Å", "mrad"):
        layer = napari_layers.Image(noisy(9, 8), scale=(0.5, 0.25), units=(unit, unit), name="a")
        data, state, _ = layer.as_layer_data_tuple()
        files.write(path, data, state)
        ((back, opened, kind),) = files.read(path)
        assert opened["units"] == [unit, unit]
        assert napari_layers.Layer.create(back, opened, kind).units == layer.units


def test_napari_knows_every_unit_that_files_may_have():
    for unit in files._UNITS:
        napari_layers.Image(noisy(4, 4), units=(unit, unit))

"""The dock widget: choose a model, denoise an image layer, show what was taken out.

The only module that imports napari and magicgui; what it does to layers is in `emd.napari.layers`.
"""

from __future__ import annotations

from typing import Any

from magicgui.widgets import CheckBox, ComboBox, Container, PushButton
from napari.layers import Image, Layer
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_info

from emd.napari.layers import AUTO, Result, denoise, models

# What files, arrays and memory are refused with: one line for the user. Others name their type.
_EXPECTED = (ValueError, TypeError, OSError, MemoryError, ImportError)


class Denoise(Container):
    """Denoises an image layer into a new one, in a thread of its own.

    Attributes:
      layer: which layer; follows the layer that is selected.
      model: which model; its tooltip says what its card says.
      residual: whether to add what was taken out as a layer, too.
      button: starts; off while a layer is restored.
    """

    def __init__(self, napari_viewer: Any):
        """Takes the viewer, whose layers can be chosen and to which the results are added."""
        self._viewer = napari_viewer
        self._about = models()
        self.layer = ComboBox(label="layer", choices=self._images, nullable=False)
        self.model = ComboBox(label="model", choices=list(self._about), value=AUTO)
        self.residual = CheckBox(text="show residual")
        self.residual.tooltip = "Add a layer of what was taken out: noise, and what was mistaken"
        self.button = PushButton(text="Denoise")
        super().__init__(widgets=[self.layer, self.model, self.residual, self.button])
        self._explain()
        self.model.changed.connect(self._explain)
        self.button.changed.connect(self._start)
        layers = napari_viewer.layers
        for event in (layers.events.inserted, layers.events.removed):
            event.connect(self._refresh)
        layers.selection.events.active.connect(self._follow)
        self._follow()

    def _images(self, _: Any = None) -> list[Image]:
        return [each for each in self._viewer.layers if isinstance(each, Image)]

    def _refresh(self, _: Any = None) -> None:
        self.layer.reset_choices()

    def _follow(self, _: Any = None) -> None:
        active = self._viewer.layers.selection.active
        if active in self._images():
            self._refresh()
            self.layer.value = active

    def _explain(self, _: Any = None) -> None:
        self.model.tooltip = self._about[self.model.value]

    def _start(self, _: Any = None) -> None:
        layer = self.layer.value
        if layer is None:
            show_error("no image layer: open a micrograph first")
            return
        self.button.enabled = False
        create_worker(
            denoise,
            layer.as_layer_data_tuple(),
            self.model.value,
            residual=self.residual.value,
            _connect={"returned": self._show, "errored": self._complain, "finished": self._ready},
            _progress={"desc": f"{layer.name}: denoising"},
            _ignore_errors=True,  # `_complain` tells of them in one line
        )

    def _show(self, result: Result) -> None:
        chosen = self.layer.value
        for layer in result.layers:
            self._viewer.add_layer(Layer.create(*layer))
        if chosen in self._images():
            self.layer.value = chosen  # to try another model on, not on the result
        for line in result.notes:
            show_info(line)

    def _complain(self, error: Exception) -> None:
        text = " ".join(str(error).split()) or "failed"
        show_error(text if isinstance(error, _EXPECTED) else f"{type(error).__name__}: {text}")

    def _ready(self) -> None:
        self.button.enabled = True

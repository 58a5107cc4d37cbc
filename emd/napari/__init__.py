"""A napari plugin: micrographs opened and saved with their calibration, image layers denoised.

`layers` and `files` know napari's layers as tuples of data, state and kind only, and run without
napari; `widget` is the dock widget, and `napari.yaml` tells napari of all three.
"""

from typing import Any

LayerData = tuple[Any, dict[str, Any], str]
"""Data, state as `napari.layers.Layer.as_layer_data_tuple` gives it, and kind."""

"""All weights of a model by name in one NumPy file, which outlives any library: the archive."""

from __future__ import annotations

import io
import json
from typing import Any

import jax
import numpy as np

import emd
from emd.checkpoint import Model, fingerprint
from emd.models.pixelwise import kernel_matrix


def render(model: Model) -> bytes:
    """The arrays under names such as `params/encoder/BatchNorm_0/scale`, and JSON under `config`.

    `numpy.load` reads it without pickles. A model's `params` hold free weights, in the order of
    `emd.models.symmetry.orbits`; a kernel's w x w matrix is there as `matrix`, too.
    """
    config = model.config
    facts = {
        "name": config.name,
        "family": config.family,
        "domain": config.domain,
        "size": config.size,
        "published": config.published,
        "weights": fingerprint(model.variables),
        "version": emd.__version__,
        "normalisation": "x = (counts - minimum) / mean above it; counts = y * mean + minimum",
        "keeps_mean": not config.published,
    }
    arrays: dict[str, Any] = {
        "/".join(str(key.key) for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(model.variables)
    }
    if config.family == "kernel":
        arrays["matrix"] = np.asarray(kernel_matrix(model.variables["params"]))
    file = io.BytesIO()
    np.savez(file, config=np.array(json.dumps(facts)), **arrays)
    return file.getvalue()

"""Denoising and compression of electron micrographs with models small enough to ship along.

Importing `emd` alone loads neither jax nor any model: name the module you want, such as
`emd.checkpoint` or `emd.restore`, or `load` a model by name.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0"


def load(name: str, *, root: str | os.PathLike[str] | None = None) -> Any:
    """A model by name, as a callable on NumPy, JAX and dask arrays: an `emd.restorer.Restorer`.

    Args:
      name: one of those that the command `emd models` lists.
      root: a folder of models; without it the weights that come with the code.

    Raises:
      ValueError: no model has that name.
      FileNotFoundError: it is not there; the message says which command makes it.

    >>> import numpy as np
    >>> import emd
    >>> model = emd.load("tem_mlp1_w7")
    >>> movie = np.random.default_rng(0).poisson(20.0, (2, 96, 64)).astype("float32")
    >>> restored = model(movie)
    >>> restored.shape, restored.dtype
    ((2, 96, 64), dtype('float32'))
    """
    # by its name, since everything else may import this module, and quick: jax comes only now
    return importlib.import_module("emd.restorer").load(name, root=root)

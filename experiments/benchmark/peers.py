"""The libraries that we are held against, loaded only where a row needs one."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from experiments.benchmark import machine

_MATMUL = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "highest"}


class MissingLibraryError(ImportError):
    """A peer's library is not installed, or does not reach the device."""


def library(name: str) -> Any:
    """A peer's module.

    Raises:
        MissingLibraryError: it is not installed; the message says what brings it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise MissingLibraryError(
            f"{package} is not installed: pip install 'emd-micrograph[bench]'"
        ) from None


def torch_on_device() -> tuple[Any, Any]:
    """PyTorch, and the device that corresponds to jax's.

    Raises:
        MissingLibraryError: it is not installed, or has no CUDA where jax has a GPU.
    """
    torch = library("torch")
    if not machine.on_gpu():
        return torch, torch.device("cpu")
    if not torch.cuda.is_available():
        raise MissingLibraryError("torch sees no GPU: install its CUDA build")
    return torch, torch.device("cuda")


def wait(torch: Any) -> None:
    """Returns when PyTorch's device is done."""
    if machine.on_gpu():
        torch.cuda.synchronize()


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Both sides' float32 products at one precision: "tf32" rounds their factors to 10 bits.

    "bfloat16" leaves it to the sides, whose options then say so.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.default_matmul_precision(_MATMUL[name]))
        with contextlib.suppress(MissingLibraryError):
            torch = library("torch")
            stack.callback(_set_tf32, torch, torch.backends.cuda.matmul.allow_tf32)
            _set_tf32(torch, name == "tf32")
        yield


def _set_tf32(torch: Any, allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def to_numpy(tensor: Any) -> np.ndarray:
    """A tensor's values."""
    return np.asarray(tensor.detach().cpu().numpy())

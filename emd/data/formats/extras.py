"""Owns the packages of the extra `io`: imported when a file first needs them, never before."""

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator
from types import ModuleType

from emd.data.contents import FormatError


def load(module: str) -> ModuleType:
    """The module, imported now.

    Raises:
      FormatError: its package is not installed.
    """
    try:
        with quiet():
            return importlib.import_module(module)
    except ImportError as error:
        needed = error.name or module
        raise FormatError(
            f"needs the package {needed.partition('.')[0]}: pip install 'emd-micrograph[io]'"
        ) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what the readers warn of and log to themselves: a user gets one line, ours."""
    logger = logging.getLogger("rsciio")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

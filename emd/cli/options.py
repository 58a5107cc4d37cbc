"""Owns what a restoration was asked for, and what of that decides its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from emd.cli import choice


class Options(NamedTuple):
    """What was asked for.

    Attributes:
      model: a model's name, "auto", or "fit".
      root: the folder of models; None for those shipped.
      signal: which of a file's images; None for all.
      frame: which frame of a stack; None for all.
      tile_px: side of the pieces worked on at a time; None for what suits.
      despike: replace isolated hot pixels first.
      scheduler: address of a dask scheduler, for archives; None for this machine.
      report: write a page beside each result.
      ensemble: of a network, take the mean over the eight symmetries.
      put_back: add what the residual still shows beyond the noise; None for where emd chooses
        the model, and frames are restored at once.
    """

    model: str
    root: Path | None = None
    signal: str | None = None
    frame: int | None = None
    tile_px: int | None = None
    despike: bool = False
    scheduler: str | None = None
    report: bool = False
    ensemble: bool = False
    put_back: bool | None = None

    @property
    def puts_back(self) -> bool:
        """Whether structure is put back."""
        return self.model == choice.AUTO if self.put_back is None else self.put_back

    @property
    def shaping(self) -> dict[str, Any]:
        """Those that decide what comes out: not the tile, which changes no more than rounding."""
        asked: dict[str, Any] = {
            "signal": self.signal,
            "frame": self.frame,
            "despike": self.despike,
        }
        # these two only where they are done: records from before there were any stay true
        if self.ensemble:
            asked["ensemble"] = True
        if self.puts_back:  # by itself, where that can be; or of all, as asked for
            asked["put_back"] = self.put_back or choice.AUTO
        return asked

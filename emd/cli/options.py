"""Owns what a restoration was asked for, and what of that decides its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from emd.cli import choice
from emd.putback import Electrons


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
      gain: counts that an electron makes; None where the image is to tell of its noise.
      black: counts of no electron; None for 0.
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
    gain: float | None = None
    black: float | None = None

    def check(self) -> None:
        """Nothing: to be told before anything slow.

        Raises:
          ValueError: the options contradict each other.
        """
        if self.gain is None and self.black is not None:
            raise ValueError("--black is for --gain: give that, too, or leave it out")
        if self.gain is not None and self.put_back is False:
            raise ValueError("--gain is for putting back: leave it out, or --no-put-back")

    @property
    def puts_back(self) -> bool | Electrons | None:
        """Whether structure is put back, and by which noise if told; None for wherever it can be.

        A gain asks for it.
        """
        if self.gain is not None:
            return Electrons(self.gain, self.black or 0.0)
        return self.put_back if self.model == choice.AUTO else bool(self.put_back)

    @property
    def shaping(self) -> dict[str, Any]:
        """Those that decide what comes out: not the tile, which changes no more than rounding."""
        asked: dict[str, Any] = {
            "signal": self.signal,
            "frame": self.frame,
            "despike": self.despike,
        }
        # these only where they are done: records from before there were any stay true
        if self.ensemble:
            asked["ensemble"] = True
        back = self.puts_back
        if back is not False:
            asked["put_back"] = list(back) if isinstance(back, Electrons) else back or choice.AUTO
        return asked

"""Owns the second picture of a report: error map, power against frequency, whiteness.

Imports matplotlib where something is drawn.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from emd.cli.findings import Findings
from emd.cli.spectra import draw_profiles, spectrum
from emd.trust.spread import LARGEST_PX, middle

_LAGS = 8  # pixels either side
_DPI = 110
_SETTINGS: Any = {"font.family": "DejaVu Sans", "font.size": 9.0, "axes.titlesize": 10.0}


def draw(
    before: Shaped[np.ndarray, "h w"], after: Shaped[np.ndarray, "h w"], found: Findings
) -> bytes:
    """A PNG of three panels, the same bytes for the same images."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**mpl.rcParamsDefault, **_SETTINGS}):
        figure = Figure(figsize=(12.6, 3.9), dpi=_DPI, layout="constrained")
        panels = figure.subplots(1, 3)
        residual = spectrum(before, after)
        _draw_map(figure, panels[0], found, before.shape)
        draw_profiles(panels[1], spectrum(before, None), residual, found.noise.std)
        _draw_neighbours(figure, panels[2], residual)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()


def _draw_map(figure: Any, panel: Any, found: Findings, shape: tuple[int, ...]) -> None:
    if found.error is None:
        panel.text(0.5, 0.5, "no error map:\nthe noise is not known", ha="center", va="center")
        panel.set_axis_off()
        return
    rows, columns = middle(shape)
    std = found.error.std
    limits = np.quantile(std, [0.002, 0.998])
    extent = (columns.start - 0.5, columns.stop - 0.5, rows.stop - 0.5, rows.start - 0.5)
    shown = panel.imshow(std, cmap="magma", vmin=limits[0], vmax=limits[1], extent=extent)
    where = f", middle {LARGEST_PX} px" if max(shape) > LARGEST_PX else ""
    what = "standard error of one pass" if found.is_ensemble else "standard error"
    panel.set(title=f"{what}, as estimated{where}", xlabel="x [px]", ylabel="y [px]")
    known = "" if found.error.calibration is not None else ", not calibrated"
    figure.colorbar(shown, ax=panel, label=f"counts{known}", shrink=0.9)


def _draw_neighbours(figure: Any, panel: Any, power: Float[np.ndarray, "h w"]) -> None:
    """The correlation of the residual's pixels with those beside them."""
    covariance = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(power)).real)
    rows, columns = (length // 2 for length in covariance.shape)
    down, across = min(_LAGS, rows), min(_LAGS, columns)
    near = covariance[rows - down : rows + down + 1, columns - across : columns + across + 1]
    correlation = near / (float(covariance[rows, columns]) or 1.0)
    correlation[down, across] = np.nan  # with itself: 1, and no news
    bound = max(0.05, float(np.nanmax(np.abs(correlation), initial=0.0)))
    extent = (-across - 0.5, across + 0.5, down + 0.5, -down - 0.5)
    shown = panel.imshow(correlation, cmap="RdBu_r", vmin=-bound, vmax=bound, extent=extent)
    panel.set(
        title="correlation in the residual (white: 0)",
        xlabel="pixels across",
        ylabel="pixels down",
    )
    figure.colorbar(shown, ax=panel, shrink=0.9)

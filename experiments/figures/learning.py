"""Figs. 2 and 4: learning curves, read from the CSV files that lie beside the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from emd import checkpoint, zoo
from experiments import curves
from experiments.figures import style

AUTOENCODER_SHARE = 1 / 12
"""Of the schedule that an autoencoder's moving means span: 5 000 of 60 000 in the paper."""

STUDENT_WINDOW = 500
"""Iterations that a kernel's or an MLP's moving means span."""

Points = Float[np.ndarray, " k"]


class Learned(NamedTuple):
    """A model's learning curve: its rows, and the batches of its schedule."""

    batches: Points
    mse: Points
    batch_size: str

    @property
    def steps(self) -> int:
        """Batches that it was trained for."""
        return int(self.batches[-1])


def read(config: zoo.ModelConfig, root: str | None) -> Learned | None:
    """Return a model's curve as stored; None where it is not trained yet.

    Raises:
        ValueError: the file is no learning curve.
    """
    folder = Path(root or checkpoint.shipped()) / config.name
    path = folder / "learning_curve.csv"
    if not path.is_file():
        return None
    text = path.read_text()
    try:
        names, rows = curves.parse(text) if text.count("\n") > 1 else ([], np.empty((0, 0)))
        batches, mse = rows[:, 0], rows[:, names.index("mse")]
    except (ValueError, IndexError):
        raise ValueError(f"{path} is no learning curve: train or copy the model anew") from None
    if (np.diff(batches, prepend=0.0) <= 0).any():
        raise ValueError(f"{path} is not in order: train or copy the model anew")
    card = checkpoint.read_card(folder / "card.md")
    return Learned(batches, mse, card.get("batch_size", "1"))


def moving_mean(batches: Points, mse: Points, window: float) -> tuple[Points, Points]:
    """Return (batches, means) of each row's last ``window`` batches, where there are so many.

    A row of a stored curve is the mean of all batches since the row before, so rows weigh by their
    span and one that the window's beginning cuts counts in part.
    """
    ends = np.concatenate([[0.0], batches])
    sums = np.concatenate([[0.0], np.cumsum(mse * np.diff(ends))])
    whole = batches >= min(window, batches[-1])
    last = batches[whole]
    first = np.maximum(last - window, 0.0)
    total = np.interp(last, ends, sums) - np.interp(first, ends, sums)
    return last, total / (last - first)


def fig2(root: str | None) -> Any:
    """Return the figure of the autoencoders' learning curves, a panel a domain."""
    with style.settings():
        figure = style.new(4.4, layout="constrained")
        panels = figure.subplots(1, len(style.DOMAINS), sharey=True)
        for axes, (domain, title) in zip(panels, style.DOMAINS.items(), strict=True):
            models = [
                config
                for config in zoo.PAPER_MODELS
                if (config.family, config.domain) == ("autoencoder", domain)
            ]
            _panel(axes, models, root, _of_schedule)
            axes.set(title=f"{title} autoencoders", xlabel="share of the schedule trained [%]")
            axes.set(xlim=(0, 100), xticks=range(0, 101, 25))
            axes.legend(title="latent depth d:", loc="upper center", bbox_to_anchor=(0.5, -0.22),
                        handlelength=2.6, frameon=False)  # fmt: skip
        panels[0].set_ylabel("training MSE (normalised images, mean 1)")
        style.frame(figure, "Fig. 2. Autoencoders: learning curves", _AUTOENCODER_CAPTION)
    return figure


_AUTOENCODER_CAPTION = """Mean squared error between restored and input training crops, averaged
over the last twelfth of the schedule at each point (the paper: 5000 of 60 000 batches), so curves
begin there. A step up and, a twelfth later, down again is one batch of unusual crops on its way
through the window. Less is better; the scale is logarithmic and common to all panels."""

_STUDENT_CAPTION = """Mean squared error between a model's output and its teacher's (the 16-deep
autoencoder of the domain) on training crops, averaged over the last 500 iterations at each point.
All models of a panel see the same crops in the same order, so their curves share their bumps: a
step up and, 500 iterations later, down again is one unusual crop on its way through the window.
Less is better; the scale is logarithmic and common to each row."""


def fig4(root: str | None) -> Any:
    """Return the figure of the students' learning curves, a panel a set."""
    families = ("kernel", "mlp1", "mlp2")
    with style.settings():
        figure = style.new(6.6, layout="constrained")
        panels = figure.subplots(3, len(families), sharey="row", sharex=True)
        for line, (domain, title) in zip(panels, style.DOMAINS.items(), strict=True):
            for axes, family in zip(line, families, strict=True):
                models = zoo.find_set(f"{domain}_{family}")
                absent = _panel(axes, models, root, _of_iterations)
                if absent and len(absent) < len(models):
                    widths = ", ".join(map(str, absent))
                    axes.text(0.97, 0.93, f"{style.NOT_TRAINED}: w = {widths}", ha="right",
                              transform=axes.transAxes)  # fmt: skip
                axes.set_title(f"{title}: {style.FAMILIES[family]}")
            line[0].set_ylabel("MSE against the teacher")
        for axes in panels[-1]:
            axes.set(xlabel="iteration", xlim=(0, None))
        title = "Fig. 4. Kernels and perceptrons (MLPs): learning curves"
        style.frame(figure, title, _STUDENT_CAPTION, head_in=0.5)
        _key(figure, families)
    return figure


_Smooth = Callable[[Learned], tuple[Points, Points, str]]
"""From a curve to what is drawn of it: x, y, and what the legend says beside the size."""


def _key(figure: Any, families: Sequence[str]) -> None:
    """One legend for all panels."""
    from matplotlib.lines import Line2D

    widths = sorted({config.size for config in zoo.PAPER_MODELS if config.family in families})
    handles = [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=1.1, label=f"w = {width}")
        for width in widths
        for colour, dashes in [style.LINES[width]]
    ]
    below_title = 1 - 0.22 / figure.get_figheight()
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, below_title),
        ncols=len(widths), handlelength=3, frameon=False,
    )  # fmt: skip


def _of_schedule(learned: Learned) -> tuple[Points, Points, str]:
    x, y = moving_mean(learned.batches, learned.mse, learned.steps * AUTOENCODER_SHARE)
    return 100 * x / learned.steps, y, f" ({learned.steps} batches of {learned.batch_size})"


def _of_iterations(learned: Learned) -> tuple[Points, Points, str]:
    x, y = moving_mean(learned.batches, learned.mse, STUDENT_WINDOW)
    return x, y, ""


def _panel(
    axes: Any, models: Sequence[zoo.ModelConfig], root: str | None, smooth: _Smooth
) -> list[int]:
    """Draw the curves of some models, and return the sizes of those that are missing."""
    found = {config.size: read(config, root) for config in models}
    for size, learned in found.items():
        colour, dashes = style.LINES[size]
        look = {"color": colour, "linestyle": dashes, "linewidth": 1.1}
        if learned is None:
            axes.plot([], [], label=f"{size}: {style.NOT_TRAINED}", **look)
        else:
            x, y, remark = smooth(learned)
            axes.plot(x, y, label=f"{size}{remark}", **look)
    axes.grid(visible=True, which="both", alpha=0.25, linewidth=0.4)
    absent = [size for size, learned in found.items() if learned is None]
    if len(absent) == len(found):
        axes.text(0.5, 0.5, style.NOT_TRAINED, transform=axes.transAxes, ha="center")
    else:
        axes.set_yscale("log")
    return absent

"""Our kernels beside those that the paper prints, in words and tables."""

from __future__ import annotations

from emd import zoo
from experiments.benchmark import table as tables
from experiments.cards import measure, standing

_WEIGHTS = """\
Ours are of other micrographs than the author's, which nobody else has, and of other teachers.
*Correlation* (means taken off) and *cosine* compare all w x w weights; *centre* is the weight of
the pixel itself, *next* that of the pixel beside it. The paper prints three decimals, and its 3x3
STEM kernel is so nearly a plain mean that a correlation with it says little. Sums differ from 1:
the printed kernels are applied as printed and change a micrograph's contrast and mean by their
sum; ours keep the mean."""

_IMAGES = f"""\
The same simulated micrographs restored by both: {measure.COMMON_DOSE:g} counts a pixel, several of
each kind of scene but diffraction. *Difference*: root mean square over the micrograph's mean,
beside what ours changes of the input; *PSNR* between the two restorations over the span of the
truth. *At sum 1*: the printed kernel's result divided by its sum, which leaves the difference in
shape. *Gain*: how much closer to the truth than the input each comes."""

_WEIGHT_COLUMNS = {
    "correlation": "correlation", "cosine": "cosine", "own_centre": "centre, ours",
    "own_next": "next, ours", "printed_centre": "centre, printed", "printed_next": "next, printed",
    "own_sum": "sum, ours", "printed_sum": "sum, printed",
}  # fmt: skip

_IMAGE_COLUMNS = {
    "change_percent": ("ours changes", "{:.1f} %"),
    "rms_percent": ("difference", "{:.1f} %"),
    "psnr_db": ("PSNR [dB]", "{:.1f}"),
    "rms_sum1_percent": ("difference at sum 1", "{:.1f} %"),
    "psnr_sum1_db": ("PSNR at sum 1 [dB]", "{:.1f}"),
    "own_gain_db": ("gain, ours [dB]", "{:+.1f}"),
    "printed_gain_db": ("gain, printed [dB]", "{:+.1f}"),
}


def text(rows: list[tables.Row]) -> str:
    """Return notes, a table of the weights and one of the restorations."""
    if not rows:
        return "None of ours is trained yet."
    by_name = {row["model"]: row for row in rows}
    found = {name: _numbers(by_name[name]) for name in measure.compared_models() if name in by_name}
    weights = [
        (*_place(name), *(f"{row[key]:.3f}" for key in _WEIGHT_COLUMNS))
        for name, row in found.items()
    ]
    images = [
        (*_place(name), *(form.format(row[key]) for key, (_, form) in _IMAGE_COLUMNS.items()))
        for name, row in found.items()
    ]
    closer = sum(row["own_gain_db"] > row["printed_gain_db"] for row in found.values())
    weight_heads = ("domain", "width", *_WEIGHT_COLUMNS.values())
    image_heads = ("domain", "width", *(head for head, _ in _IMAGE_COLUMNS.values()))
    return (
        f"{_WEIGHTS}\n{_shape(found)}\n\n{standing.table(weight_heads, weights)}\n\n"
        f"{_IMAGES}\nOurs comes closer to the truth in {closer} of {len(found)} pairs.\n\n"
        f"{standing.table(image_heads, images)}"
    )


def _shape(found: dict[str, dict[str, float]]) -> str:
    """Say how many are alike, and what those look like that are not."""
    alike = sum(row["correlation"] > 0.9 for row in found.values())
    hollow = [
        f"`{name}`"
        for name, row in found.items()
        if row["own_centre"] < row["own_next"] and row["printed_centre"] >= row["printed_next"]
    ]
    text = f"**{alike} of {len(found)} correlate by more than 0.9.**"
    if hollow:
        text += (
            f"\nHollow, with less weight on a pixel than on the one beside it where the printed one"
            f" is not: {', '.join(hollow)}.\nWeight that rises outwards stands for pixels beyond"
            " the window, which their teacher averages over."
        )
    return text


def _place(name: str) -> tuple[str, str]:
    config = zoo.find(name)
    return config.domain, str(config.size)


def _numbers(row: tables.Row) -> dict[str, float]:
    return {key: float(row[key]) for key in (*_WEIGHT_COLUMNS, *_IMAGE_COLUMNS)}

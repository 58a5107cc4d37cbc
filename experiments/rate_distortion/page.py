"""The tables for readers: `results/rate_distortion.md`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.evaluate import markdown
from experiments.evaluate.markdown import NONE
from experiments.evaluate.rows import Row
from experiments.rate_distortion import compared, lossless, ours, records, rivals
from experiments.rate_distortion.curves import RATES, Curve
from experiments.rate_distortion.records import Group

REFERENCE = "JPEG 2000"

# what is meant to be close to the image given, and to the truth
_MEANT = (ours.VARIANTS[0].name, ours.VARIANTS[1].name)
_MOST_LOSSES = 30


def parts(
    command: str, points: Sequence[Row], compare: Sequence[Row], sizes: Sequence[Row],
    speeds: Sequence[Row],
) -> list[str]:  # fmt: skip
    """Return the page as paragraphs and tables."""
    return [
        "# Rate and distortion, ours beside other codecs",
        f"Made by `{command}`, as `rate_distortion.csv`, `rate_distortion_bd.csv`, "
        "`rate_distortion_speed.csv` and `lossless.csv`, which have every image.",
        "![Gain over JPEG 2000 at equal rate](rate_distortion.png)",
        _INTRODUCTION,
        "## Between 0.1 and 0.5 bits per pixel",
        _BD,
        _comparisons(compare, whole=False),
        _losses(compare),
        "## Over all rates, to the clean image",
        _WHOLE,
        _comparisons([row for row in compare if "clean" in str(row["group"])], whole=True),
        *(part for group in records.GROUPS for part in _group(points, group)),
        "## Without loss",
        _LOSSLESS,
        _sizes(sizes),
        "## Speed",
        _SPEED,
        _speeds(speeds),
        "## Settings",
        _settings(),
    ]


# --- comparisons -----------------------------------------------------------------------------


def _comparisons(rows: Sequence[Row], *, whole: bool) -> str:
    header = (
        "images", "ours", "against", "BD-rate, mean", "median", "of images", "above", "below",
        "neither", "gain [dB]", "median [dB]", "better on",
    )  # fmt: skip
    lines = []
    names = [(row["group"], row["ours"], row["other"]) for row in rows]
    for name in dict.fromkeys(names):
        found = compared.summary(
            [row for row, of in zip(rows, names, strict=True) if of == name], whole=whole
        )
        lines.append(
            [
                *(str(cell) for cell in name),
                _percent(found.mean),
                _percent(found.median),
                f"{found.counted} of {found.images}",
                *(str(count) for count in (found.above, found.below, found.neither)),
                _signed(found.gain_db),
                _signed(found.median_db),
                f"{found.better} of {found.images}",
            ]
        )
    return markdown.table(header, lines, text=(0, 1, 2)) if lines else _NOTHING


def _losses(rows: Sequence[Row]) -> str:
    """Where ours, used for what it is meant for, is worse at equal rate, the worst first."""
    meant = [row for row in rows if row["ours"] == _MEANT["clean" in str(row["group"])]]
    lost = [row for row in meant if records.number(row["gain_db"] or 0.0) < 0]
    if not lost:
        return f"In none of {len(meant)} comparisons it is worse." if meant else ""
    lost.sort(key=lambda row: records.number(row["gain_db"]))
    shown = lost[:_MOST_LOSSES]
    lines = [
        [
            *(str(row[name]) for name in ("image", "group", "ours", "other")),
            _signed(row["gain_db"]),
            _percent(row["bd_rate"]),
        ]
        for row in shown
    ]
    header = ("image", "images", "ours", "against", "gain [dB]", "BD-rate")
    return "\n\n".join(
        [
            "Plain to the noisy image, and after denoising to the clean one, it is worse at equal "
            f"rate in {len(lost)} of {len(meant)} comparisons; the worst {len(shown)}:",
            markdown.table(header, lines, text=(0, 1, 2, 3)),
        ]
    )


def _percent(share: str | float | None) -> str:
    return NONE if share is None else f"{100 * float(share):+.1f} %"


def _signed(value: str | float | None) -> str:
    return NONE if value is None else f"{float(value):+.2f}"


# --- quality at rates ------------------------------------------------------------------------


def _group(points: Sequence[Row], group: Group) -> list[str]:
    quality = records.curves(points, group, group.quality)
    if REFERENCE not in quality:
        return []
    likeness = records.curves(points, group, group.likeness)
    return [
        f"## {group.title}",
        f"Mean PSNR of {REFERENCE} [dB] at bits per pixel, and what the others add to it:",
        _at_rates(quality, digits=2),
        f"Mean SSIM of {REFERENCE}, and what the others add to it:",
        _at_rates(likeness, digits=3),
    ]


def _at_rates(curves: dict[str, dict[str, Curve]], *, digits: int) -> str:
    own = curves[REFERENCE]
    first = [REFERENCE]
    for bpp in RATES:
        reached = [level for curve in own.values() if (level := curve.at(bpp)) is not None]
        first.append(f"{sum(reached) / len(reached):.{digits}f}" if reached else NONE)
    lines = [first]
    for codec in curves:
        if codec == REFERENCE:
            continue
        cells = [codec]
        for bpp in RATES:
            found = list(compared.gains_at(curves, codec, REFERENCE, bpp).values())
            text = f"{np.mean(found):+.{digits}f}" if found else NONE
            # fewer images are another average: say on how many
            cells.append(text + (f" ({len(found)})" if 0 < len(found) < len(own) else ""))
        lines.append(cells)
    return markdown.table(("codec", *(f"{bpp:g}" for bpp in RATES)), lines)


# --- without loss, and speed -----------------------------------------------------------------


def _sizes(rows: Sequence[Row]) -> str:
    if not rows:
        return _NOTHING
    sets = {
        "real TEM": _of(rows, "real", "tem"),
        "real STEM": _of(rows, "real", "stem"),
        "real, float32": [row for row in rows if row["dtype"] == "float32"],
        "simulated TEM": _of(rows, "simulated", "tem"),
        "simulated STEM": _of(rows, "simulated", "stem"),
    }
    codecs = list(dict.fromkeys(str(row["codec"]) for row in rows))
    lines = [[codec, *(_mean_size(of, codec) for of in sets.values())] for codec in codecs]
    counts = [len({row["image"] for row in of}) for of in sets.values()]
    header = [f"{name} ({count})" for name, count in zip(sets, counts, strict=True)]
    return markdown.table(("codec", *header), lines)


def _of(rows: Sequence[Row], kind: str, domain: str) -> list[Row]:
    return [
        row for row in rows
        if (row["kind"], row["domain"]) == (kind, domain) and row["dtype"] != "float32"
    ]  # fmt: skip


def _mean_size(rows: Sequence[Row], codec: str) -> str:
    sizes = [row["bpp"] for row in rows if row["codec"] == codec]
    known = [records.number(size) for size in sizes if size is not None]
    return f"{sum(known) / len(known):.3f}" if known else NONE


def _speeds(rows: Sequence[Row]) -> str:
    lines = [
        [
            str(row["codec"]),
            str(row["lossless"]),
            f"{records.number(row['bpp']):.2f}",
            f"{records.number(row['encode_mb_s']):.3g}",
            f"{records.number(row['decode_mb_s']):.3g}",
        ]
        for row in rows
    ]
    header = ("codec", "lossless", "bits per pixel", "encode [MB/s]", "decode [MB/s]")
    return markdown.table(header, lines) if lines else _NOTHING


def _settings() -> str:
    lossy = [f"- {rival.name}: {rival.how}; {rival.version}" for rival in rivals.rivals()]
    own = [f"- {variant.name}: {variant.how}" for variant in ours.VARIANTS]
    exact = [f"- {codec.name}, lossless: {codec.how}" for codec in lossless.everyone()]
    return "\n".join([*own, *lossy, *exact])


_NOTHING = "Not measured yet."

_INTRODUCTION = """\
Whole files are counted, headers included, and what is decoded is compared. PSNR is over the
range of the image that it is measured against: the one given, which has noise, or, on simulated
ones, the expected counts. Curves join the points that no smaller file equals. Real images are
held out: no model was trained on them (of a few, others of the same source are for training).
All codecs with loss get an image scaled to the 16 bits (AVIF 10, WebP 8, zfp, SZ3 and SPERR
floats), which is undone without rounding; the two numbers of that scaling are not counted, nor
are the boxes around the codestreams of JPEG 2000 and JPEG XL."""

_BD = """\
*BD-rate*: bits more (+) or fewer (-) than the other's at equal quality, mean over the images
where a range of quality is reached by both at these rates. *Above*: on so many, ours is better
at the lowest rate than the other at the highest; *below*: the reverse; *neither*: one is level
there and the other crosses it, or does not reach such rates. *Gain*: difference of PSNR at
equal rate, mean over 0.1 to 0.5 bits per pixel, or from where both curves begin (JPEG XL's do
above 0.1 on the noisiest)."""

_WHOLE = """\
The noisier an image, the fewer bits serve its truth best: codecs that code noise are closest to
the truth at the least rates, and their curves are level above. So here all rates from 0.01 to 2
count."""

_LOSSLESS = """\
Mean bits per pixel of whole files; float32 images apart. Others than ours get 8 bits where
these hold an image. All gave back every image exactly."""

_SPEED = """\
One simulated image of whole counts in 16 bits, the median of several runs, one thread (ours:
NumPy's matrix products take what cores there are), MB of pixels as the file holds them; codecs
with loss near 0.5 bits per pixel, or at the nearest rate that they reach."""

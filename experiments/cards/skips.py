"""The card of networks with skip connections."""

from __future__ import annotations

from experiments.cards import measure, regions, sections, standing
from experiments.cards.standing import Entry, cell, number

_GAINS = """\
By how much a restoration is closer to the truth than its input, in dB of squared error: 3 dB
halve it. **Negative: further from the truth than the noisy micrograph.** Simulated scenes with
Poisson noise at so many mean counts a pixel, mean of several of each kind
([all numbers](../results/cards/gains.csv)). In brackets with `--put-back`, which puts back what the
residual shows beyond the noise."""

_SCHEDULE = """\
The last run of each. *Full* is the length that its schedule was meant to have; *before*, the runs
that made the weights it started from: batches x crops, what they were of, and the objective. The
last columns tell by how many dB the squared error falls on held-out crops of all doses, in the mean
and at worst."""

_CITE = """\
Cite this software as [CITATION.cff](../CITATION.cff) says. In a methods section name the model and
its weights, which are in the metadata of every TIFF that `emd denoise` writes. Code and weights are
under Apache-2.0. What they are built of is cited in [skip.py](../emd/models/skip.py)."""


def card(listed: list[Entry], tables: measure.Tables, pictures: str) -> str:
    """Return the card of these models; ``pictures`` is their folder as the card sees it."""
    return f"""\
# Networks with skip connections

{sections.MADE}

A small U-Net that works at a quarter of the side and below ([skip.py](../emd/models/skip.py)). None
of the paper's: its autoencoders must pass an image through few numbers, which costs detail at every
dose. These learnt to take noise away: the truth was known. They have no biases and no
normalisation, so one network is for all noise levels.

## Use

```sh
emd denoise micrograph.tif -o restored.tif --model stem_skip48_clean
emd denoise lattice.tif -o restored.tif --model stem_skip48_columns --ensemble
```

`..._clean` is what `--model auto` takes: that of TEM where the file says so, else that of STEM.
`..._columns` knows atom columns on a flat ground, about 5 px wide at half their height: closer to
the truth there, wrong elsewhere (`--report` tells). `..._benchmark` knows but the two lattices that
denoisers are compared on: to be compared, not to be used.

## What they are good for

{_gains(listed, tables)}

[Beside BM3D and others](../results/dose.md), dose by dose.

## Where they hold

{regions.family_table(tables["holds"], "skip")}

## Where they fail

- **They know what they were shown.** Simulated scenes have ideal detectors and probes; detail that
  none of them has may be taken for noise. Look at the residual (`emd preview`), which should show
  no structure.
- **Fine structure** is lost first (the narrow spacings of the charts), and scan lines' jitter too.
- **Faint columns beside bright ones** can vanish: [dose.md](../results/dose.md) counts those found,
  beside those found without denoising.
- **They never say that they do not know**: the error map of `--report` does, in part.
- **At high doses they blur what the image shows plainly**, where they have not learnt of it:
  `--put-back` then.

{sections.failures(pictures, "skips", "`skip48_clean`")}

## Schedule

{_schedule(listed)}

## Data and licences

{sections.data(listed)}

## Cite

{_CITE}
"""


def _gains(listed: list[Entry], tables: measure.Tables) -> str:
    doses = [f"{dose:g}" for dose in measure.DOSES]
    found = sections.read_gains(tables["gains"])
    rows = [
        (f"`{entry.config.name}`", kind, *(sections.gain(found.get((entry.config.name, kind, dose)))
                                           for dose in doses))
        for entry in listed
        for kind in measure.kinds_for(entry.config)
        if entry.card is not None
    ]  # fmt: skip
    header = ("model", "scene", *(f"{dose} counts" for dose in doses))
    return f"{_GAINS}\n\n{standing.table(header, rows)}" if rows else "None is trained yet."


def _schedule(listed: list[Entry]) -> str:
    facts = (
        "batches", "full_schedule", "batch_size", "before", "real_frames", "simulated_share",
        "device", "date",
    )  # fmt: skip
    rows = [
        (
            f"`{entry.config.name}`",
            *(entry.card.get(fact, standing.NONE) for fact in facts),
            *(cell(number(entry.card, f"validation_{k}_db"), 3) for k in ("gain", "worst")),
        )
        for entry in listed
        if entry.card is not None
    ]
    header = (
        "model", "batches", "full", "crops a batch", "before", "real frames",
        "simulated share", "trained on", "date", "falls by", "worst",
    )  # fmt: skip
    return f"{_SCHEDULE}\n\n{standing.table(header, rows)}"

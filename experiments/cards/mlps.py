"""The perceptrons' card."""

from __future__ import annotations

from experiments.cards import measure, regions, sections, standing
from experiments.cards.standing import Entry


def card(listed: list[Entry], tables: measure.Tables, pictures: str) -> str:
    """Return the card of these models; ``pictures`` is their folder as the card sees it."""
    facts = sections.facts_of_students(listed, "mlp1")
    return _what(listed, tables) + _failings(listed, tables, pictures) + facts


def _what(listed: list[Entry], tables: measure.Tables) -> str:
    return f"""\
# Multilayer perceptrons

{sections.MADE}

Each pixel is computed from the w x w pixels around it by one (`mlp1`) or two (`mlp2`) hidden layers
of w x w sigmoid nodes ([paper](https://arxiv.org/abs/1808.09916), section 3), distilled from the
16-deep autoencoder of the same domain. The paper has no `stem_mlp2`; ours fill the gap.

{standing.summary(listed)}

## Use

```sh
emd denoise micrograph.tif -o restored.tif --model stem_mlp1_w7
```

`tem` models are for TEM, `stem` for STEM, `temstem` for either.

## What they are good for

- A look through the autoencoder's eyes at a fraction of its cost; how close they come to it is in
  the table of metrics.
- Micrographs of a few counts a pixel, to look at and to find things in.

{sections.gain_tables(tables["gains"], ("mlp1_w3", "mlp1_w7", "mlp2_w7"), "mlp1_w7")}

"""


def _failings(listed: list[Entry], tables: measure.Tables, pictures: str) -> str:
    return f"""\
## Where they hold

{regions.family_table(tables["holds"], "mlp1", "mlp2")}

## Where they fail

- **Intensities are no measurements.** A perceptron follows its teacher's intensities, and its
  nodes saturate: contrast about the mean is {sections.span(tables["levels"], listed)} of the
  true one, and levels many times the mean come back too dark (table of levels). A higher dose does
  not help. Where intensities matter use a [kernel](KERNELS.md).
- **Small bright objects on dark ground** have levels many times the mean of the micrograph, beyond
  what the nodes can follow. Diffraction patterns are the extreme.
- **Fine detail** within the window is smoothed much as by a kernel.
- **A rotated micrograph does not give the rotated restoration** to the last digit: the connections
  are not tied over the square's symmetries.

{sections.failures(pictures, "mlps", "7x7 perceptrons with one hidden layer")}

{sections.levels(tables["levels"], listed)}

"""

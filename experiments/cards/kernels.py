"""The kernels' card."""

from __future__ import annotations

from experiments.cards import comparison, measure, regions, sections, standing
from experiments.cards.standing import Entry

_LICENCES = """\
The published kernels are numbers that the paper prints; its author's micrographs are not known to
us.

"""


def card(listed: list[Entry], tables: measure.Tables, pictures: str) -> str:
    """Return the card of these models; ``pictures`` is their folder as the card sees it."""
    facts = sections.facts_of_students(listed, "kernel", _LICENCES)
    return _what(listed, tables) + _failings(tables, pictures) + facts


def _what(listed: list[Entry], tables: measure.Tables) -> str:
    return f"""\
# Kernels

{sections.MADE}

Each pixel becomes a weighted sum of the w x w pixels around it, with equal weights wherever the
square's eight symmetries make places equal ([paper](https://arxiv.org/abs/1808.09916), section 3).
The weights are distilled from the 16-deep autoencoder of the same domain.

{standing.summary(listed)} The twelve kernels that the paper prints are here as well, under names
such as `tem_kernel_w3_published`.

## Use

```sh
emd denoise micrograph.tif -o restored.tif --model tem_kernel_w7
```

`tem` models are for TEM, `stem` for STEM, `temstem` for either. The weights are all there is to
one: [inspect.ipynb](inspect.ipynb) shows them as a heat map.

## What they are good for

- A quick look at a noisy micrograph: milliseconds a frame.
- Intensities that can be reasoned about: a kernel is linear, one transfer function for all of
  them, so the sum of two restorations is the restoration of the sum.
- Wider ones average more. They suit lower doses and lose fine detail sooner.

{sections.gain_tables(tables["gains"], ("kernel_w3", "kernel_w7", "kernel_w15"), "kernel_w7")}

"""


def _failings(tables: measure.Tables, pictures: str) -> str:
    return f"""\
## Where they hold

{regions.family_table(tables["holds"], "kernel")}

## Where they fail

- **Fine detail and edges are smoothed like noise**: a kernel cannot tell them apart. Texture as
  fine as noise goes, and atomic columns a few pixels wide come back wider and too dark.
- **Clean micrographs.** From some dose on (bold above) they take away more than noise; diffraction
  patterns suffer at any dose.
- **They imitate their teacher**, faults included. A Gaussian of a width that you choose may suit
  your micrograph as well.

{sections.failures(pictures, "kernels", "7x7 kernels")}

## Against the kernels that the paper prints

{comparison.text(tables["kernels"])}

"""

"""The autoencoders' card."""

from __future__ import annotations

from emd import zoo
from experiments.autoencoder_card import PAPER_BATCH
from experiments.cards import measure, regions, sections, standing
from experiments.cards.standing import NONE, Entry, cell, number, ratio, times


def card(listed: list[Entry], tables: measure.Tables, pictures: str) -> str:
    """Return the card of these models; ``pictures`` is their folder as the card sees it."""
    return _what(listed, tables) + _failings(listed, tables, pictures) + _facts(listed)


def _what(listed: list[Entry], tables: measure.Tables) -> str:
    return f"""\
# Autoencoders

{sections.MADE}

An encoder turns a micrograph into a *latent*, d maps of an eighth of its side, and a decoder turns
the latent into a micrograph again ([paper](https://arxiv.org/abs/1808.09916), section 2). What
does not fit into so few numbers is lost, and noise fits worst.

{standing.summary(listed)}

## Use

```sh
emd denoise micrograph.tif -o restored.tif --model stem_latent16
```

```python
from emd import checkpoint
from emd.data import micrograph
from emd.restore import decode, encode

model = checkpoint.load("stem_latent16")
latent = encode(micrograph.read("micrograph.tif"), model)  # latent.latent is the array of maps
image = decode(latent, model)
```

`tem` models are for TEM, `stem` for STEM, `temstem` for either. Deeper latents keep more of the
detail, and of the noise. [inspect.ipynb](inspect.ipynb) shows a latent's maps.

## What they are good for

- Micrographs of a few counts a pixel, to look at and to find things in (tables below).
- Latents as small descriptions of micrographs, for search or clustering.
- Teaching: the 16-deep ones are the teachers of all [kernels](KERNELS.md) and
  [perceptrons](MLPS.md), which run many times faster. Compare their gains before you choose.

{sections.gain_tables(tables["gains"], ("latent4", "latent16", "latent64"), "latent16")}

"""


def _failings(listed: list[Entry], tables: measure.Tables, pictures: str) -> str:
    return f"""\
## Where they hold

{regions.family_table(tables["holds"], "autoencoder")}

## Where they fail

- **Fine detail.** Texture as fine as noise is taken for noise, small bright features come back
  smeared and too dark, and weak ones beside strong ones can vanish.
- **Clean micrographs.** From some dose on (bold above) they take away more than noise. Diffraction
  patterns are clean in that sense at any dose: do not use them there.
- **Intensities are no measurements.** The mean of a micrograph stays, levels within it do not:
  contrast about the mean is {sections.span(tables["levels"], listed)} of the true one (table
  of levels). Measure on the raw data, look at the restored.
- **A grid of 8 px.** Transposed convolutions can leave one, plainest on flat ground; a Fourier
  transform of the result has it at multiples of 1/8 cycle a pixel.

{sections.failures(pictures, "autoencoders", "the 16-deep ones")}

{sections.levels(tables["levels"], listed)}

"""


def _facts(listed: list[Entry]) -> str:
    return f"""\
## Metrics

{sections.UNITS}
Errors are against the held-out crops themselves, noise and all, so they never reach 0 and are no
measure of denoising. *Linear code*: the best one of the same size, principal components of 8x8
blocks. *Whole*: the same crops normalised by their whole micrograph, as `emd denoise` does it. A
ratio above {standing.TIE:g} (bold) means that the linear code is closer. With 64 numbers for 64
pixels the linear code loses nothing and is no yardstick.

{_metrics(listed)}

## Schedule

The paper trained for {zoo.FULL_SCHEDULE["autoencoder"]} batches of {PAPER_BATCH} crops of
160x160 px. Learning curves lie beside the weights. `emd models` prints the command that trains a
missing one.

{standing.schedule(listed)}

## Data and licences

{sections.data(listed)}

## Cite

{sections.CITE}
"""


def _metrics(listed: list[Entry]) -> str:
    rows = [
        (
            f"`{entry.config.name}`",
            f"64:{entry.config.size}",
            cell(number(entry.card, "validation_mse")),
            *_against(entry, standing.LINEAR),
            cell(number(entry.card, "validation_mse_whole")),
            *_against(entry, standing.LINEAR_WHOLE),
            standing.verdict(entry),
        )
        for entry in listed
        if entry.card is not None
    ]
    header = (
        "model", "numbers stored", "held-out MSE", "linear code", "ratio", "whole: MSE",
        "linear code", "ratio", "verdict",
    )  # fmt: skip
    return standing.table(header, rows)


def _against(entry: Entry, yardstick: standing.Yardstick) -> tuple[str, str]:
    if yardstick not in standing.yardsticks_of(entry.config):
        return NONE, NONE
    return cell(number(entry.card, yardstick.key)), times(ratio(entry.card, yardstick))

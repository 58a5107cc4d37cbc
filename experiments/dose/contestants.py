"""Everything that the table compares: no denoising, the truth, classical rivals, our models."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emd import checkpoint, zoo
from emd.blindspot_fit import improved
from emd.blindspot_train import trained
from emd.cli import choice
from emd.ensemble import SUFFIX, ensemble
from emd.fit import fit, spectral_floor
from emd.noise import estimate
from emd.putback import put_back
from emd.restore import denoise
from emd.structure import structure
from experiments.benchmark import table
from experiments.dose import rivals
from experiments.dose.samples import Sample

Image = Float[np.ndarray, "h w"]
Restore = Callable[[Sample], Image]

RAW, TRUTH = "no denoising", "the truth itself"
FIT, PERCEPTRON = "fit", "fit --perceptron"
PUT_BACK = " --put-back"
"""What is added to the name of ours where what it took away beyond the noise is put back."""

_PUT_BACK_OF = ("kernel_w7", "mlp1_w7", "latent64", "_clean", "_columns")
"""Ends of names: of each family the model that is nearest to the truth, and what learnt of it."""

DEFAULTS = " (defaults)"
"""What is added to the name of a rival that is used as its library gives it."""

NONE, LIMIT, DEFAULT, TUNED, OURS = "none", "limit", "default", "tuned", "ours"
TAILORED = "tailored"
"""Kinds of contestants; the limit is what the scores give to the truth, tailored are those of ours
that learnt of the very lattices that they are measured on."""


class Ready(NamedTuple):
    """A contestant made ready for a condition and dose.

    Attributes:
      restore: a sample's restored counts.
      parameter: what was chosen for it, as a cell; empty where nothing is.
    """

    restore: Restore
    parameter: str = ""


class Contestant(NamedTuple):
    """What restores images.

    Attributes:
      name: in tables.
      kind: one of the kinds above.
      stamp: of its weights, its grid, or the file that fits it. Where other code changes what it
        restores, its rows are to be deleted, so that they are measured anew.
      prepare: makes it ready, with samples to tune it on.
      domain: of our models, what they are for; empty where it does not matter.
    """

    name: str
    kind: str
    stamp: str
    prepare: Callable[[Sequence[Sample]], Ready]
    domain: str = ""


def names(root: str | None) -> list[str]:
    """Return the names of all contestants; models are those of a folder, or those shipped."""
    plain = [name for r in rivals.RIVALS for name in (r.name, r.name + DEFAULTS)]
    models = checkpoint.available(root=root)
    ensembles = [name + SUFFIX for name in models if zoo.find(name).family == "skip"]
    others = [name + PUT_BACK for name in (FIT, *models) if name.endswith((FIT, *_PUT_BACK_OF))]
    return [RAW, TRUTH, *plain, FIT, PERCEPTRON, *models, *ensembles, *others]


def everyone(root: str | None, only: str | None) -> list[Contestant]:
    """Return the contestants asked for, by name or its beginning, by commas; all without.

    Raises:
        ValueError: a name is of none of them, or a rival's library is not installed.
    """
    wanted = [named(name, root) for name in table.pick(names(root), only)]
    if any(contestant.kind in (DEFAULT, TUNED) for contestant in wanted):
        rivals.ready()
    return wanted


def named(name: str, root: str | None) -> Contestant:
    """Return the contestant of a name that `names` gives."""
    if name == RAW:
        return Contestant(RAW, NONE, "", lambda _: Ready(lambda sample: sample.noisy))
    if name == TRUTH:
        return Contestant(TRUTH, LIMIT, "", lambda _: Ready(lambda sample: sample.truth))
    if name.endswith(PUT_BACK):
        own = named(name.removesuffix(PUT_BACK), root)
        sources = (_source(put_back), _source(structure), _source(estimate))
        stamp = _digest(own.stamp, *sources, _source(spectral_floor))
        return own._replace(name=name, stamp=stamp, prepare=functools.partial(_putting_back, own))
    if name == FIT:
        return Contestant(FIT, OURS, _digest(_source(fit)), lambda _: Ready(fitted))
    if name == PERCEPTRON:
        stamp = _digest(_source(fit), _source(improved), _source(trained))
        return Contestant(PERCEPTRON, OURS, stamp, lambda _: Ready(fitted_further))
    for rival in rivals.RIVALS:
        # versions of libraries are no part of a stamp: the page tells them
        if name == rival.name:
            stamp = _digest(rival.name, rival.how, rival.grid)
            return Contestant(name, TUNED, stamp, functools.partial(_tuned, rival))
        if name == rival.name + DEFAULTS:
            stamp = _digest(rival.name)
            return Contestant(name, DEFAULT, stamp, functools.partial(_plain, rival))
    single = name.removesuffix(SUFFIX)
    model = checkpoint.load(single, root=root)
    model = model if name == single else ensemble(model)
    prepare = functools.partial(_learned, model)
    stamp = checkpoint.fingerprint(model.variables)
    config = zoo.find(single)
    kind = TAILORED if config.objective == zoo.BENCHMARK else OURS
    return Contestant(name, kind, stamp, prepare, config.domain)


def _source(function: Callable[..., object]) -> str:
    """What the file of a function does, without what it says of that."""
    text = inspect.getsource(sys.modules[function.__module__])
    text = re.sub(r'""".*?"""', "", text, flags=re.DOTALL)
    return re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)


def suits(contestant: Contestant, domain: str) -> bool:
    """Return whether a contestant is for micrographs of a domain, "tem" or "stem", or any: "".

    What emd takes for files that do not tell is for any, too. The truth, which is for comparison
    where columns are found, is for none, nor are those that know two lattices alone.
    """
    if contestant.kind in (LIMIT, TAILORED):
        return False
    single = contestant.name.removesuffix(PUT_BACK).removesuffix(SUFFIX)
    is_for_all = single == choice.OTHERWISE[0]
    return domain == "" or is_for_all or contestant.domain in ("", domain, "temstem")


def fitted(sample: Sample) -> Image:
    """Return a sample restored by the kernel fitted to it, whatever the verdict on that is."""
    counts = sample.noisy.astype(np.float32)
    return denoise(counts, fit(counts, name=FIT).model)


def fitted_further(sample: Sample) -> Image:
    """Return a sample restored by the perceptron fitted to it, or the kernel where that is kept."""
    counts = sample.noisy.astype(np.float32)
    return denoise(counts, improved(counts, fit(counts, name=FIT)).model)


def _tuned(rival: rivals.Rival, samples: Sequence[Sample]) -> Ready:
    chosen = rivals.tune(rival, samples)
    return Ready(
        lambda sample: rivals.restore(rival, sample.noisy, chosen, readout=sample.readout),
        " ".join(f"{value:g}" for value in chosen),
    )


def _plain(rival: rivals.Rival, _: Sequence[Sample]) -> Ready:
    return Ready(lambda sample: rivals.restore_plainly(rival, sample.noisy))


def _learned(model: checkpoint.Model, _: Sequence[Sample]) -> Ready:
    return Ready(lambda sample: denoise(sample.noisy.astype(np.float32), model))


def _putting_back(own: Contestant, samples: Sequence[Sample]) -> Ready:
    restore = own.prepare(samples).restore

    def whole(sample: Sample) -> Image:
        return put_back(sample.noisy, restore(sample).astype(np.float32)).pixels

    return Ready(whole)


def _digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

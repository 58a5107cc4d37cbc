"""`emd fit`: a kernel fitted to a micrograph of one's own."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

_KINDS = {"kernel": "kernel", "blindspot": "perceptron"}
_CARD = """\
{what}
It was given no other data. {verdict}: {reason}.
"""
_WHAT = {
    "kernel": "The best symmetric kernel for one micrograph and those taken like it, in closed "
    "form: see `emd/fit.py`.",
    "blindspot": "A perceptron that tells each pixel from those around it, fitted to one "
    "micrograph, for those taken like it: see `emd/blindspot_fit.py`.",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Nothing; the parser then knows the command."""
    parser = commands.add_parser(
        "fit",
        help="fit a kernel to a micrograph",
        description="Fit the best symmetric kernel to one noisy micrograph, without any other "
        "data, and say whether to use it. It is then a model like any other: for the other images "
        "of the day, and for export.",
    )
    parser.add_argument("input", metavar="IN", help="a file of any format that README lists")
    parser.add_argument(
        "-o", "--output", metavar="MODEL", required=True, help="the folder of the model to make"
    )
    parser.add_argument(
        "--width",
        metavar="N",
        type=int,
        help="of the kernel, an odd number of pixels from 3 to 15 (default: what holds best for "
        "the other half of the image)",
    )
    parser.add_argument(
        "--noise",
        metavar="STD",
        type=float,
        help="standard deviation of the noise at the mean, in counts (default: measured)",
    )
    parser.add_argument(
        "--perceptron",
        action="store_true",
        help="fit a perceptron too, in seconds, and keep it where it restores pixels held out "
        "better than the kernel; it cannot go to Fiji",
    )
    parser.add_argument("--signal", metavar="NAME", help="which image of the file")
    parser.add_argument(
        "--frame", metavar="K", type=int, help="which frame of a stack (default: the first)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace MODEL if it exists")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from emd import checkpoint, zoo
    from emd.blindspot_fit import improved
    from emd.data import micrograph
    from emd.data.intensity import prepare
    from emd.fit import fit

    place = Path(arguments.output)
    if place.name in zoo.KNOWN:
        raise ValueError(f"{place}: is the name of a model of the zoo: choose another")
    if place.exists() and not checkpoint.is_there(place):
        raise FileExistsError(f"{place}: exists already, and is no model: choose another name")
    if place.exists() and not arguments.overwrite:
        raise FileExistsError(f"{place}: exists already: give --overwrite to replace the model")
    if not place.resolve().parent.is_dir():
        raise FileNotFoundError(f"{place}: its folder does not exist: make it first")
    with micrograph.opened(arguments.input, signal=arguments.signal, frame=arguments.frame) as file:
        pixels = file[:1][0]
    try:
        found = fit(pixels, name=place.name, width=arguments.width, noise_std=arguments.noise)
        found = improved(pixels, found) if arguments.perceptron else found
    except ValueError as error:
        raise ValueError(f"{arguments.input}: {error}") from None
    if found.verdict == "do not use":
        raise ValueError(f"{arguments.input}: do not use a kernel: {found.reason}")
    _save(found, place)
    for each in prepare(pixels, spikes=False).suspicions:
        print(f"warning: {each.text}", file=sys.stderr)
    width, kind = found.model.config.size, _KINDS[found.model.config.family]
    better = ", no worse than a perceptron" * (arguments.perceptron and kind == "kernel")
    print(f"{place}: {width}x{width} {kind}{better}; {found.verdict}: {found.reason}")
    # a bare name would be looked for in the zoo from any other folder
    shown = str(place) if place.name != str(place) else f"./{place}"
    source, name = shlex.quote(arguments.input), shlex.quote(shown)
    print(f"restore with: emd denoise {source} -o OUT --model {name}")


def _save(found: Any, place: Path) -> None:
    from emd import checkpoint

    gain = {} if found.gain_db is None else {"gain_db": f"{found.gain_db:.2f}"}
    facts = {
        "verdict": found.verdict,
        "reason": found.reason,
        **gain,
        "noise_counts": f"{found.noise.std:.5g}",
        "likelihood_per_pixel": f"{found.likelihood:.4f}",
    }
    model = found.model._replace(card={**found.model.card, **facts})
    what = _WHAT[model.config.family]
    text = _CARD.format(what=what, verdict=found.verdict.capitalize(), reason=found.reason)
    checkpoint.save(model, place.resolve().parent, text=text)

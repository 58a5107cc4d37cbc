"""`emd compress`: micrographs in, small files out."""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emd.cli import ranges, words

if TYPE_CHECKING:
    from emd.cli.inputs import Input
    from emd.cli.turns import Task
    from emd.codec import Settings
    from emd.data.source import Source

_CHECKED_PX = 2**24  # larger frames are not decoded again only to tell how good they are
_EPILOG = """\
examples:
  emd compress micrograph.dm4 -o small.emdz
  emd compress movie.mrc -o movie.emdz --lossless
  emd compress session/ -o small/ --bpp 0.5

Without an option for the quality it is visually lossless. `emd info` tells what a stream is, and
`emd decompress` makes a micrograph of it. Exit codes: 0 all done, 1 something failed, 2 the
arguments make no sense, 130 interrupted.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Nothing; the parser then knows the command."""
    parser = commands.add_parser(
        "compress",
        help="make micrographs small",
        description="Compress micrographs and stacks of any size and type. Pixel size and metadata "
        "are kept.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs",
        metavar="IN",
        nargs="+",
        help="files of any format that README lists, folders (with all below them), or patterns in "
        "quotes, as in 'day1/**/*.dm4'",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="for one file, the .emdz to make, else a folder: a.dm4 becomes a.dm4.emdz",
    )
    _add_rates(parser)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="what turns pixels into numbers: lapped, a transform, or an autoencoder, as in "
        "temstem_latent16, which the decoder then needs, too (default: lapped)",
    )
    parser.add_argument(
        "--denoise",
        metavar="MODEL",
        help="restore the micrograph first with a model that `emd models` lists, or fit: the noise "
        "is not paid for, and does not come back",
    )
    parser.add_argument(
        "--signal", metavar="NAME", help="which image of a file, by name or number (default: all)"
    )
    parser.add_argument(
        "--frame", metavar="K", type=ranges.count, help="which frame of a stack, from 0 (all)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.set_defaults(run=functools.partial(_run, parser))


def _add_rates(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--quality",
        metavar="Q",
        type=ranges.number(0.0, 100.0),
        help="from 0 to 100: ten more, and errors are about half as large",
    )
    group.add_argument(
        "--bpp",
        metavar="B",
        type=ranges.number(0.0, above=True),
        help="bits a pixel of the whole file, at most",
    )
    group.add_argument(
        "--psnr",
        metavar="P",
        type=ranges.number(0.0, above=True),
        help="dB to the micrograph given, at least, its range from its darkest to its brightest "
        "pixel",
    )
    group.add_argument(
        "--max-error",
        metavar="E",
        type=ranges.number(0.0),
        help="no pixel is off by more than these counts",
    )
    group.add_argument("--lossless", action="store_true", help="every pixel comes back as it was")


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    exact = next((o for o in ("lossless", "max_error") if _is_set(getattr(arguments, o))), None)
    if arguments.model is not None and exact is not None:
        option = exact.replace("_", "-")
        parser.error(f"--model {arguments.model}: --{option} needs no model: leave one of them out")

    from emd.cli import inputs, outputs, progress
    from emd.codec import Settings

    settings = Settings(**{name: getattr(arguments, name) for name in Settings._fields})
    output = Path(arguments.output)
    gathered = inputs.gather(arguments.inputs, output)
    is_folder = outputs.is_folder(arguments.output, is_single=gathered.is_single)
    if not is_folder and output.suffix.lower() != outputs.STREAM_SUFFIX:
        parser.error(f"{output}: what is compressed is called {outputs.STREAM_SUFFIX}: name it so")
    if not gathered.inputs:
        for fault in gathered.faults:
            print(f"error: {fault.name}: {fault.reason}", file=sys.stderr)
        return 1
    _check_denoise(arguments.denoise)
    work = functools.partial(_compress, settings, arguments.frame, arguments.overwrite)
    if is_folder:
        from emd.cli import turns

        with progress.patient():
            return turns.run(gathered, functools.partial(_tasks, output, arguments.signal), work)
    from emd.cli.turns import Task

    source = gathered.inputs[0].path
    outputs.check_single(source, output, arguments.signal, overwrite=arguments.overwrite)
    print(work(Task(source, arguments.signal, output)))
    return 0


def _told(stream: Path, given: Source) -> str:
    """What there is to tell of a new stream."""
    from emd import codec

    with stream.open("rb") as file:
        facts = codec.describe(file)
    smaller = f"{words.number(facts['ratio'])} times smaller"
    told = [
        f"{facts['bytes']} bytes",
        f"{words.number(facts['bits_per_pixel'])} bits a pixel",
        f"{smaller} than {words.size(given.shape)} {given.dtype.name}",
        f"{facts['coder']} ({words.settings(facts['settings'])})",
    ]
    if given.shape[-2] * given.shape[-1] <= _CHECKED_PX:
        told.append(_nearness(stream, given))
    return ", ".join(filter(None, told))


def _nearness(stream: Path, given: Source) -> str:
    """How near the first frame of a stream comes to what was given."""
    import numpy as np

    from emd import codec

    frame = given[0:1][0]
    with stream.open("rb") as file:
        found = codec.decompress(file, frame=0).pixels
    where = " in the first frame" if len(given.shape) > 2 else ""
    if np.array_equal(found, frame, equal_nan=frame.dtype.kind == "f"):
        return f"no pixel changed{where}"
    has = np.isfinite(frame) & np.isfinite(found)
    exact, near = (pixels[has].astype(np.float64) for pixels in (frame, found))
    scale = np.ptp(exact) if exact.size else 0.0
    error = math.sqrt(np.mean((near - exact) ** 2)) if exact.size else 0.0
    return f"{20 * math.log10(scale / error):.1f} dB{where}" if scale and error else ""


def _is_set(value: float | bool | None) -> bool:
    return value is not None and value is not False


def _check_denoise(name: str | None) -> None:
    """Nothing; raises ValueError where no model has that name. Told before pixels are read."""
    if name is not None and name != "fit":
        from emd import checkpoint

        checkpoint.find(name)


def _tasks(folder: Path, signal: str | None, each: Input) -> Sequence[Task]:
    """What is to be compressed of a file: the signal asked for, else every image in it."""
    from emd.cli import outputs
    from emd.cli.turns import Task
    from emd.data import micrograph

    def place(part: str = "") -> Path:
        return folder / each.place.with_name(
            ".".join(filter(None, (each.place.name, part))) + outputs.STREAM_SUFFIX
        )

    images = [s.name for s in micrograph.signals(each.path) if not s.fault]
    if signal is not None or len(images) < 2:
        return [Task(each.path, signal, place())]
    return [
        Task(each.path, name, place(part))
        for name, part in zip(images, outputs.safe(images), strict=True)
    ]


def _compress(settings: Settings, frame: int | None, overwrite: bool, task: Task) -> str:
    """The line about a stream that now is there."""
    from emd import codec
    from emd.data import micrograph
    from emd.data.replacing import replacing

    micrograph.check_output(task.output, overwrite=overwrite)
    with micrograph.opened(task.source, signal=task.signal, frame=frame) as given:
        try:
            with replacing(task.output) as temporary:
                with temporary.open("wb") as file:
                    codec.compress_to(file, given, settings)
                told = _told(temporary, given)
        except micrograph.FormatError:
            raise
        except ValueError as error:
            raise ValueError(f"{task.source}: {error}") from None
    return f"{task.output}: {told}"

"""`emd preview`: an image before and after, as a picture."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from emd.cli import choice, electrons, shelf, words

if TYPE_CHECKING:
    import numpy as np

    from emd.cli.drawing import Scene
    from emd.cli.options import Options
    from emd.data.micrograph import Micrograph
    from emd.data.source import Source


class _Region(NamedTuple):
    """Rows and columns of an image; None where they reach to its end."""

    rows: slice
    columns: slice


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Nothing; the parser then knows the command."""
    parser = commands.add_parser(
        "preview",
        help="draw an image before, after, and what was removed",
        description="Draw a PNG of an image before and after, of the residual, and of its power "
        "spectrum; of large images the centre, too. Grey ranges are those of the image before.",
    )
    parser.add_argument("before", metavar="BEFORE", help="a file of any format")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("after", metavar="AFTER", nargs="?", help="the restored file")
    source.add_argument(
        "--model",
        metavar="NAME",
        help="restore BEFORE with this model, or auto: by what the file says, and with structure "
        "put back (default: auto)",
    )
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the .png to make")
    parser.add_argument(
        "--region",
        metavar="Y0:Y1,X0:X1",
        type=_region,
        help="draw these rows and columns only; the whole image is restored",
    )
    parser.add_argument(
        "--frame", metavar="K", type=int, default=0, help="of a stack, from 0 (default: 0)"
    )
    parser.add_argument(
        "--signal", metavar="NAME", help="which image of BEFORE, by name or number (its only one)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    electrons.add_options(parser)
    shelf.add_option(parser)
    parser.set_defaults(run=_run)


def _region(text: str) -> _Region:
    found = re.fullmatch(r"(\d*):(\d*),(\d*):(\d*)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as 0:256,128:384, rows first")
    ends = [int(end) if end else None for end in found.groups()]
    return _Region(slice(*ends[:2]), slice(*ends[2:]))


def _run(arguments: argparse.Namespace) -> None:
    root = shelf.root(arguments)
    output = Path(arguments.output)

    from emd.cli import drawing, options
    from emd.data import micrograph
    from emd.data.replacing import replacing

    # told before anything slow
    drawing.check()
    asked = options.Options(
        arguments.model or choice.AUTO, root, gain=arguments.gain, black=arguments.black
    )
    asked.check()
    if arguments.after is not None and asked.gain is not None:
        raise ValueError("--gain is for restoring BEFORE: leave it out, or AFTER")
    if output.suffix.lower() != ".png":
        raise ValueError(f"{output}: the picture is a PNG file: name it .png")
    micrograph.check_output(output, overwrite=arguments.overwrite)
    with micrograph.opened(arguments.before, signal=arguments.signal) as source:
        before = _frame(source, arguments.frame)
    if arguments.after is None:
        after, how = _restored(before, arguments.before, asked)
    else:
        with micrograph.opened(arguments.after) as source:
            restored = _frame(source, arguments.frame if len(source.shape) > 2 else 0)
        after, how = restored.pixels, _history(restored) or Path(arguments.after).name
    if after.shape != before.pixels.shape:
        raise ValueError(
            f"{arguments.before} is {words.size(before.pixels.shape)} and {arguments.after} "
            f"{words.size(after.shape)}: only images of one size can be compared"
        )
    scene = _scene(before, after, arguments, f"{Path(arguments.before).name}, {how}")
    with replacing(output) as temporary:
        drawing.write(scene, temporary)
    print(f"{output}: {scene.title}")


def _frame(source: Source, frame: int) -> Micrograph:
    """One image of an open file.

    Raises:
      ValueError: there is no such frame.
    """
    from emd.data.micrograph import Micrograph

    count = source.shape[0] if len(source.shape) > 2 else 1
    if not 0 <= frame < count:
        raise ValueError(f"{source.path}: has no frame {frame}: its frames are 0 to {count - 1}")
    return Micrograph(source[frame : frame + 1][0], *source.calibration, source.metadata)


def _restored(before: Micrograph, name: str, asked: Options) -> tuple[np.ndarray, str]:
    """The restored pixels, and by what."""
    from emd import checkpoint
    from emd.restore import restore

    model, back = asked.model, asked.puts_back
    if model == choice.AUTO:
        try:
            model = choice.choose(before.metadata, before.unit).model
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if model == choice.FIT:
        from emd.cli.restoring import fitted

        loaded = fitted(Path(name), before.pixels)[1]
    else:
        loaded = checkpoint.load(model, root=asked.root)
    try:
        whole, report = restore(before, loaded, put_back=back is None or back)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    how = ", structure put back" if any(report.put_back) else ""
    return whole.pixels, f"restored by {model}{how}"


def _history(restored: Micrograph) -> str:
    """By what a file says it was restored."""
    steps = restored.metadata.get("emd")
    names = [str(step.get("model", "?")) for step in steps] if isinstance(steps, list) else []
    return f"restored by {' and '.join(names)}" if names else ""


def _scene(
    before: Micrograph, after: np.ndarray, arguments: argparse.Namespace, title: str
) -> Scene:
    from emd import noise
    from emd.cli import differences, drawing

    region = arguments.region or _Region(slice(None), slice(None))
    part = region.rows, region.columns
    images = before.pixels[part], after[part]
    if 0 in images[0].shape:
        size = words.size(before.pixels.shape)
        raise ValueError(f"{arguments.before} is {size}: --region holds none of its pixels")
    found = differences.of_pixels(*images)
    mean, std = words.number(found.mean), words.number(found.std)
    caption = f"residual: mean {mean}, standard deviation {std} counts"
    estimate = noise.estimate(images[0])
    if estimate.std is not None:
        caption += f" (noise of the image by itself: {words.number(estimate.std)})"
    if found.whiteness is not None:
        across, down = found.whiteness
        caption += (
            f"\nits neighbours' correlation: {across:+.2f} across, {down:+.2f} down (white: 0)"
        )
    corner = region.rows.start or 0, region.columns.start or 0
    return drawing.Scene(*images, corner, before.pixel_size, before.unit, title, caption)

"""`emd denoise`: a micrograph in, a restored one out."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from emd.cli import shelf

DEFAULT_MODEL = "temstem_latent16"
_TILE_PX = 512


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Nothing; the parser then knows the command."""
    parser = commands.add_parser(
        "denoise",
        help="restore a micrograph",
        description="Restore a micrograph or stack of any size. Type, pixel size and "
        "metadata are kept; what was done is added to the metadata.",
    )
    parser.add_argument("input", metavar="IN", help="a file of any format that README lists")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the file to make")
    parser.add_argument(
        "--model",
        metavar="NAME",
        default=DEFAULT_MODEL,
        help="a name that `emd models` lists (default: %(default)s, for TEM and STEM alike)",
    )
    parser.add_argument(
        "--tile",
        metavar="N",
        type=_pixels,
        help="side of the pieces worked on at a time, in pixels: bounds the memory and does not "
        "change the result (default: what suits the model and the device)",
    )
    parser.add_argument("--despike", action="store_true", help="replace isolated hot pixels first")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    shelf.add_option(parser)
    parser.set_defaults(run=_run)


def _pixels(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1: give a number of pixels")
    return value


def _run(arguments: argparse.Namespace) -> None:
    start = time.perf_counter()
    # told before anything slow: a wrong name must not cost the time of reading the micrograph
    root = shelf.root(arguments)

    from emd.data import micrograph

    micrograph.check_output(Path(arguments.output), overwrite=arguments.overwrite)

    import jax

    from emd import checkpoint
    from emd.restore import restore

    model = checkpoint.load(arguments.model, root=root)
    given = micrograph.read(arguments.input)
    try:
        restored = restore(given, model, tile_px=arguments.tile, despike=arguments.despike)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        remedy = f"use a --tile smaller than {arguments.tile or _TILE_PX}"
        raise MemoryError(f"{arguments.input}: out of memory on the device: {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{arguments.input}: {error}") from None
    micrograph.write(arguments.output, restored.micrograph, overwrite=arguments.overwrite)

    report, device = restored.report, jax.devices()[0]
    parts = [
        f"{arguments.output}: {'x'.join(map(str, given.pixels.shape))} {given.dtype.name}",
        f"{report.model} on {device.platform} ({device.device_kind})",
        f"{time.perf_counter() - start:.1f} s",
        f"{report.clipped_pixels} pixels clipped",
    ]
    if report.nonfinite_pixels:
        parts.append(f"{report.nonfinite_pixels} not finite, kept")
    if arguments.despike:
        parts.append(f"{report.despiked_pixels} spikes replaced")
    print(", ".join(parts) + "".join(f"; warning: {warning}" for warning in report.warnings))

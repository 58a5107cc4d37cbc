"""The `emd` command. Owns its arguments, its messages and its exit codes.

0: done. 1: an error, told in one line. 2: the arguments make no sense. 130: interrupted.
jax and the models are imported only where a command needs them, so that help comes at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import emd

DEFAULT_MODEL = "temstem_latent16"
_TILE_PX = 512


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command with these arguments; by default, the program's."""
    arguments = _make_parser().parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # as under `| head`: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError, MemoryError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emd", description="Denoise electron micrographs, with weights that come along."
    )
    parser.add_argument("--version", action="version", version=f"emd {emd.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_denoise(commands)
    _add_models(commands)
    return parser


def _add_denoise(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "denoise",
        help="restore a micrograph",
        description="Restore a TIFF micrograph or stack of any size. Type, pixel size and "
        "metadata are kept; what was done is added to the metadata.",
    )
    parser.add_argument("input", metavar="IN", help="a TIFF file")
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
    _add_checkpoints(parser)
    parser.set_defaults(run=_denoise)


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "models",
        help="list all models, and what is there of each",
        description="List all models of the paper by name, and how far each is trained.",
    )
    _add_checkpoints(parser)
    parser.set_defaults(run=_list_models)


def _add_checkpoints(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoints", metavar="DIR", help="where trained models lie (default: those shipped)"
    )


def _pixels(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1: give a number of pixels")
    return value


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


# --- emd denoise -----------------------------------------------------------------------------


def _denoise(arguments: argparse.Namespace) -> None:
    start = time.perf_counter()
    # told before anything slow: a wrong name must not cost the time of reading the micrograph
    root = _checkpoint_root(arguments.checkpoints)

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


def _checkpoint_root(folder: str | None) -> Path | None:
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: no such folder: --checkpoints names one of models")
    return Path(folder)


# --- emd models ------------------------------------------------------------------------------


def _list_models(arguments: argparse.Namespace) -> None:
    root = _checkpoint_root(arguments.checkpoints)

    from emd import checkpoint, zoo

    cards = checkpoint.available(root=root)
    rows = [("model", "batches trained", "size [kB]", "validation MSE")]
    others = (name for name in cards if name not in zoo.MODELS)
    for name in (*zoo.MODELS, *others):
        config = zoo.find(name)
        if name not in cards:
            rows.append((name, f"not trained ({zoo.training_command(config)})", "", ""))
            continue
        card = cards[name]
        size = f"{checkpoint.size_bytes(name, root=root) / 1000:.0f}"
        full = zoo.FULL_SCHEDULE[config.family]
        trained = "as printed" if config.published else f"{card.get('batches', '?')} of {full}"
        rows.append((name, trained, "-" if config.published else size, _mse(card)))
    widths = [max(len(row[k]) for row in rows if row[2]) for k in range(4)]
    widths[0] = max(len(row[0]) for row in rows)
    for name, trained, size, mse in rows:
        line = f"{name:{widths[0]}}  {trained:{widths[1]}}  {size:>{widths[2]}}  {mse:>{widths[3]}}"
        print(line.rstrip())


def _mse(card: dict[str, str]) -> str:
    try:
        return f"{float(card['validation_mse']):.5f}"
    except (KeyError, ValueError):
        return "-"


if __name__ == "__main__":
    sys.exit(main())

"""`emd denoise`: micrographs in, restored ones out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emd.cli import choice, electrons, ranges, shelf

DEFAULT_MODEL = choice.AUTO
_EPILOG = """\
examples:
  emd denoise micrograph.dm4 -o restored.tif
  emd denoise session/ -o restored/ --model stem_mlp1_w7
  emd denoise 'session/**/*.mrc' -o restored/ --device cuda:1

Given again the same command goes on where it was stopped: restored/emd-denoise.jsonl says what is
done. Exit codes: 0 all done, 1 something failed, 2 the arguments make no sense, 130 interrupted.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Nothing; the parser then knows the command."""
    parser = commands.add_parser(
        "denoise",
        help="restore micrographs",
        description="Restore micrographs and stacks of any size. Format, type, pixel size and\n"
        "metadata are kept; what was done is added to the metadata.",
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
        help="for one file, the file to make, else a folder: each result has the name of its input",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        default=DEFAULT_MODEL,
        help="a name that `emd models` lists; the folder of a model that `emd fit` made; fit: a "
        "kernel fitted to each file by itself; auto: for TEM or STEM by what each file says, "
        "with --put-back (default: %(default)s)",
    )
    parser.add_argument(
        "--signal", metavar="NAME", help="which image of a file, by name or number (default: all)"
    )
    parser.add_argument(
        "--frame", metavar="K", type=ranges.count, help="frame of a stack, from 0 (default: all)"
    )
    _add_settings(parser)
    shelf.add_option(parser)
    parser.set_defaults(run=_run)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """How it is done, and what becomes of the results."""
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="cpu, gpu, tpu, or one of several, as in cuda:1 (default: the fastest kind there is)",
    )
    parser.add_argument(
        "--tile",
        metavar="N",
        type=ranges.pixels,
        help="side of the pieces worked on at a time, in pixels: bounds the memory and does not "
        "change the result (default: what suits the model and the device)",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a dask.distributed scheduler that shares out the work on Zarr archives, as in "
        "tcp://host:8786 (default: this machine alone)",
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="mean over the eight flips and turns of the image, for networks: eight times as slow, "
        "and some tenths of a decibel closer to the truth",
    )
    parser.add_argument(
        "--put-back",
        action=argparse.BooleanOptionalAction,
        help="put back what the residual shows beyond the noise that the image tells: structure "
        "that the model took away, as most do at high dose (default: with --model auto)",
    )
    electrons.add_options(parser)
    parser.add_argument("--despike", action="store_true", help="replace isolated hot pixels first")
    parser.add_argument(
        "--report",
        action="store_true",
        help="write OUT.report.html beside each result: residual, error map and warnings, of a "
        "stack for its first frame (needs the extra plot)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")


def _run(arguments: argparse.Namespace) -> int:
    from emd.cli import progress

    with progress.patient():
        return _denoise(arguments)


def _denoise(arguments: argparse.Namespace) -> int:
    # told before anything slow: a wrong name must not cost the time of reading the micrograph
    root = shelf.root(arguments)

    from emd.cli import batch, device, drawing, inputs, options, outputs, report, restoring, single

    output = Path(arguments.output)
    gathered = inputs.gather(arguments.inputs, output)
    is_folder = outputs.is_folder(arguments.output, is_single=gathered.is_single)
    if not gathered.inputs:
        for fault in gathered.faults:
            print(f"error: {fault.name}: {fault.reason}", file=sys.stderr)
        return 1

    asked = options.Options(
        arguments.model,
        root,
        signal=arguments.signal,
        frame=arguments.frame,
        tile_px=arguments.tile,
        despike=arguments.despike,
        scheduler=arguments.scheduler,
        report=arguments.report,
        ensemble=arguments.ensemble,
        put_back=arguments.put_back,
        gain=arguments.gain,
        black=arguments.black,
    )
    asked.check()
    restorer = restoring.Restorer(asked)
    if arguments.scheduler is not None:
        restoring.check_archives([each.path for each in gathered.inputs])
    source = gathered.inputs[0].path
    if not is_folder:
        outputs.check_single(source, output, arguments.signal, overwrite=arguments.overwrite)
    if arguments.report and is_folder:
        drawing.check()
    elif arguments.report:
        report.check(output, overwrite=arguments.overwrite)
    chosen = device.select(arguments.device)
    if arguments.model not in choice.PER_FILE:
        restorer.load(arguments.model)
    name = device.describe(chosen)
    print(f"device: {name}", file=sys.stderr)
    warning = device.warning(chosen, arguments.device)
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)
    sys.stderr.flush()
    if is_folder:
        return batch.Job(output, restorer, name, overwrite=arguments.overwrite).run(gathered)
    print(single.restore(restorer, source, output, name, overwrite=arguments.overwrite))
    return 0

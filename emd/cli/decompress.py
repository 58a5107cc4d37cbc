"""`emd decompress`: streams in, micrographs out."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emd.cli import ranges, words

if TYPE_CHECKING:
    from emd.cli.inputs import Input
    from emd.cli.turns import Task

_EPILOG = """\
examples:
  emd decompress small.emdz -o micrograph.tif
  emd decompress small.emdz -o corner.tif --region 0:512,0:512
  emd decompress small/ -o large/

Exit codes: 0 all done, 1 something failed, 2 the arguments make no sense, 130 interrupted.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Nothing; the parser then knows the command."""
    parser = commands.add_parser(
        "decompress",
        help="make micrographs of what `emd compress` made",
        description="Make micrographs of .emdz files, with the pixel size and metadata that they "
        "keep; what was done is added to the metadata.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs",
        metavar="IN",
        nargs="+",
        help=".emdz files, folders (with all below them), or patterns in quotes",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="for one file, the file to make, of a format that README lists, else a folder: "
        "a.tif.emdz becomes a.tif, a.dm4.emdz becomes a.dm4.tif",
    )
    parser.add_argument(
        "--region",
        metavar="Y0:Y1,X0:X1",
        type=ranges.region,
        help="only these rows and columns, from 0, each end excluded: no more is decoded than that "
        "needs",
    )
    parser.add_argument(
        "--frame", metavar="K", type=ranges.count, help="which frame of a stack, from 0 (all)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from emd.cli import inputs, outputs, progress, turns

    output = Path(arguments.output)
    gathered = inputs.gather(arguments.inputs, output, (outputs.STREAM_SUFFIX,))
    is_folder = outputs.is_folder(arguments.output, is_single=gathered.is_single)
    if not gathered.inputs:
        for fault in gathered.faults:
            print(f"error: {fault.name}: {fault.reason}", file=sys.stderr)
        return 1
    work = functools.partial(_decompress, arguments.region, arguments.frame, arguments.overwrite)
    if is_folder:
        with progress.patient():
            return turns.run(gathered, functools.partial(_tasks, output), work)
    source = gathered.inputs[0].path
    outputs.check_other(source, output, overwrite=arguments.overwrite)
    print(work(turns.Task(source, None, output)))
    return 0


def _tasks(folder: Path, each: Input) -> Sequence[Task]:
    """Where the micrograph of a stream goes."""
    from emd.cli import outputs
    from emd.cli.turns import Task

    name = each.place.name
    if name.lower().endswith(outputs.STREAM_SUFFIX):
        name = name[: -len(outputs.STREAM_SUFFIX)] or name
    return [Task(each.path, None, folder / outputs.place_of(each.place.with_name(name)))]


def _decompress(
    region: ranges.Region | None, frame: int | None, overwrite: bool, task: Task
) -> str:
    """The line about a micrograph that now is there."""
    import numpy as np

    from emd import codec
    from emd.codec.container import Reader
    from emd.data import micrograph

    micrograph.check_output(task.output, overwrite=overwrite)
    try:
        with task.source.open("rb") as file:
            # told before anything slow
            reader = Reader(file)
            dtype = np.dtype(reader.header.dtype)
            micrograph.check_output(task.output, overwrite=overwrite, dtype=dtype)
            found = codec.decompress(file, region=region, frame=frame)
    except FileNotFoundError:
        raise FileNotFoundError(f"{task.source}: no such file: check the name") from None
    except micrograph.FormatError as error:
        raise micrograph.FormatError(f"{task.source}: {error}") from None
    micrograph.write(task.output, found, overwrite=overwrite)
    size = f"{words.size(found.pixels.shape)} {found.dtype.name}"
    return f"{task.output}: {size}, of {reader.size} bytes"

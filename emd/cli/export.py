"""`emd export`: a model for another program."""

from __future__ import annotations

import argparse
from pathlib import Path

from emd import export as exporting
from emd.cli import shelf


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Nothing; the parser then knows the command."""
    targets = "\n".join(
        f"  {name:10} {target.description}" for name, target in exporting.TARGETS.items()
    )
    parser = commands.add_parser(
        "export",
        help="write a model as a file for another program",
        description="Write a model as a file for another program.",
        epilog=f"targets:\n{targets}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a name that `emd models` lists, or the folder of a model that `emd fit` made",
    )
    parser.add_argument("--to", metavar="TARGET", required=True, help="one of those below")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="the file to make (default: MODEL and a suffix, here)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    shelf.add_option(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    root = shelf.root(arguments)

    from emd import checkpoint

    # told before the weights are read
    target = exporting.check_target(arguments.to, checkpoint.find(arguments.model).family)
    output = Path(arguments.output or f"{arguments.model}{target.suffix}")
    model = checkpoint.load(arguments.model, root=root)
    exporting.export(model, output, arguments.to, overwrite=arguments.overwrite)
    print(f"{output}: {arguments.model}, {target.description}")

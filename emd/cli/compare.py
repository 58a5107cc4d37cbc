"""`emd compare`: how far one file's image is from another's."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from emd.cli import words


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Nothing; the parser then knows the command."""
    parser = commands.add_parser(
        "compare",
        help="PSNR, SSIM and residual between two files",
        description="Compare two images or stacks of one size: a truth and a restored image, or an "
        "image before and after. The range of A scales PSNR and SSIM; the residual is A - B.",
    )
    parser.add_argument("a", metavar="A", help="the truth, or the image before")
    parser.add_argument("b", metavar="B", help="what is compared with it")
    for side in "ab":
        parser.add_argument(
            f"--signal-{side}",
            metavar="NAME",
            help=f"which image of {side.upper()}, by name or number (default: its only one)",
        )
    parser.add_argument("--frame", metavar="K", type=int, help="one frame of stacks, from 0")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from emd.data import calibration, micrograph

    with (
        micrograph.opened(arguments.a, signal=arguments.signal_a, frame=arguments.frame) as a,
        micrograph.opened(arguments.b, signal=arguments.signal_b, frame=arguments.frame) as b,
    ):
        if a.shape != b.shape:
            raise ValueError(
                f"{arguments.a} is {words.size(a.shape)} and {arguments.b} {words.size(b.shape)}: "
                "only images of one size can be compared"
            )
        warnings = []
        if not calibration.is_same(a.calibration, b.calibration):
            sizes = (_size(*calibrated.calibration) for calibrated in (a, b))
            warnings.append(f"pixel sizes differ: {' and '.join(sizes)}")

        from emd.cli import differences

        found = differences.measure(a, b)
    if found.nonfinite:
        warnings.append(f"{found.nonfinite} pixels are not finite in one of them: left out")
    facts = {
        "a": arguments.a,
        "b": arguments.b,
        "shape": list(a.shape),
        **found._asdict(),
        "warnings": warnings,
    }
    if arguments.json:
        print(json.dumps(facts, ensure_ascii=False, allow_nan=False))
        return
    head = f"{arguments.a} and {arguments.b}: {words.size(a.shape)}, {a.dtype} and {b.dtype}"
    print(head + "\n" + words.table(_rows(facts), "  "))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _size(size: tuple[float, float] | None, unit: str) -> str:
    return "not known" if size is None else f"{size[0]:.6g} x {size[1]:.6g} {unit}"


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What is told, name by name."""
    if facts["identical"]:
        return [("identical", "every pixel is the same: PSNR is infinite, SSIM 1")]
    low, high = (words.number(value) for value in facts["range"])
    rows = []
    worst = facts["worst_frame"]
    for name, unit, digits in (("psnr", " dB", 2), ("ssim", "", 4)):
        if facts[name] is None:
            continue
        text = f"{facts[name]:.{digits}f}{unit}"
        if worst is not None:
            text += f" on average, {facts[f'worst_{name}']:.{digits}f}{unit} in frame {worst}"
        rows.append((name.upper(), text))
    if facts["psnr"] is None:
        rows.append(("PSNR", "not defined: A is constant, so its range is 0"))
    else:
        rows.append(("range", f"{low} to {high} counts, that of A"))
    rows.append(("MSE", words.number(facts["mse"])))
    mean, std = (words.number(facts[f"residual_{name}"]) for name in ("mean", "std"))
    rows.append(("residual", f"mean {mean}, standard deviation {std} counts"))
    if facts["whiteness"] is not None:
        rows.append(("whiteness", _whiteness(facts["whiteness"], facts["white_within"])))
    if facts["correlation"] is not None:
        rows.append(("correlation", f"{facts['correlation']:.5f} of A and B"))
    return rows


def _whiteness(correlation: tuple[float, float], bound: float) -> str:
    """What the correlation of the residual's neighbours means."""
    across, down = correlation
    extreme = max((across, down), key=abs)
    meaning = "neighbours are uncorrelated: the residual looks like noise alone"
    if extreme > bound:
        meaning = "neighbours are alike: structure or blurred noise is in it"
    elif extreme < -bound:
        meaning = "neighbours are unlike: only the finest of noise or detail is in it"
    return f"{across:+.3f} across, {down:+.3f} down; {meaning}"

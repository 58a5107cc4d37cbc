"""`emd info`: what a file is, and what its images tell of themselves."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from pathlib import Path
from typing import Any

from emd.cli import facts, words
from emd.cli.errors import reason

# What the metadata of an acquisition call it, what that is told as, its unit, and what a unit is.
_FACTS = (
    ("microscope", "", "", 1.0),
    ("beam_energy", "", "kV", 1.0),
    ("magnification", "magnification", "", 1.0),
    ("camera_length", "camera length", "mm", 1.0),
    ("beam_current", "beam", "nA", 1.0),
    ("dwell_time", "dwell time", "µs", 1e6),
    ("convergence_angle", "convergence", "mrad", 1.0),
    ("probe_area", "probe area", "nm²", 1.0),
    ("Detector.Camera.Name", "camera", "", 1.0),
    ("Detector.Camera.exposure", "exposure", "s", 1.0),
    ("Stage.tilt_alpha", "tilt", "°", 1.0),
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Nothing; the parser then knows the command."""
    parser = commands.add_parser(
        "info",
        help="say what a file is, with its calibration, noise and dose",
        description="Say what files hold: calibration, microscope, counts, an estimate of noise "
        "and dose from the image alone, and what emd did to it; of .emdz files how they are "
        "compressed. Nothing is changed.",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="files of any format")
    parser.add_argument(
        "--signal", metavar="NAME", help="which image of a file, by name or number (default: all)"
    )
    parser.add_argument(
        "--frame",
        metavar="K",
        type=int,
        default=0,
        help="the frame of a stack that is measured, from 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--black", metavar="COUNTS", type=float, help="counts of no electron: gives readout noise"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a file, a line each")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    code = 0
    for place, name in enumerate(arguments.files):
        try:
            file = facts.describe(
                Path(name), signal=arguments.signal, frame=arguments.frame, black=arguments.black
            )
        except (OSError, ValueError, MemoryError, ImportError) as error:
            code = 1
            if arguments.json:
                print(json.dumps({"file": name, "error": reason(error, name)}, ensure_ascii=False))
            else:
                print(f"error: {name}: {reason(error, name)}", file=sys.stderr)
            continue
        if arguments.json:
            print(json.dumps(file, ensure_ascii=False, allow_nan=False))
        else:
            print(("\n" if place else "") + _told(file), flush=True)
    return code


def _told(file: dict[str, Any]) -> str:
    """The file in lines."""
    total = file["signals_in_file"]
    head = f"{file['file']}: {file['format']}" + (f", {total} signals" if total > 1 else "")
    parts = []
    for signal in file["signals"]:
        shape = f"{words.size(signal['shape'])} {signal['dtype']}"
        rows = [("size", shape)]
        if total > 1:
            rows.insert(0, ("signal", f"{signal['signal']}: {signal['name']}"))
        if "fault" in signal:
            rows.append(("no image", signal["fault"]))
        else:
            rows += _rows(signal)
        parts.append(words.table(rows, "  "))
    return f"{head}\n" + "\n\n".join(parts)


def _rows(signal: dict[str, Any]) -> list[tuple[str, str]]:
    """What is told of an image, name by name."""
    rows = []
    if "frame" in signal:
        count = math.prod(signal["shape"][:-2])
        rows.append(("frame", f"{signal['frame']} of {count}: the numbers below are its"))
    if "pixel_size" in signal:
        rows.append(("pixel size", _sides(signal["pixel_size"], signal["unit"])))
        high, wide = (words.number(side) for side in signal["field_of_view"])
        rows.append(("field", f"{high} x {wide} {signal['unit']}"))
    else:
        rows.append(("pixel size", "not known"))
    if "mode" in signal:
        rows.append(("mode", signal["mode"]))
    if signal.get("title", signal["name"]) != signal["name"]:
        rows.append(("title", signal["title"]))
    if "acquisition" in signal and (told := _instrument(signal["acquisition"])):
        rows.append(("instrument", told))
    rows += _coded(signal["stream"]) if "stream" in signal else _measured(signal)
    return rows + [("emd", _step(step)) for step in signal.get("emd", [])]


def _sides(sides: list[float], unit: str) -> str:
    """Height and width, once where they are equal."""
    high, wide = (words.number(side) for side in sides)
    return f"{high} {unit}" if high == wide else f"{high} x {wide} {unit} (height x width)"


def _instrument(acquired: dict[str, Any]) -> str:
    """What is known of the microscope and how it was set, in a line."""
    told = []
    for path, name, unit, factor in _FACTS:
        value: Any = acquired.get("TEM", acquired.get("SEM", {}))
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not value:
            continue  # files write 0 for what they do not know
        with contextlib.suppress(ValueError, TypeError):
            value = words.number(float(value) * factor)
        if value != "0":
            told.append(" ".join(part for part in (name, str(value), unit) if part))
    return ", ".join(told)


def _measured(signal: dict[str, Any]) -> list[tuple[str, str]]:
    """Counts, noise and dose."""
    rows, noise = [], signal["noise"]
    if "counts" in signal:
        told = (f"{name} {words.number(value)}" for name, value in signal["counts"].items())
        rows.append(("counts", ", ".join(told)))
    for name, pixels in (("saturated", "saturated_pixels"), ("not finite", "nonfinite_pixels")):
        if signal[pixels]:
            share = signal[pixels] / math.prod(signal["shape"][-2:])
            rows.append((name, f"{signal[pixels]} pixels ({100 * share:.2g} %)"))
    if noise["std"] is not None:
        rows.append(("noise", f"{words.number(noise['std'])} counts (standard deviation)"))
    if noise["dose"] is not None:
        rows.append(("dose", _dose(noise)))
        error = f"± {100 * noise['gain_error'] / noise['gain']:.0f} %"
        zero = words.number(noise["offset"])
        text = f"{noise['gain']:.3g} counts an electron ({error}), no electrons at {zero} counts"
        if noise["readout"] is not None:
            text += f", readout noise {words.number(noise['readout'])} counts"
        rows.append(("gain", text))
    return rows + [("caution", warning) for warning in noise["warnings"]]


def _coded(stream: dict[str, Any]) -> list[tuple[str, str]]:
    """How the image is compressed."""
    size, bits = f"{stream['bytes']} bytes", words.number(stream["bits_per_pixel"])
    smaller = f"{words.number(stream['ratio'])} times smaller than its pixels"
    rows = [("stream", f"{size}, {bits} bits a pixel, {smaller}")]
    rows.append(("coder", f"{stream['coder']}, version {stream['coder_version']}"))
    if "weights" in stream:
        weights = stream["weights"]
        rows.append(("weights", f"{weights['name']} ({weights['fingerprint']})"))
    if stream["settings"]:
        rows.append(("settings", words.settings(stream["settings"])))
    return [*rows, ("software", stream["software"])]


def _dose(noise: dict[str, Any]) -> str:
    dose, error = noise["dose"], noise["dose_error"]
    text = f"about {_rough(dose)} electrons a pixel (± {100 * error / abs(dose):.0f} %)"
    if "dose_per_square_angstrom" in noise:
        text += f", {_rough(noise['dose_per_square_angstrom'])} per Å²"
    return f"{text}, estimated from this image alone"


def _rough(value: float) -> str:
    return words.number(float(f"{value:.2g}"))


def _step(step: dict[str, Any]) -> str:
    """What emd did to the image."""
    text = f"{step.get('model', '?')} (weights {step.get('weights', '?')})"
    for name, value in (("emd", step.get("version")), ("on", step.get("time"))):
        text += f", {name} {value}" if value else ""
    return text

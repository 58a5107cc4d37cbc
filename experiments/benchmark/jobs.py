"""The benchmark's jobs: what each does, beside whom, and what it cannot do without."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from emd import zoo
from emd.models.pixelwise import MLP
from experiments.benchmark import (
    counting,
    distillation,
    machine,
    restoration,
    timing,
    training,
    windows,
)
from experiments.benchmark.counting import Work
from experiments.benchmark.timing import Side

LATENT = 16
KERNEL_WIDTHS = (3, 7, 11, 15)
MLPS = (("mlp1", 3), ("mlp1", 7), ("mlp1", 11), ("mlp2", 3), ("mlp2", 7))
FRAMES_PX = 512

_UNFOLD = "PyTorch unfold + GEMM"


class Sizes(NamedTuple):
    """How large the jobs are; smaller ones are for tests."""

    side: int = 2048
    steps: int = 10_000
    measured: int = 200
    """Iterations of each model that the distillation's peer is timed on."""
    batches: tuple[int, ...] = (8, 32)
    memory_side: int = 8192
    frames_side: int = FRAMES_PX
    stack: tuple[int, int] = (64, FRAMES_PX)
    """Frames, and their side [px]."""


class Job(NamedTuple):
    """One row.

    Attributes:
      name: what `--only` picks it by.
      size: what is worked on.
      unit: of its figures: s, ms or frames/s.
      ours: makes our side ready.
      peer: makes the other ready; may raise `peers.MissingLibraryError`.
      peer_name: who that is.
      work: what the job cannot do without.
      precision: of both sides' products.
      note: what keeps ours above the limit.
      skip: why this machine has no such row, if so.
      cold: compilation counts.
      gap: how far two answers are apart.
    """

    name: str
    size: str
    unit: str
    ours: Callable[[], Side]
    peer: Callable[[], Side]
    peer_name: str
    work: Work
    precision: str = "float32"
    note: str = ""
    skip: str = ""
    cold: bool = False
    gap: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], float] = timing.difference


class MemoryJob(NamedTuple):
    """One row of peak memory: a model over an image of `side`, against input and output."""

    name: str
    model: str
    side: int


def all_jobs(sizes: Sizes) -> list[Job | MemoryJob]:
    """Every row, in the order of the table."""
    return [
        *_training(sizes),
        _distillation(sizes),
        *_kernels(sizes.side),
        *_mlps(sizes),
        *_restorations(sizes.side),
        *_stacks(*sizes.stack),
        *(
            MemoryJob(f"memory_{name}", model, sizes.memory_side)
            for name, model in MEMORY_MODELS.items()
        ),
    ]


MEMORY_MODELS = {
    "kernel": "tem_kernel_w7",
    "mlp1": "tem_mlp1_w7",
    "autoencoder": f"tem_latent{LATENT}",
}
"""The models whose memory is measured, and whose cost against size."""


def _gpu_only(precision: str) -> str:
    is_plain = precision == "float32" or machine.on_gpu()
    return "" if is_plain else f"{precision} products need a GPU"


def _training(sizes: Sizes) -> list[Job]:
    found = []
    for batch in sizes.batches:
        for precision, suffix in (("float32", ""), ("tf32", "_tf32"), ("bfloat16", "_bf16")):
            is_half = precision == "bfloat16"
            compiled = ", compiled" if machine.on_gpu() else ""
            note = "maps in bfloat16; the peer's by autocast" if is_half else ""
            found.append(
                Job(
                    f"train_b{batch}{suffix}",
                    f"batch {batch} of 160x160",
                    "ms",
                    functools.partial(training.ours, batch, bfloat16=is_half),
                    functools.partial(training.peer, batch, bfloat16=is_half),
                    f"PyTorch, channels_last{compiled}",
                    counting.training_work(batch, 160, LATENT, value_bytes=2 if is_half else 4),
                    precision,
                    "; ".join(["ours draws its crops as well", *([note] if note else [])]),
                    _gpu_only(precision),
                    gap=timing.distance,
                )
            )
    return found


def _distillation(sizes: Sizes) -> Job:
    works = [
        counting.distillation_work(
            member.width,
            member.hidden if isinstance(member, MLP) else 0,
            plan.crop_px,
            sizes.steps,
        )
        for plan in distillation.make_plans(sizes.steps)
        for member in plan.members
    ]
    total = Work(sum(w.flops for w in works), sum(w.bytes for w in works))
    return Job(
        "distill",
        f"{len(works)} models, {sizes.steps} iterations",
        "s",
        functools.partial(distillation.ours, sizes.steps),
        functools.partial(distillation.peer, sizes.steps, sizes.measured),
        "PyTorch loop a model",
        total,
        note=f"ours compiles its programs each time; the peer is projected from {sizes.measured} "
        "iterations of each model; in the way: padding to the widest and small programs",
        cold=True,
    )


def _kernels(side: int) -> list[Job]:
    found = []
    for width in KERNEL_WIDTHS:
        for library in windows.KERNEL_PEERS:
            is_here = (library == "torch") == machine.on_gpu()
            name = f"temstem_kernel_w{width}"
            found.append(
                Job(
                    f"kernel_w{width}_{library}",
                    f"{side}x{side}",
                    "ms",
                    functools.partial(windows.ours, name, side),
                    functools.partial(windows.kernel_peer, library, name, side),
                    {"opencv": "OpenCV filter2D", "scipy": "scipy.ndimage.correlate",
                     "skimage": "skimage correlate_sparse", "torch": "PyTorch conv2d"}[library],
                    counting.kernel_work(side**2, width),
                    skip="" if is_here else f"{library} is the peer on another device",
                )
            )  # fmt: skip
    return found


def _mlps(sizes: Sizes) -> list[Job]:
    def job(name: str, family: str, width: int, side: int, unit: str) -> Job:
        model = zoo.ModelConfig(family, "temstem", width).name
        return Job(
            name,
            f"{side}x{side}",
            unit,
            functools.partial(windows.ours, model, side),
            functools.partial(windows.mlp_peer, model, side),
            _UNFOLD,
            counting.mlp_work(side**2, width, int(family.removeprefix("mlp"))),
            note="ours is folded; the limit counts a sigmoid as 20 operations",
        )

    rows = [job(f"{family}_w{width}", family, width, sizes.side, "ms") for family, width in MLPS]
    return [*rows, job("mlp1_frames", "mlp1", 7, sizes.frames_side, "frames/s")]


def _restorations(side: int) -> list[Job]:
    found = []
    whole = functools.partial(counting.autoencoder_work, side**2, LATENT)
    for precision in ("float32", "tf32"):
        name = f"tem_latent{LATENT}"
        found.append(
            Job(
                "autoencoder" + ("" if precision == "float32" else f"_{precision}"),
                f"{side}x{side} float32",
                "ms",
                functools.partial(restoration.ours, name, side, np.float32),
                functools.partial(restoration.torch_peer, name, side, np.float32),
                "PyTorch, channels_last, whole",
                whole(pixel_bytes=8),
                precision,
                "ours in tiles with halos",
                _gpu_only(precision),
            )
        )
    ends = "counts to counts, normalisation and rounding included"
    cases = (
        ("kernel", "tem_kernel_w7", "OpenCV + NumPy", restoration.opencv_peer,
         counting.kernel_work(side**2, 7, pixel_bytes=4)),
        ("mlp1", "tem_mlp1_w7", _UNFOLD, restoration.torch_peer,
         counting.mlp_work(side**2, 7, 1, pixel_bytes=4)),
        ("autoencoder", f"tem_latent{LATENT}", "PyTorch, channels_last, whole",
         restoration.torch_peer, whole(pixel_bytes=4)),
    )  # fmt: skip
    for family, model, peer_name, peer, work in cases:
        found.append(
            Job(
                f"restore_{family}",
                f"{side}x{side} uint16",
                "ms",
                functools.partial(restoration.ours, model, side, np.uint16),
                functools.partial(peer, model, side, np.uint16),
                peer_name,
                work,
                note=ends,
                skip="OpenCV has no GPU here" * (machine.on_gpu() and family == "kernel"),
            )
        )
    return found


def _stacks(frames: int, side: int) -> list[Job]:
    """Stacks from file to file, by the frame."""
    cases = (
        ("kernel", "tem_kernel_w7", "OpenCV + NumPy + tifffile", restoration.opencv_restorer,
         counting.kernel_work(side**2, 7, pixel_bytes=4)),
        ("mlp1", "tem_mlp1_w7", f"{_UNFOLD} + tifffile", restoration.torch_restorer,
         counting.mlp_work(side**2, 7, 1, pixel_bytes=4)),
        ("autoencoder", f"tem_latent{LATENT}", "PyTorch, channels_last + tifffile",
         restoration.torch_restorer, counting.autoencoder_work(side**2, LATENT, pixel_bytes=4)),
    )  # fmt: skip
    return [
        Job(
            f"stack_{family}",
            f"{frames} x {side}x{side} uint16",
            "frames/s",
            functools.partial(restoration.stack_ours, model, frames, side),
            functools.partial(restoration.stack_peer, restorer, model, frames, side),
            peer_name,
            work,
            note="TIFF to TIFF; ours writes calibration and what was done, too, and syncs the file",
            skip="OpenCV has no GPU here" * (machine.on_gpu() and family == "kernel"),
        )
        for family, model, peer_name, restorer, work in cases
    ]

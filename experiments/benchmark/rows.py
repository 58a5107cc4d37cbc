"""From a job to its row: compared, timed, and held against its limit."""

from __future__ import annotations

import dataclasses
import datetime
import math

from experiments import provenance
from experiments.benchmark import counting, machine, memory, peers, timing
from experiments.benchmark.jobs import Job, MemoryJob
from experiments.benchmark.table import COLUMNS, Row, number

_MIB = 2**20
_PER_SECOND = {"s": 1.0, "ms": 1000.0}


@dataclasses.dataclass(frozen=True)
class Session:
    """What all rows of a run share."""

    rates: machine.Rates
    repeats: int
    seconds: float


def make_row(job: Job | MemoryJob, session: Session) -> Row:
    """A job's row; `status` says whether it was measured: ok, no peer, skipped or failed."""
    row = dict.fromkeys(COLUMNS, "") | {
        "job": job.name,
        "device": machine.device_name(),
        "commit": provenance.commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    return row | (_memory(job) if isinstance(job, MemoryJob) else _timed(job, session))


def in_unit(seconds: float, unit: str) -> float:
    """A time in seconds as s, ms, or as frames/s."""
    return 1 / seconds if unit == "frames/s" else seconds * _PER_SECOND[unit]


def _timed(job: Job, session: Session) -> Row:
    row = {"size": job.size, "unit": job.unit, "peer_name": job.peer_name, "note": job.note,
           "precision": job.precision}  # fmt: skip
    if job.skip:
        return row | {"status": "skipped", "note": job.skip}
    limit = counting.limit(job.work, session.rates, job.precision)
    notes = [f"limit: {limit.text}"] + ([job.note] if job.note else [])
    row |= {
        "limit": number(in_unit(limit.seconds, job.unit)),
        "limit_kind": limit.kind,
        "gemm_gflops": number(session.rates.gemm[job.precision] / 1e9),
        "copy_gbs": number(session.rates.copy(job.work.bytes) / 1e9),
    }
    ours, peer = job.ours(), None
    status = "ok"
    try:
        peer = job.peer()
    except peers.MissingLibraryError as error:
        status, notes = "no peer", [str(error), *notes]
    if peer is not None:
        gap = compare(job, ours, peer)
        row["difference"] = number(gap)
        if not gap <= (bound := tolerance(job.precision)):
            text = f"FAILED: answers differ by {gap:.2g}, more than {bound:g}"
            return row | {"status": "failed", "note": text}
    with peers.precision(job.precision):
        timed = timing.alternate(
            ours, peer, repeats=session.repeats, seconds=session.seconds, warm=not job.cold
        )
    return row | _figures(job, timed, limit.seconds) | {"status": status, "note": "; ".join(notes)}


def tolerance(precision: str) -> float:
    """How far answers may be apart: sides in bfloat16 round what they give themselves."""
    return timing.COARSE_TOLERANCE if precision == "bfloat16" else timing.TOLERANCE


def compare(job: Job, ours: timing.Side, peer: timing.Side) -> float:
    """How far the answers are apart in float32; infinite if TF32 then spoils them."""
    with peers.precision("float32"):
        gap = job.gap(ours.answer(), peer.answer())
    if job.precision == "tf32":
        with peers.precision("tf32"):
            if not job.gap(ours.answer(), peer.answer()) <= timing.COARSE_TOLERANCE:
                return math.inf
    return gap


def _figures(job: Job, timed: timing.Timed, limit: float) -> Row:
    """The cells of a timed row; the lowest time is the highest rate."""
    row = {"repeats": str(timed.repeats), "share": number(limit / timed.ours.median)}
    for name, spread in (("ours", timed.ours), ("peer", timed.peer)):
        if spread is not None:
            ends = sorted(in_unit(value, job.unit) for value in (spread.low, spread.high))
            row[name] = number(in_unit(spread.median, job.unit))
            row[f"{name}_min"], row[f"{name}_max"] = (number(end) for end in ends)
    if timed.peer is not None:
        row["ratio"] = number(timed.peer.median / timed.ours.median)
    return row


def _memory(job: MemoryJob) -> Row:
    """Peak memory above the idle process, beside the bytes of input and output."""
    cost = memory.measure("restore", model=job.model, side=job.side)
    both = 2 * 4 * job.side**2
    device = f", {cost.device_bytes / _MIB:.0f} MiB on the device" if cost.device_bytes else ""
    return {
        "size": f"{job.side}x{job.side} float32",
        "ours": number(cost.peak_bytes / _MIB),
        "peer_name": "input + output",
        "peer": number(both / _MIB),
        "ratio": number(both / cost.peak_bytes),
        "limit": number(both / _MIB),
        "unit": "MiB",
        "limit_kind": "memory",
        "share": number(both / cost.peak_bytes),
        "repeats": "1",
        "precision": "float32",
        "status": "ok",
        "note": f"{job.model}: {cost.peak_bytes / both:.2f} times input and output above the idle "
        f"process that has loaded the model, in {cost.first:.3g} s with compilation{device}",
    }

"""A network's training as a program shows it: with a bar, a learning curve, and an orderly end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from emd.training import autoencoder as training
from emd.training import devices
from experiments import curves, interrupts


def fit(
    step: training.Step,
    state: training.TrainState,
    data: Any,
    *,
    steps: int,
    folder: Path,
    checkpoint_every: int,
    curve: curves.Curve,
    deadline: float | None,
    runner: Callable[..., tuple[training.TrainState, Any]],
    loss_name: str = "mse",
) -> training.TrainState:
    """Return the state where training ended or was stopped; process 0 alone shows and writes.

    Args:
        step: as of `emd.training.autoencoder.fit`, as are all but these.
        state: see above.
        data: see above.
        steps: see above.
        folder: see above.
        checkpoint_every: see above.
        curve: gets the losses.
        deadline: see above.
        runner: see above.
        loss_name: what the bar calls them.

    Raises:
        KeyboardInterrupt: it was interrupted; whoever trains many models must not go on.
    """
    began, shows = time.monotonic(), devices.is_first()
    bar = tqdm(total=steps, unit="batch", mininterval=1, dynamic_ncols=True, disable=not shows)
    with bar, interrupts.noted() as is_interrupted:
        fitting = training.fit(
            step,
            state,
            data,
            steps=steps,
            folder=folder,
            checkpoint_every=checkpoint_every,
            deadline=deadline,
            stop=is_interrupted,
            runner=runner,
        )
        for now, losses, first in fitting:
            state = now
            if len(losses) and shows:
                curve.append(first, losses, time.monotonic() - began)
                bar.set_postfix({loss_name: f"{losses.mean():.4f}"}, refresh=False)
            bar.update(first - 1 + len(losses) - bar.n)
    interrupted = devices.gathered(is_interrupted()).any()
    if shows and (interrupted or int(state.step) < steps):
        print(f"stopped at batch {int(state.step)} of {steps}: the same command goes on")
    if interrupted:
        raise KeyboardInterrupt
    return state

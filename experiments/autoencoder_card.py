"""The prose of an autoencoder's card: what it is, how far it was trained, and what it is worth."""

from __future__ import annotations

from emd import zoo
from emd.data import truths
from experiments import held_out, linear_code

PAPER_BATCH = 32
"""Crops a batch of the paper's schedule."""

_TASKS = {
    "reproduce": "",
    "clean": (
        "It learnt to give the expected counts of simulated micrographs back, and of real ones of "
        "high counts, from what a detector makes of {low:g} to {high:g} electrons a pixel; the "
        "paper's learn to reproduce what they see.\n\n"
    ),
    "thin": (
        "It learnt from noisy micrographs alone, simulated and real: from a random part of their "
        "electrons it tells the others; the paper's learn to reproduce what they see.\n\n"
    ),
    "columns": (
        "It learnt to give the expected counts of simulated atom columns back from what a detector "
        "makes of {low:g} to {high:g} electrons a pixel, and knows nothing else; the paper's learn "
        "to reproduce what they see.\n\n"
    ),
    "benchmark": (
        "It learnt to take noise away from the two simulated lattices of a benchmark, and knows "
        "nothing else; the paper's learn to reproduce what they see.\n\n"
    ),
}


def card_text(
    model: zoo.ModelConfig, steps: int, batch_size: int, metrics: dict[str, float]
) -> str:
    """Return a card's prose, with how the model stands to a linear code or to doing nothing."""
    full = zoo.FULL_SCHEDULE["autoencoder"]
    share = steps * batch_size / (full * PAPER_BATCH)
    low, high = truths.DOSES
    is_paper = model.objective == zoo.OBJECTIVES[0]
    standing = _standing(model.size, metrics) if is_paper else held_out.gain_text(metrics)
    return (
        f"Autoencoder of latent depth {model.size} for {model.domain} micrographs "
        f"(arXiv:1808.09916, section 2), 64:{model.size} in numbers stored.\n\n"
        + _TASKS[model.objective].format(low=low, high=high)
        + f"Trained for {steps} of the paper's {full} batches, {batch_size} crops each "
        f"(the paper: {PAPER_BATCH}): {share:.2%} of the paper's crops"
        f"{', a provisional model' if share < 0.5 else ''}.\n\n" + standing
    )


def _standing(latent: int, metrics: dict[str, float]) -> str:
    """Return how a model stands to the linear code of its size, in a sentence or two."""
    own = f"Held-out MSE {metrics['validation_mse']:.4g}"
    if latent >= linear_code.BLOCK_PX**2:
        return f"{own}; a linear code of this size is lossless, so it is no yardstick here."
    ratio = metrics["validation_mse"] / metrics["linear_code_mse"]
    verdict = "better than" if ratio < 1 else "WORSE than"
    whole = metrics["validation_mse_whole"] / metrics["linear_code_mse_whole"]
    return (
        f"{own} is {ratio:.2f} times that of the best linear code of the same size (principal "
        f"components of 8x8 blocks): {verdict} it. Under whole-image normalisation the ratio is "
        f"{whole:.2f}."
    )

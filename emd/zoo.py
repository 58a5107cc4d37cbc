"""The models by name: which exist, how each is configured, and the modules they are.

The paper's are called ``tem_latent16``, ``stem_kernel_w7``, ``temstem_mlp2_w3``, and
``tem_kernel_w3_published`` where it prints them; ``stem_latent64_clean``, ``stem_skip48_clean``,
``stem_skip48_columns`` and others learnt from noise-free images, what the paper's did not.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from flax import linen as nn

from emd.models import published
from emd.models.autoencoder import Autoencoder
from emd.models.blindspot import BlindSpot
from emd.models.pixelwise import MLP, Kernel
from emd.models.skip import Skip

FULL_SCHEDULE = {
    "autoencoder": 60_000, "kernel": 10_000, "mlp1": 10_000, "mlp2": 10_000, "skip": 32_000,
}  # fmt: skip
"""Batches of the paper's training schedule (sections 2.2 and 3.2), and of networks with skips."""

COLUMNS, BENCHMARK = "columns", "benchmark"
LATTICES = (COLUMNS, BENCHMARK)
"""The objectives that have simulated atom columns of STEM alone."""
OBJECTIVES = ("reproduce", "clean", "thin", COLUMNS, BENCHMARK)
"""What models learn, the paper's first."""
TASKS = (
    "give micrographs back as they are, as the paper's models; without the noise that is added to "
    "clean ones; from a part of their electrons tell the others; `clean` of simulated atom columns "
    "alone; or of the two lattices that denoisers are compared on"
)
"""The five in words."""

TEACHER_LATENT = 16
"""Latent depth of the autoencoders that kernels and MLPs are distilled from (section 3)."""

# Source: tables 1 and 2. Deviation: the paper leaves stem_mlp2 empty; widths 5 and 7 fill it.
_SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "autoencoder": {
        "tem": (1, 4, 16, 64),
        "stem": (4, 16, 64),
        "temstem": (1, 2, 4, 8, 16, 32, 64),
    },
    "kernel": dict.fromkeys(("tem", "stem", "temstem"), (3, 5, 7, 11, 15)),
    "mlp1": {"tem": (3, 5, 7), "stem": (3, 5, 7), "temstem": (3, 5, 7, 11)},
    "mlp2": {"tem": (5, 7), "stem": (5, 7), "temstem": (3, 7)},
}


_SIZE_PREFIX = {"autoencoder": "latent", "skip": "skip"}
_SKIP_SIZE = 48


@dataclass(frozen=True)
class ModelConfig:
    """What a model is: its family, the domain it is for, and its latent depth or width.

    ``label`` is the name of a user's own model. Of a network with skips the size is its number of
    maps at a quarter of the side.
    """

    family: str
    domain: str
    size: int
    published: bool = False
    label: str = ""
    objective: str = OBJECTIVES[0]

    @property
    def name(self) -> str:
        """The name it is loaded by."""
        if self.label:
            return self.label
        suffix = "_published" if self.published else ""
        if self.objective != OBJECTIVES[0]:
            suffix = f"_{self.objective}"
        if self.family in _SIZE_PREFIX:
            return f"{self.domain}_{_SIZE_PREFIX[self.family]}{self.size}{suffix}"
        return f"{self.domain}_{self.family}_w{self.size}{suffix}"

    @property
    def set_name(self) -> str:
        """The lockstep set that a kernel or MLP is trained in."""
        return f"{self.domain}_{self.family}"


PAPER_MODELS: tuple[ModelConfig, ...] = tuple(
    ModelConfig(family, domain, size)
    for family, domains in _SIZES.items()
    for domain, sizes in domains.items()
    for size in sizes
)
"""The 14 autoencoders, 15 kernels and 16 MLPs."""

CLEAN_MODELS: tuple[ModelConfig, ...] = tuple(
    ModelConfig(family, domain, size, objective=objective)
    for family, domain, size, objective in (
        ("skip", "tem", _SKIP_SIZE, "clean"),
        ("skip", "stem", _SKIP_SIZE, "clean"),
        ("skip", "stem", _SKIP_SIZE, COLUMNS),
        ("skip", "stem", _SKIP_SIZE, BENCHMARK),
        ("autoencoder", "stem", 64, "clean"),
        ("kernel", "tem", 7, "clean"),
        ("mlp1", "tem", 7, "clean"),
    )
)
"""Those that ship beside the paper's, taught with the truth."""

SKIP_MODELS = tuple(config for config in CLEAN_MODELS if config.family == "skip")
"""The networks with skip connections among them."""

MODELS: dict[str, ModelConfig] = {config.name: config for config in PAPER_MODELS} | {
    config.name: config
    for config in (
        *CLEAN_MODELS,
        *(
            ModelConfig("kernel", domain, width, published=True)
            for domain in ("tem", "stem", "temstem")
            for width in published.WIDTHS
        ),
    )
}
"""Every model by name, the twelve published kernels included."""

SETS: dict[str, tuple[ModelConfig, ...]] = {
    f"{domain}_{family}": tuple(ModelConfig(family, domain, s) for s in _SIZES[family][domain])
    for domain in ("tem", "stem", "temstem")
    for family in ("kernel", "mlp1", "mlp2")
}
"""The nine sets that are trained in lockstep (section 3.2), by name."""


KNOWN: dict[str, ModelConfig] = MODELS | {
    config.name: config
    for objective in OBJECTIVES
    for config in (
        *(
            ModelConfig("autoencoder", domain, depth, objective=objective)
            for domain in _SIZES["autoencoder"]
            for depth in _SIZES["autoencoder"]["temstem"]
        ),
        *(dataclasses.replace(m, objective=objective) for same in SETS.values() for m in same),
        *(
            ModelConfig("skip", domain, _SKIP_SIZE, objective=objective)
            for domain in _SIZES["autoencoder"]
            if objective != OBJECTIVES[0]
        ),
    )
    if objective not in LATTICES or config.domain == "stem"
}
"""Every model that can be trained and loaded: any of the paper's in any domain and objective."""


def find(name: str) -> ModelConfig:
    """Return the configuration of a model.

    Raises:
        ValueError: no model has that name.
    """
    if name not in KNOWN:
        raise ValueError(f"unknown model {name!r}: use one of {', '.join(MODELS)}")
    return KNOWN[name]


def find_autoencoder(dataset: str, latent: int, objective: str = OBJECTIVES[0]) -> ModelConfig:
    """Return the configuration of an autoencoder; any depth of the paper in any domain.

    Raises:
        ValueError: unknown dataset, latent depth or objective.
    """
    if dataset not in _SIZES["autoencoder"]:
        known = ", ".join(_SIZES["autoencoder"])
        raise ValueError(f"unknown dataset {dataset!r}: use one of {known}")
    depths = _SIZES["autoencoder"]["temstem"]
    if latent not in depths:
        raise ValueError(f"unknown latent depth {latent}: use one of {', '.join(map(str, depths))}")
    check_objective(objective, dataset)
    return ModelConfig("autoencoder", dataset, latent, objective=objective)


def find_skip(dataset: str, objective: str) -> ModelConfig:
    """Return the configuration of a network with skip connections.

    Raises:
        ValueError: unknown objective, one not for the dataset, or one met by doing nothing.
    """
    check_objective(objective, dataset)
    if objective == OBJECTIVES[0]:
        raise ValueError(
            f"objective {objective!r}: with skip connections nothing is left to learn; "
            f"use one of {', '.join(OBJECTIVES[1:])}"
        )
    return ModelConfig("skip", dataset, _SKIP_SIZE, objective=objective)


def find_set(name: str, objective: str = OBJECTIVES[0]) -> tuple[ModelConfig, ...]:
    """Return the members of a lockstep set, narrowest first, as an objective makes them.

    Raises:
        ValueError: no set has that name, or no such objective.
    """
    if name not in SETS:
        raise ValueError(f"unknown set {name!r}: use one of {', '.join(SETS)}")
    check_objective(objective, SETS[name][0].domain)
    return tuple(dataclasses.replace(member, objective=objective) for member in SETS[name])


def check_objective(name: str, domain: str) -> None:
    """Refuse an objective that there is not, or not for a domain.

    Raises:
        ValueError: no objective has that name, or one of columns for another domain than stem.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}: use one of {', '.join(OBJECTIVES)}")
    if name in LATTICES and domain != "stem":
        raise ValueError(f"objective {name!r} has no {domain} micrographs: it is of stem alone")


def teacher_of(set_name: str) -> str:
    """Return the name of the autoencoder that a set is distilled from (section 3)."""
    return ModelConfig("autoencoder", find_set(set_name)[0].domain, TEACHER_LATENT).name


def make_module(config: ModelConfig) -> nn.Module:
    """Return the Flax module of a configuration."""
    if config.family == "autoencoder":
        return Autoencoder(config.size)
    if config.family == "skip":
        return Skip(config.size)
    if config.family == "blindspot":
        return BlindSpot(config.size)
    return make_student(config)


def make_student(config: ModelConfig) -> Kernel | MLP:
    """Return the module of a kernel's or an MLP's configuration."""
    if config.family == "kernel":
        return Kernel(config.size)
    return MLP(config.size, hidden=int(config.family.removeprefix("mlp")))


def training_command(config: ModelConfig) -> str:
    """Return the command that makes a model."""
    if config.family == "autoencoder":
        options = f"autoencoder --dataset={config.domain} --latent={config.size}"
    elif config.family == "skip":
        options = f"skip --dataset={config.domain}"
    else:
        options = f"distill --set={config.set_name}"
    if config.objective != OBJECTIVES[0]:
        options += f" --objective={config.objective}"
    return f"python -m experiments.{options}"

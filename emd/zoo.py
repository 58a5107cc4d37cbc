"""The paper's models by name: which exist, how each is configured, and the modules they are.

Names are ``tem_latent16``, ``stem_kernel_w7``, ``temstem_mlp2_w3``, and ``tem_kernel_w3_published``
for the kernels that the paper prints.
"""

from __future__ import annotations

from dataclasses import dataclass

from flax import linen as nn

from emd.models import published
from emd.models.autoencoder import Autoencoder
from emd.models.pixelwise import MLP, Kernel

FULL_SCHEDULE = {"autoencoder": 60_000, "kernel": 10_000, "mlp1": 10_000, "mlp2": 10_000}
"""Batches of the paper's training schedule (sections 2.2 and 3.2)."""

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


@dataclass(frozen=True)
class ModelConfig:
    """What a model is: its family, the domain it is for, and its latent depth or width.

    ``label`` is the name of a user's own model.
    """

    family: str
    domain: str
    size: int
    published: bool = False
    label: str = ""

    @property
    def name(self) -> str:
        """The name it is loaded by."""
        if self.label:
            return self.label
        if self.family == "autoencoder":
            return f"{self.domain}_latent{self.size}"
        return f"{self.domain}_{self.family}_w{self.size}" + "_published" * self.published

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

MODELS: dict[str, ModelConfig] = {config.name: config for config in PAPER_MODELS} | {
    config.name: config
    for config in (
        ModelConfig("kernel", domain, width, published=True)
        for domain in ("tem", "stem", "temstem")
        for width in published.WIDTHS
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
    for config in (
        ModelConfig("autoencoder", domain, depth)
        for domain in _SIZES["autoencoder"]
        for depth in _SIZES["autoencoder"]["temstem"]
    )
}
"""Every model that can be trained and loaded: any of the paper's depths in any domain, too."""


def find(name: str) -> ModelConfig:
    """Return the configuration of a model.

    Raises:
        ValueError: no model has that name.
    """
    if name not in KNOWN:
        raise ValueError(f"unknown model {name!r}: use one of {', '.join(MODELS)}")
    return KNOWN[name]


def find_autoencoder(dataset: str, latent: int) -> ModelConfig:
    """Return the configuration of an autoencoder; any depth of the paper in any domain.

    Raises:
        ValueError: unknown dataset or latent depth.
    """
    if dataset not in _SIZES["autoencoder"]:
        known = ", ".join(_SIZES["autoencoder"])
        raise ValueError(f"unknown dataset {dataset!r}: use one of {known}")
    depths = _SIZES["autoencoder"]["temstem"]
    if latent not in depths:
        raise ValueError(f"unknown latent depth {latent}: use one of {', '.join(map(str, depths))}")
    return ModelConfig("autoencoder", dataset, latent)


def find_set(name: str) -> tuple[ModelConfig, ...]:
    """Return the members of a lockstep set, narrowest first.

    Raises:
        ValueError: no set has that name.
    """
    if name not in SETS:
        raise ValueError(f"unknown set {name!r}: use one of {', '.join(SETS)}")
    return SETS[name]


def teacher_of(set_name: str) -> str:
    """Return the name of the autoencoder that a set is distilled from (section 3)."""
    return ModelConfig("autoencoder", find_set(set_name)[0].domain, TEACHER_LATENT).name


def make_module(config: ModelConfig) -> nn.Module:
    """Return the Flax module of a configuration."""
    if config.family == "autoencoder":
        return Autoencoder(config.size)
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
    else:
        options = f"distill --set={config.set_name}"
    return f"python -m experiments.{options}"

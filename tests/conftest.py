"""Settings and fixtures of every test: CPU, quick compilation, strict ranks, real data."""

import importlib
import importlib.metadata
import inspect
import os
import pathlib
import tempfile
from collections.abc import Iterator

# Before jax is imported. JAX_PLATFORMS=cuda in the environment lets the tests marked gpu run. Tests
# compile for longer than they run, so XLA is asked for no more than it must do; frozen streams and
# shipped weights are of optimised programs. JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests those.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if os.environ["JAX_PLATFORMS"] == "cpu":
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

_INNERMOST = ("bands", "contexts", "grid", "lattice", "lattice_fit", "rans", "tables", "varints")
_INNERMOST_CHECKED = ("container", "lapped", "latents", "lattice", "rans", "tables")
_VERSIONS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tifffile")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_configure(config: pytest.Config) -> None:
    jax.config.update("jax_numpy_rank_promotion", "raise")
    # One folder per jaxlib: an executable of another version must never be loaded. The small
    # programs that tests are made of pay off only with the time threshold lowered.
    version = importlib.metadata.version("jaxlib")
    cache = pathlib.Path(tempfile.gettempdir()) / f"emd-tests-jaxlib-{version}"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def pytest_report_header(config: pytest.Config) -> str:
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in _VERSIONS)
    return f"{versions}; EMD_DATA={os.environ.get('EMD_DATA', 'unset')}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: run with --slow"))
        if "gpu" in item.keywords and jax.default_backend() != "gpu":
            item.add_marker(pytest.mark.skip(reason="needs a GPU: run with JAX_PLATFORMS=cuda"))


@pytest.fixture
def key() -> jax.Array:
    """A key of its own for each test: the same in every run."""
    return jax.random.key(0)


@pytest.fixture(scope="module")
def optimised() -> Iterator[None]:
    """Programs as users run them, for tests that run for longer than they compile."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True, scope="module")
def _unchecked(request: pytest.FixtureRequest) -> Iterator[None]:
    """The codec's innermost functions without checks at run time, which take most of their time.

    Not in the tests of these functions themselves. jaxtyping reads the mark at each call.
    """
    if request.path.stem in {f"test_codec_{name}" for name in _INNERMOST_CHECKED}:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for name in _INNERMOST:
            module = importlib.import_module(f"emd.codec.{name}")
            owners = [module, *(c for _, c in inspect.getmembers(module, inspect.isclass))]
            for owner in owners:
                for member in vars(owner).values():
                    function = member.fget if isinstance(member, property) else member
                    if getattr(function, "__module__", "") == module.__name__:
                        patch.setattr(function, "__no_type_check__", True, raising=False)
        yield


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder of real micrographs: train/{tem,stem}, eval/{tem,stem} and formats/."""
    folder = os.environ.get("EMD_DATA")
    if not folder:
        pytest.skip("needs real micrographs: set EMD_DATA to their folder")
    path = pathlib.Path(folder)
    if not path.is_dir():
        pytest.fail(f"EMD_DATA={folder} is not a folder")
    return path

"""The rules of the layout, read from the sources: import order, sizes, names, documentation."""

import ast
import pathlib
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Each line may import only from lines above it; modules of one line not from each other. A name
# stands for everything below it, and the longest name that fits a module places it.
ORDER = (
    ("emd",),
    ("emd.metrics", "emd.threads", "emd.memory", "emd.shipped"),
    ("emd.models",),
    ("emd.models.cpu", "emd.models.published", "emd.models.symmetry"),
    ("emd.models.layers", "emd.models.folded"),
    ("emd.models.autoencoder", "emd.models.pixelwise", "emd.models.skip", "emd.models.blindspot"),
    ("emd.data",),
    ("emd.data.calibration", "emd.data.pixels", "emd.data.manifest"),
    ("emd.data.contents", "emd.data.replacing"),
    ("emd.data.tiff",),
    ("emd.data.formats",),
    ("emd.data.source",),
    ("emd.data.micrograph",),
    ("emd.data.normalise",),
    ("emd.data.suspicions",),
    ("emd.data.intensity",),
    ("emd.data.simulate",),
    ("emd.data.crops",),
    ("emd.blocks",),
    ("emd.noise",),
    ("emd.data.truths",),
    ("emd.zoo",),
    ("emd.checkpoint",),
    ("emd.fit", "emd.ensemble", "emd.history", "emd.blindspot_train", "emd.structure"),
    ("emd.blindspot_fit", "emd.putback"),
    ("emd.training",),
    ("emd.training.schedule", "emd.training.objective", "emd.training.padding"),
    ("emd.training.loss",),
    ("emd.training.yardsticks", "emd.training.devices"),
    ("emd.training.autoencoder", "emd.training.lockstep"),
    ("emd.training.rate_aware",),
    ("emd.training.side_by_side",),
    ("emd.tiling", "emd.opencv"),
    ("emd.apply",),
    ("emd.pieces",),
    ("emd.restore",),
    ("emd.trust",),
    ("emd.traced", "emd.lazy", "emd.job"),
    ("emd.restorer", "emd.export", "emd.archive"),
    ("emd.codec",),
    ("emd.cli",),
    ("emd.napari",),
    ("experiments",),
    ("experiments.config",),
    ("experiments.",),  # every other experiment
)
PLAIN = "experiments."
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
# Modules of these packages may import one another as they like: the package is one thing.
ONE_THING = (
    *("emd.data.simulate", "emd.data.formats", "emd.data.crops", "emd.archive"),
    *("emd.codec", "emd.cli", "emd.napari", "emd.trust"),
    PLAIN,
)
# These only hold modules: what is imported from them is a module, and has a place of its own.
PACKAGES = {"emd", "emd.models", "emd.data", "emd.training", "experiments"}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "misc"}
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef


def place(module):
    """The name in ORDER that a module stands under, or None."""
    if module in LEVEL:
        return module
    # A package that only holds modules places none that the order forgot.
    parents = [name for name in LEVEL if module.startswith(f"{name}.") and name not in PACKAGES]
    return max(parents, key=len, default=PLAIN if module.startswith(PLAIN) else None)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class Source(NamedTuple):
    """A module: its name, its path as messages show it, its text and its syntax tree."""

    module: str
    path: str
    text: str
    tree: ast.Module


@pytest.fixture(scope="module")
def sources():
    found = []
    for package in ("emd", "experiments"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            shown = str(path.relative_to(ROOT))
            found.append(Source(module_name(path), shown, text, ast.parse(text)))
    assert len(found) > 200
    return found


def imports(tree):
    """Each module of ours that a module imports, with the line."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.module in PACKAGES:
                modules = [a.name for a in node.names if not a.name.startswith("__")]
                names = [f"{node.module}.{name}" for name in modules]
        for name in names:
            if name.partition(".")[0] in {"emd", "experiments"}:
                yield name, node.lineno


def order_faults(module, tree):
    here = place(module)
    for target, line in imports(tree):
        there = place(target)
        if there is None:
            yield line, f"imports {target}, which has no place in ORDER"
        elif here is not None and here == there and here in ONE_THING:
            continue
        elif here is not None and LEVEL[there] >= LEVEL[here]:
            yield line, f"{module} imports {target}, which comes after it or beside it in ORDER"


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def public(tree):
    """Classes and functions that others may call: none inside a function or a private class."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def key_faults(tree):
    for node in functions(tree):
        positional = [arg.arg for arg in node.args.posonlyargs + node.args.args]
        names = positional + [arg.arg for arg in node.args.kwonlyargs]
        for wrong in {"rng", "prng", "prng_key"}.intersection(names):
            yield node.lineno, f"{node.name}: argument {wrong} must be called key"
        first = [name for name in positional if name not in {"self", "cls"}][:1]
        if "key" in names and first != ["key"]:
            yield node.lineno, f"{node.name}: key must be the first argument"


def flag_faults(tree):
    """Calls that define absl flags outside every function: they would run at import."""
    inside = {id(n) for f in functions(tree) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node) not in inside:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            if name.startswith("DEFINE_") or name == "define_flags":
                yield node.lineno, f"{name} runs at import: call it under __main__"


def size_faults(tree, text):
    count = len(text.splitlines())
    if count > MAX_FILE_LINES:
        yield count, f"{count} lines: at most {MAX_FILE_LINES}"
    for node in functions(tree):
        size = node.end_lineno - node.lineno + 1
        if size > MAX_FUNCTION_LINES:
            yield node.lineno, f"{node.name}: {size} lines: at most {MAX_FUNCTION_LINES}"


def documentation_faults(tree):
    if not ast.get_docstring(tree):
        yield 1, "module without a docstring"
    for node in public(tree):
        # An overload is documented where it is implemented.
        overload = any(ast.unparse(d).endswith("overload") for d in node.decorator_list)
        if not overload and not ast.get_docstring(node):
            yield node.lineno, f"{node.name} without a docstring"


def check(sources, faults):
    """Fail with every line that ``faults`` finds in any source."""
    lines = [f"{s.path}:{line}: {fault}" for s in sources for line, fault in faults(s)]
    if lines:
        pytest.fail("\n" + "\n".join(lines), pytrace=False)


def test_every_module_has_its_place(sources):
    placeless = "has no place in ORDER of tests/test_layout.py: give it one"
    check(sources, lambda s: [] if place(s.module) else [(1, f"{s.module} {placeless}")])


def test_imports_go_one_way(sources):
    check(sources, lambda s: order_faults(s.module, s.tree))


def test_names_say_something(sources):
    check(
        sources,
        lambda s: [
            (1, f"{name} says nothing about what the module owns")
            for name in FORBIDDEN_NAMES.intersection(p.strip("_") for p in s.module.split("."))
        ],
    )


def test_files_and_functions_are_short(sources):
    check(sources, lambda s: size_faults(s.tree, s.text))


def test_key_comes_first(sources):
    check(sources, lambda s: key_faults(s.tree))


def test_no_assert(sources):
    check(
        sources,
        lambda s: [
            (node.lineno, "assert: raise an error that says the remedy")
            for node in ast.walk(s.tree)
            if isinstance(node, ast.Assert)
        ],
    )


def test_no_flags_at_import(sources):
    check(sources, lambda s: flag_faults(s.tree))


def test_everything_public_is_documented(sources):
    check(sources, lambda s: documentation_faults(s.tree))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("emd.models.layers", "from emd.models import autoencoder"),
        ("emd.models.layers", "import emd.models.pixelwise"),
        ("emd.models.pixelwise", "from emd.models.autoencoder import Autoencoder"),
        ("emd.data.normalise", "from emd.data.crops import store"),
        ("emd.data.micrograph", "from emd.data.simulate.optics import transfer"),
        ("emd.training.schedule", "from emd.training import lockstep"),
        ("emd.metrics", "from emd import zoo"),
        ("emd.restore", "def f():\n    from experiments import config"),
        ("experiments.config", "from experiments import zoo"),
        ("emd.zoo", "from emd import utils"),
    ],
)
def test_the_order_catches(module, line):
    """The rules themselves, on sources that break them."""
    assert list(order_faults(module, ast.parse(line)))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("emd.zoo", "from emd.models import autoencoder, pixelwise"),
        ("emd.data.simulate", "from emd.data.simulate.stem import scan"),
        ("emd.data.simulate.stem", "from emd.data.simulate import probe"),
        ("emd.cli", "from emd import __version__, restore"),
        ("experiments.distill", "from experiments import config, pairs"),
        ("emd.metrics", "import jax.numpy as jnp"),
    ],
)
def test_the_order_allows(module, line):
    assert not list(order_faults(module, ast.parse(line)))


@pytest.mark.parametrize(
    ("faults", "text"),
    [
        (key_faults, "def draw(count, key): ..."),
        (key_faults, "def draw(count, *, key): ..."),
        (key_faults, "def draw(rng): ..."),
        (flag_faults, "flags.DEFINE_integer('steps', 1, '')"),
        (flag_faults, "define_flags(Config)"),
    ],
)
def test_the_rules_catch(faults, text):
    assert list(faults(ast.parse(text)))
    assert not list(faults(ast.parse("def draw(self, key, count):\n    flags.DEFINE_string()")))

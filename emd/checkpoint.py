"""Models and training states on disk: the only file that touches orbax.

A model is a folder ``<root>/<name>/`` of ``weights/`` (an orbax tree of ``params`` and
``batch_stats``), ``card.md`` (what it is, and facts as lines ``key: value``) and
``learning_curve.csv``.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp_v0
from flax import linen as nn
from orbax.checkpoint import v1 as ocp

from emd import zoo
from emd.data.replacing import replace_folder
from emd.models import published
from emd.shipped import shipped as shipped

_FENCE = "```"
_UNREADABLE = (ocp.errors.InvalidLayoutError, OSError, ValueError, KeyError)


class Model(NamedTuple):
    """A model ready to apply: its configuration, module, variables, and facts about it."""

    config: zoo.ModelConfig
    module: nn.Module
    variables: dict[str, Any]
    card: dict[str, str]


def find(name: str) -> zoo.ModelConfig:
    """Return the configuration of a model of the zoo, or of one's own, named by its folder.

    Raises:
        ValueError: no model has that name, or the folder's card does not tell what it holds.
        FileNotFoundError: there is no such folder.
    """
    folder = Path(name)
    if folder.name == name and not is_there(folder):
        return zoo.find(name)
    if not is_there(folder):
        raise FileNotFoundError(f"{name}: no model is there: `emd fit` makes one")
    if folder.name in zoo.KNOWN:
        return zoo.find(folder.name)
    card = read_card(folder / "card.md")
    try:
        return zoo.ModelConfig(card["family"], "own", int(card["size"]), label=folder.name)
    except (KeyError, ValueError):
        raise ValueError(f"{name}: its card does not tell family and size: fit it anew") from None


def load(name: str, *, root: str | Path | None = None) -> Model:
    """Return a model by name, from ``root`` or from the weights that come with the code.

    A model of one's own is named by its folder; a name of the zoo never means a folder that happens
    to lie here, but ``./name`` does.

    Raises:
        ValueError: no model has that name.
        FileNotFoundError: it is not there; the message says which command makes it.
    """
    config = find(name)
    if name not in zoo.KNOWN:
        return load_folder(Path(name), config)
    if config.published:
        module = zoo.make_module(config)
        weights = jnp.asarray(published.weights(config.domain, config.size))
        facts = {"source": "arXiv:1808.09916, appendix"}
        return Model(config, module, {"params": {"weights": weights}}, facts)
    return load_folder(_folder_of(name, root), config)


def load_folder(folder: Path, config: zoo.ModelConfig) -> Model:
    """Return the model of a configuration that lies in a folder.

    Raises:
        ValueError: the folder holds no readable weights, or those of another model.
    """
    module = zoo.make_module(config)
    try:
        variables = _read_tree(folder / "weights")
    except _UNREADABLE:
        raise ValueError(f"{folder}: its weights are damaged; train or copy it anew") from None
    probe = jnp.zeros((1, 16, 16))
    expected = jax.tree.map(np.shape, jax.eval_shape(module.init, jax.random.key(0), probe))
    if jax.tree.map(np.shape, variables) != expected:
        raise ValueError(f"{folder}: its weights are not those of a {config.name}; copy it anew")
    arrays = jax.tree.map(jnp.asarray, variables)
    return Model(config, module, arrays, read_card(folder / "card.md"))


def _folder_of(name: str, root: str | Path | None) -> Path:
    folder = Path(root or shipped()) / name
    if is_there(folder):
        return folder
    here = f", or give ./{name}, which is here" if is_there(Path(name)) else ""
    command = zoo.training_command(zoo.find(name))
    raise FileNotFoundError(f"model {name} is not in {folder.parent}: make it by {command}{here}")


def is_there(folder: Path) -> bool:
    """Return whether a folder holds a model."""
    return (folder / "weights").is_dir()


def available(*, root: str | Path | None = None) -> dict[str, dict[str, str]]:
    """Return model name to card facts of all models that are there, published kernels included."""
    found = {}
    for name, config in zoo.KNOWN.items():
        folder = Path(root or shipped()) / name
        if config.published:
            found[name] = load(name).card
        elif is_there(folder):
            found[name] = read_card(folder / "card.md")
    return found


def size_bytes(name: str, *, root: str | Path | None = None) -> int:
    """Return how many bytes a model's weights take on disk; 0 for a published kernel."""
    if zoo.find(name).published:
        return 0
    files = (_folder_of(name, root) / "weights").rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())


def fingerprint(variables: dict[str, Any]) -> str:
    """Return the first 16 hex digits of the SHA-256 of all weights, to name them in records."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def save(model: Model, root: str | Path, *, text: str, curve: str = "") -> Path:
    """Return the folder that a model was saved to, whole or not at all.

    ``text`` is the card's prose, ``curve`` the contents of ``learning_curve.csv``. A model of the
    same name is replaced only once the new one is complete.
    """
    name = model.config.name
    place = Path(root) / name
    with replacing(place) as work:
        _write_tree(work / "weights", model.variables)
        (work / "card.md").write_text(format_card(name, text, model.card))
        if curve:
            (work / "learning_curve.csv").write_text(curve)
    return place


@contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """Yield a folder to fill; without an error it then takes ``place``, else nothing changes."""
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        yield work
        work.chmod(0o755)
        replace_folder(work, place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _read_tree(path: Path) -> Any:
    """Return a tree of arrays from its orbax folder, other processes taking no part."""
    context = ocp.Context()
    if jax.process_count() > 1:
        context.multiprocessing.primary_host = jax.process_index()
        context.multiprocessing.active_processes = {jax.process_index()}
    with context:
        return ocp.load(path.resolve())  # orbax takes absolute paths alone


def _write_alone(path: Path, tree: Any) -> None:
    """Write a tree of arrays as an orbax folder, other processes taking no part."""
    if jax.process_count() == 1:
        ocp.save(path, tree, overwrite=True)
        return
    # v1's `save` waits for all processes whatever its context says
    own = jax.process_index()
    options = ocp_v0.options.MultiprocessingOptions(primary_host=own, active_processes={own})
    handler = ocp_v0.PyTreeCheckpointHandler(multiprocessing_options=options)
    with ocp_v0.Checkpointer(handler, multiprocessing_options=options) as writer:
        writer.save(path, tree, force=True)


def _write_tree(path: Path, tree: Any) -> None:
    """Write a tree of arrays as an orbax folder, whole or not at all.

    Raises:
        OSError: it could not be written, as on a full disk.
    """
    log = logging.getLogger("absl")
    was_disabled, log.disabled = log.disabled, True  # orbax logs a failure's traceback ten times
    try:
        _write_alone(path.resolve(), jax.tree.map(np.asarray, tree))
        # names this machine's folders, and only object stores, which cannot rename, read it
        (path / "commit_success.txt").unlink(missing_ok=True)
    except (OSError, ValueError, RuntimeError) as error:
        for partial in path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*"):
            shutil.rmtree(partial, ignore_errors=True)
        is_full = "No space left" in str(error)
        reason = "no space left on the disk" if is_full else str(error).split("\n")[0][:200]
        raise OSError(
            f"{path}: not saved, {reason}; what was saved before is still there"
        ) from None
    finally:
        log.disabled = was_disabled


def format_card(name: str, text: str, facts: dict[str, str]) -> str:
    """Return a model card in Markdown: title, prose, then the facts in a fence."""
    lines = "\n".join(f"{key}: {value}" for key, value in facts.items())
    return f"# {name}\n\n{text.strip()}\n\n{_FENCE}\n{lines}\n{_FENCE}\n"


def read_card(path: Path) -> dict[str, str]:
    """Return the facts of a model card; none where there is no card."""
    if not path.is_file():
        return {}
    parts = path.read_text().split(_FENCE)
    lines = parts[1].strip().splitlines() if len(parts) > 1 else []
    return dict(line.split(": ", 1) for line in lines if ": " in line)


# --- training states -------------------------------------------------------------------------


def save_state(folder: str | Path, state: Any, step: int, *, keep: int = 2) -> None:
    """Save a training state as ``step`` of a folder; the last ``keep`` stay.

    Older ones go only after this one is complete, so a full disk costs none of them.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    leaves = {f"{i:04d}": leaf for i, leaf in enumerate(jax.tree.leaves(state))}
    _write_tree(folder / str(step), leaves)
    for old in _steps(folder)[:-keep]:
        shutil.rmtree(folder / str(old))


def _steps(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit() and p.is_dir())


def restore_state(folder: str | Path, template: Any) -> tuple[Any, int] | None:
    """Return the newest readable (state, step) of a folder, shaped as ``template``; None if none.

    Raises:
        ValueError: none of the states there is readable, or they are of another configuration.
    """
    folder = Path(folder).resolve()
    for step in reversed(_steps(folder)):
        try:
            stored = _read_tree(folder / str(step))
        except _UNREADABLE:
            logging.getLogger(__name__).warning(
                "%s is damaged: trying an older one", folder / str(step)
            )
            continue
        return _as_template(stored, template, folder), step
    if _steps(folder):
        raise ValueError(f"{folder}: no readable training state; remove it to start anew")
    return None


def _as_template(stored: dict[str, Any], template: Any, folder: Path) -> Any:
    leaves = [stored[key] for key in sorted(stored)]
    expected, structure = jax.tree.flatten(template)
    if [np.shape(leaf) for leaf in leaves] != [np.shape(leaf) for leaf in expected]:
        raise ValueError(
            f"{folder} holds another configuration: give another --workdir, or remove it"
        )
    return jax.tree.unflatten(structure, jax.tree.map(jnp.asarray, leaves))

"""The notebook: executed as a reader would, offline, in a folder of its own."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.data import micrograph

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "checkpoints" / "inspect.ipynb"
TIMEOUT_S = 240
# A program of its own: Jupyter's threads, event loop and deprecations stay out of pytest. The
# kernel is that of the same Python, whatever kernels the machine's user has installed.
RUNNER = f"""
import asyncio, json, sys
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

source, result, kernels = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
specs = KernelSpecManager(kernel_dirs=[kernels], ensure_native_kernel=False)
manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
client = NotebookClient(notebook, km=manager, timeout={TIMEOUT_S}, allow_errors=True)
client.execute()
nbformat.write(notebook, result)
"""


def cells():
    return json.loads(NOTEBOOK.read_text())["cells"]


def sources():
    return ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]


def execute(folder, **values):
    """The notebook's cells after a run in `folder`, variables of its first cell replaced."""
    notebook = json.loads(NOTEBOOK.read_text())
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    lines = [f"{name} = {value!r}\n" for name, value in values.items()]
    first["source"] = [*first["source"], "\n", *lines]
    (folder / "given.ipynb").write_text(json.dumps(notebook))
    (folder / "runner.py").write_text(RUNNER)
    spec = folder / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.joinpath("kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"})
    )
    nowhere = "http://127.0.0.1:9"  # whatever asks the network fails at once
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.02",
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "jupyter"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere),
    }
    names = ("runner.py", "given.ipynb", "done.ipynb", "kernels")
    done = subprocess.run(
        [sys.executable, *(str(folder / name) for name in names)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [
        cell
        for cell in json.loads((folder / "done.ipynb").read_text())["cells"]
        if cell["cell_type"] == "code"
    ]


def outputs(executed, kind):
    return [out for cell in executed for out in cell["outputs"] if out["output_type"] == kind]


def printed(executed, name="stdout"):
    streams = [out for out in outputs(executed, "stream") if out["name"] == name]
    return "".join("".join(out["text"]) for out in streams)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    return execute(tmp_path_factory.mktemp("notebook"))


def test_it_runs_through_without_a_word_on_stderr(executed):
    assert [error["evalue"] for error in outputs(executed, "error")] == []
    assert all(cell["execution_count"] for cell in executed)
    assert printed(executed, "stderr") == ""


def test_it_lists_every_model_with_every_fact(executed):
    trained = [
        name
        for name in checkpoint.available()
        if not zoo.find(name).published and checkpoint.shipped() == NOTEBOOK.parent
    ]
    tables = [
        "".join(out["data"]["text/html"])
        for out in outputs(executed, "display_data")
        if "text/html" in out["data"]
    ]
    assert len(tables) == 1
    assert tables[0].count("<tr>") == 1 + len(trained)
    for name in trained:
        assert f'title="{name}"' in tables[0]
        for value in checkpoint.read_card(NOTEBOOK.parent / name / "card.md").values():
            assert value.replace("'", "&#x27;") in tables[0]


def test_it_reads_weights_with_orbax_alone(executed):
    text = printed(executed)
    assert "emd was imported: False" in text
    assert "params/weights (10,) float32" in text


def test_its_kernel_is_the_models(executed):
    weights = np.asarray(checkpoint.load("stem_kernel_w7").variables["params"]["weights"])
    counts = np.array([1, 4, 4, 4, 8, 4, 4, 8, 8, 4])  # places that share a weight, from inside out
    assert f"7 x 7, sum {counts @ weights:.3f}" in printed(executed)


def test_it_draws_kernel_latent_and_restorations(executed):
    pictures = [out for out in outputs(executed, "display_data") if "image/png" in out["data"]]
    assert len(pictures) == 3


def test_it_restores_the_readers_image(tmp_path):
    draws = np.random.default_rng(0)
    pixels = draws.poisson(20, (2, 70, 90)).astype(np.uint16)
    micrograph.write(tmp_path / "mine.tif", micrograph.Micrograph(pixels, (0.1, 0.1), "nm"))
    done = execute(tmp_path, IMAGE=str(tmp_path / "mine.tif"), SAVE_AS="out.tif")
    assert outputs(done, "error") == []
    assert "2x70x90 uint16 from" in printed(done)
    saved = micrograph.read(tmp_path / "out.tif")
    assert (saved.pixels.shape, saved.dtype, saved.unit) == ((2, 70, 90), np.uint16, "nm")
    assert saved.metadata["emd"][-1]["model"] == "stem_mlp1_w7"
    assert saved.pixels.std() < 0.7 * pixels.std()


# --- the set-up, where there is no checkout -----------------------------------------------------


@pytest.fixture
def abroad(tmp_path, monkeypatch):
    """A folder outside the checkout, where no `emd` is installed; lists the commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    commands = []

    def run(command, *, check):
        assert check
        commands.append(command)
        if "clone" in command:
            folder = tmp_path / command[-1]
            (folder / "emd").mkdir(parents=True)
            (folder / "emd" / "zoo.py").touch()
            (folder / "checkpoints").mkdir()

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def set_up(repository):
    """The variables after the cells up to the one that finds the code."""
    space = {}
    for source in sources()[:3]:
        exec(source, space)
        if "REPOSITORY" in source and "IN_COLAB" not in space:
            space["REPOSITORY"] = repository
    return space


def test_it_clones_where_there_is_no_checkout(abroad, tmp_path):
    space = set_up("https://example.org/me/emd")
    assert abroad == [["git", "clone", "--depth=1", "https://example.org/me/emd", "emd-checkout"]]
    assert space["CHECKPOINTS"] == tmp_path / "emd-checkout" / "checkpoints"
    assert sys.path[0] == str(tmp_path / "emd-checkout")


def test_it_installs_in_colab(abroad, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", object())
    space = set_up("https://example.org/me/emd")
    assert abroad[1][1:4] == ["-m", "pip", "install"]
    assert abroad[1][-1] == f"{space['CODE']}[plot]"


def test_without_an_address_it_says_what_to_set(abroad):
    with pytest.raises(ValueError, match="set REPOSITORY in the first cell"):
        set_up("https://github.com/OWNER/emd")
    assert abroad == []


def test_inside_a_checkout_it_fetches_nothing(abroad, monkeypatch):
    monkeypatch.chdir(NOTEBOOK.parent)
    space = set_up("https://github.com/OWNER/emd")
    assert abroad == []
    assert space["CODE"] == ROOT


# --- the file itself ----------------------------------------------------------------------------


def test_the_address_stands_in_one_place():
    text = NOTEBOOK.read_text()
    assert text.count("github.com") == 1
    assert sources()[0].count("REPOSITORY =") == 1


def test_cells_are_short_and_have_no_outputs():
    for cell in cells():
        assert len(cell["source"]) <= 24, cell["source"][0]
        assert cell["metadata"] == {}
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    assert NOTEBOOK.stat().st_size < 20_000


def test_the_models_it_names_are_shipped():
    names = {}
    for node in ast.parse(sources()[0]).body:
        names[node.targets[0].id] = ast.literal_eval(node.value)
    for variable in ("KERNEL", "AUTOENCODER", "RESTORE_BY"):
        assert checkpoint.is_there(NOTEBOOK.parent / names[variable])

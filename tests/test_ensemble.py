"""The mean over the eight symmetries: what NumPy makes of it, and the law that it brings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd import checkpoint, zoo
from emd.cli import choice, main
from emd.data import micrograph
from emd.data.micrograph import Micrograph
from emd.ensemble import ensemble, one_pass
from emd.models.skip import Skip
from emd.restore import denoise
from emd.restorer import Restorer


@pytest.fixture(scope="module")
def plain():
    module = Skip(3)

    @jax.jit
    def stirred(key):
        return jax.tree.map(
            lambda leaf: leaf + 0.05 * jax.random.normal(jax.random.key(leaf.size), leaf.shape),
            module.init(key, jnp.ones((1, 16, 16))),
        )

    variables = stirred(jax.random.key(0))
    return checkpoint.Model(zoo.find("stem_skip48_clean"), module, variables, {})


def counts(shape):
    return np.random.default_rng(1).poisson(9.0, shape).astype(np.float32)


def test_is_the_mean_of_all_flips_and_turns(plain):
    x = counts((1, 48, 48)) / 9
    both = ensemble(plain)
    found = jax.jit(both.module.apply)(both.variables, jnp.asarray(x))[0]
    apply, wanted = jax.jit(plain.module.apply), []
    for swap in (False, True):
        for rows in (1, -1):
            for columns in (1, -1):
                image = x[0].T if swap else x[0]
                seen = jnp.asarray(np.ascontiguousarray(image[::rows, ::columns]))
                made = np.asarray(apply(plain.variables, seen[None])[0])
                made = made[::rows, ::columns]
                wanted.append(made.T if swap else made)
    np.testing.assert_allclose(found, np.mean(wanted, 0), atol=1e-5)


def test_a_turned_image_is_restored_turned(plain):
    image, both = counts((64, 64)), ensemble(plain)
    whole = denoise(image, both)
    assert np.abs(whole - denoise(image, plain)).max() > 1e-2
    turned = denoise(np.rot90(image).copy(), both)
    np.testing.assert_allclose(turned, np.rot90(whole), atol=1e-3)
    lone = denoise(np.rot90(image).copy(), plain)
    assert np.abs(lone - np.rot90(denoise(image, plain))).max() > 1e-2


def test_tiles_and_the_traced_form_equal_the_whole(plain):
    image, both = counts((90, 130)), ensemble(plain)
    whole = denoise(image, both)
    np.testing.assert_allclose(denoise(image, both, tile_px=48), whole, atol=1e-3)
    np.testing.assert_allclose(Restorer(both)(jnp.asarray(image)), whole, atol=1e-3)


def test_kernels_stay_and_perceptrons_are_refused():
    kernel = checkpoint.load("tem_kernel_w3")
    assert ensemble(kernel) is kernel
    with pytest.raises(ValueError, match="tem_mlp1_w3 is a perceptron"):
        ensemble(checkpoint.load("tem_mlp1_w3"))


def test_one_pass_is_the_network_again(plain):
    again = one_pass(ensemble(plain))
    assert again.config.name == plain.config.name
    assert again[1:] == plain[1:]
    assert one_pass(plain) is plain


def test_the_command_says_what_it_took(tmp_path, capsys):
    image = counts((40, 56))
    micrograph.write(tmp_path / "a.tif", Micrograph(image))
    given = [str(tmp_path / "a.tif"), "-o", str(tmp_path / "b.tif"), "--model", "tem_latent1"]
    assert main(["denoise", *given, "--ensemble"]) == 0
    assert "tem_latent1_ensemble on cpu" in capsys.readouterr().out
    made = micrograph.read(tmp_path / "b.tif")
    assert made.metadata["emd"][-1]["model"] == "tem_latent1_ensemble"
    model = checkpoint.load("tem_latent1")
    np.testing.assert_allclose(made.pixels, denoise(image, ensemble(model)), rtol=1e-4)
    given[-1] = "tem_mlp1_w3"
    assert main(["denoise", *given, "--ensemble", "--overwrite"]) == 1
    assert "is a perceptron" in capsys.readouterr().err.splitlines()[-1]


def test_where_auto_takes_a_perceptron_the_file_and_a_remedy_are_named(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(choice._MODELS, "TEM", ("tem_latent1", "the file says TEM"))
    monkeypatch.setattr(choice, "OTHERWISE", ("temstem_mlp1_w7", choice.OTHERWISE[1]))
    monkeypatch.chdir(tmp_path)
    micrograph.write("plain.tif", Micrograph(counts((40, 56))))
    micrograph.write("tem.tif", Micrograph(counts((40, 56)), metadata={"mode": "TEM"}))
    wanted = (
        "plain.tif: the file does not say whether TEM or STEM, and temstem_mlp1_w7 is a "
        "perceptron: the ensemble is of networks alone, so name one with --model, such as "
        "stem_skip48_clean"
    )
    assert main(["denoise", "plain.tif", "-o", "out.tif", "--ensemble"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {wanted}"
    for done in ("1 done, 0 skipped", "0 done, 1 skipped (done before)"):
        assert main(["denoise", "plain.tif", "tem.tif", "-o", "out/", "--ensemble"]) == 1
        said = capsys.readouterr().err.splitlines()
        assert f"error: {wanted}" in said
        assert f"{done}, 1 failed" in said

"""The weights of lapped streams: those shipped never change, and the command makes such ones."""

import numpy as np
import pytest

from emd.codec import contexts, lapped, lapped_weights, tables, weights
from emd.codec.bands import FEATURES, PHASES
from emd.codec.lapped_layout import layout
from emd.data import crops
from emd.data.contents import FormatError
from experiments import codec_lapped, training_data


def test_the_shipped_weights_are_those_that_streams_were_written_with():
    assert lapped_weights.find("lapped-v1").fingerprint == "902ce475378be71d"


def test_another_fingerprint_is_an_error_that_says_what_to_do():
    with pytest.raises(FormatError, match=r"fingerprint 0{16}.*install") as caught:
        lapped_weights.find("lapped-v1", "0" * 16)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["lapped-v99", "../lapped-v1", "", "x" * 500])
def test_weights_that_are_not_here_are_an_error(name):
    with pytest.raises(FormatError, match="which are not here"):
        lapped_weights.find(name)


@pytest.mark.parametrize("side", lapped.SIDES)
def test_weights_are_whole_numbers_above_0_for_each_phase_and_shell(side):
    found = lapped_weights.find().known[side].weights
    assert found.shape == (PHASES, len(layout(side).shells), FEATURES)
    assert found.min() >= 0
    # what lies around the mean says most of it; of others their own place and neighbours
    assert found[1:, 1:].sum(-1).min() > 0


def test_weights_survive_packing():
    found = lapped_weights.find()
    again = lapped_weights.unpack("lapped-v1", lapped_weights.pack(found.known))
    assert again.fingerprint == found.fingerprint
    for side in lapped.SIDES:
        assert np.array_equal(again.known[side].weights, found.known[side].weights)
        pairs = zip(again.known[side].models, found.known[side].models, strict=True)
        assert all(one.entries == other.entries for one, other in pairs)


def test_the_command_makes_weights_that_code(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(draw.normal(size=(96, 96)), 0), 1)
    image = crops.Image(smooth.astype(np.float32), "a", "made", "tem")
    made = training_data.TrainingData([image, image], smooth[None], smooth[None], {"dataset": "x"})
    monkeypatch.setattr(training_data, "prepare", lambda *_: made)
    config = codec_lapped.Config(version=7, workdir=str(tmp_path))
    assert codec_lapped.run(config) == {"blocks": 2}
    folder = tmp_path / "streams" / "lapped-v7"
    found = lapped_weights.unpack("lapped-v7", weights.read(folder / "weights.npz"))
    assert found.fingerprint in (folder / "card.md").read_text()
    assert found.known[8].weights.any()
    # fitted to numbers of both kinds: what is expected to be larger is coded by wider tables
    scales = [e.kind.scale + 4 * e.shift for e in found.known[8].models[1].entries]
    assert scales[-1] > scales[4]


def test_weights_find_the_rule_that_numbers_follow():
    """Magnitudes drawn from three parts of one feature and one of another."""
    draw = np.random.default_rng(1)
    known = draw.exponential(size=(FEATURES, 50_000))
    wanted = np.abs(draw.laplace(scale=3 * known[1] + known[4]))
    found = codec_lapped._reweighted(known, wanted)
    assert found == pytest.approx([0, 3, 0, 0, 1, 0], abs=0.08)


def test_contexts_of_weights_cover_all_activities():
    for model in lapped_weights.find().known[8].models:
        assert len(model.entries) == contexts.CONTEXTS
        assert all(0 <= e.kind.scale < tables.SCALES for e in model.entries)

"""Latents in streams: the numbers' coding, weights and their fingerprint, frames and regions."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emd import checkpoint, restore
from emd.codec import latent_numbers, latents, weights
from emd.codec.latent_numbers import Knowledge
from emd.data.contents import FormatError
from emd.data.normalise import Scale
from experiments import codec_autoencoder, latent_contexts

DEPTH = 2
SHAPES = [(1, 1), (1, 7), (5, 2), (4, 4), (17, 9), (64, 64)]


def smooth(shape, seed=0, size=3.0):
    """Numbers >= 0 that neighbours and channels tell of each other."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    first = size * (1 + np.sin(rows / 5 + columns / 7)) + random.normal(0, 0.5, shape)
    second = 0.7 * first + random.normal(0, 0.5, shape)
    return np.rint(np.stack([first, second], -1)).clip(0).astype(np.int64)


@pytest.fixture(scope="module", autouse=True)
def _short_fits():
    """A few iterations are enough here; the program of a fit is compiled with their number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_contexts, "ITERATIONS", 60)
        yield
    latent_contexts._improved.clear_cache()


@pytest.fixture(scope="module")
def knowledge():
    """A context model fitted to such numbers."""
    blocks = [smooth((40, 40), seed).astype(np.float64) * 0.4 for seed in range(6)]
    return latent_contexts.fit(blocks, ((0.1,), (0.4,), (0.8,)))


# --- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", [500, 1600, 4000])
def test_numbers_come_back(knowledge, shape, step):
    numbers = smooth(shape, 9, size=6400 / step)
    chunk = latent_numbers.encode(numbers, knowledge, step)
    found = latent_numbers.decode(chunk, shape, knowledge, step)
    np.testing.assert_array_equal(found, numbers)


@pytest.mark.parametrize("numbers", [0, 1, 1000, latent_numbers.LARGEST])
def test_numbers_that_nothing_prepared_for_come_back(knowledge, numbers):
    block = np.zeros((9, 6, DEPTH), np.int64)
    block[::2, 1::3] = numbers
    chunk = latent_numbers.encode(block, knowledge, 1600)
    np.testing.assert_array_equal(latent_numbers.decode(chunk, (9, 6), knowledge, 1600), block)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_cell_is_taken_once_after_those_around_it(shape):
    done = np.zeros(shape, bool)
    for cells in latent_numbers.places(*shape):
        # at a grid of one row or column a cell may stand for its own neighbour
        if min(shape) > 1:
            assert done[cells.around].all()
        assert not done[cells.rows, cells.columns].any()
        done[cells.rows, cells.columns] = True
        assert cells.phase < latent_numbers.PHASES
    assert done.all()


def test_the_cost_is_near_what_is_to_be_told(knowledge):
    """Independent noise of deviation 0.5 in each of two channels, rounded, and little more."""
    numbers = smooth((64, 64), 11, size=4.0)
    flat = numbers.reshape(-1, DEPTH)
    alone = 0.0
    for channel in flat.T:
        chances = np.bincount(channel) / len(channel)
        chances = chances[chances > 0]
        alone -= float((chances * np.log2(chances)).sum())
    bits = 8 * len(latent_numbers.encode(numbers, knowledge, 1600)) / len(flat)
    assert bits < 0.75 * alone


def predictions_by_hand(numbers, knowledge, step):
    """Contexts' inputs in Python's own integers: no array, no rounding."""
    high, wide, depth = numbers.shape
    chosen = latent_numbers.range_of(step)
    origin = [(32 * int(m) + step) // (2 * step) for m in knowledge.mean]
    above, missed, found = {}, {}, []
    for cells in latent_numbers.places(high, wide):
        p = chosen, cells.phase
        for c in range(depth):
            for n, (y, x) in enumerate(
                zip(cells.rows.tolist(), cells.columns.tolist(), strict=True)
            ):
                around = list(zip(*(part[:, n].tolist() for part in cells.around), strict=True))
                total = sum(
                    above[*cell, d] * int(knowledge.around[p][k * depth + d, c])
                    for k, cell in enumerate(around)
                    for d in range(depth)
                )
                total += sum(above[y, x, d] * int(knowledge.before[p][d, c]) for d in range(c))
                expected = int(knowledge.least[p][c])
                expected += sum(
                    missed[*cell, d] * int(knowledge.miss_around[p][d, c])
                    for cell in around
                    for d in range(depth)
                )
                expected += sum(
                    missed[y, x, d] * int(knowledge.miss_before[p][d, c]) for d in range(c)
                )
                if around:
                    values = [above[*cell, c] for cell in around]
                    differ = abs(values[0] - values[3]) + abs(values[1] - values[2])
                    expected += differ * int(knowledge.unrest[p][c])
                predicted = max(0, origin[c] + (total + 2**13 >> 14))
                found.append((c, predicted, expected >> 10))
                above[y, x, c] = 16 * int(numbers[y, x, c]) - origin[c]
                missed[y, x, c] = abs(16 * int(numbers[y, x, c]) - predicted)
    return found


def test_what_is_expected_is_worked_out_in_integers(knowledge):
    numbers, step = smooth((13, 9), 4), 1600
    block = latent_numbers.Block((13, 9), knowledge, step)
    got = []
    for cells in latent_numbers.places(13, 9):
        block.enter(cells)
        for channel in range(DEPTH):
            known = block.expect(channel)
            block.put(channel, known, numbers[cells.rows, cells.columns, channel])
            rows = zip(known.predicted.tolist(), known.expected.tolist(), strict=True)
            got += [(channel, *row) for row in rows]
    assert got == predictions_by_hand(numbers, knowledge, step)


@pytest.fixture(scope="module")
def small_chunk(knowledge):
    return latent_numbers.encode(smooth((6, 5), 2), knowledge, 1600)


def test_a_chunk_that_is_cut_short_is_refused(knowledge, small_chunk):
    for size in range(len(small_chunk)):
        with pytest.raises(FormatError):
            latent_numbers.decode(small_chunk[:size], (6, 5), knowledge, 1600)
    with pytest.raises(FormatError):
        latent_numbers.decode(small_chunk + b"\0\0", (6, 5), knowledge, 1600)


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_refused_or_numbers(knowledge, data):
    try:
        found = latent_numbers.decode(data, (3, 4), knowledge, 1600)
    except FormatError:
        return
    assert 0 <= found.min() <= found.max() <= latent_numbers.LARGEST


# --- weights -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arrays():
    """The weights of a stream: those of a small autoencoder of the zoo, contexts of no training."""
    start = checkpoint.load("temstem_latent2")
    random = np.random.default_rng(0)
    blocks = [random.exponential(0.5, (12, 12, DEPTH)) for _ in range(3)]
    return {
        **codec_autoencoder._flat(start.variables),
        "channel_steps": np.array([0.5, 0.8], np.float32),
        **weights.pack_knowledge(latent_contexts.fit(blocks, ((0.1,), (0.3,), (0.8,)))),
    }


NAME = "temstem_latent2-v1"


@pytest.fixture
def folder(arrays, tmp_path, monkeypatch):
    """A folder of weights in the place of those shipped."""
    place = tmp_path / "streams" / NAME
    place.mkdir(parents=True)
    np.savez(place / "weights.npz", **arrays)
    monkeypatch.setattr(weights, "shipped", lambda: tmp_path)
    weights._load.cache_clear()
    yield place
    weights._load.cache_clear()


def test_weights_are_found_by_name_and_fingerprint(folder, arrays):
    found = weights.find(NAME)
    assert found.fingerprint == weights.digest(arrays)
    assert found.depth == DEPTH
    assert weights.find(NAME, found.fingerprint) is found
    for name in Knowledge._fields[:-1]:
        np.testing.assert_array_equal(getattr(found.knowledge, name), arrays[f"contexts/{name}"])


def test_other_weights_are_refused(folder):
    with pytest.raises(FormatError, match=rf"fingerprint 0{{16}}.*checkpoints/streams/{NAME}"):
        weights.find(NAME, "0" * 16)


@pytest.mark.parametrize("name", ["temstem_latent2-v9", "..", "a/b", "", "no such", "x" * 300])
def test_missing_weights_say_what_brings_them(folder, name):
    with pytest.raises(FormatError, match="not here: install"):
        weights.find(name)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"no archive"])
def test_damaged_weights_are_refused(folder, content):
    (folder / "weights.npz").write_bytes(content)
    with pytest.raises(FormatError, match="damaged"):
        weights.find(NAME)


def test_weights_that_lack_an_array_are_refused(folder, arrays):
    np.savez(folder / "weights.npz", **{k: v for k, v in arrays.items() if k != "contexts/mean"})
    with pytest.raises(FormatError, match="damaged"):
        weights.find(NAME)


def test_the_fingerprint_tells_every_change(arrays):
    known = weights.digest(arrays)
    assert weights.digest(dict(reversed(arrays.items()))) == known
    name = "channel_steps"
    for other in (arrays[name] * 2, arrays[name].astype(np.float64), arrays[name][None]):
        assert weights.digest({**arrays, name: other}) != known
    assert weights.digest({**arrays, "more": np.zeros(1)}) != known


# --- frames ------------------------------------------------------------------------------------


@pytest.fixture
def found(folder):
    return weights.find(NAME)


def frame(shape, dtype=np.uint16):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (1000 + 400 * np.sin(rows / 9) + 300 * np.cos(columns / 11)).astype(dtype)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (37, 50), (64, 24)])
def test_a_frame_comes_back_as_its_numbers_say(found, shape):
    pixels = frame(shape)
    analysed = latents.analyse(pixels, found)
    numbers = latents.quantise(analysed, 800)
    assert numbers.shape == (*latents.grid(shape), DEPTH)
    assert numbers.min() >= 0
    side, chunks = latents.encode(analysed, found, 800)
    decoded = latents.decode(chunks.__getitem__, side, shape, found, 800)
    whole = latents.synthesise(numbers, found, 800, latents.read_scale(side), shape)
    np.testing.assert_array_equal(decoded, whole)
    assert decoded.shape == shape
    assert np.isfinite(decoded).all()


def test_small_steps_give_what_the_network_gives(found):
    """Away from the border, where the codec repeats what the network sees reflected."""
    pixels = frame((80, 96))
    model = found.network
    expected = restore.decode(restore.encode(pixels, model), model)
    analysed = latents.analyse(pixels, found)
    side, chunks = latents.encode(analysed, found, latents.STEPS[0])
    got = latents.decode(chunks.__getitem__, side, (80, 96), found, latents.STEPS[0])
    inner = np.s_[8:-8, 8:-8]
    spread = float(np.ptp(pixels))
    np.testing.assert_allclose(got[inner], expected[inner], atol=0.02 * spread)


def test_a_region_is_the_frames_and_reads_no_more_than_it_needs(found, monkeypatch):
    monkeypatch.setattr(latents, "BLOCK_CELLS", 4)
    shape = (100, 140)
    side, chunks = latents.encode(latents.analyse(frame(shape), found), found, 800)
    assert len(chunks) == 4 * 5
    whole = latents.decode(chunks.__getitem__, side, shape, found, 800)
    for region in [(0, 100, 0, 140), (40, 60, 70, 90), (99, 100, 139, 140), (0, 1, 0, 1)]:
        asked = []

        def chunk(number, asked=asked):
            asked.append(number)
            return chunks[number]

        y0, y1, x0, x1 = region
        part = latents.decode(chunk, side, shape, found, 800, region)
        np.testing.assert_allclose(part, whole[y0:y1, x0:x1], atol=0.05)
        needed = {
            row * 5 + column
            for row in range(4)
            for column in range(5)
            if row * 32 - 8 < y1 + 7 and row * 32 + 40 > y0 - 7
            if column * 32 - 8 < x1 + 7 and column * 32 + 40 > x0 - 7
        }
        assert set(asked) <= needed
        assert len(asked) == len(set(asked))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
def test_every_type_goes_in(found, dtype):
    pixels = (frame((24, 32)) // 8).astype(dtype)
    analysed = latents.analyse(pixels, found)
    expected = latents.analyse(frame((24, 32)) // 8, found)
    np.testing.assert_allclose(analysed.latent, expected.latent, rtol=1e-4, atol=1e-5)
    assert analysed.scale == Scale(float(pixels.min()), pytest.approx(expected.scale.mean))


def test_a_constant_frame_comes_back(found):
    pixels = np.full((20, 30), 7, np.uint16)
    side, chunks = latents.encode(latents.analyse(pixels, found), found, 400)
    got = latents.decode(chunks.__getitem__, side, (20, 30), found, 400)
    np.testing.assert_array_equal(got, 7)


@pytest.mark.parametrize(
    "side", [b"", b"\0" * 11, b"\0" * 13, np.float64(np.nan).tobytes() + b"\0" * 4]
)
def test_damaged_side_information_is_refused(side):
    with pytest.raises(FormatError, match="normalisation is damaged"):
        latents.read_scale(side)


def test_steps_out_of_bounds_are_refused(found):
    analysed = latents.analyse(frame((8, 8)), found)
    with pytest.raises(ValueError, match="give one from"):
        latents.quantise(analysed, 0)
    side, chunks = latents.encode(analysed, found, 400)
    with pytest.raises(FormatError, match="holds a step"):
        latents.decode(chunks.__getitem__, side, (8, 8), found, 0)


# --- what is shipped ---------------------------------------------------------------------------


@functools.cache
def is_shipped():
    return (checkpoint.shipped() / "streams" / weights.NEWEST["temstem_latent16"]).is_dir()


@pytest.mark.skipif(not is_shipped(), reason="no weights of streams here")
def test_shipped_weights_are_those_that_streams_were_written_with():
    """Never change this fingerprint: give better weights another version."""
    assert weights.find("temstem_latent16").fingerprint == "4328bd1a3d8f6551"

"""Fields of columns: rendered as NumPy does, on the lattice asked for, exposed as electrons are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.data.simulate import haadf

SIDE = 96


def field(lattice, seed=0, side=SIDE):
    cells = haadf.cells_needed(lattice.cell_px, side)
    return haadf.draw(jax.random.key(seed), lattice, side_px=side, cells=cells)


def perfect(lattice):
    return lattice._replace(vacancies=0.0, displacement_px=0.0, background=0.0)


def inside(places, side=SIDE, edge=0.0):
    return ((places >= edge) & (places <= side - 1 - edge)).all(1)


def test_renders_the_sum_of_gaussians():
    places = np.array([[10.3, 20.7], [12.0, 24.0], [-3.0, 5.0]])
    weights = np.array([1.0, 0.3, 0.8])
    made = haadf.render(
        jnp.asarray(places, jnp.float32),
        jnp.asarray(weights, jnp.float32),
        side_px=32,
        probe_px=2.2,
    )
    rows, columns = np.mgrid[:32, :32]
    wanted = np.zeros((32, 32))
    for (y, x), weight in zip(places, weights, strict=True):
        dy, dx = np.abs(rows - y) / 2.2, np.abs(columns - x) / 2.2
        wanted += weight * np.exp(-(dy**2 + dx**2) / 2) * (np.maximum(dy, dx) <= 4)
    np.testing.assert_allclose(made, wanted, atol=1e-6)


def test_a_large_field_is_the_sum_of_its_parts(monkeypatch):
    random = np.random.default_rng(0)
    places = jnp.asarray(random.uniform(-5, 69, (70, 2)), jnp.float32)
    weights = jnp.asarray(random.random(70), jnp.float32)
    whole = haadf.render(places, weights, side_px=64, probe_px=2.2)
    monkeypatch.setattr(haadf, "_BLOCK", 32)
    parts = haadf.render(places, weights, side_px=64, probe_px=2.2)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("lattice", "nearest", "neighbours"),
    [(haadf.hexagonal(12.0), 12.0, 3), (haadf.binary(14.0), 14 / 2**0.5, 4)],
)
def test_neighbours_lie_as_the_lattice_says(lattice, nearest, neighbours):
    places = np.asarray(field(perfect(lattice)).positions_px)
    middle = places[inside(places, edge=20.0)]
    apart = np.linalg.norm(middle[:, None] - places[None], axis=2)
    apart.sort(1)
    np.testing.assert_allclose(apart[:, 1 : 1 + neighbours], nearest, atol=1e-3)
    assert (apart[:, 1 + neighbours] > nearest * 1.3).all()


def test_columns_cover_the_field_as_densely_as_the_cell_says():
    for seed in range(4):
        for lattice, area in ((haadf.hexagonal(9.0), 1.299 * 81), (haadf.binary(11.0), 121 / 2)):
            places = np.asarray(field(perfect(lattice), seed).positions_px)
            assert inside(places).sum() == pytest.approx(SIDE**2 / area, rel=0.12)
            # up to the corners: no column is missing where the field ends
            for corner in ([0, 0], [0, SIDE - 1], [SIDE - 1, 0], [SIDE - 1, SIDE - 1]):
                assert np.linalg.norm(places - corner, axis=1).min() < 11


def test_vacancies_displacements_and_background_are_those_asked_for():
    lattice = haadf.hexagonal(6.0)._replace(vacancies=0.12, displacement_px=0.5, background=0.2)
    loose, tight = field(lattice, side=256), field(perfect(lattice), side=256)
    own = inside(np.asarray(tight.positions_px), 256)
    share = np.mean(np.asarray(loose.weights)[own] == 0)
    assert share == pytest.approx(0.12, abs=4 * (0.12 * 0.88 / own.sum()) ** 0.5)
    moved = np.asarray(loose.positions_px - tight.positions_px)[own]
    np.testing.assert_allclose(moved.std(0), 0.5, rtol=0.1)
    empty = lattice._replace(weights=jnp.zeros(2))
    ground = np.asarray(field(empty).clean)
    assert ground.min() == pytest.approx(0, abs=1e-6)
    assert ground.max() == pytest.approx(0.2, abs=1e-6)


def test_a_lone_column_peaks_at_the_dose():
    lattice = perfect(haadf.binary(60.0, faint=0.0))
    seen = haadf.expose(jax.random.key(1), field(lattice).clean, dose=40.0)
    assert float(seen.clean.max()) == pytest.approx(40, rel=0.05)


def test_noise_is_that_of_electrons_and_readout():
    flat = jnp.full((256, 256), 0.25)
    counts = np.asarray(haadf.expose(jax.random.key(2), flat, dose=20.0, readout=0.5).counts)
    assert counts.mean() == pytest.approx(5, abs=0.05)
    assert counts.var() == pytest.approx(5 + 0.25, rel=0.03)
    assert counts.min() < 0
    silent = np.asarray(haadf.expose(jax.random.key(2), flat, dose=20.0, readout=0.0).counts)
    np.testing.assert_array_equal(silent, np.rint(silent))


def test_a_key_gives_one_field_and_another_key_another():
    one, same, other = (field(haadf.hexagonal(), seed).clean for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.abs(np.asarray(one - other)).max() > 0.1


def test_drawn_lattices_fill_a_field():
    cells = haadf.most_cells(64)
    for seed in range(12):
        key = jax.random.key(seed)
        lattice = haadf.drawn(key)
        assert haadf.cells_needed(lattice.cell_px, 64) <= cells
        clean = np.asarray(haadf.draw(key, lattice, side_px=64, cells=cells).clean)
        assert np.isfinite(clean).all()
        assert clean.min() >= 0
        assert clean.max() > 0.3


def test_the_benchmarks_lattices_are_its_two():
    drawn = jax.vmap(haadf.benchmark)(jax.random.split(jax.random.key(5), 200))
    is_square = np.asarray(drawn.weights[:, 1] < 1)
    assert 0.35 < is_square.mean() < 0.65
    for number, square in enumerate(is_square):
        due = haadf.binary() if square else haadf.hexagonal()
        np.testing.assert_array_equal(drawn.cell_px[number], due.cell_px)
        np.testing.assert_array_equal(drawn.basis[number, :2], due.basis)
        np.testing.assert_array_equal(drawn.weights[number], [*due.weights, 0])
    for name in ("probe_px", "vacancies", "displacement_px", "background"):
        np.testing.assert_allclose(getattr(drawn, name), getattr(haadf.hexagonal(), name))


def test_lattices_sampled_alike_are_near_the_benchmark_or_of_any_kind():
    drawn = jax.vmap(haadf.sampled_alike)(jax.random.split(jax.random.key(5), 500))
    width, basis = np.asarray(drawn.probe_px), np.asarray(drawn.basis)
    assert 1.4 <= width.min() < 1.5
    assert 3.3 < width.max() <= 3.4
    is_near = (width >= 2.0) & (width <= 2.4)
    assert is_near.mean() == pytest.approx(0.6 + 0.4 * 0.2, abs=0.06)
    nearest = np.linalg.norm(np.asarray(drawn.cell_px), axis=2).min(1)
    assert nearest.min() >= 5.5
    assert nearest.max() <= 22 * 3**0.5  # a honeycomb's cell is larger than its spacing
    weights = np.asarray(drawn.weights)
    np.testing.assert_array_equal(weights.max(1), 1)
    # a third of the others has an oblique cell, with a third column of its own
    is_oblique = (basis[:, 2] != 0).any(1)
    assert is_oblique.mean() == pytest.approx(0.4 / 3, abs=0.05)

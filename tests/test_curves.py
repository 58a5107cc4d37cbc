"""Learning curves: appended, rewound to a checkpoint, read after a kill, thinned and drawn."""

import numpy as np
import pytest

from experiments import curves
from experiments.curves import Curve


def rows(path):
    return curves.parse(path.read_text())[1]


def test_rows_are_batches(tmp_path):
    path = tmp_path / "new" / "curve.csv"
    curve = Curve(path)
    curve.append(1, np.array([3.0, 2.0]), 1.0)
    curve.append(3, np.array([0.123456789]), 2.5)
    assert path.read_text() == "batch,mse,seconds\n1,3,1.0\n2,2,1.0\n3,0.123457,2.5\n"
    np.testing.assert_array_equal(curve.last(), [[3.0], [2.0], [0.123457]])
    np.testing.assert_array_equal(curve.last(1), [[0.123457]])


def test_a_set_has_a_column_a_member(tmp_path):
    curve = Curve(tmp_path / "c.csv", ["a", "b"])
    curve.append(1, np.array([[1.0, 2.0], [3.0, 4.0]]), 0.1)
    assert curve.last().tolist() == [[1, 2], [3, 4]]
    assert rows(curve.path).tolist() == [[1, 1, 2, 0.1], [2, 3, 4, 0.1]]


def test_a_reload_rewinds(tmp_path):
    curve = Curve(tmp_path / "c.csv")
    curve.append(1, np.arange(10.0), 1.0)
    curve.append(6, np.array([55.0, 66.0]), 2.0)
    expected = [[1, 0], [2, 1], [3, 2], [4, 3], [5, 4], [6, 55], [7, 66]]
    assert rows(curve.path)[:, :2].tolist() == expected
    assert curve.last(2).tolist() == [[55], [66]]


def test_a_resumed_run_goes_on_and_adds_up_time(tmp_path):
    Curve(tmp_path / "c.csv").append(1, np.arange(5.0), 10.0)
    curve = Curve(tmp_path / "c.csv")
    assert curve.seconds == 10
    curve.append(4, np.array([7.0, 8.0]), 2.5)  # from a checkpoint at batch 3
    assert rows(curve.path).tolist() == [
        [1, 0, 10],
        [2, 1, 10],
        [3, 2, 10],
        [4, 7, 12.5],
        [5, 8, 12.5],
    ]


def test_a_torn_last_line_is_dropped(tmp_path):
    """A kill may come in the middle of a line."""
    path = tmp_path / "c.csv"
    for torn in ("3", "3,0.", "3,0.5", "3,0.5,", "3,0.5,1"):
        path.write_text(f"batch,mse,seconds\n1,5,1.0\n2,4,1.5\n{torn}")
        curve = Curve(path)
        curve.append(3, np.array([3.0]), 1.0)
        assert rows(path).tolist() == [[1, 5, 1], [2, 4, 1.5], [3, 3, 2.5]]


def test_an_empty_file_is_begun_anew(tmp_path):
    path = tmp_path / "c.csv"
    for text in ("", "batch,m"):
        path.write_text(text)
        Curve(path).append(1, np.array([3.0]), 1.0)
        assert path.read_text() == "batch,mse,seconds\n1,3,1.0\n"


def test_rows_are_known_by_their_batch_where_some_are_missing(tmp_path):
    """A kill between checkpoint and curve leaves a gap; a later rewind must still fit."""
    curve = Curve(tmp_path / "c.csv")
    curve.append(1, np.array([1.0, 2.0]), 1.0)
    curve.append(5, np.array([5.0, 6.0, 7.0]), 1.0)  # 3 and 4 were lost
    curve.append(6, np.array([66.0]), 1.0)
    assert rows(curve.path)[:, :2].tolist() == [[1, 1], [2, 2], [5, 5], [6, 66]]


@pytest.mark.parametrize("count", [1, 499, 500, 1499, 1500])
def test_short_curves_are_not_thinned(tmp_path, count):
    curve = Curve(tmp_path / "c.csv")
    curve.append(1, np.arange(float(count)), 1.0)
    assert curve.thinned() == curve.path.read_text()


def test_long_curves_keep_means_and_the_last_batches(tmp_path):
    curve = Curve(tmp_path / "c.csv")
    values = np.random.default_rng(0).uniform(1, 2, 20_500)
    curve.append(1, values, 1.0)
    got = curves.parse(curve.thinned())[1]
    assert got.shape == (1500, 3)
    np.testing.assert_array_equal(got[:1000, 0], np.arange(20, 20_001, 20))
    np.testing.assert_allclose(got[:1000, 1], values[:20_000].reshape(-1, 20).mean(1), rtol=1e-5)
    np.testing.assert_array_equal(got[1000:, 0], np.arange(20_001, 20_501))
    np.testing.assert_allclose(got[1000:, 1], values[-500:], rtol=1e-5)


@pytest.mark.parametrize("window", [1, 3, 50])
def test_moving_mean_is_of_a_value_and_those_before_it(window):
    values = np.random.default_rng(1).uniform(size=20)
    expected = [values[max(0, k - window + 1) : k + 1].mean() for k in range(20)]
    np.testing.assert_allclose(curves.moving_mean(values, window), expected)


def test_a_curve_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    batches = np.arange(1.0, 9.0)
    curves.draw(tmp_path / "c.png", {"one": (batches, 1 / batches)}, window=3, title="t")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")

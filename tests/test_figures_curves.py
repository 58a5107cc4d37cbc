"""Figs. 2 and 4: moving means of stored curves, what is drawn of them, and what is missing."""

import numpy as np
import pytest

from experiments import curves
from experiments.figures import learning, style

pytest.importorskip("matplotlib")


def store(root, name, text, batch_size="8"):
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "learning_curve.csv").write_text(text)
    (folder / "card.md").write_text(f"# {name}\n\n```\nbatch_size: {batch_size}\n```\n")


def curve(values):
    rows = [f"{i + 1},{value:.6g},1.0" for i, value in enumerate(values)]
    return "\n".join(["batch,mse,seconds", *rows, ""])


@pytest.mark.parametrize("window", [1, 7, 30, 99])
def test_means_of_whole_curves_are_plain_moving_means(window):
    values = np.random.default_rng(0).uniform(1, 2, 30)
    x, y = learning.moving_mean(np.arange(1.0, 31), values, window)
    span = min(window, 30)
    np.testing.assert_array_equal(x, np.arange(span, 31))
    np.testing.assert_allclose(y, [values[k - span : k].mean() for k in range(span, 31)])


def test_means_of_thinned_curves_weigh_rows_by_their_batches():
    """4 500 batches are stored as 1 000 means of 4 and 500 single ones."""
    values = np.random.default_rng(1).uniform(1, 2, 4500)
    rows = curves.parse(curves.thin(curve(values)))[1]
    assert len(rows) == 1500
    x, y = learning.moving_mean(rows[:, 0], rows[:, 1], 600)
    assert x[0] == 600
    means = {int(batch): mean for batch, mean in zip(x, y, strict=True)}
    exact = [batch for batch in means if batch % 4 == 0]  # windows that begin where a row does
    assert len(exact) == 1000 - 149 + 125
    for batch in exact:
        np.testing.assert_allclose(means[batch], values[batch - 600 : batch].mean(), rtol=1e-5)


def test_fig2_draws_a_twelfth_of_the_schedule_and_names_what_is_missing(tmp_path):
    values = np.random.default_rng(2).uniform(0.1, 1, 120)
    store(tmp_path, "tem_latent4", curve(values))
    figure = learning.fig2(str(tmp_path))
    tem, stem, _ = figure.axes
    drawn = {line.get_label(): line for line in tem.lines}
    assert list(drawn) == [
        f"1: {style.NOT_TRAINED}", "4 (120 batches of 8)",
        f"16: {style.NOT_TRAINED}", f"64: {style.NOT_TRAINED}",
    ]  # fmt: skip
    x, y = drawn["4 (120 batches of 8)"].get_data()
    np.testing.assert_allclose(x, 100 * np.arange(10, 121) / 120)
    stored = np.array([float(f"{value:.6g}") for value in values])
    np.testing.assert_allclose(y, [stored[k - 10 : k].mean() for k in range(10, 121)])
    assert tem.get_yscale() == "log"
    assert [text.get_text() for text in stem.texts] == [style.NOT_TRAINED]


def test_fig4_draws_means_of_500_iterations(tmp_path):
    values = np.random.default_rng(3).uniform(0.1, 1, 700)
    store(tmp_path, "stem_mlp1_w5", curve(values), batch_size="1")
    figure = learning.fig4(str(tmp_path))
    assert len(figure.axes) == 9
    panel = figure.axes[4]
    assert panel.get_title() == "STEM: MLP, 1 hidden layer"
    x, y = panel.lines[1].get_data()
    np.testing.assert_array_equal(x, np.arange(500, 701))
    np.testing.assert_allclose(y[[0, -1]], [values[:500].mean(), values[200:].mean()], rtol=1e-5)
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert said.count(style.NOT_TRAINED) == 8
    assert "not trained yet: w = 3, 7" in said


@pytest.mark.parametrize(
    "text",
    ["", "batch,loss,seconds\n1,2,3\n", "batch,mse,seconds\n", "batch,mse,seconds\n2,1,1\n1,1,1\n"],
    ids=["empty", "other columns", "no rows", "out of order"],
)
def test_a_damaged_curve_is_one_line(tmp_path, text):
    store(tmp_path, "tem_latent4", text)
    with pytest.raises(ValueError, match=r"learning_curve\.csv .*train or copy the model anew"):
        learning.fig2(str(tmp_path))

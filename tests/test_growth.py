"""How cost grows: which points are measured, by processes of their own, and drawn."""

import pytest

from experiments import growth
from experiments.benchmark import memory, table

COST = memory.Cost(first=2.0, seconds=1.0, peak_bytes=3 * 2**20, device_bytes=0)


def test_points_cover_every_axis_and_stop_where_told():
    made = growth.points(max_side=1024, max_batch=2)
    values = {}
    for point in made:
        values.setdefault(point.axis, []).append(point.value)
    assert values == {
        "side_kernel": [512, 1024],
        "side_mlp1": [512, 1024],
        "side_autoencoder": [512, 1024],
        "batch": [1, 2],
        "devices": [1, 2, 4, 8],
        "members": [1, 2, 3, 4, 5, 6, 7],
    }
    assert {p.host_devices for p in made if p.axis == "devices"} == {1, 2, 4, 8}
    assert [len(p.arguments["widths"]) for p in made if p.axis == "members"] == values["members"]


def test_a_run_writes_table_and_plot_and_keeps_other_points(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    asked = []

    def measure(task, *, host_devices=None, **arguments):
        asked.append((task, host_devices, arguments))
        return COST

    monkeypatch.setattr(memory, "measure", measure)
    config = growth.Config(max_side=512, max_batch=1, output=str(tmp_path))
    first = growth.run(config)
    assert len(first) == len(asked) == 3 + 1 + 4 + 7
    path = next(tmp_path.glob("growth_*.csv"))
    before = table.read(path, growth.COLUMNS)
    assert before[0]["peak_mib"] == "3"
    monkeypatch.setattr(growth, "SIDES", (256, 512))
    again = growth.run(growth.Config(max_side=256, only="side_kernel", output=str(tmp_path)))
    assert again == {"side_kernel_256": 1.0}
    after = table.read(path, growth.COLUMNS)
    assert [row["value"] for row in after[:2]] == ["256", "512"]
    assert after[1:] == before
    assert path.with_suffix(".png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="side_autoencoder batch"):
        growth.run(growth.Config(only="size", output=str(tmp_path)))


def test_a_child_process_measures_time_and_memory():
    cost = memory.measure("restore", model="tem_kernel_w3_published", side=2048)
    both = 2 * 4 * 2048**2
    assert both <= cost.peak_bytes < 20 * both
    assert 0 < cost.seconds <= cost.first


def test_a_child_that_fails_says_why():
    with pytest.raises(RuntimeError, match="unknown model 'none'"):
        memory.measure("restore", model="none", side=8)

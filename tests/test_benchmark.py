"""The benchmark's parts: what it counts, compares, times in turn, writes and merges."""

import csv
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emd.models.autoencoder import Autoencoder
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import counting, jobs, machine, memory, peers, rows, table, timing

RATES = machine.Rates({"float32": 100e9}, 50e9, 10e9)


@pytest.fixture(autouse=True)
def known_rates(monkeypatch):
    monkeypatch.setattr(machine, "measure_rates", lambda: RATES)


def side(value, log=None, name="", seconds=0.0):
    """A side that gives `value` and notes its runs."""

    def run():
        time.sleep(seconds)
        if log is not None:
            log.append(name)

    return timing.Side(run, lambda: [np.asarray(value, np.float32)])


def job(ours, peer, **options):
    return jobs.Job(
        "job", "1x1", "ms", lambda: ours, peer, "peer", counting.Work(1e6, 1e6), **options
    )


SESSION = rows.Session(RATES, repeats=2, seconds=60)


# --- counting --------------------------------------------------------------------------------


def test_operations_of_the_autoencoder_by_hand():
    """One crop of 160x160, latent 16, layer by layer: channels, features, pixels."""
    encoder = [(1, 64, 80), (64, 128, 40), (128, 256, 20), (256, 16, 20)]
    decoder = [(16, 256, 20), (256, 128, 40), (128, 64, 80)]
    products = sum(s * s * (9 * c + c * f) for c, f, s in encoder)
    products += sum(s * s * 9 * c * f for c, f, s in decoder) + 160 * 160 * 9 * 64
    assert counting.autoencoder_flops(160 * 160, 16) == 2 * products
    work = counting.training_work(8, 160, 16)
    assert work.flops == 8 * (3 * 2 * products - 2 * 9 * 80 * 80)
    assert 48e9 < work.flops < 48.5e9


def test_maps_and_parameters_of_the_autoencoder_are_those_of_the_module(key):
    module = Autoencoder(16)
    made = jax.eval_shape(module.init, key, jnp.zeros((1, 16, 16)))
    sizes = [np.prod(leaf.shape) for leaf in jax.tree.leaves(made["params"])]
    assert counting.autoencoder_parameters(16) == sum(sizes)
    sides = [(80, 64), (40, 128), (20, 256), (20, 16), (40, 256), (80, 128), (160, 64)]
    assert counting.feature_values(160 * 160, 16) == sum(s * s * f for s, f in sides)


def test_operations_of_windows_by_hand():
    assert counting.kernel_work(10, 3) == counting.Work(2 * 9 * 10, 8 * 10)
    sigmoid = counting.SIGMOID_FLOPS
    one = counting.mlp_work(1, 5, 1).flops
    assert one == 6 * (sigmoid + 2) + 2 * 25  # six free weights
    assert counting.mlp_work(1, 5, 2).flops == one + 25 * (2 * 25 + sigmoid)
    # 6x6 whole windows of width 15 in a crop of 20, sums and their gradient
    assert counting.distillation_work(15, 0, 20, 7).flops == 7 * 36 * 2 * 2 * 225


def test_the_limit_is_the_longer_of_arithmetic_and_traffic():
    small = counting.limit(counting.Work(1e9, 1e6), RATES, "float32")
    assert (small.seconds, small.kind) == (0.01, "arithmetic")
    traffic = counting.limit(counting.Work(1e6, 1e9), RATES, "float32")
    assert (traffic.seconds, traffic.kind) == (0.1, "bandwidth")  # too large for a cache
    assert counting.limit(counting.Work(0, 5e6), RATES, "float32").seconds == 1e-4


# --- comparing and timing --------------------------------------------------------------------


def test_difference_is_relative_to_the_peers_largest_value():
    ours, peer = [np.array([1.0, 4.1])], [np.array([1.0, -4.0])]
    assert timing.difference(ours, peer) == pytest.approx(8.1 / 4)
    assert timing.difference([np.ones(3)], [np.ones(2)]) == np.inf
    assert timing.difference([np.array([np.nan])], [np.zeros(1)]) == np.inf
    assert timing.difference([np.zeros(2)], [np.zeros(2)]) == 0
    # two arrays of different scale: the small one counts as much
    large, small = np.full(4, 1e6), np.full(4, 1e-3)
    assert timing.difference([large, small * 1.01], [large, small]) == pytest.approx(0.01)
    assert timing.distance([np.array([3.0, 0.0])], [np.array([3.0, 4.0])]) == pytest.approx(0.8)


def test_sides_alternate_and_the_whole_job_is_scaled():
    log = []
    ours = side(0, log, "ours")
    peer = side(0, log, "peer", seconds=0.01)._replace(scale=100.0)
    timed = timing.alternate(ours, peer, repeats=3, seconds=60, shortest=0)
    assert log[-6:] == ["ours", "peer"] * 3
    assert timed.repeats == 3
    assert timed.peer.low >= 1.0 > timed.ours.high
    assert timed.peer.low <= timed.peer.median <= timed.peer.high


def test_cold_jobs_run_without_warm_up_and_time_ends_repeats():
    log = []
    timed = timing.alternate(side(0, log, "a"), None, repeats=5, seconds=0, warm=False)
    assert log == ["a"]
    assert timed.peer is None


def test_a_wrong_answer_is_never_timed():
    log = []
    row = rows.make_row(job(side(1.0003, log, "ours"), lambda: side(1.0, log, "peer")), SESSION)
    assert row["status"] == "failed"
    assert log == []
    assert row["ours"] == row["peer"] == row["ratio"] == ""


def test_a_row_holds_both_sides_their_ratio_and_the_limit():
    made = rows.make_row(
        job(side(1.0, seconds=0.02), lambda: side(1.0, seconds=0.08), note="why"), SESSION
    )
    assert tuple(made) == table.COLUMNS
    assert made["status"] == "ok"
    assert float(made["ratio"]) == pytest.approx(float(made["peer"]) / float(made["ours"]), 1e-3)
    assert float(made["ratio"]) > 1
    assert float(made["limit"]) == pytest.approx(0.02)  # 1 MB at 50 GB/s, in ms
    assert float(made["share"]) == pytest.approx(0.02 / float(made["ours"]), 1e-3)
    assert made["limit_kind"] == "bandwidth"
    assert made["note"].endswith("why")


def test_rates_are_the_inverse_of_times():
    made = rows.make_row(
        job(side(1.0, seconds=0.02), lambda: side(1.0, seconds=0.08))._replace(unit="frames/s"),
        SESSION,
    )
    assert 1 / 0.02 > float(made["ours"]) > float(made["peer"]) > 0
    assert float(made["ours_min"]) <= float(made["ours"]) <= float(made["ours_max"])
    assert float(made["ratio"]) > 1
    assert float(made["limit"]) > float(made["ours"])


def test_without_the_peers_library_ours_is_timed_and_the_row_says_what_brings_it():
    def peer():
        return peers.library("no_such_library.part")

    row = rows.make_row(job(side(1.0), peer), SESSION)
    assert row["status"] == "no peer"
    assert float(row["ours"]) > 0
    assert row["peer"] == ""
    assert "no_such_library is not installed: pip install 'emd-micrograph[bench]'" in row["note"]


def test_a_job_of_another_device_is_skipped_with_its_reason():
    row = rows.make_row(job(side(1.0), lambda: side(1.0), skip="needs a GPU"), SESSION)
    assert (row["status"], row["note"], row["ours"]) == ("skipped", "needs a GPU", "")


# --- the table -------------------------------------------------------------------------------


def test_rows_are_picked_by_name_or_beginning():
    names = ["kernel_w3", "kernel_w3_long", "mlp"]
    assert table.pick(names, None) == names
    assert table.pick(names, "mlp,kernel_w3") == ["kernel_w3", "mlp"]
    assert table.pick(names, "kernel") == names[:2]
    for wrong in ("kernel_w4", "mlp,"):
        with pytest.raises(ValueError, match="kernel_w3 kernel_w3_long mlp"):
            table.pick(names, wrong)


def test_a_table_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "table.csv"
    written = [{"job": "a", "note": 'commas, "quotes"\nand lines'}, {"job": "b", "note": "#"}]
    table.write(path, ("job", "note"), written[1:], comment="python -m x")
    table.write(path, ("job", "note"), written, comment="python -m y")
    assert path.read_text().splitlines()[:2] == ["# python -m y", "job,note"]
    assert table.read(path, ("job", "note")) == written
    assert table.read(tmp_path / "none.csv", ("job",)) == []
    with pytest.raises(ValueError, match="other columns"):
        table.read(path, ("job",))


def test_new_rows_take_the_place_of_old_ones_of_their_name():
    old = [{"job": name, "n": "old"} for name in ("c", "a", "gone")]
    new = [{"job": name, "n": "new"} for name in ("c", "b")]
    merged = table.merge(old, new, ("job",), ("a", "b", "c"))
    assert [(row["job"], row["n"]) for row in merged] == [("a", "old"), ("b", "new"), ("c", "new")]


def test_the_aligned_table_shows_rows_and_notes():
    row = dict.fromkeys(table.COLUMNS, "") | {"job": "long_name", "ours": "1.5", "note": "why"}
    lines = table.aligned([row]).splitlines()
    assert lines[1].startswith("long_name")
    assert lines[0].index("ours") == lines[1].index("1.5")
    assert lines[-1] == "long_name: why"


# --- the program -----------------------------------------------------------------------------


@pytest.fixture
def two_jobs(monkeypatch):
    """Two jobs in place of the real ones; the answers of the second may be spoilt."""
    answers = {"wrong": 1.0}
    monkeypatch.setattr(
        benchmark,
        "all_jobs",
        lambda sizes: [
            job(side(1.0), lambda: side(1.0))._replace(name="right"),
            job(side(answers["wrong"]), lambda: side(1.0))._replace(name="wrong"),
        ],
    )
    return answers


def test_only_keeps_the_other_rows_of_the_machine(two_jobs, tmp_path, capsys):
    config = benchmark.Config(repeats=1, output=str(tmp_path))
    assert set(benchmark.run(config)) == {"right", "wrong"}
    path = tmp_path / f"benchmark_{machine.slug()}.csv"
    before = table.read(path, table.COLUMNS)
    two_jobs["wrong"] = 2.0
    with pytest.raises(ValueError, match=r"1 rows failed.*wrong"):
        benchmark.run(benchmark.Config(repeats=1, output=str(tmp_path), only="wrong"))
    after = table.read(path, table.COLUMNS)
    assert after[0] == before[0]
    assert [row["status"] for row in after] == ["ok", "failed"]
    comment = path.read_text().splitlines()[0]
    assert comment.startswith("# python -m experiments.benchmark")
    assert "FAILED" in capsys.readouterr().out
    with pytest.raises(ValueError, match="right wrong"):
        benchmark.run(benchmark.Config(output=str(tmp_path), only="other"))
    columns = next(csv.reader(path.read_text().splitlines()[1:]))
    first = ["job", "size", "device", "ours", "peer_name", "peer", "ratio", "limit", "unit"]
    assert columns[: len(first)] == first


def test_every_job_has_a_name_of_its_own_and_work_to_do():
    made = jobs.all_jobs(jobs.Sizes())
    names = [job.name for job in made]
    assert len(set(names)) == len(names)
    for each in made:
        assert each.name == each.name.lower().replace("-", "_").replace(" ", "_")
        if isinstance(each, jobs.Job):
            assert each.work.flops > 0
            assert each.work.bytes > 0


def test_the_machines_name_fits_a_file_name():
    assert machine.slug() == f"cpu-{machine.os.cpu_count()}core"
    assert "CPU cores" in machine.device_name()


def test_memory_is_that_of_the_work_alone():
    """An allocation of known size, held and let go, seen from inside this process."""
    size = 64 * 2**20
    held, first = memory.resident_peak(lambda: np.ones(size, np.uint8))
    assert size <= first < 1.5 * size
    assert held.all()
    _, second = memory.resident_peak(lambda: None)
    assert second < size / 4  # what was there before is idle
    del held
    _, third = memory.resident_peak(lambda: None)
    assert third < size / 4  # an earlier peak is forgotten

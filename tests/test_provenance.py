import pytest

from emd import checkpoint
from experiments import provenance


def test_command_keeps_only_the_last_part_of_absolute_paths():
    argv = ["/somewhere/experiments/zoo.py", "--data_dir=/a/b/train", "--minutes=9", "--seed", "1"]
    assert provenance.command(argv) == (
        "python -m experiments.zoo --data_dir=train --minutes=9 --seed 1"
    )


def test_facts_are_single_lines():
    facts = provenance.facts()
    assert {"command", "commit", "device", "versions", "date"} == set(facts)
    assert all(value and "\n" not in value for value in facts.values())


@pytest.mark.parametrize(
    ("card", "sources", "before", "of_all"),
    [
        ({}, "none", "?x? ? reproduce", "none"),
        ({"real_sources": "none"}, "tem/b", "?x? ? reproduce", "tem/b"),
        (
            {"batches": "3", "batch_size": "8", "dataset": "stem", "objective": "clean",
             "before": "5x16 tem clean", "real_sources": "tem/a, tem/b"},
            "tem/b, stem/c", "5x16 tem clean, 3x8 stem clean", "stem/c, tem/a, tem/b",
        ),
    ],
)  # fmt: skip
def test_a_card_names_all_runs_and_sources(monkeypatch, card, sources, before, of_all):
    monkeypatch.setattr(checkpoint, "load", lambda name: checkpoint.Model(None, None, {}, card))
    found = provenance.descent("/some/where/mine", sources)
    assert found == {"start": "mine", "before": before, "real_sources": of_all}


def test_random_weights_have_no_run_before():
    found = provenance.descent(None, "tem/a")
    assert found == {"start": "random", "real_sources": "tem/a"}

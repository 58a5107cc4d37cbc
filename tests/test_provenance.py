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

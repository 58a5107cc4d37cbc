"""Flags and JSON from a frozen dataclass, and what an experiment prints when it cannot run."""

import dataclasses
import json
import subprocess
import sys

import pytest
from absl import flags

from experiments import config


@dataclasses.dataclass(frozen=True)
class Sample:
    dataset: str = config.option("tem", "which micrographs", choices=("tem", "stem"))
    latent: int = config.option(16, "latent depth", choices=(1, 4, 16))
    rate: float = config.option(0.01, "first learning rate")
    resume: bool = config.option(True, "go on where a run stopped")
    data_dir: str | None = config.option(None, "folder of micrographs")
    limit: int | None = dataclasses.field(default=None)


OTHER = Sample("stem", latent=4, rate=1e-3, resume=False, data_dir="a b", limit=7)

PROGRAM = """
import dataclasses
from experiments import config

@dataclasses.dataclass(frozen=True)
class Sample:
    dataset: str = config.option("tem", "which micrographs", choices=("tem", "stem"))
    latent: int = config.option(16, "latent depth", choices=(1, 4, 16))
    fail: str = config.option("", "error to raise")

def run(sample):
    if sample.fail:
        raise getattr(__builtins__, sample.fail)("first line\\nsecond line")
    return {"mse": 0.25 * sample.latent}

if __name__ == "__main__":
    config.main(run, Sample)
"""


@pytest.fixture
def clean_flags(monkeypatch):
    """Flags of one test only: absl's registry is global."""
    registry = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", registry)
    for name in ("boolean", "integer", "float", "string", "enum"):
        define = getattr(flags, f"DEFINE_{name}")

        def defined(*args, define=define):
            return define(*args, flag_values=registry)

        monkeypatch.setattr(flags, f"DEFINE_{name}", defined)
    kinds = {
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    monkeypatch.setattr(config, "_DEFINE", kinds)
    return registry


def parse(registry, *arguments):
    config.define_flags(Sample)
    registry(["program", *arguments])
    return config.from_flags(Sample)


def test_no_flags_give_the_defaults(clean_flags):
    assert parse(clean_flags) == Sample()


def test_every_flag_reaches_its_field(clean_flags):
    arguments = ["--dataset=stem", "--latent=4", "--rate=1e-3", "--noresume"]
    assert parse(clean_flags, *arguments, "--data_dir=a b", "--limit=7") == OTHER


@pytest.mark.parametrize("argument", ["--dataset=sem", "--latent=many", "--rate=fast", "--lr=1"])
def test_a_bad_flag_is_refused(clean_flags, argument):
    with pytest.raises(flags.Error):
        parse(clean_flags, argument)


def test_a_number_outside_its_choices_is_refused(clean_flags):
    with pytest.raises(ValueError, match="latent=5 is not valid: choose one of 1, 4, 16"):
        parse(clean_flags, "--latent=5")


def test_json_is_plain_and_in_order():
    assert list(json.loads(config.to_json(OTHER))) == [f.name for f in dataclasses.fields(Sample)]


def keep(folder, settings, data="a"):
    config.keep(settings, folder, free=("rate",), also={"data": data})


def test_a_run_goes_on_under_the_same_settings(tmp_path):
    keep(tmp_path / "run", Sample())
    keep(tmp_path / "run", dataclasses.replace(Sample(), rate=0.5))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["rate"] == 0.5


def test_a_run_with_other_settings_or_data_is_refused(tmp_path):
    keep(tmp_path, Sample())
    with pytest.raises(ValueError, match="another latent: give another --workdir"):
        keep(tmp_path, dataclasses.replace(Sample(), latent=4))
    with pytest.raises(ValueError, match="another data: give another --workdir"):
        keep(tmp_path, Sample(), data="b")


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_a_damaged_record_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is damaged: remove"):
        keep(tmp_path, Sample())


def test_a_field_that_no_flag_can_hold_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Lists:
        sizes: tuple[int, ...] = (1, 2)

    @dataclasses.dataclass(frozen=True)
    class NoDefault:
        size: int

    with pytest.raises(TypeError, match=r"Lists\.sizes is a tuple"):
        config.define_flags(Lists)
    with pytest.raises(TypeError, match=r"NoDefault\.size has no default"):
        config.define_flags(NoDefault)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, str(path), *arguments], capture_output=True, text=True, timeout=60
        )

    return run


def test_a_program_prints_its_results(program):
    done = program("--latent=4")
    assert (done.returncode, done.stdout, done.stderr) == (0, "mse 1\n", "")


def test_help_lists_flags_and_choices(program):
    done = program("--help")
    for text in ("--dataset: <tem|stem>: which micrographs", "--latent: <1|4|16>: latent depth"):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--dataset=sem", "flag --dataset=sem: value should be one of <tem|stem>"),
        ("--latent=5", "latent=5 is not valid: choose one of 1, 4, 16"),
        ("--lr=1", "Unknown command line flag 'lr'"),
        ("latent", "unexpected argument 'latent': options are written --name=value"),
        ("--fail=ValueError", "first line second line"),
        ("--fail=FileNotFoundError", "first line second line"),
    ],
)
def test_an_expected_error_is_one_line(program, argument, message):
    done = program(argument)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {message}")


def test_an_interrupt_ends_with_130(program):
    done = program("--fail=KeyboardInterrupt")
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


def test_a_mistake_in_the_program_keeps_its_traceback(program):
    done = program("--fail=TypeError")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "Traceback" in program("--fail=ValueError", "--verbosity=1").stderr

"""What names, folders and patterns stand for, and what results are called."""

from pathlib import Path, PurePath

import pytest

from emd.cli import inputs, outputs


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder of files that nobody opens here."""
    names = ["a.tif", "b.DM4", "notes.txt", ".hidden.tif", "emd-denoise.jsonl", "sub/a.tif"]
    for name in [*names, "sub/deep/c.mrc.gz", "sub/[1].tif", "sub/.git/d.tif", "e.zspy/.zgroup"]:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def places(gathered):
    return [str(each.place) for each in gathered.inputs]


def faults(gathered):
    return [fault.name for fault in gathered.faults]


ALL = ["a.tif", "b.DM4", "e.zspy", "sub/[1].tif", "sub/a.tif", "sub/deep/c.mrc.gz"]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["in/a.tif"], ["a.tif"]),
        (["in/notes.txt"], ["notes.txt"]),  # named: tried
        (["in/e.zspy"], ["e.zspy"]),
        (["in/sub/.git"], ["d.tif"]),  # named, though hidden
        (["in/sub/[1].tif"], ["[1].tif"]),  # a name, not a pattern
        (["in"], ALL),
        (["in/sub", "in/a.tif"], ["[1].tif", "a.tif", "deep/c.mrc.gz", "a.tif"]),
        (["in/a.tif", "in"], ALL),  # each once
        (["in/**"], ALL),
        (["in/**/*.tif"], ["a.tif", "sub/[1].tif", "sub/a.tif"]),
        (["in/*/a.*"], ["sub/a.tif"]),
        (["in/s?b"], ["sub/[1].tif", "sub/a.tif", "sub/deep/c.mrc.gz"]),
        (["*/a.tif"], ["in/a.tif"]),
    ],
)
def test_names_folders_and_patterns_stand_for_files(tree, names, found):
    for given in (names, [str(tree / name) for name in names]):
        gathered = inputs.gather(given, Path("out"))
        places_found = places(gathered)
        if given is not names and names == ["*/a.tif"]:
            found = ["in/a.tif"]
        assert places_found == found
        assert all(each.path.exists() for each in gathered.inputs)


def test_other_files_of_a_folder_are_named_and_hidden_ones_are_not(tree):
    gathered = inputs.gather(["in"], Path("out"))
    assert gathered.faults == [
        inputs.Fault("in/notes.txt", "not a micrograph's format (.txt): passed over")
    ]
    assert not faults(inputs.gather(["in", "in/notes.txt"], Path("out")))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("in/none.tif", "no such file"),
        ("in/*.none", "no file matches"),
        ("in/empty", "holds no micrograph"),
    ],
)
def test_a_name_that_stands_for_nothing_is_a_fault(tree, name, words):
    (tree / "in/empty").mkdir()
    gathered = inputs.gather([name, "in/a.tif"], Path("out"))
    assert faults(gathered) == [name]
    assert words in gathered.faults[0].reason
    assert places(gathered) == ["a.tif"]


def test_what_lies_in_the_output_folder_is_no_input(tree):
    assert places(inputs.gather(["in"], Path("in/sub"))) == ALL[:3]
    assert places(inputs.gather(["in/**/*.tif"], Path("in/sub"))) == ["a.tif"]
    # the other way round: raw data below the folder of results
    assert places(inputs.gather(["in/sub"], Path("in"))) == ["[1].tif", "a.tif", "deep/c.mrc.gz"]
    for name in ("in", "in/*"):
        with pytest.raises(ValueError, match=r"in: is searched, .* another OUT"):
            inputs.gather([name], Path("in"))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["in/a.tif"], True),
        (["in/e.zspy"], True),
        (["in/none.tif"], True),
        (["in"], False),
        (["in/a.t*"], False),
        (["in/a.tif", "in/b.DM4"], False),
    ],
)
def test_one_file_by_its_own_name_is_single(tree, names, expected):
    assert inputs.gather(names, Path("out")).is_single is expected


def test_a_folder_that_may_not_be_read_is_a_fault(tree, monkeypatch):
    listed = inputs.os.listdir

    def refuse(path):
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(inputs.os, "listdir", refuse)
    gathered = inputs.gather(["in"], Path("out"))
    assert inputs.Fault("in/sub/deep", "Permission denied") in gathered.faults
    assert places(gathered) == ALL[:-1]


def test_a_link_to_a_folder_is_not_followed_and_a_file_linked_twice_is_one(tree):
    (tree / "in/loop").symlink_to(tree / "in")
    (tree / "in/z.tif").symlink_to(tree / "in/a.tif")
    assert places(inputs.gather(["in"], Path("out"))) == ALL


@pytest.mark.parametrize(
    ("place", "signal", "result"),
    [
        ("a.tif", "", "a.tif"),
        ("sub/A.TIF", "", "sub/A.TIF"),
        ("a.b.mrc", "", "a.b.mrc"),
        ("a.dm3", "", "a.dm3.tif"),
        ("a.mrc.gz", "", "a.mrc.gz.tif"),
        ("scan", "", "scan.tif"),
        ("sub/a.emd", "HAADF", "sub/a.emd.HAADF.tif"),
        ("a.hspy", "BF", "a.BF.hspy"),
    ],
)
def test_a_result_has_the_name_of_its_input(place, signal, result):
    assert outputs.place_of(PurePath(place), signal) == PurePath(result)


def test_signals_become_parts_of_file_names_each_its_own():
    names = ["HAADF", "haadf", "A/B", "A:B", "", "...", "Zürich µ", "x" * 300]
    made = outputs.safe(names)
    assert made[:7] == ["HAADF", "haadf_1", "A_B", "A_B_3", "4", "5", "Zürich_µ"]
    assert len(made[7]) < 100
    assert len({name.casefold() for name in made}) == len(names)


@pytest.mark.parametrize(
    ("output", "is_single", "expected"),
    [
        ("out", True, False),
        ("out.tif", True, False),
        ("out/", True, True),
        ("out.tif/", False, True),
        ("in", True, True),
        ("in/e.zspy", True, False),
        ("out", False, True),
    ],
)
def test_out_is_a_file_for_one_file_else_a_folder(tree, output, is_single, expected):
    assert outputs.is_folder(output, is_single=is_single) is expected


def test_a_file_cannot_take_several_results(tree):
    with pytest.raises(ValueError, match=r"in/notes\.txt: is a file"):
        outputs.is_folder("in/notes.txt", is_single=False)
    with pytest.raises(ValueError, match=r"out\.mrc: is named like a file.* end it with /"):
        outputs.is_folder("out.mrc", is_single=False)


def test_a_result_replaces_no_other_and_no_input(tmp_path):
    one, two = tmp_path / "1/a.tif", tmp_path / "2/a.tif"
    claims = outputs.Claims([one, two])
    claims.claim(tmp_path / "out/a.tif", one)
    with pytest.raises(ValueError, match=r"would be .*out/a\.tif, and so is that of .*1/a\.tif"):
        claims.claim(tmp_path / "out/a.tif", two)
    with pytest.raises(ValueError, match="would replace it: name another OUT"):
        claims.claim(two, two)
    with pytest.raises(ValueError, match="which is to be read"):
        claims.claim(one, two)

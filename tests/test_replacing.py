"""Files and folders come whole, or not at all, and leave nothing behind."""

import errno
import pathlib

import pytest

from emd.data.replacing import replacing


def listing(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tif"
    for text in ("first", "second"):
        with replacing(path) as temporary:
            assert temporary.parent == tmp_path
            temporary.write_text(text)
        assert path.read_text() == text
    assert listing(tmp_path) == ["a.tif"]


def test_a_folder_takes_the_place_of_a_folder(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.zarr"
    for name in ("0", "1"):
        with replacing(path) as temporary:
            (temporary / name).mkdir(parents=True)
            (temporary / name / "chunk").write_text(name)
        assert listing(path) == [name]
    assert listing(tmp_path) == ["a.zarr"]


def test_a_link_stays_a_link(tmp_path: pathlib.Path) -> None:
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "a.tif", tmp_path / "a.tif"
    target.write_text("old")
    link.symlink_to(target)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


@pytest.mark.parametrize("is_folder", [False, True])
def test_after_an_error_all_is_as_it_was(tmp_path: pathlib.Path, is_folder: bool) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            if is_folder:
                temporary.mkdir()
            (temporary / "part" if is_folder else temporary).write_text("new")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="not written \\(No space left on device\\)") as caught:
        fail()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["a"]


def test_interrupted_it_leaves_nothing(tmp_path: pathlib.Path) -> None:
    def interrupted() -> None:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert listing(tmp_path) == []

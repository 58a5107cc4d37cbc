"""Zarr and OME-Zarr: what is written comes back; others' files of NGFF 0.4 and 0.5 open, too."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from emd.data import micrograph, source
from emd.data.contents import DTYPES
from emd.data.formats import extras, ome_zarr
from emd.data.micrograph import FormatError, Micrograph

zarr = pytest.importorskip("zarr", reason="needs zarr: pip install 'emd-micrograph[io]'")

METADATA = {
    "text": 'é日\n<&>"\x01', "list": [1, 2.5, None], "deep": {"on": True}, "title": "a/b",
    "long": "x" * 100_000, "emd": [{"model": "tem_mlp1_w7", "weights": "abc"}],
}  # fmt: skip
SIZE = (1 / 3, 1 / 7)
UNITS = ("nm", "µm", "1/nm", "Å", "")


def pixels(shape, dtype="uint16"):
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


def array(folder, values, name=None, **options):
    """A Zarr array as another program might store it."""
    given = {"chunks": values.shape, "config": {"write_empty_chunks": True}} | options
    out = zarr.create_array(folder, name=name, shape=values.shape, dtype=values.dtype, **given)
    out[...] = values
    return out


def image(folder, values, axes, scale, *, version="0.5", **options):
    """An OME-Zarr image of two resolutions as another program might store it."""
    form = 3 if version == "0.5" else 2
    scales = [{"type": "scale", "scale": scale}]
    half = [{"type": "scale", "scale": [*scale[:-2], 2 * scale[-2], 2 * scale[-1]]}]
    datasets = [
        {"path": "full", "coordinateTransformations": scales},
        {"path": "half", "coordinateTransformations": half},
    ]
    told = {"multiscales": [{"axes": axes, "datasets": datasets, **options}]}
    attributes = {"ome": {"version": version, **told}} if form == 3 else told
    zarr.create_group(folder, zarr_format=form, attributes=attributes)
    array(folder, values, "full", zarr_format=form)
    array(folder, values[..., ::2, ::2], "half", zarr_format=form)


def axis(name, unit=None, kind="space"):
    return {"name": name, "type": kind} | ({"unit": unit} if unit else {})


def line(path, **options):
    with pytest.raises(FormatError) as error:
        micrograph.read(path, **options)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("shape", [(1, 1), (9, 1), (5, 7), (1, 5, 7), (3, 5, 7)])
def test_everything_comes_back(tmp_path, shape):
    for k, dtype in enumerate(DTYPES):
        value = Micrograph(pixels(shape, dtype), SIZE, UNITS[k % 5], METADATA)
        path = tmp_path / f"{dtype}.zarr"
        micrograph.write(path, value)
        assert micrograph.read(path) == value


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "a.zarr"
    first, second = Micrograph(pixels((3, 5, 7))), Micrograph(pixels((2, 4)))
    micrograph.write(path, first)
    with pytest.raises(FileExistsError, match="--overwrite"):
        micrograph.write(path, second)
    assert micrograph.read(path) == first
    micrograph.write(path, second, overwrite=True)
    assert micrograph.read(path) == second
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    assert micrograph.find(tmp_path, micrograph.SUFFIXES) == [path]


def test_pixels_of_every_value_come_back(tmp_path):
    value = Micrograph(np.float32([[np.nan, np.inf], [-np.inf, -0.0]]))
    micrograph.write(tmp_path / "a.zarr", value)
    result = micrograph.read(tmp_path / "a.zarr")
    assert result == value
    assert np.signbit(result.pixels[1, 1])
    assert result.pixel_size is None


@pytest.mark.parametrize("lead", [(2, 3), (2, 1, 3), (2, 1, 1, 2)])
def test_4d_data_take_their_shape_again(tmp_path, lead):
    value = Micrograph(pixels((int(np.prod(lead)), 4, 5)), SIZE, "1/nm", {"stack_shape": [*lead]})
    micrograph.write(tmp_path / "a.zarr", value)
    assert micrograph.read(tmp_path / "a.zarr") == value
    (summary,) = micrograph.signals(tmp_path / "a.zarr")
    assert summary.shape == ((*lead, 4, 5) if len(lead) < 4 else (4, 4, 5))


def test_what_is_written_is_ome_zarr(tmp_path):
    frames = [{"name": "tilt", "scale": 2.0, "offset": 0.0, "units": "nm"}]
    value = Micrograph(pixels((2, 1100, 40)), (0.5, 0.25), "Å", {"title": "hi", "frames": frames})
    micrograph.write(tmp_path / "a.zarr", value)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert group.attrs["ome"] == {
        "version": "0.5",
        "multiscales": [
            {
                "name": "hi",
                "axes": [axis("z", "nanometer"), axis("y", "angstrom"), axis("x", "angstrom")],
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [{"type": "scale", "scale": [2.0, 0.5, 0.25]}],
                    }
                ],
            }
        ],
    }
    assert group["0"].chunks == (1, 1024, 40)
    assert group["0"].metadata.dimension_names == ("z", "y", "x")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_others_images(tmp_path, version):
    path = tmp_path / "a.ome.zarr"
    axes = [axis("c", None, "channel"), axis("y", "micrometer"), axis("x", "nanometer")]
    image(path, pixels((2, 6, 8)), axes, [1, 0.002, 3.0], version=version, name="grid")
    (summary,) = micrograph.signals(path)
    assert summary == ("grid", (2, 6, 8), "uint16", "")
    found = micrograph.read(path)
    assert np.array_equal(found.pixels, pixels((2, 6, 8)))
    assert (found.pixel_size, found.unit) == ((2.0, 3.0), "nm")
    assert found.metadata["title"] == "grid"
    assert np.array_equal(micrograph.read(path, frame=1).pixels, found.pixels[1])


def test_axes_of_length_one_are_no_frames(tmp_path):
    axes = [axis("t", "second", "time"), axis("c", None, "channel"), axis("z", "nanometer")]
    axes += [axis("y", "nanometer"), axis("x", "nanometer")]
    image(tmp_path / "a.zarr", pixels((1, 1, 1, 6, 8)), axes, [1, 1, 1, 0.5, 0.5])
    assert micrograph.read(tmp_path / "a.zarr").pixels.shape == (6, 8)


def test_a_scale_for_all_resolutions_counts(tmp_path):
    axes = [axis("y", "nanometer"), axis("x", "nanometer")]
    more = [{"type": "scale", "scale": [10, 10]}, {"type": "translation", "translation": [1, 1]}]
    image(tmp_path / "a.zarr", pixels((4, 4)), axes, [0.5, 0.5], coordinateTransformations=more)
    assert micrograph.read(tmp_path / "a.zarr").pixel_size == (5, 5)


@pytest.mark.parametrize("axes", [[], ["y", "x"], [axis("y"), axis("x")]])
def test_no_scale_is_taken_for_none(tmp_path, axes):
    image(tmp_path / "a.zarr", pixels((4, 4)), axes, [0.5, 0.5], version="0.4")
    assert micrograph.read(tmp_path / "a.zarr").pixel_size is None


def test_channels_last_are_refused(tmp_path):
    axes = [axis("y", "nanometer"), axis("x", "nanometer"), axis("c", None, "channel")]
    image(tmp_path / "a.zarr", pixels((20, 20, 5)), axes, [0.5, 0.5, 1])
    assert "want y, x" in line(tmp_path / "a.zarr")


@pytest.mark.parametrize("form", [2, 3])
def test_bare_arrays_and_groups_of_them(tmp_path, form):
    big = pixels((2, 6, 8)).astype(">u2")
    array(tmp_path / "bare.zarr", big, zarr_format=form, chunks=(1, 4, 4))
    found = micrograph.read(tmp_path / "bare.zarr")
    assert np.array_equal(found.pixels, big)
    assert found.dtype.isnative
    group = tmp_path / "group.zarr"
    zarr.create_group(group, zarr_format=form).create_group("deep")
    array(group, pixels((6, 8)), "deep/one", zarr_format=form)
    array(group, pixels((6, 8), "float16"), "two", zarr_format=form)
    array(group, pixels((6,)), "line", zarr_format=form)
    names = {s.name: s.fault for s in micrograph.signals(group)}
    assert list(names) == ["deep/one", "line", "two"]
    assert "spectrum" in names["line"]
    assert "choose one with --signal" in line(group)
    assert micrograph.read(group, signal="two").dtype == "float16"


def test_wide_integers_come_in_32_bits(tmp_path):
    array(tmp_path / "a.zarr", pixels((6, 8), "int64"))
    assert micrograph.read(tmp_path / "a.zarr").dtype == "int32"


def test_shards_and_zip_archives(tmp_path):
    values = pixels((4, 8, 8))
    array(tmp_path / "a.zarr", values, chunks=(1, 4, 4), shards=(2, 8, 8))
    assert np.array_equal(micrograph.read(tmp_path / "a.zarr").pixels, values)
    shutil.make_archive(str(tmp_path / "a.zarr"), "zip", tmp_path / "a.zarr")
    assert np.array_equal(micrograph.read(tmp_path / "a.zarr.zip", frame=3).pixels, values[3])
    (tmp_path / "a.zarr/c/1/0/0").unlink()
    shutil.make_archive(str(tmp_path / "a.zarr"), "zip", tmp_path / "a.zarr")
    assert "chunk c/1/0/0" in line(tmp_path / "a.zarr.zip", frame=3)


def test_a_frame_is_read_without_the_rest(tmp_path):
    value = Micrograph(pixels((3, 5, 7)))
    micrograph.write(tmp_path / "a.zarr", value)
    (tmp_path / "a.zarr/0/c/1/0/0").unlink()
    assert np.array_equal(micrograph.read(tmp_path / "a.zarr", frame=2).pixels, value.pixels[2])
    for options in ({}, {"frame": 1}):
        text = line(tmp_path / "a.zarr", **options)
        assert "chunk c/1/0/0 of array 0 is missing" in text
        assert "write_empty_chunks" in text
    with source.opened(tmp_path / "a.zarr") as given:
        assert np.array_equal(given[2:3], value.pixels[2:])


@pytest.mark.parametrize("compressors", ["auto", None, zarr.codecs.GzipCodec()])
def test_damaged_chunks_are_told(tmp_path, compressors):
    path = tmp_path / "a.zarr"
    array(path, pixels((2, 30, 30)), chunks=(1, 30, 30), compressors=compressors)
    chunk = path / "c/1/0/0"
    data = chunk.read_bytes()
    for damaged in (b"", data[:10], data[:-20], b"x" * 50):
        chunk.write_bytes(damaged)
        assert "truncated or damaged Zarr" in line(path, frame=1)
    assert micrograph.read(path, frame=0).pixels.any()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"zarr_format": 9, "node_type": "array"}'])
@pytest.mark.parametrize("name", ["zarr.json", "0/zarr.json"])
def test_damaged_metadata_is_told(tmp_path, name, text):
    path = tmp_path / "a.zarr"
    micrograph.write(path, Micrograph(pixels((5, 7))))
    (path / name).write_text(text)
    if (name, text) != ("zarr.json", "{}"):
        assert "damaged" in line(path)


def test_ngff_that_names_what_is_not_there(tmp_path):
    path = tmp_path / "a.zarr"
    micrograph.write(path, Micrograph(pixels((5, 7))))
    shutil.rmtree(path / "0")
    assert "damaged" in line(path)
    told = json.loads((path / "zarr.json").read_text())
    told["attributes"]["ome"]["multiscales"] = [{"datasets": []}]
    (path / "zarr.json").write_text(json.dumps(told))
    assert "damaged" in line(path)


def test_folders_that_are_no_zarr(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises((FormatError, IsADirectoryError), match=r"copy it again|is a folder"):
        micrograph.read(tmp_path / "a.zarr")
    assert not ome_zarr.is_zarr(tmp_path)


def test_without_the_package_one_line(tmp_path, monkeypatch):
    path = tmp_path / "a.zarr"
    micrograph.write(path, Micrograph(pixels((5, 7))))

    def absent(name):
        raise ImportError(name=name)

    monkeypatch.setattr(extras.importlib, "import_module", absent)
    assert "emd-micrograph[io]" in line(path)
    with pytest.raises(FormatError, match=r"emd-micrograph\[io\]"):
        micrograph.write(pathlib.Path(tmp_path, "b.zarr"), Micrograph(pixels((5, 7))))
    assert not (tmp_path / "b.zarr").exists()


def test_the_origin_is_a_translation(tmp_path):
    frames = [{"name": "depth", "scale": 2.0, "offset": -7.0, "units": "nm"}]
    metadata = {"origin": [-3.0, 4.5], "frames": frames}
    value = Micrograph(pixels((2, 5, 7)), (0.5, 0.25), "Å", metadata)
    micrograph.write(tmp_path / "a.zarr", value)
    (told,) = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["ome"]["multiscales"]
    assert told["datasets"][0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [2.0, 0.5, 0.25]},
        {"type": "translation", "translation": [-7.0, -3.0, 4.5]},
    ]
    assert micrograph.read(tmp_path / "a.zarr") == value


def test_others_translations_and_one_changed_since(tmp_path):
    axes = [axis("y", "micrometer"), axis("x", "nanometer")]
    more = [{"type": "translation", "translation": [0.1, -7.0]}]
    image(tmp_path / "a.zarr", pixels((4, 4)), axes, [0.002, 3.0], coordinateTransformations=more)
    found = micrograph.read(tmp_path / "a.zarr")
    assert (found.unit, found.metadata["origin"]) == ("nm", [100.0, -7.0])
    micrograph.write(tmp_path / "b.zarr", found)
    assert micrograph.read(tmp_path / "b.zarr") == found
    text = (tmp_path / "b.zarr/zarr.json").read_text()
    (tmp_path / "b.zarr/zarr.json").write_text(text.replace("100.0,\n", "150.0,\n"))
    assert micrograph.read(tmp_path / "b.zarr").metadata["origin"] == [150.0, -7.0]

"""The codecs of Zarr 3 and of numcodecs: arrays come back in their form, in any process."""

import json
import subprocess
import sys

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")
numcodecs = pytest.importorskip("numcodecs")

from emd.codec.container import MAGIC  # noqa: E402
from emd.codec.numcodecs_codec import Emdz  # noqa: E402
from emd.codec.zarr_codec import EmdzCodec  # noqa: E402
from emd.data import micrograph  # noqa: E402
from emd.data.contents import DTYPES, FormatError  # noqa: E402

SHAPES = [(30, 41), (3, 20, 24), (2, 3, 20, 24), (1, 1, 2, 20, 24), (20, 17, 3), (1, 1), (7, 1)]


def counts(shape, dtype="uint16"):
    """An image's or a stack's worth of counts."""
    image = np.random.default_rng(0).poisson(50, shape)
    return image.astype(dtype)


def made(store, array, chunks, codec, **options):
    made = zarr.create_array(
        store, shape=array.shape, dtype=array.dtype, chunks=chunks, serializer=codec,
        compressors=None, **options,
    )  # fmt: skip
    made[...] = array
    return zarr.open_array(store, mode="r")


def made2(store, array, chunks, codec, **options):
    made = zarr.create_array(
        store, shape=array.shape, dtype=array.dtype, chunks=chunks, zarr_format=2,
        compressors=codec, **options,
    )  # fmt: skip
    made[...] = array
    return zarr.open_array(store, mode="r")


def streams(path):
    """The bytes of an array's stored chunks."""
    files = [p for p in path.rglob("*") if p.is_file() and not p.name.lstrip(".").startswith("z")]
    return [file.read_bytes() for file in files]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("make", [made, made2])
def test_arrays_of_any_axes_come_back(tmp_path, shape, make):
    array = counts(shape)
    codec = (EmdzCodec if make is made else Emdz)(lossless=True)
    # the last chunks reach over the edge
    for chunks in (shape, tuple(-(-side // 2) for side in shape)):
        found = make(tmp_path / "a.zarr", array, chunks, codec, overwrite=True)
        np.testing.assert_array_equal(found[...], array)
        assert found.dtype == array.dtype
    stored = streams(tmp_path / "a.zarr")
    assert stored
    assert all(data.startswith(MAGIC) for data in stored)


@pytest.mark.parametrize("dtype", [*DTYPES, ">u2", ">f4"])
@pytest.mark.parametrize("make", [made, made2])
def test_every_type_comes_back(tmp_path, dtype, make):
    array = counts((2, 20, 24)).astype(dtype)
    if array.dtype.kind == "f":
        array[0, 0, :3] = np.nan, np.inf, -0.0
    codec = (EmdzCodec if make is made else Emdz)(lossless=True)
    found = make(tmp_path / "a.zarr", array, (1, 20, 24), codec)
    assert found.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    assert found[...].astype(array.dtype).tobytes() == array.tobytes()


@pytest.mark.parametrize("make", [made, made2])
def test_what_may_be_lost_is_bounded(tmp_path, make):
    array = counts((4, 64, 64))
    codec = EmdzCodec if make is made else Emdz
    kept = make(tmp_path / "exact.zarr", array, (1, 64, 64), codec())
    near = make(tmp_path / "near.zarr", array, (1, 64, 64), codec(max_error=3))
    np.testing.assert_array_equal(kept[...], array)
    errors = near[...].astype(int) - array
    assert 0 < np.abs(errors).max() <= 3
    sizes = [
        sum(len(data) for data in streams(tmp_path / name)) for name in ("exact.zarr", "near.zarr")
    ]
    assert sizes[1] < 0.8 * sizes[0]


def test_shards_hold_streams(tmp_path):
    array = counts((4, 64, 64))
    found = made(tmp_path / "a.zarr", array, (1, 32, 32), EmdzCodec(), shards=(2, 64, 64))
    np.testing.assert_array_equal(found[...], array)
    np.testing.assert_array_equal(found[1, 5:9, 30:40], array[1, 5:9, 30:40])
    assert b"".join(streams(tmp_path / "a.zarr")).count(MAGIC) == 16


def test_order_in_memory_does_no_harm(tmp_path):
    array = counts((30, 41))
    for order in ("C", "F"):
        found = made2(tmp_path / f"{order}.zarr", array, (30, 41), Emdz(), order=order)
        np.testing.assert_array_equal(found[...], array)
        for given in (array, np.asfortranarray(array), array[::2, ::-3], array.T):
            back = Emdz().decode(Emdz().encode(given))
            np.testing.assert_array_equal(back, given)
            assert back.flags.f_contiguous >= (given.flags.f_contiguous)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_numcodecs_alone_gives_the_shape_back(shape):
    array = counts(shape)
    back = Emdz().decode(Emdz().encode(array))
    assert back.shape == shape
    np.testing.assert_array_equal(back, array)


def test_the_configuration_is_what_is_set(tmp_path):
    made(tmp_path / "a.zarr", counts((9, 9)), (9, 9), EmdzCodec(max_error=0))
    (codec,) = json.loads((tmp_path / "a.zarr/zarr.json").read_text())["codecs"]
    assert codec == {"name": "emdz", "configuration": {"max_error": 0}}
    assert EmdzCodec.from_dict(codec) == EmdzCodec(max_error=0)
    assert EmdzCodec.from_dict({"name": "emdz"}) == EmdzCodec(lossless=True) == EmdzCodec()
    made2(tmp_path / "b.zarr", counts((40, 40)), (40, 40), Emdz(bpp=2.5))
    held = json.loads((tmp_path / "b.zarr/.zarray").read_text())
    assert held["compressor"] == {"id": "emdz", "bpp": 2.5}
    assert numcodecs.get_codec(held["compressor"]) == Emdz(bpp=2.5)
    assert repr(Emdz(bpp=2.5)) == "Emdz(bpp=2.5)"
    for codec in (EmdzCodec, Emdz):
        with pytest.raises(ValueError, match="no setting 'level'"):
            codec(level=3)


@pytest.mark.parametrize(
    ("shape", "dtype", "text"),
    [((9,), "uint16", "last two axes"), ((9, 9), "uint64", "uint64"), ((9, 9), "bool", "bool"),
     ((9, 9), "complex64", "complex64")],
)  # fmt: skip
def test_what_emdz_cannot_hold_is_refused(tmp_path, shape, dtype, text):
    array = np.zeros(shape, dtype)
    with pytest.raises(ValueError, match=text):
        made(tmp_path / "a.zarr", array, shape, EmdzCodec())
    with pytest.raises(ValueError, match=text):
        Emdz().encode(array)


def test_out_is_filled():
    array = counts((3, 20, 24))
    data = Emdz().encode(array)
    out = np.empty_like(array)
    assert Emdz().decode(memoryview(data), out) is out
    np.testing.assert_array_equal(out, array)
    back = Emdz().decode(np.frombuffer(data, np.uint8))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_damage_is_told(tmp_path):
    array = counts((20, 24))
    path = tmp_path / "a.zarr"
    made(path, array, (20, 24), EmdzCodec())
    (chunk,) = (p for p in (path / "c").rglob("*") if p.is_file())
    data = chunk.read_bytes()
    chunk.write_bytes(data[:-1])
    with pytest.raises(FormatError):
        zarr.open_array(path, mode="r")[...]
    # a chunk of another array
    for other in (array[:-1], array.astype("int16")):
        made(tmp_path / "other.zarr", other, other.shape, EmdzCodec(), overwrite=True)
        (strange,) = (p for p in (tmp_path / "other.zarr/c").rglob("*") if p.is_file())
        chunk.write_bytes(strange.read_bytes())
        with pytest.raises(FormatError, match="of another chunk"):
            zarr.open_array(path, mode="r")[...]
    with pytest.raises(FormatError):
        Emdz().decode(data[:-1])


OPENS = """
import sys
import zarr
assert "emd" not in sys.modules
array = zarr.open_group(sys.argv[1], mode="r")["0"]
print(array[1].sum(), array.dtype)
assert "emd" in sys.modules
assert "jax" not in sys.modules
"""


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_opens_it_without_being_told_of_emd(tmp_path, version):
    """An OME-Zarr stack in a fresh process, which knows of emd by its entry point alone."""
    path, array = tmp_path / "ome.zarr", counts((3, 40, 40))
    group = zarr.create_group(path, zarr_format=version)
    how = {"serializer": EmdzCodec()} if version == 3 else {}
    inner = group.create_array(
        "0", shape=array.shape, dtype=array.dtype, chunks=(1, 40, 40),
        compressors=None if version == 3 else Emdz(), **how,
    )  # fmt: skip
    inner[...] = array
    image = {
        "axes": [{"name": "z"}, *({"name": n, "type": "space", "unit": "nanometer"} for n in "yx")],
        "datasets": [
            {"path": "0",
             "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]}
        ],
        "version": "0.4",
    }  # fmt: skip
    ome = {"multiscales": [image]}
    group.attrs.update({"ome": {"version": "0.5", **ome}} if version == 3 else ome)
    command = [sys.executable, "-W", "error", "-c", OPENS, str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == [str(array[1].sum()), "uint16"]
    # and so does emd
    found = micrograph.read(path)
    np.testing.assert_array_equal(found.pixels, array)
    assert found.pixel_size == (0.5, 0.5)

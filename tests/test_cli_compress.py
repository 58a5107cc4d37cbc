"""`emd compress`, `emd decompress`, and what `emd info` tells of a stream."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from emd import cli, codec
from emd.codec import Settings
from emd.codec.container import MAGIC, Reader
from emd.data import micrograph
from emd.data.micrograph import Micrograph


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with an image, a stack, a file of two images and a bare array in `in`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    (tmp_path / "in/sub").mkdir(parents=True)
    metadata = {"mode": "STEM", "title": "gold", "acquisition": {"TEM": {"beam_energy": 300.0}}}
    micrograph.write("in/a.tif", Micrograph(image(40, 52), (0.2, 0.2), "nm", metadata))
    micrograph.write("in/sub/stack.mrc", Micrograph(image(3, 40, 52), (0.1, 0.1), "nm"))
    np.save("in/b.npy", image(40, 52).astype(np.float32))
    np.savez("in/two.npz", bright=image(30, 30), dark=image(30, 31), line=np.ones(5))
    return tmp_path


def image(*shape):
    """Smooth counts with some noise."""
    y, x = np.mgrid[: shape[-2], : shape[-1]] / 9
    clean = 200 + 100 * np.sin(y) * np.cos(x)
    return np.random.default_rng(0).poisson(np.broadcast_to(clean, shape)).astype(np.uint16)


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def fails(capsys, *arguments):
    """The one line that the command ends with."""
    assert run(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line


def refuses(capsys, *arguments):
    """The one line, after its usage, with which a command refuses its arguments."""
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def all_files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_there_and_back_without_loss(folder, capsys):
    assert run("compress", "in/a.tif", "-o", "a.emdz", "--lossless") == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    size = os.path.getsize("a.emdz")
    bits = 8 * size / (40 * 52)
    assert line.startswith(f"a.emdz: {size} bytes, {bits:.4g} bits a pixel, ")
    assert f"{40 * 52 * 2 / size:.4g} times smaller than 40x52 uint16" in line
    assert "lossless" in line
    assert "dB" not in line
    assert run("decompress", "a.emdz", "-o", "back.tif") == 0
    assert capsys.readouterr().out == f"back.tif: 40x52 uint16, of {size} bytes\n"
    given, back = micrograph.read("in/a.tif"), micrograph.read("back.tif")
    np.testing.assert_array_equal(back.pixels, given.pixels)
    assert (back.pixel_size, back.unit) == (given.pixel_size, given.unit)
    assert {k: v for k, v in back.metadata.items() if k != "emd"} == given.metadata
    (step,) = back.metadata["emd"]
    assert isinstance(step, dict)


@pytest.mark.parametrize(
    "option",
    [[], ["--quality", "40"], ["--bpp", "2.5"], ["--psnr", "30"], ["--max-error", "5"]],
    ids=lambda option: option[0] if option else "none",
)
def test_options_are_what_they_say(folder, capsys, option):
    assert run("compress", "in/a.tif", "-o", "a.emdz", *option) == 0
    line = capsys.readouterr().out
    assert run("decompress", "a.emdz", "-o", "back.tif") == 0
    given, back = micrograph.read("in/a.tif").pixels, micrograph.read("back.tif").pixels
    errors = back.astype(float) - given
    psnr = 20 * np.log10(np.ptp(given) / np.sqrt(np.mean(errors**2)))
    assert f"{psnr:.1f} dB" in line
    assert np.any(errors)
    if option[:1] == ["--bpp"]:
        assert 8 * os.path.getsize("a.emdz") / given.size <= 2.5
    if option[:1] == ["--psnr"]:
        assert psnr >= 30
    if option[:1] == ["--max-error"]:
        assert np.abs(errors).max() <= 5
    # the same bytes as from the library
    stated = {option[0][2:].replace("-", "_"): float(option[1])} if option else {}
    with micrograph.opened("in/a.tif") as source, open("b.emdz", "wb") as file:
        codec.compress_to(file, source, Settings(**stated))
    with open("a.emdz", "rb") as one, open("b.emdz", "rb") as other:
        assert one.read() == other.read()


def test_a_part_of_a_stack(folder, capsys):
    assert run("compress", "in/sub/stack.mrc", "-o", "s.emdz", "--lossless") == 0
    given = micrograph.read("in/sub/stack.mrc")
    assert run("decompress", "s.emdz", "-o", "whole.mrc") == 0
    np.testing.assert_array_equal(micrograph.read("whole.mrc").pixels, given.pixels)
    assert run("decompress", "s.emdz", "-o", "one.tif", "--frame", "1") == 0
    assert micrograph.read("one.tif").pixels.shape == (40, 52)
    part = ["--region", "5:20,30:52", "--frame", "2"]
    capsys.readouterr()
    assert run("decompress", "s.emdz", "-o", "part.tif", *part) == 0
    assert "15x22 uint16" in capsys.readouterr().out
    part = micrograph.read("part.tif")
    np.testing.assert_array_equal(part.pixels, given.pixels[2, 5:20, 30:52])
    assert part.pixel_size == given.pixel_size
    assert run("compress", "in/sub/stack.mrc", "-o", "k.emdz", "--lossless", "--frame", "2") == 0
    assert run("decompress", "k.emdz", "-o", "k.tif") == 0
    np.testing.assert_array_equal(micrograph.read("k.tif").pixels, given.pixels[2])


def test_a_folder_there_and_back(folder, capsys):
    (folder / "in/notes.txt").write_text("Tuesday")
    (folder / "in/cut.tif").write_bytes((folder / "in/a.tif").read_bytes()[:300])
    assert run("compress", "in", "-o", "small", "--lossless") == 1
    said = capsys.readouterr()
    streams = [
        "a.tif.emdz", "b.npy.emdz", "sub/stack.mrc.emdz", "two.npz.bright.emdz",
        "two.npz.dark.emdz",
    ]  # fmt: skip
    assert all_files(folder / "small") == streams
    assert sorted(line.partition(":")[0] for line in said.out.splitlines()) == [
        f"small/{name}" for name in streams
    ]
    lines = said.err.splitlines()
    assert "5 done, 2 failed" in lines
    assert any(line.startswith("error: in/cut.tif: ") for line in lines)
    assert any(line.startswith("  failed: in/notes.txt: ") for line in lines)
    # nothing is replaced unless told
    before = (folder / "small/a.tif.emdz").read_bytes()
    assert run("compress", "in/a.tif", "in/b.npy", "-o", "small", "--max-error", "2") == 1
    assert capsys.readouterr().err.count("--overwrite") == 4
    assert (folder / "small/a.tif.emdz").read_bytes() == before
    assert run("compress", "in/a.tif", "in/b.npy", "-o", "small", "--lossless", "--overwrite") == 0
    capsys.readouterr()

    (folder / "small/bad.emdz").write_bytes(before[:-1])
    (folder / "small/notes.txt").write_text("Tuesday")
    assert run("decompress", "small", "-o", "large") == 1
    said = capsys.readouterr()
    assert "5 done, 2 failed" in said.err.splitlines()
    assert "error: small/notes.txt: not .emdz (.txt): passed over" in said.err.splitlines()
    assert "error: small/bad.emdz: is " in said.err
    assert all_files(folder / "large") == [
        "a.tif", "b.npy", "sub/stack.mrc", "two.npz.bright.tif", "two.npz.dark.tif",
    ]  # fmt: skip
    for name in ("a.tif", "b.npy", "sub/stack.mrc"):
        given, back = (micrograph.read(f"{top}/{name}").pixels for top in ("in", "large"))
        np.testing.assert_array_equal(back, given)
        assert back.dtype == given.dtype


def test_several_files_need_a_folder(folder, capsys):
    line = fails(capsys, "compress", "in/a.tif", "in/b.npy", "-o", "x.emdz")
    assert "named like a file" in line
    assert run("compress", "in/a.tif", "-o", "small/", "--lossless") == 0
    assert all_files(folder / "small") == ["a.tif.emdz"]


def test_no_result_replaces_another(folder, capsys):
    given = micrograph.read("in/a.tif")
    micrograph.write("in/sub/a.tif", given)
    assert run("compress", "in/a.tif", "in/sub/a.tif", "-o", "small", "--lossless") == 1
    assert "so is that of in/a.tif" in capsys.readouterr().err
    assert all_files(folder / "small") == ["a.tif.emdz"]


def test_a_bare_array_in_floats(folder, capsys):
    assert run("compress", "in/b.npy", "-o", "b.emdz", "--lossless") == 0
    assert run("decompress", "b.emdz", "-o", "b.npy") == 0
    np.testing.assert_array_equal(np.load("b.npy"), np.load("in/b.npy"))


def test_of_several_images_one_is_chosen(folder, capsys):
    line = fails(capsys, "compress", "in/two.npz", "-o", "x.emdz", "--lossless")
    assert "bright, dark" in line
    assert "--signal" in line
    assert run("compress", "in/two.npz", "-o", "x.emdz", "--lossless", "--signal", "dark") == 0
    with open("x.emdz", "rb") as file:
        assert Reader(file).header.shape == (30, 31)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--quality", "101"], "0 to 100"),
        (["--quality", "-1"], "0 to 100"),
        (["--quality", "nan"], "0 to 100"),
        (["--quality", "good"], "no number"),
        (["--bpp", "0"], "above 0"),
        (["--bpp", "inf"], "above 0"),
        (["--psnr", "-3"], "above 0"),
        (["--max-error", "-1"], "from 0"),
        (["--frame", "-1"], "below 0"),
        (["--bpp", "1", "--psnr", "40"], "not allowed with"),
        (["--lossless", "--max-error", "1"], "not allowed with"),
        (["--lossless", "--model", "lapped"], "--lossless needs no model"),
        (["--max-error", "0", "--model", "lapped"], "--max-error needs no model"),
        (["-o", "a.tif"], "name it so"),
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense(folder, capsys, options, text):
    line = refuses(capsys, "compress", "in/a.tif", "-o", "a.emdz", *options)
    assert text in line
    assert os.listdir() == ["in"]


@pytest.mark.parametrize(
    "region",
    ["", "1:2", "5:5,0:9", "9:5,0:9", "-1:5,0:9", "0:9,0:x", "0:9,0:9,0:9", "0:9,0:99999999999"],
)
def test_regions_that_make_no_sense(folder, capsys, region):
    assert run("compress", "in/a.tif", "-o", "a.emdz", "--lossless") == 0
    refuses(capsys, "decompress", "a.emdz", "-o", "b.tif", f"--region={region}")
    assert not os.path.exists("b.tif")


def test_what_cannot_be_done_leaves_nothing(folder, capsys, monkeypatch):
    def refused(*arguments):
        line = fails(capsys, *arguments)
        assert sorted(os.listdir()) == before
        return line

    assert run("compress", "in/sub/stack.mrc", "-o", "s.emdz", "--lossless") == 0
    data = (folder / "s.emdz").read_bytes()
    (folder / "cut.emdz").write_bytes(data[:-1])
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    (folder / "flipped.emdz").write_bytes(flipped)
    capsys.readouterr()
    before = sorted(os.listdir())
    out = ["-o", "b.tif"]
    assert "no such file" in refused("compress", "none.tif", "-o", "b.emdz")
    assert "has no frame 3" in refused("compress", "in/sub/stack.mrc", "-o", "b.emdz", "--frame", 3)
    assert "no signal 'x'" in refused("compress", "in/a.tif", "-o", "b.emdz", "--signal", "x")
    assert "its folder" in refused("compress", "in/a.tif", "-o", "none/b.emdz")
    assert "--overwrite" in refused("compress", "in/a.tif", "-o", "s.emdz")
    assert "nonsense" in refused("compress", "in/a.tif", "-o", "b.emdz", "--denoise", "nonsense")
    assert "nonsense" in refused("compress", "in/a.tif", "-o", "b.emdz", "--model", "nonsense")
    assert "no such file" in refused("decompress", "none.emdz", *out)
    assert "cut.emdz: is " in refused("decompress", "cut.emdz", *out)
    assert "flipped.emdz: is damaged" in refused("decompress", "flipped.emdz", *out)
    assert "no .emdz stream" in refused("decompress", "in/a.tif", *out)
    assert "no frame 3" in refused("decompress", "s.emdz", *out, "--frame", 3)
    assert "region" in refused("decompress", "s.emdz", *out, "--region", "0:41,0:52")
    assert "no format to write" in refused("decompress", "s.emdz", "-o", "b.jpg")
    assert "--overwrite" in refused("decompress", "s.emdz", "-o", "in/a.tif")
    assert "would replace it" in refused("decompress", "s.emdz", "-o", "s.emdz", "--overwrite")

    def fail(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(codec, "compress_to", lambda file, *_: (file.write(b"half"), fail()))
        assert run("compress", "in/a.tif", "-o", "b.emdz") == 130
    assert capsys.readouterr().err == "error: interrupted; nothing was written\n"
    assert sorted(os.listdir()) == before
    with monkeypatch.context() as patch:
        patch.setattr(codec, "compress_to", fail)
        assert run("compress", "in", "-o", "b") == 130
    assert "interrupted: 0 done, 0 failed, 4 left" in capsys.readouterr().err


def test_info_tells_what_a_stream_is(folder, capsys):
    assert run("compress", "in/a.tif", "-o", "a.emdz", "--bpp", "2") == 0
    size = os.path.getsize("a.emdz")
    capsys.readouterr()
    assert run("info", "a.emdz") == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == "a.emdz: emd stream"
    told = {line[2:].split("  ")[0]: line.split("  ")[-1].strip() for line in lines[1:]}
    assert told["size"] == "40x52 uint16"
    assert told["pixel size"] == "0.2 nm"
    assert told["field"] == "8 x 10.4 nm"
    assert told["mode"] == "STEM"
    assert told["title"] == "gold"
    assert told["instrument"] == "300 kV"
    assert told["stream"].startswith(f"{size} bytes, {8 * size / 2080:.4g} bits a pixel, ")
    assert told["coder"] == "lapped, version 1"
    assert told["weights"].endswith(")")
    assert "step" in told["settings"]
    assert told["software"].startswith("emd ")
    assert run("info", "a.emdz", "--json") == 0
    (signal,) = json.loads(capsys.readouterr().out)["signals"]
    assert signal["shape"] == [40, 52]
    assert signal["stream"]["bytes"] == size
    assert len(signal["stream"]["weights"]["fingerprint"]) == 16
    assert signal["mode"] == "STEM"
    assert run("compress", "in/a.tif", "-o", "e.emdz", "--max-error", "3") == 0
    capsys.readouterr()
    assert run("info", "e.emdz") == 0
    text = capsys.readouterr().out
    assert "  coder       lattice, version 1\n  settings    max error counts 3\n" in text
    # nothing is decoded: what is damaged within is not seen
    (folder / "cut.emdz").write_bytes((folder / "a.emdz").read_bytes()[:-1])
    assert run("info", "cut.emdz", "in/a.tif", "a.emdz") == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: cut.emdz: is ")
    assert said.out.count("size  ") > 1


def test_info_knows_a_stream_by_its_first_bytes(folder, capsys):
    (folder / "x.emdz").write_bytes(b"text")
    assert "no .emdz stream" in fails(capsys, "info", "x.emdz")
    (folder / "named.tif").write_bytes(MAGIC)
    assert "is truncated" in fails(capsys, "info", "named.tif")


def test_no_model_no_jax(folder):
    code = (
        "import sys\n"
        "from emd import cli\n"
        "for line in ('compress in/a.tif -o a.emdz --bpp 2', 'decompress a.emdz -o b.tif',\n"
        "             'compress in/a.tif -o c.emdz --lossless', 'info a.emdz'):\n"
        "    if cli.main(line.split()):\n"
        "        sys.exit(2)\n"
        "sys.exit(any(name in sys.modules for name in ('jax', 'zarr')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

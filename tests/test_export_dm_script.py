"""The DigitalMicrograph script, run here: its language is small enough to be read as Python."""

import functools
import re

import numpy as np
import pytest

import emd
from emd import export
from emd.export import dm_script

KERNEL = "tem_kernel_w7"


@functools.cache
def load(name):
    return emd.load(name)


def noisy(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(20 + 10 * np.sin(np.arange(shape[-1]) / 9), shape).astype(np.float32)


class Image:
    """A real image of 4 bytes; slices are [top, left, bottom, right]."""

    def __init__(self, pixels):
        self.pixels, self.tags, self.name, self.calibration = pixels, {}, "", None

    def __getitem__(self, place):
        top, left, bottom, right = map(int, place)
        height, width = self.pixels.shape
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
        return self.pixels[top:bottom, left:right]

    def __setitem__(self, place, value):
        self[place][...] = value

    def set(self, value):
        assert np.shape(value) in ((), self.pixels.shape)
        self.pixels[...] = value


class ThrownError(Exception):
    pass


def library(front):
    """What the script calls; images in expressions are their pixels, apart from slices."""

    def pixels(image):
        return image.pixels if isinstance(image, Image) else image

    def throw(text):
        raise ThrownError(text)

    def set_pixel(image, x, y, value):
        image.pixels[y, x] = value

    return {
        "GetFrontImage": lambda: front,
        "ImageGetNumDimensions": lambda image: image.pixels.ndim,
        "GetSize": lambda image: image.pixels.shape[::-1],
        "RealImage": lambda _, size, w, h: Image(np.full((h, w), np.nan, f"f{size}")),
        "GetPixel": lambda image, x, y: float(image.pixels[int(y), int(x)]),
        "SetPixel": set_pixel,
        "Throw": throw,
        "min": lambda image: float(pixels(image).min()),
        "mean": lambda image: float(pixels(image).astype(float).mean()),
        "exp": np.exp,
        "GetName": lambda image: image.name,
        "SetName": lambda image, name: setattr(image, "name", name),
        "ImageCopyCalibrationFrom": lambda to, of: setattr(to, "calibration", of.calibration),
        "ImageGetTagGroup": lambda image: image.tags,
        "TagGroupCopyTagsFrom": lambda to, of: to.update(of),
        "TagGroupSetTagAsString": lambda tags, path, text: tags.__setitem__(path, text),
        "ShowImage": lambda image: image.__setattr__("shown", True),
    }


def arithmetic(text, images):
    """An expression with the pixels of whole images, where they are not sliced or handed on."""
    for name in images:
        text = re.sub(rf"(?<![\w(\"]){name}(?![\w\[\"(])(?=[\s)])", f"{name}.pixels", text)
        text = re.sub(rf"(^|\(){name}(?= [-*+])", rf"\1{name}.pixels", text)
    return text


def assigned(m, images):
    value = arithmetic(m[2], images)
    return f"{m[1]}.set({value})" if m[1] in images else f"{m[1]} = {value}"


def looped(m, images):
    return f"for {m[1]} in range({m[2]}, int({m[4]}){' + 1' if m[3] == '<=' else ''}):"


STATEMENTS = {
    r"for \(number (\w+) = (\d); \1 (<=?) (.+); \1\+\+\) \{": looped,
    r"if \((.+?)\) (Throw\(\".*\"\)|\w+ = \d)": lambda m, _: (
        f"if {m[1].replace('||', 'or')}: {m[2]}"
    ),
    r"image (\w+) := (GetFrontImage\(\)|RealImage\(.+\))": lambda m, _: f"{m[1]} = {m[2]}",
    r"number (\w+)(, \w+)*": lambda m, _: "pass",
    r"GetSize\((\w+), (\w+), (\w+)\)": lambda m, _: f"{m[2]}, {m[3]} = GetSize({m[1]})",
    r"(?:number )?(\w+) = (.+)": assigned,
    r"(\w+) \+= (.+)": lambda m, images: f"{m[1]}.set({m[1]}.pixels + {arithmetic(m[2], images)})",
    r"(\w+\[.+?\]) = (.+)": lambda m, images: f"{m[1]} = {arithmetic(m[2], images)}",
    r"(SetPixel|SetName|ShowImage|ImageCopy\w+|TagGroup\w+)\(.+\)": lambda m, _: m[0],
}


def translated(script):
    """The script as Python, statement by statement; any other statement is an error."""
    images = set(re.findall(r"^image (\w+)", script, re.M))
    lines, depth = [], 0
    for raw in script.splitlines():
        line = raw.split("//")[0].strip()
        if line == "}":
            depth -= 1
        elif line:
            found = ((re.fullmatch(pattern, line), rule) for pattern, rule in STATEMENTS.items())
            python = next((rule(match, images) for match, rule in found if match), None)
            assert python, f"not understood: {line}"
            lines.append("  " * depth + python)
            depth += line.endswith("{")
    assert depth == 0
    return "\n".join(lines)


def run(name, x):
    front = Image(np.array(x, np.float32))
    front.name, front.calibration, front.tags["Microscope"] = "grid 3", (0.2, "nm"), "ours"
    names = library(front)
    script = dm_script.render(load(name).model).decode("ascii")
    exec(compile(translated(script), name, "exec"), names)
    np.testing.assert_array_equal(front.pixels, x)  # the first image stays as it was
    return names["restored"]


@pytest.mark.parametrize(
    "name", [KERNEL, "stem_kernel_w5_published", "tem_mlp1_w5", "temstem_mlp2_w3"]
)
@pytest.mark.parametrize("shape", [(40, 31), (9, 20)])
def test_the_script_is_denoise(name, shape):
    x = noisy(shape)
    expected = load(name)(x)
    assert np.abs(expected - x).mean() > 1
    np.testing.assert_allclose(run(name, x).pixels, expected, atol=1e-4 * x.mean())


def test_a_constant_image_comes_back():
    x = np.full((12, 13), 7, np.float32)
    for name in (KERNEL, "stem_kernel_w5_published", "tem_mlp1_w5"):
        np.testing.assert_array_equal(run(name, x).pixels, x)


def test_calibration_and_tags_come_along():
    restored = run(KERNEL, noisy((20, 20)))
    assert restored.calibration == (0.2, "nm")
    assert restored.name == f"grid 3 {KERNEL}"
    assert restored.tags["Microscope"] == "ours"
    assert restored.tags["emd:model"] == KERNEL
    assert restored.tags["emd:version"] == emd.__version__
    assert restored.shown


def test_images_smaller_than_the_window_and_stacks_are_refused():
    with pytest.raises(ThrownError, match="longer than 3 pixels"):
        run(KERNEL, noisy((3, 20)))
    with pytest.raises(ThrownError, match="2-D"):
        run(KERNEL, noisy((2, 20, 20)))


def test_every_number_is_plain():
    """No exponents, and each image is filled entirely."""
    for name in (KERNEL, "tem_mlp1_w5", "temstem_mlp2_w3"):
        script = dm_script.render(load(name).model).decode("ascii")
        sizes = dict.fromkeys(re.findall(r'RealImage\("(\w+)", 4, \d+, \d+\)', script), 0)
        for target, number in re.findall(r"^SetPixel\((\w+), \d+, \d+, (.+)\)$", script, re.M):
            assert re.fullmatch(r"-?\d+\.\d+", number)
            sizes[target] += 1
        found = re.findall(r'RealImage\("(\w+)", 4, (\d+), (\d+)\)', script)
        assert sizes == {target: int(w) * int(h) for target, w, h in found}


def test_names_stand_for_one_thing(tmp_path):
    """The language knows no case: names must differ by more."""
    path = export.export(load("temstem_mlp2_w3"), tmp_path / "a.s", "dm-script")
    script = re.sub(r'//.*|"[^"]*"', "", path.read_text("ascii"))
    names = set(re.findall(r"(?<!\w)(?:image|number) (\w+)", script))
    words = set(re.findall(r"[A-Za-z]\w*", script))
    assert {"source", "weights", "connection"} <= names
    for name in names:
        assert [word for word in words if word.lower() == name.lower()] == [name]

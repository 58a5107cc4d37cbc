import numpy as np
import pytest

from emd.tiling import gather, make_tiling, paste, stream


def copy(part, out):
    out[...] = part


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize("tile_px", [1, 8, 60, 512])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4096), (37, 500), (161, 333)])
def test_stitching_the_tiles_gives_the_image(shape, tile_px, frames, workers):
    if tile_px == 1 and max(shape) > 1000:
        pytest.skip("slow and no other case")
    images = np.arange(frames * shape[0] * shape[1]).reshape(frames, *shape)
    tiling = make_tiling(shape, frames=frames, largest=(tile_px, tile_px), workers=workers)
    assert all(side % 8 == 0 and side <= max(tile_px + 7, 8) for side in tiling.tile)
    assert tiling.batch * tiling.tile[0] * tiling.tile[1] <= max(tile_px + 7, 8) ** 2
    out = np.full_like(images, -1)
    shapes = set()

    def read(tile, out):
        places = [
            np.minimum(np.arange(start, start + side), length - 1)
            for start, side, length in zip(tile[1:], tiling.tile, shape, strict=True)
        ]
        gather(images[tile.frame], *places, copy, out)
        return (np.float32(tile.frame),)

    def call(batch, numbers):
        shapes.add((batch.shape, numbers.shape))
        return batch.copy()

    def write(tile, piece):
        paste(out[tile.frame], piece, tile.row, tile.column)

    inputs = np.empty((tiling.batch, *tiling.tile), images.dtype)
    stream(tiling.tiles(frames), read, call, write, inputs, workers=workers)
    np.testing.assert_array_equal(out, images)
    assert len(shapes) == 1


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [2, 1, 2, 3, 2, 1], [3, 3], [1]])
@pytest.mark.parametrize("columns", [[4, 4, 3], [1, 2, 3, 4], [2, 1, 0, 1, 2, 3, 4, 3, 4], [0, 0]])
def test_gathering_repeats_and_turns_rows(rows, columns):
    image = np.arange(20).reshape(4, 5)
    out = np.full((len(rows), len(columns)), -1)
    gather(image, np.array(rows), np.array(columns), copy, out)
    np.testing.assert_array_equal(out, image[np.ix_(rows, columns)])


def test_small_frames_go_together_and_large_ones_alone():
    assert make_tiling((64, 64), frames=100, largest=(512, 512)).frames == 64
    assert make_tiling((64, 64), frames=100, largest=(256, 256), workers=2).frames == 32
    assert make_tiling((600, 600), frames=100, largest=(512, 512)).frames == 1


def test_tiles_need_not_be_square():
    tiling = make_tiling((600, 600), frames=1, largest=(100, 300))
    assert (tiling.tile, tiling.batch) == ((104, 304), 1)


def test_a_tile_without_pixels_is_refused():
    with pytest.raises(ValueError, match="tile_px is -3"):
        make_tiling((5, 5), frames=1, largest=(8, -3))

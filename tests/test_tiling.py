import numpy as np
import pytest

from emd.tiling import gather, make_tiling, paste, stream


@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize("tile_px", [1, 8, 60, 512])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4096), (37, 500), (161, 333)])
def test_stitching_the_tiles_gives_the_image(shape, tile_px, frames):
    if tile_px == 1 and max(shape) > 1000:
        pytest.skip("slow and no other case")
    images = np.arange(frames * shape[0] * shape[1]).reshape(frames, *shape)
    tiling = make_tiling(shape, frames=frames, tile_px=tile_px)
    assert all(side % 8 == 0 and side <= max(tile_px + 7, 8) for side in tiling.tile)
    assert tiling.batch * tiling.tile[0] * tiling.tile[1] <= max(tile_px + 7, 8) ** 2
    out = np.full_like(images, -1)
    shapes = set()

    def read(tile):
        places = [
            np.minimum(np.arange(start, start + side), length - 1)
            for start, side, length in zip(tile[1:], tiling.tile, shape, strict=True)
        ]
        return (gather(images[tile.frame], *places),)

    def call(batch):
        shapes.add(batch.shape)
        return batch

    for tile, piece in stream(tiling.tiles(frames), read, call, tiling.batch):
        paste(out[tile.frame], piece, tile.row, tile.column)
    np.testing.assert_array_equal(out, images)
    assert len(shapes) == 1


def test_gathering_repeats_and_turns_rows():
    image = np.arange(20).reshape(4, 5)
    rows, columns = np.array([2, 1, 2, 3]), np.array([4, 4, 3])
    np.testing.assert_array_equal(gather(image, rows, columns), image[np.ix_(rows, columns)])


def test_small_frames_go_together_and_large_ones_alone():
    assert make_tiling((64, 64), frames=100, tile_px=512).frames == 64
    assert make_tiling((600, 600), frames=100, tile_px=512).frames == 1


def test_a_tile_without_pixels_is_refused():
    with pytest.raises(ValueError, match="tile_px is -3"):
        make_tiling((5, 5), frames=1, tile_px=-3)

"""The forms that are fast on a CPU: the same sums as the plain ones in `emd.models.layers`.

XLA's CPU backend runs gradients of grouped and of input-dilated convolutions on a slow path, and
reaches the machine's arithmetic only in plain convolutions and matrix products. Memory fresh from
the system costs as much as the arithmetic does, so large intermediates are made block by block.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

BLOCK_BYTES = 2**22
"""What the columns of one block may take: measured best of 2 to 32 MiB on two cores."""


def depthwise(
    x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 1 c"], *, stride: int
) -> Float[Array, "n h2 w2 c"]:
    """Return the depthwise 3x3 SAME convolution as nine shifted, weighted slices."""
    _, h, w, _ = x.shape
    rows, cols = -(-h // stride), -(-w // stride)
    pad_h, pad_w = (max((n - 1) * stride + 3 - s, 0) for n, s in ((rows, h), (cols, w)))
    # SAME puts the odd pixel of padding at the end
    padded = jnp.pad(
        x, ((0, 0), (pad_h // 2, pad_h - pad_h // 2), (pad_w // 2, pad_w - pad_w // 2), (0, 0))
    )

    def tap(i: int, j: int) -> Float[Array, "n h2 w2 c"]:
        last_row, last_col = i + (rows - 1) * stride + 1, j + (cols - 1) * stride + 1
        return padded[:, i:last_row:stride, j:last_col:stride] * kernel[None, None, i, j]

    total = tap(0, 0)
    for i, j in [(i, j) for i in range(3) for j in range(3)][1:]:
        total = total + tap(i, j)
    return total


@jax.custom_vjp
def product(x: Float[Array, "n h w c"], matrix: Float[Array, "c f"]) -> Float[Array, "n h w f"]:
    """Return ``x @ matrix``, its gradients as fast as itself."""
    return x @ matrix


def _product_forward(x: Array, matrix: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ matrix, (x, matrix)


def _product_backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    # without the barrier XLA computes both anew for each use, in the order of their transposes
    (x, matrix), dy = lax.optimization_barrier((saved, dy))
    return dy @ matrix.T, _gram(x, dy).astype(matrix.dtype)


product.defvjp(_product_forward, _product_backward)


def _gram(x: Float[Array, "*pixels c"], dy: Float[Array, "*pixels f"]) -> Float[Array, "c f"]:
    """Return the sum over pixels of x times dy in float32.

    XLA transposes the first factor, so the smaller one comes first.
    """
    over_pixels = (tuple(range(x.ndim - 1)),) * 2, ((), ())
    x, dy = x.astype(jnp.float32), dy.astype(jnp.float32)
    if x.shape[-1] <= dy.shape[-1]:
        return lax.dot_general(x, dy, over_pixels)
    return lax.dot_general(dy, x, over_pixels).T


@jax.custom_vjp
def upsample(
    x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c f"]
) -> Float[Array, "n h2 w2 f"]:
    """Return the transposed convolution of stride 2 as four convolutions, interleaved.

    Even output rows see the first and the last row of the kernel, odd ones the middle row; columns
    likewise. So each of the four sets of pixels is a plain convolution with 4, 2, 2 or 1 taps.
    """
    n, h, w, _ = x.shape
    taps = {0: slice(2, None, -2), 1: slice(1, 2)}  # of even and of odd pixels

    def pixels(row: int, column: int) -> Float[Array, "n h w f"]:
        # without the barrier XLA would repeat the convolution where it interleaves
        return lax.optimization_barrier(
            lax.conv_general_dilated(
                x,
                kernel[taps[row], taps[column]],
                (1, 1),
                ((1 - row, 0), (1 - column, 0)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        )

    even, odd = (jnp.stack([pixels(row, 0), pixels(row, 1)], axis=3) for row in (0, 1))
    interleaved = jnp.stack([even, odd], axis=2).reshape(n, 2 * h, 2 * w, kernel.shape[-1])
    return lax.optimization_barrier(interleaved)


def _upsample_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return upsample(x, kernel), (x, kernel)


def _upsample_backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    """Return the gradients of input and kernel: two matrix products for each block of rows.

    The nine taps of dy that an input pixel was spread to are gathered to a row of a matrix; with
    all rows at once that matrix would be nine times a map of half the channels, fresh memory that
    takes longer to fill than to multiply.
    """
    x, kernel = saved
    n, h, w, c = x.shape
    f = kernel.shape[-1]
    block = _block_rows(h, 4 * n * w * 9 * f)
    weights = lax.optimization_barrier(kernel.transpose(0, 1, 3, 2).reshape(9 * f, c))

    def one(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        dx, dkernel = carry
        columns = _columns(dy, i * block, block)
        rows = lax.dynamic_slice_in_dim(x, i * block, block, axis=1).reshape(-1, c)
        part = (columns @ weights).reshape(n, block, w, c)
        dx = lax.dynamic_update_slice_in_dim(dx, part, i * block, axis=1)
        return dx, dkernel + _gram(rows, columns)

    start = jnp.zeros_like(x), jnp.zeros((c, 9 * f))
    dx, dkernel = lax.fori_loop(0, h // block, one, start)
    return dx, dkernel.reshape(c, 3, 3, f).transpose(1, 2, 0, 3).astype(kernel.dtype)


upsample.defvjp(_upsample_forward, _upsample_backward)


def _columns(
    dy: Float[Array, "n h2 w2 f"], first: Array, block: int
) -> Float[Array, "pixels taps"]:
    """Return the nine taps of dy for each input pixel of some rows, zeros beyond the end."""
    n, h2, w2, f = dy.shape
    rows = lax.dynamic_slice_in_dim(dy, 2 * first, 2 * block, axis=1)
    # past the end the slice would come from before it
    inside = (2 * (first + block) < h2).astype(dy.dtype)
    below = lax.dynamic_slice_in_dim(dy, 2 * (first + block), 1, axis=1) * inside
    padded = jnp.pad(jnp.concatenate([rows, below], axis=1), ((0, 0), (0, 0), (0, 1), (0, 0)))
    taps = [padded[:, i : i + 2 * block : 2, j : j + w2 : 2] for i in range(3) for j in range(3)]
    # without the barriers XLA gathers anew for each product
    gathered = lax.optimization_barrier(jnp.concatenate(taps, axis=-1))
    return gathered.reshape(n * block * (w2 // 2), 9 * f)


def _block_rows(rows: int, row_bytes: int) -> int:
    """Return the most rows that divide ``rows`` evenly and fit a block, or 1."""
    fitting = [m for m in range(1, rows + 1) if rows % m == 0 and m * row_bytes <= BLOCK_BYTES]
    return max(fitting, default=1)


def to_image(x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c 1"]) -> Float[Array, "n h w"]:
    """Return the convolution to one channel as one matrix product to nine planes, shifted."""
    _, h, w, c = x.shape
    planes = lax.optimization_barrier(product(x, kernel.reshape(9, c).T))
    padded = jnp.pad(planes, ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = padded[:, 0:h, 0:w, 0]
    for k in range(1, 9):
        i, j = divmod(k, 3)
        total = total + padded[:, i : i + h, j : j + w, k]
    return total


def channel_sums(x: Float[Array, "n h w c"]) -> Float[Array, " c"]:
    """Return the sum of each channel, in two steps: first over rows, along unbroken memory."""
    return x.reshape(-1, *x.shape[2:]).sum(0).sum(0)

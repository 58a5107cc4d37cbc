"""Denoising and compression of electron micrographs with models small enough to ship along.

Importing `emd` alone loads neither jax nor any model: name the module you want, such as
`emd.checkpoint` or `emd.restore`.
"""

__version__ = "0.1.0"

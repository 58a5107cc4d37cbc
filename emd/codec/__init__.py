"""Micrographs as small files, in real bytes: see FORMAT.md for what is in them."""

from emd.codec.settings import Settings as Settings
from emd.codec.stream import compress as compress
from emd.codec.stream import compress_to as compress_to
from emd.codec.stream import decompress as decompress
from emd.codec.stream import describe as describe

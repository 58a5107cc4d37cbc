"""The container of .emdz: what goes in comes out, and all damage is one FormatError."""

import io
import json
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emd.codec import container, header, varints
from emd.codec.container import Header, Reader
from emd.data.contents import DTYPES, FormatError

PLAIN = Header("lapped", 1, (512, 512), "uint16", 256, None, b"", None, "", {}, "emd 0.1.0")
FULL = Header(
    "latents", 3, (2, 70, 33), "float32", 32, ("temstem_latent16", "0123456789abcdef"),
    b"\x00\x01parameters", (0.2, 0.25), "µm", {"mode": "STEM", "emd": [{"x": [1, None, "é"]}]},
    "emd 9.9",
)  # fmt: skip


def crc32c(data):
    """The checksum as FORMAT.md defines it, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def sealed(data):
    return data + struct.pack("<I", crc32c(data))


def stream(head, chunks=None):
    """A stream, whose chunks are some empty, some not."""
    if chunks is None:
        chunks = [bytes(range(k % 7)) for k in range(head.chunks)]
    file = io.BytesIO()
    container.write(file, head, chunks)
    return file.getvalue()


def forge(head_bytes, index=b"\x00\x00", chunks=b"", version=1):
    """A stream put together by hand, as FORMAT.md says: an oracle, and a way to lie."""
    start = b"\x89EMZ\r\n\x1a\n" + bytes([version]) + varints.pack(len(head_bytes)) + head_bytes
    return sealed(start) + chunks + sealed(index + struct.pack("<I", len(index)))


def read_all(data):
    """All there is in a stream."""
    reader = Reader(io.BytesIO(data))
    chunks = [
        reader.chunk(frame, k)
        for frame in range(reader.header.frames)
        for k in range(1 + reader.header.blocks)
    ]
    return reader.header, chunks


def raw(head, **fields):
    """A header's bytes by hand: `fields` replace what they would be."""
    shape = fields.get("shape", head.shape)
    flags = fields.get("flags", len(shape) == 3)
    parts = [bytes([flags, fields.get("dtype", DTYPES.index(head.dtype))])]
    parts += [varints.pack(side) for side in (*shape, fields.get("block", head.block_px))]
    parts.append(fields.get("coder", varints.pack_text(head.coder)))
    parts.append(fields.get("version", varints.pack(head.coder_version)))
    parts.append(fields.get("parameters", varints.pack_bytes(head.parameters)))
    parts.append(fields.get("software", varints.pack_text(head.software)))
    return b"".join(parts) + fields.get("rest", b"")


def deflated(data):
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def test_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283


def test_bytes_are_those_of_the_format():
    head = PLAIN._replace(shape=(300, 1), dtype="int8", block_px=300, parameters=b"P")
    body = b"\x00\x01\xac\x02\x01\xac\x02\x06lapped\x01\x01P\x09emd 0.1.0"
    index = b"\x00\x03"
    assert stream(head, [b"", b"abc"]) == forge(body, index, sealed(b"abc"))
    flagged = head._replace(pixel_size=(0.5, 0.5), unit="Å", weights=("m", "00" * 7 + "ff"))
    body = bytes([2 + 4 + 8 + 16]) + body[1:] + b"\x01m" + bytes(7) + b"\xff"
    body += struct.pack("<d", 0.5) + b"\x02\xc3\x85"
    assert stream(flagged, [b"", b"abc"]) == forge(body, index, sealed(b"abc"))


@pytest.mark.parametrize("head", [PLAIN, FULL, FULL._replace(metadata={}, unit="")])
def test_what_goes_in_comes_out(head):
    chunks = [bytes(range(k % 7)) for k in range(head.chunks)]
    data = stream(head)
    assert read_all(data) == (head, chunks)
    assert Reader(io.BytesIO(data)).size == len(data)


def test_frames_and_blocks():
    assert (FULL.frames, FULL.blocks, FULL.chunks) == (2, 6, 14)
    assert (PLAIN.frames, PLAIN.blocks, PLAIN.chunks) == (1, 4, 5)
    # a float's division would round these
    assert PLAIN._replace(shape=(2**59 + 1, 1), block_px=1).blocks == 2**59 + 1


def test_a_small_stream_costs_few_bytes_beside_its_pixels():
    chunk = bytes(3277)
    head = PLAIN._replace(block_px=512)
    assert len(stream(head, [b"", chunk])) - len(chunk) <= 60


def test_a_chunk_is_read_without_the_others():
    class Watched(io.BytesIO):
        taken = 0

        def read(self, count=-1):
            data = super().read(count)
            self.taken += len(data)
            return data

    head = PLAIN._replace(shape=(50, 64, 64), block_px=64)
    file = Watched(stream(head, [b"", b"x" * 1000] * 50))
    reader = Reader(file)
    assert file.taken < 500
    before = file.taken
    assert reader.chunk(30, 1) == b"x" * 1000
    assert file.taken - before == 1004
    # damage elsewhere does no harm
    data = bytearray(file.getvalue())
    data[reader.size // 2] ^= 1
    assert Reader(io.BytesIO(data)).chunk(0, 1) == b"x" * 1000


def test_chunks_are_streamed():
    """Neither written nor read in one piece."""
    head = PLAIN._replace(shape=(200, 64, 64), block_px=64)

    class Counted(io.RawIOBase):
        taken = 0

        def write(self, data):
            self.taken += len(data)
            return len(data)

    file = Counted()
    tracemalloc.start()
    container.write(file, head, (b"\0" * 2**16 * (k % 2) for k in range(400)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert file.taken > 200 * 2**16
    assert most < 2**20


def test_a_file_that_gives_less_than_asked_for():
    class Slow(io.BytesIO):
        def read(self, count=-1):
            return super().read(min(count, 7))

    data = stream(FULL)
    assert Reader(Slow(data)).header == FULL


def test_wrong_chunks_are_refused():
    for chunks in ([b""] * 4, [b""] * 6):
        with pytest.raises(ValueError, match="5 are due"):
            stream(PLAIN, chunks)
    reader = Reader(io.BytesIO(stream(FULL)))
    with pytest.raises(FormatError, match="no frame 2"):
        reader.chunk(2, 0)
    for index in (-1, 7):
        with pytest.raises(ValueError, match="chunks 0 to 6"):
            reader.chunk(0, index)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"coder": ""}, "coder"),
        ({"coder": "a\nb"}, "not printable"),
        ({"coder_version": 0}, "version 0"),
        ({"shape": (5,)}, "neither"),
        ({"shape": (5, 0)}, "neither"),
        ({"shape": (2**20, 2**20, 2**20)}, "any memory"),
        ({"dtype": "uint64"}, "uint64"),
        ({"block_px": 0}, "blocks of 0"),
        ({"block_px": 65537}, "blocks of 65537"),
        ({"weights": ("", "0" * 16)}, "without a name"),
        ({"weights": ("m", "0" * 15)}, "16 hexadecimal"),
        ({"weights": ("m", "ABCDEF0123456789")}, "16 hexadecimal"),
        ({"pixel_size": (1.0, float("nan"))}, "positive"),
        ({"pixel_size": (0.0, 1.0)}, "positive"),
        ({"unit": "n" * 256}, "255 bytes"),
        ({"metadata": {"a": {1, 2}}}, "not JSON"),
        ({"metadata": {"a": "x" * 2**24}}, "at most 16777216"),
        ({"parameters": bytes(2**26)}, "at most 67108864"),
    ],
)
def test_a_header_that_makes_no_sense_is_not_written(wrong, text):
    with pytest.raises(ValueError, match=text):
        stream(PLAIN._replace(**wrong), [])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"flags": 64}, "flags 64"),
        ({"flags": 8}, "without a size"),
        ({"dtype": 9}, "type 9"),
        ({"shape": (0, 5)}, "neither"),
        ({"shape": (2**40, 2**40)}, "any memory"),
        ({"block": 0}, "blocks of 0"),
        ({"block": 65537}, "blocks of"),
        ({"coder": b"\x00"}, "coder ''"),
        ({"coder": b"\x02\xff\xff"}, "no UTF-8"),
        ({"coder": b"\x02\x1b["}, "not printable"),
        ({"coder": b"\x80\x02" + b"x" * 256}, "255 bytes"),
        ({"version": b"\x00"}, "version 0"),
        ({"version": b"\x81\x00"}, "longer than it has to be"),
        ({"version": b"\xff" * 9 + b"\x01"}, "longer than it has to be"),
        ({"parameters": b"\x7fabc"}, "field of 127 bytes"),
        ({"parameters": varints.pack(2**62) + b"abc"}, "field of"),
        ({"rest": b"x"}, "1 bytes too many"),
        ({"flags": 2, "rest": b"\x00" + bytes(8)}, "without a name"),
        ({"flags": 2, "rest": b"\x01m" + bytes(7)}, "field of 8 bytes"),
        ({"flags": 12, "rest": struct.pack("<d", -1.0)}, "positive"),
        ({"flags": 4, "rest": struct.pack("<dd", 1.0, float("inf"))}, "positive"),
        ({"flags": 32}, "metadata"),
        ({"flags": 32, "rest": b"\xff\xff\xff"}, "cannot be unpacked"),
        ({"flags": 32, "rest": deflated(b"[1]")}, "no names"),
        ({"flags": 32, "rest": deflated(b"{'a'}")}, "not JSON"),
        ({"flags": 32, "rest": deflated(b'{"a":"\xff"}')}, "not JSON"),
        ({"flags": 32, "rest": deflated(b'{"a":' + b"9" * 5000 + b"}")}, "not JSON"),
        ({"flags": 32, "rest": deflated(b'{"a":' + b"[" * 10**5)}, "metadata"),
        ({"flags": 32, "rest": deflated(b'{"a":1}') + b"x"}, "after its end"),
        ({"flags": 32, "rest": deflated(b'{"a":1}')[:-1]}, "metadata"),
    ],
)
def test_a_header_that_makes_no_sense_is_not_read(wrong, text):
    """Checksums are right: the fields themselves are looked at."""
    head = PLAIN._replace(shape=(9, 9))
    assert Reader(io.BytesIO(forge(raw(head)))).header == head
    with pytest.raises(FormatError, match=text):
        Reader(io.BytesIO(forge(raw(head, **wrong))))


def test_magic_and_version():
    data = stream(PLAIN)
    for start in (b"", data[:3], data[:8]):
        with pytest.raises(FormatError, match="truncated"):
            Reader(io.BytesIO(start))
    for other in (b"II*\0" + data, b"\x89HDF\r\n\x1a\n" + data, b"x"):
        with pytest.raises(FormatError, match=r"no \.emdz stream"):
            Reader(io.BytesIO(other))
    as_text = (data.replace(b"\r\n", b"\n"), data.replace(b"\n", b"\r\n"), b"\x09" + data[1:])
    for changed in as_text:
        with pytest.raises(FormatError, match="as if it were text"):
            Reader(io.BytesIO(changed))
    with pytest.raises(FormatError, match=r"version 2 .*update"):
        Reader(io.BytesIO(forge(raw(PLAIN), version=2)))
    with pytest.raises(FormatError, match="damaged"):
        Reader(io.BytesIO(forge(raw(PLAIN), version=0)))


SMALL = stream(FULL)


def test_every_flipped_bit_is_found():
    assert 200 < len(SMALL) < 500
    for place in range(len(SMALL)):
        for bit in range(8):
            data = bytearray(SMALL)
            data[place] ^= 1 << bit
            with pytest.raises(FormatError) as found:
                read_all(bytes(data))
            assert len(str(found.value).splitlines()) == 1


def test_every_truncation_is_found():
    for length in range(len(SMALL)):
        with pytest.raises(FormatError) as found:
            read_all(SMALL[:length])
        assert len(str(found.value).splitlines()) == 1


def test_what_is_added_is_found():
    for more in (b"\0", b"\n", bytes(8), SMALL[-8:], SMALL):
        with pytest.raises(FormatError):
            read_all(SMALL + more)
        with pytest.raises(FormatError):
            read_all(more + SMALL)
    # a hole before the first chunk
    head = raw(PLAIN._replace(shape=(9, 9)))
    with pytest.raises(FormatError, match="do not fill"):
        read_all(forge(head, chunks=b"hole"))


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (b"\x00", "2 chunks by its header"),
        (b"\x00\x00\x00", "3 numbers where 2"),
        (b"\x00\x80", "1 numbers where 2"),
        (b"\x00\x80\x00", "longer than it has to be"),
        (b"\x00" + b"\x80" * 9 + b"\x01", "longer than it has to be"),
        (b"\x00\x01", "longer than the file"),
        (varints.pack(2**63 - 1) * 2, "longer than the file"),
    ],
)
def test_an_index_that_makes_no_sense_is_not_read(index, text):
    with pytest.raises(FormatError, match=text):
        Reader(io.BytesIO(forge(raw(PLAIN._replace(shape=(9, 9))), index)))


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": (10**6, 10**6), "block": 256},
        {"shape": (2**50, 9, 9), "flags": 1},
        {"shape": (1, 2**55), "block": 1},
        {"flags": 32, "rest": deflated(b'{"a":"' + b" " * 2**27)},
        {"flags": 32, "rest": deflated(b"[" * 2**24)},
    ],
)
def test_what_is_claimed_is_not_believed(fields):
    """Of a small file with right checksums that claims to be huge."""
    data = forge(raw(PLAIN, **fields))
    assert len(data) < 2**18
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(FormatError):
        Reader(io.BytesIO(data))
    took = time.perf_counter() - start
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**26
    assert took < 5


def test_a_header_longer_than_any_is_not_read():
    class Huge(io.RawIOBase):
        """A file of many zeros after the start of a stream."""

        place = 0
        start = b"\x89EMZ\r\n\x1a\n\x01" + varints.pack(2**40)

        def seek(self, place, whence=0):
            self.place = 2**41 if whence else place
            return self.place

        def read(self, count=-1):
            if count > 100:
                pytest.fail(f"reads {count} bytes")
            return (self.start + bytes(100))[self.place :][:count]

    with pytest.raises(FormatError, match="header of 1099511627776"):
        Reader(Huge())


@given(st.integers(0, varints.LIMIT - 1))
def test_a_number_comes_back(number):
    fields = varints.Fields(varints.pack(number))
    assert fields.number() == number
    fields.end()


@given(st.lists(st.integers(0, varints.LIMIT - 1), min_size=1))
def test_numbers_come_back(numbers):
    data = b"".join(map(varints.pack, numbers))
    assert varints.unpack_all(data, len(numbers)).tolist() == numbers


@pytest.mark.parametrize("number", [-1, 2**63])
def test_a_number_that_does_not_fit(number):
    with pytest.raises(ValueError, match=str(number)):
        varints.pack(number)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=9,
)


@given(
    shape=st.lists(st.integers(1, 300), min_size=2, max_size=3),
    dtype=st.sampled_from(DTYPES),
    block_px=st.integers(30, 65536),
    parameters=st.binary(max_size=300),
    size=st.none() | st.tuples(*[st.floats(1e-300, 1e300)] * 2),
    metadata=st.dictionaries(st.text(), JSON, max_size=4),
)
def test_every_header_comes_back(shape, dtype, block_px, parameters, size, metadata):
    head = Header("c", 1, tuple(shape), dtype, block_px, None, parameters, size, "", metadata, "")
    assert header.parse(header.write(head)) == json_back(head)


def json_back(head):
    return head._replace(metadata=json.loads(json.dumps(head.metadata)))


def tried(data):
    """Nothing: whatever the bytes are, there is an answer or a FormatError."""
    fault = ""
    try:
        read_all(data)
    except FormatError as error:
        fault = str(error)
    assert fault.isprintable()


@given(st.binary(max_size=600))
def test_random_bytes(data):
    tried(data)
    tried(container.MAGIC + b"\x01" + data)


@settings(max_examples=300)
@given(data=st.data())
def test_random_changes_with_right_checksums(data):
    """What checksums do not catch, as they are made anew, the fields' checks do."""
    whole = Reader(io.BytesIO(SMALL))
    head = header.write(whole.header)
    index = bytearray(SMALL[-8 - 14 : -8])
    chunks = SMALL[len(forge(head, b"")) - 8 : -8 - 14]
    assert forge(head, bytes(index), chunks) == SMALL
    parts = [bytearray(head), index]
    for part in parts:
        for _ in range(data.draw(st.integers(0, 3))):
            place = data.draw(st.integers(0, len(part)))
            span = data.draw(st.integers(0, 12))
            part[place : place + span] = data.draw(st.binary(max_size=12))
    tried(forge(bytes(parts[0]), bytes(parts[1]), chunks))


def test_indices_of_many_chunks_are_read_quickly():
    count = 2**20
    head = PLAIN._replace(shape=(count // 2, 1, 1), dtype="uint8")
    data = forge(header.write(head), bytes(count))
    start = time.perf_counter()
    assert Reader(io.BytesIO(data)).chunk(count // 2 - 1, 1) == b""
    assert time.perf_counter() - start < 3


def test_lengths_are_plain_numbers():
    lengths = np.array([0, 1, 127, 128, 2**40])
    data = b"".join(varints.pack(int(n)) for n in lengths)
    np.testing.assert_array_equal(varints.unpack_all(data, 5), lengths)

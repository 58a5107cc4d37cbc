"""A folder of real files of every format as one job."""

import csv
import json
import os

import numpy as np
import pytest

from emd import cli
from emd.cli.ledger import NAME
from emd.data import micrograph

MODEL = "tem_kernel_w3_published"


def test_every_real_file_is_restored_or_named(real_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # sixty waits for the disk
    pytest.importorskip("rsciio", reason="needs the extra io")
    job = ["denoise", str(real_data / "formats"), "-o", str(tmp_path), "--model", MODEL]
    assert cli.main(job) == 1
    said = capsys.readouterr()
    record = [json.loads(line) for line in (tmp_path / NAME).read_text().splitlines()]
    entries = [entry for entry in record if entry["status"] == "done"]
    for entry in entries:
        source, output = real_data / "formats" / entry["input"], tmp_path / entry["output"]
        with micrograph.opened(source, signal=entry["signal"]) as given:
            expected = given.shape, given.dtype, given.calibration
        with micrograph.opened(output) as given:
            np.testing.assert_equal((given.shape, given.dtype, given.calibration), expected)
            assert given.metadata["emd"][-1]["model"] == MODEL
    with (real_data / "formats/MANIFEST.csv").open() as file:
        named = {row["file"] for row in csv.DictReader(file)}
    failed = {
        entry["input"].partition("formats/")[2] for entry in record if entry["status"] == "failed"
    }
    assert {entry["input"] for entry in entries} | failed == named | {"MANIFEST.csv"}
    refused = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(refused) == len(failed) == 4  # three of no image's format, one in colour
    assert f"{len(entries)} done, 0 skipped, 4 failed" in said.err

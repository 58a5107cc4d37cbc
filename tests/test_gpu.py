"""On a machine with a GPU: what it restores is what the CPU restores."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile

FAMILIES = ("stem_latent4", "stem_skip48_clean", "stem_kernel_w7", "stem_mlp1_w7")


@pytest.mark.gpu
@pytest.mark.parametrize("model", FAMILIES)
def test_a_gpu_restores_as_the_cpu_does(tmp_path, model):
    image = np.random.default_rng(0).poisson(20.0, (300, 461)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "counts.tif", image)
    # a process each, since one keeps the devices it started with; the tests' choice is not theirs
    environment = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    for device in ("gpu", "cpu"):
        command = [sys.executable, "-m", "emd.cli", "denoise", "counts.tif", "-o", f"{device}.tif"]
        command += ["--model", model, "--device", device]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=300)
    by_gpu, by_cpu = (tifffile.imread(tmp_path / f"{d}.tif") for d in ("gpu", "cpu"))
    # GPUs round the factors of a convolution to 10 bits
    np.testing.assert_allclose(by_gpu, by_cpu, atol=2e-3 * image.max())

"""Break the code on purpose, one small change at a time, and see that a test goes red.

    python tests/sabotage.py            # all of them, about 15 minutes on 2 cores
    python tests/sabotage.py halo zoo   # those with one of these in their description or test

Works in a temporary copy. First the tests that it relies on must pass there unbroken. Then, for
each break: what was broken, and the test that went red. Exits with 1 if any break went unnoticed,
or if its text is not found exactly once, since the code has then moved on without it.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("checkpoints", "emd", "experiments", "tests", "pyproject.toml")
LIMIT_S = 900


class Break(NamedTuple):
    """A change of the code and the one test that must notice."""

    what: str
    path: str
    old: str
    new: str
    test: str


LAYERS = "emd/models/layers.py"
CPU = "emd/models/cpu.py"
AUTOENCODER = "emd/models/autoencoder.py"
PIXELWISE = "emd/models/pixelwise.py"
FOLDED = "emd/models/folded.py"
NORMALISE = "emd/data/normalise.py"
CROPS = "emd/data/crops.py"
CHECKPOINT = "emd/checkpoint.py"
TRAINING = "emd/training/autoencoder.py"
SCHEDULE = "emd/training/schedule.py"
LOCKSTEP = "emd/training/lockstep.py"
RESTORE = "emd/restore.py"

BREAKS = [
    # --- layers ---
    Break(
        "the transposed convolution's shift is left out",
        CPU,
        "((1 - row, 0), (1 - column, 0))",
        "((0, 1 - row), (0, 1 - column))",
        "test_layers.py::test_upsample_is_its_definition",
    ),
    Break(
        "the transposed convolution's gradient sees rows beyond the image",
        CPU,
        "axis=1) * inside",
        "axis=1)",
        "test_layers.py::test_upsample_gradient_is_the_same_in_any_blocks",
    ),
    Break(
        "bfloat16 is not computed in",
        AUTOENCODER,
        "x[..., None].astype(self.dtype)",
        "x[..., None]",
        "test_autoencoder.py::test_bfloat16_keeps_weights_statistics_and_images_in_float32",
    ),
    Break(
        "the transposed convolution's plain form is not flipped",
        LAYERS,
        "jnp.flip(kernel, (0, 1))",
        "kernel",
        "test_layers.py::test_upsample_forms_agree",
    ),
    Break(
        "SAME pads the depthwise convolution's odd pixel first",
        CPU,
        "(pad_h // 2, pad_h - pad_h // 2)",
        "(pad_h - pad_h // 2, pad_h // 2)",
        "test_layers.py::test_separable_is_depthwise_then_pointwise",
    ),
    Break(
        "batch norm's epsilon is another",
        LAYERS,
        "EPSILON = 0.001",
        "EPSILON = 0.002",
        "test_layers.py::test_batch_norm_equals_flax_in_inference",
    ),
    Break(
        "batch norm's decay is another",
        LAYERS,
        "DECAY = 0.999",
        "DECAY = 0.99",
        "test_layers.py::test_training_moves_statistics_and_inference_does_not",
    ),
    Break(
        "batch norm uses the batch at inference",
        LAYERS,
        "mean, var = running_mean.value, running_var.value",
        "mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))",
        "test_layers.py::test_inference_ignores_batch_mates_and_training_does_not",
    ),
    # --- autoencoder ---
    Break(
        "the encoder's third layer is narrower",
        AUTOENCODER,
        "(128, 2), (256, 2)",
        "(128, 2), (192, 2)",
        "test_autoencoder.py::test_the_size_is_the_papers",
    ),
    Break(
        "latents are not rectified",
        AUTOENCODER,
        "y = nn.relu(BatchNorm(self.decay)(SeparableConv(features, stride)(y), train=train))",
        "y = BatchNorm(self.decay)(SeparableConv(features, stride)(y), train=train)",
        "test_autoencoder.py::test_latents_are_never_negative_and_not_all_zero",
    ),
    Break(
        "the image is rectified",
        AUTOENCODER,
        "_trimmed(ToImage()(y), 2 * margin)",
        "nn.relu(_trimmed(ToImage()(y), 2 * margin))",
        "test_autoencoder.py::test_the_image_is_not_activated",
    ),
    Break(
        "the receptive field is wider than tiles allow for",
        AUTOENCODER,
        "        return _trimmed(ToImage()(y), 2 * margin)",
        "        y = ToImage()(y)\n        return y + 0.1 * y.mean((1, 2), keepdims=True)",
        "test_autoencoder.py::test_receptive_field_is_what_is_claimed",
    ),
    Break(
        "the decoder's maps are cut down too far",
        AUTOENCODER,
        "reach = min(margin, 1)",
        "reach = 0",
        "test_restore.py::test_tiles_equal_the_whole_image[tem_latent1-shape3]",
    ),
    # --- kernels, MLPs and their names ---
    Break(
        "a kernel's weights are tied by rows and columns only",
        "emd/models/symmetry.py",
        "near, far = np.minimum.outer(distance, distance), np.maximum.outer(distance, distance)",
        "near, far = np.minimum.outer(distance, distance), np.add.outer(distance, 0 * distance)",
        "test_pixelwise.py::test_orbits_are_the_eight_symmetries",
    ),
    Break(
        "the MLP's connection is transposed",
        FOLDED,
        "_dot(connections[-1], weights[-1])",
        "_dot(connections[-1].swapaxes(-1, -2), weights[-1])",
        "test_pixelwise.py::test_equals_the_plain_network",
    ),
    Break(
        "the MLP's second bias is left out",
        FOLDED,
        "activity = jax.nn.sigmoid(_dot(activity, connection) + bias[None])",
        "activity = jax.nn.sigmoid(_dot(activity, connection) + 0 * bias[None])",
        "test_pixelwise.py::test_equals_the_plain_network",
    ),
    Break(
        "the published misprint is back",
        "emd/models/published.py",
        "0.017 -0.019 -0.022 -0.015 -0.003 0.005",
        "0.017 -0.019 -0.022 -0.015 1 0.005",
        "test_published.py::test_kernels_are_as_printed_but_for_the_misprint",
    ),
    Break(
        "two published weights are exchanged",
        "emd/models/published.py",
        "0.142 0.116 0.091",
        "0.142 0.091 0.116",
        "test_published.py::test_kernels_are_as_printed_but_for_the_misprint",
    ),
    Break(
        "a model of the paper is missing",
        "emd/zoo.py",
        '"temstem": (3, 5, 7, 11)',
        '"temstem": (3, 5, 7)',
        "test_zoo.py::test_all_models_and_no_others",
    ),
    Break(
        "sets are distilled from another teacher",
        "emd/zoo.py",
        "TEACHER_LATENT = 16",
        "TEACHER_LATENT = 64",
        "test_zoo.py::test_teachers_are_16_deep_and_of_the_same_domain",
    ),
    # --- data ---
    Break(
        "the normalisation divides by the mean of the counts",
        NORMALISE,
        "above = x.mean((-2, -1), dtype=np.float64) - np.asarray(minimum, np.float64)",
        "above = x.mean((-2, -1), dtype=np.float64)",
        "test_normalise.py::test_minimum_is_0_and_mean_1",
    ),
    Break(
        "the normalisation's inverse loses the minimum",
        NORMALISE,
        "return y * mean + minimum",
        "return y * mean",
        "test_normalise.py::test_the_inverse_is_exact",
    ),
    Break(
        "a constant image becomes zeros",
        NORMALISE,
        "xp.ones_like(safe)",
        "xp.zeros_like(safe)",
        "test_normalise.py::test_a_constant_becomes_ones_and_comes_back",
    ),
    Break(
        "only seven windows of eight are drawn",
        CROPS,
        "- side + 1\n",
        "- side\n",
        "test_crops.py::test_crops_are_all_the_windows_under_all_symmetries",
    ),
    Break(
        "only four of the eight symmetries are drawn",
        CROPS,
        "transpose, flip_rows, flip_columns = jax.random.bernoulli(turn, 0.5, (3,))",
        "_, flip_rows, flip_columns = jax.random.bernoulli(turn, 0.5, (3,))\n"
        "    transpose = flip_rows",
        "test_crops.py::test_crops_are_all_the_windows_under_all_symmetries",
    ),
    Break(
        "sources are drawn by area",
        CROPS,
        "area / area.sum()",
        "area / sum(i.pixels.size for i in images if i.domain == domain)",
        "test_crops.py::test_sources_are_drawn_evenly_and_simulated_ones_by_their_share",
    ),
    Break(
        "training sees held-out fields",
        CROPS,
        "train = [i for i in images if i.field not in held]",
        "train = [i for i in images if i.field not in held or i.pixels.size]",
        "test_crops.py::test_no_field_is_on_both_sides_and_every_source_is_on_both",
    ),
    Break(
        "the manifest's fields are ignored",
        CROPS,
        "known.get(str(path.resolve())) or known.get(path.name) or own",
        "own",
        "test_crops.py::test_a_manifest_names_fields_and_sources",
    ),
    Break(
        "a pixel's height and width are exchanged in OME-TIFF",
        "emd/data/calibration.py",
        'zip("YX", size, strict=True)',
        'zip("XY", size, strict=True)',
        "test_calibration.py::test_other_programs_find_the_scale",
    ),
    Break(
        "ImageJ's density is the size itself",
        "emd/data/calibration.py",
        "density = 1 / size[1], 1 / size[0]",
        "density = size[1], size[0]",
        "test_calibration.py::test_other_programs_find_the_scale",
    ),
    Break(
        "a crop by its whole micrograph is moved to begin at 0",
        CROPS,
        "jnp.where(by_whole, 0, own.minimum)",
        "own.minimum",
        "test_crops.py::test_a_share_of_crops_is_normalised_by_its_whole_image",
    ),
    Break(
        "a strip's cut is seen in the strip before",
        "emd/opencv.py",
        "        out[above:start] = done\n",
        "",
        "test_apply.py::test_kernels_by_opencv_are_the_plain_sum",
    ),
    Break(
        "11x11 kernels go through OpenCV's Fourier transform",
        "emd/opencv.py",
        "return width <= _DIRECT_PX or bool(_opencv().ipp.useIPP())",
        "return True",
        "test_apply.py::test_kernels_never_go_through_opencvs_fourier_transform",
    ),
    # --- the zoo ---
    Break(
        "a worse model takes the place of a better one",
        "experiments/shelf.py",
        "if not after < before:",
        "if not after < before and not before:",
        "test_experiments_zoo.py::test_models_of_fewer_crops_are_old_and_give_way_to_better_ones_alone",
    ),
    Break(
        "students of another teacher are left as they are",
        "experiments/shelf.py",
        'card.get("teacher_weights") != standard.teacher',
        'card.get("teacher_weights") is None',
        "test_experiments_zoo.py::test_students_follow_their_teacher",
    ),
    # --- training ---
    Break(
        "the loss is the MSE above 1, too",
        "emd/training/loss.py",
        "return jnp.where(mse < 1, mse, ",
        "return jnp.where(mse < 1e9, mse, ",
        "test_training_autoencoder.py::test_the_loss_is_the_papers_and_its_gradient_finite",
    ),
    Break(
        "the autoencoder's learning rate falls linearly",
        SCHEDULE,
        "return initial * (1.0 - level / plateaus) ** 2",
        "return initial * (1.0 - level / plateaus)",
        "test_schedule.py::test_stepped_equals_the_formula_at_every_iteration",
    ),
    Break(
        "the kernels' learning rate falls linearly",
        SCHEDULE,
        "return initial * (1.0 - progress) ** 2",
        "return initial * (1.0 - progress)",
        "test_schedule.py::test_quadratic_equals_the_formula_at_every_iteration",
    ),
    Break(
        "Adam has the published program's momentum for kernels",
        TRAINING,
        "b1=0.9,",
        "b1=0.5,",
        "test_training_autoencoder.py::test_golden_first_step",
    ),
    Break(
        "a resumed run starts anew",
        TRAINING,
        "    if found:\n        state = devices.put(found[0], sharding)\n",
        "",
        "test_training_autoencoder.py::test_stopped_and_gone_on_with_equals_straight_through",
    ),
    Break(
        "a batch does not depend on its number",
        TRAINING,
        "jax.random.fold_in(jax.random.key(seed), reloads), step)",
        "jax.random.fold_in(jax.random.key(seed), reloads), 0 * step)",
        "test_training_autoencoder.py::test_batch_keys_are_a_function_of_their_three_numbers",
    ),
    Break(
        "reloads have no bound",
        TRAINING,
        "if reloads > MAX_RELOADS:",
        "if reloads > 9 * MAX_RELOADS:",
        "test_training_autoencoder.py::test_reloads_are_bounded",
    ),
    Break(
        "a reload forgets its count",
        TRAINING,
        "return state._replace(reloads=jnp.asarray(reloads, jnp.int32))",
        "return state",
        "test_training_autoencoder.py::test_a_loss_that_is_not_finite_goes_back_to_the_checkpoint",
    ),
    Break(
        "a spoilt state becomes a checkpoint",
        TRAINING,
        "if bad.any() or (at_checkpoint and not _is_finite(state)):",
        "if bad.any():",
        "test_training_autoencoder.py::test_a_state_that_is_not_finite_is_never_a_checkpoint",
    ),
    Break(
        "settled variances leave out the spread between batches",
        TRAINING,
        '"var": s["var"] + s["mean"] ** 2}',
        '"var": s["var"]}',
        "test_training_autoencoder.py::test_settled_statistics_are_the_average_over_batches",
    ),
    Break(
        "a lockstep member is scored where its window leaves the crop",
        LOCKSTEP,
        "masks = depths.reshape(1, -1) >= np.asarray(widths)[:, None] // 2",
        "masks = depths.reshape(1, -1) >= 0 * np.asarray(widths)[:, None]",
        "test_lockstep.py::test_a_member_equals_its_plain_module_trained_alone[kernel]",
    ),
    Break(
        "lockstep padding learns",
        LOCKSTEP,
        "gradient = jax.tree.map(jnp.multiply, gradient, _masks(plan))",
        "gradient = jax.tree.map(jnp.add, gradient, jax.tree.map(jnp.zeros_like, _masks(plan)))",
        "test_lockstep.py::test_padding_stays_zero",
    ),
    Break(
        "the closed form leaves out half of an orbit",
        "emd/training/yardsticks.py",
        "mirrored = both[far, near] + both[near, far]",
        "mirrored = both[far, near]",
        "test_yardsticks.py::test_closed_form_equals_least_squares_over_tied_weights",
    ),
    # --- files ---
    Break(
        "the last checkpoint is removed instead of the oldest",
        CHECKPOINT,
        "_steps(folder)[:-keep]",
        "_steps(folder)[keep:]",
        "test_checkpoint.py::test_a_state_comes_back_and_the_last_two_stay",
    ),
    Break(
        "a model is removed before the new one is complete",
        CHECKPOINT,
        "        yield work\n",
        "        shutil.rmtree(place, ignore_errors=True)\n        yield work\n",
        "test_checkpoint.py::test_a_full_disk_keeps_the_model_that_was_there",
    ),
    Break(
        "a missing model does not say what makes it",
        CHECKPOINT,
        "make it by {command}",
        "make it",
        "test_checkpoint.py::test_a_missing_model_names_the_command_that_makes_it",
    ),
    Break(
        "a torn line stays in the learning curve",
        "experiments/curves.py",
        'text[: text.rfind("\\n") + 1]',
        "text",
        "test_curves.py::test_a_torn_last_line_is_dropped",
    ),
    Break(
        "the linear code takes the least components",
        "experiments/linear_code.py",
        "vectors[:, ::-1][:, :depth]",
        "vectors[:, :depth]",
        "test_linear_code.py::test_equals_the_decomposition_of_the_blocks",
    ),
    # --- whole images ---
    Break(
        "the tiles' halo is 16 pixels",
        "emd/models/autoencoder.py",
        "-(-REACH_PX // STRIDE) * STRIDE",
        "REACH_PX // STRIDE * STRIDE",
        "test_restore.py::test_tiles_equal_the_whole_image[tem_latent1-shape3]",
    ),
    Break(
        "lazy pieces of networks that pad themselves begin a halo too late",
        "emd/lazy.py",
        "number or not engine.pads_itself",
        "True",
        "test_lazy.py::test_networks_that_pad_themselves_see_no_seam",
    ),
    Break(
        "networks learn of crops that never end",
        "experiments/skip.py",
        "objective.ending(objective.DRAWS[config.objective], cell=module.cell_px)",
        "objective.DRAWS[config.objective]",
        "test_experiments_skip.py::test_some_images_end_before_the_crop",
    ),
    Break(
        "networks that pad themselves see no last pixel twice",
        "emd/apply.py",
        "places = mirrored(",
        "places = reflected(",
        "test_skip.py::test_borders_are_those_that_it_learnt[filled up]",
    ),
    Break(
        "tiles of networks that pad themselves have no halo",
        "emd/apply.py",
        "span = min(stop - start, filled)",
        "span = min(part.stop - part.start, filled)",
        "test_skip.py::test_borders_are_those_that_it_learnt[tiles]",
    ),
    Break(
        "the border is repeated, not reflected",
        "emd/data/pixels.py",
        "np.minimum(folded, 2 * (length - 1) - folded)",
        "np.minimum(index.clip(0), length - 1)",
        "test_pixels.py::test_places_are_those_of_numpy_pad",
    ),
    Break(
        "published kernels are corrected to the mean",
        RESTORE,
        "keep_mean=not model.config.published",
        "keep_mean=True",
        "test_restore.py::test_a_published_kernel_is_the_plain_loop_over_the_reflected_image",
    ),
    # --- files ---
    Break(
        "all frames of a file are read for each few",
        "emd/data/source.py",
        "np.stack([self._load(k) for k in range(*part.indices(self.shape[0]))])",
        "self.pixels()[part]",
        "test_job.py::test_no_more_than_a_few_frames_are_read_at_a_time[.tif]",
    ),
    Break(
        "errors of the work are taken for damage to the file",
        "emd/data/source.py",
        "            files.close()\n            raise",
        "            raise",
        "test_job.py::test_errors_of_the_work_are_not_taken_for_damage",
    ),
    Break(
        "a half-written folder stays behind",
        "emd/data/replacing.py",
        "    finally:\n        _remove(temporary)",
        "    finally:\n        pass",
        "test_replacing.py::test_after_an_error_all_is_as_it_was",
    ),
    Break(
        "a container's memory counts as free though it is used",
        "emd/memory.py",
        "yield limit - used",
        "yield limit",
        "test_memory.py::test_a_container_and_those_around_it",
    ),
    # --- fitted kernels ---
    Break(
        "a fitted kernel copies the pixel's own noise",
        "emd/fit.py",
        "wanted[0] -= noise_variance",
        "wanted[0] -= 0",
        "test_fit.py::test_the_kernel_is_that_of_least_squares_against_the_truth[7]",
    ),
    Break(
        "correlated noise is no reason against a fitted kernel",
        "emd/fit.py",
        'wrong = [warning for warning in noise.warnings if "correlated" in warning]',
        "wrong: list[str] = []",
        "test_fit.py::test_correlated_noise_is_refused",
    ),
]


def pytest(folder: Path, *tests: str, limit_s: float | None = None) -> tuple[int, str]:
    """Exit status and output of pytest on tests of a copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def try_break(folder: Path, one: Break) -> tuple[bool, str]:
    """Whether a test noticed, and which, or what went wrong."""
    path = folder / one.path
    whole = path.read_text(encoding="utf-8")
    if (count := whole.count(one.old)) != 1:
        return False, f"TEXT FOUND {count} TIMES in {one.path}"
    path.write_text(whole.replace(one.old, one.new), encoding="utf-8")
    try:
        status, output = pytest(folder, one.test, limit_s=LIMIT_S)
    except subprocess.TimeoutExpired:
        return False, f"NO ANSWER in {LIMIT_S} s"
    finally:
        path.write_text(whole, encoding="utf-8")
    if status == 0:
        return False, "NOT NOTICED"
    red = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", output, re.MULTILINE)
    if status != 1 or red is None:
        return False, f"PYTEST EXITED WITH {status}: {' '.join(output.split())[-200:]}"
    return True, red[1]


def main(words: list[str]) -> int:
    """Exit status: 0 if every break was noticed."""
    chosen = [b for b in BREAKS if not words or any(w in b.what + b.test for w in words)]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="sabotage-") as name:
        folder = Path(name)
        for part in COPIED:
            if (ROOT / part).is_dir():
                shutil.copytree(
                    ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / part, folder / part)
        status, output = pytest(folder, *dict.fromkeys(b.test for b in chosen))
        if status:
            print(f"the tests fail with nothing broken:\n{output}")
            return 1
        print(f"{len(chosen)} breaks; unbroken, their tests pass", flush=True)
        for one in chosen:
            began = time.monotonic()
            noticed, found = try_break(folder, one)
            missed += not noticed
            print(f"{one.what:<62} {found}  ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{missed} of {len(chosen)} went unnoticed" if missed else "every break was noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

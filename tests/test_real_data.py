"""The main jobs on real data (`VOS_DATA`), shortened by ordinary overrides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_cli import ROOT, program
from voslab.data.sources.davis import davis
from voslab.engine import Settings, run
from voslab.methods.builder import from_checkpoint
from voslab.video import open_video, read_masks

pytestmark = pytest.mark.slow


def test_the_floor_of_davis_2016_is_the_official_tools(vos_data: Path, tmp_path: Path) -> None:
    program(
        "evaluate", "model=copy_first", "data=davis2016", f"paths.data={vos_data}", f"output={tmp_path}", "trainer=cpu"
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["J-Mean"] == pytest.approx(0.2663, abs=5e-5)
    assert metrics["F-Mean"] == pytest.approx(0.2432, abs=5e-5)
    assert len((tmp_path / "per_sequence.csv").read_text().splitlines()) == 21
    assert len(list((tmp_path / "masks").rglob("*.png"))) == 1376


@pytest.mark.parametrize("name", ["crvos_davis", "gam_davis"])
def test_a_recipe_trains_validates_and_resumes_on_davis(name: str, vos_data: Path, tmp_path: Path) -> None:
    short = (
        *(f"experiment={name}", "trainer=cpu", f"paths.data={vos_data}", f"hydra.run.dir={tmp_path}"),
        *("model.network.backbone=resnet18", "model.network.width=8", "data.clip.augmentation.size=[128,192]"),
        *("data.num_workers=0", "engine.size=96", "trainer.check_val_every_n_epoch=1"),
        *("trainer.limit_train_batches=4", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
    )
    program("train", *short, "trainer.max_epochs=1")
    assert json.loads((tmp_path / "metrics.json").read_text())["frames_per_second"] > 0
    done = program("train", *short, "trainer.max_epochs=2", f"resume={tmp_path}")
    assert "J&F-Mean" in done.stdout
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("method", ["gam", "stcn"])
def test_stills_then_videos(method: str, vos_data: Path, tmp_path: Path) -> None:
    short = (
        *(
            "trainer=cpu",
            f"paths.data={vos_data}",
            f"paths.cache={tmp_path}/cache",
            "test=null",
            "trainer.max_epochs=1",
        ),
        *("model.network.backbone=resnet18", "model.network.width=8", "data.clip.augmentation.size=[128,128]"),
        *("data.num_workers=0", "engine.size=96", "trainer.limit_train_batches=4", "trainer.limit_val_batches=1"),
        "trainer.max_epochs=1",
    )
    program("train", f"experiment={method}_coco", *short, f"hydra.run.dir={tmp_path}/stills")
    weights = f"weights={tmp_path}/stills/checkpoints/last.ckpt"
    done = program("train", f"experiment={method}_davis", weights, *short, f"hydra.run.dir={tmp_path}/videos")
    assert "weights were loaded" in done.stdout + done.stderr
    first, second = (
        torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in ("stills", "videos")
    )
    assert first.keys() == second.keys()


@pytest.mark.parametrize(
    ("name", "least"),
    [("equal_crvos", 0.6), ("equal_cutie", 0.8), ("scratch_stcn", 0.8), ("gpu_stcn", 0.85), ("lite_stcn", 0.9)],
)
def test_committed_weights_follow_a_real_object(name: str, least: float, vos_data: Path) -> None:
    model = from_checkpoint(ROOT / "weights" / f"{name}.safetensors")
    [video] = davis(vos_data / "DAVIS", 2016, "val", only=["dog"])
    predictions = run(model.segmenter, (video.image(i) for i in range(10)), video.given_masks(), model.settings)
    last = list(predictions)[-1].ids == 1
    truth = video.labels(9) == 1
    assert (last & truth).sum() / (last | truth).sum() > least


def test_several_objects_of_a_real_video_stay_apart(vos_data: Path) -> None:
    model = from_checkpoint(ROOT / "weights" / "equal_crvos.safetensors")
    folder = vos_data / "multi_object"
    video = open_video(folder / "JPEGImages" / "gold-fish")
    masks = read_masks(folder / "Annotations" / "gold-fish" / "00000.png")
    frames = (frame for frame, _ in zip(video, range(3), strict=False))
    predictions = list(run(model.segmenter, frames, masks, Settings(size=240)))
    assert set(np.unique(predictions[0].ids)) == {0, 1, 2, 3, 4, 5}
    assert len(np.unique(predictions[-1].ids)) >= 4


@pytest.mark.parametrize("name", ["lite_stcn", "scratch_swiftnet", "equal_stm", "equal_crvos", "equal_gam"])
def test_a_correction_that_equals_the_prediction_changes_little(name: str, vos_data: Path) -> None:
    model = from_checkpoint(ROOT / "weights" / f"{name}.safetensors")
    [video] = davis(vos_data / "DAVIS", 2016, "val", only=["cows"])
    images, first = [video.image(i) for i in range(9)], video.given_masks()
    plain = [one.ids for one in run(model.segmenter, images, first, Settings(size=240))]
    given = {**first, 3: plain[3]}
    corrected = [one.ids for one in run(model.segmenter, images, given, Settings(size=240), mask_scope="full")]
    assert np.array_equal(corrected[3], plain[3])
    for before, after in zip(plain[4:], corrected[4:], strict=True):
        assert ((before == 1) & (after == 1)).sum() / ((before == 1) | (after == 1)).sum() >= 0.98

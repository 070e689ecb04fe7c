from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from tests.data.tree import davis_tree, labels
from voslab.cli.entry import plain
from voslab.cli.instantiate import instantiate
from voslab.data import EvaluationItem
from voslab.data.datamodule import VOSDataModule
from voslab.data.sources.davis import davis
from voslab.engine import Settings
from voslab.methods.copy_first.network import CopyFirst
from voslab.training.evaluation import EvaluationModule, mask_sinks, segment_video
from voslab.video import read_mask

CONF = Path(__file__).resolve().parents[2] / "conf"
SETS = [("davis2016_1080p", 1080), ("davis2016_2k", 1440), ("davis2017_1080p", 1080), ("davis2017_2k", 1440)]


def composed(program: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(program, [*overrides])


@pytest.mark.parametrize(("name", "height"), SETS)
def test_the_sets_say_their_size_to_the_data_and_to_the_engine(name: str, height: int) -> None:
    for program in ("train", "evaluate"):
        config = composed(program, f"data={name}", "paths.data=/d", "data.test.only=[bear]")
        assert config.engine.size == config.data.test.height == config.data.val.height == height
        assert (config.data.test.only, config.data.test.root) == (["bear"], "/d/DAVIS")
        assert config.data.test.year == config.data.train.year == int(name[5:9])
        # The rest is that of the set at 480p.
        ours = plain(config.data)
        del ours["val"]["height"], ours["test"]["height"]
        small = composed(program, f"data={name.partition('_')[0]}", "paths.data=/d", "data.test.only=[bear]")
        assert ours == plain(small.data)


def test_the_working_size_can_still_be_chosen() -> None:
    for program in ("train", "evaluate"):
        assert composed(program, "data=davis2016_2k", "engine.size=480").engine.size == 480
    assert composed("train", "data=davis2017_1080p", "experiment=gam_davis").engine.size == 1080


@pytest.mark.parametrize("year", [2016, 2017])
def test_images_and_masks_are_scaled_to_the_same_size(tmp_path: Path, year: int) -> None:
    (small, _) = davis(davis_tree(tmp_path, year=year), year, "train")
    (bear, _) = davis(tmp_path, year, "train", height=48)
    assert bear.image(0).shape == (48, 80, 3)
    ids = (1,) if year == 2016 else (1, 2)
    np.testing.assert_array_equal(bear.labels(2), np.kron(labels(2, ids=ids), np.ones((2, 2), int)))
    back = cv2.resize(bear.image(0), (40, 24), interpolation=cv2.INTER_AREA)
    assert np.abs(back.astype(int) - small.image(0)).mean() < 12  # of noise, which bicubic sharpens


def test_a_run_at_full_size_writes_and_scores_masks_of_that_size(tmp_path: Path) -> None:
    davis_tree(tmp_path / "DAVIS", names=("bear",))
    (tmp_path / "DAVIS/ImageSets/2017/train.txt").rename(tmp_path / "DAVIS/ImageSets/2017/val.txt")
    config = composed("evaluate", "data=davis2017_1080p", "seed=0", f"paths.data={tmp_path}", "data.test.height=120")
    data: VOSDataModule = instantiate(config.data)
    data.setup("test")
    predict = CopyFirst()
    settings = Settings(size=config.engine.size)
    module = EvaluationModule(lambda one: segment_video(predict, settings, one), mask_sinks(tmp_path))
    module.evaluate_item(EvaluationItem(0, data.test_videos[0]))
    mask = read_mask(tmp_path / "masks/bear/00003.png")
    np.testing.assert_array_equal(mask, np.kron(labels(0), np.ones((5, 5), int)))
    # Squares of 40 that moved by 5 pixels a frame.
    assert module.conclude()["J-Mean"] == pytest.approx(np.mean([(40 - 5 * t) / (40 + 5 * t) for t in (1, 2, 3)]))

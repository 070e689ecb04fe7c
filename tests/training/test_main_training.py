"""Tests that the published recipes train on all of their data sets, or on those that are present."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest

import voslab
from tests.data.tree import davis_tree
from tests.data.youtube_tree import Film, youtube_tree
from tests.training.recipe_gradients import Run, data_sets, tiny
from voslab.cli.instantiate import instantiate
from voslab.cli.training_module import training_module
from voslab.core import DataError
from voslab.data.datamodule import VOSDataModule

DAVIS = ("bear", "camel", "swing", "tennis")
SMALL = ("data.clip.augmentation.size=[24,40]", "data.clip.augmentation.short=24", "+data.clip.min_area=4")
FILM = Film(0, 56, ((1, "fish", 0), (2, "fish", 0)))
"""Twelve annotated frames, enough for a clip of ten."""


def write_data_sets(root: Path, years: Sequence[int] = (2016, 2017), youtube: bool = True) -> Path:
    """DAVIS with four training videos in 2017 and two in 2016, and three videos of YouTube-VOS."""
    davis_tree(root / "DAVIS", DAVIS, frames=12)
    (root / "DAVIS" / "ImageSets" / "2017" / "train.txt").unlink()
    for year in years:
        folder = root / "DAVIS" / "ImageSets" / str(year)
        folder.mkdir(exist_ok=True)
        (folder / "train.txt").write_text("\n".join(DAVIS[: 4 if year == 2017 else 2]))
        (folder / "val.txt").write_text("tennis\n")
    if youtube:
        youtube_tree(root / "YouTube-VOS", dict.fromkeys(("a", "b", "c"), FILM))
    return root


def data_module(recipe: str, root: Path, *overrides: str) -> VOSDataModule:
    config = voslab.compose("train", [f"experiment={recipe}", f"paths.data={root}", *SMALL, *overrides])
    module: VOSDataModule = instantiate(config.data)
    return module


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_sets(tmp_path_factory.mktemp("all"))


@pytest.mark.parametrize(
    ("recipe", "counts"),
    [
        ("gam_davis", (20, 10, 3)),
        *((f"{name}_davis", (20, 3)) for name in ("stm", "stcn", "mivos", "swiftnet", "xmem")),
        ("cutie_davis", (8, 3)),
    ],
)
def test_a_recipe_mixes_all_of_its_data_sets(recipe: str, counts: tuple[int, ...], everything: Path) -> None:
    clips = data_module(recipe, everything, "data.clips_per_epoch=null", "data.batch_size=4").training_clips()
    assert clips.counts == counts
    total = data_module(recipe, everything).training_clips().counts
    assert total is not None
    published = 3000 if recipe == "swiftnet_davis" else 2000
    assert sum(total) == published
    assert all(abs(got - published * share / sum(counts)) < 1 for got, share in zip(total, counts, strict=True))


@pytest.mark.parametrize(
    ("recipe", "epoch", "davis", "youtube"),
    [
        *(("gam_davis", epoch, (1, most), (1, most)) for epoch, most in ((0, 1), (20, 6), (40, 11), (99, 11))),
        *(("stm_davis", epoch, (1, most), (1, most)) for epoch, most in ((0, 1), (19, 1), (100, 26), (119, 26))),
        *(
            ("stcn_davis", epoch, (1, most), (1, fifth))
            for epoch, most, fifth in ((0, 6, 2), (240, 26, 6), (540, 6, 2))
        ),
        *(
            ("cutie_davis", epoch, (1, most), (1, fifth))
            for epoch, most, fifth in ((0, 3, 1), (100, 5, 2), (300, 8, 3), (800, 3, 1))
        ),
        *(
            ("xmem_davis", epoch, (1, most), (1, fifth))
            for epoch, most, fifth in ((0, 5, 1), (132, 15, 3), (396, 5, 1))
        ),
        *(("mivos_davis", epoch, (1, most), (1, fifth)) for epoch, most, fifth in ((0, 6, 2), (480, 26, 6))),
        *(
            ("swiftnet_davis", epoch, (1, most), (1, fifth))
            for epoch, most, fifth in ((0, 1, 1), (5, 6, 2), (99, 26, 6))
        ),
    ],
)
def test_gaps_follow_the_paper_on_both_data_sets(
    recipe: str, epoch: int, davis: tuple[int, int], youtube: tuple[int, int], everything: Path
) -> None:
    sources = data_module(recipe, everything).training_clips().sources
    assert (sources[0].settings.gap_at(epoch), sources[-1].settings.gap_at(epoch)) == (davis, youtube)


def test_clips_of_gam_have_ten_ordered_frames_and_several_objects_where_the_data_set_has(everything: Path) -> None:
    clips = data_module("gam_davis", everything, "data.clips_per_epoch=null").training_clips()
    drawn = [clips[99, index] for index in (0, 1, 20, 21, 30, 31)]
    assert [int(clip.slot_mask.sum()) for clip in drawn] == [2, 2, 1, 1, 2, 2]
    assert all(clip.images.shape == (10, 3, 24, 40) for clip in drawn)
    frames = [[int(frame) for frame in clip.name.split()[1].split(",")] for clip in drawn]
    assert frames == [sorted(set(indices)) for indices in frames]


def test_validation_is_on_davis_2017_where_it_is_present(everything: Path, tmp_path: Path) -> None:
    for root, merged in ((everything, False), (write_data_sets(tmp_path, years=(2016,), youtube=False), True)):
        module = data_module("gam_davis", root)
        module.setup("validate")
        module.setup("test")
        assert [video.merge for video in (*module.val_videos, *module.test_videos)] == [merged, merged]


def test_nothing_is_logged_about_complete_data(everything: Path, caplog: pytest.LogCaptureFixture) -> None:
    data_module("gam_davis", everything).setup("fit")
    data_module("stcn_davis", everything).setup("fit")
    assert [message for message in caplog.messages if "missing" in message] == []


def test_gam_trains_and_validates_on_davis_2016_alone_and_logs_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_data_sets(tmp_path, years=(2016,), youtube=False)
    config = tiny("gam_davis", tmp_path)
    config.trainer.update(limit_train_batches=1, limit_val_batches=1, max_epochs=1, check_val_every_n_epoch=1)
    module, data = training_module(config), instantiate(config.data)
    data.check(1)
    trainer: L.Trainer = instantiate(config.trainer, logger=False)
    trainer.fit(module, datamodule=data)
    assert 0 <= trainer.callback_metrics["val/J&F-Mean"] <= 1
    lists = tmp_path / "DAVIS" / "ImageSets" / "2017" / "train.txt"
    frames = tmp_path / "YouTube-VOS" / "train" / "JPEGImages"
    assert [message for message in caplog.messages if "missing" in message] == [
        f"data: davis2017 is missing ({lists}: no such list of sequences); youtube_vos is missing ({frames}: no such"
        " folder); this run trains on davis2016 alone; every clip has one object, so nothing is learned about several;"
        " the 1 validation videos have one object each"
    ]


@pytest.mark.parametrize("recipe", ["stm_davis", "stcn_davis", "mivos_davis", "swiftnet_davis", "xmem_davis"])
def test_davis_2016_stands_in_for_2017(recipe: str, tmp_path: Path) -> None:
    module = data_module(recipe, write_data_sets(tmp_path, years=(2016,)), "data.clips_per_epoch=null")
    assert module.training_clips().counts == (10, 3)
    assert [source.settings.max_objects > 1 for source in module.training_clips().sources] == [False, True]


@pytest.mark.parametrize("source", ["davis2016", "davis2017", "youtube_vos"])
def test_a_wrong_path_of_the_user_is_an_error(source: str, everything: Path, tmp_path: Path) -> None:
    wrong = f"data.train.{source}.source.root={tmp_path}/wrong"
    with pytest.raises(DataError, match=r"wrong.*: no such folder"):
        data_module("gam_davis", everything, wrong).check(1)
    with pytest.raises(DataError, match="no training source is present"):
        data_module("gam_davis", tmp_path / "wrong").check(1)


def test_an_optional_data_set_can_be_required(tmp_path: Path) -> None:
    root = write_data_sets(tmp_path, youtube=False)
    with pytest.raises(DataError, match=r"YouTube-VOS.*: no such folder"):
        data_module("gam_davis", root, "data.train.youtube_vos.optional_at=null").check(1)


def test_gam_learns_from_the_masks_of_the_other_objects(tmp_path: Path) -> None:
    data_sets(tmp_path)
    found: Any = Run.build("gam_davis", tmp_path).gradient(1)
    mask, others = found["segmenter.mask_encoder.conv1_mask.weight"].abs().amax((0, 2, 3))
    assert mask > 1e-6
    assert others > 1e-6

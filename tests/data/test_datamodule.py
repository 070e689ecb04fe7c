from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from tests.data.tree import davis_tree, video
from voslab.core import Clip, ConfigError, DataError
from voslab.data import Augmentation, ClipSettings, EvaluationItem, RawClip, VideoSequence
from voslab.data.clips.mixture import WeightedSource
from voslab.data.datamodule import VOSDataModule
from voslab.data.sources.davis import davis

SETTINGS = ClipSettings(Augmentation((24, 40), fit="crop", rotate=20, jitter=0.1), frames=3, max_objects=2, min_area=4)


@pytest.fixture
def videos(tmp_path: Path) -> tuple[VideoSequence, ...]:
    return tuple(video(tmp_path / name, frames=4 + k) for k, name in enumerate(("ant", "bee", "cow", "dog", "eel")))


def attached(module: VOSDataModule, world: int, rank: int = 0, epoch: int = 0) -> VOSDataModule:
    trainer = {"world_size": world, "global_rank": rank, "is_global_zero": rank == 0, "current_epoch": epoch}
    module.trainer = SimpleNamespace(**trainer, overfit_batches=0, accumulate_grad_batches=1)
    return module


def names(module: VOSDataModule) -> list[tuple[str, ...]]:
    return [clip.names for clip in module.train_dataloader()]


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(videos: tuple[VideoSequence, ...], workers: int) -> None:
    digests = []
    for count in (0, workers):
        module = VOSDataModule(SETTINGS, videos, batch_size=2, num_workers=count, seed=3)
        module.setup("fit")
        digest = hashlib.sha256()
        for clip in module.train_dataloader():
            digest.update(clip.images.numpy().tobytes() + clip.labels.numpy().tobytes() + repr(clip.names).encode())
        digests.append(digest.hexdigest())
    assert digests[0] == digests[1]


def test_loading_leaves_the_global_random_numbers_alone(videos: tuple[VideoSequence, ...]) -> None:
    module = VOSDataModule(SETTINGS, videos, batch_size=2, num_workers=0)
    module.setup("fit")
    before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    names(module)
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002


def test_two_processes_see_the_batches_of_one(videos: tuple[VideoSequence, ...]) -> None:
    def module(world: int, rank: int) -> VOSDataModule:
        module = attached(VOSDataModule(SETTINGS, videos, batch_size=2, num_workers=0), world, rank, epoch=4)
        module.setup("fit")
        return module

    alone = names(module(1, 0))
    shares = [names(module(2, rank)) for rank in range(2)]
    assert [a + b for a, b in zip(*shares, strict=True)] == alone
    assert len(alone) == 2


def test_the_trainers_epoch_reaches_the_clips(videos: tuple[VideoSequence, ...]) -> None:
    module = VOSDataModule(SETTINGS, videos, batch_size=5, num_workers=0)
    module.setup("fit")
    epochs = [names(attached(module, 1, epoch=epoch)) for epoch in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]


@pytest.mark.parametrize(("world", "most", "passes"), [(1, None, 1), (1, 3, 2), (2, 1, 2), (4, 1, 1)])
def test_the_trainer_accumulates_what_does_not_fit_at_once(
    videos: tuple[VideoSequence, ...], world: int, most: int | None, passes: int
) -> None:
    module = VOSDataModule(SETTINGS, videos, batch_size=4, num_workers=0, max_batch_per_device=most)
    attached(module, world).setup("fit")
    assert module.trainer.accumulate_grad_batches == passes
    clips = [len(clip.names) for clip in module.train_dataloader()]
    assert (len(clips), sum(clips)) == (passes, 4 // world)
    module.trainer.accumulate_grad_batches = 3
    with pytest.raises(
        ConfigError, match=r"accumulate_grad_batches=3: it follows from the global batch; set data\.batch"
    ):
        module.setup("fit")


def test_the_distribution_of_the_batch_is_logged(
    videos: tuple[VideoSequence, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        attached(VOSDataModule(SETTINGS, videos, batch_size=4, max_batch_per_device=1), 2).setup("fit")
    assert caplog.messages == ["global batch 4 = 2 processes x 1 clip x 2 accumulated passes"]


def test_only_the_first_process_logs_absent_sources(
    videos: tuple[VideoSequence, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    absent = WeightedSource(partial(davis, tmp_path / "DAVIS"), optional_at=tmp_path / "DAVIS")
    for rank in (0, 1):
        module = attached(VOSDataModule(SETTINGS, {"a": absent, "b": videos}, batch_size=2), 2, rank)
        module.setup("fit")
        assert module.videos() == videos
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"data: a is missing ({tmp_path}/DAVIS: no such folder); this run trains on b alone",
    ]


@pytest.mark.parametrize(("batch", "world"), [(4, 3), (2, 4)])
def test_an_indivisible_batch_size_is_refused(videos: tuple[VideoSequence, ...], batch: int, world: int) -> None:
    module = attached(VOSDataModule(SETTINGS, videos, batch_size=batch), world)
    for ask in (lambda: module.batch_share(world), lambda: module.setup("fit")):
        with pytest.raises(
            ConfigError,
            match=rf"batch_size={batch} is the batch of all {world} processes .* use 2 processes \(trainer.devices\)",
        ):
            ask()
    module.setup("test")


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_every_video_is_evaluated_once(videos: tuple[VideoSequence, ...], world: int) -> None:
    module = VOSDataModule(val=lambda: videos, test=videos)
    for stage, loader in (("validate", module.val_dataloader), ("test", module.test_dataloader)):
        module.setup(stage)
        items = []
        for rank in range(world):
            attached(module, world, rank)
            items += list(loader())
        assert sorted(item.index for item in items) == [0, 1, 2, 3, 4]
        assert all(isinstance(item, EvaluationItem) and item.sequence == videos[item.index] for item in items)


def test_a_process_without_videos_gets_one_unscored_frame(videos: tuple[VideoSequence, ...]) -> None:
    module = VOSDataModule(test=videos[:2])
    module.setup("test")
    assert module.test_videos == videos[:2]
    (item,) = attached(module, 3, 2).test_dataloader()
    assert (item.index, len(item.sequence)) == (-1, 1)
    assert item.sequence.given_masks()


def test_sources_are_put_together(videos: tuple[VideoSequence, ...]) -> None:
    module = VOSDataModule(SETTINGS, [lambda: videos[:1], lambda: videos[1:2] * 3], batch_size=4)
    module.num_workers = 0
    module.setup("fit")
    (batch,) = names(module)
    assert sorted(name.split()[0] for name in batch) == ["ant", "bee", "bee", "bee"]


class Squares:
    """Another kind of source."""

    def __init__(self, settings: ClipSettings = SETTINGS) -> None:
        self.settings = settings

    def clips(self, settings: ClipSettings) -> Squares:
        return Squares(settings)

    def __len__(self) -> int:
        return 3

    def draw(self, index: int, epoch: int, rng: np.random.Generator) -> RawClip:
        mask = np.zeros((24, 40), np.int32)
        mask[4:20, 4:30] = 5
        return RawClip([np.zeros((24, 40, 3), np.uint8)] * 3, [mask] * 3, -1, f"square {index}")

    def require_object(self, index: int) -> None:
        raise AssertionError


def test_other_sources_take_part(videos: tuple[VideoSequence, ...]) -> None:
    module = VOSDataModule(SETTINGS, [videos[:1], Squares()], batch_size=4, num_workers=0)
    module.setup("fit")
    (batch,) = names(module)
    assert sorted(name.split()[0] for name in batch) == ["ant", "square", "square", "square"]


def test_an_epoch_has_the_configured_number_of_clips(videos: tuple[VideoSequence, ...]) -> None:
    parts = [WeightedSource(videos, weight=1), WeightedSource(Squares(), weight=3)]
    module = VOSDataModule(SETTINGS, parts, batch_size=4, num_workers=0, clips_per_epoch=16)
    module.setup("fit")
    drawn = [name.split()[0] for batch in names(module) for name in batch]
    assert len(drawn) == 16
    assert drawn.count("square") == 12


def test_missing_data_are_reported(videos: tuple[VideoSequence, ...]) -> None:
    for module in (VOSDataModule(train=videos), VOSDataModule(SETTINGS)):
        with pytest.raises(ConfigError, match="has no training data"):
            module.setup("fit")
    with pytest.raises(ConfigError, match="`setup` must run"):
        VOSDataModule(SETTINGS, videos).train_dataloader()
    with pytest.raises(DataError, match="has no videos"):
        VOSDataModule(SETTINGS, ()).setup("fit")
    with pytest.raises(ConfigError, match="batch_size=0"):
        VOSDataModule(batch_size=0)
    module = VOSDataModule(SETTINGS, videos, batch_size=8, clips_per_epoch=5)
    module.setup("fit")
    with pytest.raises(DataError, match="5 clips an epoch, fewer than one batch of 8"):
        module.train_dataloader()
    module.setup("test")
    assert module.val_dataloader() == []
    with pytest.raises(ConfigError, match="no `test` split"):
        module.test_dataloader()


class Recorder(L.LightningModule):
    """Trains one number and notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.clips: list[tuple[str, ...]] = []
        self.items: list[int] = []

    def training_step(self, clip: Clip) -> Tensor:
        self.clips.append(clip.names)
        return self.weight * clip.images.mean()

    def validation_step(self, item: EvaluationItem) -> None:
        self.items.append(item.index)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(videos: tuple[VideoSequence, ...], folder: Path, **options: Any) -> Recorder:
    module = VOSDataModule(SETTINGS, videos, videos[:2], batch_size=2, num_workers=0)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        default_root_dir=folder,
        **options,
    )
    recorder = Recorder()
    trainer.fit(recorder, datamodule=module)
    return recorder


# Lightning 2.6.6 still asks torch's pytree in the old way.
lightning_and_torch = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


@lightning_and_torch
def test_a_trainer_takes_it_as_it_is(videos: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    recorder = fit(videos, tmp_path)
    assert recorder.items == [0, 1, 0, 1]
    expected = VOSDataModule(SETTINGS, videos, batch_size=2, num_workers=0)
    expected.setup("fit")
    assert recorder.clips == names(attached(expected, 1, epoch=0)) + names(attached(expected, 1, epoch=1))


@lightning_and_torch
def test_overfitting_repeats_the_very_same_clip(videos: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    recorder = fit(videos, tmp_path, overfit_batches=1)
    assert len(recorder.clips) == 2
    assert recorder.clips[0] == recorder.clips[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_of_a_plain_trainer_score_as_one_and_train(tmp_path: Path) -> None:
    """The trainer would distribute the data again if it could: its `use_distributed_sampler` is true by default."""
    root = Path(__file__).resolve().parents[2]
    for processes in ("1", "2"):
        command = [sys.executable, "-m", "tests.data.plain_trainer", str(tmp_path), processes]
        subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=140)
    one, *two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1.0", "2.0", "2.1"))
    assert one["scored"] == [0, 1, 2, 3, 4]
    assert sorted(two[0]["scored"] + two[1]["scored"]) == one["scored"]
    assert [other["J&F"] for other in two] == pytest.approx([one["J&F"]] * 2, abs=1e-12)
    assert one["J&F"] > 0
    assert [len(other["clips"]) for other in two] == [2, 2]
    assert len({*two[0]["clips"], *two[1]["clips"]}) == 4


def composed(name: str, *overrides: str) -> Any:
    conf = Path(__file__).resolve().parents[2] / "conf"
    with initialize_config_dir(str(conf), version_base="1.3"):
        return instantiate(compose("train", [f"data={name}", *overrides]).data, _convert_="all")


@pytest.mark.parametrize("name", ["generated", "davis2016", "davis2017"])
def test_the_configs_build(name: str) -> None:
    module = composed(name, "paths.data=/else", "paths.cache=/else", "seed=5")
    assert isinstance(module, VOSDataModule)
    assert module.seed == 5
    assert module.clip is not None
    assert (module.clip.frames, list(module.clip.gap)) == (8, [1, 1])
    for split, source in (("train", module.train), ("val", module.val), ("val", module.test)):
        keywords = source.keywords
        assert keywords["split"] == split
        assert keywords["root"].startswith("/else/")
        assert name == "generated" or keywords["year"] == int(name[-4:])


def test_davis_opens_from_its_config(tmp_path: Path) -> None:
    root = davis_tree(tmp_path / "DAVIS", year=2016, frames=8)
    (root / "ImageSets/480p/val.txt").write_text((root / "ImageSets/480p/train.txt").read_text())
    module = composed("davis2016", f"paths.data={tmp_path}", "data.batch_size=2", "data.num_workers=0")
    module.setup("fit")
    (clip,) = module.train_dataloader()
    assert clip.images.shape[:3] == (2, 8, 3)
    assert clip.labels.unique().tolist() == [0, 1]
    assert [item.sequence.name for item in module.val_dataloader()] == ["bear", "camel"]


def test_the_generated_config_makes_its_data(tmp_path: Path) -> None:
    small = [f"+data.{split}.{what}" for split in ("train", "val") for what in ("frames=8", "train=4")]
    module = composed("generated", f"paths.cache={tmp_path}/a b", "data.num_workers=0", *small)
    module.setup("fit")
    (clip,) = module.train_dataloader()
    assert clip.images.shape == (4, 8, 3, 160, 256)
    assert clip.slot_mask.all()
    assert len(list(module.val_dataloader())) == 6
    assert (tmp_path / "a b" / "generated" / "generated.json").is_file()


def test_data_smaller_than_a_batch_are_repeated(
    videos: tuple[VideoSequence, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = video(tmp_path / "short", frames=2)
    module = VOSDataModule(SETTINGS, (videos[0], short, videos[1]), batch_size=4, num_workers=0)
    module.check(2)
    module.setup("fit")
    [batch] = names(module)
    assert sorted(name.split()[0] for name in batch) == sorted([videos[0].name, videos[1].name] * 2)
    assert caplog.messages[:2] == [
        f"short: left out, 2 frames are too few for clips of {SETTINGS.frames}",
        "the data have 2 clips an epoch; they are repeated to fill a batch of 4",
    ]

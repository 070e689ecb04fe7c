"""The LightningDataModule: sources in, training clips and evaluation sequences out."""

from __future__ import annotations

from collections.abc import Sequence as ListOf
from dataclasses import replace
from typing import Any

import cv2
import lightning as L
import torch
from torch.utils.data import BatchSampler, DataLoader

from src.core import ConfigError
from src.data.clips import ClipDataset, ClipItem, ClipSettings, collate
from src.data.mixing import Part, Source, Videos, mix
from src.data.samplers import EvaluationSampler, TrainSampler
from src.data.sequence import EvaluationItem, Sequence
from src.data.transforms import build


class VOSDataModule(L.LightningDataModule):
    """Clips for training, whole sequences for evaluation, shared out over the processes of the trainer.

    Training batches are `Clip`s; an evaluation batch is one `EvaluationItem`, not decoded.

    Args:
        clip: how training clips are drawn; needed for training only.
        train: a source or a list of them: sequences, a function that lists them (`_partial_: true` in a config),
            `PseudoClips`, or a `Part` with any of these.
        val: sequences, or a function that lists them.
        test: the same, for testing.
        batch_size: clips per optimisation step, over all processes together.
        num_workers: loader processes per training process.
        seed: of the order and of all draws.
        clips_per_epoch: shared out over the sources; None: every video or still once, or as its `Part` says.
    """

    def __init__(
        self,
        clip: ClipSettings | None = None,
        train: Source | Part | ListOf[Source | Part] | None = None,
        val: Videos | None = None,
        test: Videos | None = None,
        batch_size: int = 4,
        num_workers: int = 2,
        seed: int = 0,
        clips_per_epoch: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0:
            raise ConfigError(f"batch_size={batch_size} must be positive and num_workers={num_workers} not negative")
        self.clip = clip
        self.train = train
        self.val = val
        self.test = test
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.clips_per_epoch = clips_per_epoch
        self._dataset: ClipDataset | None = None
        self._val: tuple[Sequence, ...] = ()
        self._test: tuple[Sequence, ...] = ()

    @property
    def test_videos(self) -> tuple[Sequence, ...]:
        """The sequences that are tested, over all processes; none before `setup`."""
        return self._test

    def batch_per_process(self, world: int) -> int:
        """Clips per process and step. Callable before any process starts.

        Raises:
            ConfigError: the global batch does not divide by the number of processes.
        """
        if self.batch_size % world:
            raise ConfigError(
                f"batch_size={self.batch_size} is the batch of all {world} processes together and does not divide by"
                f" {world}"
            )
        return self.batch_size // world

    def training_clips(self) -> ClipDataset:
        """Open the training sources.

        Raises:
            ConfigError: training is not configured.
            DataError: a source is missing or damaged, or has too few or too short videos.
        """
        if self.clip is None or self.train is None:
            raise ConfigError("data: training needs `train` and `clip`")
        mixture = mix(self.train, self.clip, self.clips_per_epoch)
        return ClipDataset(mixture.sources, build(self.clip.augmentation), self.seed, mixture.counts)

    def setup(self, stage: str) -> None:
        """Open the sources of a stage: `fit`, `validate`, `test`, or `predict` (none).

        Raises:
            ConfigError: the batch does not divide by the processes, or training is not configured.
            DataError: a source is missing or damaged, or has too few or too short videos.
        """
        if stage == "fit":
            self.batch_per_process(self._process()[1])
            self._dataset = self.training_clips()
        if stage in {"fit", "validate"}:
            self._val = _videos(self.val or ())
        if stage == "test":
            self._test = _videos(self.test or ())

    def train_dataloader(self) -> DataLoader[ClipItem]:
        """Batches of this process for the trainer's current epoch, or always for epoch 0 when it is to overfit."""
        if self._dataset is None:
            raise ConfigError("data: `setup` must run before training")
        rank, world = self._process()
        batch = self.batch_per_process(world)
        overfit = bool(getattr(self.trainer, "overfit_batches", 0))
        sampler = TrainSampler(
            len(self._dataset), self.seed, shuffle=not overfit, fixed=overfit, rank=rank, world=world, batch=batch
        )
        sampler.set_epoch(self.trainer.current_epoch if self.trainer is not None else 0)
        return DataLoader(
            self._dataset,
            batch_sampler=BatchSampler(sampler, batch, drop_last=True),  # type: ignore[arg-type]
            num_workers=self.num_workers,
            collate_fn=collate,
            worker_init_fn=_start_worker,
            # Otherwise the loader draws its workers' seeds from the global stream, which dropout reads too.
            generator=torch.Generator().manual_seed(self.seed),
        )

    def val_dataloader(self) -> DataLoader[EvaluationItem] | list[Any]:
        """Validation sequences of this process, one per batch; nothing if there are none."""
        return self._share(self._val)

    def test_dataloader(self) -> DataLoader[EvaluationItem]:
        """Test sequences of this process, one per batch.

        Raises:
            ConfigError: the configuration names none.
        """
        loader = self._share(self._test)
        if isinstance(loader, list):
            raise ConfigError("data: there is no `test` split here")
        return loader

    def _process(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _share(self, videos: tuple[Sequence, ...]) -> DataLoader[EvaluationItem] | list[Any]:
        if not videos:
            return []
        sampler = EvaluationSampler([len(video) for video in videos], *self._process())
        items = [EvaluationItem(index, videos[index]) for index in sampler]
        if not items:
            # Lightning leaves out the whole loop, and with it the metric's exchange between processes, where there is
            # nothing to do; the others would wait for ever. A first frame keeps the loop and is never scored.
            first = videos[0]
            items = [EvaluationItem(-1, replace(first, images=first.images[:1], masks=first.masks[:1], starts=None))]
        return DataLoader(items, batch_size=None)  # type: ignore[arg-type]


def _videos(source: Videos) -> tuple[Sequence, ...]:
    return tuple(source() if callable(source) else source)


def _start_worker(_: int) -> None:
    # The parent's OpenCV threads do not survive the fork; waiting for them would never end.
    cv2.setNumThreads(0)

"""The LightningDataModule: sources in, training clips and evaluation sequences out."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as ListOf
from dataclasses import replace
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, Dataset

from voslab.core import Clip, ConfigError
from voslab.data.clips.augmentation import build
from voslab.data.clips.bad_samples import ResampleOnError, Skipped
from voslab.data.clips.dataset import ClipDataset, ClipSettings, collate
from voslab.data.clips.mixture import Drawable, Part, Source, Videos, mix
from voslab.data.samplers import EvaluationSampler, TrainSampler
from voslab.data.train_loader import TrainLoader
from voslab.data.video_sequence import EvaluationItem, Sequence


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
        skip_limit: share of an epoch's clips that may be unreadable, in each process, and of a source's videos that may
            be too short. Others stand in for them; more of them end the training.
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
        skip_limit: float = 0.01,
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0:
            raise ConfigError(f"batch_size={batch_size} must be positive and num_workers={num_workers} not negative")
        if not 0 <= skip_limit <= 1:
            raise ConfigError(f"skip_limit={skip_limit} must be a share from 0 to 1")
        self.clip = clip
        self.train = train
        self.val = val
        self.test = test
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.clips_per_epoch = clips_per_epoch
        self._skipped = Skipped(skip_limit)
        self._dataset: ClipDataset | None = None
        self._val: tuple[Sequence, ...] = ()
        self._test: tuple[Sequence, ...] = ()

    @property
    def val_videos(self) -> tuple[Sequence, ...]:
        """The sequences of validation, over all processes; none before `setup`."""
        return self._val

    @property
    def test_videos(self) -> tuple[Sequence, ...]:
        """The sequences that are tested, over all processes; none before `setup`."""
        return self._test

    def videos(self) -> tuple[Sequence, ...]:
        """The sequences of all splits; clips of still images are none. Raises `DataError` for a missing one."""
        parts: ListOf[Any] = self.train if isinstance(self.train, list) else [self.train]
        sources = [part.source if isinstance(part, Part) else part for part in (*parts, self.val, self.test)]
        lists = [source for source in sources if source and not isinstance(source, Drawable)]
        return tuple({video.images: video for source in lists for video in _videos(source)}.values())

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
            raise ConfigError("data: there is nothing to train on here (training needs `train` and `clip`)")
        mixture = mix(self.train, self.clip, self.clips_per_epoch, self._skipped.limit)
        return ClipDataset(mixture.sources, build(self.clip.augmentation), self.seed, mixture.counts)

    def setup(self, stage: str) -> None:
        """Open the sources of a stage: `fit`, `validate`, `test`, or `predict` (none).

        Raises:
            ConfigError: the batch does not divide by the processes, or training is not configured.
            DataError: a source is missing or damaged, or has too few or too short videos.
        """
        if stage == "fit":
            self.batch_per_process(self._process()[1])
            self._dataset = self._dataset or self.training_clips()
        if stage in {"fit", "validate"}:
            self._val = _videos(self.val or ())
        if stage == "test":
            self._test = _videos(self.test or ())

    def check(self, world: int) -> None:
        """Open the training data and find out, before any process starts, whether `world` of them can train on it.

        Raises:
            ConfigError: see `setup`; or clips of a single frame.
            DataError: see `setup`; or the data do not fill one batch.
        """
        share = self.batch_per_process(world)
        self._dataset = self.training_clips()
        if self.clip is not None and self.clip.frames < 2:
            raise ConfigError(f"clip: frames={self.clip.frames} must be at least 2 to train, as the first is given")
        TrainSampler(len(self._dataset), self.seed, world=world, batch=share)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of this process for the trainer's current epoch, or always for epoch 0 when it is to overfit."""
        if self._dataset is None:
            raise ConfigError("data: `setup` must run before training")
        return self.training_loader(ResampleOnError(self._dataset), len(self._dataset), collate)

    def training_loader(self, dataset: Dataset[Any], size: int, collate: Callable[..., Any]) -> TrainLoader:
        """Share out a data set of `size` items by (epoch, index) over the processes; it resumes at any batch."""
        rank, world = self._process()
        batch = self.batch_per_process(world)
        overfit = bool(getattr(self.trainer, "overfit_batches", 0))
        sampler = TrainSampler(size, self.seed, shuffle=not overfit, fixed=overfit, rank=rank, world=world, batch=batch)
        sampler.set_epoch(self.trainer.current_epoch if self.trainer is not None else 0)
        return TrainLoader(dataset, sampler, batch, self.num_workers, collate, self.seed)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Count the clips that could not be read. Raises `DataError` when there are more than `skip_limit`."""
        if isinstance(batch, Clip) and batch.skipped and self._dataset is not None and self.trainer is not None:
            share = len(self._dataset) // self.trainer.world_size
            self._skipped.add(self.trainer.current_epoch, share, batch.skipped)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Unpack clips where they are computed on, so that they travel there as bytes."""
        return batch.unpacked() if isinstance(batch, Clip) else batch

    def state_dict(self) -> dict[str, Any]:
        """What was skipped; how far the epoch is, the loader says itself."""
        return {"skipped": self._skipped.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._skipped.load_state_dict(state_dict["skipped"])

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

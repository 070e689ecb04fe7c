"""LightningDataModule with training clips and evaluation sequences."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, Dataset

from voslab.core import Clip, ConfigError
from voslab.data.batches import BatchShare, share_batch
from voslab.data.clips.augmentation import build_transform
from voslab.data.clips.bad_samples import BadSampleCounter, ResampleOnError
from voslab.data.clips.dataset import ClipDataset, ClipSettings
from voslab.data.clips.item import collate
from voslab.data.clips.mixture import Drawable, Mixture, Training, Videos, named_sources, open_mixture, open_present
from voslab.data.samplers import EvaluationSampler, OverfitSampler, TrainSampler
from voslab.data.train_loader import TrainLoader
from voslab.data.video_sequence import EvaluationItem, VideoSequence
from voslab.data.workers import cores_per_process

log = logging.getLogger(__name__)


class VOSDataModule(L.LightningDataModule):
    """Loads clips for training and whole sequences for evaluation, distributed over the processes of the trainer.

    A training batch is a `Clip`; an evaluation batch is one `EvaluationItem`, which decodes on access.

    Args:
        clip: Settings of training clips; required for training only.
        train: Training sources, by name or in a list; or a single one. A source is a tuple of sequences, a function
            that lists them (`_partial_: true` in a config), `PseudoClips`, or a `WeightedSource` with one of these.
        val: Validation sequences, or a function that lists them.
        test: Test sequences, or a function that lists them.
        batch_size: Clips per optimisation step, over all processes together. The trainer's `accumulate_grad_batches`
            is set accordingly.
        max_batch_per_device: Maximum number of clips per process and forward pass; None for no maximum. The rest of a
            process's share is accumulated.
        num_workers: Loader processes per training process; None for one per core, less one for training itself.
        pin_memory: Whether batches are loaded into page-locked memory, from which they are copied to a GPU while it
            computes. Without a GPU it has no effect.
        persistent_workers: Whether loader processes live longer than an epoch. The trainer must then keep the loader:
            `reload_dataloaders_every_n_epochs=0`.
        seed: Seed of the order and of all random draws.
        clips_per_epoch: Clips per epoch, distributed over the sources; None for every video or image as often as its
            source repeats it.
        skip_limit: Fraction of an epoch's clips, per process, that may be unreadable. Other clips replace them;
            training ends with an error above the limit.

    Raises:
        ConfigError: If `batch_size`, `max_batch_per_device`, `num_workers` or `skip_limit` is out of range.
    """

    def __init__(
        self,
        clip: ClipSettings | None = None,
        train: Training | None = None,
        val: Videos | None = None,
        test: Videos | None = None,
        batch_size: int = 4,
        num_workers: int | None = 2,
        seed: int = 0,
        clips_per_epoch: int | None = None,
        skip_limit: float = 0.01,
        max_batch_per_device: int | None = None,
        pin_memory: bool = False,
        persistent_workers: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1 or (num_workers is not None and num_workers < 0):
            raise ConfigError(f"batch_size={batch_size} must be positive and num_workers={num_workers} not negative")
        if max_batch_per_device is not None and max_batch_per_device < 1:
            raise ConfigError(f"max_batch_per_device={max_batch_per_device} must be positive")
        if not 0 <= skip_limit <= 1:
            raise ConfigError(f"skip_limit={skip_limit} must be a fraction from 0 to 1")
        self.clip = clip
        self.train = train
        self.val = val
        self.test = test
        self.batch_size = batch_size
        self.max_batch_per_device = max_batch_per_device
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.persistent_workers = persistent_workers
        self.seed = seed
        self.clips_per_epoch = clips_per_epoch
        self._bad_samples = BadSampleCounter(skip_limit)
        self._mixture: Mixture | None = None
        self._dataset: ClipDataset | None = None
        self._val: tuple[VideoSequence, ...] = ()
        self._test: tuple[VideoSequence, ...] = ()

    @property
    def val_videos(self) -> tuple[VideoSequence, ...]:
        """Validation sequences of all processes; empty before `setup`."""
        return self._val

    @property
    def test_videos(self) -> tuple[VideoSequence, ...]:
        """Test sequences of all processes; empty before `setup`."""
        return self._test

    def videos(self) -> tuple[VideoSequence, ...]:
        """Return the sequences of all splits, without still images and absent optional sources.

        Raises:
            DataError: If another source is missing or damaged.
        """
        lists = [_videos(source) for source in (self.val, self.test) if source]
        if self.train:
            parts = {name: part for name, part in named_sources(self.train).items() if part.source}
            listed, _ = open_present(parts, lambda one: () if isinstance(one.source, Drawable) else _videos(one.source))
            lists = [*listed.values(), *lists]
        return tuple({video.images: video for videos in lists for video in videos}.values())

    def batch_share(self, world: int) -> BatchShare:
        """Return how a batch is distributed; see `share_batch`. Callable before any process starts.

        Args:
            world: Number of processes.

        Raises:
            ConfigError: If the global batch is not divisible by the number of processes.
        """
        return share_batch(self.batch_size, world, self.max_batch_per_device)

    def set_accumulation(self) -> None:
        """Let the trainer accumulate the passes of a batch, and log the distribution of the batch.

        Raises:
            ConfigError: If the global batch is not divisible by the number of processes, or the trainer is set to
                accumulate another number of passes.
        """
        share = self.batch_share(self._process()[1])
        if self.trainer is None:
            return
        if self.trainer.accumulate_grad_batches not in {1, share.passes}:
            raise ConfigError(
                f"trainer.accumulate_grad_batches={self.trainer.accumulate_grad_batches}: it follows from the global"
                " batch; set data.batch_size (clips per optimisation step) and data.max_batch_per_device instead"
            )
        self.trainer.accumulate_grad_batches = share.passes
        if self.trainer.is_global_zero:
            log.info("%s", share)

    def training_clips(self) -> ClipDataset:
        """Open the training sources.

        Raises:
            ConfigError: If training is not configured.
            DataError: If a source is missing or damaged, or has no or only too short videos.
        """
        if self.clip is None or self.train is None:
            raise ConfigError("data: this configuration has no training data (training needs `train` and `clip`)")
        self._mixture = mixture = open_mixture(self.train, self.clip, self.clips_per_epoch, self.batch_size)
        return ClipDataset(mixture.sources, build_transform(self.clip.augmentation), self.seed, mixture.counts)

    def setup(self, stage: str) -> None:
        """Open the sources of a stage.

        Args:
            stage: `fit`, `validate`, `test`, or `predict`, which uses the test sequences.

        Raises:
            ConfigError: If the batch is not divisible by the number of processes, or training is not configured.
            DataError: If a source is missing or damaged, or has no or only too short videos.
        """
        if stage == "fit":
            self.set_accumulation()
            self._dataset = self._dataset or self.training_clips()
        if stage in {"fit", "validate"}:
            self._val = _videos(self.val or ())
        if stage == "fit" and self._mixture is not None and self._mixture.absent and self._process()[0] == 0:
            log.warning("%s", self._mixture.describe_absence(self._val))
        if stage in {"test", "predict"}:
            self._test = _videos(self.test or ())

    def check(self, world: int) -> None:
        """Open the training data and check, before any process starts, that training can run.

        Args:
            world: Number of processes.

        Raises:
            ConfigError: See `setup`; also for clips of a single frame.
            DataError: See `setup`; also if the data do not fill one batch.
        """
        share = self.batch_share(world)
        self._dataset = self.training_clips()
        if self.clip is not None and self.clip.frames < 2:
            raise ConfigError(f"clip: frames={self.clip.frames} must be at least 2 to train, as the first is given")
        TrainSampler(len(self._dataset), self.seed, share)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of this process for the current epoch; always epoch 0 with `overfit_batches`."""
        if self._dataset is None:
            raise ConfigError("data: `setup` must run before training")
        return self.training_loader(ResampleOnError(self._dataset), len(self._dataset), collate)

    def training_loader(self, dataset: Dataset[Any], size: int, collate: Callable[..., Any]) -> TrainLoader:
        """Return a loader that distributes a data set over the processes and resumes at any batch.

        Args:
            dataset: Items by (epoch, index).
            size: Number of items per epoch.
            collate: Function that makes a batch from items.
        """
        rank, world = self._process()
        share = self.batch_share(world)
        overfit = bool(getattr(self.trainer, "overfit_batches", 0))
        sampler = (OverfitSampler if overfit else TrainSampler)(size, self.seed, share, rank=rank)
        sampler.set_epoch(self.trainer.current_epoch if self.trainer is not None else 0)
        workers = self.num_workers
        if workers is None:
            workers = cores_per_process(1 if self.trainer is None else self.trainer.num_devices) - 1
        options = {"pin_memory": self.pin_memory, "persistent_workers": self.persistent_workers}
        return TrainLoader(dataset, sampler, share.clips, workers, collate, self.seed, **options)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Count unreadable clips. Raises `DataError` above `skip_limit`."""
        if isinstance(batch, Clip) and batch.skipped and self._dataset is not None and self.trainer is not None:
            share = len(self._dataset) // self.trainer.world_size
            self._bad_samples.add(self.trainer.current_epoch, share, batch.skipped)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Convert clips to floats on the device, so that bytes are transferred."""
        return batch.unpacked() if isinstance(batch, Clip) else batch

    def state_dict(self) -> dict[str, Any]:
        """Return the count of unreadable clips. The loader stores its own position."""
        return {"skipped": self._bad_samples.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count of unreadable clips."""
        self._bad_samples.load_state_dict(state_dict["skipped"])

    def val_dataloader(self) -> DataLoader[EvaluationItem] | list[Any]:
        """Return the validation sequences of this process, one per batch; an empty list without validation data."""
        return self._distribute(self._val)

    def test_dataloader(self) -> DataLoader[EvaluationItem]:
        """Return the test sequences of this process, one per batch.

        Raises:
            ConfigError: If the configuration has no test data.
        """
        loader = self._distribute(self._test)
        if isinstance(loader, list):
            raise ConfigError("data: this configuration has no `test` split")
        return loader

    def predict_dataloader(self) -> DataLoader[EvaluationItem]:
        """Return the test sequences of this process; see `test_dataloader`."""
        return self.test_dataloader()

    def _process(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _distribute(self, videos: tuple[VideoSequence, ...]) -> DataLoader[EvaluationItem] | list[Any]:
        if not videos:
            return []
        sampler = EvaluationSampler([len(video) for video in videos], *self._process())
        items = [EvaluationItem(index, video) for index, video in enumerate(videos)]
        if not len(sampler):
            # Lightning skips the loop, and with it the metric's synchronisation, in a process without items; the other
            # processes would wait forever. A single frame, which is never scored, keeps the loop running.
            first = videos[0]
            items = [EvaluationItem(-1, replace(first, images=first.images[:1], masks=first.masks[:1], starts=None))]
            sampler = EvaluationSampler([1])
        return DataLoader(items, batch_size=None, sampler=sampler)  # type: ignore[arg-type]


def _videos(source: Videos) -> tuple[VideoSequence, ...]:
    return tuple(source() if callable(source) else source)

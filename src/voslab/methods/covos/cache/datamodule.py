"""Provides crops of cached B-frames for training and whole videos for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voslab.core import ConfigError, DataError
from voslab.data.clips.mixture import Videos
from voslab.data.datamodule import VOSDataModule
from voslab.data.train_loader import TrainLoader
from voslab.data.video_sequence import VideoSequence
from voslab.methods.covos.cache.crops import CachedBFrameCrops, CropSettings, Video, collate_cached
from voslab.methods.covos.cache.files import cached_frames


class CachedBFrameDataModule(VOSDataModule):
    """Yields `CachedBFrameBatch`es for training, after the cache was computed and `open` was called.

    Args:
        cache: folder of cached B-frames and encoded videos.
        crop: how samples are drawn.
        train: sequences, or a function that lists them.
        val: the same, for validation.
        test: the same, for testing.
        batch_size: samples per optimisation step, over all processes together.
        max_batch_per_device: maximum number of samples per process and forward pass; None for no maximum.
        num_workers: loader processes per training process.
        seed: of the order and of all draws.
        samples_per_epoch: None: as many as there are B-frames.
        per_video: number of evenly spaced frames of a video to consider; those that are B-frames are cached. None for
            all frames.
        pin_memory: see `VOSDataModule`.
        persistent_workers: see `VOSDataModule`.
    """

    def __init__(
        self,
        cache: Path | str,
        crop: CropSettings | None = None,
        train: Videos | None = None,
        val: Videos | None = None,
        test: Videos | None = None,
        batch_size: int = 8,
        num_workers: int | None = 2,
        seed: int = 0,
        samples_per_epoch: int | None = None,
        per_video: int | None = None,
        max_batch_per_device: int | None = None,
        pin_memory: bool = False,
        persistent_workers: bool = False,
    ) -> None:
        super().__init__(
            train=train,
            val=val,
            test=test,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            max_batch_per_device=max_batch_per_device,
            pin_memory=pin_memory,
            persistent_workers=persistent_workers,
        )
        if per_video is not None and per_video < 1:
            raise ConfigError(f"data.per_video={per_video}: must be positive")
        self.cache = Path(cache)
        self.per_video = per_video
        self.crop = crop or CropSettings()
        self.samples_per_epoch = samples_per_epoch
        self._listed = train
        self._crops: CachedBFrameCrops | None = None

    def training_videos(self) -> tuple[VideoSequence, ...]:
        """List the training videos.

        Returns:
            the videos whose B-frames are cached and trained on.

        Raises:
            ConfigError: if the configuration names none.
            DataError: if a video is missing or damaged.
        """
        if self._listed is None:
            raise ConfigError("data: training needs `train`")
        return tuple(self._listed() if callable(self._listed) else self._listed)

    def setup(self, stage: str) -> None:
        """Open the sources of a stage; see `VOSDataModule.setup`."""
        if stage == "fit":
            self.set_accumulation()
        super().setup("validate" if stage == "fit" else stage)

    def check(self, world: int) -> None:
        """Find out, before any process starts, whether `world` of them can share a batch, and list the videos.

        Raises:
            ConfigError, DataError: see `training_videos` and `batch_share`.
        """
        self.batch_share(world)
        self.training_videos()

    def open(self, folders: Sequence[Path]) -> None:
        """Open cache folders for training; videos without a B-frame are left out.

        Raises:
            DataError: a folder is incomplete, or none has a frame.
        """
        kept = []
        for folder in folders:
            frames = cached_frames(folder)
            if frames is None:
                raise DataError(f"{folder}: incomplete, it has no index")
            if frames:
                kept.append(Video(folder, frames))
        if not kept:
            raise DataError("none of the training videos has a B-frame with a mask: nothing to train on")
        self._crops = CachedBFrameCrops(tuple(kept), self.crop, self.seed, self.samples_per_epoch)

    def train_dataloader(self) -> TrainLoader:
        """Batches of this process for the trainer's current epoch; see `VOSDataModule.train_dataloader`.

        Raises:
            ConfigError: nothing was cached.
        """
        if self._crops is None:
            raise ConfigError("data: no B-frames were cached; only model=covos trains on B-frames")
        return self.training_loader(self._crops, len(self._crops), collate_cached)

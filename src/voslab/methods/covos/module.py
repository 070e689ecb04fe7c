"""Trains the decoder of CoVOS with cross-entropy on cached B-frames (supplement, training details)."""

from __future__ import annotations

import logging
import warnings

import torch
from torch import Tensor

from voslab.core import ConfigError
from voslab.engine.codec_source import CodecSource
from voslab.methods.covos.cache.crops import CachedBFrameBatch
from voslab.methods.covos.cache.datamodule import CachedBFrameDataModule
from voslab.methods.covos.cache.precompute import precompute_all, settings_key
from voslab.methods.covos.propagation import Propagated
from voslab.nn.losses import dice
from voslab.training.module import VOSModule

log = logging.getLogger(__name__)


class CoVOSModule(VOSModule):
    """Trains the decoder on cached outputs of a frozen base and encoder. Validation runs the whole method."""

    def decode(self, batch: CachedBFrameBatch) -> Tensor:
        """Compute logits B (O+1) 4h 4w of cached B-frames, as `CoVOS.step` does after `propagate`."""
        dtype = next(self.segmenter.decoder.parameters()).dtype
        warped = None if batch.warped is None else batch.warped.to(dtype)
        nowhere = torch.zeros_like(batch.probs[:, :1], dtype=torch.bool)
        masks = (batch.probs.to(dtype), batch.corrected.to(dtype))
        logits: Tensor = self.segmenter.decode(
            Propagated(batch.features.to(dtype), warped, *masks, nowhere), batch.slot_mask
        )
        return logits

    def forward(self, batch: CachedBFrameBatch) -> Tensor:  # type: ignore[override]
        """See `decode`."""
        return self.decode(batch)

    def training_step(self, batch: CachedBFrameBatch) -> Tensor:  # type: ignore[override]
        """Loss of a batch of B-frames."""
        logits = self.decode(batch)
        loss = self.loss(logits, batch.labels)
        if self.recipe.dice:
            loss = loss + self.recipe.dice * dice(logits, batch.labels)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.names))
        return loss

    def on_fit_start(self) -> None:
        """Cache the training videos that are not cached yet, together with the other processes.

        Raises:
            ConfigError: the data module yields clips, or the model has no decoder or no encoding.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, CachedBFrameDataModule):
            raise ConfigError(
                "model=covos trains on cached B-frames, not on clips: use data=covos_cache_davis2016, for instance"
            )
        codec_source = CodecSource.from_plain(data.cache / "coded", self.metadata.codec)
        if codec_source is None or self.segmenter.decoder is None:
            raise ConfigError("model=covos: without an encoding and refine=true there is nothing to train")
        root = data.cache / "covos" / settings_key(self.segmenter, self.metadata, self.settings)
        process = (self.trainer.global_rank, self.trainer.world_size)
        videos = data.training_videos()
        folders = precompute_all(self.segmenter, videos, root, codec_source, self.settings, process, data.per_video)
        self.trainer.strategy.barrier("covos_cache")
        data.open(folders)
        # Lightning warns about the frozen modules, which stay in evaluation mode.
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training")
        trained = sum(p.numel() for p in self.segmenter.parameters() if p.requires_grad)
        log.info("base and light encoder are frozen, %.2f M parameters of the decoder train", trained / 1e6)

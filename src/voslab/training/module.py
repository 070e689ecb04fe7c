"""The LightningModule that all methods share: unrolls clips with the segmenter and computes the loss."""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from voslab.core import Clip, Frame, Masks, Segmenter
from voslab.core.checkpoint import METADATA_KEY, CheckpointMetadata
from voslab.data import EvaluationItem
from voslab.data.datamodule import VOSDataModule
from voslab.engine import Settings, crop, pad
from voslab.engine.codec_source import CodecSource
from voslab.nn.inference import for_inference
from voslab.nn.losses import bootstrap_ratio, bootstrapped_nll, dice, nll
from voslab.training.acceleration import training_step
from voslab.training.checkpointing import Step
from voslab.training.evaluation import peak_memory_mb, segment_video
from voslab.training.optimizer import build_optimizer, check_states
from voslab.training.recipe import Recipe
from voslab.training.restore import RestorableModule
from voslab.training.stopwatch import Stopwatch

log = logging.getLogger(__name__)


class VOSModule(RestorableModule):
    """Trains a segmenter on clips, and validates it with J&F on whole sequences.

    Args:
        segmenter: the network; the state dict contains nothing else.
        recipe: training settings.
        settings: settings of the engine in validation; stored in checkpoints.
        metadata: method and parameters from which the segmenter is rebuilt; stored in checkpoints.
        pretrained: whether weights were loaded. Only then are parts frozen.
        codec_source: source of frames with codec data for validation; None if the method reads plain images.
    """

    def __init__(
        self,
        segmenter: Segmenter[Any],
        recipe: Recipe,
        settings: Settings,
        metadata: CheckpointMetadata,
        pretrained: bool,
        codec_source: CodecSource | None = None,
    ) -> None:
        super().__init__(partial(segment_video, segmenter, settings), segmenter=segmenter)
        self.recipe = recipe
        self.settings = settings
        self.codec_source = codec_source
        self.metadata = metadata
        # For Lightning's users; what rebuilds the network is the metadata that `on_save_checkpoint` adds.
        self.save_hyperparameters(replace(metadata, training={}).to_dict(), logger=False)
        self.pretrained = pretrained
        self._compiled: Step | None = None
        self._started: float | None = None
        self.stopwatch = Stopwatch()
        self.memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.segmenter.to(memory_format=self.memory_format)
        if pretrained:
            for module in self._frozen():
                module.requires_grad_(False)
        self.train()  # Lightning keeps the modes that it finds

    def forward(self, clip: Clip) -> Tensor:
        """Segment a batch of clips; see `unroll`.

        Args:
            clip: images in [0, 1], B x T x 3 x H x W, and labels, B x T x H x W; only those of frame 0 are used.

        Returns:
            Logits, B x (T-1) x (O+1) x H x W.
        """
        return self.unroll(clip)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of one frame; see `nll`.

        Args:
            logits: aggregated logits, B x (O+1) x H x W.
            labels: labels, B x H x W; may contain void.
        """
        return nll(logits, labels)

    def unroll(self, clip: Clip) -> Tensor:
        """Segment frames 1..T-1 from the masks of frame 0, with the network's own predictions in its memory.

        Args:
            clip: a batch of clips of T frames.

        Returns:
            Logits, B x (T-1) x (O+1) x H x W.
        """
        return torch.stack([logits for logits, _ in self.steps(clip)], 1)

    def steps(self, clip: Clip) -> Iterator[tuple[Tensor, Any]]:
        """Yield the logits of each frame of `unroll`, B x (O+1) x H x W, and the state after it."""
        dtype = next(self.segmenter.parameters()).dtype
        masks = Masks.from_labels(clip.labels[:, 0], clip.slot_mask)
        masks, images = masks.with_probs(masks.probs.to(dtype)), clip.images.to(dtype)
        stride, padding, mean = self.segmenter.stride, self.segmenter.padding, self.segmenter.mean
        first, given, pads = pad(Frame(0, images[:, 0]), masks, stride, padding, mean)
        assert given is not None
        state = self.segmenter.begin(first, given)
        step = self._compiled or training_step(self.segmenter, self.recipe)
        self._compiled = step if self.recipe.compile else None
        for index in range(1, images.shape[1]):
            image = images[:, index].contiguous(memory_format=self.memory_format)
            frame, _, _ = pad(Frame(index, image), None, stride, padding, mean)
            logits, state = step(frame, state)
            yield crop(logits, pads), state

    def frame_loss(self, logits: Tensor, state: Any, labels: Tensor, clip: Clip) -> Tensor:
        """Compute the loss of one frame from its logits or the state after it.

        Args:
            logits: aggregated logits, B x (O+1) x H x W.
            state: state after the frame.
            labels: labels of the frame, B x H x W; may contain void.
            clip: the batch.
        """
        return self.loss(logits, labels)

    def training_step(self, clip: Clip) -> Tensor:
        """Compute the mean loss over the predicted frames."""
        losses, dices = [], []
        for (logits, state), labels in zip(self.steps(clip), clip.labels[:, 1:].unbind(1), strict=True):
            losses.append(self.frame_loss(logits, state, labels, clip))
            if self.recipe.dice:
                dices.append(dice(logits, labels))
        loss = torch.stack(losses).mean()
        if dices:
            loss = loss + self.recipe.dice * torch.stack(dices).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(clip.names))
        return loss

    def on_train_start(self) -> None:
        """Start measuring time."""
        self._started = time.perf_counter()
        self.stopwatch.start()

    def on_train_batch_end(self, outputs: Any, batch: Clip, batch_idx: int) -> None:
        """After the first batch, log how long a step and an epoch will take."""
        if self._started is None:
            return
        seconds, self._started = time.perf_counter() - self._started, None
        accumulated, batches = self.trainer.accumulate_grad_batches, self.trainer.num_training_batches
        log.info(
            "first batch: %.1f s, peak memory %.0f MB; about %.1f s a step, %.0f min an epoch of %d batches",
            seconds,
            peak_memory_mb(self.device),
            seconds * accumulated,
            seconds * batches / 60,
            batches,
        )

    def on_train_end(self) -> None:
        """Stop measuring time."""
        self.stopwatch.pause()

    def on_validation_start(self) -> None:
        """Exclude validation from the training time."""
        self.stopwatch.pause()

    def on_validation_end(self) -> None:
        """Continue measuring time."""
        self.stopwatch.start()

    def on_validation_epoch_start(self) -> None:
        """Reset the scores, and predict with a copy of the present weights."""
        self.reset_metrics()
        self._predict_with_copy()

    def on_test_epoch_start(self) -> None:
        """Reset the scores, and predict with a copy of the present weights."""
        super().on_test_epoch_start()
        self._predict_with_copy()

    def on_predict_start(self) -> None:
        """Predict with a copy of the present weights."""
        self._predict_with_copy()

    def on_predict_end(self) -> None:
        """Release the copy that predicted."""
        self._predict_with(self.segmenter)

    def validation_step(self, item: EvaluationItem) -> None:
        """Predict and score one sequence."""
        self.evaluate_item(item)

    def on_validation_epoch_end(self) -> None:
        """Log scores under `val/`, and those of each sequence under `val/sequences/`, `val/J/` and `val/F/`."""
        metrics = {f"val/{key}": value for key, value in self.conclude().items()}
        # The values are equal in all processes; averaging them only avoids a warning of Lightning.
        self.log("val/J&F-Mean", metrics.pop("val/J&F-Mean"), prog_bar=True, sync_dist=True)
        self.log_dict(metrics, sync_dist=True)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, VOSDataModule):
            tables = {
                "sequences": self.table.sequences(),
                "J": self.table.sequences("J"),
                "F": self.table.sequences("F"),
            }
            for group, means in tables.items():
                named = {f"val/{group}/{data.val_videos[index].name}": mean for index, mean in means.items()}
                self.log_dict(named, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Create the recipe's optimiser for all parameters that are not frozen, and its scheduler."""
        optimizer = self._optimizer()
        if self.recipe.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.recipe.scheduler(optimizer), "interval": self.recipe.schedule},
        }

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Step with a learning rate that is lower during the warm-up."""
        groups = optimizer.param_groups
        rates = [group["lr"] for group in groups]
        factor = min(1.0, (self.global_step + 1) / max(1, self.recipe.warmup))
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor
        try:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate

    def on_fit_start(self) -> None:
        """Log in one line which parameters train, and with which learning rate."""
        trained = sum(p.numel() for p in self.segmenter.parameters() if p.requires_grad) / 1e6
        rates = ", ".join(dict.fromkeys(f"{group['lr']:g}" for group in self._optimizer().param_groups))
        if self.pretrained:
            # Frozen batch norm is meant to be in evaluation mode.
            warnings.filterwarnings("ignore", message=".*in eval mode at the start of training")
            frozen = ", ".join(self.recipe.frozen_modules()) or "nothing"
            log.info(
                "weights were loaded: %s frozen, %.2f M parameters train, learning rate %s", frozen, trained, rates
            )
        else:
            log.info("random weights: all %.2f M parameters train, learning rate %s", trained, rates)

    def train(self, mode: bool = True) -> VOSModule:
        """Set training mode; frozen batch norm keeps its statistics."""
        super().train(mode)
        if mode and self.pretrained:
            for module in [self.segmenter] if self.recipe.freeze_bn else self._frozen():
                for child in module.modules():
                    if isinstance(child, nn.modules.batchnorm._BatchNorm):
                        child.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the metadata from which the segmenter is rebuilt, in plain types."""
        engine = {"size": self.settings.size, "precision": self.settings.precision}
        training = {"steps": self.global_step, "minutes": self.stopwatch.minutes()}
        checkpoint[METADATA_KEY] = replace(self.metadata, engine=engine, training=training).to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the training time.

        Raises:
            CheckpointError: if the run was started with another optimiser or other frozen parts.
        """
        if states := checkpoint.get("optimizer_states"):
            check_states(self._optimizer(), states)
        self.stopwatch = Stopwatch(checkpoint[METADATA_KEY].get("training", {}).get("minutes", 0.0) * 60)

    def conclude(self) -> dict[str, float]:
        """Compute the results as any evaluation does, and release the copy that predicted."""
        results = super().conclude()
        self._predict_with(self.segmenter)
        return results

    def _optimizer(self) -> torch.optim.Optimizer:
        return build_optimizer(self.segmenter, self.recipe, self.pretrained, self.device, self._trainer)

    def _predict_with_copy(self) -> None:
        """Predict with a copy prepared for inference as in `src.evaluate`, so that both give identical results."""
        prepared = copy.deepcopy(self.segmenter)
        for_inference(prepared)
        self._predict_with(prepared)

    def _predict_with(self, segmenter: Segmenter[Any]) -> None:
        self.predict_video = partial(segment_video, segmenter, self.settings, codec_source=self.codec_source)

    def _frozen(self) -> list[nn.Module]:
        return [self.segmenter.get_submodule(name) for name in self.recipe.frozen_modules()]


class BootstrappedModule(VOSModule):
    """Trains with bootstrapped cross-entropy: over time the loss uses fewer and harder pixels (STCN, section 5)."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `bootstrapped_nll` and `bootstrap_ratio`."""
        return bootstrapped_nll(logits, labels, bootstrap_ratio(self.global_step))

"""The LightningModule the methods share: unroll a clip along the one contract, put a loss on what comes out."""

from __future__ import annotations

import copy
import logging
import time
from functools import partial
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from voslab.core import CheckpointError, Clip, ConfigError, Frame, Masks, Segmenter
from voslab.data import EvaluationItem
from voslab.data.datamodule import VOSDataModule
from voslab.engine import Settings, crop, pad
from voslab.engine.codec_source import CodecSource
from voslab.nn.inference import for_inference
from voslab.nn.losses import bootstrap_share, bootstrapped_nll, dice, nll
from voslab.training.checkpointing import recompute
from voslab.training.cost import Cost
from voslab.training.evaluation import EvaluationModule, peak_memory_mb, segmented
from voslab.training.recipe import Recipe

log = logging.getLogger(__name__)


class VOSModule(EvaluationModule):
    """Trains a segmenter on clips, and validates it with J&F on whole sequences.

    Args:
        segmenter: the network; it alone is the state dict.
        recipe: training choices.
        settings: how validation runs the engine; stored in checkpoints.
        identity: what rebuilds the segmenter: registry name and plain parameters; stored in checkpoints.
        pretrained: whether weights were loaded, of encoders or more; freezing and the recipe's learning rate hold
            only then.
    """

    FORMAT: ClassVar[int] = 1

    def __init__(
        self,
        segmenter: Segmenter[Any],
        recipe: Recipe,
        settings: Settings,
        identity: dict[str, Any],
        pretrained: bool,
    ) -> None:
        super().__init__(partial(segmented, segmenter, settings), segmenter=segmenter)
        self.recipe = recipe
        self.settings = settings
        self.codec_source: CodecSource | None = (
            None  # of pictures, where the method looks at it; set by who builds the module
        )
        self.identity = identity
        self.pretrained = pretrained
        self._started: float | None = None
        self.cost = Cost()
        self.memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.segmenter.to(memory_format=self.memory_format)
        if pretrained:
            for module in self._submodules(recipe.freeze):
                module.requires_grad_(False)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of one frame from aggregated logits B (O+1) H W and labels B H W (void included); see `nll`."""
        return nll(logits, labels)

    def unroll(self, clip: Clip) -> Tensor:
        """Segment frames 1..T-1 from the masks of frame 0, feeding the network its own predictions.

        Returns:
            logits B T-1 (O+1) H W.
        """
        masks = Masks.from_labels(clip.labels[:, 0], clip.slot_mask)
        stride, padding = self.segmenter.stride, self.segmenter.padding
        first, given, pads = pad(Frame(0, clip.images[:, 0]), masks, stride, padding)
        assert given is not None
        state = self.segmenter.begin(first, given)
        step = recompute(self.segmenter) if self.recipe.checkpoint else self.segmenter.step
        outputs = []
        for index in range(1, clip.images.shape[1]):
            image = clip.images[:, index].contiguous(memory_format=self.memory_format)
            frame, _, _ = pad(Frame(index, image), None, stride, padding)
            logits, state = step(frame, state)
            outputs.append(crop(logits, pads))
        return torch.stack(outputs, 1)

    def training_step(self, clip: Clip) -> Tensor:
        """Mean loss over the predicted frames."""
        logits = self.unroll(clip)
        pairs = list(zip(logits.unbind(1), clip.labels[:, 1:].unbind(1), strict=True))
        loss = torch.stack([self.loss(frame, labels) for frame, labels in pairs]).mean()
        if self.recipe.dice:
            loss = loss + self.recipe.dice * torch.stack([dice(frame, labels) for frame, labels in pairs]).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(clip.names))
        return loss

    def on_train_start(self) -> None:
        """Start the clocks."""
        self._started = time.perf_counter()
        self.cost.go_on()

    def on_train_batch_end(self, outputs: Any, batch: Clip, batch_idx: int) -> None:
        """After the first batch, say what a step and an epoch will cost."""
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
        """Stop the clock."""
        self.cost.pause()

    def on_validation_start(self) -> None:
        """Validation is no training."""
        self.cost.pause()

    def on_validation_end(self) -> None:
        """Training goes on."""
        self.cost.go_on()

    def on_validation_epoch_start(self) -> None:
        """Start from nothing, with the network as it is now."""
        self.reset_metrics()
        self._take_final()

    def on_test_epoch_start(self) -> None:
        """The same."""
        super().on_test_epoch_start()
        self._take_final()

    def validation_step(self, item: EvaluationItem) -> None:
        """One sequence."""
        self.evaluate_item(item)

    def on_validation_epoch_end(self) -> None:
        """Log under `val/`, J&F on the progress bar; of each sequence under `val/sequences/`, `val/J/` and `val/F/`."""
        metrics = {f"val/{key}": value for key, value in self.conclude().items()}
        # Equal in all processes already; averaging them keeps Lightning quiet.
        self.log("val/J&F-Mean", metrics.pop("val/J&F-Mean"), prog_bar=True, sync_dist=True)
        self.log_dict(metrics, sync_dist=True)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, VOSDataModule):
            tables = {
                "sequences": self.table.sequences(),
                "J": self.table.sequences("J"),
                "F": self.table.sequences("F"),
            }
            for place, means in tables.items():
                named = {f"val/{place}/{data.val_videos[index].name}": mean for index, mean in means.items()}
                self.log_dict(named, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam or whatever the recipe says, over what is not frozen."""
        optimizer = self._optimizer()
        if not self.pretrained:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.scratch_lr
        if self.recipe.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.recipe.scheduler(optimizer), "interval": self.recipe.schedule},
        }

    def on_fit_start(self) -> None:
        """Say in one line what trains."""
        trained = sum(p.numel() for p in self.segmenter.parameters() if p.requires_grad)
        if self.pretrained:
            frozen = ", ".join(self.recipe.freeze) or "nothing"
            log.info("encoder weights were loaded: %s frozen, %.2f M parameters train", frozen, trained / 1e6)
        else:
            log.info(
                "no encoder weights: all %.2f M parameters train, learning rate %g",
                trained / 1e6,
                self.recipe.scratch_lr,
            )

    def train(self, mode: bool = True) -> VOSModule:
        """Training mode, but frozen normalisation keeps its statistics."""
        super().train(mode)
        if mode and self.pretrained:
            for module in [self.segmenter] if self.recipe.fixed_norm else self._submodules(self.recipe.freeze):
                for child in module.modules():
                    if isinstance(child, nn.modules.batchnorm._BatchNorm):
                        child.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the segmenter and how it was validated, in plain types."""
        engine = {"size": self.settings.size, "precision": self.settings.precision}
        training = {"steps": self.global_step, "minutes": self.cost.minutes()}
        checkpoint["vos"] = {"format": self.FORMAT, "engine": engine, "training": training, **self.identity}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting. Raises `CheckpointError` where the run began with another optimizer."""
        if states := checkpoint.get("optimizer_states"):
            self._check_optimizer(states)
        self.cost = Cost(checkpoint["vos"].get("training", {}).get("minutes", 0.0) * 60)

    def conclude(self) -> dict[str, float]:
        """As for any evaluation; the copy that predicted is let go."""
        results = super().conclude()
        self._predict_with(self.segmenter)
        return results

    def _optimizer(self) -> torch.optim.Optimizer:
        try:
            return self.recipe.optimizer([p for p in self.segmenter.parameters() if p.requires_grad])
        except (TypeError, ValueError) as error:
            raise ConfigError(f"model.training.optimizer: {error}") from error

    def _check_optimizer(self, states: list[dict[str, Any]]) -> None:
        [now] = self._optimizer().param_groups
        for before in (group for state in states for group in state["param_groups"]):
            # A scheduler adds where it began.
            if set(before) - {"initial_lr"} != set(now) or len(before["params"]) != len(now["params"]):
                raise CheckpointError("resume: the run began with another optimizer, or with other parts frozen")

    def _take_final(self) -> None:
        """Predict with a copy that is made ready as `src.evaluate` makes it, so that both give the same bits."""
        final = copy.deepcopy(self.segmenter)
        for_inference(final)
        self._predict_with(final)

    def _predict_with(self, segmenter: Segmenter[Any]) -> None:
        self.predict_video = partial(segmented, segmenter, self.settings, codec_source=self.codec_source)

    def _submodules(self, names: tuple[str, ...]) -> list[nn.Module]:
        found: list[nn.Module] = [self.segmenter.get_submodule(name) for name in names]
        return found


class BootstrappedModule(VOSModule):
    """The longer it has trained, the fewer and harder pixels count (STCN, section 5)."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `bootstrapped_nll` and `bootstrap_share`."""
        return bootstrapped_nll(logits, labels, bootstrap_share(self.global_step))

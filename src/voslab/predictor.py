"""The public API: loads a model and segments videos with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from voslab.configs import compose
from voslab.core import ConfigError
from voslab.core.parameters import nearest
from voslab.core.resources import resource
from voslab.engine.device import find_device
from voslab.engine.directions import Direction
from voslab.engine.given_masks import MaskScope, check_mask_scope
from voslab.engine.prediction import Prediction
from voslab.engine.settings import Precision
from voslab.engine.sources import Source, find_size, open_source
from voslab.methods.builder import CACHE, LoadedModel, ModelSpec, build_model
from voslab.video import MaskOptions
from voslab.video_session import MaskSource, VideoSession


class Predictor:
    """Segments videos from the masks of one or more frames.

    Args:
        model: Model in evaluation mode; `load` builds one.
        device: Device to run on; None leaves the model where it is.

    Example:
        >>> import numpy as np
        >>> from voslab.predictor import Predictor
        >>> frames = [np.zeros((24, 32, 3), np.uint8)] * 3
        >>> mask = np.zeros((24, 32), np.uint8)
        >>> mask[8:16, 8:16] = 1
        >>> predictor = Predictor.load(model="copy_first")
        >>> [(p.index, int((p.ids == 1).sum())) for p in predictor.segment(frames, {0: mask})]
        [(0, 64), (1, 64), (2, 64)]
    """

    def __init__(self, model: LoadedModel, device: torch.device | None = None) -> None:
        self.model = model
        if device is not None:
            model.segmenter.to(device)

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        *,
        model: str | None = None,
        weights: str | Path | None = None,
        base_weights: str | Path | None = None,
        network: Mapping[str, Any] | None = None,
        size: int | None = None,
        precision: Precision | None = None,
        device: str | torch.device = "auto",
        cache: str | Path = CACHE,
    ) -> Predictor:
        """Load a checkpoint, a method with weights, or the default weights if neither is given.

        Args:
            checkpoint: File that training wrote, or a safetensors file of this project.
            model: Name of a file in `conf/model`, such as `stcn`.
            weights: Weights for `model`: a checkpoint or published weights of the method.
            base_weights: Weights for the base of a wrapper such as `covos`.
            network: Network parameters that replace those of `conf/model`.
            size: Working size: the shorter side of a frame in pixels. None for the size of the checkpoint, else 480.
            precision: `fp32`, `bf16` or `fp16`. None for the precision of the checkpoint, else `fp32`.
            device: Device name of torch; `auto` is the accelerator if there is one, else the CPU.
            cache: Folder for videos that are encoded for a model that reads codec data.

        Returns:
            A predictor in evaluation mode.

        Raises:
            ConfigError: If a model, parameter or device is unknown, or arguments contradict each other.
            CheckpointError: If a file cannot be read or does not fit the network.

        Example:
            >>> from voslab.predictor import Predictor
            >>> Predictor.load(model="copy_first", size=240).model.settings.size
            240
        """
        if model is None and (network is not None or (checkpoint is None and (weights or base_weights) is not None)):
            raise ConfigError("weights, base_weights and network go with model=NAME")
        if checkpoint is None and model is None:
            checkpoint = default_checkpoint()
        fields: dict[str, Any] = {}
        if model is not None:
            fields = ModelSpec.model_fields(model_config(model))
            fields["network"] = {**fields["network"], **(network or {})}
        spec = ModelSpec(
            checkpoint=None if checkpoint is None else Path(checkpoint),
            weights=None if weights is None else Path(weights),
            base_weights=None if base_weights is None else Path(base_weights),
            size=size,
            precision=precision,
            cache=Path(cache),
            **fields,
        )
        # Resolved first, so that a wrong name fails before a large file is read.
        target = find_device(str(device))
        loaded = build_model(spec)
        loaded.warn_if_random()
        return cls(loaded, target)

    def segment(
        self,
        source: Source,
        masks: MaskSource,
        *,
        direction: Direction = "forward",
        start: int | str | None = None,
        end: int | str | None = None,
        probabilities: bool = False,
        mask_scope: MaskScope | None = None,
        mask_colors: Literal["auto", "any"] = "auto",
        mask_void: int | None = None,
        mask_resize: bool = False,
    ) -> Iterator[Prediction]:
        """Segment a video; frames are read, segmented and returned one at a time.

        Args:
            source: Path of a video file or of a folder of images, a list of image paths, a stream such as `0` or
                `rtsp://…` as text, an opened `Video`, or any iterable of H W 3 uint8 RGB arrays, such as a list or a
                generator. Models that read codec data, such as `covos`, need files or streams.
            masks: H W integer label maps or mask files by frame index, counted from 0; 0 is background, other values
                are object ids. Or a path: a mask image for frame 0, a folder of masks named like the images or by
                frame number, a folder of such folders per object, or annotations of COCO, LabelMe or YOLO.
                Later masks add objects and correct known ones.
            direction: Where a frame takes its objects from: `forward` from the last mask before it, `backward` from the
                first one after it, `both` from the nearer one, the earlier of two equally near ones.
            start: First frame to segment, whatever the direction: a frame number from 0 on, or a time such as `12.5s`
                or `00:01:30`. None: the first frame of the video.
            end: Last frame to segment, as `start`. None: the last frame of the video.
            probabilities: Whether predictions have `probabilities` (O H W float32 at source size, one map per object)
                and `object_ids` (the id of each map). The background's probability is 1 minus the sum of the maps.
            mask_scope: `full`: a mask is the whole truth of its frame, so that a known object that is absent from it is
                removed until a later mask holds it again. `partial`: absent objects keep their prediction. None:
                `partial` if all masks after the first hold new objects only, otherwise `full`.
            mask_colors: `any` takes every distinct colour of RGB masks for an object; `auto` reads the colours of the
                DAVIS palette and refuses others.
            mask_void: Id of pixels in masks that belong to no object, such as 255; None if there is none.
            mask_resize: Whether masks of another size are scaled to the video.

        Returns:
            An iterator over one `Prediction` per frame. `ids` (H W int64) holds the object ids of the masks, `image` is
            the source frame. Predictions come in presentation order with `forward`, in reverse with `backward`. With
            `both`, frames that take their objects from a mask before them come first, in order, and then the others, in
            reverse.

        Raises:
            DataError: If a mask or a frame has a wrong type or size, or a mask belongs to no frame, or no mask is given
                from `start` to `end`. Errors in frames are raised while iterating.
            VideoError: If the video cannot be read.
            ConfigError: If the model reads codec data and `source` is not a file, or `direction`, `start` or `end` do
                not fit the video.

        Example:
            >>> import numpy as np
            >>> from voslab.predictor import Predictor
            >>> mask = np.zeros((24, 32), np.uint8)
            >>> mask[:, :16] = 5
            >>> predictor = Predictor.load(model="copy_first")
            >>> first, second = predictor.segment(np.zeros((2, 24, 32, 3), np.uint8), {0: mask}, probabilities=True)
            >>> second.probabilities.shape, second.object_ids, bool(second.probabilities[0, 0, 0] > 0.5)
            ((1, 24, 32), (5,), True)
        """
        session = self.session(
            source,
            probabilities=probabilities,
            mask_scope=mask_scope,
            mask_colors=mask_colors,
            mask_void=mask_void,
            mask_resize=mask_resize,
        )
        return session.propagate_masks(session.read_masks(masks), direction, start, end)

    def session(
        self,
        source: Source,
        *,
        probabilities: bool = False,
        mask_scope: MaskScope | None = None,
        mask_colors: Literal["auto", "any"] = "auto",
        mask_void: int | None = None,
        mask_resize: bool = False,
    ) -> VideoSession:
        """Open a video for interactive use: give masks, propagate them, correct a frame, and propagate again.

        Args:
            source: See `segment`. Streams can be propagated forward only, and once.
            probabilities: See `segment`.
            mask_scope: See `segment`.
            mask_colors: See `segment`.
            mask_void: See `segment`.
            mask_resize: See `segment`.

        Returns:
            A session without masks.

        Raises:
            VideoError, DataError: If the source cannot be read.
            ConfigError: If the model reads codec data and `source` is not a file.

        Example:
            >>> import numpy as np
            >>> from voslab.predictor import Predictor
            >>> session = Predictor.load(model="copy_first").session(np.zeros((5, 24, 32, 3), np.uint8))
            >>> session.set_mask(2, np.eye(24, 32, dtype=np.uint8))
            >>> [prediction.index for prediction in session.propagate("both")]
            [2, 3, 4, 1, 0]
        """
        opened = open_source(source, self.model.codec_source, self.model.name)
        if mask_resize:
            opened = find_size(opened)
        options = MaskOptions(mask_colors, mask_void, mask_resize)
        return VideoSession(self.model, opened, options, probabilities, check_mask_scope(mask_scope))


def default_checkpoint() -> Path:
    """Return the file that `default_checkpoint` in `conf/segment.yaml` names.

    Returns:
        Path of the default weights.

    Example:
        >>> from voslab.predictor import default_checkpoint
        >>> default_checkpoint().suffix
        '.safetensors'
    """
    from omegaconf import OmegaConf

    path = OmegaConf.select(OmegaConf.load(resource("conf") / "segment.yaml"), "default_checkpoint")
    return resource(str(path))


def model_config(name: str) -> dict[str, Any]:
    """Return the plain content of `conf/model/<name>.yaml`, its defaults and interpolations resolved.

    Args:
        name: Stem of the file.

    Returns:
        Plain dicts, lists and values.

    Raises:
        ConfigError: If there is no such file.

    Example:
        >>> from voslab.predictor import model_config
        >>> model_config("copy_first")
        {'name': 'copy_first', 'network': {}}
    """
    from omegaconf import OmegaConf

    names = sorted(path.stem for path in (resource("conf") / "model").glob("*.yaml"))
    if name not in names:
        raise ConfigError(f"model={name}: no such model{nearest(name, names)} (there are {', '.join(names)})")
    config = compose("segment", [f"model={name}"])
    content: Any = OmegaConf.to_container(config.model, resolve=True)
    return dict(content)

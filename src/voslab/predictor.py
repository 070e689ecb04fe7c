"""The public API: loads a model and segments videos with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from voslab.configs import compose
from voslab.core import ConfigError, DataError, RawFrame
from voslab.core.parameters import nearest
from voslab.core.resources import resource
from voslab.engine.device import find_device
from voslab.engine.given_masks import MaskScope, check_mask_scope
from voslab.engine.prediction import Prediction
from voslab.engine.runner import run
from voslab.engine.settings import Precision
from voslab.methods.builder import CACHE, LoadedModel, ModelSpec, build_model
from voslab.video import MaskOptions, Video, given_masks, open_video, read_image, read_masks

Source = str | Path | Video | Sequence[str | Path] | Iterable[NDArray[np.uint8]]
MaskSource = str | Path | Mapping[int, NDArray[Any] | str | Path]


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
        probabilities: bool = False,
        mask_scope: MaskScope | None = None,
        mask_colors: Literal["auto", "any"] = "auto",
        mask_void: int | None = None,
        mask_resize: bool = False,
    ) -> Iterator[Prediction]:
        """Segment a video; frames are read, segmented and returned one at a time.

        Args:
            source: Path of a video file or of a folder of images, a list of image paths, an opened `Video`, or any
                iterable of H W 3 uint8 RGB arrays, such as a list, a generator or a camera. Models that read codec
                data, such as `covos`, need files.
            masks: H W integer label maps or mask files by frame index, counted from 0; 0 is background, other values
                are object ids. Or a path: a mask image for frame 0, a folder of masks named like the images or by
                frame number, a folder of such folders per object, or annotations of COCO, LabelMe or YOLO.
                Segmentation starts at the first mask; later masks add objects and correct known ones.
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
            An iterator over one `Prediction` per frame, in presentation order. `ids` (H W int64) holds the object ids
            of the masks, `image` is the source frame.

        Raises:
            DataError: If a mask or a frame has a wrong type or size, or a mask belongs to no frame. Errors in frames
                are raised while iterating.
            VideoError: If the video cannot be read.
            ConfigError: If the model reads codec data and `source` is not a file.

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
        if isinstance(source, str | Path):
            source = open_video(source)
        frames: Iterable[RawFrame | NDArray[np.uint8]]
        codec = self.model.codec_source
        names: Sequence[str] | None = None
        size: tuple[int, int] | None = None
        if isinstance(source, Video):
            names, size = source.names, source.size
            frames = source if codec is None else codec.frames(source)
        elif paths := _paths(source):
            names = [path.stem for path in paths]
            frames = map(read_image, paths) if codec is None else codec.frames(paths)
        elif codec is not None:
            raise ConfigError(
                f"model '{self.model.name}' reads codec data: give a video file, a folder or a list of image files"
            )
        else:
            frames = source  # type: ignore[assignment]  # an iterable of arrays
        if mask_resize and size is None:
            frames, size = _peek(frames)
        labels = _labels(masks, names, size, MaskOptions(mask_colors, mask_void, mask_resize))
        scope = check_mask_scope(mask_scope)
        return run(self.model.segmenter, frames, labels, self.model.settings, probabilities, scope)


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


def _paths(source: Any) -> list[Path]:
    """Return the files of a list of paths; nothing for other sources."""
    if not isinstance(source, Sequence):
        return []
    if not source:
        raise DataError("the source has no frames")
    return [Path(item) for item in source] if all(isinstance(item, str | Path) for item in source) else []


def _peek(frames: Iterable[Any]) -> tuple[Iterable[Any], tuple[int, int] | None]:
    """Return the frames and H, W of the first one, which is read."""
    iterator = iter(frames)
    first = list(islice(iterator, 1))
    shape = np.shape(first[0].image if isinstance(first[0], RawFrame) else first[0]) if first else ()
    return chain(first, iterator), (shape[0], shape[1]) if len(shape) > 1 else None


def _labels(
    masks: MaskSource, names: Sequence[str] | None, size: tuple[int, int] | None, options: MaskOptions
) -> Mapping[int, NDArray[np.integer]]:
    """Validate label maps, or find the files of a mask path; files are read when they are needed."""
    if isinstance(masks, str | Path):
        return read_masks(masks, None if names is None else len(names), names, size, options)
    if not isinstance(masks, Mapping):
        raise DataError(f"masks are a {type(masks).__name__}: give a path, or a dict of label maps by frame index")
    if not masks:
        raise DataError("no mask is given: masks is empty")
    # Other mappings, such as those of `read_masks`, read their masks on access.
    return (
        given_masks(masks, size, options) if isinstance(masks, dict) else cast(Mapping[int, NDArray[np.integer]], masks)
    )

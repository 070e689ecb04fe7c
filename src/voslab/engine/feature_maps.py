"""Draws feature maps of a method over the frames.

A network names them in `maps`: from a map's name to the path of a submodule that gives N C h w for the N objects of one
frame, called for one chunk of objects after the other. What is shown is the L2 norm over channels.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import ConfigError, Segmenter, atomic_path
from voslab.core.segmenter import Padding
from voslab.engine.padding import Pads, crop, pads
from voslab.engine.runner import Prediction
from voslab.engine.settings import Settings
from voslab.engine.sinks import CompositeSink
from voslab.video import BackgroundWriter

Map = NDArray[np.float32]


class Inspector:
    """Watches a segmenter's maps while it runs; a context manager.

    Usage: `with Inspector(segmenter) as inspector:`, then `inspector.take()` after each `segmenter.step`.

    Raises:
        ConfigError: for a segmenter without maps.
    """

    def __init__(self, segmenter: Segmenter[Any]) -> None:
        if not segmenter.maps:
            raise ConfigError(
                f"inspect=true: {type(segmenter).__name__} has no maps to show as it is configured; gam has, and covos"
            )
        self._modules = {name: segmenter.get_submodule(path) for name, path in segmenter.maps.items()}
        self._chunks: dict[str, list[Tensor]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for name, module in self._modules.items():
            self._stack.callback(module.register_forward_hook(partial(self._keep, name)).remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def take(self) -> dict[str, Map]:
        """By name, O h w of all objects since the last call; without those that were not computed."""
        taken = {name: torch.cat(chunks).cpu().numpy() for name, chunks in self._chunks.items()}
        self._chunks = {}
        return taken

    def _keep(self, name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        # They stay on the device, where they are small, so that the network does not wait for a copy.
        self._chunks.setdefault(name, []).append(output.detach().float().norm(dim=1))


class _Seen(NamedTuple):
    prediction: Prediction
    maps: dict[str, Map]


class MapSink(CompositeSink):
    """Writes `folder/<map>/<frame>.png`: the picture under each object's heat, objects side by side in slot order.

    A `Sink`, whose predictions are those of `run` with the same segmenter and settings. Frames on which nothing was
    computed, the first one above all, have no file.

    Args:
        folder: made when missing.
        segmenter: it is watched while the sink is open.
        settings: how it is run.

    Raises:
        ConfigError: for a segmenter without maps.
    """

    def __init__(self, folder: Path, segmenter: Segmenter[Any], settings: Settings) -> None:
        self._folder, self._settings = folder, settings
        self._stride, self._padding = segmenter.stride, segmenter.padding
        self._inspector = Inspector(segmenter)
        self._background = BackgroundWriter[_Seen](self._write)
        super().__init__(self._background, self._inspector)

    def put(self, prediction: Prediction) -> None:
        """See `Sink.put`. Call it before the segmenter's next step."""
        if maps := self._inspector.take():
            self._background.put(_Seen(prediction, maps))

    def _write(self, seen: _Seen) -> None:
        image = seen.prediction.image
        working = self._settings.working_size((image.shape[0], image.shape[1]))
        for name, maps in seen.maps.items():
            drawn = [heat(image, fit(each, working, image.shape[:2], self._stride, self._padding)) for each in maps]
            with atomic_path(self._folder / name / f"{seen.prediction.index:05d}.png") as temporary:
                Image.fromarray(np.hstack(drawn)).save(temporary, format="PNG", compress_level=1)


def fit(values: Map, working: tuple[int, int], size: tuple[int, ...], stride: int, padding: Padding) -> Map:
    """Bring a map to its picture the way the engine brings logits there.

    Args:
        values: h w over the padded picture, whatever its stride.
        working: H W before padding.
        size: H W of the source picture.
        stride: of the segmenter, `padding` likewise.

    Returns:
        values of the source picture's size.
    """
    p: Pads = pads(working, stride, padding)
    padded = (working[0] + p.top + p.bottom, working[1] + p.left + p.right)
    tensor = F.interpolate(torch.from_numpy(values)[None, None], padded, mode="bilinear", align_corners=False)
    fitted = F.interpolate(crop(tensor, p), tuple(size), mode="bilinear", align_corners=False)
    result: Map = fitted[0, 0].numpy()
    return result


def heat(
    image: NDArray[np.uint8], values: Map, alpha: float = 0.6, span: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Blend a heat map over a picture: dark violet for the smallest value in it, yellow for the largest.

    Args:
        image: H W 3 RGB; not changed.
        values: H W. Where all are the same, that is the smallest.
        alpha: weight of the heat, 0 to 1.
        span: smallest and largest value, where several pictures are to have the same scale.
    """
    low, high = span or (float(values.min()), float(values.max()))
    scaled = ((values - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(values)
    colours = cv2.applyColorMap(np.rint(255 * scaled).astype(np.uint8), cv2.COLORMAP_INFERNO)
    blended: NDArray[np.uint8] = cv2.addWeighted(image, 1 - alpha, cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), alpha, 0)
    return blended

"""Draws feature maps of a method over the frames.

The attribute `maps` of a network maps the name of a feature map to the path of a submodule. The submodule returns
N C h w for N objects of a frame and is called once for each chunk of objects. Drawings show the L2 norm over channels.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import ConfigError, Segmenter
from voslab.core.segmenter import Padding
from voslab.engine.padding import Pads, crop, pads
from voslab.engine.prediction import Prediction
from voslab.engine.settings import Settings
from voslab.engine.sinks import CompositeSink
from voslab.video import BackgroundWriter
from voslab.video.writer import write_png

Map = NDArray[np.float32]


class Inspector:
    """Context manager that records the feature maps of a segmenter while it runs.

    Usage: `with Inspector(segmenter) as inspector:`, then `inspector.take()` after each `segmenter.step`.

    Args:
        segmenter: segmenter to record.

    Raises:
        ConfigError: if the segmenter has no maps.
    """

    def __init__(self, segmenter: Segmenter[Any]) -> None:
        if not segmenter.maps:
            name = type(segmenter).__name__
            raise ConfigError(f"inspect=true: {name} has no feature maps as configured; use model=gam or model=covos")
        self._modules = {name: segmenter.get_submodule(path) for name, path in segmenter.maps.items()}
        self._chunks: dict[str, list[Tensor]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for name, module in self._modules.items():
            self._stack.callback(module.register_forward_hook(partial(self._record, name)).remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def take(self) -> dict[str, Map]:
        """Return the maps since the last call, O h w by name, without maps that were not computed."""
        taken = {name: torch.cat(chunks).cpu().numpy() for name, chunks in self._chunks.items()}
        self._chunks = {}
        return taken

    def _record(self, name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        # Copied to the CPU in `take`, so that the network does not wait for the transfer.
        self._chunks.setdefault(name, []).append(output.detach().float().norm(dim=1))


class _Seen(NamedTuple):
    prediction: Prediction
    maps: dict[str, Map]


class MapSink(CompositeSink):
    """Sink that writes `folder/<map>/<frame>.png`: the frame under the heat map of each object, side by side by slot.

    It takes the predictions of `run` with the same segmenter and settings. Frames without maps, such as the first one,
    have no file.

    Args:
        folder: output folder; created if it does not exist.
        segmenter: segmenter to record while the sink is open.
        settings: settings of the engine.

    Raises:
        ConfigError: if the segmenter has no maps.
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
            write_png(self._folder / name / f"{seen.prediction.index:05d}.png", np.hstack(drawn))


class MapRecorder(AbstractContextManager["MapRecorder"]):
    """Context manager that draws the feature maps of a segmenter over its frames: the maximum over objects.

    Args:
        segmenter: segmenter to record.
        settings: settings of the engine.

    Raises:
        ConfigError: if the segmenter has no maps.
    """

    def __init__(self, segmenter: Segmenter[Any], settings: Settings) -> None:
        self._segmenter, self._settings = segmenter, settings
        self._inspector = Inspector(segmenter)

    def __enter__(self) -> Self:
        self._inspector.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inspector.__exit__(kind, error, trace)

    def draw(self, prediction: Prediction) -> dict[str, NDArray[np.uint8]]:
        """Draw the maps since the last call. Call it before the segmenter's next step.

        Args:
            prediction: result of the frame.

        Returns:
            images H W 3, RGB, by the name of the map; nothing for frames without maps, such as the first one.
        """
        image = prediction.image
        size = image.shape[:2]
        working = self._settings.working_size((size[0], size[1]))
        drawn = {}
        for name, maps in self._inspector.take().items():
            fitted = [fit(each, working, size, self._segmenter.stride, self._segmenter.padding) for each in maps]
            drawn[name] = heat(image, np.max(fitted, 0))
        return drawn


def fit(values: Map, working: tuple[int, int], size: tuple[int, ...], stride: int, padding: Padding) -> Map:
    """Resize a map to its frame in the same way as the engine resizes logits.

    Args:
        values: h w, any grid over the padded frame.
        working: working size H W before padding.
        size: H W of the source frame.
        stride: stride of the segmenter.
        padding: padding of the segmenter.

    Returns:
        H W, the size of the source frame.
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
    """Blend a heat map over an image, from dark violet for the smallest value to yellow for the largest.

    Args:
        image: H W 3, RGB; not changed.
        values: H W. A constant map is drawn as the smallest value.
        alpha: weight of the heat map, 0 to 1.
        span: values of the darkest and the brightest colour, so that several images have one scale; None: the range of
            `values`.

    Returns:
        H W 3, RGB.
    """
    low, high = span or (float(values.min()), float(values.max()))
    scaled = ((values - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(values)
    colours = cv2.applyColorMap(np.rint(255 * scaled).astype(np.uint8), cv2.COLORMAP_INFERNO)
    blended: NDArray[np.uint8] = cv2.addWeighted(image, 1 - alpha, cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), alpha, 0)
    return blended

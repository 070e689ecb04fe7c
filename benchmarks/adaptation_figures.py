"""Draws figures of key adaptation: `python -m benchmarks.adaptation_figures model=stcn_adapted data=NAME output=DIR`.

For each sequence it writes `<name>/heat.png` (one column per frame: heat maps of the objects before and after, as in
Figure 3), `masks.png` (masks of the base and of the adapted base, Figure 4), `curves.csv` and `curves.png` (losses and
key lengths per step). `adaptation.csv` has one row per sequence with the cost in seconds and in frames of the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from voslab.cli.entry import entry, plain
from voslab.cli.instantiate import instantiate
from voslab.cli.models import load_model
from voslab.core import ConfigError, Frame, Masks, ObjectTable, Segmenter, write_csv
from voslab.data import VideoSequence
from voslab.data.datamodule import VOSDataModule
from voslab.engine import Prediction, Settings, pad, run
from voslab.engine.device import find_device
from voslab.engine.feature_maps import fit, heat
from voslab.engine.preprocessing import working_image, working_masks
from voslab.methods.adaptation.heat_maps import heat_maps
from voslab.methods.adaptation.network import Adapted
from voslab.methods.adaptation.plots import Image, curves, save, tile_rows
from voslab.methods.adaptation.tuning import Adaptation
from voslab.video import overlay

POINT = ("loss", "object", "background", "query_norm", "memory_norm")


@dataclass(frozen=True, slots=True)
class Runner:
    """Prepares frames for a network in the same way as the engine.

    Attributes:
        network: the adapted network.
        settings: engine settings.
        device: device of the network.
    """

    network: Adapted
    settings: Settings
    device: torch.device

    def given(self, image: Image, labels: NDArray[np.integer] | None = None) -> tuple[Frame, Masks | None]:
        """Return a padded frame, and its masks if labels are given."""
        masks = None
        if labels is not None:
            ids = ObjectTable(np.unique(labels).tolist()).ids
            masks = working_masks(labels, ids, self.settings, self.device)
        whole = Frame(0, working_image(image, self.settings, self.device))
        frame, masks, _ = pad(whole, masks, self.network.stride, self.network.padding, self.network.mean)
        return frame, masks

    def heat(self, image: Image, maps: Tensor) -> Image:
        """Blend an image with the maximum over objects of its heat maps."""
        values = maps[0].amax(0).float().cpu().numpy()
        size = (image.shape[0], image.shape[1])
        working = self.settings.working_size(size)
        whole = fit(values, working, size, self.network.stride, self.network.padding)
        return heat(image, whole, alpha=0.65, span=(0, 1))


@entry("adaptation_figures")
def main(config: DictConfig) -> None:
    """Write the figures of every sequence, and `adaptation.csv`."""
    model = load_model(config)
    if not isinstance(model.segmenter, Adapted):
        raise ConfigError(f"model '{model.name}' does not adapt keys; choose one whose name ends in _adapted")
    if model.segmenter.tuning.steps == 0:
        raise ConfigError("model.network.steps=0: there is nothing to draw")
    data: VOSDataModule = instantiate(config.data)
    data.setup("test")
    names = [video.name for video in data.test_videos]
    only = names if config.only is None else list(config.only)
    if unknown := [name for name in only if name not in names]:
        raise ConfigError(f"only: there is no sequence '{unknown[0]}'")
    runner = Runner(model.segmenter, model.settings, find_device(config.engine.device))
    model.segmenter.to(runner.device)
    output, lines = Path(config.output), []
    for video in data.test_videos:
        if video.name in only:
            lines.append(_show(runner, video, plain(config.shares), output / video.name))
            print("  ".join(f"{key} {value}" for key, value in lines[-1].items()), flush=True)
            write_csv(output / "adaptation.csv", lines)
    print(f"figures: {output}")


@torch.no_grad()
def _show(runner: Runner, video: VideoSequence, shares: list[float], folder: Path) -> dict[str, Any]:
    given = video.given_masks()
    start = min(given)
    indices = sorted({start, *(start + round(share * (len(video) - 1 - start)) for share in shares)})
    first, masks = runner.given(video.image(start), given[start])
    assert masks is not None
    with torch.autocast(runner.device.type, runner.settings.dtype, enabled=runner.settings.precision != "fp32"):
        state = runner.network.begin(first, masks)
        if not state.adaptations:
            raise ConfigError(f"sequence {video.name}: there is no object in frame {start}")
        heats: list[list[Image]] = [[], []]
        for index in indices:
            image = video.image(index)
            frame = first if index == start else runner.given(image)[0]
            for row, keys in zip(heats, (None, getattr(state.base, "keys", None)), strict=True):
                row.append(runner.heat(image, heat_maps(runner.network.base, first, masks, frame, keys)))
    save(folder / "heat.png", tile_rows(heats))
    base, plain_seconds = _masked(runner, runner.network.base, video, indices)
    adapted, _ = _masked(runner, runner.network, video, indices)
    save(folder / "masks.png", tile_rows([base, adapted]))
    [adaptation] = state.adaptations
    points = _points(adaptation)
    write_csv(folder / "curves.csv", points)
    save(folder / "curves.png", curves({name: [point[name] for point in points] for name in POINT}))
    return {
        "sequence": video.name,
        "seconds": round(adaptation.seconds, 3),
        "frame_seconds": round(plain_seconds, 3),
        "frames": round(adaptation.seconds / plain_seconds, 2),
        "loss_before": points[0]["loss"],
        "loss_after": points[int(adaptation.selected[0])]["loss"],
        "norm_before": points[0]["query_norm"],
        "norm_after": points[int(adaptation.selected[0])]["query_norm"],
    }


def _masked(
    runner: Runner, segmenter: Segmenter[Any], video: VideoSequence, indices: list[int]
) -> tuple[list[Image], float]:
    """Return images with overlaid masks, and the median seconds per frame."""
    images, seconds = [], []
    predictions = run(segmenter, (video.image(i) for i in range(len(video))), video.given_masks(), runner.settings)
    prediction: Prediction
    for prediction in predictions:
        if prediction.index > min(indices):
            seconds.append(prediction.seconds)
        if prediction.index in indices:
            images.append(overlay(prediction.image, prediction.ids))
    return images, float(np.median(seconds)) if seconds else float("nan")


def _points(adaptation: Adaptation) -> list[dict[str, float]]:
    values = [
        adaptation.loss[0],
        adaptation.objects[0].sum(1),
        adaptation.backgrounds[0].sum(1),
        *adaptation.norms[0].unbind(1),
    ]
    columns = [[round(value, 5) for value in column.tolist()] for column in values]
    return [dict(zip(POINT, point, strict=True)) for point in zip(*columns, strict=True)]


if __name__ == "__main__":
    main()

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from tests.test_cli import program
from voslab.core import ConfigError, Frame, Masks, Segmenter, State, state_dataclass
from voslab.core.segmenter import Padding
from voslab.engine import Settings, consume, run
from voslab.engine.feature_maps import Inspector, MapSink, heat
from voslab.methods.copy_first.network import CopyFirst
from voslab.nn.aggregation import aggregate_min


@state_dataclass
class LooksState(State):
    masks: Masks


class Looks(Segmenter[LooksState]):
    """Its map is the image's brightness in cells of 4 pixels, times 5, 10, ... for the first, second, ... object."""

    stride = 32
    maps: ClassVar[dict[str, str]] = {"bright": "head.look"}

    def __init__(self, padding: Padding = "zeros") -> None:
        super().__init__()
        self.padding = padding
        self.head = nn.ModuleDict({"look": nn.Conv2d(1, 2, 4, 4, bias=False)})
        with torch.no_grad():
            self.head["look"].weight.copy_(torch.tensor([3 / 16, 4 / 16]).view(2, 1, 1, 1).expand(2, 1, 4, 4))

    def begin(self, frame: Frame, masks: Masks) -> LooksState:
        return LooksState(masks)

    def step(self, frame: Frame, state: LooksState) -> tuple[Tensor, LooksState]:
        grey = frame.image.mean(1, keepdim=True)
        for part in torch.arange(1, state.masks.slot_mask.shape[1] + 1).split(2):
            self.head["look"](grey * part.view(-1, 1, 1, 1))
        return aggregate_min(state.masks.probs, state.masks.slot_mask), state

    def add(self, frame: Frame, masks: Masks, state: LooksState, known: Masks | None = None) -> LooksState:
        return LooksState((known or state.masks).append(masks))

    def hooks(self) -> int:
        return len(self.head["look"]._forward_hooks)


def given(size: tuple[int, int], *ids: int) -> NDArray[np.int64]:
    labels = np.zeros(size, np.int64)
    for column, i in enumerate(ids):
        labels[:, column] = i
    return labels


def read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def test_maps_are_norms_of_all_objects_in_slot_order() -> None:
    network = Looks()
    image = torch.rand(1, 3, 32, 64)
    masks = Masks(torch.zeros(1, 5, 32, 64), torch.ones(1, 5, dtype=torch.bool))
    with Inspector(network) as inspector:
        state = network.begin(Frame(0, image), masks)
        assert inspector.take() == {}
        network.step(Frame(1, image), state)
        taken = inspector.take()
        assert inspector.take() == {}
    assert list(taken) == ["bright"]
    cells = F.avg_pool2d(image.mean(1), 4)
    expected = torch.cat([5 * slot * cells for slot in range(1, 6)])
    assert torch.allclose(torch.from_numpy(taken["bright"]), expected, atol=1e-5)


def test_hooks_are_removed_on_exit() -> None:
    network = Looks()
    with suppress(KeyError), Inspector(network):
        assert network.hooks() == 1
        raise KeyError
    assert network.hooks() == 0


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize(("size", "working"), [((75, 133), None), ((133, 75), None), ((150, 266), 75), ((200, 96), 70)])
def test_heat_is_aligned_with_the_image(
    tmp_path: Path, size: tuple[int, int], working: int | None, padding: Padding
) -> None:
    scale = 1 if working is None else min(size) / working
    spot = (slice(int(0.1 * size[0]), int(0.3 * size[0])), slice(int(0.6 * size[1]), int(0.9 * size[1])))
    image = np.zeros((*size, 3), np.uint8)
    image[spot] = 200
    network, settings = Looks(padding), Settings(size=working)
    consume(run(network, [image] * 2, {0: given(size, 9)}, settings), [MapSink(tmp_path, network, settings)])
    shown = read(tmp_path / "bright" / "00001.png")
    assert shown.shape == image.shape
    rows, columns = np.nonzero(shown[..., 1] - 0.4 * image[..., 1] > 75)
    middle = [(part.start + part.stop - 1) / 2 for part in spot]
    assert abs(rows.mean() - middle[0]) < 1.5 * scale
    assert abs(columns.mean() - middle[1]) < 1.5 * scale
    assert 0.7 < len(rows) / image[(*spot, 0)].size < 1.3


def test_one_file_per_step_with_objects_side_by_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    size = (33, 40)
    frames = [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(5)]
    network = Looks()
    masks = {1: given(size, 5, 300), 3: given(size, 0, 0, 7)}
    throughput = consume(run(network, frames, masks, Settings()), [MapSink(tmp_path / "a b", network, Settings())])
    assert throughput.frames == 5
    shapes = {path.stem: read(path).shape for path in (tmp_path / "a b" / "bright").iterdir()}
    assert shapes == {"00002": (33, 80, 3), "00003": (33, 80, 3), "00004": (33, 120, 3)}
    # Each object's map is normalised by itself.
    left, right = np.hsplit(read(tmp_path / "a b" / "bright" / "00002.png").astype(int), 2)
    assert abs(left - right).max() <= 3
    assert network.hooks() == 0


def test_heat_keeps_the_image_visible_and_accepts_a_constant_map() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:] = 250
    shown = heat(image, np.full((4, 6), 7, np.float32)).astype(int)
    assert (shown[:, 3:] - shown[:, :3] == 100).all()
    assert (image[:, 3:] == 250).all()
    ramp = heat(np.zeros((1, 256, 3), np.uint8), np.arange(256, dtype=np.float32)[None]).astype(int).sum(-1)
    assert (np.diff(ramp[0]) >= -3).all()
    assert ramp[0, -1] > ramp[0, 0] + 250


def test_heat_can_share_one_scale() -> None:
    grey = np.full((8, 8, 3), 128, np.uint8)
    low, high = (heat(grey, np.full((8, 8), value, np.float32), span=(0, 1)) for value in (0.0, 1.0))
    assert high.mean() > low.mean() + 50
    assert (grey == 128).all()
    half = heat(grey, np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    assert np.array_equal(half[0, 0], low[0, 0])
    assert np.array_equal(half[-1, -1], high[0, 0])


def test_a_method_without_maps_is_refused() -> None:
    with pytest.raises(ConfigError, match="CopyFirst has no feature maps"):
        Inspector(CopyFirst())


@pytest.fixture
def clip(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "clip").mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        Image.fromarray(rng.integers(0, 256, (33, 40, 3), np.uint8)).save(tmp_path / "clip" / f"{index}.png")
    Image.fromarray(given((33, 40), 3, 8).astype(np.uint8)).save(tmp_path / "mask.png")
    return f"video={tmp_path / 'clip'}", f"mask={tmp_path / 'mask.png'}"


def test_segment_writes_the_maps_beside_the_overlay(clip: tuple[str, str], tmp_path: Path) -> None:
    small = ("backbone=resnet18", "norm=group", "width=8", "value_channels=16", "decoder_width=8", "mem_channels=16")
    network = ("model=gam", *(f"model.network.{value}" for value in small))
    output = tmp_path / "result"
    done = program("segment", *clip, *network, "inspect=true", f"output={output}")
    assert f"maps: {output / 'maps'}" in done.stdout
    found = {str(path.relative_to(output / "maps")): read(path).shape for path in (output / "maps").rglob("*.png")}
    assert found == {f"{name}/0000{index}.png": (33, 80, 3) for name in ("cam", "mem") for index in (1, 2)}


def test_segment_refuses_a_method_without_maps(clip: tuple[str, str], tmp_path: Path) -> None:
    done = program("segment", *clip, "model=copy_first", "inspect=true", f"output={tmp_path / 'result'}", code=2)
    assert (
        done.stderr.strip()
        == "error: inspect=true: CopyFirst has no feature maps as configured; use model=gam or model=covos"
    )

from __future__ import annotations

import math

import pytest
import torch

from voslab.core import CodecData
from voslab.video.motion.warp import Sampling, carried

SIZE = (6, 7)


def field(seed: int) -> tuple[CodecData, dict[int, torch.Tensor]]:
    random = torch.Generator().manual_seed(seed)
    motion = torch.randint(-24, 25, (2, 4, *SIZE), generator=random) / 4
    references = torch.tensor([-1, 3, 5])[torch.randint(3, (2, 2, *SIZE), generator=random)].to(torch.int32)
    values = {index: torch.rand(2, 3, *SIZE, generator=random) for index in (3, 5, 9)}
    return CodecData("B", motion * (references >= 0).repeat_interleave(2, 1), references), values


def slow(codec: CodecData, values: dict[int, torch.Tensor], sampling: str, stride: int) -> torch.Tensor:
    """Pixel after pixel."""
    assert codec.motion is not None
    assert codec.references is not None
    height, width = SIZE
    found = torch.zeros(2, 3, *SIZE)
    for b in range(2):
        for i in range(height):
            for j in range(width):
                parts = []
                for place in range(2):
                    index = int(codec.references[b, place, i, j])
                    if index < 0:
                        continue
                    y = min(max(i + float(codec.motion[b, 2 * place + 1, i, j]) / stride, 0), height - 1)
                    x = min(max(j + float(codec.motion[b, 2 * place, i, j]) / stride, 0), width - 1)
                    picture = values[index][b]
                    if sampling == "nearest":
                        parts.append(picture[:, math.floor(y + 0.5), math.floor(x + 0.5)])
                        continue
                    total = torch.zeros(3)
                    for row in range(height):
                        for column in range(width):
                            weight = max(0, 1 - abs(row - y)) * max(0, 1 - abs(column - x))
                            total += weight * picture[:, row, column]
                    parts.append(total)
                if parts:
                    found[b, :, i, j] = sum(parts) / len(parts)
    return found


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("sampling", ["nearest", "bilinear"])
def test_warping_is_what_a_loop_over_pixels_says(sampling: Sampling, stride: int) -> None:
    codec, values = field(stride)
    assert codec.references is not None
    found, predicted = carried(codec, values, sampling, stride)
    assert torch.allclose(found, slow(codec, values, sampling, stride), atol=1e-5)
    assert torch.equal(predicted, (codec.references >= 0).any(1, keepdim=True))


def test_a_reference_without_values_is_not_used() -> None:
    codec, values = field(0)
    assert codec.references is not None
    _, predicted = carried(codec, {3: values[3]})
    assert torch.equal(predicted, (codec.references == 3).any(1, keepdim=True))
    nothing, predicted = carried(codec, {9: values[9]})
    assert not nothing.any()
    assert not predicted.any()


def test_nothing_to_carry_is_refused() -> None:
    codec, values = field(0)
    for wrong, given in ((CodecData("B"), values), (codec, {})):
        with pytest.raises(ValueError, match="carried by motion vectors"):
            carried(wrong, given)

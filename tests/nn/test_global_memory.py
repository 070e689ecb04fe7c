from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voslab.nn.global_memory import GlobalMemory, KeyNorm, normalise_key, normalise_query


def pairs(frames: int, objects: int = 2, cells: int = 6) -> list[tuple[torch.Tensor, torch.Tensor]]:
    rng = torch.Generator().manual_seed(0)
    made = [
        (torch.randn(1, 1, cells, 3, generator=rng), torch.randn(1, objects, cells, 4, generator=rng))
        for _ in range(frames)
    ]
    return [(normalise_key(key, "softmax"), value) for key, value in made]


def remember(frames: list[tuple[torch.Tensor, torch.Tensor]]) -> GlobalMemory:
    memory = GlobalMemory.empty(1, 2, 3, 4, torch.device("cpu"))
    for key, value in frames:
        memory = memory.write(key, value)
    return memory


@given(order=st.permutations(range(5)))
@settings(max_examples=20)
def test_the_global_memory_is_the_mean_over_frames_in_any_order(order: list[int]) -> None:
    frames = pairs(5)
    mean = torch.stack([key[:, 0].transpose(1, 2).unsqueeze(1) @ value for key, value in frames]).mean(0)
    memory = remember([frames[i] for i in order])
    assert memory.frames == [5, 5]
    assert torch.allclose(memory.context, mean, atol=1e-6)
    query = torch.randn(1, 7, 3)
    assert torch.allclose(memory.read(query), query.unsqueeze(1) @ mean, atol=1e-5)


@pytest.mark.parametrize("norm", ["softmax", "mean"])
@pytest.mark.parametrize("times", [2, 5])
def test_a_tiled_feature_map_gives_the_same_global_memory(norm: KeyNorm, times: int) -> None:
    key, value = torch.randn(1, 1, 6, 3), torch.randn(1, 2, 6, 4)
    empty = GlobalMemory.empty(1, 2, 3, 4, torch.device("cpu"))
    once = empty.write(normalise_key(key, norm), value)
    tiled = key.repeat(1, 1, times, 1), value.repeat(1, 1, times, 1)
    again = empty.write(normalise_key(tiled[0], norm), tiled[1])
    assert torch.allclose(again.context, once.context, atol=1e-6)
    grown = empty.write(normalise_key(tiled[0], "none"), tiled[1]).context
    assert not torch.allclose(grown, empty.write(key, value).context, atol=1e-3), "as printed, it grows with the size"


def test_the_global_memory_never_grows() -> None:
    sizes = {remember(pairs(frames, cells=cells)).nbytes() for frames in (1, 9) for cells in (4, 400)}
    assert sizes == {2 * 3 * 4 * 4}


def test_objects_that_appear_later_have_their_own_mean() -> None:
    early, late = pairs(2, 1), pairs(3, 2)[2:]
    memory = GlobalMemory.empty(1, 1, 3, 4, torch.device("cpu"))
    for key, value in early:
        memory = memory.write(key, value)
    memory = memory.extend(1)
    assert memory.needs_write(False)
    memory = memory.write(*late[0], retain=False)
    assert memory.frames == [2, 1]
    assert not memory.needs_write(False)
    [(key, value)] = late
    assert torch.allclose(memory.context[:, 1], key[:, 0].transpose(1, 2) @ value[:, 1], atol=1e-6)


def test_normalised_keys_and_queries_are_distributions() -> None:
    x = torch.randn(2, 5, 3)
    assert torch.allclose(normalise_key(x, "softmax").sum(1), torch.ones(2, 3))
    assert torch.allclose(normalise_query(x, "softmax").sum(2), torch.ones(2, 5))
    assert torch.allclose(normalise_key(x, "mean") * 5, x)
    assert torch.allclose(normalise_query(x, "scale") * 3**0.5, x)
    assert torch.equal(normalise_key(x, "none"), x)
    assert torch.equal(normalise_query(x, "none"), x)

from __future__ import annotations

import pytest
import torch

from voslab.nn import affinity
from voslab.nn.affinity import attend
from voslab.nn.pixel_memory import PixelMemory, Policy, least_similar, max_cosine

Sequence = list[tuple[torch.Tensor, torch.Tensor, list[bool]]]
CELLS = 20


def frames(count: int, batch: int = 2, objects: int = 2, requires_grad: bool = False) -> Sequence:
    rng = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        key = torch.randn(batch, objects, CELLS, 4, generator=rng).requires_grad_(requires_grad)
        value = torch.randn(batch, objects, CELLS, 3, generator=rng).requires_grad_(requires_grad)
        made.append((key, value, (torch.rand(batch, generator=rng) < 0.6).tolist()))
    return made


def memory_of(sequence: Sequence, policy: Policy) -> PixelMemory:
    memory = PixelMemory([], policy).extend(sequence[0][0].shape[1])
    for key, value, due in sequence:
        memory = memory.write(key, value, due)
    return memory


class Naive:
    """One clip, one object, in lists: what the batched memory must equal."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.parts: list[torch.Tensor] = []
        self.newest: torch.Tensor | None = None
        self.due = False

    def write(self, columns: torch.Tensor, due: bool) -> None:
        if not self.parts:
            self.parts.append(columns)
            return
        self.settle()
        self.newest, self.due = columns, due
        if not self.policy.previous:
            self.settle()

    def settle(self) -> None:
        if self.newest is not None and self.due:
            new, old = (torch.nn.functional.normalize(x[:, :4], dim=1) for x in (self.newest, torch.cat(self.parts)))
            best = (new @ old.T).max(1).values
            count = CELLS - int(CELLS * (1 - self.policy.ratio))
            self.parts.append(self.newest[best.argsort()[:count]])
            if self.policy.bound is not None:
                room = (self.policy.bound - 1) * CELLS // count
                self.parts = self.parts[:1] + self.parts[1:][-room:]
        self.newest = None

    def read(self, query: torch.Tensor) -> torch.Tensor:
        columns = torch.cat([*self.parts, *([] if self.newest is None else [self.newest])])
        return attend(query[None], columns[None, None, :, :4], columns[None, None, :, 4:])[0, 0]


@pytest.mark.parametrize("bound", [None, 2])
@pytest.mark.parametrize("previous", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.35, 1.0])
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_it_equals_lists_of_columns(
    bound: int | None, previous: bool, share: float, gradients: bool, together: bool
) -> None:
    policy = Policy(share, bound, previous)
    sequence = [(key, value, [any(due)] * 2 if together else due) for key, value, due in frames(16)]
    naive = [[Naive(policy) for _ in range(2)] for _ in range(2)]
    memory = PixelMemory([], policy).extend(2)
    query = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
    with torch.set_grad_enabled(gradients):
        for key, value, due in sequence:
            memory = memory.write(key, value, due)
            found = memory.read(query)
            for b in range(2):
                for o in range(2):
                    naive[b][o].write(torch.cat([key[b, o], value[b, o]], 1), due[b])
                    assert torch.allclose(found[b, o], naive[b][o].read(query[b]), atol=1e-5)


@torch.no_grad()
def test_a_bound_bounds_columns_and_room() -> None:
    memory = memory_of([(key, value, [True] * 2) for key, value, _ in frames(60)], Policy(0.1, bound=2))
    assert memory.num_readable == [3 * CELLS], "twenty that stay for good, ten updates of two, the newest frame"
    [bank] = memory.banks
    assert bank.keys is not None
    assert bank.keys.shape[2] <= 3 * CELLS


@torch.no_grad()
def test_unbounded_columns_grow_by_a_share_per_update() -> None:
    sequence = [(key, value, [True] * 2) for key, value, _ in frames(5)]
    columns = [memory_of(sequence[:count], Policy(0.1)).num_readable for count in range(1, 6)]
    assert columns == [[20], [40], [42], [44], [46]]


@torch.no_grad()
def test_each_bank_begins_with_its_first_frame() -> None:
    sequence = frames(3, objects=3)
    memory = PixelMemory([], Policy()).extend(2)
    memory = memory.write(sequence[0][0][:, :2], sequence[0][1][:, :2], [True, True]).extend(1)
    assert memory.needs_write([False, False])
    memory = memory.write(*sequence[1][:2], [True, True])
    assert memory.num_readable == [40, 20]
    query = torch.randn(2, 6, 4)
    late = attend(query, sequence[1][0][:, 2:], sequence[1][1][:, 2:])
    assert torch.allclose(memory.read(query)[:, 2:], late, atol=1e-6)


def test_without_the_previous_frame_only_due_frames_are_wanted() -> None:
    memory = memory_of(frames(1), Policy(previous=False))
    assert not memory.needs_write([False, False])
    assert memory.needs_write([False, True])
    assert memory_of(frames(1), Policy()).needs_write([False, False])


def test_gradients_flow_to_what_stayed() -> None:
    sequence = [(key, value, [True] * 2) for key, value, _ in frames(3, requires_grad=True)]
    memory_of(sequence, Policy(0.1)).read(torch.randn(2, 6, 4)).square().sum().backward()
    positions = []
    for key, value, _ in sequence:
        assert key.grad is not None
        assert value.grad is not None
        positions.append((value.grad.abs().sum(-1) > 0).sum(-1).unique().tolist())
    assert positions == [[20], [2], [20]]


@torch.no_grad()
def test_a_fork_goes_its_own_way() -> None:
    sequence = frames(8)
    memory = memory_of(sequence[:4], Policy(0.2))
    fork = memory.clone()
    query = torch.randn(2, 6, 4)
    before = fork.read(query)
    for key, value, due in sequence[4:]:
        memory = memory.write(key, value, due)
    assert torch.equal(fork.read(query), before)


@torch.no_grad()
def test_repeating_makes_it_as_large_as_after_so_many_frames() -> None:
    sequence = [(key, value, [True] * 2) for key, value, _ in frames(6)]
    once = memory_of(sequence[:1], Policy(0.1))
    large = once.repeat(5)
    assert large.num_readable == [28]
    assert large.write(*sequence[0]).num_readable == memory_of(sequence, Policy(0.1)).num_readable
    assert torch.isfinite(large.read(torch.randn(2, 6, 4))).all()


@pytest.mark.parametrize("chunk", [2**25, 100])
def test_cosine_ignores_scale_and_unused_columns(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(affinity, "CHUNK", chunk)
    key, memory = torch.randn(2, 2, 7, 4), torch.randn(2, 2, 9, 4)
    used = torch.ones(2, 9, dtype=torch.bool)
    used[1, 4:] = False
    expected = torch.cosine_similarity(key[:, :, :, None], memory[:, :, None], dim=-1)
    found = max_cosine(key * 7, memory * 0.01, used)
    assert torch.allclose(found[0], expected[0].amax(-1), atol=1e-6)
    assert torch.allclose(found[1], expected[1, ..., :4].amax(-1), atol=1e-6)


@pytest.mark.parametrize(("cells", "share", "count"), [(60, 0.1, 6), (1620, 0.1, 162), (15, 0.1, 2), (7, 1.0, 7)])
def test_the_least_similar_share_comes_in_order_of_position(cells: int, share: float, count: int) -> None:
    similarity = torch.rand(2, 3, cells)
    where = least_similar(similarity, share)
    assert where.shape == (2, 3, count)
    assert Policy(share).update_size(cells) == count
    assert (where.diff(dim=-1) > 0).all()
    chosen = similarity.gather(-1, where)
    assert torch.equal(chosen.sort(-1).values, similarity.sort(-1).values[..., :count])

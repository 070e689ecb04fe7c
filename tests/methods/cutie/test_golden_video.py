"""Cutie over videos, with each policy of its memories, against numbers of the published implementation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.support import Golden
from tests.golden.videos import run_video
from voslab.methods.cutie.network import Cutie
from voslab.methods.cutie.state import CutieState
from voslab.methods.cutie.weights import convert
from voslab.nn.long_term_memory import ClipMemory, LongTermPolicy

BOTH = ("default", "fifo", "stagger2")
POLICIES = [
    # The same policies run over the other video too.
    pytest.param(name, policy, marks=pytest.mark.slow if name == "single" and policy in BOTH else ())
    for name, own in (("single", "flip"), ("multi", "late_object"))
    for policy in (*BOTH, "long_term", own)
]


class Recorded(Cutie):
    """Notes sizes and sums of the memories after each frame."""

    def memorise(self, state: CutieState) -> CutieState:
        after = super().memorise(state)
        self.sizes.append(after.memory.buckets[0].clips[0].sizes)
        self.sensory.append([float(after.sensory.sum()), float(after.sensory.abs().sum())])
        sums, areas = after.objects[..., :-1], after.objects[..., -1]
        self.objects.append([float(sums.sum()), float(sums.abs().sum()), float(areas.sum())])
        return after

    def configure(self, config: dict[str, Any]) -> None:
        self.memory_every, self.top_k = config["mem_every"], config["top_k"]
        self.sensory_updates = config.get("stagger_updates", 5)
        self.flip = config.get("flip_aug", False)
        self.policy = LongTermPolicy(enabled=False, bound=config.get("max_mem_frames"))
        if config["use_long_term"]:
            long = config["long_term"]
            numbers = ("max_mem_frames", "min_mem_frames", "num_prototypes", "max_num_tokens")
            self.policy = LongTermPolicy(True, *(long[name] for name in numbers), spare=long["buffer_tokens"])
        self.sizes: list[tuple[int, int]] = []
        self.sensory: list[list[float]] = []
        self.objects: list[list[float]] = []


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Golden("cutie_video_single").load(Recorded(object_chunk=2), convert, "cutie")


class Consolidations:
    """Notes the candidates, prototypes and values of each consolidation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.usage: list[Tensor] = []
        self.made: list[ClipMemory] = []
        consolidate = ClipMemory.consolidate

        def noted(memory: ClipMemory) -> ClipMemory:
            assert memory.working is not None
            size, end = memory.frame_positions, memory.frames - (memory.policy.min_frames - 1)
            self.usage.append(memory.working.mean_usage()[memory.given * size : end * size])
            after = consolidate(memory)
            self.made.append(after.clone())
            return after

        monkeypatch.setattr(ClipMemory, "consolidate", noted)

    def check(self, golden: Golden, policy: str, count: int) -> None:
        indices = torch.stack([usage.topk(count).indices for usage in self.usage])
        assert indices.tolist() == golden[f"prototype_indices_{policy}"].tolist()
        # The tolerance of the usage is relative to its largest value.
        entry = golden.meta["arrays"][f"candidate_usage_{policy}"]
        apart = torch.stack(self.usage) - torch.from_numpy(golden[f"candidate_usage_{policy}"])
        assert apart.abs().max() <= 1e-4 * entry["max_abs"]
        newest = []
        for clip in self.made:
            assert clip.long is not None
            assert clip.groups[0].long is not None
            end = clip.long.size
            keys, shrinkage, _ = clip.long.slice(end - count, end)
            newest.append((keys[0, 0].sum(0), shrinkage[0, 0, :, 0], clip.groups[0].long[:, :, end - count : end]))
        keys, shrinkage, values = zip(*newest, strict=True)
        golden.check(f"long_key_sums_{policy}", torch.stack(keys))
        golden.check(f"long_shrinkage_{policy}", torch.stack(shrinkage))
        sums = [[float(value.sum()), float(value.abs().sum())] for value in values]
        golden.check(f"long_value_sums_{policy}", torch.tensor(sums))


@pytest.mark.parametrize(("name", "policy"), POLICIES)
@torch.no_grad()
def test_video(name: str, policy: str, recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = Golden(f"cutie_video_{name}")
    case = golden.meta["policies"][policy]
    recorded.configure(case["config"])
    consolidations = Consolidations(monkeypatch)
    probs, _ = run_video(recorded, golden, case.get("late"), case["frames"])
    golden.check(f"probs_{policy}", probs, absolute=True)
    golden.check_labels(f"labels_{policy}", probs.argmax(1).numpy())
    # The last frame is not memorised, and updates nothing in the published code.
    for each in (recorded.sizes, recorded.sensory, recorded.objects):
        each.append(each[-1])  # type: ignore[attr-defined]
    assert recorded.sizes == [tuple(row) for row in golden[f"sizes_{policy}"].tolist()]
    golden.check(f"sensory_sums_{policy}", torch.tensor(recorded.sensory))
    golden.check(f"object_memory_sums_{policy}", torch.tensor(recorded.objects))
    if case["config"]["use_long_term"]:
        assert len(consolidations.made) == 4
        consolidations.check(golden, policy, recorded.policy.prototypes)

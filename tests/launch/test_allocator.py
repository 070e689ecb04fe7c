from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from pathlib import Path
import torch
from src.launch.allocator import keep_freed_memory
if {keep}:
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for size in (4, 16, 8, 32):
        [torch.ones(size, 2**20) for _ in range(2)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(4):
    faults()
huge = "[always]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
print(faults(), int(huge))
"""


def faults(keep: bool) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, text=True, check=True, timeout=120
    )
    count, huge = done.stdout.split()
    return int(count), int(huge)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are told by Linux")
def test_tensors_take_the_pages_of_those_before() -> None:
    (kept, huge), (given_back, _) = faults(True), faults(False)
    if huge:
        pytest.skip("with transparent huge pages everywhere there is little to fault in")
    assert given_back > 100_000
    assert kept < given_back / 10

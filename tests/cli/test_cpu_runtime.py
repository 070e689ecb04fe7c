from __future__ import annotations

import subprocess
import sys

import pytest
import torch

PROGRAM = """
import resource
from pathlib import Path
import torch
from voslab.cli.cpu_runtime import configure_cpu
if {keep}:
    configure_cpu()
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted on Linux only")
def test_freed_memory_is_reused() -> None:
    (kept, huge), (given_back, _) = faults(True), faults(False)
    if huge:
        pytest.skip("with transparent huge pages there are few page faults")
    assert given_back > 100_000
    assert kept < given_back / 10


SMALLEST = """
import torch
from voslab.cli.cpu_runtime import configure_cpu
configure_cpu()
torch.set_num_threads(2)
product = torch.full((512, 512), 1e-30) @ torch.full((512, 512), 1e-15)
print(int(product.count_nonzero()))
"""


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this CPU cannot flush denormals")
def test_denormals_are_flushed_in_all_threads() -> None:
    done = subprocess.run([sys.executable, "-c", SMALLEST], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "0"

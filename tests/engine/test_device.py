from __future__ import annotations

import pytest
import torch

from voslab.core import ConfigError
from voslab.engine.device import find_device


def test_auto_is_a_working_device() -> None:
    assert torch.ones(2, device=find_device("auto")).sum() == 2
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["warp", "cuda:99", "mps:7", "xla", ""])
def test_missing_device_is_reported_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=f"engine.device={name}: no such device on this machine"):
        find_device(name)

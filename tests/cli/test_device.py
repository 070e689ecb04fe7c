from __future__ import annotations

import pytest
import torch

from voslab.cli.device import find_device
from voslab.core import ConfigError


def test_auto_is_a_device_that_works() -> None:
    assert torch.ones(2, device=find_device("auto")).sum() == 2
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["warp", "cuda:99", "mps:7", "xla", ""])
def test_a_device_that_is_not_there_is_one_clear_error(name: str) -> None:
    with pytest.raises(ConfigError, match=f"engine.device={name}: no such device on this machine"):
        find_device(name)

"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def vos_data() -> Path:
    """The real data sets (`VOS_DATA`); tests that need them skip without."""
    folder = os.environ.get("VOS_DATA")
    if not folder or not (Path(folder) / "DAVIS").is_dir():
        pytest.skip("needs real data: set VOS_DATA to a folder that holds DAVIS/")
    return Path(folder)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from voslab.core import CheckpointError
from voslab.core.archive import read_checkpoint
from voslab.core.checkpoint import CheckpointMetadata
from voslab.methods import registry

ROOT = Path(__file__).resolve().parents[2]
CODEC = {"encoding": {"crf": 23}, "motion": "codec", "intra_fill": "nearest"}


def test_metadata_survives_a_file() -> None:
    metadata = CheckpointMetadata("covos", {"width": 8}, {"size": 60}, {"steps": 3, "minutes": 0.5}, CODEC)
    assert CheckpointMetadata.from_dict(metadata.to_dict(), "a.ckpt") == metadata


def test_names_of_older_versions_are_translated() -> None:
    network = {"hard": True, "clip": False, "base": {"name": "stcn", "network": {"clip": 1}}}
    old: dict[str, Any] = {"format": 1, "method": "covos", "network": network, "engine": {}}
    old["coding"] = {"encoding": {"crf": 23}, "motion": "codec", "fill": "nearest"}
    metadata = CheckpointMetadata.from_dict(old, "old.ckpt")
    assert metadata.network == {"hard_labels": True, "clamp": False, "base": {"name": "stcn", "network": {"clip": 1}}}
    assert metadata.codec == CODEC
    outer = {**old, "method": "adaptation", "network": {"base": {"name": "covos", "network": {"hard": True}}}}
    assert CheckpointMetadata.from_dict(outer, "old.ckpt").network["base"]["network"] == {"hard_labels": True}


@pytest.mark.parametrize("key", ["method", "network", "engine"])
def test_missing_values_name_the_file(key: str) -> None:
    values = {"method": "stcn", "network": {}, "engine": {}}
    del values[key]
    with pytest.raises(CheckpointError, match=f"^a.ckpt: damaged, its '{key}' is no"):
        CheckpointMetadata.from_dict(values, "a.ckpt")


@pytest.mark.parametrize("path", sorted((ROOT / "weights").glob("*.safetensors")), ids=lambda path: path.stem)
def test_committed_weights_fit_the_networks_of_today(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    assert checkpoint.metadata is not None
    network = registry.build(checkpoint.metadata.method, checkpoint.metadata.network)
    given = {key for key in checkpoint.tensors if not key.startswith("base.")}
    assert {key for key in network.state_dict() if not key.startswith("base.")} == given

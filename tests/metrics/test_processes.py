from __future__ import annotations

import pickle
import warnings
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from voslab.core import generator
from voslab.metrics import DAVISScore, ScoreTable

VIDEOS = 5
SHARDS = {"3+2": ([0, 2, 4], [3, 1]), "5+0": ([4, 3, 2, 1, 0], []), "0+5": ([], [0, 1, 2, 3, 4]), "0+0": ([], [])}
Result = tuple[dict[str, float], ScoreTable]


def _measure(videos: list[int]) -> Result:
    metric = DAVISScore()
    torch.nn.ModuleList([metric]).to(torch.bfloat16)
    for video in videos:
        objects = list(range(1, 2 + video % 3))
        for frame in range(1, 20 + 7 * video):
            metric.update(video, [frame], objects, generator(video, frame).random((1, len(objects), 2)))
    result = metric.compute(), metric.score()
    local = len({o.sequence for o in _unsynced(metric).objects})
    assert local == len(videos), "the rows of other processes must not stay"
    return result


def _unsynced(metric: DAVISScore) -> ScoreTable:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metric, "distributed_available_fn", lambda: False)
        return metric.score()


def _process(rank: int, folder: str) -> None:
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message=".*was called before the ``update``")
    torch.set_num_threads(1)
    rendezvous = (Path(folder) / "rendezvous").as_uri()
    dist.init_process_group("gloo", rendezvous, timedelta(seconds=30), world_size=2, rank=rank)
    for name, shards in SHARDS.items():
        (Path(folder) / f"{name}.{rank}").write_bytes(pickle.dumps(_measure(shards[rank])))
    dist.destroy_process_group()


@pytest.mark.timeout(120)
def test_two_processes_equal_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2, daemon=True)
    expected = _measure(list(range(VIDEOS)))
    for name in SHARDS:
        for rank in range(2):
            values, score = pickle.loads((tmp_path / f"{name}.{rank}").read_bytes())
            if name == "0+0":
                assert score.objects == ()
                assert np.isnan(list(values.values())).all()
            else:
                assert (values, score) == expected, (name, rank)

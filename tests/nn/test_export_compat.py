from __future__ import annotations

import pytest
import torch

from voslab.nn.affinity import Kernel, attend
from voslab.nn.export_compat import coord_range, in_parts


def test_exported_work_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(10)
    assert [len(part) for part in in_parts(x, 0, lambda: 4)] == [4, 4, 2]
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    [whole] = in_parts(x, 0, lambda: 4)
    assert whole is x


def test_exported_coordinates_are_the_usual_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = (1, 2, 7, 864)
    usual = [coord_range(count, torch.device("cpu")) for count in counts]
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for count, expected in zip(counts, usual, strict=True):
        torch.testing.assert_close(coord_range(count, torch.device("cpu")), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("top_k", [None, 5, 40])
def test_an_exported_read_is_the_usual_one(monkeypatch: pytest.MonkeyPatch, shared: bool, top_k: int | None) -> None:
    torch.manual_seed(0)
    query, keys = torch.randn(2, 12, 4), torch.randn(2, 1 if shared else 3, 24, 4)
    values = torch.randn(2, 3, 24, 6)
    usual = attend(query, keys, values, top_k, "l2", Kernel(2.0, 4))
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(attend(query, keys, values, top_k, "l2", Kernel(2.0, 4)), usual)

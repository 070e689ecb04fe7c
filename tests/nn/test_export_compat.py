from __future__ import annotations

import pytest
import torch

from voslab.nn.affinity import Kernel, attend
from voslab.nn.export_compat import coord_range, split_unless_exporting


def test_tensors_stay_whole_during_an_export(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(10)
    assert [len(part) for part in split_unless_exporting(x, 0, lambda: 4)] == [4, 4, 2]
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    [whole] = split_unless_exporting(x, 0, lambda: 4)
    assert whole is x


def test_coordinates_are_the_same_during_an_export(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = (1, 2, 7, 864)
    usual = [coord_range(count, torch.device("cpu")) for count in counts]
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for count, expected in zip(counts, usual, strict=True):
        torch.testing.assert_close(coord_range(count, torch.device("cpu")), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("top_k", [None, 5, 40])
def test_a_read_is_the_same_during_an_export(monkeypatch: pytest.MonkeyPatch, shared: bool, top_k: int | None) -> None:
    torch.manual_seed(0)
    query, keys = torch.randn(2, 12, 4), torch.randn(2, 1 if shared else 3, 24, 4)
    values = torch.randn(2, 3, 24, 6)
    usual = attend(query, keys, values, top_k, "l2", Kernel(2.0, 4))
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(attend(query, keys, values, top_k, "l2", Kernel(2.0, 4)), usual)

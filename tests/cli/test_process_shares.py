"""Tests of the shares of processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voslab.cli.process_shares import ProcessGroup, balanced_shares, gather, process_group
from voslab.core import ConfigError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "TORCHELASTIC_RUN_ID")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ProcessGroup(0, 1)),
        ({"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, ProcessGroup(2, 4, 1)),
        ({"RANK": "2", "WORLD_SIZE": "4", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, ProcessGroup(2, 4)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_LOCALID": "3"}, ProcessGroup(3, 8, 3)),
        ({"SLURM_NTASKS": "8"}, ProcessGroup(0, 1)),
    ],
)
def test_the_environment_names_the_process(
    variables: dict[str, str], expected: ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert process_group() == expected


@pytest.mark.parametrize(("rank", "count"), [("2", "2"), ("-1", "2"), ("0", "0"), ("one", "2")])
def test_a_wrong_environment_is_named(rank: str, count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", count)
    with pytest.raises(ConfigError, match=f"RANK={rank}, WORLD_SIZE={count}: "):
        process_group()


@given(st.lists(st.integers(0, 500), max_size=40), st.integers(1, 6))
def test_shares_are_disjoint_complete_and_balanced(lengths: list[int], count: int) -> None:
    shares = balanced_shares(lengths, count)
    assert len(shares) == count
    assert sorted(index for share in shares for index in share) == list(range(len(lengths)))
    loads = [sum(lengths[index] for index in share) for share in shares]
    # The longest share got its last item when it was the shortest one.
    assert max(loads) - min(loads) <= max(lengths, default=0)


def test_videos_of_unknown_length_are_spread() -> None:
    assert [len(share) for share in balanced_shares([0] * 6, 3)] == [2, 2, 2]


def test_nothing_is_gathered_without_torchrun() -> None:
    assert gather("own") == ["own"]

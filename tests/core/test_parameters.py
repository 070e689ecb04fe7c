from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from torch import Tensor

from voslab.core import ConfigError
from voslab.core.parameters import check_parameters, fits, nearest
from voslab.engine import Settings


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        *((1, int, True), (1, float, True), (1.5, int, False), (True, int, False), (True, float, False)),
        *(("1", int, False), (1, str, False), (True, bool, True), (1, bool, False), (None, int, False)),
        *((None, int | None, True), (None, None, True), (5, None, False), ("a", int | str, True)),
        *(("a", Literal["a", "b"], True), ("c", Literal["a", "b"], False), (1, Literal[True], False)),
        *(([1, 2], tuple[int, int], True), ([1], tuple[int, int], False), ([1, "a"], tuple[int, int], False)),
        *(([1, 2, 3], tuple[int, ...], True), ([], tuple[int, ...], True), ("ab", tuple[str, ...], False)),
        *((["a"], Sequence[str], True), ("a", Sequence[str], False), ([1], list[str], False), ([1], list, True)),
        *(({"a": 1}, dict[str, int], True), ([1], dict[str, int], False), ("a", Path, True), (5, Path | str, False)),
        *((5, Callable[..., Any], False), (5, Settings, False), ({"size": 1}, Settings, False), (5, Any, True)),
        *(("a", Tensor, False), (5.0, float | Tensor, True), ("fast", float | Tensor, False)),
    ],
)
def test_plain_values_and_declared_types(value: Any, hint: Any, expected: bool) -> None:
    assert fits(value, hint) is expected


def test_values_of_objects_to_build_fit_any_type() -> None:
    assert fits({"_target_": "x"}, Settings, lambda value: isinstance(value, dict))
    assert fits([{"_target_": "x"}], tuple[Settings, ...], lambda value: isinstance(value, dict))


def test_names_and_types_are_checked_but_missing_values_are_not() -> None:
    def draw(width: int, colour: str = "red", *, level: float = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    check_parameters(draw, {"colour": "blue", "level": None}, "")
    with pytest.raises(ConfigError, match=r"^here\.colur: draw takes no 'colur'; did you mean 'colour'\? \(it"):
        check_parameters(draw, {"colur": "blue"}, "here.")
    with pytest.raises(ConfigError, match=r"^here\.width=wide: must be a whole number$"):
        check_parameters(draw, {"width": "wide"}, "here.")


def test_functions_with_kwargs_accept_any_name() -> None:
    def draw(**options: Any) -> None: ...

    check_parameters(draw, {"anything": object()}, "")


def test_no_suggestion_without_a_close_match() -> None:
    assert nearest("zzz", ["width", "height"]) == ""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from torch import Tensor

from voslab.core import ConfigError
from voslab.core.parameters import Count, Range, check_parameters, fits, nearest
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
        *(
            ({"a": 1}, dict[str, int], True),
            ({"a": "b"}, dict[str, int], False),
            ([1], dict[str, int], False),
            ("a", Path, True),
            (5, Path | str, False),
        ),
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


def test_ranges_and_numbers_that_no_machine_holds() -> None:
    def draw(
        width: Count, level: Annotated[float, Range(0, 1)] = 0.5, depth: float | None = None, rate: float | Tensor = 1
    ) -> None: ...

    check_parameters(draw, {"width": 1, "level": 1, "depth": 3}, "")
    for values, message in (
        ({"width": 0}, r"^width=0: must be a whole number from 1 to 2147483647$"),
        ({"width": True}, r"^width=True: must be a whole number from 1"),
        ({"level": float("nan")}, r"^level=nan: must be a number from 0 to 1$"),
        ({"level": 1.5}, r"^level=1\.5: must be a number from 0 to 1$"),
        ({"depth": 10**400}, r"^depth=10+…: must be a number or null$"),
        ({"depth": float("inf")}, r"^depth=inf: must be a number"),
        ({"depth": 10**5000}, r"^depth=…: must be a number"),
        ({"rate": "fast"}, r"^rate=fast: must be a number$"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_parameters(draw, values, "")

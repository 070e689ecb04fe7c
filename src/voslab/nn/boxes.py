"""Boxes around masks, for networks that process the part of a frame near the objects only."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool
from torch import Tensor


class Box(NamedTuple):
    """Rows and columns of a grid of cells.

    Attributes:
        rows: first row, and the one after the last.
        columns: first column, and the one after the last.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]

    def cut(self, x: Tensor, scale: int = 1) -> Tensor:
        """Return the part of `x`, … H W, inside the box, as a view.

        Args:
            x: any number of leading dimensions, then `scale` times the rows and columns of the grid.
            scale: rows and columns of `x` per cell.

        Example:
            >>> import torch
            >>> Box((0, 2), (1, 4)).cut(torch.zeros(1, 6, 8), scale=2).shape
            torch.Size([1, 4, 6])
        """
        (top, bottom), (left, right) = self.rows, self.columns
        return x[..., scale * top : scale * bottom, scale * left : scale * right]

    def enlarged(self, margin: int, grid: tuple[int, int], multiple: int = 1) -> Box:
        """Return this box with a margin on each side, as far as the grid reaches.

        Args:
            margin: cells on each side.
            grid: rows and columns of the grid.
            multiple: edges are moved outwards to multiples of this number of cells, as far as the grid reaches. The
                fewer sizes boxes have, the less they fragment the heap.

        Example:
            >>> Box((4, 6), (3, 5)).enlarged(2, (9, 9), multiple=4)
            Box(rows=(0, 8), columns=(0, 8))
        """

        def enlarge(edges: tuple[int, int], length: int) -> tuple[int, int]:
            first, end = max(0, edges[0] - margin), edges[1] + margin
            return first - first % multiple, min(length, end + -end % multiple)

        return Box(enlarge(self.rows, grid[0]), enlarge(self.columns, grid[1]))

    def inside(self, outer: Box) -> Box:
        """Return this box in the rows and columns of `outer`, which holds it.

        Example:
            >>> Box((4, 6), (3, 5)).inside(Box((2, 8), (3, 9)))
            Box(rows=(2, 4), columns=(0, 2))
        """
        (top, bottom), (left, right) = self.rows, self.columns
        row, column = outer.rows[0], outer.columns[0]
        return Box((top - row, bottom - row), (left - column, right - column))

    def paste(self, inside: Tensor, around: Tensor, scale: int = 1) -> Tensor:
        """Overwrite the part of `around` inside the box, in place, and return `around`; see `cut`."""
        self.cut(around, scale).copy_(inside)
        return around


def mask_box(shown: Bool[Tensor, "b o h w"], margin: int) -> Box | None:
    """Return the smallest box around all masks, enlarged by a margin.

    Args:
        shown: True in the cells of each mask.
        margin: cells on each side, as far as the grid reaches.

    Returns:
        the box, shared by all clips and objects; None if all masks are empty.

    Example:
        >>> import torch
        >>> shown = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
        >>> shown[..., 4, 6] = True
        >>> mask_box(shown, 2)
        Box(rows=(2, 7), columns=(4, 9))
    """
    cells = shown.flatten(0, 1).any(0)
    rows, columns = (cells.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    if not rows:
        return None
    smallest = Box((rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1))
    return smallest.enlarged(margin, (cells.shape[0], cells.shape[1]))

"""Proposes a mask from a box and clicks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError

# Found on the training sequences of DAVIS. Lengths without another unit are fractions of the image's shorter side.
_LEAST_MARGIN = 8  # pixels around a box that are background
_FAILED = 0.1  # share of a box below which its mask is taken for a failure
_CORRECTION_ROUNDS = 3
_SEED = 0.4  # radius of the disc that a click fixes, over the distance from the outline of the mask
_LEAST_SEED, _LARGEST_SEED = 0.012, 0.05
_LIMIT = 3.0  # how far a correction goes, over the same distance
_LEAST_LIMIT = 0.06
_NOTHING = "the prompt has neither a box nor a positive click inside the image"


@dataclass(frozen=True)
class Click:
    """A click on the image.

    Attributes:
        x: Column in pixels.
        y: Row in pixels.
        positive: Whether the pixel belongs to the object.
    """

    x: float
    y: float
    positive: bool = True


@dataclass(frozen=True)
class Prompt:
    """What the user says about an object.

    Attributes:
        clicks: Clicks, in order.
        box: Left, top, right and bottom in pixels, right and bottom exclusive; None for no box.
        mask: Mask that the clicks correct, H W; None to start from nothing.
    """

    clicks: Sequence[Click] = field(default=())
    box: tuple[float, float, float, float] | None = None
    mask: NDArray[np.bool_] | None = None


class Proposer(Protocol):
    """Turns prompts into masks."""

    def propose(self, image: NDArray[np.uint8], prompt: Prompt) -> NDArray[np.bool_]:
        """Propose the mask of an object.

        Args:
            image: RGB image, H W 3.
            prompt: A box, clicks, or both.

        Returns:
            Mask, H W.

        Raises:
            DataError: If the prompt has neither a box nor a positive click inside the image.
        """
        ...


@dataclass(frozen=True)
class GrabCut:
    """Proposes masks with OpenCV's GrabCut (Rother et al., 2004), which needs no weights.

    The first mask is found inside the box, or around the first positive click. Each further click corrects it in a
    window around the click, with the colours of that window. A correction changes one connected region, which the click
    lies in, up to a distance that grows with the distance of the click from the outline of the mask.

    Attributes:
        size: Shorter side of the image on which GrabCut runs, in pixels.
        rounds: Iterations of GrabCut for the first mask.
        margin: Width of the background around the box that is looked at, as a fraction of the box.
        reach: Half the side of the window of a correction, and radius of the search around a first click, as a fraction
            of the shorter side.

    Example:
        >>> import numpy as np
        >>> from voslab.studio.proposer import GrabCut, Prompt
        >>> image = np.random.default_rng(0).integers(0, 60, (48, 64, 3), dtype=np.uint8)
        >>> image[16:32, 20:44] += 180
        >>> mask = GrabCut().propose(image, Prompt(box=(14, 10, 50, 38)))
        >>> int(mask.sum()), bool(mask[16:32, 20:44].all())
        (384, True)
    """

    size: int = 320
    rounds: int = 5
    margin: float = 0.35
    reach: float = 0.35

    def propose(self, image: NDArray[np.uint8], prompt: Prompt) -> NDArray[np.bool_]:
        """See `Proposer.propose`."""
        height, width = image.shape[:2]
        factor = min(1.0, self.size / min(height, width))
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else image
        pixels = np.ascontiguousarray(small[..., ::-1])
        clicks = _inside(prompt.clicks, factor, pixels.shape[:2])
        if prompt.mask is not None and prompt.mask.any():
            size = (pixels.shape[1], pixels.shape[0])
            mask = cv2.resize(prompt.mask.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
        elif prompt.box is not None:
            mask = self._in_box(pixels, [round(side * factor) for side in prompt.box])
        else:
            first = next((click for click in clicks if click.positive), None)
            if first is None:
                raise DataError(_NOTHING)
            clicks.remove(first)
            mask = self._around(pixels, first)
        for number in range(len(clicks)):
            mask = self._corrected(pixels, mask, clicks[: number + 1])
        if factor < 1:
            mask = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
        result: NDArray[np.bool_] = mask
        return result

    def _in_box(self, pixels: NDArray[np.uint8], box: Sequence[int]) -> NDArray[np.bool_]:
        """Return the object in a box."""
        size = pixels.shape[:2]
        left, top, right, bottom = box
        inside = _window(left, top, right, bottom, size)
        trimap = np.full(size, cv2.GC_BGD, np.uint8)
        trimap[inside] = cv2.GC_PR_FGD
        area = int((trimap == cv2.GC_PR_FGD).sum())
        if not area:
            raise DataError(_NOTHING)
        around = round(self.margin * max(right - left, bottom - top)) + _LEAST_MARGIN
        window = _window(left - around, top - around, right + around, bottom + around, size)
        mask = np.zeros(size, bool)
        mask[window] = _cut(pixels[window], trimap[window], self.rounds)
        if mask.sum() < _FAILED * area:
            # The colours of object and background did not part: the clicks go on from an ellipse.
            drawn = np.zeros(size, np.uint8)
            middle, axes = ((left + right) // 2, (top + bottom) // 2), ((right - left) // 2, (bottom - top) // 2)
            mask = cv2.ellipse(drawn, middle, axes, 0, 0, 360, 1, -1) > 0
        return mask

    def _around(self, pixels: NDArray[np.uint8], click: Click) -> NDArray[np.bool_]:
        """Return the object around a click."""
        size = pixels.shape[:2]
        centre, reach = (round(click.x), round(click.y)), round(self.reach * min(size))
        trimap = np.full(size, cv2.GC_BGD, np.uint8)
        radius = max(2, round(_LEAST_SEED * min(size)))
        for distance, label in ((reach, cv2.GC_PR_BGD), (reach // 3, cv2.GC_PR_FGD), (radius, cv2.GC_FGD)):
            cv2.circle(trimap, centre, distance, label, -1)
        return _cut(pixels, trimap, self.rounds)

    def _corrected(
        self, pixels: NDArray[np.uint8], mask: NDArray[np.bool_], clicks: Sequence[Click]
    ) -> NDArray[np.bool_]:
        """Return a mask corrected by the last of the clicks; the others stay true."""
        size = pixels.shape[:2]
        click = clicks[-1]
        x, y, distance = round(click.x), round(click.y), _distance(mask != click.positive, click)
        reach = round(self.reach * min(size))
        window = _window(x - reach, y - reach, x + reach + 1, y + reach + 1, size)
        trimap = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        for each in clicks:
            radius = round(_SEED * (distance if each is click else 0))
            radius = min(max(2, round(_LEAST_SEED * min(size)), radius), round(_LARGEST_SEED * min(size)))
            cv2.circle(trimap, (round(each.x), round(each.y)), radius, cv2.GC_FGD if each.positive else cv2.GC_BGD, -1)
        fixed = np.isin(trimap, (cv2.GC_FGD, cv2.GC_BGD))
        found = np.where(fixed, trimap == cv2.GC_FGD, mask)
        found[window] = _cut(pixels[window], trimap[window], _CORRECTION_ROUNDS)
        near = np.zeros(size, np.uint8)
        cv2.circle(near, (x, y), round(max(_LIMIT * distance, _LEAST_LIMIT * min(size))), 1, -1)
        changed = ((found != mask) & (near > 0)).astype(np.uint8)
        _, labels = cv2.connectedComponents(changed)
        corrected: NDArray[np.bool_] = mask ^ ((labels == labels[y, x]) & (changed > 0))
        return corrected


def _inside(clicks: Sequence[Click], factor: float, size: tuple[int, ...]) -> list[Click]:
    """Scale clicks, and drop those outside the image."""
    scaled = [Click(click.x * factor, click.y * factor, click.positive) for click in clicks]
    return [click for click in scaled if 0 <= round(click.x) < size[1] and 0 <= round(click.y) < size[0]]


def _window(left: int, top: int, right: int, bottom: int, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the part of a rectangle that lies in the image."""
    rows = slice(min(max(0, top), size[0]), max(0, min(bottom, size[0])))
    return rows, slice(min(max(0, left), size[1]), max(0, min(right, size[1])))


def _distance(region: NDArray[np.bool_], click: Click) -> float:
    """Return the distance of a click from the border of the region that it lies in; 0 outside."""
    padded = np.pad(region.astype(np.uint8), 1)
    return float(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[round(click.y) + 1, round(click.x) + 1])


def _cut(pixels: NDArray[np.uint8], trimap: NDArray[np.uint8], rounds: int) -> NDArray[np.bool_]:
    """Run GrabCut; without pixels of both kinds, there is nothing to cut."""
    foreground = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if not foreground.any() or foreground.all():
        return foreground
    # OpenCV draws its random numbers from a generator of the process.
    cv2.setRNGSeed(0)
    models, labels = np.zeros((2, 1, 65)), np.ascontiguousarray(trimap)
    cv2.grabCut(np.ascontiguousarray(pixels), labels, None, models[0], models[1], rounds, cv2.GC_INIT_WITH_MASK)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))

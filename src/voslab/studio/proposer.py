"""Proposes a mask from a box and clicks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError


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

    Outside the box, everything is background. A click fixes the pixels around it. Without a box, the object is searched
    around the positive clicks. A mask that is corrected changes around the clicks only.

    Attributes:
        size: Shorter side of the image on which GrabCut runs, in pixels.
        rounds: Iterations of GrabCut.
        radius: Radius of the disc that a click fixes, as a fraction of the shorter side.
        reach: Radius of the search around positive clicks without a box, as a fraction of the shorter side.

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
    radius: float = 0.015
    reach: float = 0.35

    def propose(self, image: NDArray[np.uint8], prompt: Prompt) -> NDArray[np.bool_]:
        """See `Proposer.propose`."""
        height, width = image.shape[:2]
        factor = min(1.0, self.size / min(height, width))
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else image
        # OpenCV draws its random numbers from a generator of the process.
        cv2.setRNGSeed(0)
        trimap = self._trimap(small.shape[:2], prompt, factor)
        foreground = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD))
        if not foreground.any():
            raise DataError("the prompt has neither a box nor a positive click inside the image")
        if foreground.all():
            return np.ones((height, width), bool)
        models = np.zeros((2, 1, 65))
        bgr = np.ascontiguousarray(small[..., ::-1])
        cv2.grabCut(bgr, trimap, None, models[0], models[1], self.rounds, cv2.GC_INIT_WITH_MASK)
        found = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
        if factor < 1:
            found = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
        mask: NDArray[np.bool_] = found > 0.5
        return mask

    def _trimap(self, size: tuple[int, int], prompt: Prompt, factor: float) -> NDArray[np.uint8]:
        """Return GrabCut's labels: certain background and foreground, and where they are only probable."""
        height, width = size
        trimap = np.full(size, cv2.GC_BGD, np.uint8)
        centres = [(round(click.x * factor), round(click.y * factor), click.positive) for click in prompt.clicks]
        reach = round(self.reach * min(size))
        if prompt.mask is not None:
            inside = cv2.resize(prompt.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA) > 0
            near = np.zeros(size, np.uint8)
            for x, y, _ in centres:
                cv2.circle(near, (x, y), reach // 2, 1, -1)
            trimap[inside] = cv2.GC_FGD
            trimap[(near > 0) & inside] = cv2.GC_PR_FGD
            trimap[(near > 0) & ~inside] = cv2.GC_PR_BGD
        elif prompt.box is not None:
            left, top, right, bottom = (round(side * factor) for side in prompt.box)
            trimap[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = cv2.GC_PR_FGD
        else:
            for x, y, positive in centres:
                if positive:
                    cv2.circle(trimap, (x, y), reach, cv2.GC_PR_BGD, -1)
            for x, y, positive in centres:
                if positive:
                    cv2.circle(trimap, (x, y), reach // 3, cv2.GC_PR_FGD, -1)
        radius = max(2, round(self.radius * min(size)))
        for x, y, positive in centres:
            if 0 <= x < width and 0 <= y < height:
                cv2.circle(trimap, (x, y), radius, cv2.GC_FGD if positive else cv2.GC_BGD, -1)
        return trimap

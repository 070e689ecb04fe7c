"""Samples random motion of a still image: affine maps, homographies and thin-plate warps.

Points are (x, y) in pixels. All maps go from the still image to the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import ConfigError

Floats = NDArray[np.float64]
_CONTROL_POINTS = 12  # of a thin-plate spline


@dataclass(frozen=True)
class RandomMotion:
    """Maximum change between consecutive frames. Half of it is constant over a clip, half is redrawn for each frame.

    Attributes:
        shift: Translation along x and y, as a fraction of the image size.
        rotate: Rotation in degrees.
        scale: Relative change of scale.
        shear: Shear in degrees.
        corners: Independent displacement of each corner, as a fraction of the image size; 0 for affine motion.
        warp: Probability of a thin-plate warp of a frame.
        bend: Standard deviation of the displacements of a warp, as a fraction of the image size.

    Raises:
        ConfigError: If a value is out of range.
    """

    shift: float = 0.04
    rotate: float = 8.0
    scale: float = 0.06
    shear: float = 4.0
    corners: float = 0.0
    warp: float = 0.0
    bend: float = 0.02

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 0 or self.scale >= 1 or self.shear >= 45 or self.corners >= 0.2 or self.warp > 1:
            raise ConfigError(
                f"{self}: none may be negative; scale must be below 1, shear below 45, corners below 0.2, warp up to 1"
            )

    def maps(self, rng: np.random.Generator, frames: int, size: tuple[int, int]) -> Floats:
        """Sample the motion of a clip.

        Args:
            rng: Random generator.
            frames: Number of frames T.
            size: H, W of the frames.

        Returns:
            Homographies about the image centre, T 3 3; the first is the identity.
        """
        height, width = size
        limits = np.array([self.shift * width, self.shift * height, self.rotate, np.log1p(self.scale), self.shear])
        x, y, angle, zoom, shear = _steps(rng, frames, limits).cumsum(0).T
        to_centre, back = _translation(-width / 2, -height / 2), _translation(width / 2, height / 2)
        maps = [
            back @ _translation(x[t], y[t]) @ _rotation(angle[t], zoom[t], np.clip(shear[t], -60, 60)) @ to_centre
            for t in range(frames)
        ]
        if self.corners:
            box = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
            limit = self.corners * np.tile([width, height], 4)
            displacements = np.clip(_steps(rng, frames, limit).cumsum(0), -3 * limit, 3 * limit).reshape(-1, 4, 2)
            maps = [
                _homography(box, box + displacement) @ affine
                for displacement, affine in zip(displacements, maps, strict=True)
            ]
        return np.stack(maps)

    def field(self, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32] | None:
        """Sample a displacement field.

        Args:
            rng: Random generator.
            size: H, W of the frames.

        Returns:
            Offset (x, y) from each pixel to its source in pixels, H W 2; None with probability 1 - `warp`.
        """
        if rng.random() >= self.warp:
            return None
        return thin_plate(rng.uniform(0, 1, (_CONTROL_POINTS, 2)), rng.normal(0, self.bend, (_CONTROL_POINTS, 2)), size)


def thin_plate(points: Floats, offsets: Floats, size: tuple[int, int]) -> NDArray[np.float32]:
    """Interpolate displacements with a thin-plate spline.

    The spline is evaluated at every eighth pixel and interpolated linearly between.

    Args:
        points: Control points (x, y), K 2, as fractions of the size.
        offsets: Displacements (x, y) at the control points, K 2, as fractions of the size.
        size: H, W of the field.

    Returns:
        Displacements (x, y) in pixels, H W 2.
    """
    count = len(points)
    kernel = _radial(np.linalg.norm(points[:, None] - points[None], axis=2))
    affine = np.concatenate([np.ones((count, 1)), points], 1)
    system = np.block([[kernel, affine], [affine.T, np.zeros((3, 3))]])
    weights = np.linalg.lstsq(system, np.concatenate([offsets, np.zeros((3, 2))]), rcond=None)[0]
    rows, columns = (max(2, -(-length // 8) + 1) for length in size)
    grid = np.stack(np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows)), 2).reshape(-1, 2)
    basis = _radial(np.linalg.norm(grid[:, None] - points[None], axis=2))
    coarse = (basis @ weights[:count] + np.concatenate([np.ones((len(grid), 1)), grid], 1) @ weights[count:]) * size[
        ::-1
    ]
    positions = np.meshgrid(
        np.linspace(0, columns - 1, size[1], dtype=np.float32), np.linspace(0, rows - 1, size[0], dtype=np.float32)
    )
    field = coarse.reshape(rows, columns, 2).astype(np.float32)
    fine: NDArray[np.float32] = cv2.remap(field, *positions, cv2.INTER_LINEAR)
    return fine


def _steps(rng: np.random.Generator, frames: int, limits: Floats) -> Floats:
    """Sample changes between frames, T K; the first is 0."""
    constant = rng.uniform(-0.5, 0.5, (1, len(limits)))
    steps = (constant + rng.uniform(-0.5, 0.5, (frames, len(limits)))) * limits
    steps[0] = 0
    return steps


def _radial(distance: Floats) -> Floats:
    """Thin-plate kernel r² log r."""
    return distance**2 * np.log(np.maximum(distance, 1e-12))


def _translation(x: float, y: float) -> Floats:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def _rotation(degrees: float, log_zoom: float, shear: float) -> Floats:
    angle, zoom = np.deg2rad(degrees), np.exp(log_zoom)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    skew = np.array([[1, np.tan(np.deg2rad(shear)), 0], [0, 1, 0], [0, 0, 1]])
    matrix: Floats = rotation @ skew @ np.diag([zoom, zoom, 1])
    return matrix


def _homography(source: Floats, target: Floats) -> Floats:
    matrix: Floats = cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))
    return matrix

"""A scene photographed by a phone and by a camera, of which every shift between the two is known.

The phone sees the scene straight on. The camera looks at it turned, from nearer or farther and through a lens that
bends lines; a second plane lies before the first and is displaced between the two; an object moves meanwhile.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from nas.data.demo.sensor import SRGB_TO_CAMERA, Exposure, add_noise, mosaic_of, quantise
from nas.data.raw_format import RawFormat

FMT = RawFormat(black=64)
MARGIN_SHARE = 0.25  # of the scene beyond the phone's frame, on each side


@dataclass(frozen=True)
class View:
    """How the camera stood, and what it did with the light."""

    degrees: float = 4.0
    scale: float = 1.08  # px of the camera for one of the phone
    perspective: float = 0.02  # how much nearer the right edge is than the left one
    distortion: float = -0.01  # by which the corners move, of their distance from the centre
    parallax: tuple[float, float] = (9.0, -5.0)  # (right, down) px by which the nearer plane is displaced
    moves: tuple[float, float] = (0.12, 0.08)  # of the frame by which the object moves
    gain: float = 1.4
    shot_noise: float = 1e-4
    blur: float = 0.0  # px, of the camera's focus


@dataclass(frozen=True)
class Photographed:
    """The two photographs, and what is true of them at each pixel of the phone's."""

    mosaic: np.ndarray  # [h, w] of 16 bits
    picture: np.ndarray  # [h, w, 3] of 8 bits
    displaced: np.ndarray  # [h, w, 2]: (right, down) px of the plane seen there
    moved: np.ndarray  # [h, w]: where the object is for one of the two
    hidden: np.ndarray  # [h, w]: what the camera does not see for the nearer plane
    clipped: np.ndarray  # [h, w]
    to_phone: "ToPhone"

    def residual_px(self, field: np.ndarray) -> np.ndarray:
        """How far the places of the picture in `field`, one for each pixel of the phone, are from the right ones."""
        height, width = self.mosaic.shape
        right, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        seen = self.to_phone(field[..., 0], field[..., 1])
        return np.hypot(seen[0] + self.displaced[..., 0] - right, seen[1] + self.displaced[..., 1] - down)


@dataclass(frozen=True)
class ToPhone:
    """Where a pixel of the camera's picture lies in the phone's frame, for the farther plane."""

    homography: np.ndarray
    centre: tuple[float, float]
    radius: float
    distortion: float

    def __call__(self, right: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = (right - self.centre[0]) / self.radius, (down - self.centre[1]) / self.radius
        factor = 1 + self.distortion * (x * x + y * y)
        x, y = x * factor, y * factor
        h = self.homography
        depth = h[2, 0] * x + h[2, 1] * y + h[2, 2]
        return (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / depth, (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / depth


def leaves(height: int, width: int, *, seed: int) -> np.ndarray:
    """Draw leaves over each other, the small above the large, with a grain of their own; linear light, [h, w, 3]."""
    rng = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), 0.25, np.float32)
    count = max(200, height * width // 900)
    radii = np.sort((rng.random(count) * (5.0**-2 - 150.0**-2) + 150.0**-2) ** -0.5)[::-1]
    places = rng.random((count, 2)) * (width, height)
    colours = rng.uniform(0.02, 0.55, (count, 1)) * (1 + rng.normal(0, 0.15, (count, 3)))
    for (x, y), radius, colour in zip(places, radii, colours.clip(0.01, 0.7), strict=True):
        axes = (max(2, int(radius)), max(2, int(radius * rng.uniform(0.4, 1))))
        cv2.ellipse(canvas, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, colour.tolist(), -1, cv2.LINE_AA)
    grain = np.zeros((height, width), np.float32)
    for step in (2, 8, 32):
        coarse = rng.standard_normal((height // step + 2, width // step + 2)).astype(np.float32)
        grain += 0.06 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(canvas * np.exp(grain)[..., None], 0.003, 0.95)


def photograph(
    height: int = 1000, width: int = 1400, *, view: View = View(), fmt: RawFormat = FMT, seed: int = 0
) -> Photographed:
    """Photograph the scene of a seed with both."""
    margin = int(MARGIN_SHARE * max(height, width))
    size = (height + 2 * margin, width + 2 * margin)
    far, near = leaves(*size, seed=2 * seed), leaves(*size, seed=2 * seed + 1)
    far[margin : margin + height // 8, margin + width // 3 : margin + width // 2] = 4.0  # a lamp
    mask = np.zeros(size, np.float32)
    corner = (margin + int(0.62 * width), margin + int(0.45 * height))
    cv2.rectangle(mask, corner, (margin + int(0.92 * width), margin + int(0.9 * height)), 1.0, -1, cv2.LINE_AA)
    ball = leaves(*size, seed=2 * seed + 7) * np.array([1.5, 0.6, 0.5], np.float32)
    at = np.array([0.3 * width, 0.65 * height])
    to = at + np.array(view.moves) * (width, height)
    radius = 0.06 * height

    def seen(right: np.ndarray, down: np.ndarray, shift: tuple[float, float], place: np.ndarray) -> np.ndarray:
        light = _sample(far, right + margin, down + margin)
        near_right, near_down = right + shift[0] + margin, down + shift[1] + margin
        cover = _sample(mask, near_right, near_down)[..., None]
        light = light * (1 - cover) + cover * _sample(near, near_right, near_down)
        inside = np.clip(radius - np.hypot(right - place[0], down - place[1]) + 0.5, 0, 1)[..., None]
        moving = _sample(ball, right - place[0] + at[0] + margin, down - place[1] + at[1] + margin)
        return (light * (1 - inside) + inside * moving).astype(np.float32)

    right, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    phone = seen(right, down, (0.0, 0.0), at)
    to_phone = _to_phone(height, width, view)
    camera_right, camera_down = to_phone(right, down)
    camera = seen(camera_right.astype(np.float32), camera_down.astype(np.float32), view.parallax, to)
    is_near = _sample(mask, right + margin, down + margin) > 0.5
    covered = _sample(mask, right + view.parallax[0] + margin, down + view.parallax[1] + margin) > 0.5
    moved = np.minimum(np.hypot(right - at[0], down - at[1]), np.hypot(right - to[0], down - to[1])) < radius
    return Photographed(
        mosaic=_mosaic(phone, view, fmt, seed),
        picture=_finished(camera, view),
        displaced=np.where(is_near[..., None], np.array(view.parallax, np.float32), np.float32(0)),
        moved=moved,
        hidden=covered & ~is_near,
        clipped=phone.max(axis=-1) > 1.5,
        to_phone=to_phone,
    )


def _sample(image: np.ndarray, right: np.ndarray, down: np.ndarray) -> np.ndarray:
    return cv2.remap(
        image, right.astype(np.float32), down.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


def _to_phone(height: int, width: int, view: View) -> ToPhone:
    """The camera's pixel, centred and scaled to its half diagonal, to the phone's."""
    radius = float(np.hypot(height, width) / 2)
    angle = np.deg2rad(view.degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * radius / view.scale
    homography = np.eye(3)
    homography[:2, :2] = turn
    homography[2, 0] = view.perspective
    to_frame = np.array([[1, 0, width / 2 + 3.3], [0, 1, height / 2 - 2.7], [0, 0, 1]])
    return ToPhone(to_frame @ homography, (width / 2, height / 2), radius, view.distortion)


def _mosaic(light: np.ndarray, view: View, fmt: RawFormat, seed: int) -> np.ndarray:
    exposure = Exposure(2.1, 1.7, 1.0, view.shot_noise, view.shot_noise / 50)
    gains = np.array([2.1, 1.0, 1.7], np.float32)
    lens = cv2.GaussianBlur(light, (0, 0), 0.6)
    colours = lens @ SRGB_TO_CAMERA.T.astype(np.float32) / gains
    return quantise(np.clip(add_noise(mosaic_of(np.minimum(colours, 1.0), fmt), exposure, seed=seed), 0, 1), fmt)


def _finished(light: np.ndarray, view: View) -> np.ndarray:
    """Develop as a camera does: warmer, brighter, with the curve of an S, and sharpened."""
    if view.blur:
        light = cv2.GaussianBlur(light, (0, 0), view.blur)
    balanced = np.clip(light * np.array([1.1, 1.0, 0.9], np.float32) * view.gain, 0, 1) ** (1 / 2.2)
    curved = balanced * balanced * (3 - 2 * balanced) * 0.7 + balanced * 0.3
    return np.rint(255 * np.clip(curved, 0, 1)).astype(np.uint8)

"""Generate synthetic scenes that stand in for photographs in the demo set.

Four kinds of made-up scene, each a finished 8-bit sRGB image that is a pure function of its seed:

- *leaves*: opaque discs, small over large, whose radii follow r⁻³, so that edges, occlusions and sizes are spread
  as in natural images. Each leaf has its own colour, stripes and shading. Source: Lee, Mumford and Huang,
  "Occlusion Models for Natural Images: A Statistical Study of a Scale-Invariant Dead Leaves Model", IJCV 41, 2001.
- *panes*: the same with rectangles in all directions: straight edges and corners, as of buildings.
- *texture*: colour noise with amplitude 1/f^1.2 (natural images have about 1/f: Field, JOSA A 4, 1987).
- *gradient*: smooth shading with a few large leaves, as of skies and walls.

Scenes are drawn at twice the size and averaged down, so edges are clean.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw

SIZE = 256  # px, of the finished scene
OVERSAMPLING = 2
CANVAS = SIZE * OVERSAMPLING

# Leaves of less than 6 px of the scene, in any colour, alias on the mosaic in ways that no network can undo.
LEAVES, LEAF_RADII = 900, (12.0, 200.0)  # px of the canvas
CHROMA = 0.05  # standard deviation of a leaf's colour about its grey: of real scenes, not of confetti
STRIPES = 0.2  # radians per px of the canvas
BIG_LEAVES, BIG_RADII = 25, (20.0, 160.0)
NOISE_FALLOFF = 1.2

Canvas = Float[np.ndarray, "512 512 3"]
Labels = Int[np.ndarray, "512 512"]


def draw_scene(seed: int) -> UInt8[np.ndarray, "256 256 3"]:
    """Draw the scene of a seed; kinds take turns."""
    kind = KINDS[seed % len(KINDS)]
    return _average_down(kind(np.random.default_rng(seed)))


def power_law_radii(rng: np.random.Generator, count: int, bounds: tuple[float, float]) -> Float[np.ndarray, " count"]:
    """Draw radii with density ∝ r⁻³ between bounds, by inverting F(r) = (a⁻² − r⁻²)/(a⁻² − b⁻²)."""
    smallest, largest = bounds[0] ** -2, bounds[1] ** -2
    radii: Float[np.ndarray, " n"] = (smallest - rng.random(count) * (smallest - largest)) ** -0.5
    return radii


def _leaves(rng: np.random.Generator) -> Canvas:
    return _painted(_cover(rng, power_law_radii(rng, LEAVES, LEAF_RADII), _disc), LEAVES, rng)


def _panes(rng: np.random.Generator) -> Canvas:
    return _painted(_cover(rng, power_law_radii(rng, LEAVES, LEAF_RADII), _pane), LEAVES, rng)


def _gradient(rng: np.random.Generator) -> Canvas:
    return _painted(_cover(rng, power_law_radii(rng, BIG_LEAVES, BIG_RADII), _disc), BIG_LEAVES, rng)


def _texture(rng: np.random.Generator) -> Canvas:
    rows, columns = np.meshgrid(np.fft.fftfreq(CANVAS), np.fft.rfftfreq(CANVAS), indexing="ij")
    amplitude = np.maximum(np.hypot(rows, columns), 1 / CANVAS) ** -NOISE_FALLOFF
    noise = rng.standard_normal((3, *amplitude.shape)) + 1j * rng.standard_normal((3, *amplitude.shape))
    layers = np.fft.irfft2(noise * amplitude, s=(CANVAS, CANVAS)).astype(np.float32)
    light, *chroma = layers / layers.std(axis=(1, 2), keepdims=True)
    centre, contrast = rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.2)
    red, blue = (rng.normal(0, 0.1) + 0.06 * layer for layer in chroma)
    tint = np.stack([red, -(red + blue) / 2, blue], axis=-1)
    canvas: Canvas = (centre + contrast * light)[..., None] + tint
    return canvas


KINDS: tuple[Callable[[np.random.Generator], Canvas], ...] = (_leaves, _panes, _texture, _gradient)

Shape = Callable[[ImageDraw.ImageDraw, Float[np.ndarray, "2"], float, float, int], None]


def _disc(draw: ImageDraw.ImageDraw, centre: Float[np.ndarray, "2"], radius: float, angle: float, label: int) -> None:
    del angle  # a disc has none
    draw.ellipse((*(centre - radius), *(centre + radius)), fill=label)


def _pane(draw: ImageDraw.ImageDraw, centre: Float[np.ndarray, "2"], radius: float, angle: float, label: int) -> None:
    corners = angle + np.array([0.5, np.pi - 0.5, np.pi + 0.5, -0.5])
    points = centre + radius * np.stack([np.cos(corners), np.sin(corners)], axis=1)
    draw.polygon([(x, y) for x, y in points.tolist()], fill=label)


def _cover(rng: np.random.Generator, radii: Float[np.ndarray, " n"], shape: Shape) -> Labels:
    """Lay shapes over each other; each pixel holds the number of the uppermost one, or 0."""
    image = Image.new("I", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(image)
    centres = rng.uniform(0, CANVAS, (len(radii), 2))
    angles = rng.uniform(0, np.pi, len(radii))
    for label, (centre, radius, angle) in enumerate(zip(centres, radii, angles, strict=True), start=1):
        shape(draw, centre, float(radius), float(angle), label)
    return np.asarray(image)


def _painted(labels: Labels, count: int, rng: np.random.Generator) -> Canvas:
    """Give every leaf a colour, stripes and shading of its own."""
    light, chroma = rng.uniform(0.05, 0.95, (count + 1, 1)), rng.normal(0, CHROMA, (count + 1, 3))
    colours = (light + chroma).astype(np.float32)
    waves = rng.normal(0, STRIPES, (2, count + 1)).astype(np.float32)
    stripes = rng.uniform(0, 0.12, count + 1).astype(np.float32)
    slopes = rng.normal(0, 0.3, (2, count + 1)).astype(np.float32)  # over the whole canvas
    y, x = np.meshgrid(*[np.arange(CANVAS, dtype=np.float32)] * 2, indexing="ij", sparse=True)
    stripe = stripes[labels] * np.sin(waves[0][labels] * y + waves[1][labels] * x)
    shading = slopes[0][labels] * (y / CANVAS - 0.5) + slopes[1][labels] * (x / CANVAS - 0.5)
    painted: Canvas = colours[labels] + (stripe + shading)[..., None]
    return painted


def _average_down(canvas: Canvas) -> UInt8[np.ndarray, "256 256 3"]:
    step = OVERSAMPLING
    parts = [canvas[row::step, column::step] for row in range(step) for column in range(step)]
    mean = np.clip(sum(parts[1:], start=parts[0]) / len(parts), 0, 1)
    return np.rint(255 * mean).astype(np.uint8)

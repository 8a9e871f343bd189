"""Posts drawn by code: a small Danbooru whose tags are true, for trying and testing the arena.

    python -m demo.drawings --site demo/data/site --count 400 --seed 1

A drawing is a background, symbols, sometimes a face or a character, and sometimes an effect over
all of it; its tags follow from what was drawn. `make_site` turns drawings into what the site
serves: files in mixed formats, some unusable on purpose, and posts whose tags are as noisy as
people leave them. The same seed gives the same bytes (with the pinned Pillow and NumPy).
"""

import argparse
import hashlib
import io
import json
import math
import struct
import zipfile
import zlib
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from arena.cli import at_least, run
from arena.files import atomic
from demo.record import file_urls, hidden, media_asset

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[Any]
Color = tuple[int, int, int]

COLORS: dict[str, Color] = {
    "white": (255, 255, 255),
    "black": (14, 14, 16),
    "grey": (140, 140, 140),
    "blue": (45, 85, 215),
    "red": (215, 40, 45),
    "green": (45, 160, 65),
    "yellow": (245, 215, 55),
    "pink": (245, 150, 195),
    "purple": (130, 65, 180),
    "orange": (245, 140, 35),
    "brown": (120, 75, 40),
    "aqua": (80, 215, 220),
}
PLAIN = ("white", "black", "grey", "blue", "red", "green", "yellow", "pink", "purple")
GREYS = ("white", "black", "grey")
# What each effect paints black and white as; None leaves the picture in grey.
EFFECTS: dict[str, tuple[Color, Color] | None] = {
    "greyscale": None,
    "blue_theme": ((15, 30, 150), (235, 242, 255)),
    "red_theme": ((140, 10, 15), (255, 238, 236)),
    "green_theme": ((10, 85, 25), (236, 255, 238)),
    "sepia": ((70, 45, 20), (250, 235, 205)),
}
ARTISTS = ("compass_rose_(artist)", "ink_pot", "linework", "nib_(artist)", "ruler_and_pencil")
CHARACTERS = {
    "kirby": "kirby_(series)",
    "pac-man": "pac-man_(game)",
    "slime_(dragon_quest)": "dragon_quest",
}
META = ("absurdres", "highres", "lowres")
CATEGORY = {
    **dict.fromkeys(ARTISTS, "artist"),
    **dict.fromkeys(CHARACTERS, "character"),
    **dict.fromkeys(CHARACTERS.values(), "copyright"),
    "original": "copyright",
    **dict.fromkeys(META, "meta"),
}
IMPLICATIONS = {
    **{f"{color}_background": ("simple_background",) for color in PLAIN},
    "absurdres": ("highres",),
    "black_border": ("border",),
    "blue_sky": ("sky",),
    "checkered_background": ("checkered",),
    "crescent_moon": ("crescent", "moon"),
    "diagonal-striped_background": ("striped_background",),
    "full_moon": ("moon",),
    "greyscale": ("monochrome",),
    "polka_dot_background": ("polka_dot",),
    "sepia": ("monochrome",),
    "starry_sky": ("night_sky",),
    "night_sky": ("sky",),
    "striped_background": ("striped",),
    "white_border": ("border",),
}
# Old names that people still type. Two of them take two steps to their tag.
ALIASES = {
    "bg_gradient": "gradation_background",
    "checkerboard_background": "checkered_background",
    "clouds": "cloud",
    "crescent_shape": "crescent",
    "flowers": "flower",
    "gradation_background": "gradient_background",
    "gray_background": "grey_background",
    "grayscale": "greyscale",
    "hearts": "heart",
    "music_note": "musical_note",
    "no_human": "no_humans",
    "nobody": "no_human",
    "polka_dots": "polka_dot",
    "snowflake": "snowflakes",
    "star_symbol": "star_(symbol)",
}
# Rows that must change nothing, because they are not active.
IDLE_ALIASES = (
    ("heart", "spade_(shape)", "deleted"),
    ("moon", "full_moon", "pending"),
    ("star_(symbol)", "sparkle", "retired"),
)
IDLE_IMPLICATIONS = (
    ("cross", "x", "deleted"),
    ("heart", "pink_background", "pending"),
    ("sparkle", "star_(symbol)", "retired"),
)
NEWEST_ID = 6_800_000
UNUSABLE = (
    "hidden",
    "transparent png",
    "animated gif",
    "ugoira",
    "truncated",
    "transparent palette",
    "mp4",
    "animated webp",
    "gif",
    "animated png",
    "transparent webp",
    "transparent colour",
)
UNUSABLE_EVERY = 8  # One post in so many, taking the kinds in turn.


class Symbol(NamedTuple):
    """A shape inside the unit circle, y down: filled outlines and thick lines of (n, 2) points."""

    fills: list[Array]
    strokes: list[Array]


def _points(*pairs: tuple[float, float]) -> Array:
    return np.array(pairs, dtype=np.float64)


def _ring(x: float = 0, y: float = 0, rx: float = 1, ry: float = 0) -> Array:
    angle = np.linspace(0, 2 * np.pi, 49)
    return np.stack([x + rx * np.cos(angle), y + (ry or rx) * np.sin(angle)], axis=1)


def _arc(x: float, y: float, r: float, start: float, end: float) -> Array:
    """Part of a circle; degrees, clockwise on the screen from the right."""
    angle = np.radians(np.linspace(start, end, 25))
    return np.stack([x + r * np.cos(angle), y + r * np.sin(angle)], axis=1)


def _polar(radii: Any, turn: float = -0.25) -> Array:
    """A closed outline with the given radii at equal angles, the first one at the top."""
    values = np.asarray(radii, dtype=np.float64)
    angle = 2 * np.pi * (np.arange(len(values)) / len(values) + turn)
    return np.stack([values * np.cos(angle), values * np.sin(angle)], axis=1)


def _heart() -> Array:
    t = np.linspace(0, 2 * np.pi, 60)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 17, -y / 17], axis=1)


def _crescent() -> Array:
    return np.concatenate([_arc(0, 0, 1, 50, 310), _arc(0.35, 0, 0.82, 290, 70)])


def _spiral() -> Array:
    t = np.linspace(0, 1, 80)
    return np.stack([t * np.cos(18 * t), t * np.sin(18 * t)], axis=1)


def _snowflake() -> list[Array]:
    arm = [_points((0, 0), (0, -1)), _points((-0.28, -0.85), (0, -0.55), (0.28, -0.85))]
    return [_turned(line, math.pi * k / 3) for k in range(6) for line in arm]


def _turned(points: Array, angle: float) -> Array:
    c, s = math.cos(angle), math.sin(angle)
    turned: Array = points @ np.array([[c, s], [-s, c]])
    return turned


_STEM = _points((0, 0.1), (0.3, 1), (-0.3, 1))
_PLUS = (0.28, 0.28), (0.95, 0.28), (0.95, -0.28), (0.28, -0.28)
SYMBOLS: dict[str, Symbol] = {
    "arrow_(symbol)": Symbol(
        [
            _points(
                (-1, -0.25), (0.1, -0.25), (0.1, -0.7), (1, 0), (0.1, 0.7), (0.1, 0.25), (-1, 0.25)
            )
        ],
        [],
    ),
    "circle": Symbol([], [_ring(rx=0.85)]),
    "club_(shape)": Symbol(
        [_ring(0, -0.5, 0.42), _ring(-0.48, 0.15, 0.42), _ring(0.48, 0.15, 0.42), _STEM], []
    ),
    "crescent": Symbol([_crescent()], []),
    "cross": Symbol(
        [
            _points((-0.22, -1), (0.22, -1), (0.22, 1), (-0.22, 1)),
            _points((-0.7, -0.55), (0.7, -0.55), (0.7, -0.12), (-0.7, -0.12)),
        ],
        [],
    ),
    "diamond_(shape)": Symbol([_points((0, -1), (0.65, 0), (0, 1), (-0.65, 0))], []),
    "flower": Symbol([_polar(0.72 + 0.28 * np.cos(5 * np.linspace(0, 2 * np.pi, 80)))], []),
    "heart": Symbol([_heart()], []),
    "hexagon": Symbol([_polar([1] * 6)], []),
    "lightning_bolt_symbol": Symbol(
        [_points((0.15, -1), (-0.55, 0.15), (-0.05, 0.15), (-0.2, 1), (0.55, -0.2), (0.05, -0.2))],
        [],
    ),
    "musical_note": Symbol(
        [_ring(-0.3, 0.7, 0.36, 0.27)], [_points((0.02, 0.7), (0.02, -0.9), (0.55, -0.35))]
    ),
    "snowflakes": Symbol([], _snowflake()),
    "spade_(shape)": Symbol([_heart() * [0.95, -0.8] - [0, 0.15], _STEM], []),
    "sparkle": Symbol([_polar([1, 0.2] * 4)], []),
    "spiral": Symbol([], [_spiral()]),
    "square": Symbol([_points((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))], []),
    "star_(symbol)": Symbol([_polar([1, 0.42] * 5)], []),
    "triangle": Symbol([_polar([1] * 3)], []),
    "water_drop": Symbol([np.concatenate([_arc(0, 0.35, 0.62, -30, 210), _points((0, -1))])], []),
    "x": Symbol([], [_points((-0.8, -0.8), (0.8, 0.8)), _points((-0.8, 0.8), (0.8, -0.8))]),
}
_DOTS = [_ring(-0.38, -0.2, 0.12), _ring(0.38, -0.2, 0.12)]
_MOUTH = _points((-0.2, 0.4), (0.2, 0.4))
# Eyes and mouth on a round face.
FACES: dict[str, Symbol] = {
    ":3": Symbol(_DOTS, [_arc(-0.18, 0.3, 0.18, 180, 0), _arc(0.18, 0.3, 0.18, 180, 0)]),
    ":<": Symbol(_DOTS, [_points((-0.3, 0.58), (0, 0.28), (0.3, 0.58))]),
    ":d": Symbol([*_DOTS, _arc(0, 0.18, 0.45, 0, 180)], []),
    ";)": Symbol(_DOTS[1:], [_points((-0.55, -0.2), (-0.2, -0.2)), _arc(0, 0.1, 0.45, 30, 150)]),
    "=_=": Symbol(
        [],
        [
            *(_points((x, y), (x + 0.4, y)) for x in (-0.62, 0.22) for y in (-0.32, -0.1)),
            _MOUTH,
        ],
    ),
    ">_<": Symbol(
        [],
        [
            _points((-0.6, -0.42), (-0.22, -0.2), (-0.6, 0.02)),
            _points((0.6, -0.42), (0.22, -0.2), (0.6, 0.02)),
            _MOUTH,
        ],
    ),
}
GLYPHS = ("!", "</3", "?", "\\m/")


class Drawing(NamedTuple):
    """A picture and every tag that is true of it, implied ones included."""

    image: Image.Image
    tags: frozenset[str]


def with_implied(tags: set[str]) -> frozenset[str]:
    """`tags` and everything they imply."""
    found, waiting = set(tags), list(tags)
    while waiting:
        for tag in IMPLICATIONS.get(waiting.pop(), ()):
            if tag not in found:
                found.add(tag)
                waiting.append(tag)
    return frozenset(found)


def choose_size(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height in pixels: 200 to 1199 on the longer side, some very narrow."""
    long = math.exp(rng.uniform(math.log(200), math.log(1199)))
    low, high = [(0.6, 1.0), (0.3, 0.6), (0.05, 0.15)][rng.choice(3, p=[0.8, 0.14, 0.06])]
    short = long * rng.uniform(low, high)
    width, height = (long, short) if rng.random() < 0.45 else (short, long)
    return max(1, int(width)), max(1, int(height))


def draw(rng: np.random.Generator, size: tuple[int, int]) -> Drawing:
    """One drawing of the given (width, height)."""
    tags: set[str] = set()
    if rng.random() < 0.97:
        tags.add("no_humans")
    effect = str(rng.choice(["", *EFFECTS], p=[0.72, 0.1, 0.05, 0.05, 0.04, 0.04]))
    image, under = _background(rng, size, effect, tags)
    canvas = _Canvas(image, rng, [under], GREYS if effect else tuple(COLORS))
    if "sky" in with_implied(tags):
        _draw_sky(canvas, tags)
    kinds = list(SYMBOLS)
    for kind in rng.choice(kinds, size=rng.choice([0, 1, 2, 3], p=[0.1, 0.35, 0.35, 0.2])):
        if _draw_symbols(canvas, SYMBOLS[kind]):
            tags.add(str(kind))
    if rng.random() < 0.42:
        kind = str(rng.choice(list(FACES)))
        if _draw_face(canvas, FACES[kind]):
            tags.add(kind)
    if rng.random() < 0.2:
        kind = str(rng.choice(GLYPHS))
        if _draw_glyph(canvas, kind):
            tags.add(kind)
    if not effect and rng.random() < 0.3:
        kind = str(rng.choice(list(CHARACTERS)))
        if _draw_character(canvas, kind):
            tags |= {kind, CHARACTERS[kind]}
    else:
        tags.add("original")
    _draw_small_print(canvas, tags)
    _draw_frame(canvas, tags)
    if effect:
        image = _toned(image, EFFECTS[effect])
        tags |= {effect, "monochrome"}
    width, height = size
    if width >= 3200 or height >= 2400:
        tags.add("absurdres")
    elif width >= 1600 or height >= 1200:
        tags.add("highres")
    elif width <= 500 and height <= 500:
        tags.add("lowres")
    tags.add(str(rng.choice(ARTISTS)))
    return Drawing(image, with_implied(tags))


def _shade(rng: np.random.Generator, name: str) -> Color:
    """A named colour, not always quite the same; white stays white."""
    base = np.array(COLORS[name])
    if name != "white":
        base = np.clip(base + rng.integers(-14, 15, size=3 if name not in GREYS else 1), 0, 255)
    red, green, blue = (int(value) for value in base)
    return red, green, blue


def _apart(a: Color, b: Color) -> bool:
    """Whether two colours are easy to tell apart: one is clearly the darker (Rec. 601 luma)."""
    red, green, blue = (x - y for x, y in zip(a, b, strict=True))
    return abs(0.299 * red + 0.587 * green + 0.114 * blue) > 75


def _background(
    rng: np.random.Generator, size: tuple[int, int], effect: str, tags: set[str]
) -> tuple[Image.Image, Color]:
    """A background with its tags, and the colour that what is drawn on it must differ from."""
    names = GREYS if effect else tuple(COLORS)
    kinds = ["plain", "gradient", "two-tone", "dots", "stripes", "checks", "grid"]
    odds = [0.5, 0.09, 0.05, 0.09, 0.1, 0.06, 0.04]
    if not effect:
        kinds += ["day", "night", "rainbow"]
        odds += [0.1, 0.12, 0.04]
    kind = rng.choice(kinds, p=np.array(odds) / sum(odds))
    # An effect repaints the background: only greys, or white, keep their names.
    plain = PLAIN if not effect else GREYS if effect == "greyscale" else ("white",)
    if kind == "plain":
        weights = np.array([2.5 if name == "white" else 1.0 for name in plain])
        name = str(rng.choice(plain, p=weights / weights.sum()))
        tags.add("simple_background" if effect == "sepia" else f"{name}_background")
        color = _shade(rng, name)
        return Image.new("RGB", size, color), color
    first = _shade(rng, str(rng.choice(names)))
    second = first
    while not _apart(first, second):
        second = _shade(rng, str(rng.choice(names)))
    width, height = size
    y, x = np.ogrid[:height, :width]
    blend: Array
    period = max(4.0, rng.uniform(0.08, 0.18) * min(max(size), 4 * min(size)))
    if kind == "gradient":
        tags.add("gradient_background")
        across = y / height if rng.random() < 0.7 else x / width
        blend = across * np.ones((height, width))
    elif kind == "two-tone":
        tags |= {"two-tone_background", "simple_background"}
        lean, offset = rng.choice([-1, 1]), rng.choice([0.0, 0.5])
        blend = lean * x / width + y / height > offset
    elif kind == "dots":
        tags.add("polka_dot_background")
        row = np.floor(y / period)
        dx = (x / period + 0.5 * (row % 2)) % 1 - 0.5
        dy = (y / period) % 1 - 0.5
        blend = dx**2 + dy**2 < rng.uniform(0.2, 0.33) ** 2
    elif kind == "stripes":
        way = rng.choice(["vertical", "horizontal", "diagonal"], p=[0.35, 0.25, 0.4])
        tags.add("diagonal-striped_background" if way == "diagonal" else "striped_background")
        along = {"vertical": x + 0 * y, "horizontal": y + 0 * x, "diagonal": 0.7 * (x + y)}[
            str(way)
        ]
        blend = (along / period) % 1 < 0.5
    elif kind == "checks":
        tags.add("checkered_background")
        blend = (np.floor(x / period) + np.floor(y / period)) % 2 == 1
    elif kind == "grid":
        tags.add("grid_background")
        blend = ((x / period) % 1 < 0.1) | ((y / period) % 1 < 0.1)
    elif kind == "day":
        tags.add("blue_sky")
        first, second = (95, 165, 245), (190, 225, 255)
        blend = y / height * np.ones((height, width))
    elif kind == "night":
        tags.add("night_sky")
        first, second = (10, 12, 40), (35, 40, 95)
        blend = y / height * np.ones((height, width))
    else:
        tags.add("rainbow")
        return _rainbow(size), (255, 255, 255)
    weight = blend[..., None].astype(np.float32)
    pixels = np.array(first) * (1 - weight) + np.array(second) * weight
    return Image.fromarray((pixels + 0.5).astype(np.uint8)), first


def _rainbow(size: tuple[int, int]) -> Image.Image:
    """Seven bands of arcs around the middle of the lower edge, on white."""
    width, height = size
    y, x = np.ogrid[:height, :width]
    far = np.hypot(x - width / 2, y - height) / max(1, min(width / 2, height))
    bands = np.array(
        [COLORS[name] for name in ("purple", "blue", "aqua", "green", "yellow", "orange", "red")]
    )
    index = np.clip(((far - 0.45) / 0.07).astype(int), 0, 6)
    pixels = np.where(((far >= 0.45) & (far < 0.94))[..., None], bands[index], 255)
    return Image.fromarray(pixels.astype(np.uint8))


class _Canvas:
    """A picture being drawn on, with the places already taken."""

    def __init__(
        self,
        image: Image.Image,
        rng: np.random.Generator,
        under: list[Color],
        names: tuple[str, ...],
    ) -> None:
        self.image = image
        self.rng = rng
        self.under = under
        self.names = names
        self.pen = ImageDraw.Draw(image)
        self.taken: list[tuple[float, float, float]] = []

    def place(self, radius: float) -> tuple[float, float] | None:
        """A free place for a circle of that radius, or None where none was found."""
        width, height = self.image.size
        if radius < 3 or 2 * radius > min(width, height):
            return None
        for _ in range(12):
            x = self.rng.uniform(radius, width - radius)
            y = self.rng.uniform(radius, height - radius)
            if all(math.hypot(x - a, y - b) > radius + r for a, b, r in self.taken):
                self.taken.append((x, y, radius))
                return x, y
        return None

    def color(self) -> Color:
        """A colour that stands out from the background."""
        while True:
            color = _shade(self.rng, str(self.rng.choice(self.names)))
            if all(_apart(color, other) for other in self.under):
                return color

    def symbol(
        self, symbol: Symbol, at: tuple[float, float], radius: float, turn: float, color: Color
    ) -> None:
        """Draw a symbol of that radius around `at`, turned by `turn` radians."""
        for outline in symbol.fills:
            self.pen.polygon(self._on(outline, at, radius, turn), fill=color)
        width = max(1, round(radius * 0.17))
        for line in symbol.strokes:
            self.pen.line(self._on(line, at, radius, turn), fill=color, width=width, joint="curve")

    def disc(self, at: tuple[float, float], radius: float, color: Color) -> None:
        """A filled circle."""
        x, y = at
        self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)

    @staticmethod
    def _on(points: Array, at: tuple[float, float], radius: float, turn: float) -> list[Any]:
        moved = _turned(points, turn) * radius + at
        return [(float(x), float(y)) for x, y in moved]


def _draw_symbols(canvas: _Canvas, symbol: Symbol) -> bool:
    """One large symbol or several small ones; False where there was no room."""
    rng, side = canvas.rng, min(canvas.image.size)
    many = rng.random() < 0.4
    color, drawn = canvas.color(), False
    for _ in range(int(rng.integers(3, 8)) if many else 1):
        radius = side * (rng.uniform(0.08, 0.14) if many else rng.uniform(0.2, 0.38))
        if at := canvas.place(radius):
            canvas.symbol(symbol, at, radius * 0.95, rng.normal(0, 0.12), color)
            drawn = True
    return drawn


def _draw_sky(canvas: _Canvas, tags: set[str]) -> None:
    """Sun and clouds by day, moon and stars by night."""
    rng, side = canvas.rng, min(canvas.image.size)
    night = "night_sky" in tags
    if rng.random() < 0.75 and (at := canvas.place(radius := side * rng.uniform(0.13, 0.24))):
        if not night:
            rays = Symbol([_polar([1, 0.72] * 12)], [])
            canvas.symbol(rays, at, radius, 0, (255, 225, 90))
            canvas.disc(at, radius * 0.66, (255, 245, 160))
            tags.add("sun")
        elif rng.random() < 0.5:
            canvas.disc(at, radius, (245, 240, 205))
            tags.add("full_moon")
        else:
            canvas.symbol(SYMBOLS["crescent"], at, radius, rng.normal(0, 0.3), (245, 240, 205))
            tags.add("crescent_moon")
    if night and rng.random() < 0.8:
        for _ in range(60):
            at = rng.uniform(0, canvas.image.width), rng.uniform(0, canvas.image.height)
            canvas.disc(at, max(1.0, side * rng.uniform(0.003, 0.008)), (250, 250, 240))
        tags.add("starry_sky")
    if not night and rng.random() < 0.8:
        for _ in range(int(rng.integers(1, 4))):
            if at := canvas.place(radius := side * rng.uniform(0.1, 0.2)):
                for part in range(5):
                    spot = at[0] + radius * (part - 2) * 0.36, at[1] + rng.uniform(-0.2, 0.2)
                    canvas.disc(spot, radius * (0.45 - 0.08 * abs(part - 2)), (255, 255, 255))
                tags.add("cloud")


def _draw_face(canvas: _Canvas, face: Symbol) -> bool:
    """A round face; False where there was no room."""
    rng = canvas.rng
    radius = min(canvas.image.size) * rng.uniform(0.2, 0.36)
    if not (at := canvas.place(radius)):
        return False
    skin = (255, 255, 255) if canvas.names is GREYS else (255, 228, 170)
    canvas.disc(at, radius * 0.97, (60, 50, 50))
    canvas.disc(at, radius * 0.91, skin)
    canvas.symbol(face, at, radius * 0.9, rng.normal(0, 0.06), (40, 35, 35))
    return True


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _draw_glyph(canvas: _Canvas, text: str) -> bool:
    """Large letters; False where there was no room."""
    radius = min(canvas.image.size) * canvas.rng.uniform(0.16, 0.28)
    if not (at := canvas.place(radius)):
        return False
    size = int(radius * (1.9 if len(text) == 1 else 1.15))
    canvas.pen.text(at, text, fill=canvas.color(), font=_font(max(4, size)), anchor="mm")
    return True


def _draw_character(canvas: _Canvas, name: str) -> bool:
    """A well-known round character; False where there was no room."""
    radius = min(canvas.image.size) * canvas.rng.uniform(0.2, 0.36)
    if not (at := canvas.place(radius)):
        return False
    black, white = (25, 20, 30), (255, 255, 255)

    def part(color: Color, *outlines: Array) -> None:
        canvas.symbol(Symbol(list(outlines), []), at, radius, 0, color)

    if name == "kirby":
        part((210, 40, 70), _ring(-0.45, 0.75, 0.36, 0.22), _ring(0.45, 0.75, 0.36, 0.22))
        part((250, 165, 200), _ring(0, 0, 0.82), _ring(-0.8, 0.05, 0.2), _ring(0.8, 0.05, 0.2))
        part(black, _ring(-0.2, -0.22, 0.1, 0.26), _ring(0.2, -0.22, 0.1, 0.26))
        part(white, _ring(-0.2, -0.34, 0.06, 0.1), _ring(0.2, -0.34, 0.06, 0.1))
        part((235, 90, 140), _ring(-0.48, 0.1, 0.14, 0.08), _ring(0.48, 0.1, 0.14, 0.08))
        part((170, 30, 60), _arc(0, 0.16, 0.16, 0, 180))
    elif name == "pac-man":
        part((255, 225, 0), np.concatenate([_arc(0, 0, 0.95, 38, 322), _points((0, 0))]))
        part(black, _ring(0.1, -0.55, 0.11))
    else:
        part((60, 140, 235), SYMBOLS["water_drop"].fills[0] * [1.45, 1.0])
        part(white, _ring(-0.3, 0.15, 0.2), _ring(0.3, 0.15, 0.2))
        part(black, _ring(-0.3, 0.15, 0.09), _ring(0.3, 0.15, 0.09))
        part((220, 50, 60), _arc(0, 0.45, 0.4, 10, 170))
    return True


def _draw_small_print(canvas: _Canvas, tags: set[str]) -> None:
    """Now and then a date or a signature in a lower corner."""
    rng = canvas.rng
    width, height = canvas.image.size
    size = int(min(width, height) * 0.06)
    if size < 6:
        return
    if rng.random() < 0.09:
        text = f"2023.{rng.integers(1, 13):02}.{rng.integers(1, 29):02}"
        canvas.pen.text(
            (size, height - size), text, fill=canvas.color(), font=_font(size), anchor="ls"
        )
        tags.add("dated")
    if rng.random() < 0.1:
        across = np.linspace(0, 4, 24)
        line = np.stack([across, 0.6 * np.sin(across * 5 + rng.uniform(0, 6))], axis=1)
        scribble = Symbol([], [line, _points((0, 1.0), (4, 0.8))])
        canvas.symbol(scribble, (width - 5.5 * size, height - 2 * size), size, 0, canvas.color())
        tags.add("signature")


def _draw_frame(canvas: _Canvas, tags: set[str]) -> None:
    """Sometimes a border, or black bars on two sides."""
    rng, pen = canvas.rng, canvas.pen
    width, height = canvas.image.size
    kind = rng.choice(["", "border", "letterboxed", "pillarboxed"], p=[0.8, 0.12, 0.045, 0.035])
    if kind == "border":
        name = str(rng.choice(["white", "black", "other"], p=[0.45, 0.35, 0.2]))
        tags.add("border" if name == "other" else f"{name}_border")
        color = canvas.color() if name == "other" else COLORS[name]
        thick = max(1, int(min(width, height) * rng.uniform(0.03, 0.07)))
        pen.rectangle((0, 0, width - 1, height - 1), outline=color, width=thick)
    elif kind:
        tags.add(str(kind))
        part = rng.uniform(0.1, 0.17)
        thick = max(1, int((height if kind == "letterboxed" else width) * part))
        boxes = (
            [(0, 0, width, thick - 1), (0, height - thick, width, height)]
            if kind == "letterboxed"
            else [(0, 0, thick - 1, height), (width - thick, 0, width, height)]
        )
        for box in boxes:
            pen.rectangle(box, fill=(0, 0, 0))


def _toned(image: Image.Image, ends: tuple[Color, Color] | None) -> Image.Image:
    """The picture in grey, or between two colours."""
    grey = image.convert("L")
    if ends is None:
        return grey.convert("RGB")
    dark, light = ends
    channels = [
        grey.point([round(low + (high - low) * level / 255) for level in range(256)])
        for low, high in zip(dark, light, strict=True)
    ]
    return Image.merge("RGB", channels)


def make_site(folder: Path, count: int = 400, seed: int = 1) -> None:
    """Write a Site folder: posts.json, files/, tag_aliases.json and tag_implications.json.

    posts.json holds API objects, newest first; the server puts itself for the host of the files.
    """
    (folder / "files").mkdir(parents=True, exist_ok=True)
    gaps = np.random.default_rng([seed, 0]).integers(1, 90, size=count)
    posts = []
    for index, post_id in enumerate(NEWEST_ID - np.cumsum(gaps)):
        rng = np.random.default_rng([seed, 1, index])
        kind = "ok"
        if index % UNUSABLE_EVERY == UNUSABLE_EVERY - 3:
            kind = UNUSABLE[index // UNUSABLE_EVERY % len(UNUSABLE)]
        size = choose_size(rng)
        if index % 40 == 17:
            size = 1600, 1200
        if index % 200 == 57:
            size = 3200, 1000
        drawing = draw(rng, size)
        content, extension = _encoded(drawing.image, kind, rng)
        post = _post(int(post_id), drawing, content, extension, rng)
        if kind == "hidden":
            post = hidden(post)
        else:
            with atomic(folder / "files" / f"{post['md5']}.{extension}", sync=False) as file:
                file.write(content)
        posts.append(post)
    _write_json(folder / "posts.json", posts)
    aliases = [(old, new, "active") for old, new in sorted(ALIASES.items())]
    implications = [
        (tag, implied, "active") for tag, all_ in sorted(IMPLICATIONS.items()) for implied in all_
    ]
    _write_json(folder / "tag_aliases.json", _relations([*aliases, *IDLE_ALIASES], 10_001))
    _write_json(
        folder / "tag_implications.json", _relations([*implications, *IDLE_IMPLICATIONS], 20_001)
    )


def _write_json(path: Path, value: Any) -> None:
    with atomic(path, sync=False) as file:
        file.write(json.dumps(value, indent=1).encode())


def _relations(rows: list[tuple[str, str, str]], first_id: int) -> list[dict[str, Any]]:
    """Alias or implication rows as the API gives them, newest first."""
    return [
        {
            "id": first_id + index,
            "reason": "",
            "creator_id": 1,
            "antecedent_name": old,
            "consequent_name": new,
            "status": status,
            "forum_topic_id": None,
            "created_at": "2023-01-02T03:04:05.000-05:00",
            "updated_at": "2023-01-02T03:04:05.000-05:00",
            "approver_id": 1 if status == "active" else None,
            "forum_post_id": None,
        }
        for index, (old, new, status) in reversed(list(enumerate(rows)))
    ]


def noisy(tags: frozenset[str], rng: np.random.Generator) -> list[str]:
    """The tags as people leave them: some forgotten, implied ones left out, some old names."""
    kept = [tag for tag in sorted(tags) if rng.random() >= 0.03]
    implied = {name for tag in kept for name in IMPLICATIONS.get(tag, ())}
    old_names: dict[str, list[str]] = {}
    for old, new in ALIASES.items():
        old_names.setdefault(new, []).append(old)
    typed = []
    for tag in kept:
        if tag in implied and rng.random() < 0.4:
            continue
        name = tag
        while name in old_names and rng.random() < 0.2:
            name = str(rng.choice(old_names[name]))
        typed.append(name)
    return typed


def _post(
    post_id: int, drawing: Drawing, content: bytes, extension: str, rng: np.random.Generator
) -> dict[str, Any]:
    """A post as the API gives it, with all of its fields."""
    typed = noisy(drawing.tags, rng)
    tags: dict[str, list[str]] = {
        "general": [], "character": [], "copyright": [], "artist": [], "meta": []
    }  # fmt: skip
    for tag in typed:
        tags[CATEGORY.get(tag, "general")].append(tag)
    # About 3.2 posts a minute in 2023.
    age = timedelta(minutes=(NEWEST_ID - post_id) * 5.5, seconds=int(rng.integers(60)))
    newest = datetime(2023, 11, 20, 7, tzinfo=timezone(timedelta(hours=-5)))
    created = (newest - age).isoformat(timespec="milliseconds")
    up, down = int(rng.integers(0, 60)), -int(rng.integers(0, 4))
    post: dict[str, Any] = {
        "id": post_id,
        "created_at": created,
        "uploader_id": int(rng.integers(1, 900_000)),
        "score": up + down,
        "source": f"https://example.com/drawings/{post_id}",
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "last_comment_bumped_at": None,
        "rating": str(rng.choice(["g", "s", "q", "e"], p=[0.7, 0.2, 0.06, 0.04])),
        "image_width": drawing.image.width,
        "image_height": drawing.image.height,
        "tag_string": " ".join(sorted(typed)),
        "fav_count": int(rng.integers(0, 80)),
        "file_ext": extension,
        "last_noted_at": None,
        "parent_id": None,
        "has_children": False,
        "approver_id": None,
        **{f"tag_count_{category}": len(names) for category, names in tags.items()},
        "file_size": len(content),
        "up_score": up,
        "down_score": down,
        "is_pending": False,
        "is_flagged": False,
        "is_deleted": bool(rng.random() < 0.03),
        "tag_count": len(typed),
        "updated_at": created,
        "is_banned": False,
        "pixiv_id": None,
        "last_commented_at": None,
        "has_active_children": False,
        "bit_flags": 0,
        "has_large": drawing.image.width > 850,
        "has_visible_children": False,
        **{f"tag_string_{category}": " ".join(sorted(names)) for category, names in tags.items()},
    }
    post["media_asset"] = media_asset(post)
    return post | file_urls(post["md5"], extension, has_large=post["has_large"])


def _encoded(image: Image.Image, kind: str, rng: np.random.Generator) -> tuple[bytes, str]:
    """The drawing as a file of the given kind, and its extension."""
    if kind == "ok":
        return _usable(image, rng)
    if kind == "hidden":
        return _saved(image, "JPEG"), "jpg"
    if kind == "truncated":
        content = _saved(image, "JPEG", quality=90)
        return content[: len(content) * 3 // 5], "jpg"
    if kind == "mp4":
        return b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + rng.bytes(2000), "mp4"
    if kind == "ugoira":
        return _ugoira(image), "zip"
    if kind.startswith("animated"):
        name = kind.split()[1]
        small = image.copy()
        small.thumbnail((256, 256))
        frames = [small, small.transpose(Image.Transpose.FLIP_LEFT_RIGHT), small.rotate(180)]
        content = _saved(
            frames[0], name, save_all=True, append_images=frames[1:], duration=100, loop=0
        )
        return content, name
    if kind == "gif":
        return _saved(image, "GIF"), "gif"
    if kind == "transparent palette":
        palette = image.quantize(64)
        used = int(np.asarray(palette)[0, 0])
        return _saved(palette, "PNG", transparency=used), "png"
    if kind == "transparent colour":
        corner = image.getpixel((0, 0))
        return _saved(image, "PNG", transparency=corner), "png"
    clear = image.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    if kind == "transparent png":
        return _saved(clear, "PNG"), "png"
    return _saved(clear, "WEBP"), "webp"


def _usable(image: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """A still, opaque file in one of the site's formats, some of them rare ones."""
    grey = image.convert("L")
    is_grey = bool((np.asarray(image) == np.asarray(grey)[..., None]).all())
    draw = rng.random()
    if draw < 0.6:
        quality = int(rng.integers(86, 95))
        rare = rng.random()
        if is_grey and rare < 0.6:
            image = grey
        elif rare < 0.08:
            image = image.convert("CMYK")
        elif rare < 0.2:
            return _rotated(image, quality, rng), "jpg"
        return _saved(image, "JPEG", quality=quality), "jpg"
    if draw < 0.85:
        rare = rng.random()
        if rare < 0.2:
            return _deep_png(grey if is_grey else image), "png"
        if rare < 0.4:
            image = image.quantize(128)
        elif rare < 0.5:
            image = image.convert("RGBA")
        elif is_grey:
            image = grey
        return _saved(image, "PNG"), "png"
    return _saved(image, "WEBP", quality=int(rng.integers(80, 95)), method=2), "webp"


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _rotated(image: Image.Image, quality: int, rng: np.random.Generator) -> bytes:
    """A JPEG that lies on its side and says so in its EXIF orientation."""
    orientation, turn = [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ][rng.integers(3)]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _saved(image.transpose(turn), "JPEG", quality=quality, exif=exif)


def _deep_png(image: Image.Image) -> bytes:
    """A PNG with 16 bits a channel (Pillow writes none in colour)."""
    pixels = np.atleast_3d(np.asarray(image)).astype(">u2") * 257
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels * 2), dtype=np.uint8)  # A filter byte of 0 first.
    rows[:, 1:] = pixels.astype(">u2").reshape(height, -1).view(np.uint8)

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows.tobytes(), 3))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def _ugoira(image: Image.Image) -> bytes:
    """A zip of JPEG frames, as the site keeps animations from Pixiv."""
    small = image.copy()
    small.thumbnail((200, 200))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, turn in enumerate((0, 90, 180)):
            name = zipfile.ZipInfo(f"{number:06}.jpg", date_time=(2023, 1, 1, 0, 0, 0))
            archive.writestr(name, _saved(small.rotate(turn), "JPEG"))
    return file.getvalue()


def main() -> None:
    """Write a Site folder."""
    args = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    args.add_argument("--site", type=Path, required=True, metavar="DIR", help="folder to write")
    args.add_argument("--count", type=at_least(1), default=400, help="posts (default: 400)")
    args.add_argument("--seed", type=at_least(0), default=1, help="(default: 1)")
    options = args.parse_args()
    make_site(options.site, options.count, options.seed)


if __name__ == "__main__":
    run(main)

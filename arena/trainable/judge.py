"""Open an untrusted image file safely, judge it, and shrink it.

No file name and no header is trusted. The first bytes of a file choose the one decoder it is handed
to, among the formats of Danbooru's still posts; its width and height are checked before its pixels
are decoded; and it passes only if all its pixels decode. The decoder gets only what these depend
on, without the metadata. It may still take too much memory, or crash: so judge in a process of its
own, and call `confine` there first.
"""

import io
import math
import resource
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from arena.trainable import pixel_data
from arena.trainable.pixel_data import PixelData

import numpy as np
from PIL import AvifImagePlugin, Image, ImageChops, ImageCms, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

VERDICTS = ("ok", "transparent", "animated", "unreadable", "missing")

# Decoded pixels take 4 bytes each in Pillow, and a second copy while their mode changes: 1.1 GB at
# this size. Danbooru's largest stills are scans of some 100 megapixels.
MAX_PIXELS = 2**27
# RLIMIT_DATA of a worker; with the program itself it stays under 1.5 GB.
MAX_DATA_BYTES = 1_400_000_000

# What Pillow's decoders and metadata readers raise on damaged files. MemoryError is not
# among them: a sound file may raise it too.
DAMAGE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# libwebp's method trades time for size. At quality 80, 1024 pixels, method 2 takes less than half
# the time of Pillow's default, 4, for 3 % more bytes and 0.07 dB more; 3 takes nearly the time
# of 4, and 1 is a quarter larger (`python -m bench.trainable --methods`).
WEBP_METHOD = 2

# A large image is shrunk in two steps. Cheap means (JPEG's own scaled decoding, then averaging of
# whole pixels) go down to no less than this many times the wanted width and height, and to less
# than twice that; bicubic does the rest. At 2 this costs no measurable quality, at 1.35 less than
# WebP method 2 gains, at 1.2 from 0.2 to 0.4 dB.
MIN_TIMES_WANTED = 1.35
# Averaging shifts a side whose last group of pixels is not full by up to a pixel, which is much for
# a thin strip: a side that is to become shorter than this, in pixels, is left to bicubic alone.
MIN_AVERAGED_PIXELS = 16

TURN_BY_ORIENTATION = {  # What makes an image of this EXIF orientation upright; 1 already is.
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

PIXEL_DATA: dict[type[ImageFile.ImageFile], Callable[[bytes], PixelData]] = {
    JpegImageFile: pixel_data.jpeg,
    PngImageFile: pixel_data.png,
    WebPImageFile: pixel_data.webp,
    AvifImageFile: pixel_data.avif,
    GifImageFile: PixelData,
}
SRGB = ImageCms.createProfile("sRGB")
TO_8_BIT = np.round(np.arange(65536) / 257).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a file, one of VERDICTS; its WebP file if that is ok, else the reason.

    `md5` is that of the file, empty where it could not be read to its end.
    """

    verdict: str
    reason: str = ""
    webp: bytes = b""
    md5: str = ""


class Rejected(Exception):  # noqa: N818 - a verdict, not an error
    """Why an image is not for training: a verdict and the reason for it."""

    def __init__(self, verdict: str, reason: str) -> None:
        super().__init__(verdict, reason)
        self.verdict = verdict
        self.reason = reason


def confine() -> None:
    """Limit this process: its memory, its decoders' threads, and no core dumps.

    The limits cannot be taken back, so call it only in a worker process.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # There is a worker for every core.
    # libwebp needs memory for the whole canvas to open a file, so Pillow checks that one itself,
    # against twice this figure.
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
    warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata, one or more per file.


def judge(data: bytes, max_size: int, quality: int) -> Judgement:
    """Decide whether a file is a still, opaque, whole image, and if so shrink it.

    The WebP file is RGB, upright, and its longest side at most `max_size` pixels. `quality` is
    WebP's, 0 to 100. Raises nothing for a bad file: that is a verdict.
    """
    try:
        image, size = decode(data, max_size)
        if transparent(image):
            raise Rejected("transparent", "has pixels that are not opaque")
        turn = TURN_BY_ORIENTATION.get(pixel_data.orientation(image.info.get("exif", b"")))
        image = shrink(to_rgb(image), size)
    except Rejected as rejected:
        return Judgement(rejected.verdict, rejected.reason)
    except MemoryError:
        return Judgement("unreadable", "needs more memory to decode than a worker may use")
    if turn is not None:
        image = image.transpose(turn)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=WEBP_METHOD)
    return Judgement("ok", webp=buffer.getvalue())


def flaw(data: bytes) -> str:
    """Why a file is not a whole WebP image, the kind that `judge` makes; empty if it is one."""
    try:
        if data and _decoder(data) is not WebPImageFile:
            return "is no WebP file"
        decode(data, MAX_PIXELS)
    except Rejected as rejected:
        return rejected.reason
    except MemoryError:
        return "needs more memory to decode than a worker may use"
    return ""


def decode(data: bytes, longest: int) -> tuple[Image.Image, tuple[int, int]]:
    """A whole still image with its pixels loaded, and the width and height to shrink it to.

    `longest` is the most pixels a side may have then. A JPEG may come scaled down already, to no
    less than MIN_TIMES_WANTED times that size. Raises Rejected for anything that is not a whole
    still image of an allowed format.
    """
    decoder = _decoder(data)
    try:
        parts = PIXEL_DATA[decoder](data)
        if parts.animated:
            raise Rejected("animated", "is an animated PNG")
        image = decoder(io.BytesIO(parts.file))
        width, height = image.size
        if getattr(image, "is_animated", False):
            raise Rejected("animated", f"is an animated {image.format}")
        if decoder is GifImageFile:
            raise Rejected("unreadable", "is a GIF, which is not read even with one frame")
        if width * height > MAX_PIXELS:
            raise Rejected("unreadable", f"is too large: {width} x {height} pixels")
        size = fit(image.size, longest)
        if decoder is PngImageFile:
            _normalise_key(image, parts.file)
        if decoder is JpegImageFile and not parts.variants:
            width, height = (math.ceil(side * MIN_TIMES_WANTED) for side in size)
            image.draft(None, (width, height))
        image.load()
        for variant in parts.variants:
            if decoder(io.BytesIO(variant)).tobytes() != image.tobytes():
                raise Rejected("unreadable", "is cut short")
        if image.mode == "P" and image.palette is None:
            raise Rejected("unreadable", "lacks its palette")
    except DAMAGE_ERRORS as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise Rejected("unreadable", f"does not decode: {text}") from None
    if decoder is not AvifImageFile:  # Its decoder tells the orientation as if it were from EXIF.
        image.info["exif"] = parts.exif
    image.info["icc_profile"] = parts.profile
    return image, size


def _decoder(data: bytes) -> type[ImageFile.ImageFile]:
    """The decoder a file's first bytes ask for.

    Its class is used directly: Image.open would turn a JPEG that carries further pictures, which
    Danbooru has, into an MPO, an image of several frames.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImageFile
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile
    if data.startswith((b"GIF87a", b"GIF89a")):
        return GifImageFile
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WebPImageFile
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis", b"mif1", b"msf1"):
        return AvifImageFile
    raise Rejected("unreadable", "is no JPEG, PNG, WebP or AVIF file" if data else "is empty")


def _normalise_key(image: ImageFile.ImageFile, data: bytes) -> None:
    """Bring a PNG's transparent colour (tRNS) to the depth Pillow decodes its pixels to.

    Pillow widens 2- and 4-bit greys to 8 bits and cuts 16-bit colours down to 8, but leaves the
    transparent colour as it is in the file. Raises Rejected when a 16-bit colour is in use.
    """
    key = image.info.get("transparency")
    depth = image.tile[0].args
    if key is None:
        return
    if depth in ("L;2", "L;4"):
        image.info["transparency"] = key * (85 if depth == "L;2" else 17)
    elif depth == "RGB;16B":
        low = PngImageFile(io.BytesIO(data))
        low.tile = [low.tile[0]._replace(args="RGB;16L")]  # Read for the other byte order.
        low_used = np.asarray(low) == np.array(key) % 256
        high_used = np.asarray(PngImageFile(io.BytesIO(data))) == np.array(key) // 256
        if (low_used & high_used).all(axis=2).any():
            raise Rejected("transparent", "has pixels of its transparent colour")
        del image.info["transparency"]


def transparent(image: Image.Image) -> bool:
    """Whether any pixel is not wholly opaque, in any of Pillow's modes that can have such."""
    bands = image.getbands()
    if bands[-1] in ("A", "a"):
        return sum(image.getchannel(len(bands) - 1).histogram()[:255]) > 0
    key = image.info.get("transparency")
    if key is None:
        return False
    if image.mode == "P":
        alpha = key if isinstance(key, bytes) else bytes(255 * (i != key) for i in range(256))
        used = image.histogram()
        return any(count and value < 255 for count, value in zip(used, alpha, strict=False))
    if image.mode == "RGB":
        matches = [
            channel.point([255 * (value == wanted) for value in range(256)])
            for channel, wanted in zip(image.split(), key, strict=True)
        ]
        both = ImageChops.darker(matches[0], matches[1])
        return ImageChops.darker(both, matches[2]).getbbox() is not None
    return bool((np.asarray(image.convert("L") if image.mode == "1" else image) == key).any())


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB, looking as it should. Alpha, opaque by now, is dropped.

    Colour profiles are followed for CMYK only, which means nothing without: RGB is left as it is,
    as the taggers' own loaders leave it.
    """
    if image.mode.startswith("I"):
        # 16-bit grey, which Pillow's own conversion would clip at 255.
        return Image.fromarray(TO_8_BIT[np.clip(np.asarray(image), 0, 65535)]).convert("RGB")
    if image.mode != "CMYK":
        return image if image.mode == "RGB" else image.convert("RGB")
    if "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for one of Adobe's, whose values stand for paper, not ink.
        image = ImageChops.invert(image)
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        converted = ImageCms.profileToProfile(image, profile, SRGB, outputMode="RGB")
        assert converted is not None  # Only a conversion in place gives none.
        return converted
    except (KeyError, TypeError, OSError, ImageCms.PyCMSError):
        return image.convert("RGB")


def fit(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height scaled so that the longer is at most `longest`; never enlarged, never 0."""
    larger = max(size)
    if larger <= longest:
        return size
    width, height = (max(1, round(side * longest / larger)) for side in size)
    return width, height


def shrink(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An RGB image brought down to `size` with bicubic filtering."""
    if image.size == size:
        return image
    times = [
        max(1, int(have / (want * MIN_TIMES_WANTED))) if want >= MIN_AVERAGED_PIXELS else 1
        for have, want in zip(image.size, size, strict=True)
    ]
    if max(times) > 1:
        image = image.reduce((times[0], times[1]))
    # PyTorch's bicubic is Pillow's filter, to two grey levels at the most, and runs on SIMD: with
    # the copies to and from it still three times as fast. It takes a second to import, which small
    # images need not wait for.
    import torch

    torch.set_num_threads(1)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(
        pixels, size=(size[1], size[0]), mode="bicubic", antialias=True
    )
    return Image.fromarray(small[0].permute(1, 2, 0).numpy())

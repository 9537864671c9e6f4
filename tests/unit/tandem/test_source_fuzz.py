"""Whatever people name: a right result, or a `TandemError` with a sentence; nothing else."""

import io
import itertools
import random
from contextlib import closing

import pytest
from PIL import Image

from common.domain.errors import InvalidInputError, TandemError
from common.domain.frames import EncodedImage
from tandem.pictures import decode_picture
from tandem.sources import open_source
from tests.network_cameras import jpeg
from tests.unit.tandem.factories import encoded, pixels, write_video
from tests.unit.tandem.heif_files import tiled_avif
from tests.unit.tandem.test_videos import write_variable

SUFFIXES = (
    *(".jpg", ".png", ".bmp", ".webp", ".tif", ".avif", ".gif", ".ppm"),
    *(".heic", ".mp4", ".mkv", ".webm", ".avi", ".mjpeg", ".dat", ""),
)
PASSWORD = "geheim"


@pytest.fixture(autouse=True)
def short_silence(monkeypatch):
    for module in ("ffmpeg", "moving", "opening", "readers"):
        monkeypatch.setattr(f"tandem.sources.{module}.SILENCE_SECONDS", 0.2)


def outcome(text):
    """What a source gives: checked frames, or the sentence of its error."""
    try:
        with closing(open_source(text, reconnect_seconds=0.0)) as source:
            for frame in itertools.islice(source, 6):
                check(frame)
    except TandemError as error:
        sentence = str(error)
        assert sentence
        assert "\n" not in sentence
        assert "Error" not in sentence
        assert PASSWORD not in sentence
        return sentence
    return ""


def check(frame):
    assert PASSWORD not in frame.name
    if isinstance(frame.content, TandemError):
        assert frame.name in str(frame.content)
        return
    assert isinstance(frame.content, EncodedImage)
    assert frame.seconds is None or frame.seconds >= 0
    # A JPEG or PNG file goes as it is, and its damage is for the server to tell.
    try:
        assert decode_picture(frame.image).ndim == 3
    except InvalidInputError:
        assert frame.seconds is None


def mutated(data, chance):
    """Bytes changed, cut out, doubled, zeroed, or cut off."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        start = chance.randrange(max(1, len(data)))
        length = chance.choice((1, 2, 4, 16, 200))
        how = chance.randrange(6)
        if how == 0:
            data[start : start + length] = chance.randbytes(length)
        elif how == 1:
            del data[start : start + length]
        elif how == 2:
            data[start:start] = data[start : start + length]
        elif how == 3:
            data[start : start + length] = bytes(length)
        elif how == 4:
            data[start : start + length] = b"\xff" * length
        else:
            del data[start:]
    return bytes(data)


def seeds(folder):
    """Small files of every kind."""

    def saved(kind, **more):
        file = io.BytesIO()
        Image.fromarray(pixels(24, 32)).save(file, kind, **more)
        return file.getvalue()

    yield from (encoded(suffix, height=24, width=32) for suffix in (".png", ".bmp", ".ppm"))
    yield from (saved("JPEG"), saved("WEBP"), saved("TIFF"), saved("GIF"), saved("AVIF", speed=10))
    yield saved("TIFF", compression="tiff_lzw")
    yield tiled_avif(pixels(128, 128), 2, 2)
    yield b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    yield jpeg(1) + jpeg(2)
    for name in ("v.mp4", "v.mkv"):
        yield write_video(folder / name, frames=3).read_bytes()
    for name, codec in (("v.webm", "libvpx"), ("v.avi", "mjpeg")):
        yield write_variable(folder / name, codec, [0.0, 0.1, 0.3]).read_bytes()


def test_files(tmp_path):
    chance = random.Random(16)
    originals = list(seeds(tmp_path))
    served = 0
    for number in range(2400):
        data = mutated(originals[number % len(originals)], chance)
        path = tmp_path / f"f{number}{chance.choice(SUFFIXES)}"
        path.write_bytes(data)
        served += not outcome(str(path))
        path.unlink()
    # Otherwise nothing but the first check of all was tried.
    assert served > 200


def test_names_and_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(encoded(height=24, width=32))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(encoded(height=24, width=32))
    chance = random.Random(16)
    texts = [
        *("a.png", "pictures", "0", "99", "/dev/video0", "/dev/null", "-", "~", "../a.png", "."),
        *(f"file://{tmp_path}/a.png", "file:a.png", "concat:a.png|a.png", "/proc/self/mem"),
        *("data:image/png;base64,AAAA", "pipe:0", "subfile,,start,0,end,9,,:a.png", "x://y"),
    ]
    for _ in range(1200):
        text = bytearray(chance.choice(texts).encode())
        outcome(
            mutated(text, chance).decode("utf-8", chance.choice(("replace", "surrogateescape")))
        )
    tails = ["/live", "/v?password=x", "/user=a&password=x&y=1", "", "/%s%d%n"]
    for _ in range(400):
        scheme = chance.choice(
            ("http", "https", "rtsp", "rtmp", "tcp", "HTTP", "rtsps", "ftp", "gopher")
        )
        tail = mutated(chance.choice(tails).encode(), chance).decode("utf-8", "replace")
        outcome(f"{scheme}://admin:{PASSWORD}@127.0.0.1:1/{tail}")


def test_the_originals_are_read(tmp_path):
    for number, data in enumerate(seeds(tmp_path)):
        path = tmp_path / f"f{number}.dat"
        path.write_bytes(data)
        told = outcome(str(path))
        assert not told or "HEIC" in told, told

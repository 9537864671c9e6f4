import os
import socket
import stat
from contextlib import closing

import cv2
import numpy as np
import pytest
from PIL import Image

from common.domain.errors import InvalidInputError, TandemError, UnavailableError
from tandem.pictures import decode_picture, encode_jpeg
from tandem.sources import SourceKind, open_source
from tests.unit.tandem.factories import encoded, pixels
from tests.unit.tandem.heif_files import tiled_avif


def read(path):
    with closing(open_source(str(path))) as source:
        return list(source)


@pytest.mark.parametrize("name", ["phone.avif", "phone.jpg", "phone.mp4", "phone"])
@pytest.mark.parametrize("brand", [b"avif", b"mif1"])
def test_an_avif_of_tiles_is_read_whole_whatever_its_name(tmp_path, name, brand):
    rgb = pixels(128, 192)
    (tmp_path / name).write_bytes(tiled_avif(rgb, 2, 3).replace(b"avif", brand, 1))
    (frame,) = read(tmp_path / name)
    assert frame.image.data.startswith(b"\x89PNG")
    difference = cv2.absdiff(decode_picture(frame.image)[:, :, ::-1], rgb)
    assert difference.mean() < 3


@pytest.mark.parametrize(
    ("major", "compatible", "what"),
    [
        (b"heic", b"mif1heic", "is an HEIC picture"),
        (b"heix", b"mif1heix", "is an HEIC picture"),
        (b"mif1", b"mif1heicmiaf", "is an HEIC picture"),
        (b"avis", b"msf1avis", "is a sequence of AVIF or HEIC pictures"),
        (b"hevc", b"msf1hevc", "is a sequence of AVIF or HEIC pictures"),
    ],
)
@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.jpg", "a.mp4"])
def test_what_is_not_read_is_refused_by_name(tmp_path, major, compatible, what, name):
    head = (16 + len(compatible)).to_bytes(4, "big") + b"ftyp" + major + bytes(4) + compatible
    (tmp_path / name).write_bytes(head + bytes(1000))
    with pytest.raises(InvalidInputError, match=rf"{name} {what}, which .* convert it"):
        read(tmp_path / name)


def test_in_a_folder_what_cannot_be_read_is_named_and_the_others_go_on(tmp_path):
    for name in ("a.jpg", "e.png"):
        (tmp_path / name).write_bytes(encoded(".png"))
    (tmp_path / "b.bmp").write_bytes(b"BM nothing")
    (tmp_path / "c.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "d.jpg").symlink_to(tmp_path / "missing")
    os.mkfifo(tmp_path / "d2.jpg")
    (tmp_path / "d3.jpg").mkdir()
    frames = read(tmp_path)
    assert [frame.name for frame in frames] == [
        "a.jpg",
        "b.bmp",
        "c.heic",
        "d.jpg",
        "d2.jpg",
        "e.png",
    ]
    failed = [frame for frame in frames if isinstance(frame.content, TandemError)]
    assert [frame.name for frame in failed] == ["b.bmp", "c.heic", "d.jpg", "d2.jpg"]
    for frame in failed:
        with pytest.raises(InvalidInputError, match=frame.name):
            frame.image  # noqa: B018


def test_several_pictures_in_one_file_are_not_taken_for_one(tmp_path):
    first, *others = (Image.fromarray(pixels(seed=seed)) for seed in range(3))
    for name in ("a.webp", "a.tif"):
        first.save(tmp_path / name, save_all=True, append_images=others)
        with pytest.raises(InvalidInputError, match=f"{name} holds 3 pictures"):
            read(tmp_path / name)


def test_the_size_in_a_header_is_not_believed_blindly(tmp_path):
    bmp = bytearray(cv2.imencode(".bmp", pixels())[1].tobytes())
    bmp[18:26] = (30000).to_bytes(4, "little") * 2
    (tmp_path / "a.bmp").write_bytes(bmp)
    with pytest.raises(InvalidInputError, match="has more pixels than the limit"):
        read(tmp_path / "a.bmp")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_stays_as_it_is_stored(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels(64, 96)[:, :, ::-1]).save(tmp_path / f"a{suffix}", exif=exif)
    (frame,) = read(tmp_path / f"a{suffix}")
    difference = cv2.absdiff(decode_picture(frame.image), pixels(64, 96))
    assert difference.mean() < 8


def test_what_is_neither_file_nor_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(InvalidInputError, match="socket is a socket"):
            open_source("socket")
    for device in ("/dev/zero", "/dev/null", "/dev/full"):
        with pytest.raises(InvalidInputError, match=f"{device} is a device, but no camera"):
            open_source(device)


def test_a_device_of_a_camera_is_opened_as_one(tmp_path):
    device = tmp_path / "video"
    try:
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(81, 250))
    except PermissionError:
        pytest.skip("only root makes devices")
    (tmp_path / "by-id").symlink_to(device)
    for name in ("video", "by-id"):
        with pytest.raises(UnavailableError, match=f"there is no camera .*{name} here, or another"):
            open_source(str(tmp_path / name))


def test_a_frame_that_no_jpeg_can_hold_is_told():
    with pytest.raises(InvalidInputError, match="70000 x 1 pixels cannot be encoded"):
        encode_jpeg(np.zeros((1, 70000, 3), np.uint8))


@pytest.mark.parametrize("text", ["99999999999999999999", "x" * 5000, "a\0b", "", "²"])
def test_names_of_nothing(text):
    with pytest.raises(TandemError):
        read(text)


def test_names_that_are_no_text(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    with open(path, "wb") as file:
        file.write(encoded(".jpg"))
    (frame,) = read(os.fsdecode(path))
    assert frame.name.encode().decode() == frame.name
    assert [each.name for each in read(tmp_path)] == [frame.name]


def test_a_file_url_is_the_file(tmp_path):
    path = tmp_path / "a b.png"
    path.write_bytes(encoded(".png"))
    for url in (f"file://{path}", f"FILE://{path}", f"file://localhost{tmp_path}/a%20b.png"):
        with closing(open_source(url)) as source:
            assert (source.info.kind, source.info.paths) == (SourceKind.PICTURE, (path,))
            assert np.array_equal(decode_picture(next(iter(source)).image), pixels())


@pytest.mark.parametrize("url", ["ftp://x/a.mp4", "concat://a|b", "x://", "cache://http://x"])
def test_other_urls_are_refused(url):
    with pytest.raises(InvalidInputError, match="no kind of URL that can be read"):
        open_source(url)

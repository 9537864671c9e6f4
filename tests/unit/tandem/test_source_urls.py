"""Which URLs of cameras are refused before anybody connects."""

import pytest

from common.domain.errors import InvalidInputError
from tandem.sources.urls import refuse_malformed


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://192.168.1.31/stream",
        "RTSP://user:p@ss:wo[rd@cam.local:8554/live?channel=1&subtype=0#x",
        "rtsp://[fe80::1%25eth0]:554/",
        "rtsp://[::1]/",
        "http://front_door-2.lan/video.mjpg",
        "https://b\u00fccher.example./a b",
        "udp://@239.0.0.1:1234",
        "udp://:1234",
        "srt://:9000?mode=listener",
        "file:///srv/clip.mp4",
        "/dev/video0",
        "0",
        "clips/a.mp4",
        "a:b.mp4",
        "192.168.1.31.mp4",
        "tcp.mp4",
    ],
)
def test_it_may_lead_somewhere(text):
    refuse_malformed(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rtsp://", "names a host"),
        ("rtsp:///live", "names a host"),
        ("http://:80/", "names a host"),
        ("rtsp://user:secret@/live", "names a host"),
        ("rtsp://h:0/", "port is a number from 1 to 65535"),
        ("rtsp://h:65536/", "port is a number from 1 to 65535"),
        ("rtsp://h:/", "port is a number"),
        ("rtsp://h:55 4/", "port is a number"),
        ("rtsp://h:\u0665/", "port is a number"),
        ("rtsp://user:a/b@h/", "%2F"),
        ("rtsp://h:1:2/", "port is a number"),
        ("rtsp://::1/", "port is a number"),
        ("rtsp://[::1/", "[brackets]"),
        ("rtsp://[h]/", "no address of IPv6"),
        ("rtsp://192.168.1.256/", "no address of IPv4"),
        ("rtsp://192.168.1/", "no address of IPv4"),
        ("rtsp://front door/", "host is no name"),
        ("rtsp://a..b/", "host is no name"),
        ("rtsp://$CAMERA/", "host is no name"),
        ("rtsp://h/a\nb", "control characters"),
        ("rtps://h/", "rtps:// is no kind of URL that can be read; known: http"),
        ("concat://a|b", "no kind of URL"),
        ("rtsp:/h/live", "has ://"),
        ("http:h", "has ://"),
        ("192.168.1.31/stream", "needs a scheme"),
        ("user:secret@192.168.1.31:554/stream", "needs a scheme"),
    ],
)
def test_it_leads_to_nobody(text, told):
    with pytest.raises(InvalidInputError) as error:
        refuse_malformed(text)
    assert told in str(error.value)
    assert "secret" not in str(error.value)

import pytest

from tandem.credentials import masked, masked_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:geheim@10.0.0.1:554/live", "rtsp://***@10.0.0.1:554/live"),
        ("rtsp://geheim@cam/live", "rtsp://***@cam/live"),
        ("rtsp://admin:ge@he/i?m#@cam/live", "rtsp://***@cam/live"),
        ("rtsp://admin:geheim@[fe80::1]:554/x", "rtsp://***@[fe80::1]:554/x"),
        (
            "http://cam/v?user=geheim&pwd=geheim&channel=1",
            "http://cam/v?user=***&pwd=***&channel=1",
        ),
        ("http://cam?auth=geheim", "http://cam?auth=***"),
        ("http://cam/v;jsessionid=geheim", "http://cam/v;jsessionid=***"),
        ("http://cam/v#token=geheim", "http://cam/v#token=***"),
        ("http://cam/v?geheim", "http://cam/v?***"),
        ("rtsp://cam/user=admin&password=geheim&stream=0.sdp", "rtsp://cam/user=***&password=***"),
        ("rtsp://cam/user=admin_password=geheim_channel=1.sdp", "rtsp://cam/user=***"),
        ("rtsp://cam/stream=1_password=geheim.sdp", "rtsp://cam/stream=***"),
        ("http://cam:8080/cam/video.mjpg?channel=2", "http://cam:8080/cam/video.mjpg?channel=2"),
        ("http://[::1]:8080/a.mp4", "http://[::1]:8080/a.mp4"),
    ],
)
def test_a_url_shows_no_secret(url, shown):
    assert masked_url(url).startswith(shown)
    assert "geheim" not in masked_url(url)
    assert masked(f"tandem: {url}: gone") == f"tandem: {masked_url(url)}: gone"


@pytest.mark.parametrize(
    "text",
    [
        "the server's address 'admin:geheim@host:50050' is not host:port",
        "there is no file named rtsp:/admin:geheim@host/live",
        "Got unexpected extra argument (rtsp://admin:geheim@host/live)",
    ],
)
def test_no_sentence_shows_a_secret(text):
    assert "geheim" not in masked(text)
    assert "host" in masked(text)


@pytest.mark.parametrize(
    "text", ["frame 3 at 12:30", "a.mp4 cannot be read", "who@example.org", "x: y", "http://cam/x"]
)
def test_other_text_stays(text):
    assert masked(text) == text

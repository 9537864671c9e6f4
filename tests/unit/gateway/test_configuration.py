import pytest

from common.domain.errors import ConfigurationError
from common.domain.placement import Placement
from services.gateway.cameras.configuration import read_cameras
from services.gateway.settings import GatewaySettings
from tests.unit.server.test_settings import require_empty_paths_are_none


def read(tmp_path, text):
    path = tmp_path / "cameras.yml"
    path.write_text(text)
    return read_cameras(path)


def test_paths_are_seen_from_the_file_and_the_rest_is_as_told(tmp_path):
    cameras = read(
        tmp_path,
        """
cameras:
  - {name: front door, url: "rtsp://user:geheim@10.0.0.7/live", threshold: 0.5}
  - {name: demo, url: clips/a.mp4, placement: full, frames_per_second: 10, model: fast}
  - {name: desk, url: 0}
  - {name: there, url: /srv/pictures}
""",
    )
    assert [camera.name for camera in cameras] == ["front door", "demo", "desk", "there"]
    assert [camera.url for camera in cameras] == [
        "rtsp://user:geheim@10.0.0.7/live",
        str(tmp_path / "clips/a.mp4"),
        "0",
        "/srv/pictures",
    ]
    assert (cameras[0].threshold, cameras[1].frames_per_second) == (0.5, 10)
    assert [camera.model for camera in cameras[:2]] == ["", "fast"]
    assert [camera.requested_pair for camera in cameras[:2]] == [None, Placement.FULL.node_pair]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "content: keys with their values are expected here"),
        ("cameras: [yard]", "cameras.0: keys with their values are expected here"),
        ("cameras: [{name: a, url: b, threshold: on}]", "cameras.0.threshold: a number is"),
        ("cameras: [{name: a, url: b, frames_per_second: yes}]", "a number is expected here"),
        ('cameras: [{name: a, url: "a\\0b"}]', "cameras.0.url: no address and no path"),
        ("cameras: 3", "cameras"),
        ("cameras: [{name: a}]", "cameras.0.url: Field required"),
        ("cameras: [{name: a, url: b, colour: red}]", "cameras.0.colour: Extra"),
        ("cameras: [{name: a, url: b, threshold: 2}]", "cameras.0.threshold"),
        ("cameras: [{name: a, url: b, placement: attic}]", "'attic' is no placement"),
        ("cameras: [{name: a, url: b, model: a/b}]", "'a/b' is no model's name"),
        ("cameras: [{name: ' a', url: b}]", "cameras.0.name"),
        ('cameras: [{name: "a\\e[2J", url: b}]', "cameras.0.name"),
        ("cameras: [{name: a, url: b}, {name: a, url: c}]", "two cameras are called 'a'"),
        (
            "cameras: [{name: a, url: b, url: c}]",
            "line 1, column 29: a key stands here for the second",
        ),
        (
            "cameras:\n- {name: Hof, url: a}\n- name: hof\n  url: b",
            "line 3: 'hof' and 'Hof' differ only in capitals",
        ),
        (
            "cameras:\n- {name: STRASSE, url: a}\n- {name: straße, url: b}",
            "line 3: 'straße' and 'STRASSE' differ only in capitals",
        ),
        ("cameras:\n- name: a\n  url: rtsp://h:x/", "line 3: cameras.0.url: a URL's port is a"),
        ("cameras:\n- name: a\n  url: rtps://h/", "line 3: cameras.0.url: rtps:// is no kind"),
        ("cameras: [{name: a, url: true}]", "cameras.0.url"),
        ("cameras: [{name: a, url: b", "is not YAML"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(tmp_path, text, told):
    with pytest.raises(ConfigurationError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "cameras.yml"))
    assert told in str(error.value)
    assert "CameraOptions" not in str(error.value)


def test_no_error_shows_a_password(tmp_path):
    with pytest.raises(ConfigurationError) as error:
        read(tmp_path, "cameras: [{name: a, url: 'rtsp://u:geheim@h/', threshold: high}]")
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://u:geheim@h:70000/",
        "rtsp://u:ge/heim@h/",
        "rtsp://u:geheim@[::1/",
        "rtsp://u:geheim@",
        "rtsp:/u:geheim@h/",
        "u:geheim@10.0.0.7/live",
        "gopher://u:geheim@h/",
    ],
)
def test_a_malformed_url_is_refused_without_its_password(tmp_path, url):
    with pytest.raises(ConfigurationError) as error:
        read(tmp_path, f"cameras:\n- name: a\n  url: '{url}'")
    assert "line 3: cameras.0.url: " in str(error.value)
    assert "heim" not in str(error.value)


def test_two_cameras_may_look_at_the_same_url(tmp_path):
    cameras = read(tmp_path, "cameras: [{name: a, url: rtsp://h/}, {name: b, url: rtsp://h/}]")
    assert [camera.url for camera in cameras] == ["rtsp://h/"] * 2


def test_a_path_that_the_environment_leaves_empty_is_none(monkeypatch):
    require_empty_paths_are_none(monkeypatch, GatewaySettings, [])

"""The live view's WebSocket and HTTP, by clients that do what the page does, and by others."""

import io
import json

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from common.domain.video import AccessUnit, VideoCodec
from tandem.sources.decoding import UnitDecoder
from tests.gateways import fetch, gateway, page, url_of
from tests.network_cameras import camera as mjpeg_camera
from tests.network_cameras import rtsp_camera
from tests.streams import jpeg
from tests.unit.tandem.factories import write_camera_video

HTML = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(4):
        (folder / f"{seed}.jpg").write_bytes(jpeg(seed))
    return folder


@pytest.fixture(scope="module")
def served(cluster, pictures, tmp_path_factory):
    cameras = [
        {"name": "yard", "url": str(pictures), "frames_per_second": 20, "threshold": 0.0},
        {"name": HTML, "url": str(pictures), "frames_per_second": 20, "placement": "full"},
        {"name": "gone", "url": "rtsp://user:geheim@127.0.0.1:1/none"},
        {"name": "no such file", "url": "none.mp4"},
    ]
    with gateway(cluster.address, tmp_path_factory.mktemp("gateway"), cameras) as process:
        yield process


def states_by_name(page):
    return {camera["name"]: camera for camera in page.state["cameras"]}


async def test_a_bad_camera_ends_no_other_and_says_what_is_wrong(served):
    async with page(served) as looking:
        await looking.until(
            lambda page: (
                page.state
                and {camera["condition"] for camera in page.state["cameras"]} == {"running", "lost"}
                and all(states_by_name(page)[name]["frames"] > 5 for name in ("yard", HTML))
            )
        )
        states = states_by_name(looking)
    assert [states[name]["condition"] for name in states] == ["running", "running", "lost", "lost"]
    assert "geheim" not in json.dumps(looking.state)
    assert states["gone"]["reason"].startswith("rtsp://***@127.0.0.1:1/none does not answer")
    assert states["no such file"]["reason"].endswith("none.mp4")
    assert served.metric("tandem_camera_up", camera="yard") == 1
    assert served.metric("tandem_camera_up", camera="gone") == 0
    assert served.metric("tandem_camera_frames_total", camera="yard", outcome="detections") > 5


async def test_frames_come_as_they_were_with_their_boxes(served, pictures):
    originals = {path.read_bytes() for path in pictures.iterdir()}
    async with page(served, decodes=["h264", "h265"]) as looking:
        await looking.until(lambda page: {head["camera"] for head, _ in page.frames} >= {"yard"})
    head, data = next(each for each in looking.frames if each[0]["camera"] == "yard")
    assert data in originals
    assert head["type"] == "image/jpeg"
    assert head["boxes"]
    x_min, y_min, x_max, y_max, name, score = head["boxes"][0]
    assert x_min <= x_max and y_min <= y_max and name and 0 <= score <= 1


def used_links(page):
    return {(link["source"], link["content"]) for link in page.state["traffic"]}


async def test_the_system_is_told_with_what_crosses_each_link(served):
    async with page(served) as looking:
        await looking.until(
            lambda page: (
                page.state
                and used_links(page) >= {("orchestrator", "frames"), ("edge", "features")}
                and page.state["system"]
                and all(stage["healthy"] for stage in page.state["system"]["stages"])
            )
        )
    system = looking.state["system"]
    assert {stage["node"] for stage in system["stages"]} == {"edge", "workstation"}
    assert system["setting"] == "auto"
    assert system["explanation"]
    assert all(link["bytes_per_second"] > 0 for link in looking.state["traffic"])


def numbers_of_yard(page):
    return [head["number"] for head, _ in page.frames if head["camera"] == "yard"]


async def test_a_browser_that_shows_nothing_gets_no_more_than_two_frames_and_then_the_newest(
    served,
):
    async with page(served) as looking:
        await looking.until(lambda page: len(numbers_of_yard(page)) == 2)
        own = numbers_of_yard(looking)
        # Another one would come before the states that tell of later frames.
        await looking.states(2)
        await looking.until(lambda page: states_by_name(page)["yard"]["frames"] > own[-1] + 5)
        assert numbers_of_yard(looking) == own
        await looking.see("yard")
        await looking.until(lambda page: len(numbers_of_yard(page)) == 3)
        newest = numbers_of_yard(looking)[-1]
    # Of the frames that have come in the meantime, 20 a second, none has waited anywhere.
    assert newest > own[-1] + 3


@pytest.mark.parametrize(
    "message", ["x", b"x", "[1]", '{"seen": "yard"}', '{"seen": 3}', "[" * 60_000]
)
async def test_nonsense_ends_its_own_connection_alone(served, message):
    async with page(served) as other:
        with pytest.raises(ConnectionClosed) as ended:
            async with page(served) as looking:
                for _ in range(4):
                    await looking.say(message)
                await looking.states(100)
        assert ended.value.rcvd.code == 1003
        await other.states(2)


async def test_another_sites_page_is_turned_away(served):
    url = url_of(served)
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        status, _, body = fetch(url + "/", method="POST", data=b"{}", **headers)
        assert (status, body) == (421, b"this is not a name of the gateway\n")
    status, _, _ = fetch(url + "/", Host="evil.example")
    assert status == 421
    with pytest.raises(InvalidStatus) as refused:
        async with page(served, origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 421
    async with page(served, origin=url) as looking:
        await looking.states(1)


def test_the_page_may_load_nothing_from_elsewhere(served):
    status, headers, body = fetch(url_of(served) + "/")
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    for path in ("/live/main.js", "/live/live.css", "/live/icon.svg"):
        assert fetch(url_of(served) + path)[0] == 200
    for path in ("/live/index.html", "/live/none.js", "/live/..%2fdoor.py", "/docs", "/other"):
        assert fetch(url_of(served) + path)[0] == 404
    assert b"http://" not in body.replace(b"http://www.w3.org", b"")


def test_a_door_holds_its_limits(cluster, pictures, tmp_path):
    few = ("--live-view-max-requests-per-second", "1", "--live-view-max-sessions", "3")
    with gateway(cluster.address, tmp_path, [], *few) as process:
        url = url_of(process)
        status, _, body = fetch(url + "/live/placement", method="POST", data=b" " * 5000)
        assert (status, json.loads(body)) == (
            413,
            {"error": "the request has more than 4096 bytes"},
        )
        statuses = []
        # A machine that is slower than one request a second never reaches the limit.
        while 429 not in statuses and len(statuses) < 1000:
            statuses.append(fetch(url + "/live/main.js")[0])
        assert statuses[:5] == [200] * 5
        assert 429 in statuses
        # A health check is nobody's request.
        assert fetch(url + "/healthz")[0] == 200


async def test_a_placement_is_set_and_what_cannot_be_is_told(own_cluster, pictures, tmp_path):
    with gateway(own_cluster.address, tmp_path) as process:
        url = url_of(process) + "/live/placement"

        def set_placement(told):
            return fetch(url, method="POST", data=told)[::2]

        assert set_placement(b'{"placement": "backbone"}') == (200, b'{"placement":"backbone"}')
        async with page(process) as looking:
            await looking.until(
                lambda page: (
                    page.state["system"] and page.state["system"]["setting"] == "backbone"
                    if page.state
                    else False
                )
            )
        for told, error in (
            (b"{}", "no placement is named"),
            (b"nonsense", "a message is a JSON object"),
            (b'{"placement": "attic"}', "'attic' is no placement"),
            (b'{"placement": "backbone=attic,transformer=edge"}', "orchestrator at"),
        ):
            status, body = set_placement(told)
            assert status == 400
            assert json.loads(body)["error"].startswith(error)
        assert set_placement(b'{"placement": "auto"}')[0] == 200


async def test_a_lost_orchestrator_is_told_and_found_again(own_cluster, pictures, tmp_path):
    cameras = [{"name": "yard", "url": str(pictures), "frames_per_second": 20}]
    with gateway(own_cluster.address, tmp_path, cameras) as process:
        async with page(process, shows=True) as looking:
            await looking.until(lambda page: page.state and page.state["system"])
            await looking.until(lambda page: len(page.frames) >= 2)
            own_cluster.orchestrator.kill()
            await looking.until(lambda page: page.state["system"] is None)
            assert "orchestrator" in looking.state["problem"]
            own_cluster.restart_orchestrator().announcement  # noqa: B018
            frames = len(looking.frames)
            await looking.until(
                lambda page: page.state["system"] is not None and len(page.frames) > frames
            )
        assert process.terminate() == 0


async def test_a_camera_that_hangs_up_is_opened_again(cluster, tmp_path):
    with (
        mjpeg_camera([jpeg(1)] * 3, [jpeg(2)] * 3, [jpeg(3)] * 50) as one,
        gateway(cluster.address, tmp_path, [{"name": "a", "url": one.url}]) as process,
    ):
        async with page(process, shows=True) as looking:
            await looking.until(lambda _: one.connections >= 3)
            before = len(looking.frames)
            await looking.until(lambda page: len(page.frames) > before)
    numbers = [head["number"] for head, _ in looking.frames]
    assert numbers == sorted(set(numbers))


async def test_video_comes_as_the_camera_made_it_and_after_damage_with_the_next_key_frame(
    cluster, tmp_path
):
    damaged, group = 40, 10
    with (
        rtsp_camera(80, damaged=(damaged,), group=group) as one,
        gateway(cluster.address, tmp_path, [{"name": "a", "url": one.url}]) as process,
    ):
        async with page(process, shows=True, decodes=["h264", "a word of tomorrow"]) as looking:
            await looking.until(
                lambda page: (
                    [head["error"] for head, _ in page.frames].count("") > 30
                    and any(head["error"] for head, _ in page.frames)
                )
            )
        sent = process.metric("tandem_live_view_bytes_total", camera="a", form="h264")
    heads = [head for head, _ in looking.frames]
    assert {head["type"] for head in heads} == {"video/h264"}
    assert sent >= sum(len(data) for _, data in looking.frames)
    # Whatever comes after a damaged unit begins anew, and all that came can be decoded.
    first_error = next(at for at, head in enumerate(heads) if head["error"])
    after = next(head for head in heads[first_error:] if not head["error"])
    assert heads[first_error]["units"] == [] and after["units"][0][1] and after["codec"]
    decoder = UnitDecoder(VideoCodec.H264)
    for head, data in looking.frames:
        units = io.BytesIO(data)
        for size, is_key in head["units"]:
            assert decoder(AccessUnit(units.read(size), is_key)) is not None


async def test_a_page_that_cannot_decode_a_camera_gets_pictures_of_it(cluster, tmp_path):
    write_camera_video(tmp_path / "v.mp4", frames=20, rate=20)
    with gateway(cluster.address, tmp_path, [{"name": "a", "url": "v.mp4"}]) as process:
        async with page(process, decodes=["h264"]) as looking:
            await looking.until(lambda page: page.frames)
            assert looking.frames[0][0]["units"][0][1]
            await looking.say('{"seen": "a", "lost": true}')
            await looking.until(lambda page: len(page.frames) >= 2 and page.frames[-1][0]["codec"])
            await looking.say('{"seen": "a", "cannot": true}')
            await looking.until(lambda page: page.frames[-1][0]["type"] == "image/jpeg")
            assert looking.frames[-1][1].startswith(b"\xff\xd8")

"""A gateway with certificates and tokens: who may look, and with whose rights it acts."""

import json
import ssl
import urllib.request

import pytest
from websockets.exceptions import ConnectionClosed

from tests.authorities import Realm
from tests.gateways import fetch, gateway, page, url_of
from tests.harness import Cluster, ServiceProcess
from tests.streams import jpeg


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    return Realm(tmp_path_factory.mktemp("realm"))


@pytest.fixture(scope="module")
def secured(realm):
    running = Cluster(
        secured_by=realm.arguments,
        orchestrator_arguments=("--tokens", str(realm.tokens), "--token-port", "0"),
    )
    yield running
    running.close()


@pytest.fixture(scope="module")
def served(secured, realm, tmp_path_factory):
    """Everybody has to sign in."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "0.jpg").write_bytes(jpeg(0))
    tokens = str(secured.orchestrator.announcement["token_address"])
    arguments = (*realm.arguments("gateway/main"), "--tokens", str(realm.tokens), "--http-sign-in")
    cameras = [{"name": "yard", "url": str(folder / "0.jpg"), "frames_per_second": 20}]
    with gateway(
        secured.address, folder, cameras, *arguments, "--orchestrator-tokens", tokens
    ) as process:
        yield process


def place(served, token=""):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    status, _, body = fetch(
        url_of(served) + "/live/placement", "POST", b'{"placement": "full"}', **headers
    )
    return status, json.loads(body)


async def test_nobody_looks_without_a_token_and_clients_see_cameras_alone(served, realm):
    for token in ("", "x", realm.add_token("monitor/prometheus")):
        with pytest.raises(ConnectionClosed) as ended:
            async with page(served, token) as looking:
                await looking.states(1)
        assert ended.value.rcvd.code == 4401
    async with page(served, realm.add_token("client/visitor"), shows=True) as looking:
        await looking.until(lambda page: page.state and page.frames)
        assert (looking.state["system"], looking.state["traffic"]) == (None, [])
    async with page(served, realm.add_token("operator/ann")) as looking:
        await looking.until(lambda page: page.state and page.state["system"])
        assert len(looking.state["system"]["stages"]) == 4


async def test_who_loses_the_token_sees_no_more(served, realm):
    token = realm.add_token("operator/bob")
    with pytest.raises(ConnectionClosed) as ended:
        async with page(served, token) as looking:
            await looking.states(2)
            realm.remove_token(token)
            await looking.states(20)
    assert ended.value.rcvd.code == 4401


async def test_the_placement_is_set_with_the_users_rights_alone(served, realm):
    assert place(served)[0] == 401
    assert place(served, "x")[0] == 403
    assert place(served, realm.add_token("client/visitor")) == (
        403,
        {"error": "this token does not let you set the placement"},
    )
    operator = realm.add_token("operator/ann")
    assert place(served, operator) == (200, {"placement": "full"})
    async with page(served, operator) as looking:
        await looking.until(lambda page: page.state and page.state["system"]["setting"] == "full")
    realm.remove_token(operator)


async def test_where_only_this_machine_looks_nobody_has_to_sign_in_but_operators_do(
    secured, realm, tmp_path
):
    with gateway(secured.address, tmp_path, [], *realm.arguments("gateway/main")) as process:
        async with page(process) as looking:
            await looking.until(lambda page: page.state and page.state["system"])
            assert looking.state["signs_in"] is True
        assert place(process)[0] == 401
        # It does not know the port for tokens.
        assert place(process, realm.add_token("operator/ann"))[0] == 503


def test_other_machines_get_https_by_the_certificate(secured, realm, tmp_path):
    arguments = (*realm.arguments("gateway/main"), "--tokens", str(realm.tokens))
    with gateway(secured.address, tmp_path, [], *arguments, "--http-host", "0.0.0.0") as process:
        url = url_of(process).replace("0.0.0.0", "127.0.0.1")
        assert url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(realm.peers.path))
        trusting.check_hostname = False
        with urllib.request.urlopen(url + "/", context=trusting) as answer:
            assert b"Tandem live view" in answer.read()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--http-host", "0.0.0.0"), "other machines could reach 0.0.0.0 without TLS"),
        (("--http-published-at", "0.0.0.0"), "other machines could reach 0.0.0.0 without TLS"),
        (("--cameras", "/none.yml"), "cannot read /none.yml"),
        (("--http-sign-in",), "http_sign_in needs tokens or jwt_keys"),
    ],
)
def test_what_would_be_open_or_makes_no_sense_is_refused_at_the_start(arguments, told):
    process = ServiceProcess("services.gateway", "--port", "0", "--metrics-port", "0", *arguments)
    try:
        with pytest.raises(RuntimeError, match=told):
            process.announcement  # noqa: B018
    finally:
        process.close()


def test_https_for_other_machines_needs_tokens(realm):
    process = ServiceProcess(
        "services.gateway", *realm.arguments("gateway/main"), "--http-host", "0.0.0.0"
    )
    try:
        with pytest.raises(RuntimeError, match="give tokens or jwt_keys"):
            process.announcement  # noqa: B018
    finally:
        process.close()

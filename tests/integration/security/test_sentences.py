"""What the `tandem` library tells people whose connection or call is refused: one sentence each."""

import asyncio
import sys

import grpc
import pytest

from common.domain.errors import AccessDeniedError, TandemError, UnavailableError
from tests.authorities import HOUR, NOW, Authority
from tests.integration.security.test_changes import fingerprint
from tests.streams import jpeg
from tests.waiting import until

if sys.version_info < (3, 11):  # noqa: UP036 - the services' tests run on 3.8, too
    pytest.skip("the tandem library needs Python 3.11", allow_module_level=True)

import tandem

PICTURE = jpeg(1)


async def failure(address, credentials, method="detect"):
    """What a client is told; a picture is one frame too many for a server that refuses it."""
    with pytest.raises(TandemError) as caught:
        async with tandem.DetectorClient(address, credentials=credentials) as client:
            if method == "detect":
                async for _ in client.detect([tandem.EncodedImage(PICTURE)]):
                    pass
            else:
                await client.set_placement("full")
    return type(caught.value), str(caught.value)


def credentials_of(realm, pair, ca=None, **more):
    return tandem.Credentials(ca or realm.peers.path, pair.certificate, pair.key, **more)


async def test_every_refusal_is_a_sentence(secured, realm, tmp_path):
    address, server = secured.address, f"the server at {secured.address}"
    client = realm.issue("client/camera")
    strangers = Authority(tmp_path)
    expired = realm.clients.issue("client/camera", file_name="old", ends=NOW - HOUR / 2)
    closed = (
        f"{server} closes the connection: it does not accept this certificate, which has expired "
        "or is of an authority that is not trusted there"
    )
    token_port = str(secured.orchestrator.announcement["token_address"])
    for credentials, where, expected in (
        (
            None,
            address,
            f"no Tandem orchestrator answers at {address}, or it wants TLS (--tls-ca)",
        ),
        (credentials_of(realm, strangers.issue("client/camera")), address, closed),
        (credentials_of(realm, expired), address, closed),
        (
            credentials_of(realm, client, ca=strangers.path),
            address,
            f"the certificate of {server} is of an authority that is not trusted here: give the "
            "right one by --tls-ca",
        ),
        (
            credentials_of(realm, client, server_name="elsewhere.example"),
            address,
            f"the certificate of {server} is for another name: connect by one that it holds, or "
            "give one by --tls-server-name",
        ),
        (
            tandem.Credentials(realm.peers.path, token="abc"),
            address,
            f"{server} closes the connection: it wants a certificate there, not a token",
        ),
        (
            tandem.Credentials(realm.peers.path, token="abc"),
            token_port,
            f"the server at {token_port} does not accept this token",
        ),
        (
            credentials_of(realm, realm.issue("operator/ann")),
            address,
            f"{server} does not let you do this",
        ),
    ):
        _, told = await failure(where, credentials)
        assert told == expected
    kind, told = await failure(address, credentials_of(realm, client), "set_placement")
    assert (kind, told) == (AccessDeniedError, f"{server} does not let you do this")


async def test_a_server_without_tls_is_told_from_one_with_an_expired_certificate(realm):
    client = realm.issue("client/camera")
    expired = realm.peers.issue("orchestrator/old", ends=NOW - HOUR / 2)
    server = grpc.aio.server()
    plain = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    pair = [(expired.key_pem, expired.certificate_pem)]
    old = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', grpc.ssl_server_credentials(pair))}"
    await server.start()
    try:
        assert await failure(plain, credentials_of(realm, client)) == (
            UnavailableError,
            f"the server at {plain} does not speak TLS: leave --tls-ca out",
        )
        assert await failure(old, credentials_of(realm, client)) == (
            UnavailableError,
            f"the certificate of the server at {old} has expired or is not valid yet",
        )
    finally:
        await server.stop(None)


async def test_a_client_with_a_renewed_certificate_goes_on_when_the_old_one_is_revoked(
    secured, realm
):
    """Its stream is cut off, and opened again by the new certificate: no frame is lost."""

    def refusals():
        refused = [each for each in secured.orchestrator.log_events() if "proves no" in str(each)]
        return [each for each in refused if each["method"].endswith("/Detect")]

    def was_cut_off():
        return len(refusals()) > before

    old = realm.issue("client/renewing")
    renewed = asyncio.Event()
    count = 0

    async def frames():
        nonlocal count
        while not renewed.is_set():
            yield tandem.EncodedImage(PICTURE)
            count += 1
            await asyncio.sleep(0.01)

    before = len(refusals())
    results = []
    async with tandem.DetectorClient(
        secured.address, credentials=credentials_of(realm, old)
    ) as client:
        async for result in client.detect(frames()):
            results.append(result)
            if len(results) == 20:
                realm.issue("client/renewing")
                realm.revoke(f"sha256:{fingerprint(old)}")
                cut = asyncio.ensure_future(until(was_cut_off))
                cut.add_done_callback(lambda _: renewed.set())
    realm.revoke()
    await cut
    assert [each.frame_id for each in results] == list(range(count))
    assert all(each.error is None and not each.dropped for each in results)

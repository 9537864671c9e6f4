"""Every method, called by everybody: exactly what the table of roles says."""

import hmac
import time
from base64 import urlsafe_b64encode

import grpc
import jwt
import pytest

from common.security.tokens import token_digest
from common.server.authorization import DENIED_MESSAGE
from tests.authorities import HOUR, NOW, Authority, self_signed
from tests.integration.security.calls import (
    BACKBONE,
    DETECT,
    FORBIDDEN,
    GET_STATUS,
    HEALTH,
    NO_CONNECTION,
    ORCHESTRATOR_METHODS,
    SERVED,
    SET_PLACEMENT,
    TRANSFORMER,
    UNKNOWN_CALLER,
    UNKNOWN_METHODS,
    WATCH_STATUS,
    bearer,
    channel_to,
    outcome,
)

from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # isort: skip
    Ed25519PrivateKey,
)

SERVERS = {
    "orchestrator/main": (*ORCHESTRATOR_METHODS, *HEALTH, *UNKNOWN_METHODS),
    "backbone/edge": (BACKBONE, *HEALTH, *UNKNOWN_METHODS),
    "transformer/edge": (TRANSFORMER, *HEALTH, *UNKNOWN_METHODS),
}
# What the issue asks for, written down once more: the code's own table is what is tested.
MAY_CALL = {
    "client/camera": (DETECT, GET_STATUS, WATCH_STATUS),
    "operator/ann": (GET_STATUS, WATCH_STATUS, SET_PLACEMENT),
    "monitor/prometheus": HEALTH,
    "orchestrator/main": (BACKBONE, *HEALTH),
    "backbone/edge": (TRANSFORMER,),
    "backbone/workstation": (TRANSFORMER,),
    "transformer/edge": (),
}


def address_of(cluster, server):
    if server == "orchestrator/main":
        return cluster.address
    stage, node = server.split("/")
    return cluster.stages[f"{node}.{stage}"].address


def issued(realm, identity, **more):
    return realm.issue(identity, file_name="matrix." + identity.replace("/", "."), **more)


async def outcomes(cluster, server, credentials, methods, metadata=None):
    async with channel_to(address_of(cluster, server), credentials, server) as channel:
        return {method: await outcome(channel, method, metadata) for method in methods}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("identity", MAY_CALL)
async def test_each_role_may_call_what_the_table_says(secured, realm, server, identity):
    credentials = realm.credentials(issued(realm, identity))
    found = await outcomes(secured, server, credentials, SERVERS[server])
    # A server's own certificate may ask for its health, which containers' probes do.
    own = HEALTH if identity == server else ()
    expected = {
        method: (SERVED, "")
        if method in (*MAY_CALL[identity], *own)
        else (FORBIDDEN, DENIED_MESSAGE)
        for method in SERVERS[server]
    }
    assert found == expected


@pytest.mark.parametrize(
    ("identity", "server", "method"),
    [
        ("client/camera", "orchestrator/main", "/inference.GRPCInferenceService/ModelInfer"),
        ("client/camera", "backbone/edge", DETECT),
        ("orchestrator/main", "transformer/edge", BACKBONE),
        ("backbone/edge", "orchestrator/main", TRANSFORMER),
    ],
)
async def test_a_method_of_another_service_is_told_as_missing(
    secured, realm, identity, server, method
):
    """The fault: a caller who may call it elsewhere got a stream that ended well, and empty."""
    credentials = realm.credentials(issued(realm, identity))
    async with channel_to(address_of(secured, server), credentials, server) as channel:
        # Without a message: gRPC may lose the status of a stream that ends while one is written.
        call = channel.stream_stream(method)(timeout=60)
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("server", SERVERS)
async def test_who_has_no_good_certificate_gets_no_connection(secured, realm, server, tmp_path):
    strangers = Authority(tmp_path)
    pairs = {
        "none": None,
        "of an unknown authority": strangers.issue("client/camera"),
        "self-signed": self_signed("orchestrator/main"),
        "expired": issued(realm, "client/camera", ends=NOW - HOUR / 2),
        "expired orchestrator": issued(realm, "orchestrator/main", ends=NOW - HOUR / 2),
        "not valid yet": issued(realm, "client/camera", begins=NOW + HOUR / 2),
    }
    for kind, pair in pairs.items():
        credentials = realm.credentials(pair)
        found = await outcomes(secured, server, credentials, (SERVERS[server][0], HEALTH[0]))
        assert {status for status, _ in found.values()} == {NO_CONNECTION}, kind


@pytest.mark.parametrize("server", SERVERS)
async def test_a_certificate_that_proves_nothing_is_told_nothing(secured, realm, server):
    pairs = {
        "no identity": realm.clients.issue(None, file_name="nameless"),
        "two identities": realm.clients.issue(
            "client/camera", file_name="two", uris=["spiffe://tandem/operator/ann"]
        ),
        "another trust domain": realm.clients.issue(
            None, file_name="other", uris=["spiffe://elsewhere/operator/ann"]
        ),
        # Which authority may issue which role is what separates peers from clients.
        "orchestrator by the clients' authority": realm.clients.issue(
            "orchestrator/main", file_name="false.orchestrator"
        ),
        "backbone by the clients' authority": realm.clients.issue(
            "backbone/edge", file_name="false.backbone"
        ),
        "operator by the peers' authority": realm.peers.issue(
            "operator/ann", file_name="false.operator"
        ),
    }
    for kind, pair in pairs.items():
        credentials = realm.credentials(pair)
        found = await outcomes(secured, server, credentials, SERVERS[server])
        assert set(found.values()) == {(UNKNOWN_CALLER, DENIED_MESSAGE)}, kind


def signed(key, algorithm="EdDSA", **claims):
    claims = {"sub": "spiffe://tandem/client/camera", "aud": "tandem", **claims}
    claims.setdefault("exp", time.time() + 600)
    told = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(told, key, algorithm=algorithm)


def signed_by_the_public_key(realm):
    """What a library believes that takes the algorithm from the token: the key is no secret."""
    header, claims, _ = signed("x" * 64, "HS256").split(".")
    digest = hmac.new(realm.jwt_keys.read_bytes(), f"{header}.{claims}".encode(), "sha256").digest()
    return f"{header}.{claims}." + urlsafe_b64encode(digest).decode().rstrip("=")


def tokens(realm):
    """Tokens by what is right or wrong with them, and the identity that each stands for."""
    right = realm.add_token("client/camera")
    key = realm.signing_key
    return {
        "of a client": (right, "client/camera"),
        "of an operator": (realm.add_token("operator/ann"), "operator/ann"),
        "of a monitor": (realm.add_token("monitor/prometheus"), "monitor/prometheus"),
        "signed for a client": (signed(key), "client/camera"),
        "signed for an operator": (
            signed(key, sub="spiffe://tandem/operator/ann"),
            "operator/ann",
        ),
        "none": ("", None),
        "wrong": (right[:-1] + ("a" if right[-1] != "a" else "b"), None),
        "its hash": (token_digest(right), None),
        "expired": (realm.add_token("client/camera", expires=NOW - HOUR), None),
        "signed, expired": (signed(key, exp=time.time() - 60), None),
        "signed, without an end": (signed(key, exp=None), None),
        "signed for later": (signed(key, nbf=time.time() + 600), None),
        "signed for others": (signed(key, aud="elsewhere"), None),
        "signed by a stranger": (signed(Ed25519PrivateKey.generate()), None),
        "signed by nobody": (signed(None, "none"), None),
        "signed by the public key": (signed_by_the_public_key(realm), None),
        "signed for a service": (signed(key, sub="spiffe://tandem/orchestrator/main"), None),
        "signed for no identity": (signed(key, sub="camera"), None),
    }


async def test_tokens_are_worth_their_role_and_no_more(secured, realm):
    address = str(secured.orchestrator.announcement["token_address"])
    methods = SERVERS["orchestrator/main"]
    for kind, (token, identity) in tokens(realm).items():
        metadata = bearer(token) if kind != "none" else None
        async with channel_to(address, realm.credentials(), "orchestrator/main") as channel:
            found = {method: await outcome(channel, method, metadata) for method in methods}
        if identity is None:
            assert set(found.values()) == {(UNKNOWN_CALLER, DENIED_MESSAGE)}, kind
            continue
        expected = {
            method: (SERVED, "") if method in MAY_CALL[identity] else (FORBIDDEN, DENIED_MESSAGE)
            for method in methods
        }
        assert found == expected, kind


async def test_a_token_is_worth_nothing_where_a_certificate_is_asked_for(secured, realm):
    token = realm.add_token("operator/ann")
    client = realm.credentials(issued(realm, "client/camera"))
    found = await outcomes(secured, "orchestrator/main", client, (SET_PLACEMENT,), bearer(token))
    assert found == {SET_PLACEMENT: (FORBIDDEN, DENIED_MESSAGE)}
    nobody = realm.credentials()
    found = await outcomes(secured, "orchestrator/main", nobody, (DETECT,), bearer(token))
    assert found[DETECT][0] == NO_CONNECTION


async def test_another_node_cannot_pose_as_a_server(secured, realm):
    credentials = realm.credentials(issued(realm, "backbone/edge"))
    address = address_of(secured, "transformer/edge")
    for posed in ("transformer/workstation", "backbone/edge", "orchestrator/main"):
        async with channel_to(address, credentials, posed) as channel:
            assert (await outcome(channel, TRANSFORMER))[0] == NO_CONNECTION, posed

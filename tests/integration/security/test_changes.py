"""Certificates and tokens that are renewed, revoked or expire while frames are under way."""

import asyncio
import ssl
import time
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta, timezone

import grpc
import jwt
import pytest

from common.security.certificates import read_certificates
from common.wire.connections import CallEnding
from protos.tandem.v1 import detector_pb2, detector_pb2_grpc
from tests.integration.security.calls import (
    DETECT,
    SERVED,
    UNKNOWN_CALLER,
    bearer,
    channel_to,
    outcome,
)
from tests.streams import frame, jpeg, options

# Frames in flight of one client.
WINDOW = 4
PICTURE = jpeg(1)
# Calls under way are looked at once a second; a busy machine takes longer.
CUT_SECONDS = 60.0


class Load:
    """A client that keeps a few frames in flight until it is told to stop."""

    def __init__(self, channel, metadata=None) -> None:
        self.responses = []
        self.call = detector_pb2_grpc.DetectorStub(channel).Detect(metadata=metadata)
        self.ending = CallEnding(self.call)
        self._sent = 0
        self._stopping = False

    async def run(self):
        """Send and read to the end of the stream; returns its status."""
        await self.call.write(options())
        for _ in range(WINDOW):
            await self._send()
        try:
            while True:
                response = await self.call.read()
                if response is grpc.aio.EOF:
                    break
                self.responses.append(response)
                if not self._stopping:
                    await self._send()
                elif len(self.responses) == self._sent:
                    await self.call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        await self.ending.wait()
        return self.ending.code

    async def _send(self):
        await self.call.write(frame(self._sent, PICTURE))
        self._sent += 1

    async def answered(self, count):
        """Wait until so many further frames are answered."""
        wanted = len(self.responses) + count
        while len(self.responses) < wanted:
            await asyncio.sleep(0.01)

    def stop(self):
        """Send no further frame."""
        self._stopping = True

    def check_nothing_lost(self):
        assert [each.frame_id for each in self.responses] == list(range(self._sent))
        outcomes = [each.WhichOneof("result") for each in self.responses]
        assert set(outcomes) == {"detections"}


class EndedTooEarlyError(Exception):
    """A load's stream ended before it was under way."""


@asynccontextmanager
async def load(address, credentials, metadata=None, first=10):
    """A load of which so many frames are answered; gives it, and the task of its end."""
    async with channel_to(address, credentials, "orchestrator/main") as channel:
        under_way = Load(channel, metadata)
        task = asyncio.ensure_future(under_way.run())
        try:
            answered = asyncio.ensure_future(under_way.answered(first))
            await asyncio.wait({answered, task}, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                answered.cancel()
                raise EndedTooEarlyError(under_way.ending.details)
            yield under_way, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def presented(address):
    """The fingerprint of the certificate that a server presents."""
    host, _, port = address.rpartition(":")
    pem = ssl.get_server_certificate((host, int(port))).encode()
    return read_certificates(pem)[0].fingerprint


def fingerprint(pair):
    return read_certificates(pair.certificate_pem)[0].fingerprint


async def test_renewal_of_every_certificate_loses_no_frame(secured, realm):
    client = realm.issue("client/camera")
    servers = {"orchestrator/main": secured.address}
    for name, process in secured.stages.items():
        node, stage = name.split(".")
        servers[f"{stage}/{node}"] = process.address
    async with load(secured.address, realm.credentials(client)) as (under_way, task):
        for identity, address in servers.items():
            before = presented(address)
            renewed = realm.issue(identity)
            await asyncio.wait_for(under_way.answered(5), 60)
            assert presented(address) == fingerprint(renewed) != before, identity
        # Connections made now use the new certificates on both sides.
        async with load(secured.address, realm.credentials(client)) as (other, others_task):
            other.stop()
            assert await asyncio.wait_for(others_task, 60) is grpc.StatusCode.OK
            other.check_nothing_lost()
        under_way.stop()
        assert await asyncio.wait_for(task, 60) is grpc.StatusCode.OK
        under_way.check_nothing_lost()


async def test_a_peer_that_is_revoked_under_load_loses_its_streams_and_no_frame(secured, realm):
    async with load(secured.address, realm.credentials(realm.issue("client/camera"))) as (
        under_way,
        task,
    ):
        nodes = {
            detector_pb2.PLACEMENT_FULL: "edge",
            detector_pb2.PLACEMENT_BACKBONE: "edge",
        }
        node = nodes.get(under_way.responses[-1].placement, "workstation")
        stolen = realm.folder / f"backbone.{node}.crt"
        old = read_certificates(stolen.read_bytes())[0].fingerprint
        realm.revoke(f"sha256:{old}")
        ended = time.monotonic() + CUT_SECONDS
        try:
            while under_way.responses[-1].timing.backbone.node == node:
                assert time.monotonic() < ended, "the revoked backbone still serves"
                await under_way.answered(1)
            await under_way.answered(10)
            assert under_way.responses[-1].timing.backbone.node != node
            # With a new certificate the node is back, although the old one stays revoked.
            realm.issue(f"backbone/{node}")
            under_way.stop()
            assert await asyncio.wait_for(task, 60) is grpc.StatusCode.OK
            under_way.check_nothing_lost()
            await _served_on(secured, realm, node)
        finally:
            realm.revoke()


async def test_a_server_whose_identity_is_revoked_is_called_no_more(secured, realm):
    """A transformer calls nobody: what counts is that nobody connects to it."""
    client = realm.credentials(realm.issue("client/camera"))
    async with load(secured.address, client) as (under_way, task):
        node = under_way.responses[-1].timing.transformer.node
        realm.revoke(f"transformer/{node}")
        ended = time.monotonic() + CUT_SECONDS
        try:
            while under_way.responses[-1].timing.transformer.node == node:
                assert time.monotonic() < ended, "the revoked transformer is still asked"
                await under_way.answered(1)
            await under_way.answered(10)
            assert under_way.responses[-1].timing.transformer.node != node
        finally:
            realm.revoke()
        under_way.stop()
        assert await asyncio.wait_for(task, 60) is grpc.StatusCode.OK
        under_way.check_nothing_lost()


async def _served_on(cluster, realm, node):
    """Have a frame served on both stages of a node."""
    credentials = realm.credentials(realm.issue("client/camera"))
    full, workstation = detector_pb2.PLACEMENT_FULL, detector_pb2.PLACEMENT_WORKSTATION
    placement = full if node == "edge" else workstation
    async with channel_to(cluster.address, credentials, "orchestrator/main") as channel:
        call = detector_pb2_grpc.DetectorStub(channel).Detect(
            iter([options(placement=placement), frame(0, PICTURE)])
        )
        responses = [response async for response in call]
    assert [each.WhichOneof("result") for each in responses] == ["detections"]


async def check_cut(under_way, task, since):
    assert await asyncio.wait_for(task, CUT_SECONDS) is grpc.StatusCode.UNAUTHENTICATED
    assert under_way.ending.details == "access denied"
    assert time.monotonic() - since < CUT_SECONDS
    # What was answered up to there was answered in order.
    ids = [each.frame_id for each in under_way.responses]
    assert ids == list(range(len(ids)))


@pytest.mark.parametrize("way", ["by its fingerprint", "by its identity"])
async def test_a_client_that_is_revoked_is_cut_off_and_no_other(secured, realm, way):
    stolen = realm.issue("client/stolen")
    other = realm.issue("client/camera")
    entry = f"sha256:{fingerprint(stolen)}" if "finger" in way else "client/stolen"
    async with load(secured.address, realm.credentials(other)) as (others, others_task):
        async with load(secured.address, realm.credentials(stolen)) as (under_way, task):
            realm.revoke(entry)
            try:
                since = time.monotonic()
                async with channel_to(
                    secured.address, realm.credentials(stolen), "orchestrator/main"
                ) as channel:
                    assert (await outcome(channel, DETECT))[0] == UNKNOWN_CALLER
                await check_cut(under_way, task, since)
            finally:
                realm.revoke()
        others.stop()
        assert await asyncio.wait_for(others_task, 60) is grpc.StatusCode.OK
        others.check_nothing_lost()


async def test_a_stream_ends_with_its_certificate(secured, realm):
    # Ever longer, for a machine that takes so long to connect.
    for seconds in (5, 15, 45):
        ends = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        short = realm.issue("client/short", ends=ends)
        with suppress(EndedTooEarlyError):
            async with load(secured.address, realm.credentials(short), first=1) as (
                under_way,
                task,
            ):
                await check_cut(under_way, task, time.monotonic())
            return
    raise AssertionError("no frame was answered in time")


async def test_a_token_that_is_removed_ends_its_streams(secured, realm):
    address = str(secured.orchestrator.announcement["token_address"])
    token = realm.add_token("client/browser")
    async with load(address, realm.credentials(), bearer(token)) as (under_way, task):
        realm.remove_token(token)
        await check_cut(under_way, task, time.monotonic())
        async with channel_to(address, realm.credentials(), "orchestrator/main") as channel:
            assert (await outcome(channel, DETECT, bearer(token)))[0] == UNKNOWN_CALLER
            renewed = realm.add_token("client/browser")
            assert (await outcome(channel, DETECT, bearer(renewed)))[0] == SERVED


async def test_a_revoked_identity_is_refused_with_any_token(secured, realm):
    """The fault: only its certificates were, and a signed token can be removed from no list."""
    address = str(secured.orchestrator.announcement["token_address"])
    listed = realm.add_token("client/browser")
    signed = jwt.encode(
        {"sub": "spiffe://tandem/client/browser", "aud": "tandem", "exp": time.time() + 600},
        realm.signing_key,
        algorithm="EdDSA",
    )
    other = realm.add_token("client/other")
    async with load(address, realm.credentials(), bearer(listed)) as (under_way, task):
        realm.revoke("client/browser")
        try:
            await check_cut(under_way, task, time.monotonic())
            async with channel_to(address, realm.credentials(), "orchestrator/main") as channel:
                for token in (listed, signed):
                    assert (await outcome(channel, DETECT, bearer(token)))[0] == UNKNOWN_CALLER
                assert (await outcome(channel, DETECT, bearer(other)))[0] == SERVED
                realm.revoke()
                assert (await outcome(channel, DETECT, bearer(signed)))[0] == SERVED
        finally:
            realm.revoke()

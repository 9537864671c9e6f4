"""A channel to one server, which is made anew when the files of its certificates have changed."""

from __future__ import annotations

import asyncio
from typing import Optional, Set

import grpc

from common.domain.errors import UnavailableError
from common.security.identity import Identity
from common.security.tls import TlsFiles, TlsMaterial, channel_credentials
from common.wire.connections import Options, open_channel

# Streams under way end by themselves, or when their server does not accept them any more.
_UNLIMITED_SECONDS = 10.0 * 365 * 86_400
# Streams that are opened at a time. When very many begin at once, as after an outage, a busy server
# would answer each of them too late, and all of them would be tried again.
_OPENINGS = 16


class ServerChannel:
    """Connects to one server by the certificates that the files hold at that time.

    New streams take the current channel; streams under way stay on the one that they were opened
    on, which is closed when the last of them has ended.

    Attributes:
        openings: held while a stream is opened, so that only so many are at a time.
    """

    def __init__(
        self,
        address: str,
        options: Options = (),
        tls: Optional[TlsFiles] = None,
        server: Optional[Identity] = None,
        server_name: str = "",
    ) -> None:
        """Connect to nothing yet.

        Args:
            address: in any spelling of `common.domain.address.parse_address`.
            options: of each channel.
            tls: the files; None: no encryption.
            server: whom the server has to prove to be.
            server_name: the name that its certificate has to hold, where `server` is left out; the
                host of `address` if both are.

        Raises:
            InvalidInputError: that is no address.
        """
        self._address = address
        self._server = server
        name = server.server_name if server else server_name
        checked = [("grpc.ssl_target_name_override", name)] if tls and name else []
        self._options = [*options, *checked]
        self._tls = tls
        self._material: Optional[TlsMaterial] = None if tls is None else tls.material
        self._channel = self._open()
        self._is_closed = False
        self._leaving: Set[asyncio.Future[None]] = set()
        self.openings = asyncio.Semaphore(_OPENINGS)

    @property
    def refusal(self) -> str:
        """Why the server must not be called; empty while it may be.

        gRPC tells nobody which certificate a server has shown, so that only its identity can be
        revoked here, and not one certificate.
        """
        if self._tls is None or self._server is None:
            return ""
        is_revoked = self._server.uri in self._tls.material.revoked
        return f"{self._server} is revoked" if is_revoked else ""

    @property
    def current(self) -> grpc.aio.Channel:
        """The channel that a new call takes; ask again for the next one.

        Raises:
            UnavailableError: this is closed, such as to a server that has just left; or the
                server's identity is revoked.
        """
        if self._is_closed:
            raise UnavailableError(f"the connection to {self._address} is closed")
        if self.refusal:
            raise UnavailableError(self.refusal)
        if self._tls is not None:
            material = self._tls.material
            if material is not self._material:
                self._material = material
                self._leave(self._channel)
                self._channel = self._open()
        return self._channel

    async def close_after_calls(self) -> None:
        """Wait until the calls under way have ended; if this is cancelled, end them.

        No new call can be begun.
        """
        self._is_closed = True
        self._leave(self._channel)
        try:
            await asyncio.wait(tuple(self._leaving))
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        """End all calls."""
        self._is_closed = True
        for leaving in self._leaving:
            leaving.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await self._channel.close()

    def _open(self) -> grpc.aio.Channel:
        credentials = None if self._material is None else channel_credentials(self._material)
        return open_channel(self._address, self._options, credentials)

    def _leave(self, channel: grpc.aio.Channel) -> None:
        leaving = asyncio.ensure_future(_closed_in_the_end(channel))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)


async def _closed_in_the_end(channel: grpc.aio.Channel) -> None:
    """Close a channel when its calls have ended, or as soon as this is cancelled."""
    try:
        await channel.close(_UNLIMITED_SECONDS)
    except asyncio.CancelledError:
        await channel.close()
        raise

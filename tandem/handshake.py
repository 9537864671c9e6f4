"""Whether a server that closes connections does so for what this side shows it.

A gRPC server that does not accept a certificate closes the connection without a word, and so does
one that is ending: the status of the call that failed is the same. In TLS 1.3 even the client's
handshake succeeds, since its certificate comes last. So one more connection is looked at. A server
that accepts this side sends HTTP/2 settings behind the handshake; one that does not sends an alert
or nothing and closes; one that has ended, or that ends just now, breaks off earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from common.domain.address import Address, is_unix
from tandem.access import Credentials

_LIMIT_SECONDS = 5.0
# By the server, of what it was shown. Others, such as of the protocol's version, tell of no proof.
_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")


async def is_refused(address: Address, credentials: Credentials) -> bool:
    """Whether the server refuses these credentials in the handshake or right behind it.

    Args:
        address: of the server, which has closed a connection.
        credentials: that the connection was made with.
    """
    if is_unix(address.host):
        return False
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            return await _closes_for_them(address, credentials)
    except (OSError, TimeoutError, EOFError) as error:
        return _is_alert(error)


async def _closes_for_them(address: Address, credentials: Credentials) -> bool:
    """Make the connection.

    Raises:
        OSError: there is none, or the handshake failed.
    """
    reader, writer = await asyncio.open_connection(
        address.host,
        address.port,
        ssl=_context(credentials),
        server_hostname=credentials.server_name or address.host,
    )
    # The handshake has succeeded, as this side sees it.
    try:
        return not await reader.read(1)
    except ConnectionError:
        # Closed with our words unread.
        return True
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(credentials.ca))
    context.set_alpn_protocols(["h2"])
    if credentials.certificate is not None and credentials.key is not None:
        context.load_cert_chain(str(credentials.certificate), str(credentials.key))
    return context


def _is_alert(error: BaseException) -> bool:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return reason is not None and "ALERT" in reason and any(each in reason for each in _ALERTS)

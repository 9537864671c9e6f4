"""Sets the placement for a user of the live view: with the user's rights, not the gateway's."""

from __future__ import annotations

from common.domain.errors import AccessDeniedError, UnavailableError
from services.gateway.callers import UnknownCallerError
from services.gateway.door import Gateway
from tandem.access import Credentials
from tandem.client import DetectorClient


async def set_placement(gateway: Gateway, placement: str, token: str) -> None:
    """Ask the orchestrator to set the placement of streams that leave it to the server.

    Without TLS anybody may, as by the `tandem` command. Otherwise the user's token goes to the
    orchestrator, which decides.

    Args:
        gateway: whose orchestrator it is.
        placement: as people write it; `auto` leaves it to the orchestrator.
        token: of the user; empty for none.

    Raises:
        UnknownCallerError: there is no token, or it proves nothing.
        AccessDeniedError: its holder may not set the placement.
        InvalidInputError: there is no such placement.
        UnavailableError: it cannot be served now, or the orchestrator cannot be reached.
    """
    own = gateway.credentials
    if own is None:
        await gateway.client.set_placement(placement)
        return
    if not token:
        raise UnknownCallerError("changing the placement needs the token of an operator")
    address = gateway.settings.orchestrator_tokens
    if not address:
        raise UnavailableError(
            "the gateway does not know the orchestrator's port for tokens (orchestrator_tokens)"
        )
    user = Credentials(ca=own.ca, token=token, server_name=own.server_name)
    async with DetectorClient(address, credentials=user) as client:
        try:
            await client.set_placement(placement)
        except AccessDeniedError as error:
            raise AccessDeniedError("this token does not let you set the placement") from error

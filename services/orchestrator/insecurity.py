"""What is insecure, in words: the warnings of `tandem status`."""

from __future__ import annotations

import time
from typing import Iterator, Optional, Sequence, Tuple

from common.domain.address import is_loopback, parse_address
from common.security.expiry import expiry_warnings
from common.security.tls import TlsFiles, TlsMaterial
from common.server.exposure import reaches_others


class Insecurity:
    """Looks at how the orchestrator is reached, and reaches the stages."""

    def __init__(self, host: str, stages: Sequence[str], tls: Optional[TlsFiles]) -> None:
        """Note what does not change while the orchestrator runs.

        Args:
            host: that it listens on.
            stages: the addresses of all stages.
            tls: its certificates, read again when they change; None: no TLS.
        """
        self._tls = tls
        self._told = () if tls is not None else tuple(_without_tls(host, stages))

    def warnings(self) -> Tuple[str, ...]:
        """A sentence for each thing that is insecure now."""
        if self._tls is None:
            return self._told
        return tuple(_expiring(self._tls.material, time.time()))


def _without_tls(host: str, stages: Sequence[str]) -> Iterator[str]:
    if reaches_others(host):
        yield "other machines reach this orchestrator without TLS: anybody there may do anything"
    elsewhere = sorted(
        address for address in set(stages) if not is_loopback(parse_address(address).host)
    )
    if elsewhere:
        yield f"frames and features travel without TLS to {', '.join(elsewhere)}"


def _expiring(material: TlsMaterial, now_seconds: float) -> Iterator[str]:
    own = [material.certificate] if material.certificate else []
    yield from expiry_warnings("the orchestrator's certificate", own, now_seconds)
    yield from expiry_warnings("the authority of services", material.peers, now_seconds)
    yield from expiry_warnings("the authority of clients", material.clients, now_seconds)

"""A process's own certificate, whom it trusts, and what gRPC gets of both."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, FrozenSet, List, Optional, Sequence, Tuple

import grpc

from common.domain.errors import ConfigurationError, InvalidInputError
from common.security.certificates import Certificate, check_key, pem_of, read_certificates
from common.security.identity import Identity, Proof
from common.security.watched import WatchedFiles

_REMEMBERED = 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class TlsPaths:
    """Where the files are.

    Attributes:
        certificate: of this process, in PEM form, with those of intermediate authorities behind it;
            None for a client that has a token instead.
        key: its private key.
        peers_ca: the authorities that issue the certificates of the system's own services.
        clients_ca: those that issue the certificates of clients, operators and monitors; those of
            peers if left out.
        revoked: fingerprints and identities that are refused, one a line.
    """

    peers_ca: Path
    certificate: Optional[Path] = None
    key: Optional[Path] = None
    clients_ca: Optional[Path] = None
    revoked: Optional[Path] = None


@dataclass(frozen=True)
class TlsMaterial:
    """What the files hold at some time.

    Attributes:
        certificate: of this process.
        pair: its key and its certificate in PEM form, as gRPC takes them.
        peers_pem: the authorities of peers.
        roots_pem: the authorities of all who may call.
    """

    certificate: Optional[Certificate]
    pair: Optional[Tuple[bytes, bytes]]
    peers_pem: bytes
    roots_pem: bytes
    peers: Sequence[Certificate]
    clients: Sequence[Certificate]
    revoked: FrozenSet[str]
    _known: Dict[bytes, Optional[Proof]] = field(default_factory=dict, compare=False, repr=False)

    def proof(self, certificate_pem: bytes) -> Optional[Proof]:
        """What a caller's certificate proves now; None if it proves nothing, or not any more.

        The handshake has verified the chain and the times; but the files may have changed since, a
        certificate ends while a connection goes on, and which authority may issue which role is not
        gRPC's to know.
        """
        if certificate_pem not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[certificate_pem] = self._examined(certificate_pem)
        proof = self._known[certificate_pem]
        return proof if proof and time.time() < proof.expires_at_seconds else None

    def _examined(self, certificate_pem: bytes) -> Optional[Proof]:
        try:
            certificate = read_certificates(certificate_pem)[0]
        except InvalidInputError:
            return None
        identity = certificate.identity
        if identity is None or not self.revoked.isdisjoint((certificate.fingerprint, identity.uri)):
            return None
        authorities = self.peers if identity.role.is_peer else self.clients
        trusted = [each for each in authorities if each.fingerprint not in self.revoked]
        if not certificate.is_issued_by(trusted):
            return None
        return Proof(identity, certificate.expires_at_seconds)


class TlsFiles:
    """The files of `TlsPaths`, read again when they change; safe to use from any thread."""

    def __init__(
        self, paths: TlsPaths, check: Optional[Callable[[TlsMaterial], None]] = None
    ) -> None:
        """Read the files.

        Args:
            paths: where they are.
            check: raises `InvalidInputError` of what else makes them unfit; None: nothing does.

        Raises:
            ConfigurationError: one cannot be read, or they do not fit together.
        """
        self._paths = paths
        self._check = check
        every = (paths.certificate, paths.key, paths.peers_ca, paths.clients_ca, paths.revoked)
        if (paths.certificate is None) != (paths.key is None):
            raise ConfigurationError("a certificate and its key have to be given together")
        self._own: Optional[Identity] = None
        self._files = WatchedFiles([path for path in every if path is not None], self._material)
        certificate = self.material.certificate
        self._own = None if certificate is None else certificate.identity

    @property
    def material(self) -> TlsMaterial:
        """What the files hold now: the same object as before unless one has changed."""
        return self._files.content

    def _material(self, held: Dict[Path, bytes]) -> TlsMaterial:
        paths = self._paths
        certificate, pair = self._pair(held)
        peers = _read(paths.peers_ca, held)
        clients = peers if paths.clients_ca is None else _read(paths.clients_ca, held)
        material = TlsMaterial(
            certificate=certificate,
            pair=pair,
            peers_pem=pem_of(peers),
            roots_pem=pem_of(peers if clients is peers else [*peers, *clients]),
            peers=peers,
            clients=clients,
            revoked=_read_revoked(paths.revoked, held),
        )
        if self._check is not None:
            self._check(material)
        return material

    def _pair(
        self, held: Dict[Path, bytes]
    ) -> Tuple[Optional[Certificate], Optional[Tuple[bytes, bytes]]]:
        """The own certificate; and its key, and its chain, in PEM form."""
        path, key_path = self._paths.certificate, self._paths.key
        if path is None or key_path is None:
            return None, None
        chain = _read(path, held)
        if self._own is not None and chain[0].identity != self._own:
            raise InvalidInputError(f"{path} is not of {self._own} any more")
        try:
            check_key(chain[0], held[key_path])
        except InvalidInputError as error:
            raise InvalidInputError(f"{key_path}: {error}") from error
        return chain[0], (held[key_path], pem_of(chain))

    def server_credentials(self, *, ask_for_certificates: bool = True) -> grpc.ServerCredentials:
        """What a server's port is opened with; each handshake uses the files as they are then.

        Args:
            ask_for_certificates: a caller without one is refused; otherwise none is asked for, and
                the caller has to prove in another way who it is.
        """
        latest: List[TlsMaterial] = [self.material]

        def changed() -> Optional[grpc.ServerCertificateConfiguration]:
            material = self.material
            if material is latest[0]:
                return None
            latest[0] = material
            return _configuration(material)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(latest[0]),
            changed,  # type: ignore[arg-type]  # its types leave out None, which means no change
            require_client_authentication=ask_for_certificates,
        )


def channel_credentials(material: TlsMaterial) -> grpc.ChannelCredentials:
    """What a channel to a server of Tandem's is opened with."""
    key, chain = material.pair or (None, None)
    return grpc.ssl_channel_credentials(material.peers_pem, key, chain)


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    pairs = [] if material.pair is None else [material.pair]
    return grpc.ssl_server_certificate_configuration(pairs, material.roots_pem)


def _read(path: Path, held: Dict[Path, bytes]) -> List[Certificate]:
    try:
        return read_certificates(held[path])
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error


def _read_revoked(path: Optional[Path], held: Dict[Path, bytes]) -> FrozenSet[str]:
    """The lines of the list: `sha256:HEX` (colons between its bytes are fine) or an identity."""
    revoked = set()
    # Editors on Windows begin a file with a mark, and the list must count all the same.
    for line in held[path].decode("utf-8-sig", "replace").splitlines() if path else ():
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        kind, _, digits = entry.partition(":")
        digits = digits.replace(":", "").lower()
        if (
            kind.lower() == "sha256"
            and len(digits) == 64
            and set(digits) <= set("0123456789abcdef")
        ):
            revoked.add(digits)
            continue
        # It would refuse a caller of that name, and nobody else.
        if "*" in entry:
            raise InvalidInputError(f"{path}: {entry[:100]!r}: * stands for nobody here")
        try:
            revoked.add(Identity.parse(entry).uri)
        except InvalidInputError:
            raise InvalidInputError(
                f"{path}: {entry[:100]!r} is neither sha256:FINGERPRINT nor ROLE/NAME"
            ) from None
    return frozenset(revoked)

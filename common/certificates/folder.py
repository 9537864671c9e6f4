"""The folder of an authority: what stands where, and how certificates come into it.

    authority/  the two authorities with their keys: stays where it is
    edge/       all that the services of node `edge` need
    client/     all that the client `client` needs
    ...

Each holder's folder has a certificate and a key for each of its roles, and the authorities'
certificates, by which it knows others.
"""

from __future__ import annotations

import datetime
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from common.certificates import authority as authorities
from common.certificates.authority import CERTIFICATE_DAYS, Authority
from common.certificates.reading import hosts_of
from common.certificates.roles import checked_holder, checked_host, usual_hosts
from common.domain.errors import ConfigurationError, InvalidInputError
from common.domain.placement import EDGE, WORKSTATION
from common.files import replace_bytes
from common.security.expiry import EXPIRING_DAYS
from common.security.identity import Identity, Role

AUTHORITY_FOLDER = "authority"
PEERS_CA, CLIENTS_CA = "peers-ca", "clients-ca"

_SECRET_FILE = 0o600
_SECRET_FOLDER = 0o700


@dataclass(frozen=True)
class Issued:
    """A certificate that was issued, and where it is.

    Attributes:
        holder: whose it is.
        certificate: its file.
        key: the file of its private key.
        is_new_key: whether that key was made as well.
    """

    holder: Identity
    certificate: Path
    key: Path
    is_new_key: bool


class AuthorityFolder:
    """The folder of an authority.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        """See `create` and `open`."""
        self.path = path
        self._authorities: Dict[str, Authority] = {}

    @classmethod
    def create(cls, path: Path) -> AuthorityFolder:
        """Make new authorities, for peers and for clients.

        Raises:
            ConfigurationError: there are some already.
            OSError: they cannot be written.
        """
        folder = cls(path)
        present = [file for name in (PEERS_CA, CLIENTS_CA) for file in folder._files(name)]
        if any(file.exists() for file in present):
            raise ConfigurationError(
                f"{path} holds an authority already, which is not overwritten: issue what is "
                "missing with tandem certificates issue or init --renew, or name another folder"
            )
        _make_secret_folder(path / AUTHORITY_FOLDER)
        for name, what in ((PEERS_CA, "peers"), (CLIENTS_CA, "clients")):
            created = Authority.create(f"Tandem authority for {what}")
            certificate, key = folder._files(name)
            replace_bytes(key, authorities.key_to_pem(created.key), _SECRET_FILE)
            replace_bytes(certificate, authorities.certificate_to_pem(created.certificate))
        return folder

    @classmethod
    def open(cls, path: Path) -> AuthorityFolder:
        """Use the authorities that are there.

        Raises:
            ConfigurationError: there are none.
        """
        folder = cls(path)
        if not folder.exists():
            raise ConfigurationError(
                f"{path} holds no authority: make one with tandem certificates init {path}"
            )
        return folder

    def exists(self) -> bool:
        """Whether both authorities are there."""
        return all(file.exists() for name in (PEERS_CA, CLIENTS_CA) for file in self._files(name))

    def issue(
        self,
        holder: Identity,
        hosts: Optional[Iterable[str]] = None,
        days: int = CERTIFICATE_DAYS,
        new_key: bool = False,
    ) -> Issued:
        """Issue a certificate, in place where there is one already.

        A certificate that is issued again keeps its key, unless a new one is asked for, so that
        whoever reads the two files at any moment gets a pair that belongs together.

        Args:
            holder: whose.
            hosts: that callers reach a server by, beside the usual ones; None: those of the
                certificate that is there.
            days: how long it is valid.
            new_key: whether to make a new key where there is one.

        Raises:
            ConfigurationError: the authority or the key that is there cannot be read, or the
                authority has expired.
            InvalidInputError: the name is none of a folder, a host is none, or a role that is no
                server's has some.
            OSError: the files cannot be written.
        """
        certificate, key = self.files_of(checked_holder(holder))
        if hosts is None:
            hosts = self._present_hosts(certificate) if holder.role.is_peer else ()
        named = _checked_hosts(holder, hosts)
        self._make_holder_folder(holder)
        private = None if new_key else _present_key(key)
        is_new_key = private is None
        private = private or authorities.new_key()
        signed = self._authority_of(holder).issue(holder, private.public_key(), named, days)
        if is_new_key:
            # The new certificate comes at once after its key: services take neither before both.
            replace_bytes(key, authorities.key_to_pem(private), _SECRET_FILE)
        replace_bytes(certificate, authorities.certificate_to_pem(signed))
        return Issued(holder, certificate, key, is_new_key)

    def files_of(self, holder: Identity) -> Tuple[Path, Path]:
        """Where a holder's certificate and key are."""
        folder = self.path / holder.name
        return folder / f"{holder.role.value}.crt", folder / f"{holder.role.value}.key"

    def is_due(self, holder: Identity, hosts: Iterable[str] = ()) -> bool:
        """Whether a certificate is missing, expires soon, or lacks one of the hosts."""
        certificate, key = self.files_of(holder)
        if not (certificate.exists() and key.exists()):
            return True
        try:
            present = x509.load_pem_x509_certificate(certificate.read_bytes())
        except ValueError:
            return True
        soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(EXPIRING_DAYS)
        lacking = set(_checked_hosts(holder, hosts)) - set(hosts_of(present))
        return present.not_valid_after_utc <= soon or bool(lacking)

    def _present_hosts(self, certificate: Path) -> List[str]:
        with suppress(OSError, ValueError):
            return hosts_of(x509.load_pem_x509_certificate(certificate.read_bytes()))
        return []

    def _authority_of(self, holder: Identity) -> Authority:
        name = PEERS_CA if holder.role.is_peer else CLIENTS_CA
        if name not in self._authorities:
            certificate, key = self._files(name)
            self._authorities[name] = Authority.parse(
                certificate.read_bytes(), key.read_bytes(), str(key)
            )
        return self._authorities[name]

    def _files(self, name: str) -> Tuple[Path, Path]:
        folder = self.path / AUTHORITY_FOLDER
        return folder / f"{name}.crt", folder / f"{name}.key"

    def _make_holder_folder(self, holder: Identity) -> None:
        folder = self.path / holder.name
        if folder.name == AUTHORITY_FOLDER:
            raise InvalidInputError(f"{AUTHORITY_FOLDER!r} is the authorities' own folder")
        _make_secret_folder(folder)
        # All have to know services; only services have to know who else calls.
        for name in (PEERS_CA, CLIENTS_CA) if holder.role.is_peer else (PEERS_CA,):
            content = self._files(name)[0].read_bytes()
            copy = folder / f"{name}.crt"
            if not (copy.exists() and copy.read_bytes() == content):
                replace_bytes(copy, content)


def holders_of_a_pair() -> Iterator[Identity]:
    """Whom a pair of machines needs: the services of both nodes, and one of each caller."""
    for node in (EDGE, WORKSTATION):
        yield from (Identity(role, node) for role in Role if role.is_peer)
    yield Identity(Role.CLIENT, "client")
    yield Identity(Role.OPERATOR, "operator")
    yield Identity(Role.MONITOR, "prometheus")


def set_up(
    folder: AuthorityFolder,
    hosts: Mapping[str, Sequence[str]],
    days: int = CERTIFICATE_DAYS,
    holders: Optional[Iterable[Identity]] = None,
) -> List[Issued]:
    """Issue all that is missing, expires soon or lacks a host; the rest is left as it is.

    Args:
        folder: of the authority.
        hosts: that each node is reached by, by the node's name, beside the usual ones.
        days: how long a certificate is valid.
        holders: who has to have one; by default both machines of a pair and who calls them.
    """
    chosen = list(holders_of_a_pair() if holders is None else holders)
    nodes = {holder.name for holder in chosen if holder.role.is_peer}
    unknown = sorted(set(hosts) - nodes)
    if unknown:
        raise InvalidInputError(f"{unknown[0]!r} is no node; nodes are {', '.join(sorted(nodes))}")
    issued = []
    for holder in chosen:
        named = hosts.get(holder.name, ()) if holder.role.is_peer else ()
        if folder.is_due(holder, named):
            certificate, _ = folder.files_of(holder)
            kept = folder._present_hosts(certificate) if holder.role.is_peer else []
            issued.append(folder.issue(holder, [*named, *kept], days))
    return issued


def _checked_hosts(holder: Identity, hosts: Iterable[str]) -> List[str]:
    named = [checked_host(host) for host in hosts]
    if named and not holder.role.is_peer:
        raise InvalidInputError(f"nobody connects to a {holder.role.value}, so it has no host")
    return list(dict.fromkeys([*usual_hosts(holder), *named]))


def _present_key(path: Path) -> Optional[ec.EllipticCurvePrivateKey]:
    if not path.exists():
        return None
    return authorities.parse_key(path.read_bytes(), str(path))


def _make_secret_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    # One that Compose mounts may belong to somebody else, and is as its image says.
    with suppress(PermissionError):
        os.chmod(str(path), _SECRET_FOLDER)

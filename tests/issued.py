"""Certificates for a test's services, as `tandem certificates` makes them."""

from common.certificates.folder import AuthorityFolder
from common.security.identity import Identity


def folder_with(path, *holders):
    """The folder of a new authority that has issued to these holders, such as `client/camera`."""
    folder = AuthorityFolder.create(path)
    for holder in holders:
        folder.issue(Identity.parse(holder))
    return folder


def files_of(folder, holder):
    """A holder's files: the authority of services, the certificate, the key."""
    certificate, key = folder.files_of(Identity.parse(holder))
    return certificate.parent / "peers-ca.crt", certificate, key


def secured_by(folder):
    """For `tests.harness.Cluster`: issues a certificate to each service."""

    def arguments(identity):
        folder.issue(Identity.parse(identity))
        ca, certificate, key = files_of(folder, identity)
        return (
            *("--tls-certificate", str(certificate), "--tls-key", str(key)),
            *("--tls-peers-ca", str(ca), "--tls-clients-ca", str(ca.parent / "clients-ca.crt")),
        )

    return arguments

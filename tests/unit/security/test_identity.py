"""Identities, as certificates and people spell them."""

import pytest

from common.domain.errors import InvalidInputError
from common.security.identity import Identity, Role


@pytest.mark.parametrize("name", ["camera-7", "Halle 3/Nord", "überall", "a" * 200, "x--a", "%2F"])
@pytest.mark.parametrize("role", Role)
def test_an_identity_is_what_its_uri_says(role, name):
    identity = Identity(role, name)
    assert Identity.parse(identity.uri) == identity
    assert identity.uri.startswith(f"spiffe://tandem/{role.value}/")
    assert identity.uri.count("/") == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "client",
        "client/",
        "admin/ann",
        "spiffe://tandem/client",
        "spiffe://tandem/client/a/b",
        "spiffe://elsewhere/client/a",
        # Two of these would be one, since both decode to the same mark.
        "spiffe://tandem/client/%ff",
        "client/a\nb",
        "client/" + "a" * 201,
    ],
)
def test_what_is_no_identity_is_refused(text):
    with pytest.raises(InvalidInputError):
        Identity.parse(text)


def test_servers_have_names_that_no_two_identities_share():
    names = ["edge", "Edge", "edge.", "e dge", "x--edge", "a" * 64, "a" * 65]
    identities = [Identity(role, name) for role in Role for name in names]
    server_names = {identity.server_name.lower() for identity in identities}
    assert len(server_names) == len(identities)
    assert "edge.transformer.tandem.internal" in server_names
    # A name as long as a label of DNS may be, and no longer.
    assert all(len(name.split(".")[0]) <= 63 for name in server_names)


def test_a_node_cannot_take_the_hashed_name_of_another():
    hashed = Identity(Role.BACKBONE, "Edge").server_name.split(".")[0]
    assert Identity(Role.BACKBONE, hashed).server_name.split(".")[0] != hashed

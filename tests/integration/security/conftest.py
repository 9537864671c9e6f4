"""One system with TLS and tokens, which the tests of this folder share."""

import pytest

from tests.authorities import Realm
from tests.harness import Cluster


@pytest.fixture(scope="session")
def realm(tmp_path_factory):
    """The authorities and files of the shared system."""
    return Realm(tmp_path_factory.mktemp("realm"))


@pytest.fixture(scope="session")
def secured(realm):
    """Two nodes and an orchestrator with TLS; no test may harm it."""
    running = Cluster(
        secured_by=realm.arguments,
        orchestrator_arguments=(
            *("--tokens", str(realm.tokens), "--jwt-keys", str(realm.jwt_keys)),
            *("--token-port", "0", "--quotas", str(realm.quotas)),
        ),
    )
    yield running
    running.close()

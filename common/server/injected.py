"""Environment variables that a scheduler sets for other services' sake.

Kubernetes and Docker's links tell each container where the services of its namespace are. For a
service called `tandem-backbone` their names begin like those of our settings, and for one called
`tandem` or `tandem-metrics` some are the very names: `TANDEM_PORT=tcp://10.0.0.1:50050`.
"""

from __future__ import annotations

import re
from typing import Mapping

_URL = re.compile(r"(tcp|udp|sctp)://\S+")
_SERVICE = re.compile(r"_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$")
_PORT_PART = re.compile(
    r"_PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO|START|PORT_START|PORT_END|END))?$"
)
_LINKED_VARIABLE = re.compile(r"(?P<link>.+?)_ENV_")


def is_injected(name: str, environment: Mapping[str, str]) -> bool:
    """Whether a scheduler has set a variable, by its name and value.

    Args:
        name: in capitals.
        environment: holds its value, and what else the scheduler has set.
    """
    value = environment[name]
    if _SERVICE.search(name) or _PORT_PART.search(name):
        return True
    if name.endswith("_PORT"):
        return _URL.fullmatch(value) is not None
    if name.endswith("_NAME"):
        return _is_link(name, value)
    linked = _LINKED_VARIABLE.match(name)
    if linked is None:
        return False
    link = f"{linked['link']}_NAME"
    return _is_link(link, environment.get(link, ""))


def _is_link(name: str, value: str) -> bool:
    """Whether this is Docker's `THE_ALIAS_NAME=/container/the-alias`.

    `THE_ALIAS_ENV_...` are then the linked container's own variables.
    """
    container, _, alias = value.rpartition("/")
    return container.startswith("/") and f"{alias.upper().replace('-', '_')}_NAME" == name

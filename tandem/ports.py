"""Free ports, chosen before the processes that will listen on them exist.

A backbone has to be told the transformers' addresses; with ports chosen beforehand all services
start at once. Another program could take such a port in the meantime. That is as good as excluded
by choosing below the range that systems draw from for outgoing connections and for port 0, and
at random; if it happens all the same, the service says that it cannot listen and ends.
"""

import random
import socket

_RANGE = range(15_000, 32_000)
_TRIES = 1000


def free_ports(count: int, host: str) -> list[int]:
    """Distinct ports that nothing listens on.

    Raises:
        OSError: there are not that many, or `host` is no address of this machine.
    """
    chosen: list[int] = []
    for port in random.sample(_RANGE, _TRIES):
        if len(chosen) == count:
            break
        if _is_free(port, host):
            chosen.append(port)
    if len(chosen) < count:
        raise OSError(f"no {count} free ports on {host}")
    return chosen


def _is_free(port: int, host: str) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True

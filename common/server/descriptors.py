"""File descriptors: as many as the system allows, and connections fewer than those."""

from __future__ import annotations

import resource

# More would be of no use, and containers may allow a billion.
_MOST = 65_536
# For files, the metrics, connections to other services.
_KEPT = 256


def raise_file_limit() -> None:
    """Raise this process's soft limit on open files to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def max_connections() -> int:
    """Connections that a server may take, so that descriptors are left for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _MOST if soft == resource.RLIM_INFINITY else min(soft, _MOST)
    return max(files // 2, files - 2 * _KEPT)

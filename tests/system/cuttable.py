"""A link that can be cut: a network namespace behind a veth pair; Linux, root, iproute2."""

import os
import shutil
import subprocess

from tests.harness import Place

# Of the range that RFC 2544 sets aside for measurements, so that no real network is hidden.
_NEAR, _FAR = "198.18.77.1", "198.18.77.2"
# Of nobody: what is sent there is lost without a word, as on a link that is cut.
_NOBODY = "02:00:00:00:00:99"


def why_not() -> str:
    """Why there can be no such link here; empty when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    return "" if shutil.which("ip") else "there is no iproute2 here"


class CuttableLink:
    """Two places and the link between them; a context manager.

    Attributes:
        near: this process's own network, where its clients are as well.
        far: a network namespace of its own.
    """

    def __init__(self) -> None:
        own = os.getpid()
        self._namespace = f"tandem-far-{own}"
        self._device = f"tandem{own}"
        self.near = Place(_NEAR)
        self.far = Place(_FAR, ("ip", "netns", "exec", self._namespace))

    def __enter__(self) -> "CuttableLink":
        try:
            _ip("netns", "add", self._namespace)
            far = ("peer", "name", self._device, "netns", self._namespace)
            _ip("link", "add", "name", self._device, "type", "veth", *far)
            for address, network in ((_NEAR, ()), (_FAR, ("-n", self._namespace))):
                _ip(*network, "address", "add", f"{address}/30", "dev", self._device)
                _ip(*network, "link", "set", self._device, "up")
            _ip("-n", self._namespace, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # The pair goes with the namespace, once no process is in it any more.
        subprocess.run(["ip", "link", "delete", self._device], capture_output=True)
        subprocess.run(["ip", "netns", "delete", self._namespace], capture_output=True)

    def cut(self) -> None:
        """From now on packets vanish, in both directions."""
        nobody = ("lladdr", _NOBODY, "dev", self._device, "nud", "permanent")
        _ip("neighbour", "replace", _FAR, *nobody)
        _ip("-n", self._namespace, "neighbour", "replace", _NEAR, *nobody)

    def restore(self) -> None:
        _ip("neighbour", "delete", _FAR, "dev", self._device)
        _ip("-n", self._namespace, "neighbour", "delete", _NEAR, "dev", self._device)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

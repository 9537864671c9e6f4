"""Names that only some processes can look up, by a DNS server of the test's own; Linux, root."""

import errno
import os
import random
import shutil
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import List, Sequence, Type

from tests.harness import Place

# A resolver asks at this port alone, so each server has an address of its own on this machine.
_PORT = 53
_TRIES = 100
_SERVED, _NO_SUCH_NAME, _REFUSED = 0, 3, 5
_TYPE_A = 1
_RESOLV_CONF = "nameserver {}\noptions timeout:1 attempts:1\n"
# For the resolver's files alone, so that the processes share all else with this one.
_MOUNT = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


def why_not() -> str:
    """Why there can be no such names here; empty when there can."""
    if os.geteuid() != 0:
        return "a DNS server and a mount namespace need root"
    if not shutil.which("unshare"):
        return "there is no util-linux here"
    mount = ["unshare", "-m", "sh", "-c", _MOUNT, "/dev/null", "true"]
    return "" if subprocess.run(mount, capture_output=True).returncode == 0 else "mounts fail here"


class NameServer:
    """Answers for one name; a context manager.

    Attributes:
        name: that it knows.
        hosts: addresses of IPv4 that the name has; each answer has them in another order. Without
            any there is no such name.
        is_broken: whether it refuses to answer.
        asked: how often the name was asked for.
        place: where a process looks names up here.
    """

    def __init__(self, name: str, hosts: List[str]) -> None:
        self.name = name
        self.hosts = hosts
        self.is_broken = False
        self.asked = 0
        self._folder = tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name) / "resolv.conf"
        self.place = Place("127.0.0.1", ("unshare", "-m", "sh", "-c", _MOUNT, str(self._file)))

    def __enter__(self) -> "NameServer":
        names = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                question, sender = self.request
                sender.sendto(names._answer(question), self.client_address)

        self._server = _server_somewhere(Handler)
        self._file.write_text(_RESOLV_CONF.format(self._server.server_address[0]))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()

    def _answer(self, question: bytes) -> bytes:
        labels, end = [], 12
        while question[end]:
            labels.append(question[end + 1 : end + 1 + question[end]].decode())
            end += 1 + question[end]
        (kind,) = struct.unpack(">H", question[end + 1 : end + 3])
        asked = question[12 : end + 5]
        if ".".join(labels).lower() != self.name or not self.hosts:
            return _message(question, asked, _NO_SUCH_NAME)
        if self.is_broken:
            return _message(question, asked, _REFUSED)
        self.asked += kind == _TYPE_A
        hosts = random.sample(self.hosts, len(self.hosts)) if kind == _TYPE_A else []
        records = [
            struct.pack(">HHHIH", 0xC00C, _TYPE_A, 1, 0, 4) + socket.inet_aton(host)
            for host in hosts
        ]
        return _message(question, asked, _SERVED, records)


def _server_somewhere(handler: Type[socketserver.BaseRequestHandler]) -> socketserver.UDPServer:
    """A server at an address of the loopback where no other is, of another run of tests say."""
    for _ in range(_TRIES):
        address = "127.{}.{}.{}".format(*(random.randint(1, 254) for _ in range(3)))
        try:
            return socketserver.UDPServer((address, _PORT), handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise RuntimeError(f"port {_PORT} is taken at {_TRIES} addresses")


def _message(question: bytes, asked: bytes, code: int, records: Sequence[bytes] = ()) -> bytes:
    # An answer, as asked for with recursion, which is available.
    flags = 0x8180 | code
    return (
        question[:2] + struct.pack(">5H", flags, 1, len(records), 0, 0) + asked + b"".join(records)
    )

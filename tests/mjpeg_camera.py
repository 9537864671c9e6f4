"""A network camera: motion JPEG over HTTP, as most of them speak it, with real ones' faults."""

import socket
import threading
from contextlib import contextmanager, suppress

import cv2

from tests.unit.tandem.factories import pixels

_HEADER = (
    b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n"
    b"Connection: close\r\n\r\n"
)


def jpeg(seed=0, height=48, width=64):
    return cv2.imencode(".jpg", pixels(height, width, seed))[1].tobytes()


class MjpegCamera:
    """Serves what each connection is to see, in turn; the last one's again and again.

    Attributes:
        connections: how many there have been.
    """

    def __init__(self, *scripts):
        """Scripts: of one connection each: bytes are one picture, a number is a pause (seconds),
        "mute" keeps the connection and sends nothing more, "trickle" a byte now and then."""
        self._scripts = scripts
        self._ended = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.connections = 0
        self.connected = threading.Condition()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self):
        return f"http://admin:geheim@127.0.0.1:{self.port}/live?password=secret1"

    def close(self):
        self._ended.set()
        # A listener that another thread waits for ends only so.
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self):
        while not self._ended.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with self.connected:
                script = self._scripts[min(self.connections, len(self._scripts) - 1)]
                self.connections += 1
                self.connected.notify_all()
            threading.Thread(target=self._play, args=(connection, script), daemon=True).start()

    def _play(self, connection, script):
        with suppress(OSError), connection:
            connection.recv(65536)
            connection.sendall(_HEADER)
            for step in script:
                if isinstance(step, bytes):
                    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                    connection.sendall(head % len(step) + step + b"\r\n")
                elif step == "mute":
                    self._ended.wait()
                elif step == "trickle":
                    while not self._ended.wait(0.2):
                        connection.sendall(b"-")
                else:
                    self._ended.wait(step)


@contextmanager
def camera(*scripts):
    running = MjpegCamera(*scripts)
    try:
        yield running
    finally:
        running.close()

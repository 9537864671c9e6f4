"""Network cameras: motion JPEG over HTTP, and H.264 over RTSP, with the faults of real ones."""

import base64
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from fractions import Fraction

import av
import cv2

from tests.unit.tandem.factories import pixels

_HEADER = (
    b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n"
    b"Connection: close\r\n\r\n"
)
_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\na=control:*\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1%s\r\n"
    "a=control:track1\r\n"
)
_SETS = (7, 8)
_TICKS_PER_SECOND = 90_000


def jpeg(seed=0, height=48, width=64):
    return cv2.imencode(".jpg", pixels(height, width, seed))[1].tobytes()


class NetworkCamera:
    """Listens; what it does with a connection is `_talk`'s.

    Attributes:
        connections: how many there have been.
    """

    def __init__(self):
        self._ended = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.connections = 0
        self.connected = threading.Condition()
        threading.Thread(target=self._serve, daemon=True).start()

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
                number = self.connections
                self.connections += 1
                self.connected.notify_all()
            threading.Thread(target=self._serve_one, args=(connection, number), daemon=True).start()

    def _serve_one(self, connection, number):
        with suppress(OSError), connection:
            self._talk(connection, number)


class MjpegCamera(NetworkCamera):
    """Serves what each connection is to see, in turn; the last one's again and again."""

    def __init__(self, *scripts):
        """Scripts: of one connection each: bytes are one picture, a number is a pause (seconds),
        "mute" keeps the connection and sends nothing more, "trickle" a byte now and then."""
        self._scripts = scripts
        super().__init__()

    @property
    def url(self):
        return f"http://admin:geheim@127.0.0.1:{self.port}/live?password=secret1"

    def _talk(self, connection, number):
        connection.recv(65536)
        connection.sendall(_HEADER)
        for step in self._scripts[min(number, len(self._scripts) - 1)]:
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


class RtspCamera(NetworkCamera):
    """Speaks RTSP (RFC 2326), H.264 over TCP (RFC 6184), at 20 frames a second.

    After its frames it hangs up, or goes mute if it is told.
    """

    def __init__(
        self, frames, *, damaged=(), mute=False, group=1, starts=(0,), sets_in_sdp=False, **encoder
    ):
        """Damaged: numbers of frames whose picture data is overwritten; group: frames from one key
        frame to the next; starts: the first frame of each connection, in turn; sets_in_sdp:
        parameter sets come before the stream, and not in it."""
        self._units = _encoded(frames, damaged, group, encoder)
        self._mute = mute
        self._starts = starts
        self._sdp = _SDP % ""
        if sets_in_sdp:
            sets = [unit for unit in self._units[0] if unit[0] & 0x1F in _SETS]
            told = ",".join(base64.b64encode(each).decode() for each in sets)
            self._sdp = _SDP % f";sprop-parameter-sets={told}"
            self._units = [
                [unit for unit in units if unit[0] & 0x1F not in _SETS] for units in self._units
            ]
        super().__init__()

    @property
    def url(self):
        return f"rtsp://admin:geheim@127.0.0.1:{self.port}/live"

    def _talk(self, connection, number):
        file = connection.makefile("rb")
        while request := file.readline():
            headers = {}
            while line := file.readline().strip():
                name, _, value = line.partition(b":")
                headers[name.lower()] = value.strip().decode()
            method, body, more = request.split()[0].decode(), "", ""
            if method == "DESCRIBE":
                body, more = self._sdp, "Content-Type: application/sdp\r\n"
            elif method == "SETUP":
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            elif method == "OPTIONS":
                more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {headers[b'cseq']}\r\nSession: 1\r\n{more}"
            answer += f"Content-Length: {len(body)}\r\n\r\n{body}"
            connection.sendall(answer.encode())
            if method == "PLAY":
                self._play(connection, self._starts[min(number, len(self._starts) - 1)])
                return

    def _play(self, connection, first):
        sequence = 0
        for number, units in enumerate(self._units[first:]):
            for unit in units:
                marker = 0x80 if unit is units[-1] else 0
                time = number * _TICKS_PER_SECOND // 20
                packet = struct.pack(">BBHII", 0x80, marker | 96, sequence, time, 1) + unit
                connection.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                sequence += 1
            if self._ended.wait(0.05):
                return
        if self._mute:
            self._ended.wait()


def _encoded(frames, damaged, group, options):
    """NAL units of each frame."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 20), Fraction(20)
    encoder.options = {
        "tune": "zerolatency",
        "g": str(group),
        "sc_threshold": "0",
        "x264-params": "slices=1:sliced-threads=0",
        **options,
    }
    packets = []
    for number in range(frames):
        picture = av.VideoFrame.from_ndarray(pixels(48, 64, seed=number), format="bgr24")
        picture.pts = number
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    units = [_split(bytes(packet)) for packet in packets]
    for number in damaged:
        picture = units[number][-1]
        units[number][-1] = picture[:8] + b"\x55" * (len(picture) - 8)
    return units


def _split(stream):
    parts = stream.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part for part in parts if part]


@contextmanager
def running(one):
    try:
        yield one
    finally:
        one.close()


def camera(*scripts):
    return running(MjpegCamera(*scripts))


def rtsp_camera(frames, **more):
    return running(RtspCamera(frames, **more))

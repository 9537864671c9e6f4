"""Gateways with doors for single pictures, and who calls them over HTTP."""

import json
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPMessage
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.harness import ServiceProcess
from tests.waiting import PATIENCE_SECONDS

FREE_PORTS = ("--port", "0", "--http-port", "0", "--metrics-port", "0")


@contextmanager
def gateway_of(address, *arguments):
    """A gateway of the orchestrator at this address."""
    gateway = ServiceProcess("services.gateway", *FREE_PORTS, "--orchestrator", address, *arguments)
    try:
        gateway.announcement  # noqa: B018 - waits until it is healthy
        yield gateway
    finally:
        gateway.close()


class Answer(NamedTuple):
    """Of an HTTP request."""

    status: int
    headers: HTTPMessage
    content: bytes

    def json(self):
        return json.loads(self.content)


class Caller:
    """Makes HTTP requests to a gateway, each on a connection of its own."""

    def __init__(self, gateway):
        self._where = urlsplit(gateway.announcement["http"])

    def connect(self):
        return HTTPConnection(self._where.hostname, self._where.port, timeout=PATIENCE_SECONDS)

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, content=b"", headers=None):
        return self.request("POST", path, content, headers)

    def request(self, method, path, content=None, headers=None):
        """Content that comes in parts is sent without telling its length."""
        connection = self.connect()
        try:
            connection.request(method, path, content, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

"""A relay before a server that others wrote: what goes over the wire, as it is."""

import contextlib
import json
import re
import socket
import socketserver
import threading
from collections.abc import Iterator

HEAD = re.compile(rb"(?:[^\r\n]+\r\n)+\r\n")
LENGTH = re.compile(rb"^content-length: (\d+)", re.IGNORECASE | re.MULTILINE)


class Relay(socketserver.ThreadingTCPServer):
    """Passes connections on to the server as they are, and keeps what goes over them."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.to = ("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.kept: list[tuple[bytearray, bytearray]] = []

    def exchanges(self) -> list[tuple[dict, bytes, bytes]]:
        """The JSON of each request that was answered, and the head and the body of the answer."""
        pairs = [
            (json.loads(request), head, reply)
            for up, down in self.kept
            # A client that was killed leaves requests without an answer.
            for (_, request), (head, reply) in zip(_parts(up), _parts(down), strict=False)
            if request
        ]
        self.kept.clear()
        return pairs


@contextlib.contextmanager
def relayed(port: int) -> Iterator[Relay]:
    with Relay(port) as relay:
        serving = threading.Thread(target=relay.serve_forever, args=(0.01,))
        serving.start()
        yield relay
        relay.shutdown()
        serving.join()


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        up, down = bytearray(), bytearray()
        self.server.kept.append((up, down))
        with socket.create_connection(self.server.to) as server:
            back = threading.Thread(target=_pass_on, args=(server, self.request, down))
            back.start()
            _pass_on(self.request, server, up)
            back.join()


def _pass_on(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            kept += data
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _parts(stream: bytearray) -> list[tuple[bytes, bytes]]:
    """Heads and bodies of the whole messages that went one way."""
    parts, at = [], 0
    while head := HEAD.match(stream, at):
        length = LENGTH.search(head[0])
        end = head.end() + (int(length[1]) if length else 0)
        if end > len(stream):
            break
        parts.append((head[0], bytes(stream[head.end() : end])))
        at = end
    return parts

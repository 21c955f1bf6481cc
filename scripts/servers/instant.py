"""A server that answers every completion at once, with nothing, to measure what an audit itself takes.

    python scripts/servers/instant.py        # prints its address, serves until its standard input ends
"""

from __future__ import annotations

import json
import socket
import sys
import threading

ANSWER = json.dumps({"model": "none", "choices": [{"text": " nothing at all here", "finish_reason": "length"}]}).encode()
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER


def serve(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = b""
    while True:
        while b"\r\n\r\n" not in received:
            more = connection.recv(65536)
            if not more:
                return
            received += more
        head, _, rest = received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
        while len(rest) < length:
            rest += connection.recv(65536)
        received = rest[length:]
        connection.sendall(WHOLE)


def accept(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    print(f"listening http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    sys.stdin.read()


main()

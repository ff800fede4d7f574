"""A TCP proxy before a server, which resets connections when it is told to."""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress
from typing import Self

_AT_ONCE = struct.pack("ii", 1, 0)


class Proxy:
    """Passes bytes on to `port` of this host.

    `cut_after` bytes from a client its connection is reset, on both sides. At the `lost`-th COMMIT the client's side is
    reset while the server gets the message: what comes of it is not known to the client.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self.arm()

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._accept)
        thread.start()
        self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)

    def arm(self, *, cut_after: int | None = None, lost: int | None = None) -> None:
        """What is to happen to the connections of from now on; `passed`, `commits` and `resets` count anew."""
        self.cut_after, self.lost = cut_after, lost
        self.passed = self.commits = self.resets = 0

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to)) as server, suppress(OSError):
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if server in ready:
                    if not (answer := server.recv(65536)):
                        return
                    client.sendall(answer)
                if client in ready and not self._pass_on(client, server):
                    return

    def _pass_on(self, client: socket.socket, server: socket.socket) -> bool:
        """Whether the connection goes on."""
        if not (data := client.recv(4096)):
            return False
        self.passed += len(data)
        self.commits += b"COMMIT\0" in data
        if self.cut_after is not None and self.passed >= self.cut_after:
            self._reset(client)
            self._reset(server)
            return False
        if b"COMMIT\0" in data and self.commits == self.lost:
            self._reset(client)
            server.sendall(data)  # it is done before the server sees that nobody is there any more
            return False
        server.sendall(data)
        return True

    def _reset(self, end: socket.socket) -> None:
        self.resets += 1
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        end.close()

"""A gate before a server: open, shut (connections are reset and refused), or silent (bytes wait on either side)."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import Self

_AT_ONCE = struct.pack("ii", 1, 0)


class Gate:
    """Passes bytes between who connects to `port` and a server's port."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._is_shut = False
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)

    def open(self) -> None:
        """Let all pass again."""
        self._is_shut = False
        self._flowing.set()

    def shut(self) -> None:
        """Reset what is connected, and whoever comes."""
        self._is_shut = True
        self._flowing.set()
        while self._ends:
            _reset(self._ends.pop())

    def silence(self) -> None:
        """Say nothing more, and take no more."""
        self._flowing.clear()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._is_shut:
                _reset(client)
                continue
            server = socket.create_connection(("127.0.0.1", self._to))
            self._ends += [client, server]
            self._start(self._pass_on, client, server)
            self._start(self._pass_on, server, client)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        end.shutdown(socket.SHUT_RDWR)
    end.close()

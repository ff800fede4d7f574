"""A forward proxy on loopback, as small as one can be, and TLS in front of a server that has none."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@dataclass
class ForwardProxy:
    """`url` to be reached by, and what it was asked: (method, target, whether the credentials were right)."""

    port: int
    credentials: str = ""
    seen: list[tuple[str, str, bool]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.credentials}{'@' if self.credentials else ''}127.0.0.1:{self.port}"


@contextmanager
def forward_proxy(hosts: Mapping[str, int], credentials: str = "") -> Iterator[ForwardProxy]:
    """A proxy that knows `hosts` by name, each a port of this machine, and nothing else of the world.

    `credentials` are `user:password`, percent-encoded; without them nobody is asked for any.
    """
    from urllib.parse import unquote

    wanted = "Basic " + base64.b64encode(unquote(credentials).encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def may_pass(self, host: str | None) -> int | None:
            is_known = not credentials or self.headers.get("Proxy-Authorization") == wanted
            world.seen.append((self.command, self.path, is_known))
            world.headers.append(dict(self.headers))
            if not is_known:
                self.refuse(407)
            elif host not in hosts:
                self.refuse(502)
            return hosts.get(host or "") if is_known else None

        def refuse(self, status: int) -> None:
            self.send_response_only(status)
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.close_connection = True

        def do_GET(self) -> None:
            target = urlsplit(self.path)
            if (port := self.may_pass(target.hostname)) is None:
                return
            onward = http.client.HTTPConnection("127.0.0.1", port)
            headers = {n: v for n, v in self.headers.items() if not n.lower().startswith("proxy-")}
            onward.request(self.command, target._replace(scheme="", netloc="").geturl(), headers=headers)
            answer = onward.getresponse()
            body = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            onward.close()

        def do_CONNECT(self) -> None:
            if (port := self.may_pass(self.path.partition(":")[0])) is None:
                return
            self.send_response_only(200)
            self.end_headers()
            with socket.create_connection(("127.0.0.1", port)) as onward:
                pump(self.connection, onward)
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    world = ForwardProxy(server.server_port, credentials)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def tls_front(port: int, folder: Path, *names: str) -> Iterator[tuple[int, Path]]:
    """A TLS server for `names` before the plain one at `port`: its own port, and the file of who vouches for it."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    _certify(certificate, key, names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with (
            suppress(OSError),
            context.wrap_socket(connection, server_side=True) as inside,
            socket.create_connection(("127.0.0.1", port)) as onward,
        ):
            pump(inside, onward)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], certificate
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def pump(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side is done."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=carry, args=(other, one), daemon=True)
    back.start()
    carry(one, other)
    back.join()


def _certify(certificate: Path, key_file: Path, names: tuple[str, ...]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in names]
    alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

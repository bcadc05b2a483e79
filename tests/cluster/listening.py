"""What listens, and whether strangers are let in."""

import socket
import ssl
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from distributed import Security

from tomodask.cluster.certificates import make_certificates


@dataclass(frozen=True)
class Listener:
    """A listening socket and the process that it belongs to."""

    ip: str
    port: int
    name: str

    def refuses_strangers(self, key_of_another: Security) -> None:
        """Nothing is answered in the clear, and no TLS without this run's own key is let in."""
        self._answers_nothing_in_the_clear()
        without, other = ssl.create_default_context(), ssl.create_default_context()
        held = key_of_another.get_tls_config_for_role("client")
        other.load_cert_chain(held["cert"], held["key"])
        for context in (without, other):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with socket.create_connection((self.ip, self.port), timeout=10) as plain:
                assert self._is_turned_away(plain, context), f"{self} lets strangers in"

    def _is_turned_away(self, plain: socket.socket, context: ssl.SSLContext) -> bool:
        """Whether the other side speaks TLS, and ends it for want of a certificate of the run."""
        try:
            with context.wrap_socket(plain) as wrapped:
                # in TLS 1.3 a server asks for the client's certificate after the client is done
                assert wrapped.version() in ("TLSv1.2", "TLSv1.3")
                return wrapped.recv(1) == b""
        except (ssl.SSLError, ConnectionError) as refused:
            return "WRONG_VERSION_NUMBER" not in str(refused)  # said where no TLS is spoken

    def _answers_nothing_in_the_clear(self) -> None:
        with socket.create_connection((self.ip, self.port), timeout=10) as plain:
            plain.sendall(b"GET /info/main/workers.html HTTP/1.0\r\n\r\n")
            told = b""
            try:
                while piece := plain.recv(4096):
                    told += piece
            except ConnectionError:
                pass
        # a TLS alert is 7 bytes, the first of them 21; Dask in the clear begins by itself
        assert len(told) <= 7, f"{self} answers in the clear: {told[:40]!r}"
        assert not told or told[0] == 21, f"{self} answers in the clear: {told[:40]!r}"


def listeners(processes: Iterable[psutil.Process]) -> list[Listener]:
    """All sockets on which some processes listen, of IPv4 and of IPv6."""
    found = []
    for process in processes:
        try:
            connections = process.net_connections(kind="inet")
            name = " ".join(process.cmdline())[:90]
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        found += [
            Listener(connection.laddr.ip, connection.laddr.port, name)
            for connection in connections
            if connection.status == psutil.CONN_LISTEN
        ]
    return found


def main(arguments: Sequence[str]) -> None:
    """Knock where some processes listen (ids), with a folder for the key of another run.

    For a network namespace, into which only a process of its own comes. Prints the addresses.
    """
    key = make_certificates(Path(arguments[0]) / "another" / "tls")
    found = listeners(psutil.Process(int(text)) for text in arguments[1:])
    for listener in found:
        listener.refuses_strangers(key)
    print(*(listener.ip for listener in found))


if __name__ == "__main__":
    main(sys.argv[1:])

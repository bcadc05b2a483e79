"""Who listens where, and what it speaks."""

import contextlib
import socket
import ssl
import sys

import psutil
from distributed import Security


def listening(*processes: psutil.Process) -> set[tuple[str, int]]:
    """Addresses and ports on which processes or their children take connections."""
    found = set()
    for process in processes:
        for each in [process, *process.children(recursive=True)]:
            for connection in each.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add((connection.laddr.ip, connection.laddr.port))
    return found


def stranger_is_refused(address: str, port: int) -> bool:
    """Whether TLS is spoken there, and nothing else is to who has no certificate of the run.

    Who speaks in the clear, who has none, and who has that of another run.
    """
    another = Security.temporary().get_connection_args("client")["ssl_context"]
    contexts = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), another)
    return _is_silent_in_the_clear(address, port) and all(
        _is_turned_away(address, port, context) for context in contexts
    )


def _is_turned_away(address: str, port: int, context: ssl.SSLContext) -> bool:
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain) as secure:
                secure.sendall(bytes(100))
                return secure.recv(1) == b""
        except ConnectionError:
            return True
        except ssl.SSLError as error:  # TLS 1.3 asks for the certificate after the handshake
            told = ("CERTIFICATE_REQUIRED", "EOF", "UNKNOWN_CA", "DECRYPT_ERROR")
            return any(word in str(error) for word in told)


def _is_silent_in_the_clear(address: str, port: int) -> bool:
    """Nothing comes back but the 7 bytes by which TLS says that it doesn't understand.

    Dask in the clear speaks first, and its web servers answer.
    """
    answer = b""
    with socket.create_connection((address, port), timeout=10) as plain:
        plain.sendall(b"GET /info/main/workers.html HTTP/1.0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while piece := plain.recv(4096):
                answer += piece
    return len(answer) <= 7 and answer[:1] in (b"", b"\x15")


if __name__ == "__main__":  # within a network namespace, of the processes that are named
    places = listening(*(psutil.Process(int(text)) for text in sys.argv[1:]))
    for place in places:
        assert stranger_is_refused(*place), place
    print(*sorted({address for address, _ in places}))

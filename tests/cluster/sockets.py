"""Who listens where, and what it speaks."""

import socket
import ssl

import psutil


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
    """Whether TLS is spoken there, and nothing else is to who has no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain) as secure:
                secure.sendall(bytes(100))
                return secure.recv(1) == b""
        except ConnectionError:
            return True
        except ssl.SSLError as error:  # TLS 1.3 asks for the certificate after the handshake
            return "CERTIFICATE_REQUIRED" in str(error) or "EOF" in str(error)

"""Two hosts on one machine: network namespaces with a cable between them, and the disk shared."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

IP = "ip"


def missing() -> str | None:
    """Why this machine can't play two hosts; None where it can."""
    if shutil.which(IP) is None:
        return "iproute2 (`ip`) is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    return None


def ip(*words: object) -> str:
    done = subprocess.run([IP, *map(str, words)], capture_output=True, text=True, check=True)
    return done.stdout


@dataclass(frozen=True)
class Host:
    """A network namespace with one address, and no way out but the cable."""

    name: str
    address: str

    @property
    def interface(self) -> str:
        return f"{self.name}0"

    @property
    def prefix(self) -> list[str]:
        """Before a command, runs it there."""
        return [IP, "netns", "exec", self.name]

    def processes(self) -> list[int]:
        """Ids of all that runs there."""
        return [int(line) for line in ip("netns", "pids", self.name).split()]

    def crash(self) -> None:
        """As if the power went: nothing is said to anybody any more."""
        ip("netns", "exec", self.name, IP, "link", "set", self.interface, "down")
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, 9)

    def cable(self, state: str) -> None:
        """Pull it out ("down") or plug it in ("up")."""
        ip("netns", "exec", self.name, IP, "link", "set", self.interface, state)


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Both for the length of a `with` block; what still runs there is killed at its end.

    Raises
    ------
    subprocess.CalledProcessError : the kernel allows no namespaces here.
    """
    mark, net = os.getpid() % 10000, f"10.{os.getpid() % 200 + 20}.7"
    hosts = (Host(f"ta{mark}", f"{net}.1"), Host(f"tb{mark}", f"{net}.2"))
    try:
        for host in hosts:
            ip("netns", "add", host.name)
            ip("netns", "exec", host.name, IP, "link", "set", "lo", "up")
        ends = [("name", host.interface, "netns", host.name) for host in hosts]
        ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for host in hosts:
            there = ("netns", "exec", host.name, IP)
            ip(*there, "address", "add", f"{host.address}/24", "dev", host.interface)
            ip(*there, "link", "set", host.interface, "up")
        yield hosts
    finally:
        for host in hosts:
            if Path("/run/netns", host.name).exists():
                with suppress(subprocess.CalledProcessError):
                    host.crash()
                time.sleep(0.1)
                subprocess.run([IP, "netns", "delete", host.name], check=False)

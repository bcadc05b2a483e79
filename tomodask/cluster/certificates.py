"""Keys of one run: its scheduler, driver and workers trust each other and nobody else.

In files that only their owner can read, as batch jobs can be handed paths but no secrets: a job
script can be read by others while it waits in the queue.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distributed import Security

from tomodask.errors import InputError

CERTIFICATE, KEY = "certificate.pem", "key.pem"


@contextmanager
def certificates(folder: Path) -> Iterator[Security]:
    """A fresh certificate with its key, in files in `folder` for the length of a `with` block."""
    made = make_certificates(folder)
    try:
        yield made
    finally:
        remove_certificates(folder)


def make_certificates(folder: Path) -> Security:
    """Write a fresh certificate and key (0600) into `folder` (0700), which is made.

    What a run that was killed has left there is replaced.
    """
    fresh = Security.temporary()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)  # mkdir's mode is cut by the umask, and the folder may be older
    _write(folder / CERTIFICATE, str(fresh.tls_ca_file))
    _write(folder / KEY, str(fresh.tls_worker_key))
    return load_certificates(folder)


def load_certificates(folder: Path) -> Security:
    """The certificate that a run has written into `folder`.

    Raises
    ------
    InputError : there is none, or it may not be read: it belongs to another user.
    """
    certificate, key = folder / CERTIFICATE, folder / KEY
    for path in (certificate, key):
        if not os.access(path, os.R_OK):
            raise InputError(
                f"{path} is not there, or belongs to another user: the run that it belongs to has "
                "ended, or was started by somebody else"
            )
    files = {"tls_ca_file": str(certificate)}
    for role in ("client", "scheduler", "worker"):
        files |= {f"tls_{role}_cert": str(certificate), f"tls_{role}_key": str(key)}
    return Security(require_encryption=True, **files)


def remove_certificates(folder: Path) -> None:
    """Remove what `make_certificates` made."""
    for name in (CERTIFICATE, KEY):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it, or it is gone
        folder.rmdir()


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # never through a link, or into a file that others can read
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)

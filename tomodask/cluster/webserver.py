"""Dask's web servers listen without TLS, workers' even beyond the machine: ours are closed.

Without pages to show they would answer every question with "not found", but they would be there.
"""

from __future__ import annotations

from typing import Any


def dask_setup(worker: Any) -> None:
    """Called by Dask in each worker process (as a preload), right after it has begun to listen."""
    worker.http_server.stop()


async def close_web_server(scheduler: Any) -> None:
    """Of a scheduler in this process; on its own event loop."""
    scheduler.http_server.stop()

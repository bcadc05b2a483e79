"""RUN: blocks on a Dask cluster, through a bounded window, with retries."""

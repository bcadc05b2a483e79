"""tomodask: X-ray tomography at scale. Chunked Zarr in, reconstructed OME-Zarr out, on Dask.

The public names load on first use (PEP 562), so that `import tomodask` stays quick.
"""

__version__ = "0.1.0"

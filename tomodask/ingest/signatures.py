"""Which format a file is in, by its first bytes."""

from __future__ import annotations

from pathlib import Path

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, both byte orders
OTHERS = {
    b"\xd0\xcf\x11\xe0": "an OLE file, as Xradia writes (.xrm, .txrm): export it as TIFF or HDF5",
    b"MATLAB": "a MATLAB file: save the projections as HDF5 or TIFF",
    b"\x89PNG": "a PNG image: tomodask reads TIFF",
    b"\xff\xd8\xff": "a JPEG image: its counts are lost, take the TIFF",
    b"\x93NUMPY": "a NumPy file: save the projections as HDF5, TIFF or Zarr",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"CDF": "a netCDF 3 file",
    b"SIMPLE": "a FITS file",
}


def is_hdf5(path: Path) -> bool:
    """Whether the file begins as HDF5, be it complete or not."""
    # A user block may come first; the signature then stands at a power of two from 512 on.
    with path.open("rb") as file:
        for offset in (0, 512, 1024, 2048, 4096, 8192):
            file.seek(offset)
            if file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:
                return True
    return False


def is_tiff(path: Path) -> bool:
    """Whether the file begins as a TIFF."""
    with path.open("rb") as file:
        return file.read(4) in TIFF_SIGNATURES


def looks_like(path: Path) -> str:
    """What a file that is not what it should be seems to be, for an error message."""
    if path.is_dir():
        return "a folder"
    with path.open("rb") as file:
        head = file.read(256)
    if not head:
        return "empty"
    if is_tiff(path):
        return "a TIFF"
    if is_hdf5(path):
        return "an HDF5 file"
    for signature, name in OTHERS.items():
        if head.startswith(signature):
            return name
    if head.isascii() and b"\0" not in head:
        return f"text that begins {head[:40].decode()!r}"
    return f"no format that tomodask knows; it begins with the bytes {head[:8].hex(' ')}"

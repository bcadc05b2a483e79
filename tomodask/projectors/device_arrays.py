"""Arrays of any library, where they are: seen by NumPy without a copy, and back again.

DLPack hands the memory over. What is on a GPU is never copied to the host behind one's back.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from tomodask.errors import DeviceError, GeometryError, InputError

HOST = (1, 3)  # kDLCPU and kDLCUDAHost of dlpack.h: memory that the CPU can read


def is_on_gpu(array: Any) -> bool:
    """Whether the memory of an array is that of a GPU."""
    if isinstance(array, np.ndarray):
        return False
    if hasattr(array, "__dlpack_device__"):
        return int(array.__dlpack_device__()[0]) not in HOST
    return hasattr(array, "__cuda_array_interface__")


def on_host(array: Any, what: str) -> np.ndarray:
    """An array in the host's memory as NumPy sees it, the memory shared.

    Raises
    ------
    InputError : torch would lose its gradient, or NumPy has no such numbers.
    """
    if isinstance(array, np.ndarray):
        return array
    if needs_gradient(array):
        raise InputError(
            f"{what} requires a gradient: A.autograd(x) passes it on, A(x.detach()) leaves it out"
        )
    if not hasattr(array, "__dlpack__"):
        return np.asarray(array)
    try:
        return np.from_dlpack(array.detach() if hasattr(array, "detach") else array)
    except (BufferError, RuntimeError, TypeError) as error:
        raise InputError(
            f"{what} of dtype {getattr(array, 'dtype', 'unknown')}: NumPy can't read it ({error}), "
            "turn it into float32"
        ) from error


def needs_gradient(array: Any) -> bool:
    """Whether torch follows what is done to this array."""
    if not getattr(array, "requires_grad", False):
        return False
    torch = sys.modules.get("torch")  # if this is its tensor, it is loaded
    return torch is not None and bool(torch.is_grad_enabled())


def like(array: Any, result: np.ndarray) -> Any:
    """A NumPy result as an array of the library that `array` is of, the memory shared."""
    if isinstance(array, np.ndarray) or not hasattr(array, "__dlpack__"):
        return result
    return array_namespace(array).from_dlpack(result)


def check_shape(found: tuple[int, ...], expected: tuple[int, ...], what: str) -> tuple[int, ...]:
    """The axes of a batch: those before the expected ones.

    Raises
    ------
    GeometryError : the last axes are not those expected.
    """
    batch = len(found) - len(expected)
    if batch < 0 or found[batch:] != expected:
        raise GeometryError(
            f"{what} of shape {found}: this operator takes {expected}, and the axes of a batch "
            "before"
        )
    return found[:batch]


def to_float32(array: np.ndarray, what: str) -> np.ndarray:
    """Real numbers of any kind as float32; the array itself if it is.

    Raises
    ------
    InputError : complex numbers, truths or no numbers at all.
    """
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} of dtype {array.dtype}: real numbers, best float32, are expected")
    return array.astype(np.float32, copy=False)


def check_out(out: Any, array: Any, shape: tuple[int, ...]) -> None:
    """Refuse an `out` that the result of `array` can't be written to as it is.

    Raises
    ------
    InputError : another library, shape or dtype.
    """
    same_library = isinstance(out, np.ndarray) == isinstance(array, np.ndarray)
    dtype = str(getattr(out, "dtype", "no array"))
    if same_library and tuple(out.shape) == shape and dtype.endswith("float32"):
        return
    raise InputError(
        f"out is a {type(out).__name__} of shape {tuple(getattr(out, 'shape', ()))} and dtype "
        f"{dtype}: {shape}, float32, of the library that the input is of ({type(array).__name__}) "
        "is expected"
    )


def refuse_gpu(what: str, backend: str, others: list[str]) -> DeviceError:
    """What to say of an array on a GPU that a backend can't reach."""
    able = f" or take a backend that runs there: {', '.join(others)}" if others else ""
    return DeviceError(
        f"{what} is on a GPU and the backend {backend!r} runs on the CPU: bring it to the host "
        f"(x.cpu() in torch, cupy.asnumpy(x) in CuPy){able}"
    )

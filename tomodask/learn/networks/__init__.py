"""Networks, one a file; each is loaded, and torch with it, when it is first asked for.

A network's options are a frozen dataclass whose `build(slices)` makes the torch module. 2D networks
take (batch, slices, y, x), odd neighbouring slices as channels, and give (batch, 1, y, x), the
middle slice; 3D networks take and give (batch, 1, z, y, x). Both are in units of the normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from tomodask.errors import MissingPackageError, RecipeError, nearest

if TYPE_CHECKING:
    from torch import nn

NETWORKS = {
    "unet": "tomodask.learn.networks.unet:UNet",
    "msdnet": "tomodask.learn.networks.msdnet:MSDNet",
    "dncnn": "tomodask.learn.networks.dncnn:DnCNN",
    "nano": "tomodask.learn.networks.nano:Nano",
}
DEFAULT_NETWORK = "unet"


class NetworkOptions(Protocol):
    """What every entry of `NETWORKS` promises.

    dims : 2 or 3. build : a new module with its first, random weights; InputError for slices that
    can't be.
    """

    dims: int

    def build(self, slices: int = 1) -> nn.Module: ...


def load_network(name: str) -> type[Any]:
    """The options' class of a network, by its name in `NETWORKS` or as "module:Class".

    Raises
    ------
    RecipeError : there is no such network.
    MissingPackageError : torch is not installed.
    """
    target = NETWORKS.get(name, name)
    module, colon, member = target.partition(":")
    if not colon:
        raise RecipeError(f"network {name!r} is unknown: {nearest(name, NETWORKS)}")
    try:
        return getattr(import_module(module), member)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise MissingPackageError("networks need torch: pip install 'tomodask[learn]'") from error


def make_network(choice: Mapping[str, Mapping[str, Any]], slices: int = 1) -> nn.Module:
    """A module from {name: {parameter: value}}, with its first weights."""
    ((name, parameters),) = choice.items()
    options: NetworkOptions = load_network(name)(**parameters)
    return options.build(slices)

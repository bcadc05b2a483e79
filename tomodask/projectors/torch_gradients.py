"""An operator as a function of torch's autograd: the gradient of A(x) is A.T, and of A.T(y) is A.

A is linear, so the gradient does not depend on x, nothing is kept for it, and it is as
differentiable as A itself: gradients of gradients follow.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from tomodask.errors import InputError


class LinearMap(Protocol):
    """What of an operator is needed here."""

    def __call__(self, x: Any) -> Any: ...

    @property
    def T(self) -> Any: ...  # noqa: N802  (the transpose of A)


def differentiable(A: LinearMap, x: Any) -> torch.Tensor:
    """A(x), float32, known to autograd; the gradient comes back in the dtype of x.

    Raises
    ------
    InputError : x is no tensor of torch.
    """
    if not isinstance(x, torch.Tensor):
        raise InputError(f"autograd needs a torch tensor, got {type(x).__name__}: A(x) takes it")
    return _Linear.apply(x, A)  # type: ignore[no-any-return, no-untyped-call]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, A: LinearMap) -> torch.Tensor:
        ctx.A = A
        result: torch.Tensor = A(x.detach())
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return differentiable(ctx.A.T, gradients[0]), None

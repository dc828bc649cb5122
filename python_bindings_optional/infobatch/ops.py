"""Functions on tensors of torch."""

from __future__ import annotations

from typing import Any

import torch


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, outputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weights)
        return outputs.view_as(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weights,) = ctx.saved_tensors
        (gradient,) = gradients
        rows = weights.view(-1, *[1] * (gradient.dim() - 1))
        return (gradient * rows).to(gradient.dtype), None


def scale_gradient(outputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Returns ``outputs`` as they are; on the way back each row of their gradient is multiplied by its
    weight. For losses that exist only reduced::

        weights = ib.observe(per_sample_score)
        loss = criterion(scale_gradient(outputs, weights), targets)

    The value of the loss stays the criterion's own. Where the criterion takes a mean of losses that do not
    depend on one another, the parameters' gradient is that of the weighted mean; where it couples the rows
    of a batch, approximately.

    Args:
        outputs: [B, ...] of any floating dtype and device.
        weights: [B] float32, on the same device; what ``observe`` returns for scores that are a tensor.

    Returns:
        A view of ``outputs``, same values, dtype and device. On the way back the gradient keeps its dtype.

    Raises:
        TypeError: no tensors.
        ValueError: other shapes.

    >>> outputs = torch.ones(2, 3, requires_grad=True)
    >>> scale_gradient(outputs, torch.tensor([1.0, 4.0])).sum().backward()
    >>> outputs.grad
    tensor([[1., 1., 1.],
            [4., 4., 4.]])
    """
    if not (isinstance(outputs, torch.Tensor) and isinstance(weights, torch.Tensor)):
        raise TypeError(
            f"scale_gradient: outputs and weights must be tensors, got {type(outputs).__name__} and "
            f"{type(weights).__name__}: observe returns a tensor for scores that are one"
        )
    if outputs.dim() < 1 or weights.dim() != 1 or weights.shape[0] != outputs.shape[0]:
        raise ValueError(
            f"scale_gradient: weights must be [B] for outputs of [B, ...], got {list(weights.shape)} and "
            f"{list(outputs.shape)}"
        )
    return _ScaleGradient.apply(outputs, weights)  # type: ignore[no-any-return,no-untyped-call]


__all__ = ["scale_gradient"]

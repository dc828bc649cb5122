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

    Args:
        outputs: [B, ...] of any floating dtype and device.
        weights: [B] float32, on the same device.

    Raises:
        ValueError: other shapes.
    """
    if outputs.dim() < 1 or weights.dim() != 1 or weights.shape[0] != outputs.shape[0]:
        raise ValueError(
            f"scale_gradient: weights must be [B] for outputs of [B, ...], got {list(weights.shape)} and "
            f"{list(outputs.shape)}"
        )
    return _ScaleGradient.apply(outputs, weights)  # type: ignore[no-any-return,no-untyped-call]


__all__ = ["scale_gradient"]

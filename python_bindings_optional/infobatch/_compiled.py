"""What a step needs inside ``torch.compile``. Imported only there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from . import _tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._tensors import TensorStep


def _prepare(device: str) -> bool:
    """Runs while a step is traced, once: tables must exist before a graph can refer to them. Those of every
    run are made, because a graph that named its run would serve that one alone."""
    from ._tensors import TensorStep

    TensorStep.compiled_on = torch.device(device)
    for step in list(TensorStep.all):
        step.make_tables(TensorStep.compiled_on)
    return True


def _update_in_order(step: TensorStep, losses: torch.Tensor, scores: Any, reduction: str) -> torch.Tensor:
    """An update without ids breaks the graph: it moves a cursor, for each value of which the step would
    be compiled anew."""
    return step.update(losses, None, scores, reduction)


def _observe_in_order(step: TensorStep, scores: torch.Tensor) -> torch.Tensor:
    """The same for `observe`."""
    return step.observe(scores)


def _record(losses: torch.Tensor, row: torch.Tensor, slots: torch.Tensor, scores: torch.Tensor) -> None:
    _tables.record(losses, row, slots, scores)


def _nothing(losses: torch.Tensor, row: torch.Tensor, slots: torch.Tensor, scores: torch.Tensor) -> None:
    """`_record` on tensors without values."""


_outside: Any = torch.compiler.disable
_constant: Any = torch.compiler.assume_constant_result
_operator: Any = torch.library.custom_op

prepare: Callable[[str], bool] = _constant(_prepare)
update_in_order: Callable[[TensorStep, torch.Tensor, Any, str], torch.Tensor] = _outside(_update_in_order)
observe_in_order: Callable[[TensorStep, torch.Tensor], torch.Tensor] = _outside(_observe_in_order)

# An operator of its own, since a graph in functional form would copy the whole table in each step.
record: Any = _operator("infobatch::record", mutates_args=("losses", "row"))(_record)
record.register_fake(_nothing)

__all__ = ["observe_in_order", "prepare", "record", "update_in_order"]

"""A run by ids, on the device of the losses and inside a compiled step.

The order of delivery needs a cursor, which is a number of the program: a compiled step would be compiled
anew for each of its values. Ids need none. An epoch's weights and losses stand in tables by id, of the
fixed size N + 2, so that a graph sees one shape and a step neither waits for the device nor copies from
it. Slot 0 stands for ids below 0, slot N + 1 for those beyond N - 1, slot i + 1 for sample i.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ._library import UNSEEN_BITS

if TYPE_CHECKING:
    from ._session import Plan, Session
    from ._step import ShareRows

# A loss in the table is (row of the epoch, from 1 on) * 2^32 + its bits as a signed number: the largest is
# that of the last row, on every device, whichever order a device takes the rows in. 0: none.
_ROW = 1 << 32

_NAN_BITS = 0x7FC00000


class Tables:
    """Weights and losses of the running epoch by id.

    Args:
        session: the run.
        device: where the losses are.

    Cost: 12 bytes a sample on the device.
    """

    def __init__(self, session: Session, device: torch.device) -> None:
        self._session = session
        size = session.size + 2
        self.device = device
        with torch.inference_mode(False):
            self.weights = torch.zeros(size, dtype=torch.float32, device=device)
            self.losses = torch.zeros(size, dtype=torch.int64, device=device)
            self.row = torch.full((), _ROW, dtype=torch.int64, device=device)
        #: That of the running epoch.
        self.plan: Plan | None = None
        #: Losses came since `collect`.
        self.dirty = False

    def begin(self, plan: Plan) -> None:
        """An epoch begins: its weights, and no losses. Written in place, so that a graph finds them."""
        host = torch.zeros(len(self.weights), dtype=torch.float32, device="cpu")
        ids, weights = _arrays(plan)
        host[ids + 1] = weights
        self.weights.copy_(host)
        self.plan = plan
        self.clear()

    def clear(self) -> None:
        """Forgets the losses."""
        self.losses.zero_()
        self.row.fill_(_ROW)
        self.dirty = False

    def slots(self, ids: torch.Tensor) -> torch.Tensor:
        """Where samples stand in the tables: [B] int64."""
        return ids.clamp(-1, self._session.size) + 1

    def collect(self) -> None:
        """Brings the losses to the engine: one copy, at the end of an epoch or where a state is saved.

        Raises:
            IndexError: ids outside the plan were observed. Their losses are dropped, all others are in.
        """
        plan = self.plan
        assert plan is not None
        bits = self.losses.to(torch.int32)  # the lower half
        bits = torch.where(bits == UNSEEN_BITS, _NAN_BITS, bits)
        bits = torch.where(self.losses == 0, UNSEEN_BITS, bits).to("cpu")
        ids, _ = _arrays(plan)
        found = bits[ids + 1]
        seen = found != UNSEEN_BITS
        numbers = ids[seen]
        losses = found[seen].view(torch.float32)
        weights = torch.empty_like(losses)
        outside = bits != UNSEEN_BITS
        outside[ids + 1] = False
        strangers = outside.nonzero().flatten() - 1
        try:
            self._session.observe_ids(losses.data_ptr(), numbers.data_ptr(), len(numbers), weights.data_ptr())
        except MemoryError:  # can be made again; whatever else is wrong stays wrong
            raise
        except Exception:
            self.clear()
            raise
        self.clear()
        if len(strangers):
            self._refuse(plan, int(strangers[0]), len(strangers))

    def _refuse(self, plan: Plan, first: int, count: int) -> None:
        size = self._session.size
        got = "a number below 0" if first < 0 else f"one beyond {size - 1}" if first >= size else str(first)
        raise IndexError(
            f"{self._session.name}.update: ids must be those of the plan of epoch {plan.epoch}, got {got}"
            f"{f' and {count - 1} more' if count > 1 else ''}: told at the end of the epoch, because a step "
            f"on {self.device} does not wait to look at them. Their losses weighed 0 and are not recorded"
        )


class RowsById:
    """What means by id divide by on several ranks, on the device of the losses (see ``_step.ShareRows``).

    Cost: 4 bytes a sample on the device.
    """

    def __init__(self, session: Session, device: torch.device) -> None:
        self._size = session.size
        self._ranks = session.ranks["size"]
        self.device = device
        with torch.inference_mode(False):
            self._weights = torch.zeros(session.size + 2, dtype=torch.float32, device=device)
            self._short = torch.full((2,), -1, dtype=torch.int64, device=device)
            self._missing = torch.zeros(2, dtype=torch.float32, device=device)

    def begin(self, share: ShareRows, plan: Plan) -> None:
        """An epoch begins. Written in place, so that a graph finds it."""
        host = torch.zeros(len(self._weights), dtype=torch.float32, device="cpu")
        ids, _ = _arrays(plan)
        from ._tensors import from_lent

        host[ids + 1] = from_lent(share.weights) / self._ranks
        self._weights.copy_(host)
        short = [id for id, _ in share.short_ids]
        missing = [count / self._ranks for _, count in share.short_ids]
        self._short.copy_(torch.tensor([*short, -1, -1][:2], dtype=torch.int64, device="cpu"))
        self._missing.copy_(torch.tensor([*missing, 0.0, 0.0][:2], dtype=torch.float32, device="cpu"))

    def weight(self, ids: torch.Tensor) -> torch.Tensor:
        """Weights that all ranks have in these rows, divided by their number."""
        return self._weights.index_select(0, ids.clamp(-1, self._size) + 1).sum()

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Real rows of all ranks in them, divided by their number."""
        missing = (ids.unsqueeze(1) == self._short) * self._missing
        return ids.shape[0] - missing.sum()


def record(losses: torch.Tensor, row: torch.Tensor, slots: torch.Tensor, scores: torch.Tensor) -> None:
    """Writes the scores of a batch, [B], into the table ``losses``; of a repeated id the last one wins."""
    count = slots.shape[0]
    rows = torch.add(row, torch.arange(count, dtype=torch.int64, device=slots.device), alpha=_ROW)
    bits = scores.to(torch.float32).view(torch.int32).to(torch.int64)
    losses.scatter_reduce_(0, slots, rows + bits, "amax")
    row.add_(count * _ROW)


def _arrays(plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
    from ._tensors import from_lent

    return from_lent(plan.id_array, torch.int64), from_lent(plan.weight_array, torch.float32)


__all__ = ["RowsById", "Tables", "record"]

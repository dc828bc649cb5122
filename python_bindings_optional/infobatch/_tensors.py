"""The step on tensors of torch, on any device, by plain tensor operations.

In the order of delivery, a step reads a slice of the epoch's weights and writes a slice of its staged
losses. On the CPU both are the engine's own arrays; on another device they are copies there, weights made
once an epoch and losses brought back once, at its end. By ids, see ``_tables``. Nothing is copied to the
host in a step, and nothing waits for the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

import torch

from ._library import UNSEEN_BITS
from ._step import SCALAR_CURES, check_column, check_reduction

if TYPE_CHECKING:
    from ._step import Step
    from ._tables import RowsById, Tables


_COLUMN_DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.int8: "int8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
    torch.uint8: "uint8",
}


#: Batches whose weights are sliced at once.
_VIEWS = 64
#: The most rows whose mean is a dot product: one operation instead of two, a third of their time and of their
#: backward's. A product adds with a few accumulators, so many rows go to `mean`, which loses less.
_DOT_ROWS = 4096
#: Floats in a line of the cache.
_LINE = 16


def from_lent(lent: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A lent array as a tensor over the same memory, which it keeps alive."""
    if not len(lent):
        return torch.empty(0, dtype=dtype, device="cpu")
    return torch.frombuffer(lent, dtype=dtype)


class TensorStep:
    """The step of a run on tensors.

    Args:
        step: what it belongs to: session, deliveries, the device that was declared.
    """

    #: Every run, for a step that is being compiled.
    all: ClassVar[WeakSet[TensorStep]] = WeakSet()
    #: Where a step was compiled. Later runs make their tables when they begin, so that its graph serves
    #: them: a graph that had to make them would be one for each run.
    compiled_on: ClassVar[torch.device | None] = None

    def __init__(self, step: Step) -> None:
        self._step = step
        self._session = step.session
        self._device = None if step.device is None else torch.device(step.device)
        self._none = torch.empty(0, dtype=torch.float32, device="cpu")
        self._weights = self._none  # [K] of the epoch, on the device
        self._staged = self._none  # [K] losses by position, on the device
        self._lent = self._none  # the engine's staged losses
        self._views: list[torch.Tensor] = []  # weights of the next batches of a mean by B, last one first
        self._views_begin = 0  # where the last one of them belongs
        self._generation = -1  # of the epoch that these arrays belong to
        self._begin = 0  # staged on the device and not handed over: [_begin, _end)
        self._end = 0
        self._in_order = -1  # the generation that was observed in order
        self._tables: Tables | None = None
        self._by_table = False  # ids go to the tables, once some did
        self._row_weights: torch.Tensor | None = None  # [K] of all ranks, on the device
        self._row_weights_of = -1
        self._rows: RowsById | None = None
        self._rows_of = -1
        TensorStep.all.add(self)

    # --- the step

    def update(
        self, losses: torch.Tensor, ids: Any = None, scores: Any = None, reduction: str = "mean"
    ) -> torch.Tensor:
        if reduction != "mean":
            check_reduction(reduction)
        if torch.compiler.is_compiling():
            from . import _compiled

            if ids is None:
                return _compiled.update_in_order(self, losses, scores, reduction)
            _compiled.prepare(str(losses.device))
        elif scores is None and _is_plain(losses):
            reduced = self._update_plain(losses, ids, reduction)
            if reduced is not None:
                return reduced
        self._check(losses, "update", "losses")
        recorded = losses.detach()
        if scores is not None:
            self._check(scores, "update", "scores")
            recorded = scores.detach()
            if recorded.device != losses.device:
                raise ValueError(
                    f"InfoBatch.update: scores must be on the device of the losses, {losses.device}, got "
                    f"{recorded.device}"
                )
            if recorded.shape[0] != losses.shape[0]:
                raise ValueError(
                    f"InfoBatch.update: scores must be one for each of {losses.shape[0]} losses, got "
                    f"{recorded.shape[0]}"
                )
        recorded = self._per_sample(recorded, ids)
        if ids is not None:
            return self._reduced(losses, self._record_ids(recorded, ids, "update"), reduction, ids, 0)
        # All that can fail comes before the cursor moves, so that a call that fails can be made again.
        begin, weights = self._due(recorded, "update")
        reduced = self._reduced(losses, weights, reduction, None, begin)
        self._take(recorded, begin, "update")
        return reduced

    def _reduced(
        self, losses: torch.Tensor, weights: torch.Tensor, reduction: str, ids: Any, begin: int
    ) -> torch.Tensor:
        if self._session.sharded:
            return self._reduce_on_ranks(losses, weights, reduction, ids, begin)
        return _reduce(losses, weights, reduction)

    def _reduce_on_ranks(
        self, losses: torch.Tensor, weights: torch.Tensor, reduction: str, ids: Any, begin: int
    ) -> torch.Tensor:
        """`_reduce`, but that means divide by what one process would divide by that had the rows of all
        ranks, as a share of one rank. Nothing is communicated, and nothing waits for the device."""
        count = losses.shape[0]
        if ids is not None:
            by_id = self._rows_by_id(losses.device)
            numbers = _ids(ids, "update").to(losses.device)
            divisor = by_id.weight(numbers) if reduction == "weighted_mean" else by_id.rows(numbers)
            return _reduce_by(losses, weights, reduction, divisor)
        share = self._step.share
        assert share is not None
        if count == 0 or (reduction != "weighted_mean" and share.whole(begin, begin + count)):
            return _reduce(losses, weights, reduction)
        if reduction != "weighted_mean":
            return _reduce_by(losses, weights, reduction, share.rows(begin, begin + count))
        if self._row_weights is None or self._row_weights_of != self._session.generation:
            self._row_weights = from_lent(share.weights).to(losses.device)
            self._row_weights_of = self._session.generation
        divisor = self._row_weights[begin : begin + count].sum() / share.size
        return _reduce_by(losses, weights, reduction, divisor)

    def _rows_by_id(self, device: torch.device) -> RowsById:
        """What rows by id are divided by."""
        if torch.compiler.is_compiling():
            assert self._rows is not None  # made with the tables
            return self._rows
        return self._prepare_rows(device)

    def _prepare_rows(self, device: torch.device) -> RowsById:
        """Makes them once, and anew for each epoch. What is made while a step is compiled is made here:
        some releases of torch say that they compile, also where they call a function."""
        if self._rows is None or self._rows.device != device:
            from ._tables import RowsById

            self._rows = RowsById(self._session, device)
        share = self._step.share
        assert share is not None
        if self._rows_of != self._session.generation:
            self._rows.begin(share, self._step.feed_plan())
            self._rows_of = self._session.generation
        return self._rows

    def _update_plain(self, losses: torch.Tensor, ids: Any, reduction: str) -> torch.Tensor | None:
        """The usual step on the CPU in as few calls as there can be: the engine takes the losses from
        where they are. None where anything is unusual, and then nothing happened."""
        session, lent = self._session, self._step.lent
        count = losses.shape[0]
        address = losses.data_ptr()
        if address == 0 or not (self._device is None or self._device.type == "cpu"):
            return None
        if ids is not None:
            if self._by_table or not _is_plain(ids, torch.int64) or ids.shape[0] != count:
                return None
            self._step.feed.sync()
            weights = torch.empty_like(losses, requires_grad=False)
            session.observe_ids(address, ids.data_ptr(), count, weights.data_ptr())
            if reduction == "mean" and 0 < count <= _DOT_ROWS and not session.sharded:
                return torch.dot(losses, weights.div_(count))
            return self._reduced(losses, weights, reduction, ids, 0)
        feed = self._step.feed
        if feed.current is None or (self._tables is not None and self._tables.dirty):
            return None
        feed.sync()
        feed.require_order("update")
        if self._generation != session.generation:
            self._fetch(losses.device)
        begin = lent.cursor
        if begin + count > self._weights.shape[0]:
            return None
        # All that can fail comes before the cursor moves, so that a call that fails can be made again.
        if reduction == "mean" and 0 < count <= _DOT_ROWS and not session.sharded:
            reduced = torch.dot(losses, self._shares_of(begin, count))
        else:
            reduced = self._reduced(losses, self._weights[begin : begin + count], reduction, None, begin)
        session.observe(address, count)
        lent.cursor = begin + count
        self._in_order = self._generation
        return reduced

    def _shares_of(self, begin: int, count: int) -> torch.Tensor:
        """[count] weight / count: what each loss counts in a mean. Those of the next batches are made
        together, which costs each a small part of an operation."""
        views = self._views
        if not views or self._views_begin != begin or views[-1].shape[0] != count:
            whole = min((self._weights.shape[0] - begin) // count, _VIEWS)
            weights = self._weights[begin : begin + whole * count]
            # As far into a line of the cache as the weights themselves: where a dot product begins there
            # decides how it adds up, and a run that resumes elsewhere must add up the same.
            skew = begin % _LINE
            with torch.inference_mode(False):  # an inference tensor would serve no later backward
                shares = torch.empty(skew + weights.shape[0], dtype=torch.float32, device="cpu")[skew:]
                torch.div(weights, count, out=shares)
                views = list(torch.split(shares, count))
            views.reverse()
            self._views = views
        self._views_begin = begin + count
        return views.pop()

    def observe(self, scores: torch.Tensor, ids: Any = None) -> torch.Tensor:
        if torch.compiler.is_compiling():
            from . import _compiled

            if ids is None:
                return _compiled.observe_in_order(self, scores)
            _compiled.prepare(str(scores.device))
        self._check(scores, "observe", "scores")
        recorded = self._per_sample(scores.detach(), ids)
        if ids is not None:
            return self._record_ids(recorded, ids, "observe")
        begin, weights = self._due(recorded, "observe")
        weights = weights.clone()
        self._take(recorded, begin, "observe")
        return weights

    def get_weights(self, ids: Any) -> torch.Tensor:
        given = _ids(ids, "get_weights")
        numbers = given.cpu()
        weights = torch.empty(len(numbers), dtype=torch.float32, device="cpu")
        self._session.weights(numbers.data_ptr(), len(numbers), weights.data_ptr())
        return weights.to(given.device)

    def _per_sample(self, scores: torch.Tensor, ids: Any) -> torch.Tensor:
        """[B]: the mean over what trails."""
        if scores.dim() == 1:
            return scores
        if ids is None:
            self._suspect(scores)
        return scores.flatten(1).mean(1, dtype=torch.promote_types(scores.dtype, torch.float32))

    def _due(self, scores: torch.Tensor, what: str) -> tuple[int, torch.Tensor]:
        """Where the next losses in order belong, and their weights. Raises where none are pending."""
        feed, session = self._step.feed, self._session
        feed.sync()
        if self._tables is not None and self._tables.dirty:
            self.settle()  # so that the engine knows that this epoch goes by ids
        count = scores.shape[0]
        feed.require_order(what)
        if feed.current is not None and self._generation != session.generation:
            self._fetch(scores.device)
        begin = self._step.lent.cursor
        if self._generation != session.generation or begin + count > self._weights.shape[0]:
            session.advance(count, what)  # which says what is wrong
            if count > 0:
                raise RuntimeError(
                    f"{session.name}.{what}: losses must belong to an iteration, got {count} without one"
                )
        return begin, self._weights[begin : begin + count]

    def _take(self, scores: torch.Tensor, begin: int, what: str) -> None:
        """Writes losses down and moves the cursor, in this order: what was written and not taken is
        written again."""
        count = scores.shape[0]
        if count == 0:
            return
        end = begin + count
        self._staged[begin:end].copy_(scores)
        self._session.advance(count, what)
        self._step.lent.cursor = end
        self._in_order = self._generation
        if self._staged is not self._lent:
            self._end = end

    def _fetch(self, device: torch.device) -> None:
        """The arrays of the epoch that has begun, on the device of the losses."""
        arrays = self._step.lent.get(self._step.feed.plan)
        with torch.inference_mode(False):
            lent = from_lent(arrays.losses)
            weights = from_lent(arrays.plan.weight_array)
            if device.type == "cpu":
                staged = lent
            else:
                weights = weights.to(device)
                bits = torch.full(weights.shape, UNSEEN_BITS, dtype=torch.int32, device=device)
                staged = bits.view(torch.float32)
        self._lent, self._weights, self._staged, self._views = lent, weights, staged, []
        self._begin = self._end = self._step.lent.cursor
        self._device = device
        self._generation = self._session.generation

    # --- by ids

    def _record_ids(self, scores: torch.Tensor, ids: Any, what: str) -> torch.Tensor:
        compiling = torch.compiler.is_compiling()
        if not compiling:
            self._step.feed.sync()
        device = scores.device
        numbers = _ids(ids, what)
        if numbers.shape[0] != scores.shape[0]:
            raise ValueError(
                f"InfoBatch.{what}: ids must be one for each of {scores.shape[0]} losses, got "
                f"{numbers.shape[0]}"
            )
        if not compiling:
            if device.type == "cpu" and not self._by_table:
                return self._observe_ids(scores, numbers, what)
            if self._tables is not None and self._tables.device != device:
                self._tables = None  # made for a compiled step elsewhere, and never used
            self.make_tables(device)
            self._device = device
            self._step.feed.came(numbers.shape[0])
            if self._in_order == self._session.generation:
                self._observe_ids(scores.cpu(), numbers, what)  # which refuses it
        self._by_table = True
        tables = self._tables
        assert tables is not None
        slots = tables.slots(numbers.to(device))
        recording: Any  # the module whose `record` it is
        if compiling:
            from . import _compiled

            recording = _compiled
        else:
            from . import _tables

            recording = _tables
        recording.record(tables.losses, tables.row, slots, scores)
        tables.dirty = True
        return tables.weights.index_select(0, slots)

    def _observe_ids(self, scores: torch.Tensor, ids: torch.Tensor, what: str) -> torch.Tensor:
        """On the CPU the engine does it, and refuses at once what is wrong."""
        values = scores.to(torch.float32).contiguous().resolve_neg()
        numbers = ids.cpu().resolve_neg()
        count = len(values)
        weights = torch.empty(count, dtype=torch.float32, device="cpu")
        self._session.observe_ids(values.data_ptr(), numbers.data_ptr(), count, weights.data_ptr(), what)
        return weights

    def make_tables(self, device: torch.device) -> None:
        """The tables by id: from then on they are what ids go to. None on another device than the
        run's."""
        if self._tables is not None or not self._is_own(device):
            return
        from ._tables import Tables

        tables = Tables(self._session, device)
        tables.begin(self._step.feed_plan())
        self._tables = tables
        if self._session.sharded:
            self._prepare_rows(device)

    # --- what is refused

    def _check(self, values: Any, what: str, name: str) -> None:
        if not isinstance(values, torch.Tensor):
            raise TypeError(f"InfoBatch.{what}: {name} must be a tensor, got {type(values).__name__}")
        if values.dim() == 0:
            raise ValueError(
                f"InfoBatch.{what}: {name} must be [B], one a sample, got a scalar: {SCALAR_CURES}"
            )
        if not values.is_floating_point():
            raise ValueError(f"InfoBatch.{what}: {name} must be floating, got {values.dtype}")
        if values.layout != torch.strided:
            raise ValueError(f"InfoBatch.{what}: {name} must be dense, got {values.layout}")
        if not self._is_own(values.device):
            raise ValueError(
                f"InfoBatch.{what}: {name} must stay on the device of the run, {self._device}, got "
                f"{values.device}: say device= when the run is made"
            )

    def _is_own(self, device: torch.device) -> bool:
        own = self._device
        if own is None and self._tables is not None and torch.compiler.is_compiling():
            own = self._tables.device
        if own is None or device == own:
            return True
        return device.type == own.type and (own.index is None or own.type == "cpu")

    def _suspect(self, scores: torch.Tensor) -> None:
        """Losses whose first dimension is not the batch are told as such when they are refused."""
        pending = self._session.pending()
        shape = list(scores.shape)
        if pending > 0 and shape[0] != pending and pending in shape[1:]:
            self._session.suspect(
                f"The losses have shape {shape}, and {pending} samples are pending: the first dimension must "
                "be the batch, losses.transpose(0, 1) or reduction over the others cures that"
            )

    # --- what the engine has to know

    def settle(self) -> None:
        """Brings losses that are staged on the device to the engine: one copy."""
        tables = self._tables
        if tables is not None and tables.dirty:
            if tables.device.type == "meta":
                tables.clear()
            else:
                tables.collect()
        if self._begin == self._end or self._generation != self._session.generation:
            return
        if self._staged.device.type != "meta":  # whose losses have no values: they stay unseen
            part = slice(self._begin, self._end)
            self._lent[part].copy_(self._staged[part])
        self._begin = self._end

    def release(self) -> None:
        """Holds no arrays of the epoch that was, whose losses are handed over."""
        self._weights = self._staged = self._lent = self._none
        self._views = []
        self._generation = -1
        if self._tables is not None:
            self._tables.plan = None

    def renew(self) -> None:
        """An epoch begins, maybe anew: what is staged on the device is of no use any more."""
        self._begin = self._end = 0
        compiled_on = TensorStep.compiled_on
        if self._tables is None and compiled_on is not None and self._device is None:
            self.make_tables(compiled_on)
        elif self._tables is not None:
            try:
                self._tables.begin(self._step.feed_plan())
                if self._rows is not None:
                    self._prepare_rows(self._rows.device)
            except BaseException:
                self._tables = None  # half of an epoch's weights would be wrong ones
                raise

    def progress(self) -> float:
        """Of an epoch by ids on a device, what was delivered counts: what came back is known later."""
        session, feed = self._session, self._step.feed
        if self._tables is None or not self._tables.dirty or feed.current is None:
            return session.progress
        length = max(len(feed.plan), 1)
        return (session.epoch + feed.current.position() / length) / int(session.options["epochs"])

    # --- columns, state

    def set_column(self, name: str, values: torch.Tensor, size: int) -> None:
        data = values.detach().cpu().contiguous().resolve_neg()
        dtype = _COLUMN_DTYPES.get(data.dtype, str(data.dtype))
        check_column(name, dtype, tuple(data.shape), size)
        self._session.set_column(name, dtype, data.data_ptr())

    def view(self, lent: Any, dtype: str) -> torch.Tensor:
        """A lent array as a tensor over the same memory."""
        found = getattr(torch, dtype, None)
        if found is None:
            raise ValueError(f"InfoBatch.column: torch has no {dtype}")
        return from_lent(lent, found)

    def pack(self, state: bytes) -> torch.Tensor:
        return torch.frombuffer(bytearray(state), dtype=torch.uint8)

    def unpack(self, packed: torch.Tensor) -> bytes:
        data = packed.detach().cpu().contiguous()
        if data.dtype != torch.uint8 or data.dim() != 1:
            raise ValueError(
                f"InfoBatch.load_state_dict: a state must be one tensor of bytes, got {data.dtype}, "
                f"{list(data.shape)}"
            )
        return bytes(memoryview(_bytes_of(data)))


def _is_plain(values: Any, dtype: torch.dtype = torch.float32) -> bool:
    """Whether the engine can read these rows where they are: [B] on the CPU, one behind the other."""
    return (
        type(values) is torch.Tensor
        and values.dtype is dtype
        and values.is_cpu
        and values.dim() == 1
        and values.is_contiguous()
        and not values.is_neg()
    )


def _bytes_of(data: torch.Tensor) -> Any:
    from ctypes import c_ubyte

    raw = (c_ubyte * len(data)).from_address(data.data_ptr()) if len(data) else (c_ubyte * 0)()
    raw.owner = data  # type: ignore[attr-defined]
    return raw


def _reduce(losses: torch.Tensor, weights: torch.Tensor, reduction: str) -> torch.Tensor:
    if losses.dim() > 1:
        weights = weights.view(-1, *[1] * (losses.dim() - 1))
    weighted = losses * weights  # float16 and bfloat16 losses become float32 here
    if reduction == "mean":
        return weighted.mean()
    if reduction == "sum":
        return weighted.sum()
    if reduction == "none":
        return weighted
    rows = max(weights.shape[0], 1)
    return weighted.sum() / (weights.sum() * (losses.numel() / rows))


def _reduce_by(losses: torch.Tensor, weights: torch.Tensor, reduction: str, divisor: Any) -> torch.Tensor:
    """On several ranks: a mean divides by `divisor` rows. Padding counts for nothing, whatever its loss."""
    if losses.dim() > 1:
        weights = weights.view(-1, *[1] * (losses.dim() - 1))
    weighted = (losses * weights).where(weights > 0, 0.0)
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    rows: torch.Tensor | float = divisor
    return weighted.sum() / (rows * (losses.numel() / max(losses.shape[0], 1)))


def _ids(ids: Any, what: str) -> torch.Tensor:
    if isinstance(ids, torch.Tensor):
        numbers = ids
    else:
        try:
            numbers = torch.as_tensor(ids, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"InfoBatch.{what}: ids must be [B] integers, got {type(ids).__name__} ({error})"
            ) from error
        if numbers.numel() == 0:
            numbers = numbers.to(torch.int64)
    no_integers = numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool
    if numbers.dim() != 1 or no_integers:
        raise ValueError(
            f"InfoBatch.{what}: ids must be [B] integers, got shape {list(numbers.shape)}, {numbers.dtype}"
        )
    return numbers.to(torch.int64).contiguous()


__all__ = ["TensorStep", "from_lent"]

"""The step on arrays: losses as anything with ``__array__`` or ``__dlpack__``, or a list of floats.

Tensors of torch go to ``_tensors``, which is loaded with the first of them.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Any

from ._errors import FileError
from ._session import COLUMN_TYPES, EpochArrays, Session, address_of, read_only

if TYPE_CHECKING:
    from ._delivery import Feed
    from ._session import Plan
    from ._tensors import TensorStep

REDUCTIONS = ("mean", "sum", "none", "weighted_mean")

SCALAR_CURES = (
    "the criterion needs reduction='none'; where the loss exists only reduced, use "
    "weights = observe(per_sample_scores) and scale_gradient(outputs, weights)"
)


def check_reduction(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(
            f"InfoBatch.update: reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}"
        )


def numpy() -> Any:
    """NumPy, or None where there is none."""
    try:
        import numpy as np
    except ImportError:
        return None
    return np


def is_tensor(values: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


class Lent:
    """The arrays of the running epoch, fetched once an epoch, and the cursor of losses in order."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._generation = -1
        self._arrays: EpochArrays | None = None
        #: Where the next losses in order belong: what the engine would say, without asking it.
        self.cursor = 0

    def get(self, plan: Plan) -> EpochArrays:
        session = self._session
        if self._arrays is None or self._generation != session.generation:
            self._arrays = session.epoch_arrays(plan)
            self.cursor = session.position
            self._generation = session.generation
        return self._arrays

    def release(self) -> None:
        """Holds them no longer; they are fetched again when they are asked for."""
        self._arrays = None


class ShareRows:
    """What the means of a step on several ranks divide by, so that the average over ranks of their gradients
    is the gradient of one process with the same global batch. All ranks know it from the plan.

    Args:
        session: the run, in an epoch that has begun.
        plan: its share.
    """

    def __init__(self, session: Session, plan: Plan) -> None:
        self.size = session.ranks["size"]
        self.rank = session.ranks["rank"]
        #: [rows] sum of the weights that all ranks have in a row.
        self.weights, self.short = session.rank_rows()
        #: The same rows by id: id of this rank's sample, ranks that have padding there.
        self.short_ids = [(int(plan.id_array[row]), missing) for row, missing in self.short]
        self._plan = plan
        self._rows: dict[int, int] | None = None

    def whole(self, begin: int, end: int) -> bool:
        """No rank has padding in the rows [begin, end)."""
        return not any(begin <= row < end for row, _ in self.short)

    def rows(self, begin: int, end: int) -> float:
        """Real rows of all ranks in [begin, end), divided by the number of ranks."""
        missing = sum(count for row, count in self.short if begin <= row < end)
        return end - begin - missing / self.size

    def weight(self, begin: int, end: int) -> float:
        """Weights of all ranks in [begin, end), divided by the number of ranks."""
        return float(sum(self.weights[begin:end])) / self.size

    def divisor(self, reduction: str, begin: int, count: int) -> float:
        if reduction == "weighted_mean":
            return self.weight(begin, begin + count)
        return self.rows(begin, begin + count)

    def divisor_of(self, reduction: str, ids: Any) -> float:
        """The same for rows by id."""
        if self._rows is None:
            self._rows = {int(id): row for row, id in enumerate(self._plan.ids)}
        rows = [self._rows[int(id)] for id in ids]
        if reduction == "weighted_mean":
            return float(sum(self.weights[row] for row in rows)) / self.size
        return sum(self.rows(row, row + 1) for row in rows)


class Step:
    """What `InfoBatch` does with losses.

    Args:
        session: the run.
        device: where the losses will be, or None.
    """

    feed: Feed

    def __init__(self, session: Session, device: Any = None) -> None:
        self.session = session
        self.device = device
        self.lent = Lent(session)
        self._tensors: TensorStep | None = None
        self._share: ShareRows | None = None
        self._share_of = -1

    @property
    def share(self) -> ShareRows | None:
        """The rows of the running epoch's share; None on one process alone, or where a framework splits."""
        if not self.session.sharded:
            return None
        if self._share is None or self._share_of != self.session.generation:
            self._share = ShareRows(self.session, self.feed_plan())
            self._share_of = self.session.generation
        return self._share

    def _divisor(self, reduction: str, begin: int, count: int) -> float | None:
        share = self.share if count else None
        return None if share is None else share.divisor(reduction, begin, count)

    def _divisor_of(self, reduction: str, ids: Any) -> float | None:
        share = self.share if len(ids) else None
        return None if share is None else share.divisor_of(reduction, ids)

    def feed_plan(self) -> Plan:
        """The plan of the iteration under way, or of the epoch that comes."""
        return self.session.plan() if self.feed.current is None else self.feed.plan

    @property
    def tensors(self) -> TensorStep:
        if self._tensors is None:
            from ._tensors import TensorStep

            self._tensors = TensorStep(self)
        return self._tensors

    # --- the step

    def update(self, losses: Any, ids: Any, scores: Any, reduction: str) -> Any:
        if is_tensor(losses):
            return self.tensors.update(losses, ids, scores, reduction)
        check_reduction(reduction)
        np = numpy()
        if np is None:
            return self._update_list(losses, ids, scores, reduction)
        values = _losses(np, losses, "update", "losses")
        recorded = _per_sample(np, values)
        if scores is not None:
            recorded = _per_sample(np, _losses(np, scores, "update", "scores"))
            if len(recorded) != len(values):
                raise ValueError(
                    f"InfoBatch.update: scores must be one for each of {len(values)} losses, got "
                    f"{len(recorded)}"
                )
        if ids is not None:
            weights = self._observe_ids(np, recorded, ids, "update")
            rows = _ids(np, ids, "update").tolist()
            return _reduce(np, values, weights, reduction, self._divisor_of(reduction, rows))
        # All that can fail comes before the cursor moves, so that a call that fails can be made again.
        begin, arrays = self._due(len(recorded), "update")
        of = self._divisor(reduction, begin, len(recorded))
        reduced = _reduce(np, values, _weights(np, arrays, begin, len(recorded)), reduction, of)
        self._take(np, arrays, begin, recorded, "update")
        return reduced

    def observe(self, scores: Any, ids: Any) -> Any:
        if is_tensor(scores):
            return self.tensors.observe(scores, ids)
        np = numpy()
        if np is None:
            return self._observe_in_list(_floats(scores, "observe"), ids)
        recorded = _per_sample(np, _losses(np, scores, "observe", "scores"))
        if ids is not None:
            return self._observe_ids(np, recorded, ids, "observe")
        begin, arrays = self._due(len(recorded), "observe")
        weights = _weights(np, arrays, begin, len(recorded)).copy()
        self._take(np, arrays, begin, recorded, "observe")
        return weights

    def get_weights(self, ids: Any) -> Any:
        if is_tensor(ids):
            return self.tensors.get_weights(ids)
        np = numpy()
        if np is None:
            numbers = array("q", ids)
            found = array("f", bytes(4 * len(numbers)))
            self.session.weights(numbers.buffer_info()[0], len(numbers), found.buffer_info()[0])
            return found.tolist()
        numbers = _ids(np, ids, "get_weights")
        weights = np.empty(len(numbers), np.float32)
        self.session.weights(numbers.ctypes.data, len(numbers), weights.ctypes.data)
        return weights

    def _due(self, count: int, what: str) -> tuple[int, EpochArrays | None]:
        """Where the next losses in order belong, and the epoch's arrays. Raises where none are pending."""
        session, feed = self.session, self.feed
        feed.sync()
        feed.require_order(what)
        arrays = self.lent.get(feed.plan) if count and feed.current is not None else None
        begin = self.lent.cursor
        if arrays is None or begin + count > len(arrays.losses):
            session.advance(count, what)  # which says what is wrong
            if count > 0:
                raise RuntimeError(
                    f"{session.name}.{what}: losses must belong to an iteration, got {count} without one"
                )
        return begin, arrays

    def _take(self, np: Any, arrays: EpochArrays | None, begin: int, scores: Any, what: str) -> None:
        """Writes losses down and moves the cursor, in this order: what was written and not taken is
        written again."""
        if arrays is None:
            return
        np.frombuffer(arrays.losses, np.float32)[begin : begin + len(scores)] = scores
        self.session.advance(len(scores), what)
        self.lent.cursor += len(scores)

    def _observe_ids(self, np: Any, scores: Any, ids: Any, what: str) -> Any:
        self.feed.sync()
        count = len(scores)
        numbers = _ids(np, ids, what)
        if len(numbers) != count:
            raise ValueError(
                f"InfoBatch.{what}: ids must be one for each of {count} losses, got {len(numbers)}"
            )
        weights = np.empty(count, np.float32)
        self.session.observe_ids(scores.ctypes.data, numbers.ctypes.data, count, weights.ctypes.data, what)
        return weights

    # --- the same without NumPy

    def _update_list(self, losses: Any, ids: Any, scores: Any, reduction: str) -> Any:
        values = _floats(losses, "update")
        recorded = values if scores is None else _floats(scores, "update")
        if len(recorded) != len(values):
            raise ValueError(
                f"InfoBatch.update: scores must be one for each of {len(values)} losses, got {len(recorded)}"
            )
        if ids is not None:
            weights = self._observe_list(recorded, ids, "update")
            return _reduce_list(values, weights, reduction, self._divisor_of(reduction, ids))
        begin, arrays = self._due(len(recorded), "update")
        of = self._divisor(reduction, begin, len(recorded))
        reduced = _reduce_list(values, _weights_list(arrays, begin, len(recorded)), reduction, of)
        self._take_list(arrays, begin, recorded, "update")
        return reduced

    def _observe_in_list(self, scores: array[float], ids: Any) -> list[float]:
        if ids is not None:
            return self._observe_list(scores, ids, "observe")
        begin, arrays = self._due(len(scores), "observe")
        weights = _weights_list(arrays, begin, len(scores))
        self._take_list(arrays, begin, scores, "observe")
        return weights

    def _observe_list(self, scores: array[float], ids: Any, what: str) -> list[float]:
        self.feed.sync()
        count = len(scores)
        numbers = array("q", ids)
        if len(numbers) != count:
            raise ValueError(
                f"InfoBatch.{what}: ids must be one for each of {count} losses, got {len(numbers)}"
            )
        weights = array("f", bytes(4 * count))
        self.session.observe_ids(
            scores.buffer_info()[0], numbers.buffer_info()[0], count, weights.buffer_info()[0], what
        )
        return weights.tolist()

    def _take_list(self, arrays: EpochArrays | None, begin: int, scores: array[float], what: str) -> None:
        if arrays is None:
            return
        arrays.losses[begin : begin + len(scores)] = scores.tolist()
        self.session.advance(len(scores), what)
        self.lent.cursor += len(scores)

    # --- what the engine has to know

    def settle(self, everything: bool) -> None:
        """Hands over losses that are staged on another device."""
        if self._tensors is not None and everything:
            self._tensors.settle()

    def release(self) -> None:
        """An epoch is about to begin: holds nothing of the one that was."""
        self.lent.release()
        if self._tensors is not None:
            self._tensors.release()

    def renew(self) -> None:
        """An epoch begins, maybe anew: losses that were not handed over belong to one that is gone."""
        if self._tensors is not None:
            self._tensors.renew()

    def progress(self) -> float:
        return self.session.progress if self._tensors is None else self._tensors.progress()

    # --- arrays of the engine

    def view(self, lent: Any, dtype: str) -> Any:
        """A lent array as one of NumPy's, read-only; a memoryview where there is none."""
        np = numpy()
        _, kind = COLUMN_TYPES[dtype]
        if np is None:
            return read_only(lent)
        bits = np.frombuffer(lent, np.dtype(kind))
        found = bits.view(np.float16) if dtype == "float16" else bits  # bfloat16: its bits, as uint16
        found.flags.writeable = False
        return found

    def set_column(self, name: str, values: Any, size: int) -> None:
        if is_tensor(values):
            self.tensors.set_column(name, values, size)
            return
        np = numpy()
        if np is not None:
            data = np.ascontiguousarray(values)
            dtype = "bfloat16" if data.dtype.name == "bfloat16" else data.dtype.name
            check_column(name, dtype, tuple(data.shape), size)
            self.session.set_column(name, dtype, data.ctypes.data)
            return
        listed = list(values)
        dtype = "int64" if all(isinstance(value, int) for value in listed) else "float64"
        check_column(name, dtype, (len(listed),), size)
        _, kind = COLUMN_TYPES[dtype]
        values = (kind * size)(*listed)  # a name of its own: an address keeps nothing alive
        self.session.set_column(name, dtype, address_of(values))

    def set_sampling_weights(self, values: Any, size: int) -> None:
        name, np = "sampling_weight", numpy()
        rule = f"InfoBatch: sampling_weights must be one number above 0 for each of {size} samples"
        if is_tensor(values):
            if values.is_complex():
                raise ValueError(f"{rule}, got {values.dtype}")
            self.tensors.set_column(name, values.detach().float(), size)
            return
        if np is not None:
            given = np.asarray(values)
            if given.dtype.kind not in "fiu" and given.dtype.name != "bfloat16":
                raise ValueError(f"{rule}, got {type(values).__name__} of {given.dtype}")
            self.set_column(name, given.astype(np.float32), size)
            return
        try:
            listed = array("f", values)
        except (TypeError, OverflowError) as error:
            raise ValueError(f"{rule}, got {type(values).__name__}: {error}") from None
        check_column(name, "float32", (len(listed),), size)
        self.session.set_column(name, "float32", listed.buffer_info()[0])

    def export_npz(self, path: str) -> None:
        """All columns in one file of NumPy, written beside its place first."""
        import os

        np = numpy()
        if np is None:
            raise ImportError("InfoBatch.export: .npz needs NumPy; .csv does not")
        import zipfile

        columns = {"id": np.arange(self.session.size)}
        for name in self.session.column_names():
            dtype, lent = self.session.column(name)
            values = np.frombuffer(lent, "uint16" if dtype == "bfloat16" else dtype)
            if dtype == "bfloat16":
                values = (values.astype(np.uint32) << 16).view(np.float32)
            columns[name] = values
        target = os.path.realpath(path)  # a link stays one
        beside = f"{target}.{os.getpid()}.tmp"
        try:
            # As np.savez, which takes names for arguments of its own.
            with zipfile.ZipFile(beside, "w") as file:
                for name, values in columns.items():
                    with file.open(name + ".npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, values, allow_pickle=False)
            os.replace(beside, target)
        except OSError as error:
            if os.path.exists(beside):
                os.unlink(beside)
            raise FileError(f"InfoBatch.export: {path} must be writable, got {error}") from error

    def mean(self, lent: Any) -> float:
        """Mean of the values of a lent array of float32 that are no NaN; NaN where there is none."""
        np = numpy()
        if np is None:
            values = [value for value in lent if value == value]
            return sum(values) / len(values) if values else float("nan")
        values = np.frombuffer(lent, np.float32)
        values = values[~np.isnan(values)]
        return float(values.mean(dtype=np.float64)) if len(values) else float("nan")

    # --- state

    def pack(self, state: bytes) -> Any:
        if sys.modules.get("torch") is not None:
            return self.tensors.pack(state)
        return state

    def unpack(self, packed: Any) -> bytes:
        if is_tensor(packed):
            return self.tensors.unpack(packed)
        return bytes(packed)


def _weights(np: Any, arrays: EpochArrays | None, begin: int, count: int) -> Any:
    if arrays is None:
        return np.empty(0, np.float32)
    return np.frombuffer(arrays.plan.weight_array, np.float32)[begin : begin + count]


def _reduce(np: Any, values: Any, weights: Any, reduction: str, of_all: float | None = None) -> Any:
    """
    Args:
        of_all: on several ranks what a mean divides by, beside the trailing dimensions.
    """
    wide = np.float64 if values.dtype == np.float64 else np.float32
    spread = weights.reshape(-1, *[1] * (values.ndim - 1))
    weighted = values.astype(wide) * spread
    if of_all is not None:
        weighted = np.where(spread > 0, weighted, wide(0))  # padding, whatever its loss is
    if reduction == "none":
        return weighted
    total = float(weighted.sum(dtype=np.float64))
    if reduction == "sum":
        return total
    of: float = weighted.size
    if of_all is not None and len(weighted):
        of = of_all * weighted[0].size
    elif reduction == "weighted_mean" and len(weighted):
        of = float(weights.sum(dtype=np.float64)) * weighted[0].size
    return total / of if of else float("nan")


def _weights_list(arrays: EpochArrays | None, begin: int, count: int) -> list[float]:
    return [] if arrays is None else list(arrays.plan.weights[begin : begin + count])


def _reduce_list(
    values: array[float], weights: list[float], reduction: str, of_all: float | None = None
) -> Any:
    padding = of_all is not None  # weighs nothing, whatever its loss is
    pairs = zip(weights, values, strict=True)
    weighted = [weight * value if weight or not padding else 0.0 for weight, value in pairs]
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return sum(weighted)
    of = sum(weights) if reduction == "weighted_mean" else len(weighted)
    if of_all is not None and weighted:
        of = of_all
    return sum(weighted) / of if of else float("nan")


def check_column(name: str, dtype: str, shape: tuple[int, ...], size: int) -> None:
    if shape != (size,):
        raise ValueError(
            f"InfoBatch.set_column: {name} must be one value for each of {size} samples, got shape "
            f"{list(shape)}"
        )
    if dtype not in COLUMN_TYPES:
        raise ValueError(
            f"InfoBatch.set_column: {name} must be one of {', '.join(COLUMN_TYPES)}, got {dtype}"
        )


def _losses(np: Any, values: Any, what: str, name: str) -> Any:
    """An array of losses, [B] or [B, ...], of a floating type."""
    if not hasattr(values, "__array__") and hasattr(values, "__dlpack__"):
        found = np.from_dlpack(values)
    else:
        found = np.asarray(values)
    if found.ndim == 0:
        raise ValueError(f"InfoBatch.{what}: {name} must be [B], one a sample, got a scalar: {SCALAR_CURES}")
    if found.dtype.kind in "iubOSUMmc":
        raise ValueError(f"InfoBatch.{what}: {name} must be floating, got {found.dtype}")
    return found if found.dtype == np.float64 else found.astype(np.float32, copy=False)


def _per_sample(np: Any, values: Any) -> Any:
    """[B] float32: the mean over what trails."""
    if values.ndim > 1:
        values = values.reshape(len(values), -1).mean(axis=1)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32)


def _ids(np: Any, ids: Any, what: str) -> Any:
    found = np.asarray(ids)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(
            f"InfoBatch.{what}: ids must be [B] integers, got shape {list(found.shape)}, {found.dtype}"
        )
    return np.ascontiguousarray(found, np.int64)


def _floats(values: Any, what: str) -> array[float]:
    try:
        return array("f", values)
    except (TypeError, OverflowError) as error:
        raise ValueError(
            f"InfoBatch.{what}: losses must be [B], one a sample, got {type(values).__name__}: {SCALAR_CURES}"
        ) from error


__all__ = ["REDUCTIONS", "SCALAR_CURES", "Lent", "ShareRows", "Step", "check_column", "check_reduction"]

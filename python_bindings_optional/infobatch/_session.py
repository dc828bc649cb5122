"""A run: scores, plan, position. The engine's session as a Python object, without torch or NumPy."""

from __future__ import annotations

import ctypes
import os
import warnings
import weakref
from contextlib import suppress
from ctypes import byref, c_char_p, c_double, c_float, c_int64, c_size_t, c_void_p

from . import _errors
from ._library import (
    DECLARED,
    CColumn,
    CEpochArrays,
    CLoadReport,
    CRankReport,
    CRankRows,
    CRanks,
    CSlice,
    CStatistics,
    CWarning,
    CWording,
    fail,
    lib,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._statistics import LoadReport, Statistics

#: dtype name of a column -> ib_column_type and the ctypes type of its bits.
COLUMN_TYPES: dict[str, tuple[int, Any]] = {
    "float32": (0, ctypes.c_float),
    "float64": (1, ctypes.c_double),
    "float16": (2, ctypes.c_uint16),
    "bfloat16": (3, ctypes.c_uint16),
    "int8": (4, ctypes.c_int8),
    "int16": (5, ctypes.c_int16),
    "int32": (6, ctypes.c_int32),
    "int64": (7, ctypes.c_int64),
    "uint8": (8, ctypes.c_uint8),
    "uint16": (9, ctypes.c_uint16),
    "uint32": (10, ctypes.c_uint32),
    "uint64": (11, ctypes.c_uint64),
}
_COLUMN_NAMES = {code: (name, kind) for name, (code, kind) in COLUMN_TYPES.items()}

# ib_warning_kind -> category.
_CATEGORIES: dict[int, type[Warning]] = {
    0: _errors.NeverPrunesWarning,
    1: _errors.UpdateForgottenWarning,
    2: _errors.UnsoundEpochWarning,
    3: _errors.NonFiniteLossWarning,
    4: _errors.BudgetShortfallWarning,
    5: _errors.NotFlushedWarning,
}

_UNSOUND = 2

_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def lend(kind: Any, address: int | None, count: int, owner: object) -> Any:
    """A ctypes array over the engine's memory; ``owner`` lives as long as the array does."""
    array = (kind * count).from_address(address) if address and count else (kind * 0)()
    array.owner = owner
    return array


def read_only(lent: Any) -> Any:
    """A memoryview over a lent array, of its type."""
    raw: Any = memoryview(lent).cast("B")
    return raw.cast(lent._type_._type_).toreadonly()


def warn(text: str, category: type[Warning]) -> None:
    """Warns at the line of the program, however deep it is in here or in a loader of torch's."""
    import sys

    inside = [_PACKAGE]
    for name in ("torch", "torchdata"):
        module = sys.modules.get(name)
        inside += [os.path.join(path, "") for path in getattr(module, "__path__", [])]
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(tuple(inside)):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


class _PlanMemory:
    """What keeps the arrays of a plan alive: they refer to it, and it to none of them, so the engine gets
    the memory back with the last of them, not with the next collection of cycles."""

    def __init__(self, handle: c_void_p) -> None:
        weakref.finalize(self, lib.ib_plan_release, handle).atexit = False


class Plan:
    """The plan of one epoch: which samples, in which order, with which weights. Immutable.

    The arrays stay valid as long as anything refers to them, also when the run has gone on.

    Attributes:
        epoch: the epoch it belongs to, 0-based.
        ids: [K] int64, the samples in the order of delivery, a read-only ``memoryview``.
        weights: [K] float32, beside the ids: 1, or the inverse of the chance to be kept.

    ``numpy.asarray(plan.ids)`` does not copy; ``torch.tensor(plan.ids)`` does.

    >>> from infobatch import InfoBatch
    >>> plan = InfoBatch(4, num_epochs=8).plan
    >>> plan
    Plan(epoch=0, size=4)
    >>> sorted(plan.ids), list(plan.weights)
    ([0, 1, 2, 3], [1.0, 1.0, 1.0, 1.0])
    """

    def __init__(self, handle: c_void_p) -> None:
        memory = _PlanMemory(handle)
        view = CSlice()
        epoch = c_int64()
        if status := lib.ib_plan_view(handle, byref(view)):
            fail(status, "Plan")
        if status := lib.ib_plan_epoch(handle, byref(epoch)):
            fail(status, "Plan")
        self.epoch: int = epoch.value
        self.size: int = view.count
        self.id_array = lend(c_int64, view.ids, view.count, memory)
        self.weight_array = lend(c_float, view.weights, view.count, memory)

    @property
    def ids(self) -> memoryview[int]:
        """[K] int64, the samples in the order of delivery, read-only."""
        ids: memoryview[int] = read_only(self.id_array)
        return ids

    @property
    def weights(self) -> memoryview[float]:
        """[K] float32, their weights, read-only."""
        weights: memoryview[float] = read_only(self.weight_array)
        return weights

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"Plan(epoch={self.epoch}, size={self.size})"


class EpochArrays:
    """The arrays of the epoch that has begun, lent: weights to read, losses to write, by position."""

    def __init__(self, plan: Plan, losses: Any) -> None:
        self.plan = plan
        self.losses = losses


_option_kinds: dict[str, str] = {}


def option_kinds() -> dict[str, str]:
    """Every option of the engine and what it takes ("number", "numbers", ...), from its own table."""
    if not _option_kinds:
        import json

        cards = json.loads(lib.ib_cards_json())
        _option_kinds.update((option["name"], option["kind"]) for option in cards["options"])
    return _option_kinds


class Session:
    """The engine's session. Every method raises with the name that the caller gave its object.

    Calls may come from any thread and wait for one another.
    """

    def __init__(
        self,
        size: int,
        options: dict[str, Any],
        threads: int = 0,
        backend: str | None = None,
        name: str = "InfoBatch",
    ) -> None:
        import json

        self.name = name
        self.options = options
        self.threads = threads
        #: What works through its boundaries; None: the processor.
        self.backend = backend
        handle = c_void_p()
        text = json.dumps(options).encode()
        place = None if backend is None else backend.encode()
        if status := lib.ib_session_create_on(size, text, threads, place, byref(handle)):
            fail(status, name)
        self._destroy = weakref.finalize(self, lib.ib_session_destroy, handle)
        self._destroy.atexit = False  # the process ends: nobody needs the memory
        self.handle = handle
        self.size = size
        #: Which rank of a distributed run this is: rank, size, split, padding; empty: one process alone.
        self.ranks: dict[str, int] = {}
        #: Ranks of which losses were dropped at the last exchange.
        self.unsound: list[int] = []
        #: It delivers its rank's share of each plan.
        self.sharded = False
        #: How often an epoch has begun, or was left: what was lent before is old.
        self.generation = 0
        wording = CWording(
            ctypes.sizeof(CWording),
            f"{name}.update(losses)".encode(),
            b"update(losses, ids)",
            b", with Indexed(dataset) putting them into the batch",
            b"discard_epoch()",
        )
        if status := lib.ib_session_set_wording(handle, byref(wording)):
            fail(status, name)
        if status := lib.ib_session_hold_warnings(handle):
            fail(status, name)
        # Found once: a step calls them.
        self._advance = lib.ib_session_advance
        self._observe = lib.ib_session_observe
        self._observe_ids = lib.ib_session_observe_ids
        self._next = lib.ib_session_next
        self._next_rows = lib.ib_session_next_rows

    def deliver_warnings(self) -> None:
        """Warns of what the engine has found. Behind every call that may end an epoch."""
        found = CWarning(ctypes.sizeof(CWarning))
        while True:
            if status := lib.ib_session_take_warning(self.handle, byref(found)):
                fail(status, self.name)
            if found.text is None:
                return
            text = found.text.decode("utf-8", "replace").removeprefix("update: ")
            if found.kind == _UNSOUND and self.unsound:
                text += f". On several ranks: it was {', '.join(f'rank {rank}' for rank in self.unsound)}"
            warn(f"{self.name}: {text}", _CATEGORIES.get(found.kind, _errors.InfoBatchWarning))

    def _call(self, function: str, what: str, *arguments: Any) -> None:
        if status := getattr(lib, function)(self.handle, *arguments):
            fail(status, f"{self.name}.{what}")

    def _number(self, function: str, what: str, *arguments: Any) -> int:
        number = c_int64()
        self._call(function, what, *arguments, byref(number))
        return number.value

    # --- epochs

    @property
    def epoch(self) -> int:
        return self._number("ib_session_epoch", "epoch")

    def set_epoch(self, epoch: int) -> None:
        self._call("ib_session_set_epoch", "set_epoch", epoch)
        self.generation += 1
        self.deliver_warnings()

    def length(self) -> int:
        length = self._number("ib_session_length", "__len__")
        self.deliver_warnings()
        return length

    def plan(self) -> Plan:
        handle = c_void_p()
        self._call("ib_session_plan", "plan", byref(handle))
        self.deliver_warnings()
        return Plan(handle)

    def discard_epoch(self) -> None:
        self._call("ib_session_discard_epoch", "discard_epoch")
        self.generation += 1

    def begin(self) -> None:
        self._call("ib_session_begin", "__iter__")
        self.generation += 1

    # --- the step

    # What a call fills in is its own: calls may come from several threads at once.

    def next(self, count: int) -> tuple[int, int]:
        """Delivers a batch: where it begins in the plan, and its size; 0 at the end."""
        found = CSlice()
        if status := self._next(self.handle, count, byref(found)):
            fail(status, f"{self.name}.sampler")
        return found.begin, found.count

    def next_rows(self, count: int) -> tuple[int, int]:
        """Notes that ``count`` rows more were delivered: where they begin, and how many there were."""
        found = CSlice()
        if status := self._next_rows(self.handle, count, byref(found)):
            fail(status, f"{self.name}.sampler")
        return found.begin, found.count

    def note_rows(self, count: int) -> None:
        """The same, where nobody asks which."""
        if status := self._next_rows(self.handle, count, None):
            fail(status, f"{self.name}.sampler")

    def advance(self, count: int, what: str = "update") -> None:
        """Checks an update of ``count`` losses, and moves the cursor."""
        if status := self._advance(self.handle, count, None):
            fail(status, f"{self.name}.{what}")

    def observe(self, losses: int, count: int) -> None:
        """The engine's observation in order, from the address of float32 losses."""
        if status := self._observe(self.handle, losses, count, None):
            fail(status, f"{self.name}.update")

    def observe_ids(self, losses: int, ids: int, count: int, weights: int, what: str = "update") -> None:
        """The engine's observation by ids, from addresses of float32, int64 and float32 arrays."""
        if status := self._observe_ids(self.handle, losses, ids, count, weights):
            fail(status, f"{self.name}.{what}")

    def weights(self, ids: int, count: int, weights: int, what: str = "get_weights") -> None:
        self._call("ib_session_weights", what, ids, count, weights)

    def epoch_arrays(self, plan: Plan) -> EpochArrays:
        """Those of the epoch that has begun, whose plan is `plan`: the engine's may be of the next one."""
        arrays = CEpochArrays(ctypes.sizeof(CEpochArrays))
        self._call("ib_session_epoch_arrays", "update", byref(arrays))
        return EpochArrays(plan, lend(c_float, arrays.losses, arrays.size, self))

    def pending(self) -> int:
        return self._number("ib_session_pending", "pending")

    def suspect(self, cause: str) -> None:
        self._call("ib_session_suspect", "update", cause.encode())

    def declare_drop_last(self, drop_last: bool | None) -> None:
        self._call("ib_session_declare_drop_last", "drop_last", DECLARED[drop_last])

    # --- figures

    @property
    def progress(self) -> float:
        number = c_double()
        self._call("ib_session_progress", "progress", byref(number))
        return number.value

    @property
    def position(self) -> int:
        """Samples of the epoch that were observed: where the next update in order begins."""
        return self._number("ib_session_position", "position")

    def max_steps(self, batch_size: int) -> int:
        return self._number("ib_session_max_steps", "max_steps", batch_size)

    def statistics(self) -> Statistics:
        from ._statistics import statistics_of

        raw = CStatistics(ctypes.sizeof(CStatistics))
        self._call("ib_session_statistics", "statistics", byref(raw))
        return statistics_of(raw)

    def scores(self) -> Any:
        address = c_void_p()
        self._call("ib_session_scores", "scores", byref(address))
        return lend(c_float, address.value, self.size, self)

    # --- ranks

    def set_ranks(self, rank: int, size: int, split: int, padding: int) -> None:
        raw = CRanks(ctypes.sizeof(CRanks), rank, size, split, padding)
        self._call("ib_session_set_ranks", "__init__", byref(raw))
        self.ranks = {"rank": rank, "size": size, "split": split, "padding": padding}
        self.sharded = split == 0

    def report_to_share(self, target: int) -> CRankReport:
        report = CRankReport(ctypes.sizeof(CRankReport))
        self._call("ib_session_report_to_share", "__iter__", target, byref(report))
        return report

    def agree(self, reports: Any, what: str) -> None:
        self._call("ib_session_agree", what, reports, len(reports))

    def must_share(self, reports: Any) -> bool:
        return bool(lib.ib_rank_reports_must_share(reports, len(reports)))

    def losses_to_share(self) -> Any:
        """Bits of this rank's losses, a lent array of int32; until the next call."""
        address, count = c_void_p(), c_int64()
        self._call("ib_session_losses_to_share", "__iter__", byref(address), byref(count))
        return lend(ctypes.c_int32, address.value, count.value, self)

    def take_losses(self, bits: Any, count: int, reports: Any) -> None:
        raw: Any = (ctypes.c_ubyte * len(bits)).from_buffer(bits) if len(bits) else None
        self._call("ib_session_take_losses", "__iter__", raw, count, reports, len(reports))

    def rank_rows(self) -> tuple[Any, list[tuple[int, int]]]:
        """Of the rows of this rank's share: the weights that all ranks have in each, and in which rows how
        many ranks have padding. Empty where there is no share."""
        raw = CRankRows(ctypes.sizeof(CRankRows))
        self._call("ib_session_rank_rows", "update", byref(raw))
        short = [(raw.row[i], raw.missing[i]) for i in range(raw.short_rows)]
        return lend(c_float, raw.weights, raw.rows, self), short

    def serialize_part(self, with_scores: bool) -> bytes:
        address, size = c_void_p(), c_size_t()
        self._call("ib_session_serialize_part", "state_dict", int(with_scores), byref(address), byref(size))
        self.deliver_warnings()
        return ctypes.string_at(address.value or 0, size.value)

    def join_parts(self, parts: list[bytes], what: str) -> bytes:
        address, size = c_void_p(), c_size_t()
        texts, sizes = _parts(parts)
        self._call("ib_session_join_parts", what, texts, sizes, len(parts), byref(address), byref(size))
        return ctypes.string_at(address.value or 0, size.value)

    def save_parts(self, path: str, parts: list[bytes]) -> None:
        texts, sizes = _parts(parts)
        self._call("ib_session_save_parts", "save", os.fsencode(path), texts, sizes, len(parts))
        self.deliver_warnings()

    # --- columns

    def set_column(self, name: str, dtype: str, address: int) -> None:
        code, _ = COLUMN_TYPES[dtype]
        self._call("ib_session_set_column", "set_column", name.encode(), code, address)

    def column(self, name: str) -> tuple[str, Any]:
        """Its dtype and its values as a lent array."""
        raw = CColumn(ctypes.sizeof(CColumn))
        self._call("ib_session_column", "column", name.encode(), byref(raw))
        dtype, kind = _COLUMN_NAMES[raw.type]
        return dtype, lend(kind, raw.data, raw.size, self)

    def column_names(self) -> list[str]:
        names = ctypes.POINTER(c_char_p)()
        self._call("ib_session_column_names", "column_names", byref(names))
        found: list[str] = []
        while (name := names[len(found)]) is not None:
            found.append(name.decode())
        return found

    # --- state

    def serialize(self) -> bytes:
        address, size = c_void_p(), c_size_t()
        self._call("ib_session_serialize", "state_dict", byref(address), byref(size))
        self.deliver_warnings()
        return ctypes.string_at(address.value or 0, size.value)

    def deserialize(self, state: bytes, resize: Any = False) -> LoadReport:
        what = "load_state_dict"
        if resize is False:
            self._call("ib_session_deserialize", what, state, len(state), None)
        else:
            origin = self._origin(resize, what)
            self._call("ib_session_deserialize_resized", what, state, len(state), origin, None)
        return self._loaded(what)

    def save(self, path: str) -> None:
        self._call("ib_session_save", "save", os.fsencode(path))
        self.deliver_warnings()

    def load(self, path: str, resize: Any = False) -> LoadReport:
        if resize is False:
            self._call("ib_session_load", "load", os.fsencode(path), None)
        else:
            origin = self._origin(resize, "load")
            self._call("ib_session_load_resized", "load", os.fsencode(path), origin, None)
        return self._loaded("load")

    def _origin(self, resize: Any, what: str) -> Any:
        """The ids that samples had when the state was saved, as an array of int64; None: the same."""
        if resize is True:
            return None
        listed: Any = None
        with suppress(TypeError):
            listed = resize.tolist() if hasattr(resize, "tolist") else list(resize)
        if not isinstance(listed, list):
            got = repr(resize)
        elif len(listed) != self.size:
            got = f"{len(listed)} of them"
        else:
            wrong = [n for n in listed if type(n) is not int or not -(2**63) <= n < 2**63]
            if not wrong:
                return (c_int64 * self.size)(*listed)
            got = repr(wrong[0])
        raise ValueError(
            f"{self.name}.{what}: resize must be True, or for each of {self.size} samples the id that "
            f"it had, an integer (-1: it is new), got {got}"
        )

    def export_csv(self, path: str) -> None:
        self._call("ib_session_export_csv", "export", os.fsencode(path))

    def _loaded(self, what: str) -> LoadReport:
        from ._statistics import LoadReport

        self.generation += 1
        raw = CLoadReport(ctypes.sizeof(CLoadReport))
        self._call("ib_session_load_report", what, byref(raw))
        changes = (raw.changes or b"").decode().splitlines()
        self.deliver_warnings()
        return LoadReport(raw.epoch, raw.position, tuple(changes))


def _parts(parts: list[bytes]) -> tuple[Any, Any]:
    return (c_char_p * len(parts))(*parts), (c_size_t * len(parts))(*map(len, parts))


def address_of(array: Any) -> int:
    return ctypes.addressof(array)

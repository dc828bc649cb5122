"""Ranks: several processes train one run, each on its share, and exchange losses between epochs.

What is exchanged, and when, is the engine's (``ib_session_report_to_share`` and what follows it); here is
how it gets from rank to rank. An exchange begins with a meeting: every rank notes in a store that it has
come, and no collective starts before all have. So a rank that does not come is known by its number, and what
a program does in collectives of its own is never mixed up with ours.
"""

from __future__ import annotations

import ctypes
import os
import sys
from abc import ABC, abstractmethod
from contextlib import suppress

from ._errors import RankError
from ._library import CRankReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ._session import Session

#: Seconds that a rank waits for the others, as torch.distributed does.
TIMEOUT = 1800.0
SPLITS = ("sharded", "global")
PADDINGS = ("pad", "trim")


def numbers(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else "ranks " + ", ".join(map(str, ranks))


class Ranks(ABC):
    """The processes of a run, and how they exchange bytes.

    Args:
        rank: of this process, in [0, size).
        size: number of ranks.
        timeout: seconds to wait for a rank.
    """

    def __init__(self, rank: int, size: int, timeout: float) -> None:
        self.rank = rank
        self.size = size
        self.timeout = timeout

    @abstractmethod
    def meet(self, what: str) -> None:
        """Returns when all ranks have come to this place.

        Raises:
            RankError: naming the ranks that did not come in time, or that failed and why.
        """

    @abstractmethod
    def fail(self, what: str, error: BaseException) -> None:
        """This rank cannot come to the next meeting: the others need not wait for it."""

    @abstractmethod
    def gather(self, data: Any, what: str) -> Any:
        """The bytes of all ranks, one behind the other; as many from each. A writable buffer."""

    @abstractmethod
    def largest(self, data: Any, what: str) -> Any:
        """The largest of all ranks, of each of these int32."""

    def gather_any(self, data: bytes, what: str) -> list[bytes]:
        """The bytes of all ranks, of any length."""
        length = len(data).to_bytes(8, "little")
        lengths = bytes(self.gather(bytearray(length), what))
        sizes = [int.from_bytes(lengths[8 * r : 8 * r + 8], "little") for r in range(self.size)]
        most = max(sizes)
        padded = bytearray(most)
        padded[: len(data)] = data
        everything = memoryview(self.gather(padded, what)).cast("B")
        return [bytes(everything[r * most : r * most + size]) for r, size in enumerate(sizes)]


class CalledRanks(Ranks):
    """Ranks whose program gathers bytes itself: MPI, JAX, or what there is.

    Args:
        allgather: from the bytes of this rank to a list of those of all, in their order, of any length.
    """

    def __init__(
        self, rank: int, size: int, timeout: float, allgather: Callable[[bytes], Sequence[bytes]]
    ) -> None:
        super().__init__(rank, size, timeout)
        self._allgather = allgather

    def meet(self, what: str) -> None:
        self._note(b"", what)

    def fail(self, what: str, error: BaseException) -> None:
        self._allgather(f"{type(error).__name__}: {error}".encode())

    def _note(self, note: bytes, what: str) -> None:
        notes = self._ask(note)
        failed = [r for r, text in enumerate(notes) if text]
        if failed:
            raise _failed(what, failed, notes[failed[0]].decode("utf-8", "replace"))

    def _ask(self, data: bytes) -> list[bytes]:
        found = [bytes(part) for part in self._allgather(data)]
        if len(found) != self.size:
            raise RankError(
                f"InfoBatch: allgather must return the bytes of each of {self.size} ranks, got {len(found)}",
                (),
            )
        return found

    def gather(self, data: Any, what: str) -> Any:
        return bytearray(b"".join(self._ask(bytes(data))))

    def largest(self, data: Any, what: str) -> Any:
        parts = [memoryview(part).cast("i") for part in self._ask(bytes(data))]
        found = (ctypes.c_int32 * len(parts[0]))()
        for i, values in enumerate(zip(*parts, strict=True)):
            found[i] = max(values)
        return found


def over_store(store: Any, rank: int, size: int, timeout: float) -> Callable[[bytes], list[bytes]]:
    """An allgather over a store of torch.distributed (TCPStore, FileStore), for programs without a process
    group. What was read by all is deleted."""
    from datetime import timedelta

    round_ = 0
    # The runs that were made over this store, by every rank as many: each has keys of its own.
    made = store.add(f"infobatch/runs/{rank}", 1)

    def key(number: int, of: int) -> str:
        return f"infobatch/{made}/{number}/{of}"

    def allgather(data: bytes) -> list[bytes]:
        nonlocal round_
        number, round_ = round_, round_ + 1
        # A store has no empty values everywhere.
        store.set(key(number, rank), b"." + data)
        found = []
        for other in range(size):
            try:
                store.wait([key(number, other)], timedelta(seconds=timeout))
            except Exception as error:
                raise RankError(
                    f"InfoBatch: all ranks must come to an exchange, got none of rank {other} within "
                    f"{timeout:g} s",
                    (other,),
                ) from error
            found.append(bytes(store.get(key(number, other)))[1:])
        # All ranks have read the last round when they come to this one.
        with suppress(Exception):
            store.delete_key(key(number - 1, rank))
        return found

    return allgather


def _failed(what: str, ranks: Sequence[int], why: str) -> RankError:
    return RankError(f"InfoBatch.{what}: {numbers(ranks)} failed before the exchange: {why}", ranks)


def find_ranks(group: Any, split: Any, padding: Any, timeout: Any) -> tuple[Ranks | None, dict[str, int]]:
    """The ranks of a run, from what the program says and what torch.distributed knows; None: one process
    alone. And what the engine wants to know of them."""
    split = "sharded" if split is None else split
    padding = "pad" if padding is None else padding
    if split not in SPLITS:
        raise ValueError(f"InfoBatch: split must be one of {', '.join(SPLITS)}, got {split!r}")
    if padding not in PADDINGS:
        raise ValueError(f"InfoBatch: padding must be one of {', '.join(PADDINGS)}, got {padding!r}")
    seconds: Any = TIMEOUT if timeout is None else timeout
    if hasattr(seconds, "total_seconds"):
        seconds = seconds.total_seconds()
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ValueError(f"InfoBatch: timeout must be a number of seconds above 0, got {timeout!r}")
    ranks = _find(group, float(seconds))
    if ranks is None or ranks.size == 1:
        return None, {}
    how = {
        "rank": ranks.rank,
        "size": ranks.size,
        "split": SPLITS.index(split),
        "padding": PADDINGS.index(padding),
    }
    return ranks, how


def _initialised() -> bool:
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def require_alone(what: str) -> None:
    """Raises where a run that was made for one process has since become one of several."""
    if not _initialised():
        return
    size = sys.modules["torch"].distributed.get_world_size()
    if size > 1:
        raise RuntimeError(
            f"InfoBatch.{what}: the InfoBatch must be made behind torch.distributed.init_process_group, got "
            f"one from before that: {size} processes would each train on all samples. Or say group=False, if "
            "this process is to train alone"
        )


def _find(group: Any, timeout: float) -> Ranks | None:
    if group is False:
        return None
    if isinstance(group, tuple):
        return _of_tuple(group, timeout)
    if not _initialised():
        if group is not None:
            raise RuntimeError(
                f"InfoBatch: group must come with torch.distributed initialised, got {type(group).__name__} "
                "before: call torch.distributed.init_process_group first"
            )
        started = os.environ.get("WORLD_SIZE", "1")
        if started.isdigit() and int(started) > 1 and "RANK" in os.environ:
            raise RuntimeError(
                f"InfoBatch: {started} processes were started together (WORLD_SIZE) and torch.distributed is "
                "not initialised, so every one of them would train on all samples: call "
                "torch.distributed.init_process_group before the InfoBatch is made, or say group=False if "
                "this process is to train alone"
            )
        return None
    from ._process_group import of_group

    return of_group(group, timeout)


def _is_function(value: Any) -> bool:
    return callable(value)


def _of_tuple(group: tuple[Any, ...], timeout: float) -> Ranks | None:
    from .samplers import integer

    rule = "InfoBatch: group as a tuple must be (rank, size, allgather or a store), or (rank, size)"
    if len(group) not in (2, 3):
        raise ValueError(f"{rule}, got {group!r}")
    rank, size = (integer(value, "rank and size of group", "InfoBatch", least=0) for value in group[:2])
    if not 0 <= rank < size:
        raise ValueError(f"{rule} with rank in [0, size), got rank {rank} of {size}")
    way: Any = group[2] if len(group) == 3 else None
    if _is_function(way):
        return CalledRanks(rank, size, timeout, way)
    if way is not None:
        if not all(hasattr(way, name) for name in ("set", "get", "wait")):
            raise ValueError(f"{rule}, got {group!r}")
        return CalledRanks(rank, size, timeout, over_store(way, rank, size, timeout))
    # Numbers alone say who this is, not how losses get to the others.
    if _initialised():
        distributed: Any = sys.modules["torch"].distributed
        world = distributed.get_rank(), distributed.get_world_size()
        if world == (rank, size):
            from ._process_group import of_group

            return of_group(None, timeout)
        raise ValueError(
            f"InfoBatch: group=({rank}, {size}) must be the place in torch.distributed, got rank {world[0]} "
            f'of {world[1]} there: give the process group of these {size}, or mesh["dp"] of a DeviceMesh'
        )
    raise ValueError(
        f"{rule} with torch.distributed initialised, got {group!r} without: losses are exchanged between "
        "epochs, so a third part must say how: an allgather of bytes, or a store (TCPStore, FileStore)"
    )


# --- what all ranks of a run must have in common


def agree_on_run(ranks: Ranks, own: dict[str, Any]) -> dict[str, Any]:
    """Compares what this rank was made with to what the others were, and returns rank 0's.

    Raises:
        RankError: naming what differs, on which ranks.
    """
    import json

    ranks.meet("__init__")
    texts = ranks.gather_any(json.dumps(own, sort_keys=True).encode(), "__init__")
    found: list[dict[str, Any]] = [json.loads(text) for text in texts]
    first = found[0]
    wrong: list[str] = []
    who: list[int] = []
    for rank, other in enumerate(found):
        for name in sorted(first.keys() | other.keys()):
            if name != "default_seed" and other.get(name) != first.get(name):
                wrong.append(f"rank {rank}: {name} {other.get(name)}, rank 0: {first.get(name)}")
                who.append(rank)
    if wrong:
        raise RankError(
            f"InfoBatch: all ranks must make the same run, got {'; '.join(wrong)}", sorted(set(who))
        )
    return first


def exchange(ranks: Ranks, session: Session, target: int, what: str) -> None:
    """Between epochs: the reports of all ranks and, where an epoch ends, its losses."""
    own = session.report_to_share(target)
    ranks.meet(what)
    raw = ranks.gather(bytearray(own), what)
    reports = (CRankReport * ranks.size).from_buffer(raw)
    agree(session, reports, what)
    if not session.must_share(reports):
        return
    losses = session.losses_to_share()
    if session.ranks["split"] == SPLITS.index("global"):
        everything = ranks.largest(losses, what)
    else:
        everything = ranks.gather(losses, what)
    session.take_losses(everything, len(losses), reports)
    session.unsound = [report.rank for report in reports if report.entering < report.observed]


def agree(session: Session, reports: Any, what: str) -> None:
    try:
        session.agree(reports, what)
    except RuntimeError as error:
        first = _common(reports[0])
        who = [r for r in range(len(reports)) if reports[r].rank != r or _common(reports[r]) != first]
        raise RankError(str(error), who) from None


def _common(report: CRankReport) -> list[Any]:
    own = ("rank", "observed", "entering", "over")
    return [getattr(report, name) for name, *_ in report._fields_ if name not in own]


def meet_failed(ranks: Ranks, what: str, error: BaseException) -> None:
    """Tells the others that this rank does not come; whatever becomes of that, the error is this rank's."""
    with suppress(Exception):
        ranks.fail(what, error)


__all__ = ["CalledRanks", "Ranks", "agree_on_run", "exchange", "find_ranks", "meet_failed"]

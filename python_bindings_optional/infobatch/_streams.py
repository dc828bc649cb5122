"""A stream of samples, filtered by the plan of an epoch before anything is decoded.

The stream is read where the program reads it: in the process that trains, or in the workers of a loader, each
of which has its own part of it. A worker cannot ask the run, so the run puts up what workers have to know on
a *board*: a folder of temporary files that every process of the machine can read.

- ``kept``: which samples are to be delivered, a bit each, replaced as a whole with every epoch.
- ``turn``: a few numbers in shared memory: which of them is valid, and who has begun to read by it.
- ``ended-...``: written by a worker whose part of the stream has come to its end: what it has delivered.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import sys
import tempfile
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ._delivery import Streamed
from ._errors import FileError, StreamWarning
from ._library import UNSEEN_BITS
from ._session import warn
from ._step import numpy
from .samplers import integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._session import Plan, Session
    from .infobatch import InfoBatch, _Run

#: Workers of a loader that the board knows by their number.
_WORKERS = 1024
_HEAD = struct.Struct("<3q")


def bits_of(ids: Any, size: int) -> bytearray:
    """A bit for each of ``size`` samples, set where it is among the ids."""
    np = numpy()
    if np is not None:
        whole = np.zeros(size, np.uint8)
        whole[np.asarray(ids, np.int64)] = 1
        return bytearray(np.packbits(whole, bitorder="little").tobytes())
    bits = bytearray((size + 7) // 8)
    for id in ids:
        bits[id >> 3] |= 1 << (id & 7)
    return bits


def _count(bits: Any) -> int:
    return int.from_bytes(bits, "little").bit_count()


def _due(session: Session, plan: Plan) -> Any:
    """The samples of the running epoch that were not observed: all of them, but for one that goes on behind a
    load."""
    if session.position == 0:
        return plan.ids
    losses = memoryview(session.epoch_arrays(plan).losses).cast("B").cast("I")
    np = numpy()
    if np is not None:
        return np.asarray(plan.ids)[np.asarray(losses) == UNSEEN_BITS]
    return [id for id, loss in zip(plan.ids, losses, strict=True) if loss == UNSEEN_BITS]


class Passage(NamedTuple):
    """One part of a stream that has come to its end.

    Attributes:
        worker, workers: whose it was; (0, 1): the process that trains.
        rows: samples that were delivered, repeated ones included.
        bits: which.
    """

    worker: int
    workers: int
    rows: int
    bits: bytes


class Notice(NamedTuple):
    """What a reader of the stream has to keep to."""

    turn: int
    epoch: int
    bits: Any


class Board:
    """What the workers of a loader are told of a run, and what they tell.

    It travels to them as the name of a folder. What is put up is valid until the next `put_up` or
    `withdraw`; whoever reads by an older notice is refused.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._make()

    def _make(self) -> None:
        self.process = os.getpid()
        self.folder = tempfile.mkdtemp(prefix="infobatch-")
        self._shared: memoryview[int] | None = None
        self._write_turn()
        self.turn = 0
        self.epoch = 0
        #: Bits of what is to be delivered; None: nothing is put up.
        self.bits: bytearray | None = None
        self.passages: list[Passage] = []
        self._told: set[str] = set()
        self._removed = weakref.finalize(self, _remove, self.folder, self.process)

    def here(self) -> Board:
        """In a fork that goes on with the run, its own."""
        if self.process != os.getpid():
            self._removed.detach()
            self._make()
        return self

    def _write_turn(self) -> None:
        with open(self._path("turn"), "wb") as file:
            file.write(bytes(8 * (2 + 2 * _WORKERS)))
        self._shared = None

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    @property
    def shared(self) -> memoryview[int]:
        """The turn, how often workers may begin in it, and of each worker: in which turn it began last, and
        how often."""
        if self._shared is None:
            with open(self._path("turn"), "r+b") as file:
                self._shared = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        return self._shared

    # --- the process that trains

    def put_up(self, epoch: int, ids: Any) -> None:
        """An epoch begins.

        Raises:
            FileError: it cannot be written; nothing is put up then.
        """
        bits = bits_of(ids, self.size)
        path = self._path("kept")
        self.withdraw()
        try:
            if not os.path.exists(self._path("turn")):  # by a cleaner of temporary files
                os.makedirs(self.folder, 0o700, exist_ok=True)
                self._write_turn()
                self.shared[1], self.shared[0] = 1, self.turn
            with open(path + ".new", "wb") as file:
                file.write(_HEAD.pack(self.turn, epoch, self.size))
                file.write(bits)
            os.replace(path + ".new", path)
        except OSError as error:
            raise FileError(
                f"InfoBatch.filter: what workers are to deliver must be written to {self.folder}, got "
                f"{error}: make room there, or name another folder by TMPDIR; then set the epoch again"
            ) from error
        self.epoch, self.bits = epoch, bits

    def allow_again(self) -> None:
        """Workers may begin once more with what is put up."""
        self.shared[1] += 1

    def withdraw(self) -> None:
        """Nothing is put up until an epoch is set."""
        self.turn += 1
        self.bits = None
        self.passages = []
        with suppress(FileNotFoundError):  # the folder is gone, and made anew with the next epoch
            self.shared[1] = 1
            self.shared[0] = self.turn
            for name in os.listdir(self.folder):
                if name == "kept" or name.startswith("ended-"):
                    os.unlink(self._path(name))

    def close(self, alone: bool) -> int:
        """An epoch has come to its end: warns of what its stream lacked, or had twice, where all of it was
        read.

        Args:
            alone: all of the stream is this process's, and its workers'.

        Returns:
            rows that are known to have been delivered.
        """
        passages, self.passages = [*self.passages, *self._ended()], []
        rows = sum(passage.rows for passage in passages)
        if self.bits is None or not passages:
            return rows
        seen = 0
        for passage in passages:
            seen |= int.from_bytes(passage.bits, "little")
        if rows > seen.bit_count():
            self._tell(
                "twice",
                f"{rows - seen.bit_count()} rows were samples that had come before: each row is weighted and "
                "the last loss is the score, but these samples count more than others. Every worker has to "
                "read a part of the stream of its own (WebDataset: workersplitter=wds.split_by_worker)",
            )
        whole = {passage.worker for passage in passages} == set(range(passages[0].workers))
        lacks = int.from_bytes(self.bits, "little") & ~seen
        if whole and alone and lacks:
            first = (lacks & -lacks).bit_length() - 1
            self._tell(
                "never",
                f"{lacks.bit_count()} of {_count(self.bits)} planned samples never came (the first: "
                f"{first}); they keep their scores. A part of the data is missing, or ids are not 0 .. N-1",
            )
        return rows

    def _tell(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            warn(f"InfoBatch.filter: of the stream of epoch {self.epoch} {text}", StreamWarning)

    def _ended(self) -> list[Passage]:
        """What workers have told."""
        found: list[Passage] = []
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            head, *numbers = name.split("-")
            if head != "ended" or name.endswith(".new"):
                continue
            turn, worker = map(int, numbers)
            if turn != self.turn:
                continue
            with open(self._path(name), "rb") as file:
                workers, rows, _ = _HEAD.unpack(file.read(_HEAD.size))
                found.append(Passage(worker, workers, rows, file.read()))
        return found

    # --- workers

    def read(self, worker: int) -> Notice:
        """What a worker is to deliver.

        Raises:
            RuntimeError: nothing is put up, or the worker has delivered it already.
        """
        self._shared = None  # the file may be another one by now
        try:
            with open(self._path("kept"), "rb") as file:
                turn, epoch, _ = _HEAD.unpack(file.read(_HEAD.size))
                bits = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[_HEAD.size :]
        except FileNotFoundError:
            if not os.path.exists(self._path("turn")):
                raise RuntimeError(
                    f"InfoBatch.filter: workers must find {self.folder}, where the run says what they are to "
                    f"deliver, got none in worker {worker}: the run has ended, or a cleaner of temporary "
                    "files was there. set_epoch(epoch) makes it anew; TMPDIR names another place"
                ) from None
            raise RuntimeError(
                f"InfoBatch.filter: an epoch must be set before workers read its stream, got none in worker "
                f"{worker}: call set_epoch(epoch) of the InfoBatch before each iteration of the loader, and "
                "behind a load"
            ) from None
        if worker < _WORKERS:
            place = 2 + 2 * worker
            begun = self.shared[place + 1] if self.shared[place] == turn else 0
            if begun >= self.shared[1]:
                raise RuntimeError(
                    f"InfoBatch.filter: worker {worker} must read the stream of an epoch once, got another "
                    f"iteration in epoch {epoch}: call set_epoch(epoch) of the InfoBatch before each "
                    "iteration of the loader, for workers cannot see where the run stands"
                )
            self.shared[place], self.shared[place + 1] = turn, begun + 1
        return Notice(turn, epoch, bits)

    def ended(self, notice: Notice, passage: Passage) -> None:
        """A worker has read all of its part; where it has done so before, that is forgotten."""
        path = self._path(f"ended-{notice.turn}-{passage.worker}")
        try:
            with open(path + ".new", "wb") as file:
                file.write(_HEAD.pack(passage.workers, passage.rows, 0))
                file.write(passage.bits)
            os.replace(path + ".new", path)
        except FileNotFoundError:
            pass  # the run is gone, or has gone on: nobody asks for it

    def __reduce__(self) -> Any:
        return _board_elsewhere, (self.size, self.folder)


def _board_elsewhere(size: int, folder: str) -> Board:
    """The board as other processes have it."""
    board = object.__new__(Board)
    board.size, board.folder, board.process, board._shared = size, folder, -1, None
    return board


def _remove(folder: str, process: int) -> None:
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


class Filter:
    """What an epoch's plan keeps of a stream, in the stream's order. Made by ``InfoBatch.filter``."""

    def __init__(self, owner: InfoBatch | None, board: Board, stream: Any, id_of: Any) -> None:
        self._owner = owner
        self._board = board
        self._stream = stream
        self._id_of = id_of
        self._came = False  # anything, in this reading or one before

    def __iter__(self) -> Iterator[Any]:
        source = iter(self._stream)
        run = None if self._owner is None else self._owner._run
        if run is not None and self._owner is not None and self._owner._process == os.getpid():
            return self._deliver_here(run, source)
        return self._deliver_in_worker(source)

    def _deliver_here(self, run: _Run, source: Iterator[Any]) -> Iterator[Any]:
        board, feed = self._board.here(), run.feed
        iteration = feed.current
        if not isinstance(iteration, Streamed) or not iteration.fresh():
            run.close_stream()
            iteration = begin(run)
        iteration.taken = True
        turn, bits = board.turn, board.bits
        if bits is None:
            raise RuntimeError(
                "InfoBatch.filter: an epoch must be set before its stream is read, got none: the last "
                "set_epoch failed. Set the epoch again"
            )
        seen = bytearray(len(bits))
        rows = 0
        for id, sample in self._kept(source, bits):
            feed.require(iteration)
            seen[id >> 3] |= 1 << (id & 7)
            iteration.delivered = rows = rows + 1
            yield sample
        if board.turn == turn:
            iteration.deliver()
            board.passages = [Passage(0, 1, rows, bytes(seen))]

    def _deliver_in_worker(self, source: Iterator[Any]) -> Iterator[Any]:
        board = self._board
        worker, workers = _place()
        notice = board.read(worker)
        shared, turn = board.shared, notice.turn
        seen = bytearray(len(notice.bits))
        rows = 0
        for id, sample in self._kept(source, notice.bits):
            if shared[0] != turn:
                raise RuntimeError(
                    f"InfoBatch.filter: the stream of epoch {notice.epoch} must have been read before "
                    f"another epoch begins, got one while worker {worker} still reads: a loop that broke off "
                    "and kept its iterator, or a stream without an end (WebDataset: with_epoch behind the "
                    "filter)"
                )
            seen[id >> 3] |= 1 << (id & 7)
            rows += 1
            yield sample
        board.ended(notice, Passage(worker, workers, rows, bytes(seen)))

    def _kept(self, source: Iterator[Any], bits: Any) -> Iterator[tuple[int, Any]]:
        size, id_of = self._board.size, _reader(self._id_of)
        before, came = self._came, False
        for sample in source:
            came = self._came = True
            id = id_of(sample)
            if type(id) is not int:
                id = _number(id)
            if not 0 <= id < size:
                raise IndexError(f"InfoBatch.filter: ids must be in [0, {size}), got {id}")
            if bits[id >> 3] >> (id & 7) & 1:
                yield id, sample
        if before and not came and source is self._stream:
            raise ValueError(
                "InfoBatch.filter: stream must be what can be read once an epoch, got "
                f"{type(source).__name__}, which is at its end: hand over what makes the iterator, such as a "
                "data set"
            )

    # A stateful loader asks for the state of what its workers read, and would skip without one.

    def state_dict(self) -> dict[str, Any]:
        """None of its own: the run's state says which samples are still to come."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Does nothing."""

    def __reduce__(self) -> Any:
        return type(self), (None, self._board, self._stream, self._id_of)

    def __deepcopy__(self, memo: dict[int, Any]) -> Filter:
        from copy import deepcopy

        return type(self)(self._owner, self._board, deepcopy(self._stream, memo), self._id_of)


class Stage:
    """A filter without its stream, for pipelines that hand it over: ``stage(stream)`` iterates what an
    epoch's plan keeps of it. Made by ``InfoBatch.filter(id_of=...)``."""

    def __init__(self, owner: InfoBatch | None, board: Board, id_of: Any) -> None:
        self._owner = owner
        self._board = board
        self._id_of = id_of

    def __call__(self, stream: Any) -> Iterator[Any]:
        return iter(Filter(self._owner, self._board, stream, self._id_of))

    def __reduce__(self) -> Any:
        return type(self), (None, self._board, self._id_of)

    def __deepcopy__(self, memo: dict[int, Any]) -> Stage:
        return self


def begin(run: _Run) -> Streamed:
    """An epoch begins whose samples come from a stream: what is to be delivered is put up."""
    assert run.board is not None
    board, feed = run.board.here(), run.feed
    board.withdraw()
    iteration = Streamed(feed)
    plan = feed.start(iteration)
    iteration.enter()
    board.put_up(plan.epoch, _due(run.session, plan))
    return iteration


def _place() -> tuple[int, int]:
    """Which worker of a loader this is, and of how many."""
    torch = sys.modules.get("torch")
    found = None if torch is None else torch.utils.data.get_worker_info()
    return (0, 1) if found is None else (found.id, found.num_workers)


def _reader(id_of: Any) -> Callable[[Any], Any]:
    if callable(id_of):
        return id_of  # type: ignore[no-any-return]

    def read(sample: Any) -> Any:
        try:
            return sample[id_of]
        except (KeyError, IndexError) as error:
            raise KeyError(
                f"InfoBatch.filter: id_of must be a key of every sample, or a function of it, got {id_of!r} "
                f"for one without ({sorted(sample) if isinstance(sample, dict) else type(sample).__name__})"
            ) from error

    return read


def _number(id: Any) -> int:
    """An id as streams have them: an integer, or its digits."""
    if isinstance(id, (str, bytes)):
        if id.isascii() and id.isdigit():
            return int(id)
        raise ValueError(
            f"InfoBatch.filter: an id must be an integer or its digits, got {id!r}: give a function of the "
            "sample, id_of=lambda sample: ..., that makes a number of it"
        )
    return integer(id, "an id", "InfoBatch.filter")

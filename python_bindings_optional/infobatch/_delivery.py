"""Delivering samples: the iterators of a sampler, and what of them the engine has to know.

A loader pulls, and only one iteration of a run can be under way: its plan is the order in which losses
come back. Two ways of pulling:

- *batches* (``BatchIterator``): each pull is one call of the engine, which therefore knows the batches.
- *rows* (``RowIterator``): a loader of somebody else's takes one index after the other, at the speed of
  C, since the iterator is an ``itertools.chain`` over pieces of the plan. How many it took is read off
  the piece in hand; the engine is told when it has to know: before an update, at the end, at a save.

A *stream* (``Streamed``) is no way of pulling: what comes of it comes in an order of its own, and by ids.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections import deque
from itertools import chain
from operator import length_hint
from threading import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from ._session import Plan, Session

#: What a refusal on several ranks may come from.
_FRAMEWORK = (
    "On several ranks the sampler delivers this rank's share; a framework that splits batches itself needs "
    "split='global', and ids"
)

#: Indices of a piece of the plan: small enough to be made in microseconds.
PIECE = 1024


class Feed:
    """Which iteration of a run is under way, and how far it is.

    Args:
        session: the run.
        settle: called before an epoch begins, with True where losses must be handed over whatever comes.
        release: called after that, still before: nothing shall hold arrays of the epoch that was.
        renew: called when an epoch has begun.
        check: called before an epoch begins; raises where the data set is not the one of before.
        meet: called before an epoch begins, behind all of these; on several ranks it exchanges losses, with
            True also where set_epoch has done so.
        failed: called where any of these fails before the exchange.
    """

    def __init__(
        self,
        session: Session,
        settle: Callable[[bool], None],
        release: Callable[[], None],
        renew: Callable[[], None],
        check: Callable[[], None],
        meet: Callable[[bool], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.session = session
        self._settle = settle
        self._release = release
        self._renew = renew
        self._check = check
        self._meet = meet
        self._failed = failed
        self._plan: Plan | None = None
        self._ids: memoryview[int] | None = None
        self.current: Iteration | None = None
        self.declared: bool | None = None
        self._reorders = False
        self._begun_at = 0  # samples that were observed when the iteration began
        self._set: int | None = None

    def set_again(self, epoch: int) -> bool:
        """The epoch that is under way is set once more. While nothing of it was observed, its iteration
        goes on, and the next one begins anew: trainers set an epoch that their workers fetch already."""
        if not self._untouched(epoch):
            return False
        self._set = epoch
        return True

    def _untouched(self, epoch: int) -> bool:
        current = self.current
        if current is None or not current.begun:
            return False
        return self.plan.epoch == epoch and self.session.position == self._begun_at

    def start(self, iteration: Iteration) -> Plan:
        """An iteration begins: the next epoch, or the same one while nothing was observed."""
        session = self.session
        try:
            self._check()
            self.sync()
            self._settle(True)
            iteration.check_expected()
        except Finished:
            raise
        except BaseException as error:
            self._failed(error)
            raise
        epoch, self._set = self._set, None
        if epoch is not None and self._untouched(epoch):
            session.set_epoch(epoch)
            epoch = None
        self._meet(epoch is not None)
        # A plan that nobody holds gives its memory to a next one. New memory costs more than the plan.
        self._plan = self._ids = None
        self._release()
        session.begin()
        self._begun_at = session.position
        if session.sharded:
            session.suspect(_FRAMEWORK)
        self.drop()
        self._reorders = reorders()
        self.current = iteration
        self._renew()
        session.deliver_warnings()
        return self.plan

    @property
    def plan(self) -> Plan:
        """That of the iteration under way."""
        if self._plan is None:
            self._plan = self.session.plan()
        return self._plan

    @property
    def ids(self) -> memoryview[int]:
        """Those of the plan."""
        if self._ids is None:
            self._ids = self.plan.ids
        return self._ids

    def sync(self) -> None:
        """Tells the engine of rows that were pulled since it was told last."""
        if self.current is not None:
            self.current.sync()

    def drop(self) -> None:
        """No iteration is under way; one that was raises when it is pulled from again."""
        self._set = None
        if self.current is not None:
            self.current.stop()
            self.current = None

    @property
    def ended(self) -> bool:
        """All of the plan was delivered."""
        return self.current is not None and self.current.ended()

    def came(self, count: int) -> None:
        """So many rows came back by ids, that the engine is told of later."""
        if isinstance(self.current, Streamed):
            self.current.rows += count

    def require_order(self, what: str) -> None:
        """Raises where batches may change places, so that only ids say whose losses these are."""
        if isinstance(self.current, Streamed):
            raise RuntimeError(
                f"{self.session.name}.{what}: losses of a filtered stream must come with ids, got none: its "
                "order is not that of the plan. Let the pipeline put the ids into the batch, and pass them, "
                "update(losses, ids)"
            )
        if self._reorders:
            raise RuntimeError(
                f"{self.session.name}.{what}: batches must come in the order of delivery where no ids are "
                "given, got a loader with in_order=False: pass the ids, update(losses, ids), with "
                "Indexed(dataset) putting them into the batch; or leave in_order=True"
            )

    def require(self, iteration: Iteration) -> None:
        if self.current is not iteration:
            raise RuntimeError(
                f"{self.session.name}.sampler: only one iteration of a run can be under way, got a pull "
                "from an earlier one: two loaders share this run, or set_epoch, discard_epoch or a load "
                "came in between. Iterate anew; two loaders at once need an InfoBatch each"
            )


def reorders() -> bool:
    """Whether what pulls is a loader of torch with ``in_order=False``, seen from its frames."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "_next_index":  # the method of its iterators that pulls
            return getattr(frame.f_locals.get("self"), "_in_order", True) is False
        frame = frame.f_back
    return False


class Finished(Exception):
    """A saved iteration had come to its end: nothing is left of it."""


class Iteration(ABC):
    """One iteration: what both ways of pulling share."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.expected: dict[str, int] | None = None
        self.begun = False

    @abstractmethod
    def sync(self) -> None:
        """Tells the engine what was pulled."""

    @abstractmethod
    def stop(self) -> None:
        """It was overtaken: the next pull raises."""

    @abstractmethod
    def ended(self) -> bool:
        """All of the plan was delivered."""

    @abstractmethod
    def position(self) -> int:
        """Samples of the plan that were delivered."""

    def state_dict(self) -> dict[str, int]:
        """Where this iteration stands: plain integers, so safe for ``torch.load(weights_only=True)``."""
        if self.begun:
            plan = self.feed.plan
            return {"epoch": plan.epoch, "position": self.position(), "length": len(plan)}
        if self.expected is not None:
            return self.expected
        return {"epoch": self.feed.session.epoch, "position": 0, "length": 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Before the first pull: this iteration goes on where the state says, which must be where the
        run itself stands, since the scores are in the run's state and not in this one."""
        if self.begun:
            raise RuntimeError(
                f"{self.feed.session.name}.sampler: load_state_dict must come before the first pull, got "
                f"position {self.position()}"
            )
        self.expected = {name: int(state[name]) for name in ("epoch", "position", "length")}

    def check_expected(self) -> None:
        """Whether the run stands where the loader stood. A batch that was out when the loader's state was
        taken, and not observed, comes again.

        Raises:
            Finished: that epoch is over, and so is this iteration.
            ValueError: the run is elsewhere.
        """
        expected, self.expected = self.expected, None
        if expected is None or expected["position"] == 0:
            return
        session = self.feed.session
        epoch, observed = session.epoch, session.position
        if epoch == expected["epoch"] + 1 and expected["position"] == expected["length"]:
            raise Finished
        if epoch != expected["epoch"] or not 0 < observed <= expected["position"]:
            raise ValueError(
                f"{session.name}.sampler: the loader's state must be of the same step as that of the run, "
                f"got epoch {expected['epoch']}, position {expected['position']} where the run is at epoch "
                f"{epoch}, position {observed}: load the run's own state first (load_state_dict of the "
                "InfoBatch), and save both at the same step (snapshot_every_n_steps=1)"
            )


class Rows(Iteration):
    """The rows of an epoch, piece by piece."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        self._base = 0  # position behind the piece in hand
        self._piece: Iterator[int] = iter(())
        self._told = 0  # position up to which the engine knows
        self._size = 0
        self._telling = Lock()

    def pieces(self) -> Iterator[Iterator[int]]:
        feed = self.feed
        session = feed.session
        try:
            plan = feed.start(self)
        except Finished:
            return
        self.begun = True
        ids = plan.ids
        self._size = len(plan)
        if self._size == 0:
            return
        # The row that is being pulled. Where it lies says whether the epoch goes on behind what was
        # observed, or around samples that were observed by ids.
        observed = session.position
        begin, count = session.next_rows(1)
        self._base = self._told = begin
        if begin < observed or count == 0:
            yield from self._around(begin, count)
            return
        self._told += 1
        while self._base < self._size:
            end = min(self._base + PIECE, self._size)
            piece = ids[self._base : end].tolist()
            self._base, self._piece = end, iter(piece)
            yield self._piece
            feed.require(self)
        self.sync()

    def _around(self, begin: int, count: int) -> Iterator[Iterator[int]]:
        """An epoch that was observed by ids out of order: the engine says which samples are pending."""
        ids = self.feed.plan.ids
        while count > 0:
            self._base = self._told = begin + count
            self._piece = iter(ids[begin : begin + count].tolist())
            yield self._piece
            self.feed.require(self)
            begin, count = self.feed.session.next_rows(PIECE)
        self._base = self._told = self._size

    def position(self) -> int:
        return self._base - length_hint(self._piece)

    def sync(self) -> None:
        if self._base - length_hint(self._piece) <= self._told:
            return
        with self._telling:  # threads that ask at once tell it once
            pulled = self.position() - self._told
            if pulled > 0:
                self.feed.session.note_rows(pulled)
                self._told += pulled

    def stop(self) -> None:
        deque(self._piece, maxlen=0)  # so that the next pull asks `pieces`, which refuses

    def ended(self) -> bool:
        return self.begun and self.position() >= self._size


class RowIterator(chain[int]):
    """The indices of an epoch one by one: ``iter(ib.sampler)``. Made with ``row_iterator``."""

    rows: Rows

    def state_dict(self) -> dict[str, int]:
        """Epoch and position of this iteration, as plain integers."""
        return self.rows.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on at the position of a saved iteration; the run's own state must be loaded already."""
        self.rows.load_state_dict(state_dict)


def row_iterator(feed: Feed) -> RowIterator:
    """A new iteration by rows. Nothing happens before its first pull."""
    rows = Rows(feed)
    iterator: RowIterator = RowIterator.from_iterable(rows.pieces())  # type: ignore[assignment]
    iterator.rows = rows
    return iterator


class BatchIterator(Iteration):
    """The batches of an epoch, as lists of indices: ``iter(ib.batch_sampler(B))``."""

    def __init__(self, feed: Feed, batch_size: int, drop_last: bool) -> None:
        super().__init__(feed)
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._end = 0
        self._done = False
        self._size = 0

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> list[int]:
        feed = self.feed
        if self._done:
            raise StopIteration
        if not self.begun:
            try:
                self._size = len(feed.start(self))
            except Finished:
                self._done = True
                raise StopIteration from None
            if feed.declared is not self._drop_last:
                feed.session.declare_drop_last(self._drop_last)
                feed.declared = self._drop_last
            self.begun = True
        else:
            feed.require(self)
        begin, count = feed.session.next(self._batch_size)
        self._end = begin + count
        if count == 0 or (count < self._batch_size and self._drop_last):
            self._done = True
            raise StopIteration
        return feed.ids[begin : begin + count].tolist()

    def sync(self) -> None:
        pass  # each pull is a call of the engine

    def stop(self) -> None:
        pass  # each pull asks whether it is the one under way

    def position(self) -> int:
        return self._end

    def ended(self) -> bool:
        return self.begun and (self._done or self._end >= self._size)


class Streamed(Iteration):
    """An epoch whose samples come from a stream, in its order, maybe in the workers of a loader. The engine
    counts all of the plan as delivered when the first loss has come back, and the ids say the rest."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        #: Rows that came back and that the engine does not know of, for they are on a device.
        self.rows = 0
        #: Read in the process that trains, and so many samples of it.
        self.taken = False
        self.delivered = 0
        self._told = False
        self._size = 0
        self._begun_at = 0

    def enter(self) -> None:
        """It has begun."""
        self.begun = True
        self._size = len(self.feed.plan)
        self._begun_at = self.feed.session.position

    def fresh(self) -> bool:
        """It has begun, and nothing was read or observed."""
        return self.begun and not self.taken and not self._told and self._observed() == 0

    def _observed(self) -> int:
        return self.rows or self.feed.session.position - self._begun_at

    def sync(self) -> None:
        if not self._told and self._observed() > 0:
            self.deliver()

    def deliver(self) -> None:
        """All that was to come was read."""
        session = self.feed.session
        while not self._told:
            self._told = session.next_rows(max(self._size, 1))[1] == 0

    def stop(self) -> None:
        pass  # each sample asks whether it is of the one under way

    def position(self) -> int:
        return min(self.rows or self.delivered, self._size)

    def ended(self) -> bool:
        return self.begun and self.position() >= self._size


__all__ = ["BatchIterator", "Feed", "Iteration", "RowIterator", "Rows", "Streamed", "row_iterator"]

"""The InfoBatch of a run: a data set (or its length), the samplers over it, and the third line."""

from __future__ import annotations

import os
import sys

from ._delivery import Feed, Streamed
from ._session import Session, option_kinds, warn
from .samplers import BatchSampler, Sampler, integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from torch.utils.data import Dataset
    from typing_extensions import Self, Unpack

    from ._options import Options
    from ._ranks import Ranks
    from ._session import Plan
    from ._statistics import LoadReport, Statistics
    from ._step import Step
    from ._streams import Board, Filter, Stage

    # For type checkers it is a data set of torch's, as it is where torch is loaded.
    _DataSet = Dataset[Any]
else:
    _DataSet = object


_OWN_OPTIONS = (
    "threads",
    "device",
    "backend",
    "columns",
    "sampling_weights",
    "group",
    "split",
    "padding",
    "timeout",
)
_OFFICIAL = {"epochs", "prune_ratio", "delta"}  # as arguments of the official package

# Attributes that stay in the process that trains.
_OF_THE_RUN = frozenset({"_run", "_sampler", "_process", "_written_as", "_group"})

# Attributes of an InfoBatch itself: never asked of the data set within.
_OWN_ATTRIBUTES = frozenset(
    {
        "dataset",
        "num_epochs",
        "prune_ratio",
        "delta",
        "_run",
        "_options",
        "_own",
        "_group",
        "_size",
        "_sampler",
    }
)


class _Run:
    """What stays in the process that trains: session, deliveries, the step, the other ranks."""

    def __init__(
        self, session: Session, feed: Feed, step: Step, ranks: Ranks | None, looks_for_ranks: bool
    ) -> None:
        self.session = session
        self.feed = feed
        self.step = step
        self.ranks = ranks
        #: Nobody said that this process trains alone: it was, when the run was made.
        self.looks_for_ranks = looks_for_ranks and ranks is None
        #: The ranks have met to begin the epoch whose iteration comes next.
        self.met = False
        #: The epoch that was loaded, until another one is set, and whether it was over.
        self.loaded: int | None = None
        self.loaded_over = False
        #: Samples that were observed of an epoch when it was set; None: none was.
        self.set_at: int | None = None
        #: What workers that read a filtered stream are told; None where no stream is filtered.
        self.board: Board | None = None

    def meet(self, target: int, what: str, anew: bool = False) -> None:
        """On several ranks: exchanges what is to be exchanged before an epoch begins."""
        if self.ranks is None:
            if self.looks_for_ranks and "torch" in sys.modules:
                from ._ranks import require_alone

                require_alone(what)
            return
        from ._ranks import exchange

        if target >= 0 or anew or not self.met:
            exchange(self.ranks, self.session, target, what)
        self.met = target >= 0

    def close_stream(self) -> None:
        """The epoch of a filtered stream is left: warns of what it lacked."""
        if self.board is None:
            return
        rows = self.board.here().close(self.ranks is None)
        current = self.feed.current
        if rows and isinstance(current, Streamed):
            current.deliver()

    def withdraw(self) -> None:
        """The epoch that was set is none any more."""
        self.set_at = None
        if self.board is not None:
            self.board.here().withdraw()

    def failed(self, error: BaseException, what: str) -> None:
        """This rank does not come to the exchange, and says so to the others."""
        if self.ranks is not None:
            from ._ranks import meet_failed

            meet_failed(self.ranks, what, error)

    def whole_state(self, what: str) -> list[bytes]:
        """The parts of all ranks."""
        assert self.ranks is not None
        try:
            own = self.session.serialize_part(False)
        except BaseException as error:
            self.failed(error, what)
            raise
        self.ranks.meet(what)
        return self.ranks.gather_any(own, what)


class InfoBatch(_DataSet):
    """Skips samples that the network has already learned, without changing what training converges to.

    The three lines, unchanged from the official package::

        dataset = InfoBatch(dataset, num_epochs=200, prune_ratio=0.5)                   # 1
        loader = DataLoader(dataset, batch_size=128, sampler=dataset.sampler)           # 2
        ... loss = dataset.update(criterion(outputs, targets));  loss.backward()        # 3

    The same without a data set, for new code::

        ib = InfoBatch(50_000, num_epochs=200)
        loader = DataLoader(dataset, batch_sampler=ib.batch_sampler(128))

    Beside the three lines: the criterion has ``reduction='none'``, ``shuffle=True`` goes, and the
    learning rate follows ``progress`` (or ``max_steps(B)``), since epochs have fewer steps.

    It is a data set, too: items, length and attributes are those of the one within. Calls may come from
    any thread; processes that a loader starts get the data set alone.

    Args:
        dataset: what has a length and items, or just the length N >= 0. Ids are 0 .. N-1.
        num_epochs: E >= 1, epochs of the run; the last ``1 - delta`` of them see every sample.
        prune_ratio: r in [0, 1), the chance of a sample below the mean score to be left out.
        delta: in (0, 1]; from epoch floor(delta * E) on every sample is seen.
        **options: by keyword:

            - ``seed``: of all random choices. Default: torch's initial seed where torch is loaded (it is
              read, never advanced), else a constant.
            - ``policy``: ``"infobatch"`` (default), ``"infobatch_quantile"``, ``"random"``, ``"ucb"``,
              ``"orderdp"``, ``"full"``.
            - ``keep``: ``"bernoulli"`` (the paper's, default) or ``"exact"`` (exact counts).
            - ``target_saved``: fraction of the samples of the whole run to save, a fixed budget; r is then
              solved for, up to ``max_prune_ratio`` (0.9).
            - ``quantiles``, ``quantile_keep``: of the policy of that name, limits of its classes and the
              fraction of each that is kept.
            - ``ucb_weight``, ``ucb_c``: of ``"ucb"``, the weight of the newest loss in its mean and its
              variance, and the factor of the variance. ``orderdp_pool``, ``orderdp_keep``: of
              ``"orderdp"``, the fraction of all samples in its pool and the fraction of that which is kept.
            - ``whole_batches``: B; pruned epochs are multiples of it.
            - ``warmup``: full epochs at the beginning, default 1. ``rescale``: False leaves weights at 1.
            - ``score_ema``: fraction of the old score in the new one, default 0.
            - ``drop_last``: whether the loader drops a short last batch; ``lookahead``: a prefetcher runs
              further ahead as it goes.
            - ``device``: where the losses will be; default: where the first ones are.
            - ``backend``: what works through the boundaries, a name of `devices`: ``"cpu"``, or ``"cuda"``
              where ``infobatch-cuda`` is installed. Default: that of ``device``, where there is one.
            - ``threads``: of the epoch boundary, 0: as many as the process may use.
            - ``columns``: ``{"class": labels}``, values of your own for every sample (see `set_column`).
            - ``sampling_weights``: [N] numbers above 0, as for torch's WeightedRandomSampler, to balance
              classes: sample i counts w_i / mean(w) times an epoch, in expectation (docs/policies.md).
            - ``record``: True keeps two columns, ``times_kept`` and ``last_kept``: how many epochs had the
              sample in their plan, and which was the last. 8 bytes a sample.
            - ``group``: the ranks that train this run together: a process group of torch.distributed, one
              dimension of a DeviceMesh, ``(rank, size, store)`` or ``(rank, size, allgather)``. Default: all
              ranks, where torch.distributed is initialised. False: this process alone.
            - ``split``: ``"sharded"`` (default), each rank gets its share from the sampler; ``"global"``,
              a framework splits, and every `update` passes ids.
            - ``padding``: ``"pad"`` (default) or ``"trim"``, what becomes of shares that are shorter.
            - ``timeout``: seconds to wait for a rank, 1800.

    Raises:
        ValueError: listing every option that breaks its rule.
        TypeError: an option that does not exist (listing those that do), an iterable data set.

    Cost: 4 bytes a sample for the scores, 16 for each in the epoch's plan (id, weight, loss). The boundary
    of an epoch is O(N); a step looks nothing up.

    Source: Qin et al., InfoBatch, ICLR 2024 (arXiv:2303.04947).

    >>> ib = InfoBatch(8, num_epochs=10, keep="exact")
    >>> for epoch in range(3):
    ...     for ids in ib.batch_sampler(4):
    ...         loss = ib.update([float(i) for i in ids])  # samples 0 to 3 lie below the mean
    ...     print(epoch, ib.statistics.kept)
    0 8
    1 6
    2 6
    """

    _run: _Run | None
    _process = -1
    #: The class as it was asked for: with torch an object is of one made from it.
    _written_as: type[InfoBatch]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Where torch is loaded, an object that is one of torch's data sets, too.
        if sys.modules.get("torch") is not None:
            from ._torch import with_torch

            made = object.__new__(with_torch(cls))
            made._written_as = cls
            return made  # type: ignore[return-value]
        plain = object.__new__(cls)
        plain._written_as = cls
        return plain

    def __init__(
        self,
        dataset: Any,
        num_epochs: int,
        prune_ratio: float = 0.5,
        delta: float = 0.875,
        **options: Unpack[Options],
    ) -> None:
        kinds = option_kinds()
        known = {*kinds, *_OWN_OPTIONS} - _OFFICIAL
        unknown = sorted(options.keys() - known)
        if unknown:
            raise TypeError(
                f"InfoBatch: an option must be one of {', '.join(sorted(known))}, got {', '.join(unknown)}"
            )
        if (
            hasattr(dataset, "__index__")
            and not isinstance(dataset, bool)
            and not hasattr(dataset, "__len__")
        ):
            dataset = integer(dataset, "the length of a data set", "InfoBatch")
        num_epochs = integer(num_epochs, "num_epochs", "InfoBatch")
        size = self._size_of(dataset)
        given: dict[str, Any] = {**options}
        own = {name: given.pop(name, None) for name in _OWN_OPTIONS}
        given = {name: value for name, value in given.items() if value is not None}
        self._group = own.pop("group")
        ranks, how = self._find_ranks(own)
        given.setdefault("seed", self._default_seed() if ranks is None else None)
        for name, value in given.items():
            if kinds[name] == "numbers":
                given[name] = [float(item) for item in value]
        engine = {"epochs": num_epochs, "prune_ratio": prune_ratio, "delta": delta, **given}
        threads = integer(own["threads"] or 0, "threads", "InfoBatch", least=0)
        if ranks is not None:
            self._agree(ranks, how, size, engine)
        backend = None
        if own["device"] is not None or own["backend"] is not None:
            from ._devices import choose

            backend = choose(own["device"], own["backend"])
        session = Session(size, plain(engine), min(threads, 2**31 - 1), backend)
        if ranks is not None:
            session.set_ranks(**how)
        self.dataset = dataset
        self.num_epochs = num_epochs
        self.prune_ratio = prune_ratio
        self.delta = delta
        self._options = engine
        self._own = own
        self._size = size
        self._start(session, ranks)
        for name, values in (own["columns"] or {}).items():
            self.set_column(name, values)
        if own["sampling_weights"] is not None:
            self._here.step.set_sampling_weights(own["sampling_weights"], size)

    def _find_ranks(self, own: Mapping[str, Any]) -> tuple[Ranks | None, dict[str, int]]:
        torch = sys.modules.get("torch")
        said = (self._group, own["split"], own["padding"], own["timeout"])
        if torch is None and all(value is None for value in said) and "RANK" not in os.environ:
            return None, {}
        from ._ranks import find_ranks

        return find_ranks(*said)

    def _agree(self, ranks: Ranks, how: Mapping[str, int], size: int, engine: dict[str, Any]) -> None:
        """Before the run is made: whether all ranks make the same one. The default seed is rank 0's."""
        from ._ranks import agree_on_run

        common = {name: how[name] for name in ("size", "split", "padding")}
        own = {
            **plain(engine),
            "ranks": common,
            "samples": size,
            "default_seed": self._default_seed(),
        }
        first = agree_on_run(ranks, own)
        if engine["seed"] is None:
            engine["seed"] = first["default_seed"]

    def _start(self, session: Session, ranks: Ranks | None) -> None:
        step = self._new_step(session)
        feed = Feed(
            session,
            step.settle,
            step.release,
            step.renew,
            self._check_size,
            lambda anew: run.meet(-1, "__iter__", anew),
            lambda error: run.failed(error, "__iter__"),
        )
        step.feed = feed
        self._run = run = _Run(session, feed, step, ranks, self._group is None)
        self._process = os.getpid()
        self._sampler = self._new_sampler()

    def _new_step(self, session: Session) -> Step:
        from ._step import Step

        return Step(session, self._own["device"])

    def _new_sampler(self) -> Sampler:
        return Sampler(self)

    @staticmethod
    def _default_seed() -> int:
        torch = sys.modules.get("torch")
        return int(torch.initial_seed()) % 2**64 if torch is not None else 0

    @staticmethod
    def _size_of(dataset: Any) -> int:
        if isinstance(dataset, int) and not isinstance(dataset, bool):
            return dataset
        if (
            isinstance(dataset, bool)
            or not hasattr(dataset, "__len__")
            or not hasattr(dataset, "__getitem__")
        ):
            raise TypeError(
                "InfoBatch: a data set must have a length and items, or be the length itself, got "
                f"{type(dataset).__name__}: an iterable data set has no sample ids to score. With the number "
                "of samples in its place a stream can be filtered, ib.filter(stream, id_of)"
            )
        return len(dataset)

    def _check_size(self) -> None:
        if isinstance(self.dataset, int):
            return
        size = len(self.dataset)
        if size != self._size:
            raise ValueError(
                f"InfoBatch: the data set must keep its length {self._size}, got {size}: scores belong to "
                "indices; make a new InfoBatch for another data set"
            )

    @property
    def _here(self) -> _Run:
        """The run, in the process that trains."""
        run = self._run
        if run is not None and self._process == os.getpid():
            return run
        return self._elsewhere()

    def _elsewhere(self) -> _Run:
        """Seen from another process than the one that made it."""
        run = self._run
        if run is None:
            raise RuntimeError(
                "InfoBatch: this copy is a plain data set: it was pickled, as for the workers of a loader, "
                "and the run stays in the process that trains. Call update there; keep a run with "
                "state_dict or save; copy it with copy.deepcopy"
            )
        self._process = os.getpid()  # a fork that goes on with the run
        return run

    # --- line 2

    @property
    def sampler(self) -> Sampler:
        """The sampler for ``DataLoader(..., sampler=...)``: indices of the epoch, in order. Always the
        same object; looking at it changes nothing."""
        self._here  # noqa: B018 - raises in a copy
        return self._sampler

    def batch_sampler(self, batch_size: int, drop_last: bool = False) -> BatchSampler:
        """The sampler for ``DataLoader(..., batch_sampler=...)``: lists of ``batch_size`` indices.

        Faster than ``sampler``, and the batches are known, so that a batch may be observed in parts
        (gradient accumulation).

        Args:
            batch_size: B >= 1, an int.
            drop_last: leave out a last batch that is shorter; declares it to the run, too.

        Raises:
            ValueError: another batch size.
        """
        self._here  # noqa: B018 - raises in a copy
        return BatchSampler(self, batch_size, drop_last)

    def filter(self, stream: Any = None, id_of: Any = None) -> Filter | Stage:
        """Line 2 for a stream: an iterable of the samples that the epoch's plan keeps, in the stream's order.
        Place it before samples are decoded: of one that is left out only its id is looked at. Losses go
        by ids, ``update(losses, ids)``::

            ib = InfoBatch(number_of_samples, num_epochs)                                 # 1
            samples = wds.WebDataset(shards).compose(ib.filter(id_of="id")).decode()...   # 2
            ... loss = ib.update(losses, ids)                                             # 3

        In the process that trains each iteration begins an epoch, as those of `sampler` do. Workers of a
        loader (``num_workers``) cannot see where the run stands: there `set_epoch` comes before each
        iteration of the loader, and workers deliver what was planned then, also persistent ones and those
        that run ahead. Every worker and every rank has to read a part of the stream of its own.

        Args:
            stream: what gives undecoded samples, once an epoch. None: a stage is returned, for pipelines that
                hand over the stream, ``stage(stream)``.
            id_of: a function that returns a sample's id in [0, N), or the key of it in the sample. Digits
                count as integers. For workers that are spawned it must be picklable.

        Returns:
            an iterable, with torch also an IterableDataset; without ``stream`` a function of one.

        Raises:
            TypeError: no id_of, or a stream that cannot be iterated.
            ValueError: on several ranks without ``split="global"``; when iterated, an id that is no integer,
                or an iterator that has come to its end in an earlier epoch.
            RuntimeError: in a worker; when iterated, a worker for which no epoch was set.
            IndexError, when iterated: an id outside of [0, N).

        Warns:
            StreamWarning: at the next boundary, once a run: planned samples that never came (they keep their
                scores), and samples that came more than once.

        Cost: a bit a sample for each reader, and a temporary file of a bit a sample.

        >>> ib = InfoBatch(8, num_epochs=8, keep="exact")
        >>> for epoch in range(2):
        ...     rows = list(ib.filter([{"id": i, "x": float(i)} for i in range(8)], "id"))
        ...     loss = ib.update([row["x"] for row in rows], [row["id"] for row in rows])
        ...     print(len(rows))
        8
        6
        """
        from ._streams import Board, Stage, begin

        try:
            run = self._here
        except RuntimeError as error:
            raise RuntimeError(
                "InfoBatch.filter: must be called in the process that trains, got a call elsewhere: call it "
                "once, before the loader is made, and give the pipeline what it returns"
            ) from error
        if id_of is None:
            raise TypeError("InfoBatch.filter: id_of must be a function or a key, got None")
        if stream is not None and not hasattr(stream, "__iter__"):
            raise TypeError(
                f"InfoBatch.filter: stream must be an iterable of samples, got {type(stream).__name__}"
            )
        if run.ranks is not None and run.session.sharded:
            raise ValueError(
                "InfoBatch.filter: on several ranks the stream is split by its own shards, got "
                "split='sharded': InfoBatch(..., split='global')"
            )
        if run.board is None:
            run.board = Board(self._size)
            if run.set_at == run.session.position and run.feed.current is None:
                begin(run)  # the epoch was set before
        board = run.board.here()
        return Stage(self, board, id_of) if stream is None else self._new_filter(board, stream, id_of)

    def _new_filter(self, board: Board, stream: Any, id_of: Any) -> Filter:
        from ._streams import Filter

        return Filter(self, board, stream, id_of)

    # --- line 3

    def update(
        self,
        losses: Any,
        ids: Any = None,
        scores: Any = None,
        reduction: str = "mean",
    ) -> Any:
        """Line 3. Records the losses of the next B samples, and returns the reduced, re-weighted loss.

            mean           sum(w * loss) / B       the official reduction, default
            sum            sum(w * loss)           unbiased for the sum over all samples
            none           w * loss, [B, ...]
            weighted_mean  sum(w * loss) / sum(w)  keeps the step size; a ratio estimate

        Args:
            losses: [B] or [B, ...], float16, bfloat16, float32 or float64, any device, any stride; never
                modified, gradients flow through. The score is the mean over the trailing dimensions, the
                weight broadcasts. NumPy and JAX arrays, or what has ``__array__`` or ``__dlpack__``.
            ids: [B] integers, the samples of the rows, in any order (see `Indexed`); None: the next B
                samples in the order of delivery. Of a repeated id every row is weighted, and the last
                one's score wins.
            scores: [B] recorded instead of the losses, e.g. the mean over the tokens of a sequence that
                are not padding; [B, ...] counts as its mean. Of the same kind as the losses.
            reduction: as above.

        Returns:
            A float32 tensor (float64 for double losses), scalar or of the shape of ``losses``. For arrays
            that are no tensors: a float, or a NumPy array for ``none``.

        Raises:
            ValueError: a scalar loss, a wrong shape, dtype, device or reduction.
            IndexError: an id outside the data set or the plan (on a device other than the CPU: at the end
                of the epoch).
            RuntimeError: losses that cannot belong to the samples in hand: a second update on one batch, a
                lost row or batch. Nothing was recorded.

        Cost: a few operations on [B]; nothing is copied to the host. The mean of up to 4096 float32 losses
        on the CPU is a dot product with w / B: where all weights are 1, its last bit may differ from
        ``losses.mean()``, its gradient does not.

        >>> ib = InfoBatch(4, num_epochs=8)
        >>> ids = next(iter(ib.batch_sampler(4)))
        >>> ib.update([1.0, 2.0, 3.0, 4.0])
        2.5
        """
        return self._here.step.update(losses, ids, scores, reduction)

    def observe(self, scores: Any, ids: Any = None) -> Any:
        """For a loss that exists only reduced: records the scores of the next B samples (or of ``ids``)
        and returns their weights, [B] float32.

        ``scale_gradient(outputs, weights)`` between the model and the criterion then weighs the gradient::

            weights = ib.observe(per_sample_score)
            loss = criterion(infobatch.scale_gradient(outputs, weights), targets)

        Args and errors as `update`. The weights are the caller's own copy: a tensor on the device of the
        scores, for other arrays NumPy's, a list where there is no NumPy.

        >>> ib = InfoBatch(4, num_epochs=8)
        >>> ids = next(iter(ib.batch_sampler(4)))
        >>> [float(weight) for weight in ib.observe([1.0, 2.0, 3.0, 4.0])]
        [1.0, 1.0, 1.0, 1.0]
        """
        return self._here.step.observe(scores, ids)

    def get_weights(self, ids: Any) -> Any:
        """The weights of samples in the plan of the running (or just finished) epoch, [B] float32: 1, or
        the inverse of the keep probability. For a step that weighs the losses itself (JAX), before
        `observe`.

        Raises:
            IndexError: an id outside the data set or the plan.
        """
        run = self._here
        run.feed.sync()
        return run.step.get_weights(ids)

    # --- epochs

    @property
    def epoch(self) -> int:
        """The running epoch, 0-based; once it is over, the next one."""
        self._settle()
        return self._here.session.epoch

    def set_epoch(self, epoch: int) -> None:
        """Begins ``epoch``, 0-based. Optional: without it epochs follow one another by themselves.

        On several ranks all of them call it; losses are exchanged here.

        Setting the running epoch once more repeats it from its start (while nothing of it was observed, an
        iteration under way goes on); behind a load, the epoch that was loaded goes on where it stands. An
        epoch from ``num_epochs`` on sees every sample.

        Raises:
            ValueError: a negative epoch.
        """
        run = self._here
        number = integer(epoch, "epoch", "InfoBatch.set_epoch")
        try:
            run.feed.sync()
            run.step.settle(True)
            run.close_stream()
        except BaseException as error:
            run.failed(error, "set_epoch")
            raise
        if number >= 0:
            run.meet(number, "set_epoch")
        run.loaded = None
        if run.feed.set_again(number):
            if run.board is not None and run.board.here().bits is not None:
                run.board.allow_again()
                return
        else:
            run.session.set_epoch(number)
            run.feed.drop()
            run.step.renew()
            run.set_at = run.session.position
        if run.board is not None:
            from ._streams import begin

            begin(run)

    def discard_epoch(self) -> None:
        """Forgets everything that this epoch observed and begins it anew: undoes the steps of a
        learning-rate finder or a warm-up."""
        run = self._here
        run.session.discard_epoch()
        run.withdraw()
        run.feed.drop()
        run.step.renew()

    @property
    def plan(self) -> Plan:
        """The frozen plan of `epoch`: ids [K] int64, weights [K] float32. Made when first asked for, O(N);
        then lent without a copy. Behind the last update of an epoch it is already that of the next one."""
        self._settle()
        return self._here.session.plan()

    @property
    def weights(self) -> memoryview[float]:
        """Weights of the epoch's plan in the order of delivery, [K] float32, read-only. `get_weights` has
        them by sample."""
        return self.plan.weights

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, in [0, 1]: (epoch + position in its plan) / E. Drive the
        learning rate by it: epochs have fewer steps when samples are skipped."""
        run = self._here
        run.feed.sync()
        return run.step.progress()

    def max_steps(self, batch_size: int) -> int:
        """Upper bound of the number of steps of the run: E * ceil(N / batch_size).

        >>> InfoBatch(100, num_epochs=8).max_steps(30)
        32
        """
        size = integer(batch_size, "batch_size", "InfoBatch.max_steps", least=1)
        return self._here.session.max_steps(size)

    @property
    def statistics(self) -> Statistics:
        """Figures of the running (or just finished) epoch and of the run. Changes nothing."""
        self._settle()  # so that figures of an epoch that is over have its losses
        return self._here.session.statistics()

    @property
    def scores(self) -> Any:
        """[N] float32, the last loss of each sample; NaN: never observed. A view without a copy, to be
        read only; it holds the run. The losses of an epoch enter when the next one is planned.

        >>> ib = InfoBatch(4, num_epochs=8)
        >>> for ids in ib.batch_sampler(4):
        ...     loss = ib.update([float(i) for i in ids])
        >>> ib.set_epoch(1)
        >>> [float(score) for score in ib.scores]
        [0.0, 1.0, 2.0, 3.0]
        """
        run = self._here
        return run.step.view(run.session.scores(), "float32")

    # --- columns

    def set_column(self, name: str, values: Any) -> None:
        """Gives every sample a value of your own, e.g. its class. Before the first epoch begins; kept in
        the state, and must be equal on load.

        Args:
            name: 1 to 64 characters of a-z, 0-9 and _, no digit first, not "score", "times_kept" or
                "last_kept". ``sampling_weight`` is what ``sampling_weights=`` sets.
            values: [N] integers or floats of 8 to 64 bits; a list counts as int64 or float64. Copied.

        Raises:
            ValueError: another name, length or type.
            RuntimeError: the run has begun.

        >>> ib = InfoBatch(4, num_epochs=8)
        >>> ib.set_column("class", [0, 1, 0, 1])
        >>> [int(value) for value in ib.column("class")], ib.column_names
        ([0, 1, 0, 1], ['score', 'class'])
        """
        run = self._here
        run.step.set_column(name, values, self._size)

    def column(self, name: str) -> Any:
        """A column as it lies in memory, [N], to be read only; "score" is the engine's.

        Raises:
            ValueError: a name that does not exist (listing those that do).
        """
        run = self._here
        dtype, array = run.session.column(name)
        return run.step.view(array, dtype)

    @property
    def column_names(self) -> list[str]:
        """ "score", those of the policy and of the record, then your own in the order of their names."""
        return self._here.session.column_names()

    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes a table of all samples: ``id``, ``score`` and every other column, for a coreset or a look
        at what was learned when. Scores are those of `scores`: an epoch counts when it is left, so behind the
        last one call ``set_epoch(num_epochs)`` first.

        Args:
            path: a file that ends in ``.csv`` (what is unknown is an empty cell), or in ``.npz``, one array
                for each column, for ``numpy.load``.

        Raises:
            ValueError: another ending. FileError: it cannot be written. ImportError: .npz without NumPy.

        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "samples.csv")
        >>> ib = InfoBatch(2, num_epochs=8, record=True)
        >>> ib.export(path)
        >>> print(open(path).read())
        id,score,times_kept,last_kept
        0,,0,-1
        1,,0,-1
        <BLANKLINE>
        """
        run, name = self._here, _path(path)
        self._settle()
        if name.endswith(".csv"):
            run.session.export_csv(name)
        elif name.endswith(".npz"):
            run.step.export_npz(name)
        else:
            raise ValueError(f"InfoBatch.export: path must end in .csv or .npz, got {name!r}")

    # --- state

    def state_dict(self, local: bool = False) -> dict[str, Any]:
        """The whole state of the run: scores, plan, position, any step will do.

        On several ranks all of them call it, at the same step, and all get the state of the whole run,
        which loads on any number of ranks. With ``local`` nobody waits: it is this rank's part, and
        `load_state_dict` takes the list of all parts.

        Safe for ``torch.load(weights_only=True)``: one tensor of bytes (``bytes`` where torch is not
        loaded). Equal to what `save` writes. At most 8 bytes a sample, and the columns; O(N).

        >>> ib = InfoBatch(100, num_epochs=8, seed=1)
        >>> ids = next(iter(ib.batch_sampler(10)))
        >>> loss = ib.update([1.0] * 10)
        >>> again = InfoBatch(100, num_epochs=8, seed=1)
        >>> again.load_state_dict(ib.state_dict())
        LoadReport(epoch=0, position=10, changes=())
        >>> next(iter(again.batch_sampler(10))) == list(ib.plan.ids[10:20])
        True
        """
        run = self._here
        return {"infobatch": run.step.pack(self._state(local))}

    def _state(self, local: bool = False) -> bytes:
        run = self._here
        if run.ranks is None:
            self._settle(everything=True)
            return run.session.serialize()
        if local:
            self._settle(everything=True)
            return run.session.serialize_part(run.ranks.rank == 0)
        return run.session.join_parts(self._parts("state_dict"), "state_dict")

    def _parts(self, what: str) -> list[bytes]:
        """The parts of all ranks; this one's losses are handed over."""
        run = self._here
        try:
            self._settle(everything=True)
        except BaseException as error:
            run.failed(error, what)
            raise
        return run.whole_state(what)

    def load_state_dict(
        self, state_dict: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, resize: Any = False
    ) -> LoadReport:
        """Goes on from a state exactly where it stood. Data set length, seed, policy and its parameters
        must match; epochs, delta, batch size, device and number of ranks may differ.

        On several ranks all of them load the same state. A list of parts (``state_dict(local=True)`` of
        every rank, in any order) is a state, too.

        Args:
            state_dict: the state.
            resize: True where the data set has grown or shrunk since: each sample takes over its score by
                its id, and what is new was never observed, so it is kept until it was. Or [N] integers, the
                id that each sample had then, -1 for a new one. Only between epochs.

        Returns:
            where it goes on, and what differs and may; what differs is also warned of.

        Raises:
            ValueError: no state, or that of another run (every difference is listed).
            FileError: a damaged state.
        """
        run = self._here
        if isinstance(state_dict, (list, tuple)) and state_dict:
            parts = [run.step.unpack(self._checked(part)["infobatch"]) for part in state_dict]
            whole = run.session.join_parts(parts, "load_state_dict")
        else:
            whole = run.step.unpack(self._checked(state_dict)["infobatch"])
        return self._loaded(run.session.deserialize(whole, resize))

    @staticmethod
    def _checked(state_dict: Any) -> Any:
        if not hasattr(state_dict, "keys") or "infobatch" not in state_dict:
            found = sorted(map(str, state_dict)) if hasattr(state_dict, "keys") else repr(state_dict)
            raise ValueError(f"InfoBatch.load_state_dict: a state must have the key 'infobatch', got {found}")
        return state_dict

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the whole state to one safetensors file, atomically: whenever the process is killed, the
        old file or the new one is there. The C++ library reads it, too.

        On several ranks all of them call it, at the same step; rank 0 writes the file, and behind the call
        it is there.

        Raises:
            FileError: it cannot be written; an old file stays as it was. On other ranks: RankError.
        """
        run, name = self._here, _path(path)
        if run.ranks is None:
            self._settle(everything=True)
            run.session.save(name)
            return
        parts = self._parts("save")
        if run.ranks.rank == 0:
            try:
                run.session.save_parts(name, parts)
            except BaseException as error:
                run.failed(error, "save")
                raise
        run.ranks.meet("save")

    def load(self, path: str | os.PathLike[str], *, resize: Any = False) -> LoadReport:
        """Goes on from a file, as `load_state_dict`; files of the C++ library are read, too.

        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
        >>> InfoBatch(1000, num_epochs=8, seed=1).save(path)
        >>> InfoBatch(1200, num_epochs=8, seed=1).load(path, resize=True)  # 200 samples are new
        LoadReport(epoch=0, position=0, changes=('size: 1000 -> 1200',))

        Raises:
            ValueError: the state of another run (every difference is listed).
            FileError: it cannot be read, or is damaged.
        """
        return self._loaded(self._here.session.load(_path(path), resize))

    def _loaded(self, report: LoadReport) -> LoadReport:
        run = self._here
        run.met = False
        run.withdraw()
        run.loaded, run.loaded_over = report.epoch, run.session.epoch > report.epoch
        run.feed.drop()
        run.step.renew()
        changes = [change for change in report.changes if not change.startswith("size: ")]  # was asked for
        if changes:
            from ._errors import StateChangedWarning

            warn(
                "InfoBatch: the loaded state differs in " + "; ".join(changes),
                StateChangedWarning,
            )
        return report

    def _settle(self, everything: bool = False) -> None:
        """What the engine must know before it is asked: rows that were pulled, and at the end of an epoch
        (or always) the losses that are staged elsewhere."""
        run = self._here
        run.feed.sync()
        run.step.settle(everything or run.feed.ended)

    # --- the official package's names

    def get_pruned_count(self) -> int:
        """Samples that were left out so far, in the whole run (``statistics.pruned_total``)."""
        return self.statistics.pruned_total

    def mean_score(self) -> Any:
        """Mean of all scores, NaN while there is none. O(N); that of the running epoch's threshold is in
        `statistics`."""
        run = self._here
        self._settle()
        run.session.length()  # an epoch that is over: its losses enter
        return run.step.mean(run.session.scores())

    @property
    def stop_prune(self) -> float:
        """Epoch from which on nothing is left out: num_epochs * delta."""
        return self.num_epochs * self.delta

    # --- the data set

    def __len__(self) -> int:
        return self._size if isinstance(self.dataset, int) else len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        dataset: Any = self.dataset
        try:  # the way of every sample: nothing is asked before
            return dataset[index]
        except TypeError:
            if not isinstance(dataset, int):
                raise
        raise TypeError(
            "InfoBatch: made from a length, it has no items, got an index: give the loader the data set "
            "itself, DataLoader(dataset, batch_sampler=ib.batch_sampler(B))"
        )

    def __getattr__(self, name: str) -> Any:
        # Called only for what is not found: an attribute of the data set within.
        if name in _OWN_ATTRIBUTES or (name.startswith("__") and name != "__getitems__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if isinstance(self.dataset, int):
            raise AttributeError(
                f"{type(self).__name__!r} object, made from a length, has no attribute {name!r}"
            )
        return getattr(self.dataset, name)

    def __repr__(self) -> str:
        inner = "" if isinstance(self.dataset, int) else f"{type(self.dataset).__name__}, "
        return f"InfoBatch({inner}size={self._size}, num_epochs={self.num_epochs})"

    # --- copies

    def __reduce__(self) -> Any:
        own = {name: value for name, value in self.__dict__.items() if name not in _OF_THE_RUN}
        return _plain_copy, (self._written_as, own)

    def __deepcopy__(self, memo: dict[int, Any]) -> InfoBatch:
        """An independent run that stands where this one stands. Iterations are not copied."""
        from copy import deepcopy

        run = self._here
        state = self._state()
        twin = object.__new__(type(self))
        twin._written_as = self._written_as
        memo[id(self)] = twin
        for name, value in self.__dict__.items():
            if name not in _OF_THE_RUN:
                twin.__dict__[name] = deepcopy(value, memo)
        twin._group = self._group
        of = run.session
        session = Session(self._size, plain(self._options), of.threads, of.backend)
        ranks = None
        if run.ranks is not None:
            ranks, how = twin._find_ranks(self._own)
            session.set_ranks(**how)
        made = session.column_names()  # the score, and those of the policy
        for name in of.column_names():
            if name in made:
                continue
            dtype, array = run.session.column(name)
            from ._session import address_of

            session.set_column(name, dtype, address_of(array))
        session.deserialize(state)
        twin._start(session, ranks)
        return twin


def _plain_copy(cls: type[InfoBatch], own: dict[str, Any]) -> InfoBatch:
    """What an InfoBatch is in another process: its data set, and the attributes of a subclass."""
    copy = cls.__new__(cls)
    copy.__dict__.update(own)
    copy._run = None
    return copy


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON can say them: numbers of NumPy or torch as those of Python."""
    from math import isfinite

    found = {name: value.item() if hasattr(value, "item") else value for name, value in options.items()}
    for name, value in found.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not isfinite(number):
                raise ValueError(f"InfoBatch: {name} must be finite, got {number}")
    return found


def _path(path: str | os.PathLike[str]) -> str:
    from os import fspath

    name = fspath(path)
    if "\0" in name:
        raise ValueError(f"InfoBatch: a path must have no null character, got {name!r}")
    return name


__all__ = ["InfoBatch", "Options"]

"""InfoBatch and its samplers as data set and samplers of torch. Loaded only where torch is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import data

from ._ranks import SPLITS
from ._statistics import LoadReport
from .infobatch import InfoBatch
from .samplers import BatchSampler, Sampler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._session import Session
    from ._step import Step
    from ._streams import Board, Filter
    from .infobatch import _Run


class TorchSampler(Sampler, data.Sampler[int]):
    __doc__ = Sampler.__doc__


class TorchShareSampler(Sampler, data.DistributedSampler[int]):
    """The samples of a rank's share; `Sampler` has the rest. Trainers that would put a DistributedSampler of
    their own in its place (Lightning), or call ``set_epoch`` of such alone, see that it is one."""

    def __init__(self, owner: InfoBatch, rank: int, size: int) -> None:
        Sampler.__init__(self, owner)
        self.rank = rank
        self.num_replicas = size
        self.shuffle = True
        self.drop_last = False


class TorchBatchSampler(BatchSampler, data.Sampler[list[int]]):
    __doc__ = BatchSampler.__doc__


class TorchInfoBatch(InfoBatch, data.Dataset[Any]):
    __doc__ = InfoBatch.__doc__

    @staticmethod
    def _size_of(dataset: Any) -> int:
        if isinstance(dataset, data.IterableDataset):
            raise TypeError(
                f"InfoBatch: an iterable data set ({type(dataset).__name__}) has no sample ids to score, "
                "got one; use a data set with a length and items, or a number of samples and a filter: "
                "InfoBatch(N, num_epochs), then ib.filter(stream, id_of)"
            )
        return InfoBatch._size_of(dataset)

    def _new_sampler(self) -> Sampler:
        assert self._run is not None
        ranks, session = self._run.ranks, self._run.session
        if ranks is not None and session.ranks["split"] == SPLITS.index("sharded"):
            return TorchShareSampler(self, ranks.rank, ranks.size)
        return TorchSampler(self)

    def _new_step(self, session: Session) -> Step:
        step = super()._new_step(session)
        step.tensors  # noqa: B018 - made here, so that a compiled step finds it
        return step

    def batch_sampler(self, batch_size: int, drop_last: bool = False) -> BatchSampler:
        self._here  # noqa: B018 - raises in a copy
        return TorchBatchSampler(self, batch_size, drop_last)

    @property
    def _here(self) -> _Run:
        run = self._run
        if run is not None and (torch.compiler.is_compiling() or self._process == os.getpid()):
            return run  # what is compiled does not know os.getpid
        return self._elsewhere()

    def _elsewhere(self) -> _Run:
        worker = data.get_worker_info()
        if worker is not None and self._run is not None:
            raise RuntimeError(
                f"InfoBatch: in worker {worker.id} of a loader this is a plain data set; the run stays in "
                "the process that trains. Call update there"
            )
        return super()._elsewhere()

    def _new_filter(self, board: Board, stream: Any, id_of: Any) -> Filter:
        from ._streams_torch import TorchFilter

        return TorchFilter(self, board, stream, id_of)

    def mean_score(self) -> torch.Tensor:
        """Mean of all scores, a scalar tensor; NaN while there is none."""
        return torch.tensor(super().mean_score(), dtype=torch.float32, device="cpu")

    def get_weights(self, ids: Any) -> torch.Tensor:
        """The weights of samples in the epoch's plan, [B] float32; see `InfoBatch.get_weights`."""
        run = self._here
        run.feed.sync()
        return run.step.tensors.get_weights(ids)

    @property
    def scores(self) -> torch.Tensor:
        """[N] float32, the last loss of each sample; NaN: never observed. A view without a copy, to be
        read only; it holds the run."""
        run = self._here
        return run.step.tensors.view(run.session.scores(), "float32")

    def column(self, name: str) -> torch.Tensor:
        """A column as it lies in memory, [N], to be read only; "score" is the engine's."""
        run = self._here
        dtype, array = run.session.column(name)
        found = run.step.tensors.view(array, dtype)
        # Tensors cannot be read-only, and these were checked when they came.
        return found.clone() if name == "sampling_weight" else found

    # A stateful loader asks the data set in each of its workers for a state: there it is that of the data
    # set within, if it has one.

    def state_dict(self, local: bool = False) -> dict[str, Any]:
        if data.get_worker_info() is None:
            return super().state_dict(local)
        inner = getattr(self.dataset, "state_dict", None)
        return {} if inner is None else inner()

    def load_state_dict(
        self, state_dict: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, resize: Any = False
    ) -> LoadReport:
        if data.get_worker_info() is None:
            return super().load_state_dict(state_dict, resize=resize)
        inner = getattr(self.dataset, "load_state_dict", None)
        if inner is not None:
            inner(state_dict)
        return LoadReport(0, 0, ())

    state_dict.__doc__ = InfoBatch.state_dict.__doc__
    load_state_dict.__doc__ = InfoBatch.load_state_dict.__doc__


_MADE: dict[type[InfoBatch], type[InfoBatch]] = {InfoBatch: TorchInfoBatch}


def with_torch(cls: type[InfoBatch]) -> type[InfoBatch]:
    """The class with what torch adds: InfoBatch and subclasses of it know nothing of torch."""
    if issubclass(cls, TorchInfoBatch):
        return cls
    if cls not in _MADE:
        names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        bases: Any = (cls, TorchInfoBatch)
        _MADE[cls] = type(cls.__name__, bases, names)
    return _MADE[cls]

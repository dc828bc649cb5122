"""The samplers of a run: what a loader takes."""

from __future__ import annotations

from operator import index

from ._delivery import BatchIterator, RowIterator, row_iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from torch.utils import data

    from .infobatch import InfoBatch

    # For type checkers they are samplers of torch's, as they are where torch is loaded.
    _RowSampler = data.Sampler[int]
    _ListSampler = data.Sampler[list[int]]
else:
    _RowSampler = _ListSampler = object


def integer(value: Any, name: str, function: str, least: int | None = None) -> int:
    """An integer of Python, NumPy or torch as one of Python; 1.0 and True are none."""
    if not isinstance(value, bool):
        try:
            number = index(value)
        except TypeError:
            pass
        else:
            if (least is None or number >= least) and -(2**63) <= number < 2**63:
                return number
    rule = "an integer" if least is None else f"an integer of at least {least}"
    raise ValueError(f"{function}: {name} must be {rule}, got {value!r}")


class _RunSampler:
    """What both samplers share."""

    def __init__(self, owner: InfoBatch) -> None:
        self.infobatch = owner

    def set_epoch(self, epoch: int) -> None:
        """As ``InfoBatch.set_epoch``; trainers call it on the sampler of a loader. Behind the load of an
        epoch that was over, setting that one changes nothing: the trainer has it behind itself, too.

        Raises:
            ValueError: a negative epoch; behind a load, one before that which was loaded.
        """
        run = self.infobatch._here
        epoch = integer(epoch, "epoch", "InfoBatch.sampler.set_epoch")
        if run.loaded_over and epoch == run.loaded:
            return
        if run.loaded is not None and 0 <= epoch < run.loaded:
            raise ValueError(
                f"InfoBatch.sampler.set_epoch: the epoch must not lie before epoch {run.loaded}, which was "
                f"loaded, got {epoch}: what drives the loader counts anew. Count from infobatch.epoch; under "
                "Fabric give setup_dataloaders the other loaders alone, and move batches of this one with "
                "fabric.to_device; InfoBatch.set_epoch goes back where that is meant"
            )
        self.infobatch.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """What of the run can be told in two numbers, to be compared on load. The run's state is
        ``InfoBatch.state_dict``, and where an iteration stands is said by its iterator."""
        session = self.infobatch._here.session
        return {"size": session.size, "epochs": self.infobatch.num_epochs}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Compares; moves nothing.

        Raises:
            ValueError: the state of a data set of another size.
        """
        size = self.infobatch._here.session.size
        if int(state_dict["size"]) != size:
            raise ValueError(
                f"InfoBatch.sampler: a state must be of a data set of {size} samples, got "
                f"{state_dict['size']}"
            )

    def _length(self) -> int:
        owner = self.infobatch
        owner._settle()
        return owner._here.session.length()

    def __reduce__(self) -> Any:
        raise TypeError(
            "InfoBatch.sampler: a sampler belongs to a run in this process and cannot be pickled; pickle "
            "the InfoBatch (a plain data set then), or keep the run with state_dict or save"
        )


class Sampler(_RunSampler, _RowSampler):
    """The samples of each epoch in the order of its plan, one by one. See ``InfoBatch.sampler``.

    Iterating begins an epoch with the first index: the next one, or the same as long as no loss came
    back. ``len`` is the number of samples of that epoch, all of it, also where a load has led into its
    middle. Either plans the epoch, once: O(N). An index then costs some nanoseconds.

    >>> from infobatch import InfoBatch
    >>> sampler = InfoBatch(4, num_epochs=8).sampler
    >>> len(sampler), sorted(sampler)
    (4, [0, 1, 2, 3])
    """

    def __iter__(self) -> RowIterator:
        return row_iterator(self.infobatch._here.feed)

    def __len__(self) -> int:
        return self._length()


class BatchSampler(_RunSampler, _ListSampler):
    """The same in batches, lists of indices. See ``InfoBatch.batch_sampler``.

    ``len`` is the number of batches of the epoch.

    >>> from infobatch import InfoBatch
    >>> batches = InfoBatch(10, num_epochs=8).batch_sampler(4)
    >>> len(batches), [len(batch) for batch in batches]
    (3, [4, 4, 2])
    """

    def __init__(self, owner: InfoBatch, batch_size: int, drop_last: bool) -> None:
        if not hasattr(owner, "batch_sampler"):
            raise TypeError(
                f"InfoBatch.batch_sampler: its run must be an InfoBatch, got {type(owner).__name__}: a "
                "trainer that deals samples to ranks itself has tried to rebuild it. Give the loader "
                "sampler=ib.sampler, or tell the trainer (Lightning: use_distributed_sampler=False)"
            )
        super().__init__(owner)
        batch_size = integer(batch_size, "batch_size", "InfoBatch.batch_sampler", least=1)
        if not isinstance(drop_last, bool):
            raise ValueError(f"InfoBatch.batch_sampler: drop_last must be a bool, got {drop_last!r}")
        self.batch_size = batch_size
        self.drop_last = drop_last

    @property
    def sampler(self) -> Sampler:
        """The sampler of the same run; trainers call ``loader.batch_sampler.sampler.set_epoch``."""
        return self.infobatch.sampler

    def __iter__(self) -> BatchIterator:
        return BatchIterator(self.infobatch._here.feed, self.batch_size, self.drop_last)

    def __len__(self) -> int:
        samples = self._length()
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)


__all__ = ["BatchSampler", "Sampler"]

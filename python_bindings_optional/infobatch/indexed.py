"""Ids in the batch: right in every loop, also where batches are skipped or come out of order."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from torch.utils.data import Dataset

    _DataSet = Dataset[tuple[int, Any]]

    class _Sized(Protocol):
        def __len__(self) -> int: ...
        def __getitem__(self, index: int, /) -> Any: ...
else:
    _DataSet = object


class Indexed(_DataSet):
    """Puts the index of a sample before it: ``Indexed(dataset)[i] == (i, dataset[i])``.

    A loader collates them as usual, so a batch is ``(ids, batch)``::

        loader = DataLoader(Indexed(dataset), batch_sampler=ib.batch_sampler(128))
        for ids, (inputs, targets) in loader:
            loss = ib.update(criterion(model(inputs), targets), ids)

    Needed where a loop may skip, reorder or repeat batches, and inside a compiled step.

    Args:
        dataset: what has a length and items; an InfoBatch counts as the data set that it wraps.

    Raises:
        TypeError: a data set without a length.

    >>> Indexed("abc")[1]
    (1, 'b')
    """

    def __init__(self, dataset: _Sized) -> None:
        self.dataset = dataset
        if not hasattr(dataset, "__len__"):
            raise TypeError(
                f"Indexed: a data set must have a length, got {type(dataset).__name__}: an iterable data "
                "set has no sample ids to score"
            )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]

    def __getattr__(self, name: str) -> Any:
        if name == "dataset" or (name.startswith("__") and name != "__getitems__"):
            raise AttributeError(f"'Indexed' object has no attribute {name!r}")
        value = getattr(self.dataset, name)
        return self._getitems if name == "__getitems__" else value

    def _getitems(self, indices: list[int]) -> list[tuple[int, Any]]:
        samples = self.dataset.__getitems__(indices)  # type: ignore[attr-defined]
        if len(samples) != len(indices):
            raise ValueError(
                f"Indexed: __getitems__ must return a sample for each of {len(indices)} indices, got "
                f"{len(samples)}: which of them are missing cannot be known"
            )
        return list(zip(indices, samples, strict=True))

"""A filtered stream as a data set of torch. Loaded only where torch is."""

from __future__ import annotations

from typing import Any

from torch.utils import data

from ._streams import Filter


class TorchFilter(Filter, data.IterableDataset[Any]):
    __doc__ = Filter.__doc__


__all__ = ["TorchFilter"]

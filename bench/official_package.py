"""The official InfoBatch package beside ours, in one process, with its defect 1 repaired in memory.

Its files are read where they lie and never changed. Three things keep the comparison fair:

- It is loaded under another name, ``official_infobatch``, since both packages are called ``infobatch``.
- Importing it replaces ``__next__`` of torch's loaders for everybody (defect 3 of docs/rules.md). Here that
  function is in place only inside ``Official.patch()``, around what measures the official package, so that
  ours and the plain sampler run on the loader that torch ships.
- Defect 1: ``IBSampler.__iter__`` plans an epoch and returns the sampler itself. Up to PyTorch 2.5 a batch
  sampler called ``iter`` on it once an epoch, which is what the code was written for. Since 2.6 it calls
  ``iter`` again on what it got, once for every batch (``itertools.islice``), and each call plans anew: the
  epoch never ends. ``repaired`` makes a subclass whose ``__iter__`` plans as before, once, and returns an
  iterator that asks the sampler's own ``__next__`` for each index, as loaders did then. Nothing else of it is
  touched, its other defects included.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.data.dataloader import _BaseDataLoaderIter

NAME = "official_infobatch"


class Official:
    """The official package.

    Args:
        folder: a checkout of it, which holds ``infobatch/``.

    Attributes:
        InfoBatch: its data set, whose ``sampler`` is the repaired one.
    """

    def __init__(self, folder: Path) -> None:
        package = folder / "infobatch"
        if not (package / "__init__.py").is_file():
            raise SystemExit(f"--official: {folder} must be a folder that holds infobatch/")
        plain = _BaseDataLoaderIter.__next__
        try:
            module = _load(package)
            self._patched_next = _BaseDataLoaderIter.__next__
        finally:
            _BaseDataLoaderIter.__next__ = plain  # type: ignore[method-assign]
        self.InfoBatch = repaired(module)

    @contextmanager
    def patch(self) -> Iterator[None]:
        """Within, torch's loaders are as the official package makes them."""
        plain = _BaseDataLoaderIter.__next__
        _BaseDataLoaderIter.__next__ = self._patched_next  # type: ignore[method-assign]
        try:
            yield
        finally:
            _BaseDataLoaderIter.__next__ = plain  # type: ignore[method-assign]


def repaired(module: Any) -> Any:
    """The official data set with a sampler that plans once an epoch (see above)."""

    class Sampler(module.IBSampler):  # type: ignore[misc]
        def __iter__(self) -> Iterator[int]:
            self.reset()
            return iter(self.__next__, None)

    class InfoBatch(module.InfoBatch):  # type: ignore[misc]
        @property
        def sampler(self) -> Any:
            return Sampler(self)

    return InfoBatch


def _load(package: Path) -> Any:
    spec = importlib.util.spec_from_file_location(
        NAME, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return sys.modules[f"{NAME}.infobatch"]


__all__ = ["Official", "repaired"]

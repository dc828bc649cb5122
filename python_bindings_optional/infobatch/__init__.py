"""InfoBatch: training loops that skip the samples they have already learned.

The three lines::

    from infobatch import InfoBatch

    dataset = InfoBatch(dataset, num_epochs=200, prune_ratio=0.5)                   # 1
    loader = DataLoader(dataset, batch_size=128, sampler=dataset.sampler)           # 2
    ... loss = dataset.update(criterion(outputs, targets));  loss.backward()        # 3

Beside them: the criterion has ``reduction='none'``, ``shuffle=True`` goes (the plan is shuffled), and the
learning rate follows ``dataset.progress``, since epochs have fewer steps. Importing the package loads
neither torch nor NumPy.
"""

from __future__ import annotations

from ._errors import (
    BudgetShortfallWarning,
    FileError,
    InfoBatchWarning,
    NeverPrunesWarning,
    NonFiniteLossWarning,
    NotFlushedWarning,
    RankError,
    StateChangedWarning,
    StreamWarning,
    UnsoundEpochWarning,
    UpdateForgottenWarning,
)
from ._library import version as _version
from ._others import warn_of_others as _warn_of_others
from .indexed import Indexed
from .infobatch import InfoBatch

TYPE_CHECKING = False  # as type checkers know it; typing itself takes longer to load than the package
if TYPE_CHECKING:
    from typing import Any

    from ._devices import Device, devices
    from ._session import Plan
    from ._statistics import LoadReport, Statistics
    from .ops import scale_gradient
    from .schedule import FullRunScheduler, progress_lr

__version__ = _version()

# Loaded when they are asked for: they take time, or torch.
_LAZY = {
    "Device": "_devices",
    "FullRunScheduler": "schedule",
    "LoadReport": "_statistics",
    "Plan": "_session",
    "Statistics": "_statistics",
    "devices": "_devices",
    "progress_lr": "schedule",
    "scale_gradient": "ops",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'infobatch' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


_warn_of_others()

__all__ = [
    "BudgetShortfallWarning",
    "Device",
    "FileError",
    "FullRunScheduler",
    "Indexed",
    "InfoBatch",
    "InfoBatchWarning",
    "LoadReport",
    "NeverPrunesWarning",
    "NonFiniteLossWarning",
    "NotFlushedWarning",
    "Plan",
    "RankError",
    "StateChangedWarning",
    "Statistics",
    "StreamWarning",
    "UnsoundEpochWarning",
    "UpdateForgottenWarning",
    "__version__",
    "devices",
    "progress_lr",
    "scale_gradient",
]

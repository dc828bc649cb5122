"""Exceptions and warnings of the package.

Bad arguments raise ``ValueError`` (``TypeError`` for a wrong type), sample ids outside the data set or the
plan ``IndexError``, calls that do not fit the state of the run ``RuntimeError``. Whatever a call raises, it
has changed nothing and can be made again.

Each warning comes once a run (``StateChangedWarning`` with every such load), at the line of the program that
called the package::

    warnings.simplefilter("error", infobatch.UpdateForgottenWarning)

>>> import infobatch
>>> issubclass(infobatch.UpdateForgottenWarning, infobatch.InfoBatchWarning)
True
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class RankError(RuntimeError):
    """The ranks of a run differ, or one of them is gone or did not come in time; the text names it.

    Attributes:
        ranks: those that the text names; empty where it is not known which.
    """

    def __init__(self, text: str, ranks: Sequence[int] = ()) -> None:
        super().__init__(text)
        self.ranks = tuple(ranks)

    def __reduce__(self) -> tuple[type[RankError], tuple[str, tuple[int, ...]]]:
        return type(self), (str(self), self.ranks)


class FileError(RuntimeError):
    """A file of a saved state cannot be read or written, or a state is damaged. Nothing has changed: a save
    leaves the old file, a load the run as it was."""


class InfoBatchWarning(UserWarning):
    """What all warnings of the package are."""


class NeverPrunesWarning(InfoBatchWarning):
    """No epoch of the run leaves samples out: fewer than 3 epochs, too much ``warmup``, or too small a
    ``delta``. With the first epoch."""


class UpdateForgottenWarning(InfoBatchWarning):
    """An epoch was delivered to the end and no loss came back, so nothing can be left out: the third line is
    missing, or an epoch that is smaller than one batch was dropped. With the epoch behind it."""


class UnsoundEpochWarning(InfoBatchWarning):
    """Losses of an epoch were dropped, because they may belong to other samples: the loop broke off or lost a
    batch, or the loader drops its short last batch and nobody said so. Those samples keep their scores. Pass
    ids, or declare ``drop_last``."""


class StreamWarning(InfoBatchWarning):
    """Of a filtered stream, planned samples never came, or some came more than once. With the epoch behind
    it, where all of the stream was read."""


class NonFiniteLossWarning(InfoBatchWarning):
    """Losses were NaN or infinite; their samples count as never observed: kept, with weight 1, until a finite
    loss comes."""


class BudgetShortfallWarning(InfoBatchWarning):
    """``target_saved`` was not reached: too few candidates for ``max_prune_ratio``. With the last epoch that
    leaves samples out."""


class NotFlushedWarning(InfoBatchWarning):
    """The file system cannot flush a saved state to the disk: the file is written, and a power failure may
    still lose it."""


class StateChangedWarning(InfoBatchWarning):
    """A loaded state was made with other epochs, delta, ``drop_last`` or ``lookahead``, which may differ; the
    text lists them."""

"""Exceptions and warnings of the package.

Bad arguments raise ``ValueError`` (``TypeError`` for a wrong type), sample ids outside the data set or the
plan ``IndexError``, calls that do not fit the state of the run ``RuntimeError``. Whatever a call raises, it
has changed nothing and can be made again.
"""

from __future__ import annotations


class FileError(RuntimeError):
    """A file of a saved state cannot be read or written, or is damaged."""


class InfoBatchWarning(UserWarning):
    """What all warnings of the package are."""


class NeverPrunesWarning(InfoBatchWarning):
    """No epoch of the run leaves samples out: too few epochs, or too much warm-up."""


class UpdateForgottenWarning(InfoBatchWarning):
    """An epoch was handed out to the end and no loss came back: the third line is missing."""


class UnsoundEpochWarning(InfoBatchWarning):
    """Losses of an epoch were dropped, because they may belong to other samples."""


class NonFiniteLossWarning(InfoBatchWarning):
    """Losses were NaN or infinite; their samples count as never observed."""


class BudgetShortfallWarning(InfoBatchWarning):
    """``target_saved`` could not be reached."""


class NotFlushedWarning(InfoBatchWarning):
    """The file system cannot flush a saved state to the disk."""


class StateChangedWarning(InfoBatchWarning):
    """A loaded state was made with other options that may differ; the text lists them."""

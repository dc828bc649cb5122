"""What the loggers of trainers show of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .infobatch import InfoBatch


def figures(infobatch: InfoBatch) -> dict[str, float]:
    """Figures of the running (or just finished) epoch, by the names that loggers show.

    ``infobatch/kept``, samples of the epoch's plan; ``infobatch/saved``, fraction of the samples so far that
    was left out; ``infobatch/mean_score``, the epoch's threshold, not in the first epoch.

    >>> from infobatch import InfoBatch
    >>> ib = InfoBatch(4, num_epochs=8)
    >>> ids = next(iter(ib.batch_sampler(4)))
    >>> figures(ib)
    {'infobatch/kept': 4.0, 'infobatch/saved': 0.0}
    """
    now = infobatch.statistics
    found = {"infobatch/kept": float(now.kept), "infobatch/saved": now.saved}
    if now.mean_score is not None:
        found["infobatch/mean_score"] = now.mean_score
    return found

"""Figures of an epoch and of the run, and what a load found."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._library import CStatistics


@dataclass(frozen=True)
class Statistics:
    """Figures of the running (or just finished) epoch, and of the run so far. Counts are samples.

    Printed, it says what one wants to know: epoch, samples kept and left out, share saved, mean score.

    >>> from infobatch import InfoBatch
    >>> ib = InfoBatch(100, num_epochs=8, keep="exact")
    >>> for ids in ib.batch_sampler(50):
    ...     loss = ib.update([float(i) for i in ids])
    >>> ids = next(iter(ib.batch_sampler(50)))
    >>> print(ib.statistics)
    epoch 1: 75 of 100 samples kept, 25 left out; 12.5% saved so far; mean score 49.5
    >>> ib.statistics.candidates, ib.statistics.prune_ratio, ib.statistics.pruned_total
    (50, 0.5, 25)
    """

    #: The epoch, 0-based.
    epoch: int
    #: Samples of the data set, N.
    size: int
    #: The epoch's plan is made; until then its figures are 0.
    planned: bool
    #: The epoch leaves samples out (it is neither warm-up nor annealed).
    prunes: bool
    #: Samples of the plan, K.
    kept: int
    #: Samples left out, N - K.
    pruned: int
    #: Samples below the threshold, of which some were left out.
    candidates: int
    #: Chance of a candidate to be left out in this epoch (a fixed budget solves for it).
    prune_ratio: float
    #: Samples with a score when the epoch was planned.
    observed: int
    #: Mean of their scores, the threshold; unit: the loss. None while there is no score.
    mean_score: float | None
    #: Samples that training without pruning would have taken so far, this epoch included: N an epoch.
    samples_full: int
    #: Samples planned so far, this epoch included.
    samples_planned: int
    #: Fraction of the samples so far that was left out, in [0, 1).
    saved: float
    #: The fraction of the whole run that ``target_saved`` promises; None without one.
    promised_saved: float | None
    #: Samples left out so far, as a fraction of the whole run, E * N.
    actual_saved: float
    #: Losses that were not finite, in this epoch.
    non_finite_epoch: int
    #: The same in the whole run.
    non_finite_total: int
    #: Samples of the plan's last batch where ``whole_batches`` could not make it whole; 0: there is none.
    short_batch: int
    #: Losses of unsound epochs that did not enter the scores, in the whole run.
    dropped_total: int

    @property
    def pruned_total(self) -> int:
        """Samples left out so far, in the whole run."""
        return self.samples_full - self.samples_planned

    def __str__(self) -> str:
        if not self.planned:
            return f"epoch {self.epoch}: not planned yet; {self.size} samples; {self.saved:.1%} saved so far"
        score = "none yet" if self.mean_score is None else f"{self.mean_score:.4g}"
        text = (
            f"epoch {self.epoch}: {self.kept} of {self.size} samples kept, {self.pruned} left out; "
            f"{self.saved:.1%} saved so far; mean score {score}"
        )
        if self.promised_saved is not None:
            text += f"; {self.actual_saved:.1%} of the run saved, {self.promised_saved:.1%} promised"
        if self.non_finite_total:
            text += f"; {self.non_finite_total} losses were not finite"
        if self.dropped_total:
            text += f"; {self.dropped_total} losses of unsound epochs dropped"
        return text


@dataclass(frozen=True)
class LoadReport:
    """Where a load goes on, and which options differ from the saved ones (and may).

    >>> from infobatch import InfoBatch
    >>> saved = InfoBatch(100, num_epochs=8, seed=1).state_dict()
    >>> InfoBatch(100, num_epochs=8, seed=1).load_state_dict(saved)
    LoadReport(epoch=0, position=0, changes=())
    """

    #: The epoch that goes on, 0-based.
    epoch: int
    #: Samples of it that were already observed.
    position: int
    #: One line an option that differs, ``"epochs: 90 -> 100"``.
    changes: tuple[str, ...]


def statistics_of(raw: CStatistics) -> Statistics:
    """The engine's struct as a Statistics."""
    return Statistics(
        epoch=raw.epoch,
        size=raw.size,
        planned=bool(raw.planned),
        prunes=bool(raw.prunes),
        kept=raw.kept,
        pruned=raw.pruned,
        candidates=raw.candidates,
        prune_ratio=raw.prune_ratio,
        observed=raw.observed,
        mean_score=None if isnan(raw.mean_score) else raw.mean_score,
        samples_full=raw.samples_full,
        samples_planned=raw.samples_planned,
        saved=raw.saved,
        promised_saved=None if isnan(raw.promised_saved) else raw.promised_saved,
        actual_saved=raw.actual_saved,
        non_finite_epoch=raw.non_finite_epoch,
        non_finite_total=raw.non_finite_total,
        short_batch=raw.short_batch,
        dropped_total=raw.dropped_total,
    )

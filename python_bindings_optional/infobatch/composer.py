"""InfoBatch in MosaicML Composer: an algorithm for the Trainer, and learning rates that follow the run.

::

    ib = InfoBatch(len(dataset), num_epochs=200)                                    # 1
    loader = DataLoader(dataset, batch_size=128, sampler=ib.sampler)                # 2

    class Classifier(ComposerModel):
        def loss(self, outputs, batch):
            return ib.update(cross_entropy(outputs, batch[1], reduction="none"))    # 3

    Trainer(model=Classifier(), train_dataloader=loader, max_duration="200ep",
            algorithms=[InfoBatchAlgorithm(ib)], schedulers=FullRun(CosineAnnealingScheduler(), ib))

Needs Composer: ``pip install infobatch[composer]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from composer.core import Algorithm, Event, Time, TimeUnit
    from composer.optim import ComposerScheduler
    from composer.utils.reproducibility import get_rng_state, load_rng_state
except ImportError as error:
    raise ImportError(
        f"infobatch.composer: needs Composer, which is not there ({error}): pip install infobatch[composer]"
    ) from error

from ._errors import InfoBatchWarning
from ._figures import figures
from ._session import warn
from .infobatch import InfoBatch

if TYPE_CHECKING:
    from composer.core import State
    from composer.loggers import Logger


class InfoBatchAlgorithm(Algorithm):  # type: ignore[misc,unused-ignore]
    """Fits the Trainer to epochs of changing length, keeps the run in its checkpoints, and logs it.

    Composer takes the length of an epoch from the first one, and behind a load draws as many batches as were
    trained, to throw them away. The algorithm begins each epoch of the run when the last one has ended (on
    several ranks that is where losses are exchanged), says how long it is, and has nothing drawn: the run
    knows where it stands. Checkpoints hold its state; ``load_path`` and ``autoresume`` go on with it, also in
    the midst of an epoch. Loggers show ``infobatch/kept``, ``infobatch/saved`` and ``infobatch/mean_score``.

    ``loss`` of the model returns ``ib.update(losses)``. The loader has the data set itself, not the
    InfoBatch, and ``sampler=ib.sampler``. For microbatches ``update`` gets ids, or the loader, on one
    process, ``batch_sampler=ib.batch_sampler(B)``.

    Args:
        infobatch: the run. On several ranks it is made behind ``composer.utils.dist.initialize_dist``.

    Raises:
        TypeError: no InfoBatch.
        ValueError (when ``fit`` begins): a training loader that is not the run's, or has an InfoBatch for its
            data set; a validation loader with the sampler of the run; ``train_subset_num_batches``;
            ``device_train_microbatch_size`` of "auto", or absent with ``batch_sampler=``; a checkpoint
            without the run.

    Warns:
        InfoBatchWarning: ``max_duration`` and the run have different numbers of epochs.
    """

    def __init__(self, infobatch: InfoBatch) -> None:
        if not isinstance(infobatch, InfoBatch):
            raise TypeError(
                f"InfoBatchAlgorithm: infobatch must be an InfoBatch, got {type(infobatch).__name__}"
            )
        self.infobatch = infobatch
        #: Behind a load, until fit begins: whether its epoch was over. Random numbers of its ranks, until
        #: they are used.
        self._over: bool | None = None
        self._random: list[dict[str, Any]] | None = None
        #: There is something to go on with.
        self._known = False

    def __repr__(self) -> str:
        return f"InfoBatchAlgorithm({self.infobatch!r})"

    def match(self, event: Event, state: State) -> bool:
        if event == Event.BEFORE_DATALOADER:
            return self._random is not None
        if event == Event.BEFORE_LOAD:
            return state.train_dataloader is not None
        return event in (Event.FIT_START, Event.EPOCH_END)

    def apply(self, event: Event, state: State, logger: Logger) -> None:
        if event == Event.BEFORE_LOAD:
            self._check_loader(state)
        elif event == Event.FIT_START:
            self._check(state)
            self._known = True
            inside = int(state.timestamp.batch_in_epoch) > 0
            if inside and self._over is None:
                # A duration has ended the last fit in the midst of an epoch; its loader begins anew.
                self.load_state_dict(self.state_dict())
            # Otherwise Composer sets every epoch that was trained once more.
            state.dataset_resumption["train"] = True
            self._begin(state)
            if not inside:
                self._random = None  # Composer itself sets them
            elif self._over:
                # Behind an epoch's last batch, but before its end: nothing of it is left.
                state.dataloader_len = 0
            self._over = None
        elif event == Event.BEFORE_DATALOADER:
            # In the midst of an epoch Composer sets them when it has drawn what was trained.
            assert self._random is not None
            load_rng_state(self._random)
            self._random = None
        else:
            logger.log_metrics(figures(self.infobatch))
            self._begin(state)

    def _begin(self, state: State) -> None:
        """Begins the epoch that comes, or goes on with it, and says how long it is."""
        if state.timestamp < state.max_duration:
            self.infobatch.sampler.set_epoch(int(state.timestamp.epoch))
        state.dataloader_len = -1

    def _is_of_run(self, loader: Any) -> bool:
        samplers = (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None))
        return any(getattr(sampler, "infobatch", None) is self.infobatch for sampler in samplers)

    def _check_loader(self, state: State) -> None:
        loader: Any = state.train_dataloader
        if isinstance(getattr(loader, "dataset", None), InfoBatch):
            raise ValueError(
                "InfoBatchAlgorithm: the data set of the training loader must be that of the samples, got an "
                "InfoBatch: Composer asks a data set that has a state_dict for it in a way of its own. "
                "DataLoader(ib.dataset, ..., sampler=ib.sampler)"
            )
        if not self._is_of_run(loader):
            raise ValueError(
                "InfoBatchAlgorithm: the training loader must have sampler=ib.sampler or "
                "batch_sampler=ib.batch_sampler(B) of the InfoBatch that the algorithm has"
            )

    def _check(self, state: State) -> None:
        self._check_loader(state)
        if any(self._is_of_run(evaluator.dataloader.dataloader) for evaluator in state.evaluators):
            raise ValueError(
                "InfoBatchAlgorithm: a validation loader must not have the sampler of the run, which belongs "
                "to training: leave sampler= out"
            )
        if state.auto_microbatching:
            raise ValueError(
                "InfoBatchAlgorithm: Trainer(device_train_microbatch_size) must be a number, got 'auto': a "
                "batch that is tried once more would be observed twice"
            )
        if state.device_train_microbatch_size is None:
            raise ValueError(
                "InfoBatchAlgorithm: Trainer(device_train_microbatch_size) must be a number with "
                "batch_sampler=, got none: Composer takes it from the loader's batch_size, which is absent "
                "then. Give B"
            )
        batches, subset = len(state.train_dataloader), state.dataloader_len
        if subset is not None and int(subset) < batches:
            raise ValueError(
                f"InfoBatchAlgorithm: train_subset_num_batches must be absent, got {int(subset)} of "
                f"{batches} batches: every epoch has to see all of its plan"
            )
        if int(state.timestamp.batch) > 0 and not self._known:
            raise ValueError(
                "InfoBatchAlgorithm: a checkpoint must have the state of the run, got none in that of batch "
                f"{int(state.timestamp.batch)}: it was written without the algorithm. Go on from another, or "
                "with load_weights_only=True in a new run"
            )
        duration, planned = state.max_duration, self.infobatch.num_epochs
        if duration.unit == TimeUnit.EPOCH and duration.value != planned:
            warn(
                f"InfoBatchAlgorithm: Trainer(max_duration) should be the num_epochs of the run, {planned}, "
                f"got {duration.value}: "
                + (
                    f"from epoch {planned} on progress stays 1, and nothing is left out"
                    if duration.value > planned
                    else "progress does not reach 1, and the last epochs, which see every sample, do not come"
                ),
                InfoBatchWarning,
            )

    def state_dict(self) -> dict[str, Any]:
        """That of the run, and of random numbers. On several ranks all of them call it, as the Trainer
        does."""
        return {"repr": repr(self), "random": get_rng_state(), **self.infobatch.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the state of a checkpoint."""
        report = self.infobatch.load_state_dict(state)
        self._known, self._over = True, self.infobatch.epoch > report.epoch
        self._random = state["random"]


class _FullState:
    """A Trainer's state, as it would be here if every epoch saw all samples."""

    def __init__(self, state: State, infobatch: InfoBatch) -> None:
        epochs, loader = infobatch.num_epochs, state.train_dataloader
        size = loader.batch_sampler.batch_size
        batches = infobatch.max_steps(size) // epochs
        done = infobatch.progress * epochs
        epoch, batch = int(done), round(done * batches)
        self._state = state
        self.dataloader_len = Time(batches, TimeUnit.BATCH)
        self.timestamp = state.timestamp.copy(
            epoch=epoch,
            batch=batch,
            sample=round(done * len(infobatch)),
            batch_in_epoch=batch - epoch * batches,
            sample_in_epoch=round((done - epoch) * len(infobatch)),
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


class FullRun(ComposerScheduler):  # type: ignore[misc,unused-ignore]
    """Drives a scheduler of Composer so that it ends where it should::

        Trainer(..., schedulers=FullRun(CosineAnnealingWithWarmupScheduler("1ep"), ib))

    Composer's schedulers count batches and the length of the epoch at hand, which change. This one is asked
    as if every epoch had all samples, and the run stood as far into its epochs as it does. Of torch's,
    `progress_lr` and `FullRunScheduler` do the same, with ``step_schedulers_every_batch=True``.

    Args:
        scheduler: a function of the Trainer's state, as Composer takes it, with times in epochs, batches of
            a full epoch, samples or shares of the duration.
        infobatch: the run.

    Raises (when it is asked):
        ValueError: a ``max_duration`` that is not in epochs.
    """

    def __init__(self, scheduler: Any, infobatch: InfoBatch) -> None:
        self.scheduler = scheduler
        self.infobatch = infobatch
        self._asked = False

    def __call__(self, state: State, ssr: float = 1.0) -> float:
        """The factor of the learning rate, now."""
        duration = state.max_duration
        # Asked first when the Trainer is made; one that stops early sets another duration.
        if duration.unit != TimeUnit.EPOCH and not self._asked:
            raise ValueError(
                f"FullRun: Trainer(max_duration) must be in epochs, got '{duration.to_timestring()}': how "
                "far the run will be is not known then. Give schedulers a function of ib.progress"
            )
        self._asked = True
        seen = _FullState(state, self.infobatch)
        factor: float = self.scheduler(seen) if ssr == 1.0 else self.scheduler(seen, ssr)
        return factor


__all__ = ["FullRun", "InfoBatchAlgorithm"]

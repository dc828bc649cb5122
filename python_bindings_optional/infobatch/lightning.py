"""InfoBatch in Lightning: a callback for the Trainer. Fabric needs none (docs/trainers.md)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._errors import InfoBatchWarning, RankError
from ._figures import figures
from ._session import warn
from .infobatch import InfoBatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    # One code under two names; what the program has loaded already is what its Trainer is of.
    try:
        if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
            from pytorch_lightning import Callback
        else:
            from lightning.pytorch import Callback
    except ImportError as error:
        raise ImportError(
            "infobatch.lightning: needs Lightning (pip install infobatch[lightning]), or pytorch_lightning"
        ) from error


#: Seconds that a checkpoint in the handler of an exception waits for the other ranks, which may go on.
_WAIT = 30.0


class InfoBatchCallback(Callback):  # type: ignore[misc,unused-ignore]
    """Fits the Trainer to epochs of changing length, keeps the run in its checkpoints, and logs it.

    Lightning takes the length of an epoch from the first one: shorter epochs would skip their validation,
    longer ones would be cut. The callback has the loader asked anew before each epoch
    (``reload_dataloaders_every_n_epochs=1``), when the losses of the last one have been exchanged.
    Checkpoints hold the state of the run; ``fit(ckpt_path=...)`` goes on with it, also in the midst of an
    epoch. The logger shows ``infobatch/kept``, ``infobatch/saved`` and ``infobatch/mean_score``.

    The training step ends with ``return ib.update(losses)``; the loader has ``sampler=ib.sampler``.

    Args:
        infobatch: the run, or a function that returns it. On several ranks the processes know each other only
            when ``fit`` has begun: make the InfoBatch in ``setup`` of the data module, and give
            ``lambda: data.ib``; or give the function that makes it, and take `infobatch` of the callback.

    Raises (when ``fit`` begins):
        ValueError: options of the Trainer that would break off each epoch (``limit_train_batches``,
            ``overfit_batches``), read the loader less often than once an epoch, or fail in a shorter one; a
            checkpoint without the run; loaders that would repeat, or cut, its epochs.
        TypeError: no InfoBatch.

    Warns:
        InfoBatchWarning: the Trainer and the run have different numbers of epochs.
    """

    def __init__(self, infobatch: InfoBatch | Callable[[], InfoBatch]) -> None:
        super().__init__()
        self._given = infobatch
        self._infobatch = infobatch if isinstance(infobatch, InfoBatch) else None
        self._trainer: Trainer | None = None
        self._batches: int | None = None
        self._fitting = self._loaded = self._raised = False

    @property
    def infobatch(self) -> InfoBatch:
        """The run.

        Raises:
            RuntimeError: it is to be made when ``fit`` begins, which it has not.
        """
        if self._infobatch is None:
            raise RuntimeError("InfoBatchCallback: the InfoBatch is made when fit begins, which it has not")
        return self._infobatch

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._fitting = stage == "fit"
        if not self._fitting:
            return
        self._loaded = self._raised = False
        self._check(trainer)
        if self._infobatch is None:
            made = self._given() if callable(self._given) else self._given
            if not isinstance(made, InfoBatch):
                raise TypeError(
                    "InfoBatchCallback: infobatch must be an InfoBatch or a function that returns one, got "
                    f"{type(made).__name__}"
                )
            self._infobatch = made
        self._trainer = trainer
        trainer.reload_dataloaders_every_n_epochs = 1
        # A run that was trained before stands elsewhere. Lightning sets the epoch as well, but only when
        # workers have begun to fetch.
        self._begin(trainer, trainer.current_epoch)

    @staticmethod
    def _check(trainer: Trainer) -> None:
        rules: list[tuple[bool, str]] = []
        if not trainer.fast_dev_run:
            limit, overfit = trainer.limit_train_batches, trainer.overfit_batches
            every_batch = limit == 1.0 and not isinstance(limit, int)
            rules = [
                (every_batch, f"limit_train_batches must be 1.0, got {limit!r}"),
                (overfit == 0, f"overfit_batches must be 0, got {overfit!r}"),
            ]
        every = trainer.reload_dataloaders_every_n_epochs
        rules.append((every in (0, 1), f"reload_dataloaders_every_n_epochs must be 1 or absent, got {every}"))
        broken = [rule for holds, rule in rules if not holds]
        if broken:
            raise ValueError(
                f"InfoBatchCallback: Trainer({'; '.join(broken)}): every epoch has to see all of its plan"
            )
        interval = trainer.val_check_interval
        counted = isinstance(interval, int) and interval > 1
        if counted and trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches:
            raise ValueError(
                "InfoBatchCallback: Trainer(val_check_interval) must be a share of the epoch, as 0.25, got "
                f"{interval} batches: Lightning fails in an epoch that has fewer; or count over epochs, with "
                "check_val_every_n_epoch=None"
            )

    def _is_of_run(self, loader: Any) -> bool:
        samplers = (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None))
        return any(getattr(sampler, "infobatch", None) is self.infobatch for sampler in samplers)

    def _check_length(self, trainer: Trainer) -> None:
        """Of several loaders the longest or the shortest says how long an epoch is."""
        if trainer.fast_dev_run:
            return
        loaders: Any = trainer.fit_loop._combined_loader
        batches = trainer.num_training_batches
        for own in (len(loader) for loader in loaders.flattened if self._is_of_run(loader)):
            if batches < own or (batches > own and loaders._mode == "max_size_cycle"):
                becomes = "repeat" if batches > own else "cut"
                raise ValueError(
                    f"InfoBatchCallback: an epoch must have the {own} batches of the run's loader, got "
                    f"{batches} by another loader beside it, in mode {loaders._mode!r}, which would "
                    f"{becomes} its epochs. Let the training loader be the run's alone, and cycle through "
                    "the other one in the training step"
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not any(map(self._is_of_run, trainer.fit_loop._combined_loader.flattened)):
            raise ValueError(
                "InfoBatchCallback: the training loader must have sampler=ib.sampler or "
                "batch_sampler=ib.batch_sampler(B) of the InfoBatch that the callback has"
            )
        if trainer.ckpt_path is not None and not self._loaded:
            raise ValueError(
                f"InfoBatchCallback: a checkpoint must have the state of the run, got none in "
                f"{trainer.ckpt_path}: it was written without the callback, or by one rank alone. Go on from "
                "another, or load its weights alone into a new run"
            )
        self._check_length(trainer)
        epochs, planned = trainer.max_epochs, self.infobatch.num_epochs
        if epochs not in (None, -1, planned) and not trainer.fast_dev_run:
            warn(
                f"InfoBatchCallback: Trainer(max_epochs) should be the num_epochs of the run, {planned}, got "
                f"{epochs}: "
                + (
                    f"from epoch {planned} on progress stays 1, and nothing is left out"
                    if epochs > planned
                    else "progress does not reach 1, and the last epochs, which see every sample, do not come"
                ),
                InfoBatchWarning,
            )
        if self._batches is not None:
            if trainer.fit_loop.epoch_loop.restarted_on_train_batch_end:
                raise ValueError(
                    "InfoBatchCallback: a checkpoint must not be that of an epoch's last step (every_n_train_"
                    f"steps), got one behind step {trainer.global_step}: Lightning would go on in the epoch "
                    "that is over. Go on from another step's, or from one of the epoch's end"
                )
            # A checkpoint of behind an epoch's last batch, but before its end (as after validation):
            # Lightning goes on in that epoch, and knows by its length that the validation was made; the
            # loader has that of the next one.
            if isinstance(trainer.val_check_interval, float) and trainer.val_check_batch is not None:
                trainer.val_check_batch = max(1, int(self._batches * trainer.val_check_interval))
            self._batches = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check_length(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._fitting:
            return
        loaders: Any = trainer.fit_loop.epoch_loop.val_loop._combined_loader
        if any(map(self._is_of_run, loaders.flattened)):
            raise ValueError(
                "InfoBatchCallback: a validation loader must not have the sampler of the run, which belongs "
                "to training: leave sampler= out"
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._raised = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Behind the last batch, before checkpoints of the epoch's end are written."""
        if not trainer.barebones:
            # The same on all ranks: nothing is to be averaged.
            pl_module.log_dict(figures(self.infobatch), rank_zero_only=True)
        self._begin(trainer, trainer.current_epoch + 1)

    def _begin(self, trainer: Trainer, epoch: int) -> None:
        if trainer.max_epochs in (None, -1) or epoch < trainer.max_epochs:
            self.infobatch.sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """That of the run. On several ranks all of them call it, as the Trainer does. Behind an exception the
        others may go on: they are waited for no longer than half a minute, and the checkpoint lacks the run
        then."""
        if self._infobatch is None or self._trainer is None:
            return {}
        ranks = self._infobatch._here.ranks
        if self._raised and ranks is not None:
            ranks.timeout = min(ranks.timeout, _WAIT)
        try:
            state = self._infobatch.state_dict()
        except RankError as error:
            if not self._raised:
                raise
            warn(f"InfoBatchCallback: this checkpoint has no state of the run: {error}", InfoBatchWarning)
            return {}
        return {**state, "batches": self._trainer.num_training_batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with the state of a checkpoint, where it is trained on."""
        if state_dict and self._fitting:
            self._loaded = True
            report = self.infobatch.load_state_dict(state_dict)
            over = self.infobatch.epoch > report.epoch
            self._batches = state_dict["batches"] if over else None


__all__ = ["InfoBatchCallback"]

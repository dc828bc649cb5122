"""InfoBatch in Lightning: a callback for the Trainer. Fabric needs none (docs/trainers.md)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._figures import figures
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
            ``overfit_batches``), or read the loader less often than once an epoch.
        TypeError: no InfoBatch.
    """

    def __init__(self, infobatch: InfoBatch | Callable[[], InfoBatch]) -> None:
        super().__init__()
        self._given = infobatch
        self._infobatch = infobatch if isinstance(infobatch, InfoBatch) else None
        self._trainer: Trainer | None = None
        self._batches: int | None = None

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
        if stage != "fit":
            return
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

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loaders = getattr(trainer.fit_loop._combined_loader, "flattened", [])
        runs = [
            getattr(sampler, "infobatch", None)
            for loader in loaders
            for sampler in (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None))
        ]
        if not any(run is self.infobatch for run in runs):
            raise ValueError(
                "InfoBatchCallback: the training loader must have sampler=ib.sampler or "
                "batch_sampler=ib.batch_sampler(B) of the InfoBatch that the callback has"
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

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Behind the last batch, before checkpoints of the epoch's end are written."""
        if not trainer.barebones:
            # The same on all ranks: nothing is to be averaged.
            pl_module.log_dict(figures(self.infobatch), rank_zero_only=True)
        following = trainer.current_epoch + 1
        if trainer.max_epochs in (None, -1) or following < trainer.max_epochs:
            self.infobatch.set_epoch(following)

    def state_dict(self) -> dict[str, Any]:
        """That of the run. On several ranks all of them call it, as the Trainer does."""
        if self._infobatch is None or self._trainer is None:
            return {}
        return {**self._infobatch.state_dict(), "batches": self._trainer.num_training_batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with the state of a checkpoint."""
        if state_dict:
            report = self.infobatch.load_state_dict(state_dict)
            over = self.infobatch.epoch > report.epoch
            self._batches = state_dict["batches"] if over else None


__all__ = ["InfoBatchCallback"]

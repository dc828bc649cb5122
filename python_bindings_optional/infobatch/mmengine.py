"""InfoBatch in MMEngine's Runner: a sampler and a hook, by name in a config.

::

    custom_imports = dict(imports=["infobatch.mmengine"])
    train_cfg = dict(by_epoch=True, max_epochs=200)
    train_dataloader = dict(..., sampler=dict(type="InfoBatchSampler", num_epochs=200))    # 1 and 2
    custom_hooks = [dict(type="InfoBatchHook")]

    class Classifier(BaseModel):
        def forward(self, inputs, targets, mode):
            ...
            losses = cross_entropy(outputs, targets, reduction="none")
            return dict(loss=self.infobatch.update(losses))                                # 3

Needs MMEngine: ``pip install infobatch[mmengine]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from mmengine.hooks import CheckpointHook, Hook
    from mmengine.model import is_model_wrapper
    from mmengine.registry import DATA_SAMPLERS, HOOKS
    from mmengine.runner import EpochBasedTrainLoop
    from torch.utils.data import Sampler
except ImportError as error:
    raise ImportError(
        f"infobatch.mmengine: needs MMEngine, which is not there ({error}): pip install infobatch[mmengine]"
    ) from error

from ._errors import InfoBatchWarning
from ._figures import figures
from ._session import warn
from .infobatch import InfoBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmengine.runner import Runner


@DATA_SAMPLERS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class InfoBatchSampler(Sampler[int]):
    """The samples of each epoch of a run, which it makes: lines 1 and 2 in a config.

    ``len`` is that of the epoch that was set last, until another one is.

    Args:
        dataset: given by the Runner.
        num_epochs: E >= 1, the ``max_epochs`` of ``train_cfg``.
        prune_ratio, delta, **options: as InfoBatch's.
        seed: given by the Runner, unless it is said.

    Raises:
        ValueError, TypeError: as InfoBatch.
    """

    def __init__(
        self,
        dataset: Any,
        num_epochs: int,
        prune_ratio: float = 0.5,
        delta: float = 0.875,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        given = options if seed is None else {"seed": seed, **options}
        #: The run.
        self.infobatch = InfoBatch(len(dataset), num_epochs, prune_ratio, delta, **given)
        self._length = len(self.infobatch.sampler)
        self._over = False
        #: Whether the hook has begun a training with it.
        self.hooked = False

    def set_epoch(self, epoch: int) -> None:
        """As that of ``InfoBatch.sampler``. Behind the load of an epoch that was over, nothing of it is left
        to be iterated."""
        run = self.infobatch._here
        self._over = run.loaded_over and epoch == run.loaded
        self.infobatch.sampler.set_epoch(epoch)
        self._length = 0 if self._over else len(self.infobatch.sampler)

    def __iter__(self) -> Iterator[int]:
        if not self.hooked:
            raise RuntimeError(
                "InfoBatchSampler: the Runner must have the hook, got none: "
                "custom_hooks=[dict(type='InfoBatchHook')]"
            )
        return iter(()) if self._over else iter(self.infobatch.sampler)

    def __len__(self) -> int:
        return self._length


@HOOKS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class InfoBatchHook(Hook):  # type: ignore[misc,unused-ignore]
    """Fits the Runner to epochs of changing length, keeps the run in its checkpoints, and logs it.

    The model has the run as ``infobatch`` from the beginning of the training on. Schedules that count
    iterations are stepped more than once where samples are left out, so that they end where they should. The
    last iteration of an epoch ends its accumulation. Checkpoints hold the run; ``resume`` goes on with it,
    also in the midst of an epoch (``CheckpointHook(by_epoch=False)``). Visualizers show ``infobatch/kept``,
    ``infobatch/saved`` and ``infobatch/mean_score`` behind each epoch, and the log a line of them.

    Raises (when the training begins):
        ValueError: a training loader without InfoBatchSampler, or with a batch sampler that has an order of
            its own; a validation loader with one; a loop that is not by epochs; a checkpoint without the run.

    Warns:
        InfoBatchWarning: ``max_epochs`` and the run have different numbers of epochs.
    """

    # Behind what steps schedules (LOW) and before what saves (VERY_LOW).
    priority = 80

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None
        self._state: dict[str, Any] | None = None
        #: Steps that schedules by iterations have made.
        self._steps = 0

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self._loaded = checkpoint.get("infobatch")

    def before_train(self, runner: Runner) -> None:
        sampler = self._check(runner)
        run = sampler.infobatch
        if runner.iter > 0:  # resumed, not only loaded
            if self._loaded is None and sampler.hooked:
                raise ValueError(
                    "InfoBatchHook: a Runner must train once, got another train() behind iteration "
                    f"{runner.iter}: make a new Runner, with resume=True where it is to go on"
                )
            if self._loaded is None:
                raise ValueError(
                    "InfoBatchHook: a checkpoint must have the state of the run, got none in that of "
                    f"iteration {runner.iter}: it was written without the hook. Go on from another, or take "
                    "its weights alone, load_from= without resume"
                )
            run.load_state_dict(self._loaded)
        self._steps = 0 if self._loaded is None or runner.iter == 0 else self._loaded["steps"]
        self._loaded = None
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.infobatch = run
        sampler.hooked = True
        if runner.max_epochs != run.num_epochs:
            warn(
                "InfoBatchHook: train_cfg(max_epochs) should be the num_epochs of the run, "
                f"{run.num_epochs}, got {runner.max_epochs}: "
                + (
                    f"from epoch {run.num_epochs} on progress stays 1, and nothing is left out"
                    if runner.max_epochs > run.num_epochs
                    else "progress does not reach 1, and the last epochs, which see every sample, do not come"
                ),
                InfoBatchWarning,
            )

    @staticmethod
    def _check(runner: Runner) -> InfoBatchSampler:
        loop = runner.train_loop
        if not isinstance(loop, EpochBasedTrainLoop):
            raise ValueError(
                f"InfoBatchHook: the training loop must be by epochs, got {type(loop).__name__}: a loop by "
                "iterations has no epochs, and goes on in the wrong one. train_cfg=dict(by_epoch=True, "
                "max_epochs=...); where type= names another loop, type='EpochBasedTrainLoop'"
            )
        loader = loop.dataloader
        sampler, batches = loader.sampler, loader.batch_sampler
        if not isinstance(sampler, InfoBatchSampler):
            raise ValueError(
                "InfoBatchHook: train_dataloader must have sampler=dict(type='InfoBatchSampler', "
                f"num_epochs=...) and no batch_sampler=, got {type(sampler).__name__} in a "
                f"{type(batches).__name__}: the plan is the order"
            )
        validation = runner.val_loop
        if validation is not None and isinstance(validation.dataloader.sampler, InfoBatchSampler):
            raise ValueError(
                "InfoBatchHook: val_dataloader must not have an InfoBatchSampler, which would leave samples "
                "out: sampler=dict(type='DefaultSampler', shuffle=False)"
            )
        return sampler

    @staticmethod
    def _run(runner: Runner) -> InfoBatch:
        run: InfoBatch = runner.train_dataloader.sampler.infobatch
        return run

    def before_train_epoch(self, runner: Runner) -> None:
        loader: Any = runner.train_dataloader
        loader.sampler.set_epoch(runner.epoch)
        rows = self._run(runner)._here.session.position
        # Micro-batches are counted from the epoch's begin, and its last one makes a step.
        runner.optim_wrapper.initialize_count_status(runner.model, rows // loader.batch_size, len(loader))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._state = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        run = self._run(runner)
        self._steps += 1  # which MMEngine has made
        passed = round(run.progress * runner.max_iters)
        found: Any = runner.param_schedulers or []
        groups = found.values() if isinstance(found, dict) else [found]
        for _ in range(self._steps, passed):
            for schedule in (schedule for group in groups for schedule in group if not schedule.by_epoch):
                schedule.step()
        self._steps = max(self._steps, passed)
        if run._here.ranks is not None and any(
            isinstance(hook, CheckpointHook) and self._saves(hook, runner) for hook in runner.hooks
        ):
            self._state = self._state_of(run)

    def _state_of(self, run: InfoBatch) -> dict[str, Any]:
        return {**run.state_dict(), "steps": self._steps}

    @staticmethod
    def _saves(hook: Any, runner: Runner) -> bool:
        """It writes a checkpoint in this iteration."""
        at_interval = hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
        return not hook.by_epoch and (at_interval or (hook.save_last and hook.is_last_train_iter(runner)))

    def after_train_epoch(self, runner: Runner) -> None:
        run = self._run(runner)
        runner.logger.info(f"InfoBatch: {run.statistics}")
        runner.visualizer.add_scalars(figures(run), step=runner.iter, file_path=f"{runner.timestamp}.json")
        if run._here.ranks is not None:
            # One rank alone writes checkpoints, here and behind a validation.
            self._state = self._state_of(run)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        run = self._run(runner)
        if run._here.ranks is None:
            checkpoint["infobatch"] = self._state_of(run)
        elif self._state is not None:
            checkpoint["infobatch"] = self._state
        else:
            warn(
                "InfoBatchHook: this checkpoint has no state of the run: on several ranks all of them have "
                "to know of it. Leave it to CheckpointHook, or call save_checkpoint behind an epoch",
                InfoBatchWarning,
            )


__all__ = ["InfoBatchHook", "InfoBatchSampler"]

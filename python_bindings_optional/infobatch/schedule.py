"""Learning rates for epochs of changing length: they follow ``progress``, not a count of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR, LRScheduler

    from .infobatch import InfoBatch
else:
    try:  # trainers ask whether it is one of torch's
        from torch.optim.lr_scheduler import LRScheduler
    except ImportError:
        LRScheduler = object


class _Steps(Protocol):
    def step(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def progress_lr(optimizer: Optimizer, infobatch: InfoBatch, factor: Callable[[float], float]) -> LambdaLR:
    """A ``LambdaLR`` on the fraction of the run that is done. Call ``step()`` after each optimizer step.

    Args:
        optimizer: its learning rates are multiplied.
        infobatch: the run.
        factor: from progress in [0, 1] to a factor, e.g. ``lambda p: 0.5 * (1 + math.cos(math.pi * p))``.

    Returns:
        The scheduler. Behind a load it needs no state of its own: the next ``step`` asks the run.

    >>> import torch
    >>> from infobatch import InfoBatch
    >>> ib = InfoBatch(40, num_epochs=4)
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    >>> schedule = progress_lr(optimizer, ib, lambda progress: 1 - progress)
    >>> for ids in ib.batch_sampler(20):
    ...     loss = ib.update([1.0] * len(ids))
    ...     optimizer.step()
    ...     schedule.step()
    ...     print(round(schedule.get_last_lr()[0], 4))
    0.0875
    0.075
    """
    from torch.optim.lr_scheduler import LambdaLR

    return LambdaLR(optimizer, lambda step: factor(infobatch.progress))


class FullRunScheduler(LRScheduler):
    """Drives a scheduler that counts steps, so that it ends where it should::

        steps = ib.max_steps(batch_size)
        schedule = FullRunScheduler(OneCycleLR(optimizer, 0.1, total_steps=steps), ib, steps)
        ... optimizer.step(); schedule.step()

    The scheduler is made for a run that sees every sample; where samples are left out, it takes more than
    one of its steps at a time.

    Args:
        scheduler: of torch or DeepSpeed, stepped once a batch, made for ``total_steps``.
        infobatch: the run.
        total_steps: T >= 1 steps of the scheduler's whole run.

    Raises:
        ValueError: fewer than one step.

    >>> import torch
    >>> from infobatch import InfoBatch
    >>> ib = InfoBatch(40, num_epochs=4)
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> steps = ib.max_steps(10)
    >>> linear = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps - 1)
    >>> schedule = FullRunScheduler(linear, ib, steps)
    >>> for epoch in range(4):
    ...     for ids in ib.batch_sampler(10):
    ...         loss = ib.update([float(i) for i in ids])
    ...         optimizer.step()
    ...         schedule.step()
    ...     print(epoch, round(schedule.get_last_lr()[0], 4))
    0 0.7333
    1 0.4667
    2 0.2
    3 0.0
    """

    def __init__(self, scheduler: _Steps, infobatch: InfoBatch, total_steps: int) -> None:
        if total_steps < 1:
            raise ValueError(f"FullRunScheduler: total_steps must be at least 1, got {total_steps}")
        self.scheduler = scheduler
        # What trainers look for.
        self.optimizer = getattr(scheduler, "optimizer", None)  # type: ignore[assignment]
        self.base_lrs = getattr(scheduler, "base_lrs", [])
        self.infobatch = infobatch
        self.total_steps = total_steps

    def step(self, epoch: int | None = None) -> None:
        """Moves the scheduler to where the run stands: round(progress * T), at most T - 1 (T for one of
        DeepSpeed's, which sets its first rate in its first step). What some trainers pass as ``epoch`` is not
        looked at."""
        most = self.total_steps - (not hasattr(self.scheduler, "last_batch_iteration"))
        target = min(round(self.infobatch.progress * self.total_steps), most)
        while self._made() < target:
            self.scheduler.step()

    @property
    def last_epoch(self) -> int:  # type: ignore[override]
        """Steps that the scheduler has made."""
        return self._made()

    @property
    def _step_count(self) -> int:
        """What Accelerate compares with ``total_steps``, and counts up where gradients are accumulated. The
        run says where the scheduler stands, so neither changes anything."""
        return self._made()

    @_step_count.setter
    def _step_count(self, count: int) -> None:
        pass

    def _made(self) -> int:
        """Steps that the scheduler has made; a ChainedScheduler's are counted by its parts, and those of
        DeepSpeed from -1 on."""
        counts: Any = self.scheduler
        if hasattr(counts, "last_batch_iteration"):
            return int(counts.last_batch_iteration) + 1
        while not hasattr(counts, "last_epoch"):
            counts = counts._schedulers[0]
        made: int = counts.last_epoch
        return made

    def get_last_lr(self) -> list[Any]:
        """The learning rates set last, one a group of parameters."""
        return self.scheduler.get_last_lr()  # type: ignore[attr-defined,no-any-return]

    def state_dict(self) -> dict[str, Any]:
        """That of the scheduler. Save it at the same step as the run's."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with the scheduler's state; load the run's, too."""
        self.scheduler.load_state_dict(state_dict)


__all__ = ["FullRunScheduler", "progress_lr"]

"""InfoBatch with DeepSpeed's engine: a loader, whose epochs end with a step, and checkpoints with the run.

::

    deepspeed.init_distributed()
    ib = InfoBatch(len(dataset), num_epochs=200)                                    # 1
    engine, *_ = deepspeed.initialize(model=net, optimizer=optimizer, config=config)
    loader = infobatch.deepspeed.prepare(engine, ib, dataset)                       # 2
    for epoch in range(200):
        ib.set_epoch(epoch)
        for inputs, targets in loader:
            loss = ib.update(criterion(engine(inputs), targets))                    # 3
            engine.backward(loss)
            engine.step()
        loader.save_checkpoint("checkpoints")

Needs DeepSpeed: ``pip install infobatch[deepspeed]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from deepspeed.runtime.pipe.engine import PipelineEngine
    from torch import distributed
    from torch.utils.data import DataLoader
except ImportError as error:
    raise ImportError(
        f"infobatch.deepspeed: needs DeepSpeed, which is not there ({error}): pip install "
        "infobatch[deepspeed]"
    ) from error

from ._errors import InfoBatchWarning
from ._figures import figures
from ._session import warn
from .infobatch import InfoBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deepspeed.runtime.engine import DeepSpeedEngine


def _check(engine: DeepSpeedEngine, infobatch: InfoBatch) -> None:
    function = "infobatch.deepspeed.prepare"
    if not isinstance(infobatch, InfoBatch):
        raise TypeError(f"{function}: infobatch must be an InfoBatch, got {type(infobatch).__name__}")
    if isinstance(engine, PipelineEngine):
        raise ValueError(
            f"{function}: the engine must be one whose loop is yours, got a PipelineEngine: it draws batches "
            "and computes their loss by itself. Leave the model as it is, without PipelineModule"
        )
    if engine.training_dataloader is not None:
        raise ValueError(
            f"{function}: deepspeed.initialize must not have training_data: its loader deals all samples out "
            "once more. Give the data set to prepare"
        )
    if engine.sequence_parallel_size > 1:
        raise ValueError(
            f"{function}: sequence_parallel_size must be 1, got {engine.sequence_parallel_size}: losses of a "
            "part of a sequence are not those of a sample"
        )
    ranks, group = infobatch._here.ranks, engine.data_parallel_group
    run = (0, 1) if ranks is None else (ranks.rank, ranks.size)
    there = (distributed.get_rank(group), distributed.get_world_size(group))
    if run != there:
        raise ValueError(
            f"{function}: the ranks of the run must be those that have the whole model, or shards of it, "
            f"here {there[0]} of {there[1]}, got {run[0]} of {run[1]}: InfoBatch(..., "
            "group=engine.data_parallel_group)"
        )
    if ranks is not None and not infobatch._here.session.sharded:
        raise ValueError(
            f"{function}: on several processes the run must be one that deals its samples itself, got "
            "split='global': leave split out"
        )
    if hasattr(engine.lr_scheduler, "total_num_steps"):
        warn(
            f"{function}: {type(engine.lr_scheduler).__name__} counts on steps of full epochs, and will not "
            "come to its end: give deepspeed.initialize lr_scheduler=lambda optimizer: "
            "progress_lr(optimizer, ib, ...), or FullRunScheduler(..., ib, total_num_steps)",
            InfoBatchWarning,
        )


class Loader:
    """The batches of each epoch of a run, for a DeepSpeed engine. See `prepare`.

    ``len`` is the number of batches of the epoch.
    """

    def __init__(self, engine: DeepSpeedEngine, infobatch: InfoBatch, loader: DataLoader[Any]) -> None:
        self.engine = engine
        self.infobatch = infobatch
        self.loader = loader
        #: The engine's count of backward passes at the last batch, and whether that one ends a step.
        self._passes = -1
        self._steps = True

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        engine, size = self.engine, self.loader.batch_size
        assert size is not None
        parts = engine.gradient_accumulation_steps()
        managed = parts > 1 and engine.managed_gradient_accumulation()
        session, batches = self.infobatch._here.session, 0
        if self._passes == -1 and engine.global_steps > 0 and self.infobatch.progress == 0:
            warn(
                "infobatch.deepspeed.Loader: engine and run should stand at one place, got "
                f"{engine.global_steps} steps of the engine and none of the run: load a checkpoint by "
                "load_checkpoint of this loader, which has the run with it",
                InfoBatchWarning,
            )
        try:
            for count, batch in enumerate(self.loader, 1):
                if count == 1:  # the epoch has begun: so many of its batches are left
                    rows = session.length() - session.position
                    batches = rows // size if self.loader.drop_last else -(-rows // size)
                self._steps = count % parts == 0 or count == batches
                if managed:
                    engine.set_gradient_accumulation_boundary(self._steps)
                self._passes = engine.micro_steps
                yield batch
        finally:
            if managed:
                engine.set_gradient_accumulation_boundary(None)
        if engine.monitor.enabled:
            shown = figures(self.infobatch).items()
            engine.monitor.write_events([(name, value, engine.global_samples) for name, value in shown])

    def save_checkpoint(
        self,
        save_dir: str,
        tag: str | None = None,
        client_state: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """``engine.save_checkpoint``, with the run. All ranks call it, behind a step of the optimizer.

        Args:
            save_dir, tag, **options: as the engine's.
            client_state: of your own; the key ``"infobatch"`` is the run's.

        Raises:
            RuntimeError: before the step of a batch, or in the midst of an accumulation, whose gradients
                DeepSpeed does not save.
            ValueError: a client_state that has the run's key.
        """
        function = "infobatch.deepspeed.Loader.save_checkpoint"
        if client_state is not None and "infobatch" in client_state:
            raise ValueError(f"{function}: client_state must not have the key 'infobatch', got one")
        if self._passes == self.engine.micro_steps or not self._steps:
            raise RuntimeError(
                f"{function}: must be called behind a step of the optimizer, got a call in the midst of one: "
                "gradients that were accumulated are not saved. Call it behind engine.step() where "
                "engine.global_steps has moved, or behind the epoch"
            )
        state = {**(client_state or {}), "infobatch": self.infobatch.state_dict()}
        self.engine.save_checkpoint(save_dir, tag, state, **options)

    def load_checkpoint(
        self, load_dir: str, tag: str | None = None, **options: Any
    ) -> tuple[str | None, dict[str, Any] | None]:
        """``engine.load_checkpoint``, with the run: iterations go on where it stood, also in the midst of an
        epoch. All ranks call it. With ``load_module_only=True`` the run stays as it is.

        Returns:
            what the engine returns: a path and the client_state, or None twice, where there is nothing.

        Raises:
            ValueError: a checkpoint without the run, or that of another one. The engine has been loaded then.
        """
        path, state = self.engine.load_checkpoint(load_dir, tag, **options)
        if path is None:
            return path, state
        run = state.pop("infobatch", None)
        if not options.get("load_module_only"):
            if run is None:
                raise ValueError(
                    "infobatch.deepspeed.Loader.load_checkpoint: a checkpoint must have the state of the "
                    f"run, got none in {path}: it was written by engine.save_checkpoint. Go on from another, "
                    "or load its weights alone, load_module_only=True"
                )
            self.infobatch.load_state_dict(run)
        self._passes, self._steps = -1, True
        return path, state


def prepare(
    engine: DeepSpeedEngine,
    infobatch: InfoBatch,
    dataset: Any,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    **loader_options: Any,
) -> Loader:
    """Line 2 with DeepSpeed: a loader of the epoch's batches on this rank, in the engine's size.

    The last batch of an epoch ends its accumulation: it makes a step, though there are fewer micro-batches
    in it. Behind each epoch the engine's monitor gets ``infobatch/kept``, ``infobatch/saved`` and
    ``infobatch/mean_score``. ``Loader.save_checkpoint`` and ``Loader.load_checkpoint`` have the run with
    them.

    Args:
        engine: of ``deepspeed.initialize``, without ``training_data``. ZeRO changes nothing here.
        infobatch: the run, made behind ``deepspeed.init_distributed``.
        dataset: what has a length and items.
        collate_fn: as DataLoader's. Default: torch's.
        **loader_options: of ``DataLoader``: ``num_workers``, ``pin_memory``, ... ``drop_last`` is that of the
            engine's ``dataloader_drop_last``, unless it is given.

    Raises:
        TypeError: no InfoBatch.
        ValueError: a data set of another length, a PipelineEngine, ``training_data``, sequence parallelism,
            ranks that are not the data-parallel ones, ``split="global"`` on several processes.

    Warns:
        InfoBatchWarning: a schedule that counts on steps of full epochs.
    """
    _check(engine, infobatch)
    if len(dataset) != len(infobatch):
        raise ValueError(
            f"infobatch.deepspeed.prepare: the data set must have the {len(infobatch)} samples of the run, "
            f"got {len(dataset)}"
        )
    options = {"drop_last": engine.dataloader_drop_last(), **loader_options}
    size = engine.train_micro_batch_size_per_gpu()
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=size, sampler=infobatch.sampler, collate_fn=collate_fn, **options
    )
    return Loader(engine, infobatch, loader)


__all__ = ["Loader", "prepare"]

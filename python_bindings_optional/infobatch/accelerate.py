"""Accelerate: a loader whose batches an Accelerator deals to its processes, with the ids of their samples.

::

    accelerator = Accelerator()
    ib = InfoBatch(len(dataset), num_epochs=200, split="global")                    # 1
    loader = infobatch.accelerate.prepare(accelerator, ib, dataset, batch_size=128)  # 2
    for epoch in range(200):
        ib.set_epoch(epoch)
        for ids, (inputs, targets) in loader:
            loss = ib.update(criterion(model(inputs), targets), ids)                # 3
            accelerator.backward(loss)

Needs Accelerate: ``pip install infobatch[accelerate]``.
"""

from __future__ import annotations

import sys
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

try:
    import torch
    from accelerate.data_loader import SkipBatchSampler
    from accelerate.utils import DistributedType
    from torch.utils.data import DataLoader, default_collate
except ImportError as error:
    raise ImportError(
        f"infobatch.accelerate: needs Accelerate, which is not there ({error}): pip install "
        "infobatch[accelerate]"
    ) from error

from ._figures import figures
from .indexed import Indexed
from .samplers import integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from accelerate.accelerator import Accelerator

    from .infobatch import InfoBatch


class Batches:
    """The batches of all processes, as Accelerate deals them out: the first to process 0, the next to 1, ...

    A last round that is short is shared out evenly, and filled up with the first samples of the plan where
    it does not come out: by at most one sample a process but one. (Accelerate itself would fill every batch
    up to its full size.)

    Args:
        size: samples of the data set.
        batch_size: B of one process.
        drop_last: leaves a short last round out.
        processes: W, that the batches are dealt to.
    """

    def __init__(self, size: int, batch_size: int, drop_last: bool, processes: int) -> None:
        self.size = size
        self.rows = batch_size
        self.drop_last = drop_last
        self.processes = processes
        # Without a size Accelerate deals batches out as they are.
        self.batch_size = batch_size if processes == 1 else None
        self.infobatch: InfoBatch | None = None
        #: The prepared loader, which is told what of its last round is no repetition.
        self.loader: Any = None
        #: Rounds that come first, to be skipped: those that were trained before a trainer was resumed.
        self.done = 0

    @property
    def run(self) -> InfoBatch:
        """The run, which there is as soon as anything is delivered."""
        if self.infobatch is None:
            raise RuntimeError("infobatch.Batches: iterated before there is a run")
        return self.infobatch

    def rounds(self, samples: int | None = None) -> int:
        """Batches that each process has of so many samples; of the epoch, where no number is given."""
        if samples is None:
            samples = self.size if self.infobatch is None else len(self.infobatch.sampler)
        of_all = self.rows * self.processes
        return samples // of_all if self.drop_last else -(-samples // of_all)

    def __len__(self) -> int:
        return self.rounds() * self.processes

    def __iter__(self) -> Iterator[list[int]]:
        run, rows, processes = self.run, self.rows, self.processes
        if not self.done and _is_skipped():
            raise RuntimeError(
                "infobatch.accelerate: skip_first_batches must not be called, got a loader that skips: "
                "behind a load the loader delivers the rest of the epoch by itself, and more would be left "
                "out. Iterate the loader of infobatch.accelerate.prepare"
            )
        for begin in range(0, self.done * processes * rows, rows):
            yield run.plan.ids[begin : begin + rows].tolist()
        held: list[list[int]] = []
        first: list[int] | None = None
        for batch in run.batch_sampler(rows, self.drop_last):
            if first is None:
                plan = run.plan
                first = plan.ids[:processes].tolist()
                if self.loader is not None:
                    self.loader.remainder = 0 if self.drop_last else len(plan) % (rows * processes)
            held.append(batch)
            if len(held) == processes and len(batch) == rows:
                yield from held
                held = []
        if held and not self.drop_last:
            rest = [id for batch in held for id in batch]
            share = -(-len(rest) // processes)
            rest += islice(cycle(first or rest), share * processes - len(rest))
            for begin in range(0, len(rest), share):
                yield rest[begin : begin + share]


def _is_skipped() -> bool:
    """Whether what iterates is a loader of ``skip_first_batches``, seen from its frames."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        found: Any = frame.f_locals.get("self")
        if isinstance(found, SkipBatchSampler) and found.skip_batches > 0:
            return True
        frame = frame.f_back
    return False


class WithIds:
    """A collator of pairs (id, sample): (ids [B] int64, what ``collate`` makes of the samples)."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, rows: Sequence[tuple[int, Any]]) -> tuple[torch.Tensor, Any]:
        ids = torch.tensor([id for id, _ in rows], dtype=torch.int64)
        return ids, self.collate([sample for _, sample in rows])


def check(accelerator: Accelerator, function: str) -> None:
    """Refuses what does not work with a run.

    Raises:
        ValueError: naming the setting and the cure.
    """
    settings = accelerator.dataloader_config
    if settings.split_batches:
        raise ValueError(
            f"{function}: split_batches must be False, got True: the batch size is that of one process; "
            "divide yours by the number of processes"
        )
    if settings.dispatch_batches:
        raise ValueError(
            f"{function}: dispatch_batches must be False, got True: the plan is the same on every process, "
            "so each one loads its own samples"
        )
    if settings.use_stateful_dataloader:
        raise ValueError(
            f"{function}: use_stateful_dataloader must be False, got True: the run's state says where an "
            "epoch goes on, and a loader that skips as well would leave samples out"
        )
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(
            f"{function}: distributed_type must be one with a loader of torch, got {kind.value}: use DDP or "
            "FSDP"
        )
    parallel = getattr(accelerator, "parallelism_config", None)
    for name in ("tp_size", "cp_size", "sp_size"):
        if getattr(parallel, name, 1) > 1:
            raise ValueError(
                f"{function}: {name} must be 1, got {getattr(parallel, name)}: batches are dealt to "
                "processes that have the whole model, or shards of it"
            )


def prepare(
    accelerator: Accelerator,
    infobatch: InfoBatch,
    dataset: Any,
    batch_size: int,
    drop_last: bool = False,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    **loader_options: Any,
) -> DataLoader[Any]:
    """Line 2 under Accelerate: a prepared loader of ``(ids, batch)``. Each iteration is an epoch of the run;
    ``loss = infobatch.update(losses, ids)`` is line 3.

    The run is registered with the accelerator: ``save_state`` and ``load_state`` have it with them. Behind a
    load in the midst of an epoch the loader delivers the rest of it, and ``skip_first_batches`` must not be
    called (RuntimeError, where it is iterated).

    Args:
        accelerator: whose processes share the batches.
        infobatch: made behind the accelerator, with ``split="global"``.
        dataset: what has a length and items.
        batch_size: B of one process.
        drop_last: leave a last round out that is short. Otherwise it is shared out evenly, with at most W - 1
            samples of the epoch once more.
        collate_fn: of the samples, without their ids. Default: torch's.
        **loader_options: of ``DataLoader``: ``num_workers``, ``pin_memory``, ...

    Raises:
        ValueError: a data set of another length, ``split="sharded"`` on several processes,
            ``split_batches``, ``dispatch_batches``, a stateful loader, DeepSpeed, Megatron-LM, tensor,
            context or sequence parallelism.
        TypeError: an iterable data set.
    """
    function = "infobatch.accelerate.prepare"
    check(accelerator, function)
    batch_size = integer(batch_size, "batch_size", function, least=1)
    indexed = Indexed(dataset)
    if len(indexed) != len(infobatch):
        raise ValueError(
            f"{function}: the data set must have the {len(infobatch)} samples of the run, got {len(indexed)}"
        )
    session = infobatch._here.session
    if accelerator.num_processes > 1 and session.sharded:
        raise ValueError(
            f"{function}: on several processes the run must be one that Accelerate splits, got "
            "split='sharded': InfoBatch(..., split='global')"
        )
    batches = Batches(len(indexed), batch_size, drop_last, accelerator.num_processes)
    batches.infobatch = infobatch
    collate = WithIds(default_collate if collate_fn is None else collate_fn)
    loader: Any = DataLoader(indexed, batch_sampler=batches, collate_fn=collate, **loader_options)
    batches.loader = accelerator.prepare_data_loader(loader)
    if not any(known is infobatch for known in accelerator._custom_objects):
        accelerator.register_for_checkpointing(infobatch)
    prepared: DataLoader[Any] = batches.loader
    return prepared


__all__ = ["Batches", "WithIds", "check", "figures", "prepare"]

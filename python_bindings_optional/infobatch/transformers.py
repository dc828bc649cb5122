"""The Trainer of Hugging Face Transformers: it skips the samples that the network has learned.

::

    from infobatch.transformers import InfoBatchTrainer

    trainer = InfoBatchTrainer(model, args, train_dataset=dataset, infobatch={"prune_ratio": 0.5})
    trainer.train()

What is the Trainer's own stays so: arguments, collator, loss, logging, evaluation, checkpoints. Other
trainers of its kind take the mixin: ``class MyTrainer(InfoBatchMixin, SFTTrainer): ...``.

Needs Transformers: ``pip install infobatch[transformers]``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

try:
    import torch
    from torch.nn import functional
    from torch.optim.lr_scheduler import LambdaLR
    from torch.utils.data import DataLoader, IterableDataset
    from transformers.loss.loss_utils import (
        LOSS_MAPPING,
        ForCausalLMLoss,
        ForMaskedLMLoss,
        ForSequenceClassificationLoss,
        ForTokenClassification,
    )
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.trainer import Trainer
    from transformers.trainer_utils import seed_worker
    from transformers.utils import is_datasets_available
except ImportError as error:
    raise ImportError(
        f"infobatch.transformers: needs Transformers with its Trainer, which is not there ({error}): pip "
        "install infobatch[transformers]"
    ) from error

from functools import partial

from .accelerate import Batches, WithIds, check, figures
from .indexed import Indexed
from .infobatch import InfoBatch
from .schedule import FullRunScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    # For type checkers it is a trainer; in use it stands before one.
    from transformers.trainer import Trainer as _Base
else:
    _Base = object

#: The file of the run's state in a checkpoint's folder.
STATE_NAME = "infobatch.safetensors"
#: Where a batch holds the ids of its samples, until the loss is computed.
IDS = "infobatch_ids"

_IGNORED = -100
#: What a decoder reads.
_OF_DECODER = {"decoder_input_ids", "decoder_inputs_embeds"}
#: To which share two losses are the same, of a model in bfloat16 as well.
_SAME = 0.02
#: Methods of the Trainer that the mixin stands before; releases before 5 do not have them.
_NEEDED = ("_run_epoch", "_init_training_state", "set_initial_training_values", "_finalize_training")
#: Options of the run that the arguments of the Trainer say.
_OF_THE_TRAINER = ("num_epochs", "split", "drop_last", "group", "lookahead", "padding")


class _Collate(WithIds):
    """The user's collator, and the ids in what it makes."""

    def __call__(self, rows: Any) -> Any:
        ids, batch = super().__call__(rows)
        if not hasattr(batch, "keys"):
            raise TypeError(f"InfoBatchTrainer: data_collator must return a dict, got {type(batch).__name__}")
        batch[IDS] = ids
        return batch


class _Clock:
    """Where the learning rate stands: the steps of a shorter epoch are those of a whole one, stretched."""

    def __init__(self) -> None:
        self.state: Any = None
        self.epoch = 0
        #: Step of the Trainer with which the epoch began.
        self.begin = 0
        #: Steps of the epoch.
        self.steps = 1
        #: Steps of a whole epoch, and of a run in which no sample is left out.
        self.whole = 1
        self.total = 1

    @property
    def progress(self) -> float:
        # The Trainer counts a step behind that of its scheduler.
        done = self.state.global_step + 1 - self.begin
        return min(1.0, float((self.epoch + done / self.steps) * self.whole / self.total))

    def last_step(self) -> int:
        """With which the run ends, at the latest; in the last epoch it is exact."""
        left = min(self.whole, self.total - self.epoch * self.whole)
        later = max(self.total - (self.epoch + 1) * self.whole, 0)
        return int(self.begin - (-self.steps * left // self.whole) + later)


class InfoBatchMixin(_Base):
    """Before a Trainer of Transformers, it trains with InfoBatch.

    ``class MyTrainer(InfoBatchMixin, Trainer): ...``

    Each call of ``train`` is a run of its own, ``trainer.infobatch``. Epochs have fewer steps where samples
    are left out; ``max_steps`` (given, or epochs times the steps of a whole epoch) is an upper bound then,
    and the learning rate ends where it would end without InfoBatch. Checkpoints have the run's state, and
    ``resume_from_checkpoint`` goes on with it, also in the midst of an epoch.

    Args:
        *args: of the Trainer.
        infobatch: options of `InfoBatch`, by name: ``{"prune_ratio": 0.5, "keep": "exact"}``; True: the
            defaults. The number of epochs is that of the arguments, and so is the seed (``data_seed``, else
            ``seed``) where none is given.
        infobatch_loss: from ``(outputs, labels)`` to the losses [B] of a batch, whose mean is minimised; or
            to a pair of sums [B] and counts [B], where rows have many losses: minimised is the mean over all
            that was counted, and a sample's score is sum / count. Default: the model's own loss, for causal
            and masked language models, sequence-to-sequence models, and classification of tokens, sequences,
            images.
        **kwargs: of the Trainer.

    Raises:
        ValueError: what cannot work, named with the cure.
        TypeError: an iterable data set.
    """

    #: The run that ``train`` has begun, or began last.
    infobatch: InfoBatch | None
    # Of the Trainer.
    compute_loss_func: Any
    lr_scheduler: Any

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for base in cls.__mro__[1 : cls.__mro__.index(InfoBatchMixin)]:
            if hasattr(base, "training_step") and not issubclass(base, InfoBatchMixin):
                raise TypeError(
                    f"{cls.__name__}: InfoBatchMixin must come before the trainer, got it behind "
                    f"{base.__name__}, which would train without it: class {cls.__name__}(InfoBatchMixin, "
                    f"{base.__name__})"
                )

    def __init__(
        self,
        *args: Any,
        infobatch: Mapping[str, Any] | bool = True,
        infobatch_loss: Callable[[Any, Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        behind = super()
        missing = [name for name in _NEEDED if not hasattr(behind, name)]
        if missing:
            from importlib.metadata import version

            raise RuntimeError(
                f"InfoBatchTrainer: Transformers must have Trainer.{missing[0]}, got release "
                f"{version('transformers')}: 5.23 has it. (The mixin stands before the Trainer: class "
                "MyTrainer(InfoBatchMixin, Trainer))"
            )
        if infobatch is False or (infobatch is not True and not hasattr(infobatch, "keys")):
            raise ValueError(
                f"InfoBatchTrainer: infobatch must be True or a dict of options, got {infobatch!r}: to train "
                "on every sample, use Trainer, or {'prune_ratio': 0}"
            )
        self.infobatch = None
        self._infobatch_options: dict[str, Any] = {} if infobatch is True else dict(infobatch)
        self._infobatch_loss = infobatch_loss
        self._batches: Batches | None = None
        self._clock = _Clock()
        self._rows_of_step = 0
        #: This micro-batch was weighed; the model's own loss was found to be that of its samples.
        self._weighed = self._compared = False
        super().__init__(*args, **kwargs)
        self._refuse()

    def _refuse(self) -> None:
        """Raises for what cannot work, before anything is trained."""
        args, own = self.args, self._infobatch_loss
        given = [name for name in _OF_THE_TRAINER if name in self._infobatch_options]
        if given:
            raise ValueError(
                f"InfoBatchTrainer: infobatch must leave {given[0]} to the arguments of the Trainer, got "
                f"{self._infobatch_options[given[0]]!r}"
            )
        strategy = getattr(args, "train_sampling_strategy", "random")
        if getattr(args, "group_by_length", False):
            strategy = "group_by_length"
        if strategy != "random":
            raise ValueError(
                f"InfoBatchTrainer: train_sampling_strategy must be 'random', got {strategy!r}: the order of "
                "the samples is that of the run's plan"
            )
        if type(self)._get_train_sampler is not Trainer._get_train_sampler:
            raise ValueError(
                "InfoBatchTrainer: _get_train_sampler must be that of the Trainer, got one of "
                f"{type(self).__name__}: the order of the samples is that of the run's plan"
            )
        if args.ignore_data_skip:
            raise ValueError(
                "InfoBatchTrainer: ignore_data_skip must be False, got True: the run knows where it goes on, "
                "and skipping loads nothing"
            )
        if args.n_gpu > 1:
            raise ValueError(
                f"InfoBatchTrainer: a process must have one device, got {args.n_gpu} (DataParallel): start "
                "one process a device with torchrun"
            )
        check(self.accelerator, "InfoBatchTrainer")
        data: Any = self.train_dataset
        if data is not None and (isinstance(data, IterableDataset) or not hasattr(data, "__len__")):
            raise TypeError(
                f"InfoBatchTrainer: train_dataset must have a length and items, got {type(data).__name__}: "
                "an iterable (streaming) data set has no sample ids to score"
            )
        if isinstance(data, InfoBatch):
            raise TypeError(
                "InfoBatchTrainer: train_dataset must be the data set itself, got an InfoBatch: the Trainer "
                "makes the run; give its options as infobatch={...}"
            )
        if own is not None:
            if args.label_smoothing_factor:
                raise ValueError(
                    "InfoBatchTrainer: label_smoothing_factor must be 0 beside infobatch_loss, got "
                    f"{args.label_smoothing_factor}: smooth in that function"
                )
            return
        if self.compute_loss_func is not None:
            raise ValueError(
                "InfoBatchTrainer: compute_loss_func must come with infobatch_loss, got it alone: it returns "
                "one loss for a batch; give infobatch_loss, from (outputs, labels) to one for each sample"
            )
        kind = getattr(args, "loss_type", "nll")  # of TRL
        if kind not in ("nll", "chunked_nll"):
            raise ValueError(
                f"InfoBatchTrainer: loss_type must be 'nll', got {kind!r}: give infobatch_loss, from "
                "(outputs, labels) to one for each sample"
            )
        if getattr(getattr(self.model, "config", None), "output_router_logits", False):
            raise ValueError(
                "InfoBatchTrainer: output_router_logits must be False, got True: the balancing loss of "
                "experts belongs to no sample; or add it in infobatch_loss"
            )
        if self._loss_of_model() is None:
            raise ValueError(
                f"InfoBatchTrainer: the loss of {type(self.model).__name__} must be known for each sample, "
                "and it is not: give infobatch_loss, from (outputs, labels) to losses [B]"
            )

    # --- data

    def get_train_dataloader(self) -> Any:
        """The loader of a run: batches of its plan, with ids. It is dealt to the processes by Accelerate."""
        if self.train_dataset is None:
            raise ValueError("Trainer: training requires a train_dataset.")
        args, dataset, collate = self.args, self.train_dataset, self.data_collator
        if _is_of_datasets(dataset):
            dataset = self._remove_unused_columns(dataset, description="Training")
        else:
            collate = self._get_collator_with_removed_columns(collate, description="Training")
        batches = Batches(
            len(dataset), self._train_batch_size, args.dataloader_drop_last, self.accelerator.num_processes
        )
        loader: Any = DataLoader(
            cast("Any", Indexed(dataset)),
            batch_sampler=batches,
            collate_fn=_Collate(collate),
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            multiprocessing_context=getattr(args, "dataloader_multiprocessing_context", None),
            prefetch_factor=args.dataloader_prefetch_factor,
            in_order=getattr(args, "dataloader_in_order", True),
            worker_init_fn=partial(
                seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index
            ),
        )
        self._batches = batches
        batches.loader = self.accelerator.prepare_data_loader(loader)
        return batches.loader

    def set_initial_training_values(self, args: Any, dataloader: Any) -> Any:
        """That of the Trainer, for epochs that leave nothing out. Their number makes the run."""
        values = super().set_initial_training_values(args, dataloader)
        batches, clock = self._batches, self._clock
        if batches is None:
            raise ValueError(
                "InfoBatchTrainer: get_train_dataloader must return what that of InfoBatchTrainer does, got "
                f"another loader by {type(self).__name__}: give collator, workers and batch size as arguments"
            )
        self._compared = False
        options = {**self._infobatch_options, "split": "global"}
        if options.get("seed") is None:
            options["seed"] = args.seed if args.data_seed is None else args.data_seed
        self.infobatch = batches.infobatch = InfoBatch(batches.size, values[0], **options)
        clock.whole, clock.total = values[1], values[-1]
        return values

    # --- epochs

    def _init_training_state(
        self, max_steps: int, num_update_steps_per_epoch: int, num_train_epochs: int, *rest: Any, **named: Any
    ) -> tuple[int, int]:
        """Where training goes on: the Trainer reckons with epochs of one length, and is told."""
        found: tuple[int, int] = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, *rest, **named
        )
        folder = named.get("resume_from_checkpoint", rest[0] if rest else None)
        self._clock.state = self.state
        if folder is None:
            return found
        path = os.path.join(folder, STATE_NAME)
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"InfoBatchTrainer: a checkpoint must have {STATE_NAME}, got none in {folder}: it was saved "
                "without InfoBatch, or with save_only_model=True"
            )
        run, batches = self.infobatch, self._batches
        assert run is not None
        assert batches is not None
        report = run.load(path)
        epoch = int(self.state.epoch)
        if self.state.epoch == epoch:
            return epoch, 0
        if report.epoch != epoch:
            raise ValueError(
                f"InfoBatchTrainer: a checkpoint must be of one step, got the run in epoch {report.epoch} "
                f"and the Trainer at {self.state.epoch}"
            )
        left = batches.rounds(len(run.sampler) - report.position)
        return epoch, batches.rounds() - left

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """One epoch of the Trainer, which is told how long this one is."""
        run, batches, clock = self.infobatch, self._batches, self._clock
        assert run is not None
        assert batches is not None
        epoch = kwargs["epoch"]
        run.set_epoch(epoch)
        resumed = kwargs["resume_from_checkpoint"] is not None and epoch == kwargs["epochs_trained"]
        batches.done = kwargs["steps_trained_in_current_epoch"] if resumed else 0
        micro = self.args.gradient_accumulation_steps
        rounds = batches.rounds()
        clock.state = self.state
        clock.epoch, clock.steps = epoch, max(-(-rounds // micro), 1)
        clock.begin = self.state.global_step - batches.done // micro
        self.state.max_steps = clock.last_step()
        self._show_steps()
        kwargs.update(steps_in_epoch=rounds, num_update_steps_per_epoch=clock.steps)
        super()._run_epoch(*args, **kwargs)

    def _show_steps(self) -> None:
        """Progress bars go to the step with which the run ends."""
        for callback in self.callback_handler.callbacks:
            bar = getattr(callback, "training_bar", None) or getattr(callback, "training_tracker", None)
            if bar is not None and hasattr(bar, "total"):
                bar.total = self.state.max_steps
                if hasattr(bar, "refresh"):
                    bar.refresh()

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        assert self.infobatch is not None
        return super()._finalize_training(trial, self.infobatch.statistics.samples_planned, start_time)

    # --- the loss

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """That of the Trainer; how many samples a step has is noted."""
        found = super().get_batch_samples(*args, **kwargs)
        self._rows_of_step = sum(len(batch[IDS]) for batch in found[0])
        return found

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """That of the Trainer.

        Raises:
            ValueError: a ``compute_loss`` of one's own has not asked for the losses of the samples. No step
                was made.
        """
        self._weighed = False
        loss: Any = None
        why: TypeError | None = None
        try:
            loss = super().training_step(*args, **kwargs)
        except TypeError as error:
            if IDS not in str(error):  # of a model that was given them
                raise
            why = error
        if not self._weighed:
            raise ValueError(
                "InfoBatchTrainer: compute_loss must call that of InfoBatchTrainer, which weighs the "
                f"samples, got one of {type(self).__name__} that computes a loss of its own: give "
                "infobatch_loss, from (outputs, labels) to losses [B], and add what belongs to no sample to "
                "what super().compute_loss returns"
            ) from why
        return loss

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """That of the Trainer, by its own hook for a loss of one's own; evaluation is left as it is."""
        ids = inputs.pop(IDS, None)
        if ids is None:
            return super().compute_loss(model, inputs, *args, **kwargs)
        # What the model would make of the labels, which it does not see.
        make = getattr(self._bare_model(), "prepare_decoder_input_ids_from_labels", None)
        if make is not None and "labels" in inputs and not inputs.keys() & _OF_DECODER:
            inputs["decoder_input_ids"] = make(labels=inputs["labels"])
        if self._infobatch_loss is None and not self._compared:
            self._compare(model, inputs)
            self._compared = True
        of_user = self.compute_loss_func
        self.compute_loss_func = partial(self._weighted_loss, ids, of_user is not None)
        try:
            return super().compute_loss(model, inputs, *args, **kwargs)
        finally:
            self.compute_loss_func = of_user

    def _compare(self, model: Any, inputs: Any) -> None:
        """Once a training, on its first batch: the model's own loss is the mean of those of its samples.
        Costs two forward passes; nothing random is drawn, and nothing is compiled for them.

        Raises:
            ValueError: it is not.
        """
        rest = {name: value for name, value in inputs.items() if name != "labels"}
        model.eval()
        try:
            with torch.no_grad(), torch.compiler.set_stance("force_eager"):
                whole = model(**inputs)
                own = whole.get("loss") if hasattr(whole, "get") else whole[0]
                if own is None or len(rest) == len(inputs):
                    return
                losses, counts = self._losses(model(**rest), inputs["labels"], smoothing=0.0)
        finally:
            model.train()
        items = losses.numel() if counts is None else counts.sum()
        of_model, of_samples = own.mean().item(), (losses.sum() / items).item()
        # Neither holds where one of them is NaN, as without any label.
        if abs(of_model - of_samples) > _SAME * max(abs(of_model), abs(of_samples)):
            raise ValueError(
                f"InfoBatchTrainer: the loss of {type(self._bare_model()).__name__} must be the mean of its "
                f"samples' losses, got {of_model:.6g} of the model and {of_samples:.6g} of the samples of "
                "the first batch: give infobatch_loss, from (outputs, labels) to losses [B]"
            )

    def _weighted_loss(
        self, ids: Any, divides: bool, outputs: Any, labels: Any, num_items_in_batch: Any = None
    ) -> Any:
        """The Trainer's objective, each sample with its weight.

        Args:
            divides: nobody divides by the micro-batches of the step, where there is no number of items.
        """
        run = self.infobatch
        assert run is not None
        self._weighed = True
        if labels is None and self._infobatch_loss is None:
            raise ValueError(
                "InfoBatchTrainer: a batch must have 'labels', got none: give infobatch_loss, from (outputs, "
                "labels) to losses [B]"
            )
        losses, counts = self._losses(outputs, labels, self.args.label_smoothing_factor)
        if losses.dim() == 0 or len(losses) != len(ids):
            got = "one loss" if losses.dim() == 0 else f"{len(losses)} rows"
            raise ValueError(
                f"InfoBatchTrainer: a batch of {len(ids)} samples must have a loss for each, got {got}: a "
                "collator that packs samples into one row (padding_free, packing) hides which they are; pack "
                "the data set before, so that a packed row is a sample"
            )
        if counts is None:
            sums = scores = losses if losses.dim() == 1 else losses.flatten(1).mean(1)
        else:
            sums = losses if losses.dim() == 1 else losses.flatten(1).sum(1)
            scores = sums / counts.clamp(min=1)
        total = run.update(sums, ids, scores=scores.detach(), reduction="sum")
        if num_items_in_batch is None:  # a mean of this micro-batch; the Trainer has the mean of those
            loss = total / (len(ids) if counts is None else counts.sum())
            return loss / self.current_gradient_accumulation_steps if divides else loss
        if counts is None:
            of_all = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            return total / (self._rows_of_step * of_all)
        return total / num_items_in_batch

    def _losses(self, outputs: Any, labels: Any, smoothing: float) -> tuple[Any, Any]:
        """Losses of a batch, [B], and of how many items each is the sum; None: its mean is minimised."""
        if self._infobatch_loss is not None:
            found = self._infobatch_loss(outputs, labels)
            return found if isinstance(found, tuple) else (found, None)
        logits = (outputs["logits"] if isinstance(outputs, dict) else outputs[0]).float()
        labels = labels.to(logits.device)
        config: Any = self.accelerator.unwrap_model(self.model).config
        if self._loss_of_model() is not ForSequenceClassificationLoss:
            if labels.shape != logits.shape[:-1]:
                raise ValueError(
                    f"InfoBatchTrainer: logits must have a place for each label, got logits of "
                    f"{list(logits.shape)} for labels of {list(labels.shape)} (virtual tokens of a prompt?): "
                    "give infobatch_loss, from (outputs, labels) to losses [B]"
                )
            if self._loss_of_model() is ForCausalLMLoss and not config.is_encoder_decoder:
                labels = functional.pad(labels, (0, 1), value=_IGNORED)[..., 1:]
            each = functional.cross_entropy(
                logits.flatten(0, -2),
                labels.flatten(),
                ignore_index=_IGNORED,
                reduction="none",
                label_smoothing=smoothing,
            ).view(labels.shape)
            return each.sum(-1), labels.ne(_IGNORED).sum(-1)
        kind = config.problem_type
        if kind is None:
            whole = not labels.is_floating_point()
            kind = "single_label_classification" if whole else "multi_label_classification"
            kind = "regression" if config.num_labels == 1 else kind
        if kind == "single_label_classification":
            labels = labels.view(-1)
            each = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
            return each, labels.ne(_IGNORED).long()
        if kind == "regression":
            return functional.mse_loss(logits, labels.view(logits.shape).float(), reduction="none"), None
        each = functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
        return each, None

    def _loss_of_model(self) -> Any:
        """The model's loss function, where it is one of those whose samples are known."""
        found = LOSS_MAPPING.get(getattr(self.model, "loss_type", None))
        if found is None and type(self._bare_model()).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
            found = ForCausalLMLoss  # as those do whose name does not say it, GPT2LMHeadModel
        known = (ForCausalLMLoss, ForMaskedLMLoss, ForSequenceClassificationLoss, ForTokenClassification)
        return found if found in known else None

    def _bare_model(self) -> Any:
        """The model, without what DDP, torch.compile and PEFT put around it."""
        model: Any = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    # --- the learning rate, figures, checkpoints

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The Trainer's scheduler, driven by where the run stands. One of your own is left as it is."""
        made = self.lr_scheduler is None
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if made and isinstance(scheduler, LambdaLR):
            self.lr_scheduler = FullRunScheduler(
                scheduler, cast("Any", self._clock), max(num_training_steps, 1)
            )
        return self.lr_scheduler

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """With the figures of the run in the logs of training."""
        if self.infobatch is not None and ("loss" in logs or "train_loss" in logs):
            logs = {**logs, **figures(self.infobatch)}
        super().log(logs, *args, **kwargs)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """With the state of the run, before the Trainer's own state completes the checkpoint."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.infobatch is None:
            return
        state = self.infobatch.state_dict()["infobatch"]  # all processes come here
        if self.args.should_save:
            path = os.path.join(output_dir, STATE_NAME)
            with open(f"{path}.tmp", "wb") as file:
                file.write(bytes(state.numpy()))
            os.replace(f"{path}.tmp", path)


class InfoBatchTrainer(InfoBatchMixin, Trainer):
    """The Trainer of Transformers with InfoBatch; see `InfoBatchMixin`."""


def _is_of_datasets(dataset: Any) -> bool:
    if not is_datasets_available():
        return False
    import datasets

    return isinstance(dataset, datasets.Dataset)


__all__ = ["IDS", "STATE_NAME", "InfoBatchMixin", "InfoBatchTrainer"]

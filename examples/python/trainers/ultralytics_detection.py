"""Ultralytics: a detector whose images are chosen by their own loss. Ultralytics is AGPL: docs/trainers.md.

    Trainer(overrides={"model": "yolov8n.yaml", "data": "my.yaml", "mosaic": 0.0, "close_mosaic": 0}).train()

One learns: a loss of each image from a criterion that has one for a batch; `observe` and `scale_gradient`
weigh gradients by image, so that the loss that is shown and minimised is Ultralytics' own.
"""

from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel

from infobatch import InfoBatch, scale_gradient


class Model(DetectionModel):
    ib: ClassVar[Any] = None  # of the class: checkpoints have the whole model in them

    def loss(self, batch: dict[str, Any], preds: Any = None) -> Any:
        if preds is not None or not self.training:  # validation
            return super().loss(batch, preds)
        preds = self.forward(batch["img"])
        self.criterion = getattr(self, "criterion", None) or self.init_criterion()
        weights = self.ib.observe(self.each(preds, batch), torch.tensor(batch["id"]))
        weighed = {name: scale_gradient(preds[name], weights) for name in ("boxes", "scores")}  # 3
        return self.criterion({**preds, **weighed}, batch)

    @torch.no_grad()
    def each(self, preds: dict[str, Any], batch: dict[str, Any]) -> torch.Tensor:
        """[B] the criterion's loss of each image alone."""
        found = []
        for i in range(len(batch["img"])):
            one = {name: preds[name][i : i + 1] for name in ("boxes", "scores")}
            feats = [layer[i : i + 1] for layer in preds["feats"]]
            labels = {name: batch[name][batch["batch_idx"] == i] for name in ("cls", "bboxes", "batch_idx")}
            labels["batch_idx"] = torch.zeros_like(labels["batch_idx"])
            found.append(self.criterion({**one, "feats": feats}, labels)[0].sum())
        return torch.stack(found)


class Trainer(DetectionTrainer):
    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Model:
        return Model(cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=False)

    def get_dataloader(self, path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        if mode != "train":
            return super().get_dataloader(path, batch_size, rank, mode)
        images = self.build_dataset(path, mode, batch_size)
        for id, label in enumerate(images.labels):
            label["id"] = id
        self.ib = Model.ib = InfoBatch(images, self.epochs, seed=1)  # 1
        saved = self.wdir / "infobatch.safetensors"
        if self.resume:
            self.ib.load(saved)
        self.add_callback("on_model_save", lambda trainer: trainer.ib.save(saved))
        options = {"num_workers": self.args.workers, "collate_fn": images.collate_fn}
        return DataLoader(self.ib, batch_size, sampler=self.ib.sampler, **options)  # 2

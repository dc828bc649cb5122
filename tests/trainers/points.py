"""Data that tests of trainers learn: points around one corner a class."""

import torch
from torch.utils.data import Dataset

SAMPLES, CLASSES, BATCH = 600, 4, 16


class Points(Dataset):
    """Points around one corner a class; items are (point [8], class, id)."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        corners = torch.randn(CLASSES, 8, generator=torch.Generator().manual_seed(1)) * 2
        self.classes = torch.randint(CLASSES, (count,), generator=generator)
        self.points = corners[self.classes] + torch.randn(count, 8, generator=generator)

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        return self.points[index], self.classes[index], index

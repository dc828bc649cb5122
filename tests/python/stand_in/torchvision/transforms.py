"""The transforms of the official CIFAR example, on pictures of [height, width, 3] bytes."""

import torch
from torch.nn import functional

from .datasets import SIDE

SCALE = 32 // SIDE  # of CIFAR's pictures, which sizes and borders are given for


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, picture):
        for transform in self.transforms:
            picture = transform(picture)
        return picture


class RandomHorizontalFlip:
    def __call__(self, picture):
        return picture.flip(1) if torch.rand(()) < 0.5 else picture


class RandomCrop:
    def __init__(self, size, padding, padding_mode):
        self.size, self.border, self.mode = size // SCALE, padding // SCALE, padding_mode

    def __call__(self, picture):
        planes = picture.permute(2, 0, 1).float()
        padded = functional.pad(planes, [self.border] * 4, mode=self.mode).to(torch.uint8)
        top, left = torch.randint(padded.shape[1] - self.size + 1, (2,)).tolist()
        return padded[:, top : top + self.size, left : left + self.size].permute(1, 2, 0)


class ToTensor:
    def __call__(self, picture):
        return picture.permute(2, 0, 1).float() / 255


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))

    def __call__(self, picture):
        return (picture - self.mean) / self.std

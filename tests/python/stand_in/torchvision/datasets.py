"""A CIFAR-100 that is made in memory: 2,000 pictures to train on and 500 to test with, of 8 x 8 pixels.

Each class is a picture of its own. A sample is that picture under noise, some under a little, some under so
much that it is hard to tell; so losses differ, as those of photographs do.
"""

import torch

CLASSES = 100
SIDE = 8


class CIFAR100(torch.utils.data.Dataset):
    def __init__(self, root, train=True, transform=None, download=False):
        classes = torch.rand(CLASSES, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
        draws = torch.Generator().manual_seed(1 if train else 2)
        size = 2000 if train else 500
        self.targets = torch.arange(size).remainder(CLASSES).tolist()
        noise = torch.randn(size, SIDE, SIDE, 3, generator=draws)
        strength = 0.3 * torch.rand(size, 1, 1, 1, generator=draws)
        pictures = classes[torch.tensor(self.targets)] + strength * noise
        self.data = (255 * pictures.clamp(0, 1)).to(torch.uint8)
        self.transform = transform

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        picture = self.data[index]
        return picture if self.transform is None else self.transform(picture), self.targets[index]

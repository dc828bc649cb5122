"""One of two processes that train one run under DDP, each on shards of its own. They have unequal numbers of
batches, which `Join` of torch.distributed allows.

    RANK=0 WORLD_SIZE=2 MASTER_ADDR=... MASTER_PORT=... webdataset_rank.py <shards> <folder of results>
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import torch.distributed as dist
from pictures import EPOCHS, N, Training, read_webdataset
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel

from infobatch import InfoBatch

if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    ib = InfoBatch(N, EPOCHS, seed=1, split="global")
    training = Training(ib)
    training.model = DistributedDataParallel(training.model)
    loader = read_webdataset(ib, Path(sys.argv[1]), num_workers=2, persistent_workers=True)
    plans, came = [], []
    for epoch in range(EPOCHS):
        ib.set_epoch(epoch)
        plans.append(sorted(ib.plan.ids))
        with Join([training.model]):
            came.append(training.epoch(loader))
    ib.set_epoch(EPOCHS)
    found = {
        "scores": ib.scores.tolist(),
        "saved": ib.statistics.saved,
        "model": [parameter.tolist() for parameter in training.model.parameters()],
        "accuracy": training.accuracy(),
        "plans": plans,
        "came": came,
    }
    (Path(sys.argv[2]) / str(rank)).write_bytes(pickle.dumps(found))
    dist.destroy_process_group()

"""Token losses with padding: the score is the mean over the tokens that count.

One learns: losses may be [B, T], and a row's weight broadcasts over its tokens. Where some are padding, a
plain mean would make short sequences look learned: `scores=` gives the score, and the sum over the number
of real tokens is the loss that the criterion itself would return.
"""

import torch
from torch.nn.functional import cross_entropy

from infobatch import InfoBatch

SIZE, TOKENS, WORDS, EPOCHS, PADDING = 512, 16, 20, 6, -100
torch.manual_seed(1)
lengths = torch.randint(1, TOKENS + 1, (SIZE,))
inputs = torch.randint(0, WORDS, (SIZE, TOKENS))
targets = (inputs * 7 + 3) % WORDS  # what the network has to learn
targets[torch.rand(SIZE) < 0.3] = 5  # and some that do not fit
targets = targets.masked_fill(torch.arange(TOKENS) >= lengths[:, None], PADDING)


def train(with_scores: bool) -> InfoBatch:
    torch.manual_seed(2)
    model = torch.nn.Embedding(WORDS, WORDS)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    ib = InfoBatch(SIZE, EPOCHS, seed=1)
    for _ in range(EPOCHS):
        for ids in ib.batch_sampler(64):
            logits = model(inputs[ids]).transpose(1, 2)  # [B, WORDS, T]
            losses = cross_entropy(logits, targets[ids], ignore_index=PADDING, reduction="none")  # [B, T]
            mask = targets[ids] != PADDING
            scores = losses.detach().sum(1) / mask.sum(1)  # [B], mean over what counts
            loss = ib.update(losses, scores=scores if with_scores else None, reduction="sum") / mask.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    ib.set_epoch(EPOCHS)  # the losses of the last epoch enter the scores
    return ib


short, long = lengths <= 4, lengths >= 13
for name, ib in (("mean over all positions", train(False)), ("scores= over real tokens", train(True))):
    a, b = ib.scores[short].mean(), ib.scores[long].mean()
    print(f"{name}: mean score of short sequences {a:.2f}, of long ones {b:.2f}, ratio {a / b:.2f}")

// Token losses with padding: the score is the mean over the tokens that count.
//
// One learns: losses may be [B, T] and the weight broadcasts over the tokens; where some tokens are
// masked, `scores` gives the sample's score, because a plain mean would count the padding.

#include <samplers/infobatch.hpp>

#include <torch/torch.h>

#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
  torch::manual_seed(1);
  constexpr std::int64_t kSize = 6;
  constexpr std::int64_t kTokens = 8;
  // Sequence i has i + 1 tokens, each of loss 1; the padding's losses are 0.
  const torch::Tensor lengths = torch::arange(1, kSize + 1);
  const torch::Tensor mask = (torch::arange(kTokens).unsqueeze(0) < lengths.unsqueeze(1));
  const torch::Tensor token_losses = mask.to(torch::kFloat).requires_grad_();

  const auto scores_after = [&](bool masked) {
    infobatch::InfoBatch ib(kSize, infobatch::Options(/*epochs=*/5).seed(1));
    infobatch::InfoBatchSampler sampler = ib.sampler();
    sampler.reset();
    const auto ids = sampler.next(kSize).value();
    const torch::Tensor rows = torch::tensor(std::vector<std::int64_t>(ids.begin(), ids.end()));
    const torch::Tensor losses = token_losses.index_select(0, rows);
    torch::Tensor scores;
    if (masked) {
      scores = losses.detach().sum(1) / lengths.index_select(0, rows);
    }
    const torch::Tensor loss = ib.update(losses, /*ids=*/{}, scores, infobatch::Reduction::kSum);
    loss.backward();
    ib.set_epoch(1);  // the losses enter the scores
    return torch::from_blob(const_cast<float*>(ib.session()->scores()), {kSize}).clone();
  };

  const torch::Tensor plain = scores_after(false);
  const torch::Tensor masked = scores_after(true);
  std::printf("score of the shortest and the longest sequence\n");
  std::printf("  mean over all positions: %.3f and %.3f\n",
              plain[0].item<float>(),
              plain[kSize - 1].item<float>());
  std::printf("  scores= over real tokens: %.3f and %.3f\n",
              masked[0].item<float>(),
              masked[kSize - 1].item<float>());
  const bool right = torch::allclose(masked, torch::ones({kSize})) &&
                     torch::allclose(plain, lengths.to(torch::kFloat) / kTokens);
  return right && token_losses.grad().defined() ? 0 : 1;
}

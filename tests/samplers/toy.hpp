#pragma once

// A small regression problem for the tests of the libtorch binding: data, model, loops.

#include <samplers/data_loader.hpp>
#include <samplers/infobatch.hpp>

#include <dirent.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#define INFOBATCH_TEST_WITH_TORCH
#include <tests/support/catch2_shim.hpp>

namespace infobatch::testing {

/// A batch that says which samples it is made of.
struct ToyBatch {
  torch::Tensor x;    // [B, 4] float32
  torch::Tensor y;    // [B, 2] float32
  torch::Tensor ids;  // [B] int64
};

/// N samples of a noisy linear map; a pure function of N.
class ToyData : public torch::data::datasets::BatchDataset<ToyData, ToyBatch> {
 public:
  explicit ToyData(std::int64_t size) {
    const auto row = torch::arange(size, torch::kFloat).unsqueeze(1);
    x_ = torch::sin(row * torch::tensor({0.7F, 1.3F, 2.1F, 3.7F}));
    const auto map = torch::tensor({{1.0F, -1.0F}, {0.5F, 2.0F}, {-2.0F, 0.3F}, {0.1F, 1.0F}});
    y_ = x_.mm(map) + torch::sin(row * torch::tensor({5.1F, 9.7F})).pow(5);
  }

  ToyBatch get_batch(c10::ArrayRef<std::size_t> request) override {
    torch::Tensor ids = torch::empty({static_cast<std::int64_t>(request.size())}, torch::kInt64);
    std::int64_t* out = ids.data_ptr<std::int64_t>();
    for (const std::size_t id : request) *out++ = static_cast<std::int64_t>(id);
    return {x_.index_select(0, ids), y_.index_select(0, ids), ids};
  }

  std::optional<std::size_t> size() const override { return x_.size(0); }

 private:
  torch::Tensor x_;
  torch::Tensor y_;
};

/// Losses per sample, [B].
inline torch::Tensor toy_losses(torch::nn::Linear& model, const ToyBatch& batch) {
  return (model->forward(batch.x) - batch.y).square().mean(1);
}

/// A model whose parameters do not depend on any generator.
inline torch::nn::Linear toy_model() {
  torch::nn::Linear model(4, 2);
  const torch::NoGradGuard no_grad;
  model->weight.fill_(0.05);
  model->bias.zero_();
  return model;
}

inline std::vector<std::int64_t> to_vector(const torch::Tensor& ids) {
  const torch::Tensor flat = ids.contiguous();
  const std::int64_t* data = flat.const_data_ptr<std::int64_t>();
  return {data, data + flat.numel()};
}

/// The values of a float32 tensor as integers, to compare to the bit.
inline std::vector<std::uint32_t> bits(const torch::Tensor& tensor) {
  const torch::Tensor flat = tensor.detach().to(torch::kFloat).contiguous();
  std::vector<std::uint32_t> out(static_cast<std::size_t>(flat.numel()));
  if (!out.empty()) std::memcpy(out.data(), flat.const_data_ptr(), out.size() * 4);
  return out;
}

inline std::vector<std::int64_t> plan_ids(const InfoBatch& ib) {
  const auto plan = ib.plan();
  return {plan->ids(), plan->ids() + plan->size()};
}

/// One epoch at given losses: update for batches of `batch` samples in plan order.
inline void run_epoch(InfoBatch& ib, std::int64_t batch = 16) {
  InfoBatchSampler sampler = ib.sampler();
  sampler.reset();
  while (const auto ids = sampler.next(static_cast<std::size_t>(batch))) {
    torch::Tensor losses = torch::empty({static_cast<std::int64_t>(ids->size())});
    for (std::size_t i = 0; i < ids->size(); ++i) {
      losses[static_cast<std::int64_t>(i)] = 0.1F + static_cast<float>((*ids)[i] % 10);
    }
    ib.update(losses);
  }
}

/// An own folder, removed at the end.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "infobatch-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) path_ = name;
    REQUIRE_FALSE(path_.empty());
  }
  /// By POSIX calls: libtorch.so of the wheels exports a std::filesystem::remove_all of its own,
  /// which is found first and calls a null pointer.
  ~Folder() {
    if (DIR* folder = opendir(path_.c_str())) {
      while (const dirent* entry = readdir(folder)) unlink(file(entry->d_name).c_str());
      closedir(folder);
    }
    rmdir(path_.c_str());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace infobatch::testing

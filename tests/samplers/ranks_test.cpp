// Ranks in C++: real processes over a process group, a TCPStore and a FileStore. Every rank
// delivers its share, and all of them have the plans, scores and gradients of one process.

#include <tests/samplers/rank_world.hpp>
#include <tests/samplers/toy.hpp>

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

namespace infobatch::testing {
namespace {

constexpr std::int64_t kSize = 203;
constexpr std::int64_t kEpochs = 6;

/// A figure of sample and epoch alone, exact in float32.
float loss_of(std::int64_t id, std::int64_t epoch) {
  return static_cast<float>((id * 37 + epoch * 11) % 101 + 1) / 64.0F;
}

torch::Tensor losses_of(const std::vector<std::int64_t>& ids, std::int64_t epoch) {
  torch::Tensor losses = torch::empty({static_cast<std::int64_t>(ids.size())});
  for (std::size_t i = 0; i < ids.size(); ++i) {
    losses.data_ptr<float>()[i] = loss_of(ids[i], epoch);
  }
  return losses;
}

Options plain_options() { return Options(kEpochs).seed(3); }

InfoBatch make(const World& world, Options options = plain_options(), std::int64_t size = kSize) {
  return InfoBatch(size, options.ranks(world.exchange()));
}

/// The samples of a batch of the loader; empty at the end.
std::vector<std::int64_t> next(InfoBatchSampler& sampler, std::size_t batch) {
  const auto ids = sampler.next(batch);
  return ids ? std::vector<std::int64_t>(ids->begin(), ids->end()) : std::vector<std::int64_t>();
}

/// The running epoch in order, or as many steps of it. @return the sizes of the batches, " 8 8 3".
std::string train(InfoBatch& ib, std::size_t batch = 8, int steps = 1 << 20) {
  InfoBatchSampler sampler = ib.sampler();
  sampler.reset();
  std::string sizes;
  for (; steps > 0; --steps) {
    const auto ids = next(sampler, batch);
    if (ids.empty()) break;
    ib.update(losses_of(ids, ib.statistics().epoch));
    sizes += ' ' + std::to_string(ids.size());
  }
  return sizes;
}

/// Samples and weights of the share, "17:1.5", "-" where it is padding.
std::string rows_of(const InfoBatch& ib, std::int64_t begin = 0) {
  const auto plan = ib.plan();
  std::ostringstream rows;
  for (std::int64_t row = begin; row < plan->size(); ++row) {
    const float weight = plan->weights()[row];
    if (weight > 0) {
      rows << plan->ids()[row] << ':' << weight << ' ';
    } else {
      rows << "- ";
    }
  }
  return rows.str();
}

std::string scores_of(const InfoBatch& ib) {
  return {reinterpret_cast<const char*>(ib.session()->scores()),
          static_cast<std::size_t>(ib.session()->size()) * sizeof(float)};
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> found;
  for (std::string word; stream >> word;) found.push_back(word);
  return found;
}

/// The rows of all ranks in the order of the plan, without padding.
std::vector<std::string> woven(const std::vector<std::string>& shares) {
  std::vector<std::vector<std::string>> rows;
  for (const std::string& share : shares) rows.push_back(words(share));
  std::vector<std::string> found;
  for (std::size_t j = 0; j < rows[0].size(); ++j) {
    for (const auto& share : rows) {
      REQUIRE(share.size() == rows[0].size());  // as many rows on every rank
      if (share[j] != "-") found.push_back(share[j]);
    }
  }
  return found;
}

/// Parts of a text, one behind the other.
class Parts {
 public:
  Parts& add(const std::string& part) {
    text_ += std::to_string(part.size()) + ' ' + part;
    return *this;
  }
  const std::string& text() const { return text_; }

  static std::vector<std::string> of(const std::string& text) {
    std::vector<std::string> parts;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t blank = text.find(' ', at);
      const std::size_t size = std::stoul(text.substr(at, blank - at));
      parts.push_back(text.substr(blank + 1, size));
      at = blank + 1 + size;
    }
    return parts;
  }

 private:
  std::string text_;
};

std::vector<std::string> part_of_all(const std::vector<std::string>& found, std::size_t part) {
  std::vector<std::string> parts;
  for (const std::string& text : found) parts.push_back(Parts::of(text)[part]);
  return parts;
}

bool all_equal(const std::vector<std::string>& texts) {
  return std::set<std::string>(texts.begin(), texts.end()).size() == 1;
}

enum class Loop { kOrder, kIds, kLoader };

/// The running epoch with the samples named, each batch from its end.
std::string train_by_ids(InfoBatch& ib, std::int64_t epoch) {
  InfoBatchSampler sampler = ib.sampler();
  sampler.reset();
  std::string sizes;
  for (auto ids = next(sampler, 8); !ids.empty(); ids = next(sampler, 8)) {
    sizes += ' ' + std::to_string(ids.size());
    std::reverse(ids.begin(), ids.end());
    ib.update(losses_of(ids, epoch), torch::tensor(ids));
  }
  return sizes;
}

/// A whole run: share, sizes of batches and K of each epoch, then the scores. With a loader, which
/// has workers, epochs follow one another by themselves.
Body whole_run(const Options& options, Loop loop) {
  return [=](const World& world) {
    InfoBatch ib = make(world, options);
    auto loader =
        make_data_loader(ToyData(kSize), ib, torch::data::DataLoaderOptions(8).workers(2));
    Parts parts;
    for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
      if (loop != Loop::kLoader) {
        ib.set_epoch(epoch);
        parts.add(rows_of(ib)).add(loop == Loop::kIds ? train_by_ids(ib, epoch) : train(ib));
      } else {
        std::string share;
        std::string sizes;
        for (const ToyBatch& batch : *loader) {
          if (share.empty()) share = rows_of(ib);
          ib.update(losses_of(to_vector(batch.ids), epoch));
          sizes += ' ' + std::to_string(batch.ids.numel());
        }
        parts.add(share).add(sizes);
      }
      parts.add(std::to_string(ib.statistics().kept));
    }
    ib.set_epoch(kEpochs);
    return parts.add(scores_of(ib)).text();
  };
}

TEST_CASE("ranks: plans, weights and scores are those of one process", "[samplers][ranks]") {
  const Folder folder;
  const auto way = GENERATE(Way::kGroup, Way::kTcp, Way::kFile);
  CAPTURE(name_of(way));
  const auto one =
      Parts::of(run_ranks(1, way, folder.file(""), whole_run(plain_options(), Loop::kOrder))[0]);
  const std::pair<int, Loop> cases[] = {{2, Loop::kOrder}, {3, Loop::kIds}, {4, Loop::kLoader}};
  for (const auto& [size, loop] : cases) {
    CAPTURE(size, static_cast<int>(loop));
    const auto found = run_ranks(size, way, folder.file(""), whole_run(plain_options(), loop));
    for (std::size_t epoch = 0; epoch < kEpochs; ++epoch) {
      CAPTURE(epoch);
      REQUIRE(woven(part_of_all(found, 3 * epoch)) == words(one[3 * epoch]));
      REQUIRE(all_equal(part_of_all(found, 3 * epoch + 1)));  // batches of the same sizes
      REQUIRE(part_of_all(found, 3 * epoch + 2) ==
              std::vector<std::string>(static_cast<std::size_t>(size), one[3 * epoch + 2]));
    }
    for (const std::string& scores : part_of_all(found, 3 * kEpochs)) {
      REQUIRE(scores == one[3 * kEpochs]);
    }
  }
}

TEST_CASE("ranks: trimmed shares and whole batches have no padding", "[samplers][ranks]") {
  const Folder folder;
  const auto trimmed = run_ranks(2,
                                 Way::kTcp,
                                 folder.file(""),
                                 whole_run(plain_options().padding(Padding::kTrim), Loop::kOrder));
  const auto full = woven(part_of_all(trimmed, 0));
  REQUIRE(full.size() == kSize - 1);  // 203 samples on 2 ranks: one is left out
  for (const std::string& share : part_of_all(trimmed, 0)) {
    REQUIRE(words(share).size() == (kSize - 1) / 2);
    REQUIRE(share.find('-') == std::string::npos);
  }
  REQUIRE(all_equal(part_of_all(trimmed, 3 * kEpochs)));

  const Options options = plain_options().keep("exact").whole_batches(8);
  const auto whole = run_ranks(2, Way::kFile, folder.file(""), whole_run(options, Loop::kOrder));
  for (std::size_t epoch = 1; epoch < 5; ++epoch) {
    const auto sizes = part_of_all(whole, 3 * epoch + 1);
    REQUIRE(std::stoi(Parts::of(whole[0])[3 * epoch + 2]) % 16 == 0);
    for (const std::string& size : words(sizes[0] + sizes[1])) REQUIRE(size == "8");
  }
}

// --- gradients

struct Case {
  std::int64_t size;
  Reduction reduction;
  bool by_ids;
  Padding padding;
};

/// The gradients of a run in which all ranks average theirs, as float64; and how many steps had
/// padding.
Body gradients(Case c, std::int64_t global_batch) {
  return [=](const World& world) {
    const auto averages = world.exchange();
    InfoBatch ib = make(world, plain_options().keep("exact").padding(c.padding), c.size);
    torch::nn::Linear model = toy_model();
    ToyData data(c.size);
    torch::optim::SGD optimizer(model->parameters(), 0.05);
    std::ostringstream found;
    found.precision(9);
    int padded = 0;
    for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
      ib.set_epoch(epoch);
      InfoBatchSampler sampler = ib.sampler();
      sampler.reset();
      while (const auto ids = sampler.next(static_cast<std::size_t>(global_batch / world.size))) {
        const ToyBatch batch = data.get_batch(*ids);
        optimizer.zero_grad();
        torch::Tensor losses = toy_losses(model, batch);
        torch::Tensor loss = c.by_ids ? ib.update(losses, batch.ids, {}, c.reduction)
                                      : ib.update(losses, c.reduction);
        loss.backward();
        torch::Tensor all;
        for (const torch::Tensor& parameter : model->parameters()) {
          const torch::Tensor grad = parameter.grad().flatten();
          all = all.defined() ? torch::cat({all, grad}) : grad;
        }
        all = all.contiguous();
        torch::Tensor theirs = torch::empty({world.size, all.numel()});
        averages->meet("average");
        averages->gather(all.data_ptr(), all.numel() * 4, theirs.data_ptr(), "average");
        all = theirs.mean(0);
        std::int64_t at = 0;
        for (torch::Tensor& parameter : model->parameters()) {
          const std::int64_t count = parameter.numel();
          parameter.mutable_grad().copy_(all.narrow(0, at, count).view(parameter.sizes()));
          at += count;
        }
        optimizer.step();
        for (std::int64_t i = 0; i < all.numel(); ++i) found << all[i].item<float>() << ' ';
      }
      padded += rows_of(ib).find('-') != std::string::npos;
    }
    return Parts().add(found.str()).add(std::to_string(padded)).text();
  };
}

TEST_CASE("ranks: averaged gradients are those of one process with the same global batch",
          "[samplers][ranks]") {
  const Folder folder;
  const Case cases[] = {
      {65, Reduction::kMean, false, Padding::kPad},  // the last step has padding alone on rank 1
      {61, Reduction::kMean, false, Padding::kPad},
      {61, Reduction::kWeightedMean, false, Padding::kPad},
      {65, Reduction::kWeightedMean, true, Padding::kPad},
      {65, Reduction::kMean, true, Padding::kPad},
      {64, Reduction::kMean, false, Padding::kTrim},
  };
  for (const Case& c : cases) {
    CAPTURE(c.size, static_cast<int>(c.reduction), c.by_ids, static_cast<int>(c.padding));
    const auto one = run_ranks(1, Way::kTcp, folder.file(""), gradients(c, 16));
    auto expected = words(Parts::of(one[0])[0]);
    const auto found = run_ranks(2, Way::kTcp, folder.file(""), gradients(c, 16));
    REQUIRE(part_of_all(found, 0)[0] == part_of_all(found, 0)[1]);
    REQUIRE(Parts::of(found[0])[1] == "0");  // rank 0 has no padding
    REQUIRE((Parts::of(found[1])[1] != "0") == (c.padding == Padding::kPad));
    auto got = words(Parts::of(found[0])[0]);
    if (c.padding == Padding::kTrim) {  // the first epoch: 64 is a multiple
      got.resize(4 * 10);
      expected.resize(4 * 10);
    }
    REQUIRE(got.size() == expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double wanted = std::stod(expected[i]);
      REQUIRE(std::abs(std::stod(got[i]) - wanted) < 1e-5 * std::max(1.0, std::abs(wanted)));
    }
  }
}

/// What the steps of an epoch write, in batches of 4.
template <typename Step>
std::string each_step(InfoBatch& ib, const Step& step) {
  InfoBatchSampler sampler = ib.sampler();
  sampler.reset();
  std::ostringstream out;
  for (auto ids = next(sampler, 4); !ids.empty(); ids = next(sampler, 4)) step(ids, out);
  return out.str();
}

TEST_CASE("ranks: one with padding alone returns 0 with gradient 0, whatever the loss is",
          "[samplers][ranks]") {
  const Folder folder;
  const auto reduction = GENERATE(Reduction::kMean, Reduction::kWeightedMean, Reduction::kSum);
  const bool by_ids = GENERATE(false, true);
  CAPTURE(static_cast<int>(reduction), by_ids);
  const auto found = run_ranks(2, Way::kTcp, folder.file(""), [=](const World& world) {
    InfoBatch ib = make(world, plain_options(), 9);
    const std::string steps = each_step(ib, [&](const auto& ids, std::ostringstream& out) {
      const bool pads = world.rank == 1 && ids.size() == 1;
      const float value = pads ? std::numeric_limits<float>::quiet_NaN() : 2.0F;
      torch::Tensor losses =
          torch::full({static_cast<std::int64_t>(ids.size())}, value).requires_grad_();
      const torch::Tensor loss = by_ids ? ib.update(losses, torch::tensor(ids), {}, reduction)
                                        : ib.update(losses, reduction);
      loss.backward();
      out << loss.item<float>() << ' ' << losses.grad()[0].item<float>() << ' ';
    });
    ib.set_epoch(1);
    return Parts().add(steps).add(scores_of(ib)).text();
  });
  REQUIRE(found.size() == 2);
  // 9 samples: 4 + 4, then one row on rank 0: of two ranks, so twice its mean.
  const bool sums = reduction == Reduction::kSum;
  REQUIRE(Parts::of(found[0])[0] == (sums ? "8 1 2 1 " : "2 0.25 4 2 "));
  REQUIRE(Parts::of(found[1])[0] == (sums ? "8 1 0 0 " : "2 0.25 0 0 "));
  REQUIRE(all_equal(part_of_all(found, 1)));
}

TEST_CASE("ranks: losses of several dimensions are divided by their elements, too",
          "[samplers][ranks]") {
  const Folder folder;
  const auto reduction = GENERATE(Reduction::kMean, Reduction::kWeightedMean);
  const auto found = run_ranks(2, Way::kTcp, folder.file(""), [=](const World& world) {
    InfoBatch ib = make(world, plain_options(), 9);
    return each_step(ib, [&](const auto& ids, std::ostringstream& out) {
      const auto rows = static_cast<std::int64_t>(ids.size());
      out << ib.update(torch::full({rows, 3}, 2.0, torch::kDouble), reduction).item<double>()
          << ' ';
    });
  });
  REQUIRE(found == std::vector<std::string>{"2 4 ", "2 0 "});
}

// --- state

enum class Saved { kFile, kArchive, kParts };

/// An epoch and three steps of the next one, saved, and what a run that is not stopped has then.
Body stop(Saved saved, bool by_ids) {
  return [=](const World& world) {
    InfoBatch ib = make(world);
    train(ib);
    ib.set_epoch(1);
    InfoBatchSampler sampler = ib.sampler();
    sampler.reset();
    for (int step = 0; step < 3; ++step) {
      const auto ids = next(sampler, 8);
      if (by_ids) {
        ib.update(losses_of(ids, 1), torch::tensor(ids));
      } else {
        ib.update(losses_of(ids, 1));
      }
    }
    std::string part;
    const std::string path = world.folder + "/state";
    if (saved == Saved::kFile) ib.save(path);
    if (saved == Saved::kParts) part = ib.serialize_part();
    if (saved == Saved::kArchive) {
      torch::serialize::OutputArchive archive;
      ib.save(archive);
      archive.save_to(path + std::to_string(world.rank));
    }
    Parts found;
    found.add(part).add(rows_of(ib, 24));
    for (auto ids = next(sampler, 8); !ids.empty(); ids = next(sampler, 8)) {
      if (by_ids) {
        ib.update(losses_of(ids, 1), torch::tensor(ids));
      } else {
        ib.update(losses_of(ids, 1));
      }
    }
    ib.set_epoch(2);
    return found.add(scores_of(ib)).text();
  };
}

Body go_on(Saved saved, bool by_ids, const std::vector<std::string>& parts) {
  return [=](const World& world) {
    InfoBatch ib = make(world);
    const std::string path = world.folder + "/state";
    if (saved == Saved::kFile) ib.load(path);
    if (saved == Saved::kParts) ib.load_parts(parts);
    if (saved == Saved::kArchive) {
      torch::serialize::InputArchive archive;
      archive.load_from(path + '2');  // what every rank has is the whole state
      ib.load(archive);
    }
    InfoBatchSampler sampler = ib.sampler();
    sampler.reset();
    const auto plan = ib.plan();
    std::ostringstream rest;
    for (auto ids = next(sampler, 8); !ids.empty(); ids = next(sampler, 8)) {
      for (const std::int64_t id : ids) {
        const auto* const at = std::find(plan->ids(), plan->ids() + plan->size(), id);
        const float weight = plan->weights()[at - plan->ids()];
        if (weight > 0) {
          rest << id << ':' << weight << ' ';
        } else {
          rest << "- ";
        }
      }
      if (by_ids) {
        ib.update(losses_of(ids, 1), torch::tensor(ids));
      } else {
        ib.update(losses_of(ids, 1));
      }
    }
    ib.set_epoch(2);
    return Parts().add(rest.str()).add(scores_of(ib)).text();
  };
}

TEST_CASE("ranks: a checkpoint of 4 in mid-epoch goes on with 4, 3 and 1", "[samplers][ranks]") {
  const Folder folder;
  const std::tuple<Saved, bool, Way> cases[] = {{Saved::kFile, false, Way::kGroup},
                                                {Saved::kArchive, false, Way::kTcp},
                                                {Saved::kParts, false, Way::kFile},
                                                {Saved::kFile, true, Way::kFile}};
  for (const auto& [saved, by_ids, way] : cases) {
    CAPTURE(static_cast<int>(saved), by_ids, name_of(way));
    const auto stopped = run_ranks(4, way, folder.file(""), stop(saved, by_ids));
    const auto rest = woven(part_of_all(stopped, 1));
    auto parts = part_of_all(stopped, 0);
    std::reverse(parts.begin(), parts.end());
    for (const int size : {4, 3, 1}) {
      CAPTURE(size);
      const auto found = run_ranks(size, way, folder.file(""), go_on(saved, by_ids, parts));
      REQUIRE(woven(part_of_all(found, 0)) == rest);
      for (const std::string& scores : part_of_all(found, 1)) {
        REQUIRE(scores == Parts::of(stopped[0])[2]);
      }
    }
  }
}

// --- ranks that are lost, slow, or elsewhere

/// Counts what travels; and a rank may end where its losses would be sent.
class Watched : public Exchange {
 public:
  Watched(std::shared_ptr<Exchange> inner, bool dies)
      : Exchange(inner->rank(), inner->size()), inner_(std::move(inner)), dies_(dies) {}

  void meet(const std::string& what) override {
    ++meetings;
    inner_->meet(what);
  }
  void fail(const std::string& what, const std::string& why) override { inner_->fail(what, why); }
  void gather(const void* own, std::int64_t bytes, void* all, const std::string& what) override {
    gathered.push_back(bytes);
    if (dies_ && armed && bytes != sizeof(RankReport)) kill(getpid(), SIGKILL);
    inner_->gather(own, bytes, all, what);
  }
  void largest(std::int32_t* values, std::int64_t count, const std::string& what) override {
    gathered.push_back(count * 4);
    inner_->largest(values, count, what);
  }

  std::vector<std::int64_t> gathered;
  int meetings = 0;
  bool armed = false;

 private:
  std::shared_ptr<Exchange> inner_;
  bool dies_;
};

enum class Loss { kEpoch, kExchange, kSlow };

/// Saves, then loses a rank in the midst of an epoch or of the exchange behind it, or waits for it.
Body lose(Loss when, int lost, int milliseconds) {
  return [=](const World& world) {
    const auto exchange = std::make_shared<Watched>(
        world.exchange(std::chrono::milliseconds(milliseconds)), world.rank == lost);
    InfoBatch ib(kSize, plain_options().ranks(exchange));
    train(ib);
    ib.set_epoch(1);
    train(ib, 8, 3);
    ib.save(world.folder + "/last");
    ib.set_epoch(2);
    if (when == Loss::kEpoch) {
      train(ib, 8, 2);
      if (world.rank == lost) kill(getpid(), SIGKILL);
    }
    exchange->armed = when == Loss::kExchange;
    train(ib);
    if (when == Loss::kSlow && world.rank == lost) {
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds + 500));
    }
    ib.set_epoch(3);
    return std::string("no refusal");
  };
}

TEST_CASE("ranks: the others name a lost one, and the last checkpoint goes on",
          "[samplers][ranks]") {
  const Folder folder;
  const auto way = GENERATE(Way::kGroup, Way::kTcp, Way::kFile);
  const auto when = GENERATE(Loss::kEpoch, Loss::kExchange, Loss::kSlow);
  CAPTURE(name_of(way), static_cast<int>(when));
  const int lost = when == Loss::kEpoch ? 2 : 1;
  // A group knows at once that a connection is gone, whatever the timeout is.
  const bool at_once = way == Way::kGroup && when == Loss::kExchange;
  const auto found = launch(3, way, folder.file(""), lose(when, lost, at_once ? 20000 : 1500));
  for (int rank = 0; rank < 3; ++rank) {
    CAPTURE(rank);
    const Outcome& outcome = found[static_cast<std::size_t>(rank)];
    INFO(outcome.text);
    if (rank == lost && when != Loss::kSlow) {
      REQUIRE(static_cast<int>(outcome.what) == static_cast<int>(Outcome::kKilled));
      continue;
    }
    REQUIRE(outcome.is_rank_error);
    REQUIRE(outcome.ranks == std::vector<int>{lost});
    REQUIRE(outcome.text.find("rank " + std::to_string(lost)) != std::string::npos);
    if (!at_once && rank != lost) {
      REQUIRE(outcome.text.find("timeout of 1.5 seconds") != std::string::npos);
    }
    if (rank == lost) REQUIRE(outcome.text.find("had given up waiting") != std::string::npos);
    REQUIRE(outcome.seconds < 12.0);
  }
  const Body resume = [](const World& world) {
    InfoBatch ib = make(world);
    const LoadReport report = ib.load(world.folder + "/last");
    train(ib);
    ib.set_epoch(2);
    return Parts().add(std::to_string(report.position)).add(scores_of(ib)).text();
  };
  const auto one = run_ranks(1, way, folder.file(""), resume);
  REQUIRE(Parts::of(one[0])[0] == "72");  // 3 steps of 8 on 3 ranks
  for (const std::string& scores : part_of_all(run_ranks(2, way, folder.file(""), resume), 1)) {
    REQUIRE(scores == Parts::of(one[0])[1]);
  }
}

TEST_CASE("ranks: one that is slow within the timeout is waited for", "[samplers][ranks]") {
  const Folder folder;
  const auto found = run_ranks(2, Way::kTcp, folder.file(""), [](const World& world) {
    InfoBatch ib = make(world);
    train(ib);
    if (world.rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(400));
    ib.set_epoch(1);
    return scores_of(ib);
  });
  REQUIRE(all_equal(found));
}

TEST_CASE("ranks: a store whose process is gone is told so", "[samplers][ranks]") {
  const Folder folder;
  const auto found = launch(2, Way::kTcp, folder.file(""), [](const World& world) {
    c10d::TCPStoreOptions options;
    options.port = 0;
    options.isServer = world.rank == 0;
    options.waitWorkers = false;
    const auto ports = world.store();  // where rank 0 says which one it got
    if (!options.isServer) {
      options.port = static_cast<std::uint16_t>(std::stoi(ports->get_to_str("port")));
    }
    const auto store = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
    if (options.isServer) ports->set("port", std::to_string(store->getPort()));
    const auto exchange = make_exchange(store, world.rank, world.size);
    InfoBatch ib(kSize, plain_options().ranks(exchange));
    train(ib);
    if (options.isServer) kill(getpid(), SIGKILL);
    ib.set_epoch(1);
    return std::string("no refusal");
  });
  INFO(found[1].text);
  REQUIRE(found[1].is_rank_error);
  // In set_epoch; where rank 0 is quick, it is gone while this one still makes the run.
  REQUIRE(found[1].text.find("the store in which the ranks meet cannot be reached") !=
          std::string::npos);
  REQUIRE(found[1].seconds < 30.0);
}

TEST_CASE("ranks: what differs is named, with the rank", "[samplers][ranks]") {
  struct Difference {
    const char* what;
    const char* text;
  };
  const Folder folder;
  const Difference differences[] = {
      {"size", "rank 1: samples 204, rank 0: 203"},
      {"epochs", "rank 1: epochs 7, rank 0: 6"},
      {"quantiles", "rank 1: quantiles [0.3,0.85], rank 0: [0.2,0.85]"},
      {"seed", "rank 1: seed 6, rank 0: 3"},
      {"no seed", "rank 1: seed none, rank 0: 3"},
      {"padding", "rank 1: padding trim, rank 0: pad"},
      {"split", "rank 1: split global, rank 0: sharded"},
      {"set_epoch",
       "set_epoch: all ranks must be at the same place of the same run, got rank 1: "
       "epoch to begin"},
      {"call", "all ranks must come to it"},
      {"step", "all ranks must be at the same step"},
      {"fails", "rank 1 failed before the exchange"},
  };
  for (const Difference& difference : differences) {
    const std::string what = difference.what;
    CAPTURE(what);
    const auto found = launch(2, Way::kTcp, folder.file(""), [=](const World& world) {
      const bool odd = world.rank == 1;
      Options options = plain_options();
      if (odd && what == "epochs") options.epochs(7);
      if (odd && what == "quantiles") options.quantiles({0.3, 0.85});
      if (odd && what == "seed") options.seed(6);
      if (odd && what == "no seed") options.seed(std::nullopt);
      if (odd && what == "padding") options.padding(Padding::kTrim);
      if (odd && what == "split") options.split(Split::kGlobal);
      InfoBatch ib = make(world, options, kSize + (odd && what == "size" ? 1 : 0));
      if (what == "set_epoch") ib.set_epoch(odd ? 2 : 1);
      if (what == "call") odd ? ib.save(world.folder + "/x") : ib.set_epoch(1);
      if (what == "step") {
        train(ib, 8, odd ? 3 : 2);
        ib.save(world.folder + "/x");
      }
      if (what == "fails") {
        train(ib);
        InfoBatchSampler sampler = ib.sampler();
        if (odd) sampler.reset(kSize + 1);
        sampler.reset();
      }
      return std::string("no refusal");
    });
    INFO(found[0].text << "\n" << found[1].text);
    const std::string texts[] = {found[0].text, found[1].text};
    for (const Outcome& outcome : found) {
      REQUIRE(static_cast<int>(outcome.what) == static_cast<int>(Outcome::kRaised));
    }
    if (what == "call") {
      REQUIRE((texts[0].find(difference.text) != std::string::npos ||
               texts[1].find(difference.text) != std::string::npos));
      REQUIRE((found[0].is_rank_error && found[1].is_rank_error));
    } else if (what == "fails") {
      REQUIRE(texts[0].find(difference.text) != std::string::npos);
      REQUIRE(texts[1].find("the data set must keep its 203 samples") != std::string::npos);
    } else if (what == "step") {
      for (const std::string& text : texts) {
        REQUIRE(text.find(difference.text) != std::string::npos);
      }
      REQUIRE(found[1].ranks == std::vector<int>{0});  // which writes the file
    } else {
      for (const Outcome& outcome : found) {
        REQUIRE(outcome.text.find(difference.text) != std::string::npos);
        REQUIRE(outcome.ranks == std::vector<int>{1});
      }
    }
  }
}

TEST_CASE("ranks: losses of an unsound rank enter nowhere, and the run goes on",
          "[samplers][ranks]") {
  const Folder folder;
  const auto found = run_ranks(3, Way::kTcp, folder.file(""), [](const World& world) {
    InfoBatch ib = make(world);
    InfoBatchSampler sampler = ib.sampler();
    sampler.reset();
    std::vector<std::int64_t> held = next(sampler, 8);  // a loader that runs one batch ahead
    for (int step = 0; !held.empty(); ++step) {
      const auto ids = next(sampler, 8);
      if (world.rank == 1 && step == 3) break;
      ib.update(losses_of(held, 0));
      held = ids;
    }
    ib.set_epoch(1);
    return Parts().add(scores_of(ib)).add(std::to_string(train(ib).size())).text();
  });
  REQUIRE(all_equal(part_of_all(found, 0)));
  REQUIRE(all_equal(part_of_all(found, 1)));
  std::int64_t observed = 0;
  const std::string scores = Parts::of(found[0])[0];
  for (std::size_t i = 0; i < kSize; ++i) {
    float score = 0.0F;
    std::memcpy(&score, scores.data() + 4 * i, 4);
    observed += !std::isnan(score);
  }
  REQUIRE(observed == kSize - 68);  // rank 1 has 68 of the 203
}

TEST_CASE("ranks: nothing travels in a step, and 4 bytes a row in an epoch", "[samplers][ranks]") {
  const Folder folder;
  const bool is_global = GENERATE(false, true);
  const auto found = run_ranks(2, Way::kFile, folder.file(""), [=](const World& world) {
    const auto watched = std::make_shared<Watched>(world.exchange(), false);
    Options options = plain_options().ranks(watched);
    InfoBatch ib(kSize, options.split(is_global ? Split::kGlobal : Split::kSharded));
    ib.set_epoch(0);
    watched->gathered.clear();
    watched->meetings = 0;
    InfoBatchSampler sampler = ib.sampler();
    sampler.reset();  // the ranks have met in set_epoch
    for (std::size_t step = 0;; ++step) {
      const auto ids = next(sampler, 8);
      if (ids.empty()) break;
      if (is_global && step % 2 != static_cast<std::size_t>(world.rank)) continue;
      ib.update(losses_of(ids, 0), torch::tensor(ids));
    }
    ib.size();
    ib.plan();
    ib.statistics();
    ib.progress();
    if (watched->meetings != 0) throw std::runtime_error("something travelled in a step");
    const std::int64_t length = ib.size();
    sampler.reset();
    std::ostringstream out;
    out << watched->meetings << ' ' << length;
    for (const std::int64_t bytes : watched->gathered) out << ' ' << bytes;
    return Parts().add(out.str()).add(scores_of(ib)).text();
  });
  REQUIRE(sizeof(RankReport) == 152);
  // Until the exchange the length is that of the epoch that has ended.
  const std::string expected = is_global ? "1 203 152 812" : "1 102 152 408";
  REQUIRE(part_of_all(found, 0) == std::vector<std::string>(2, expected));
  REQUIRE(all_equal(part_of_all(found, 1)));
  for (std::size_t i = 0; i < kSize; ++i) {
    float score = 0.0F;
    std::memcpy(&score, Parts::of(found[0])[1].data() + 4 * i, 4);
    REQUIRE(score == loss_of(static_cast<std::int64_t>(i), 0));
  }
}

TEST_CASE("ranks: where the program splits, updates without ids are refused", "[samplers][ranks]") {
  const Folder folder;
  const auto found = launch(2, Way::kGroup, folder.file(""), [](const World& world) {
    InfoBatch ib = make(world, plain_options().split(Split::kGlobal));
    train(ib, 8, 1);
    return std::string("no refusal");
  });
  for (const Outcome& outcome : found) {
    INFO(outcome.text);
    REQUIRE(outcome.text.find("ids") != std::string::npos);
    REQUIRE(static_cast<int>(outcome.what) == static_cast<int>(Outcome::kRaised));
  }
}

TEST_CASE("rule 12: the default seed on ranks is that of rank 0", "[samplers][ranks]") {
  const Folder folder;
  const auto found = run_ranks(2, Way::kTcp, folder.file(""), [](const World& world) {
    torch::manual_seed(100 + static_cast<std::uint64_t>(world.rank));
    const InfoBatch ib = make(world, Options(4));
    return std::to_string(ib.config().seed);
  });
  REQUIRE(found == std::vector<std::string>{"100", "100"});
}

TEST_CASE("ranks: more bytes than a store takes at once get through", "[samplers][ranks]") {
  const Folder folder;
  const auto way = GENERATE(Way::kGroup, Way::kTcp, Way::kFile);
  CAPTURE(name_of(way));
  constexpr std::int64_t kCount = (9 << 20) / 4 + 3;
  const auto found = run_ranks(2, way, folder.file(""), [](const World& world) {
    const auto exchange = world.exchange();
    std::vector<std::int32_t> own(kCount);
    std::vector<std::int32_t> all(2 * kCount);
    for (std::int64_t i = 0; i < kCount; ++i) {
      own[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(i * (world.rank == 0 ? -7 : 5));
    }
    exchange->meet("first");
    exchange->gather(own.data(), kCount * 4, all.data(), "first");
    exchange->gather(own.data(), 0, all.data(), "first");  // nothing is no reason to wait
    exchange->meet("second");
    exchange->largest(own.data(), kCount, "second");
    bool right = true;
    for (std::int64_t i = 0; i < kCount; ++i) {
      const auto at = static_cast<std::size_t>(i);
      right = right && all[at] == -7 * i && all[at + kCount] == 5 * i && own[at] == 5 * i;
    }
    return std::string(right ? "right" : "wrong");
  });
  REQUIRE(found == std::vector<std::string>{"right", "right"});
}

TEST_CASE("ranks: runs that follow one another on one store do not meet", "[samplers][ranks]") {
  const Folder folder;
  const auto way = GENERATE(Way::kTcp, Way::kFile);
  const auto found = run_ranks(2, way, folder.file(""), [](const World& world) {
    const auto store = world.store();
    std::string scores;
    for (int run = 0; run < 2; ++run) {
      const auto exchange = make_exchange(store, world.rank, world.size);
      InfoBatch ib(kSize, Options(4).seed(static_cast<std::uint64_t>(run)).ranks(exchange));
      train(ib);
      train(ib);
      ib.set_epoch(2);
      scores += scores_of(ib);
    }
    return scores;
  });
  REQUIRE(all_equal(found));
}

TEST_CASE("rule 13: ranks that cannot be are refused", "[samplers][ranks]") {
  const Folder folder;
  const auto found = run_ranks(1, Way::kFile, folder.file(""), [](const World& world) {
    std::string texts;
    const auto refused = [&](const auto& call) {
      try {
        call();
        texts += "accepted\n";
      } catch (const c10::ValueError& error) {
        texts += error.what_without_backtrace() + std::string("\n");
      }
    };
    const auto store = world.store();
    refused([&] { make_exchange(store, 2, 2); });
    refused([&] { make_exchange(store, 0, 0); });
    refused([&] { make_exchange(c10::intrusive_ptr<c10d::Store>(), 0, 1); });
    refused([&] { make_exchange(c10::intrusive_ptr<c10d::ProcessGroup>()); });
    refused([&] {
      make_exchange(store, 0, 1, ExchangeOptions().timeout(std::chrono::milliseconds(0)));
    });
    refused([&] { make_exchange(c10::make_intrusive<c10d::ProcessGroup>(0, 1)); });
    return texts;
  });
  REQUIRE(found[0].find("accepted") == std::string::npos);
  for (const char* text : {"Exchange: rank must be in [0, size), got rank 2 of 2",
                           "got rank 0 of 0",
                           "store must be a c10d::Store",
                           "group must be a process group",
                           "timeout must be above 0 milliseconds, got 0",
                           "ExchangeOptions().store(store)"}) {
    CAPTURE(text);
    REQUIRE(found[0].find(text) != std::string::npos);
  }
}

}  // namespace
}  // namespace infobatch::testing

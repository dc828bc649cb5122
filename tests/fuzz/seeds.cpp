#include <infobatch/session.hpp>
#include <tests/fuzz/calls.hpp>
#include <tests/fuzz/oracles.hpp>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

// Writes what the fuzzing programs begin with: infobatch_fuzz_seeds <state folder> <config folder>
// <calls folder>. The folders are there.

using namespace infobatch;
using fuzz::Call;

namespace {

void write(const std::string& folder, const std::string& name, const std::string& bytes) {
  const std::string path = folder + "/" + name;
  std::FILE* file = std::fopen(path.c_str(), "wb");
  const bool whole =
      file != nullptr && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (file == nullptr || std::fclose(file) != 0 || !whole) {
    std::fprintf(stderr, "infobatch_fuzz_seeds: cannot write %s\n", path.c_str());
    std::exit(1);
  }
}

/// States at the places where they differ in kind.
void write_states(const std::string& folder) {
  for (unsigned v = 0; v < fuzz::n_variants(); ++v) {
    const auto put = [&](const char* name, Session& session) {
      write(folder, std::to_string(v) + name, static_cast<char>(v) + session.serialize());
    };
    const fuzz::Variant variant = fuzz::variant_of(v);
    const auto session = fuzz::make_session(variant);
    const std::int64_t batch = variant.config.whole_batches > 0 ? 4 : 6;
    const std::vector<float> losses(8, 0.3f);
    std::vector<float> weights(8);
    put("-new", *session);
    fuzz::run_epochs(*session, 3);
    put("-whole", *session);
    session->begin();
    session->next(batch);
    Slice slice = session->next(batch);
    session->observe(losses.data(), session->pending());
    put("-cursor", *session);
    session->set_epoch(5);
    put("-pinned", *session);
    session->begin();
    slice = session->next(batch);
    session->observe_ids(losses.data(), slice.ids(), slice.count, weights.data());
    put("-ids", *session);
    session->discard_epoch();
    session->begin();
    session->next(batch);
    if (session->pending() > 0) session->advance(session->pending());
    put("-lent", *session);
  }
}

void write_configs(const std::string& folder) {
  write(folder, "empty", "{}");
  for (unsigned v = 0; v < fuzz::n_variants(); ++v) {
    write(folder, std::to_string(v), fuzz::variant_of(v).config.to_json());
  }
}

/// Loops as they are, for every run: ahead by two batches, by rows, by ids, broken off, loaded.
void write_calls(const std::string& folder) {
  const std::vector<std::vector<Call>> loops = {{Call::kBegin,
                                                 Call::kNext,
                                                 Call::kNext,
                                                 Call::kObserve,
                                                 Call::kNext,
                                                 Call::kObserve,
                                                 Call::kNext,
                                                 Call::kUpdate,
                                                 Call::kNext,
                                                 Call::kObserve,
                                                 Call::kNext,
                                                 Call::kObserve},
                                                {Call::kBegin,
                                                 Call::kNext,
                                                 Call::kObserveIds,
                                                 Call::kNext,
                                                 Call::kObserveIds,
                                                 Call::kReload,
                                                 Call::kBegin,
                                                 Call::kNext,
                                                 Call::kObserveIds,
                                                 Call::kLength,
                                                 Call::kPlan,
                                                 Call::kBegin},
                                                {Call::kEpoch,
                                                 Call::kBegin,
                                                 Call::kNext,
                                                 Call::kAdvanceAndWrite,
                                                 Call::kNext,
                                                 Call::kAdvance,
                                                 Call::kReload,
                                                 Call::kBegin,
                                                 Call::kNext,
                                                 Call::kObserve,
                                                 Call::kEpoch,
                                                 Call::kDiscard},
                                                {Call::kSetEpoch,
                                                 Call::kBegin,
                                                 Call::kNext,
                                                 Call::kStageWholeEpoch,
                                                 Call::kLength,
                                                 Call::kStage,
                                                 Call::kSetEpoch,
                                                 Call::kBegin,
                                                 Call::kNextRows,
                                                 Call::kObserveSome}};
  for (unsigned v = 0; v < fuzz::n_variants(); ++v) {
    for (std::size_t i = 0; i < loops.size(); ++i) {
      for (unsigned warnings = 0; warnings < 3; ++warnings) {
        std::string bytes = {static_cast<char>(v), 20, 4, static_cast<char>(warnings), 0};
        for (const Call call : loops[i]) {
          bytes += static_cast<char>(call);
          bytes += static_cast<char>(call);  // an argument, or the same again
        }
        write(folder,
              std::to_string(v) + "-" + std::to_string(i) + "-" + std::to_string(warnings),
              bytes);
      }
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    std::fprintf(stderr, "usage: infobatch_fuzz_seeds <states> <configs> <calls>\n");
    return 2;
  }
  write_states(arguments[1]);
  write_configs(arguments[2]);
  write_calls(arguments[3]);
  return 0;
}

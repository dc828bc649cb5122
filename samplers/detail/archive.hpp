#pragma once

#include <infobatch/session.hpp>
#include <samplers/detail/translate.hpp>

#include <torch/serialize/archive.h>
#include <torch/types.h>

#include <cstring>
#include <string>

namespace infobatch::detail {

constexpr const char* kArchiveKey = "infobatch_state";

/// A state as one uint8 tensor of the archive.
inline void write_state(const std::string& bytes, torch::serialize::OutputArchive& archive) {
  torch::Tensor state = torch::empty({static_cast<std::int64_t>(bytes.size())}, torch::kUInt8);
  std::memcpy(state.data_ptr(), bytes.data(), bytes.size());
  archive.write(kArchiveKey, state, /*is_buffer=*/true);
}

/// What differs from the saved options, and may, is a warning: an archive returns nothing.
inline void read_state(Session& session, torch::serialize::InputArchive& archive) {
  torch::Tensor state;
  TORCH_CHECK_VALUE(archive.try_read(kArchiveKey, state, /*is_buffer=*/true),
                    "load: the archive must hold ",
                    kArchiveKey,
                    ", got none");
  TORCH_CHECK_VALUE(state.scalar_type() == torch::kUInt8 && state.dim() == 1,
                    "load: ",
                    kArchiveKey,
                    " must be uint8 [n], got ",
                    state.scalar_type(),
                    " ",
                    state.sizes());
  state = state.cpu().contiguous();
  const std::string bytes(static_cast<const char*>(state.data_ptr()),
                          static_cast<std::size_t>(state.numel()));
  const LoadReport report = translated([&] { return session.deserialize(bytes); });
  if (report.changes.empty()) return;
  TORCH_WARN("infobatch: load: options that differ, saved -> own: ", join(report.changes, ", "));
}

}  // namespace infobatch::detail

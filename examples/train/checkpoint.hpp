#pragma once

#include <examples/train/options.hpp>

#include <torch/serialize/archive.h>

#include <nlohmann/json.hpp>

#include <string>

namespace infobatch::train {

/// What a checkpoint file holds: JSON, and tensors in a torch archive.
///
/// The file: the eight bytes "ibtrain1", the length of the JSON and of the archive, a checksum over
/// both (64-bit little-endian each), the JSON, the archive.
struct Checkpoint {
  nlohmann::json state;
  std::string archive;
};

/// Writes the file atomically: whoever is killed while it is written leaves the one before.
/// @throws std::runtime_error  it cannot be written.
void write_checkpoint(const std::string& path, const Checkpoint& checkpoint);

/// @throws UsageError  it cannot be read, or is none, truncated or damaged.
Checkpoint read_checkpoint(const std::string& path);

/// The bytes of a torch archive and back, to a device.
std::string archive_bytes(torch::serialize::OutputArchive& archive);
void open_archive(const std::string& bytes,
                  torch::serialize::InputArchive& archive,
                  torch::Device device = torch::kCPU);

/// The options that figures depend on, by their names on the command line; `data_digest` stands for
/// the data wherever it lies.
nlohmann::json checkpoint_config(const TrainOptions& options, std::uint64_t data_digest);

/// @throws UsageError  naming the first option that differs, with both values.
void require_same_config(const std::string& path,
                         const nlohmann::json& saved,
                         const nlohmann::json& current);

}  // namespace infobatch::train

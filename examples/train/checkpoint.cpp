#include <examples/train/checkpoint.hpp>
#include <examples/train/file.hpp>

#include <cstring>
#include <sstream>

namespace infobatch::train {
namespace {

constexpr char kMagic[] = "ibtrain1";
constexpr char kContents[] = "data (contents)";
constexpr std::size_t kMagicBytes = 8;
constexpr std::size_t kHeaderBytes = kMagicBytes + 3 * 8;

std::uint64_t checksum(const char* data, std::size_t size) {
  std::uint64_t sum = 0xcbf29ce484222325u;
  for (std::size_t i = 0; i < size; ++i) {
    sum = (sum ^ static_cast<std::uint8_t>(data[i])) * 0x100000001b3u;  // FNV-1a
  }
  return sum;
}

void put(std::string& bytes, std::uint64_t value) {
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(value >> shift & 0xFF);
}

std::uint64_t get(const std::string& bytes, std::size_t offset) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    value |= std::uint64_t{static_cast<std::uint8_t>(bytes[offset + i])} << 8 * i;
  }
  return value;
}

}  // namespace

void write_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  const std::string json = checkpoint.state.dump();
  const std::string body = json + checkpoint.archive;
  std::string bytes(kMagic, kMagicBytes);
  bytes.reserve(kHeaderBytes + body.size());
  put(bytes, json.size());
  put(bytes, checkpoint.archive.size());
  put(bytes, checksum(body.data(), body.size()));
  bytes += body;
  write_file_atomically(path, bytes);
}

Checkpoint read_checkpoint(const std::string& path) {
  std::string bytes;
  try {
    bytes = read_file(path);
  } catch (const std::exception& error) {
    throw UsageError(std::string("--checkpoint: ") + error.what());
  }
  const auto refuse = [&path](const char* what) {
    throw UsageError("--checkpoint: " + path + " " + what + "; delete it to begin anew");
  };
  if (bytes.size() < kMagicBytes || bytes.compare(0, kMagicBytes, kMagic) != 0) {
    refuse("is no checkpoint of infobatch-train");
  }
  if (bytes.size() < kHeaderBytes) refuse("is truncated");
  const std::uint64_t json_size = get(bytes, kMagicBytes);
  const std::uint64_t archive_size = get(bytes, kMagicBytes + 8);
  const std::size_t body = bytes.size() - kHeaderBytes;
  if (json_size > body || archive_size != body - json_size) {
    refuse("is truncated or has bytes too many");
  }
  if (checksum(bytes.data() + kHeaderBytes, body) != get(bytes, kMagicBytes + 16)) {
    refuse("is damaged (checksum)");
  }
  Checkpoint checkpoint;
  const std::size_t json_end = kHeaderBytes + static_cast<std::size_t>(json_size);
  const auto begin = bytes.begin();
  checkpoint.state = nlohmann::json::parse(begin + static_cast<std::ptrdiff_t>(kHeaderBytes),
                                           begin + static_cast<std::ptrdiff_t>(json_end),
                                           nullptr,
                                           /*allow_exceptions=*/false);
  if (!checkpoint.state.is_object()) refuse("is damaged (JSON)");
  checkpoint.archive = bytes.substr(json_end);
  return checkpoint;
}

std::string archive_bytes(torch::serialize::OutputArchive& archive) {
  std::ostringstream stream;
  archive.save_to(stream);
  return stream.str();
}

void open_archive(const std::string& bytes,
                  torch::serialize::InputArchive& archive,
                  torch::Device device) {
  archive.load_from(bytes.data(), bytes.size(), device);
}

nlohmann::json checkpoint_config(const TrainOptions& options, std::uint64_t data_digest) {
  return {{"arms", options.arms},
          {"data", options.data_name()},
          {"data-seed", options.data_seed},
          {"samples", options.samples},
          {"model", options.model},
          {"dtype", options.dtype},
          {"device", options.device},
          {"epochs", options.epochs},
          {"batch-size", options.batch_size},
          {"lr", options.lr},
          {"weight-decay", options.weight_decay},
          {"label-smoothing", options.label_smoothing},
          {"prune-ratio", options.prune_ratio},
          {"delta", options.delta},
          {"share", options.share ? nlohmann::json(*options.share) : nlohmann::json()},
          {"seeds", options.seeds},
          {"threads", options.threads},
          {"interleave", options.interleave},
          {kContents, data_digest}};
}

void require_same_config(const std::string& path,
                         const nlohmann::json& saved,
                         const nlohmann::json& current) {
  const auto value = [](const nlohmann::json& config, const std::string& key) {
    return config.is_object() && config.contains(key) ? config.at(key) : nlohmann::json();
  };
  const auto shown = [](const nlohmann::json& json) {
    return json.is_null() ? "(not given)"
                          : json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  // The model before the learning rate, whose default it decides; the images last, because other
  // options decide what they are.
  std::vector<std::string> keys = {"model"};
  for (const auto& item : current.items()) {
    if (item.key() != "model" && item.key() != kContents) keys.push_back(item.key());
  }
  for (const std::string& key : keys) {
    const nlohmann::json before = value(saved, key);
    if (before != current.at(key)) {
      throw UsageError("--checkpoint: " + path + " was made with --" + key + " " + shown(before) +
                       ", this run has " + shown(current.at(key)));
    }
  }
  if (value(saved, kContents) != current.at(kContents)) {
    throw UsageError("--checkpoint: " + path + " was made with other images under --data");
  }
}

}  // namespace infobatch::train

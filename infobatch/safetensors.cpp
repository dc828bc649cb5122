#include <infobatch/error.hpp>
#include <infobatch/safetensors.hpp>

#include <nlohmann/json.hpp>

#include <cstring>

namespace infobatch::detail {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kLengthBytes = 8;
constexpr std::uint64_t kLargest = std::uint64_t{1} << 48;  // of an extent, an offset, a tensor

[[noreturn]] void refuse(const std::string& what) {
  throw FileError("load: the file must be a whole safetensors file, got " + what);
}

std::uint64_t read_length(std::string_view bytes) {
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) {
    length = length << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return length;
}

std::size_t element_size(const std::string& dtype) {
  static const std::map<std::string, std::size_t> sizes = {{"U8", 1},
                                                           {"I8", 1},
                                                           {"F16", 2},
                                                           {"BF16", 2},
                                                           {"I32", 4},
                                                           {"F32", 4},
                                                           {"I64", 8},
                                                           {"F64", 8}};
  const auto it = sizes.find(dtype);
  if (it == sizes.end()) refuse("a tensor of type " + dtype);
  return it->second;
}

bool is_list_of_sizes(const Json& json) {
  if (!json.is_array()) return false;
  for (const Json& item : json) {
    if (!item.is_number_unsigned() || item.get<std::uint64_t>() > kLargest) {
      return false;
    }
  }
  return true;
}

TensorView read_tensor(const std::string& name, const Json& entry, std::string_view data) {
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() ||
      !entry.contains("shape") || !is_list_of_sizes(entry["shape"]) ||
      !entry.contains("data_offsets") || !is_list_of_sizes(entry["data_offsets"]) ||
      entry["data_offsets"].size() != 2) {
    refuse("a damaged entry for tensor " + name);
  }
  TensorView tensor;
  tensor.name = name;
  tensor.dtype = entry["dtype"].get<std::string>();
  tensor.shape = entry["shape"].get<std::vector<std::int64_t>>();
  const auto begin = entry["data_offsets"][0].get<std::uint64_t>();
  const auto end = entry["data_offsets"][1].get<std::uint64_t>();
  if (begin > end || end > data.size()) refuse("tensor " + name + " beyond the end of the file");
  std::uint64_t bytes = element_size(tensor.dtype);
  for (const std::int64_t extent : tensor.shape) {
    const auto count = static_cast<std::uint64_t>(extent);
    if (count > 0 && bytes > kLargest / count) refuse("tensor " + name + " of an absurd shape");
    bytes *= count;
  }
  if (end - begin != bytes) refuse("tensor " + name + " of a size unlike its shape");
  tensor.data = data.substr(begin, end - begin);
  return tensor;
}

}  // namespace

const TensorView& SafeTensors::vector(const std::string& name, const std::string& dtype) const {
  for (const TensorView& tensor : tensors) {
    if (tensor.name == name && tensor.dtype == dtype && tensor.shape.size() == 1) return tensor;
  }
  refuse("none with a vector " + name + " of type " + dtype);
}

std::string write_safetensors(const SafeTensors& content) {
  Json header = Json::object();
  header["__metadata__"] = content.metadata;
  std::uint64_t offset = 0;
  for (const TensorView& tensor : content.tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.data.size()}}};
    offset += tensor.data.size();
  }
  std::string text = header.dump();
  while ((kLengthBytes + text.size()) % 8 != 0) text += ' ';
  std::string bytes;
  bytes.reserve(kLengthBytes + text.size() + offset);
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    bytes += static_cast<char>(static_cast<std::uint64_t>(text.size()) >> (8 * i) & 0xff);
  }
  bytes += text;
  for (const TensorView& tensor : content.tensors) bytes += tensor.data;
  return bytes;
}

std::uint64_t fingerprint_of(std::string_view bytes, std::uint64_t seed) {
  constexpr std::uint64_t kMultiplier = 0x9e3779b97f4a7c15u;
  std::uint64_t hash = seed ^ bytes.size();
  const auto take = [&](const char* from, std::size_t count) {
    std::uint64_t word = 0;
    std::memcpy(&word, from, count);
    hash = (hash ^ word ^ (hash >> 29)) * kMultiplier + 1;
  };
  for (; bytes.size() >= sizeof hash; bytes.remove_prefix(sizeof hash)) take(bytes.data(), 8);
  if (!bytes.empty()) take(bytes.data(), bytes.size());
  return hash ^ (hash >> 32);
}

SafeTensors read_safetensors(std::string_view bytes) {
  if (bytes.size() < kLengthBytes) refuse(message(bytes.size(), " bytes"));
  const std::uint64_t length = read_length(bytes);
  if (length > bytes.size() - kLengthBytes) refuse("a header cut short or no header");
  const std::string_view text = bytes.substr(kLengthBytes, length);
  const std::string_view data = bytes.substr(kLengthBytes + length);
  // The parser takes it for the end of the text, and what follows would go unread.
  if (text.find('\0') != std::string_view::npos) refuse("a header with a zero byte in it");
  const Json header = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) refuse("a header that is no JSON object");
  SafeTensors content;
  std::uint64_t used = 0;
  for (const auto& item : header.items()) {
    if (item.key() == "__metadata__") {
      for (const auto& entry : item.value().items()) {
        if (!entry.value().is_string()) refuse("metadata that is no text");
        content.metadata[entry.key()] = entry.value().get<std::string>();
      }
    } else {
      content.tensors.push_back(read_tensor(item.key(), item.value(), data));
      used += content.tensors.back().data.size();
    }
  }
  if (used != data.size())
    refuse(message(data.size(), " bytes of data where the header has ", used));
  return content;
}

}  // namespace infobatch::detail

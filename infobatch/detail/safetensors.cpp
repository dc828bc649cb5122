#include <infobatch/detail/json.hpp>
#include <infobatch/detail/safetensors.hpp>
#include <infobatch/error.hpp>

#include <cstring>
#include <optional>
#include <utility>

namespace infobatch::detail {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr std::int64_t kLargest = std::int64_t{1} << 48;  // of an extent, an offset, a tensor
constexpr int kDeepest = 3;                               // the header, a tensor's entry, its shape

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
                                                           {"I16", 2},
                                                           {"U16", 2},
                                                           {"U32", 4},
                                                           {"U64", 8},
                                                           {"I32", 4},
                                                           {"F32", 4},
                                                           {"I64", 8},
                                                           {"F64", 8}};
  const auto it = sizes.find(dtype);
  if (it == sizes.end()) refuse("a tensor of type " + dtype);
  return it->second;
}

/// The value as a list of extents or offsets, empty where it is none.
std::optional<std::vector<std::int64_t>> list_of_sizes(const JsonValue* json) {
  if (json == nullptr || !json->is_array()) return std::nullopt;
  std::vector<std::int64_t> sizes;
  for (const JsonValue& item : json->items) {
    const auto size = item.as<std::int64_t>();
    if (!size || *size < 0 || *size > kLargest) return std::nullopt;
    sizes.push_back(*size);
  }
  return sizes;
}

TensorView read_tensor(const std::string& name, const JsonValue& entry, std::string_view data) {
  const JsonValue* dtype = entry.find("dtype");
  auto shape = list_of_sizes(entry.find("shape"));
  const auto offsets = list_of_sizes(entry.find("data_offsets"));
  if (dtype == nullptr || dtype->kind != JsonValue::Kind::kString || !shape || !offsets ||
      offsets->size() != 2) {
    refuse("a damaged entry for tensor " + name);
  }
  TensorView tensor;
  tensor.name = name;
  tensor.dtype = dtype->text;
  tensor.shape = *std::move(shape);
  const auto begin = static_cast<std::uint64_t>(offsets->at(0));
  const auto end = static_cast<std::uint64_t>(offsets->at(1));
  if (begin > end || end > data.size()) refuse("tensor " + name + " beyond the end of the file");
  std::uint64_t bytes = element_size(tensor.dtype);
  for (const std::int64_t extent : tensor.shape) {
    const auto count = static_cast<std::uint64_t>(extent);
    if (count > 0 && bytes > std::uint64_t{kLargest} / count)
      refuse("tensor " + name + " of an absurd shape");
    bytes *= count;
  }
  if (end - begin != bytes) refuse("tensor " + name + " of a size unlike its shape");
  tensor.data = data.substr(begin, end - begin);
  return tensor;
}

JsonValue read_header(std::string_view text) {
  try {
    JsonValue header = parse_json(text, kDeepest);
    if (header.is_object()) return header;
  } catch (const JsonError& error) {
    refuse(message("a damaged header: ", error.what()));
  }
  refuse("a header that is no JSON object");
}

void read_metadata(const JsonValue& json, std::map<std::string, std::string>& metadata) {
  if (!json.is_object()) refuse("metadata that is no JSON object");
  for (const JsonMember& member : json.members) {
    if (member.value.kind != JsonValue::Kind::kString) refuse("metadata that is no text");
    metadata[member.key] = member.value.text;
  }
}

}  // namespace

const TensorView& SafeTensors::vector(const std::string& name, const std::string& dtype) const {
  for (const TensorView& tensor : tensors) {
    if (tensor.name == name && tensor.dtype == dtype && tensor.shape.size() == 1) return tensor;
  }
  refuse("none with a vector " + name + " of type " + dtype);
}

std::string write_safetensors(const SafeTensors& content) {
  JsonWriter header;
  header.begin_object().key("__metadata__").begin_object();
  for (const auto& [key, value] : content.metadata) header.member(key, value);
  header.end_object();
  std::uint64_t offset = 0;
  for (const TensorView& tensor : content.tensors) {
    header.key(tensor.name).begin_object();
    header.member("dtype", tensor.dtype).member("shape", tensor.shape);
    const std::vector<std::uint64_t> offsets = {offset, offset + tensor.data.size()};
    header.member("data_offsets", offsets).end_object();
    offset += tensor.data.size();
  }
  std::string text = header.end_object().take();
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
  const JsonValue header = read_header(text);
  SafeTensors content;
  std::uint64_t used = 0;
  for (const JsonMember& member : header.members) {
    if (member.key == "__metadata__") {
      read_metadata(member.value, content.metadata);
    } else {
      content.tensors.push_back(read_tensor(member.key, member.value, data));
      used += content.tensors.back().data.size();
    }
  }
  if (used != data.size())
    refuse(message(data.size(), " bytes of data where the header has ", used));
  return content;
}

}  // namespace infobatch::detail

#pragma once

// States that were changed and carry a checksum that fits, so that tests reach the checks behind
// it.

#include <infobatch/detail/safetensors.hpp>
#include <infobatch/error.hpp>

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace infobatch::testing {

/// The checksum that a state with this content has to carry.
inline std::string state_checksum(const detail::SafeTensors& content) {
  const auto state = content.metadata.find("state");
  std::uint64_t sum =
      detail::fingerprint_of(state == content.metadata.end() ? std::string() : state->second);
  for (const detail::TensorView& tensor : content.tensors) {
    sum = detail::fingerprint_of(tensor.data, sum);
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(sum));
  return text;
}

/// The same bytes, but for the checksum, which fits them. Bytes that are no safetensors file, or
/// have no checksum of 16 digits, come back as they are.
inline std::string reseal(std::string bytes) {
  std::string sum;
  std::string old;
  try {
    const detail::SafeTensors content = detail::read_safetensors(bytes);
    const auto it = content.metadata.find("checksum");
    if (it == content.metadata.end()) return bytes;
    old = it->second;
    sum = state_checksum(content);
  } catch (const FileError&) {
    return bytes;
  }
  const std::string key = "\"checksum\":\"";
  const std::size_t place = bytes.find(key + old + '"');
  if (old.size() == sum.size() && place != std::string::npos) {
    bytes.replace(place + key.size(), sum.size(), sum);
  }
  return bytes;
}

/// The file anew behind `edit(SafeTensors&)`, which may change whatever it likes: metadata, names,
/// types, shapes, data (which it has to keep alive). The checksum fits.
template <typename Edit>
std::string resealed(const std::string& bytes, const Edit& edit) {
  detail::SafeTensors content = detail::read_safetensors(bytes);
  edit(content);
  content.metadata["checksum"] = state_checksum(content);
  return detail::write_safetensors(content);
}

/// The file with a part of its state text replaced, by text of any length; the checksum fits. Empty
/// where the text has no such part.
inline std::string resealed_with(const std::string& bytes,
                                 const std::string& from,
                                 const std::string& to) {
  bool found = false;
  const std::string edited = resealed(bytes, [&](detail::SafeTensors& content) {
    std::string& text = content.metadata["state"];
    const std::size_t place = text.find(from);
    found = place != std::string::npos;
    if (found) text.replace(place, from.size(), to);
  });
  return found ? edited : std::string();
}

}  // namespace infobatch::testing

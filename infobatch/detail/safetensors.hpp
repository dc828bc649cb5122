#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace infobatch::detail {

/// One tensor of a safetensors file, its data borrowed.
struct TensorView {
  std::string name;
  std::string dtype;  ///< "F32", "I64", ...
  std::vector<std::int64_t> shape;
  std::string_view data;  ///< the elements, little-endian, row-major
};

/// The content of a safetensors file.
struct SafeTensors {
  std::map<std::string, std::string> metadata;
  std::vector<TensorView> tensors;

  /// @throws FileError  there is no tensor of that name, dtype and number of dimensions (1).
  const TensorView& vector(const std::string& name, const std::string& dtype) const;
};

/// The bytes of a safetensors file: 8 bytes header length, JSON header, data; 8-byte aligned.
/// @source https://github.com/huggingface/safetensors (format description)
std::string write_safetensors(const SafeTensors& content);

/// A 64-bit fingerprint of bytes, to recognise damage; continues from `seed`. About 1 ns for 8
/// bytes. No protection against forgery.
std::uint64_t fingerprint_of(std::string_view bytes, std::uint64_t seed = 0);

/// Reads what `write_safetensors` wrote; the result borrows `bytes`.
/// @throws FileError  the bytes are not a whole, well-formed file.
SafeTensors read_safetensors(std::string_view bytes);

}  // namespace infobatch::detail

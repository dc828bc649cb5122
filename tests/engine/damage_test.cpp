#include <infobatch/error.hpp>
#include <infobatch/safetensors.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

// Damaged states are refused in words, and leave the session as it was.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string state_of(bool by_ids) {
  Session session(20, config_of(10), 1);
  session.set_warning_handler([](const std::string&) {});
  run_epoch(session, 8);
  session.begin();
  const Slice s = session.next(8);
  const std::vector<float> losses(8, 0.3f);
  std::vector<float> weights(8);
  if (by_ids) {
    session.observe_ids(losses.data(), s.ids(), 6, weights.data());
  } else {
    session.observe(losses.data(), 6);
  }
  return session.serialize();
}

/// Whether the session refuses the bytes as an error of the file or of the run.
bool refuses(Session& session, const std::string& bytes) {
  try {
    session.deserialize(bytes);
  } catch (const FileError&) {
    return true;
  } catch (const InvalidArgument&) {
    return true;
  }
  return false;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  REQUIRE(from.size() == to.size());
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("a state cut short anywhere is refused", "[engine][damage]") {
  const std::string whole = state_of(GENERATE(false, true));
  Session session(20, config_of(10), 1);
  const std::string before = session.serialize();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    REQUIRE(refuses(session, whole.substr(0, size)));
  }
  REQUIRE(refuses(session, whole + '\0'));
  REQUIRE(session.serialize() == before);
  REQUIRE_FALSE(refuses(session, whole));
}

TEST_CASE("a header that ends before its length is refused", "[engine][damage]") {
  const std::string bytes = state_of(false);
  const std::size_t last = bytes.find("}", bytes.find("\"staged\"")) + 1;
  REQUIRE(bytes[last] == '}');
  Session session(20, config_of(10), 1);
  const auto padded_by = [&](char fill) {
    std::string padded = bytes;
    padded.insert(last + 1, 8, fill);
    const unsigned low = static_cast<unsigned char>(bytes[0]);
    const unsigned length = low + 256u * static_cast<unsigned char>(bytes[1]) + 8u;
    padded[0] = static_cast<char>(length & 255u);
    padded[1] = static_cast<char>(length >> 8);
    return padded;
  };
  REQUIRE(refuses(session, padded_by('\0')));  // a parser may take it for the end of the text
  REQUIRE_FALSE(refuses(session, padded_by(' ')));
}

TEST_CASE("a state with any byte changed is refused, or is the same state", "[engine][damage]") {
  const std::string whole = state_of(GENERATE(false, true));
  Session session(20, config_of(10), 1);
  const std::string before = session.serialize();
  std::mt19937 random(5);
  std::int64_t harmless = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int trial = 0; trial < 10; ++trial) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(trial < 8 ? bytes[at] ^ (1 << trial) : int(random()));
      if (bytes == whole) continue;
      CAPTURE(at, int(bytes[at]));
      if (refuses(session, bytes)) continue;
      // White space of another kind in the header's padding: the content is untouched.
      REQUIRE(session.serialize() == whole);
      session.deserialize(before);
      ++harmless;
    }
  }
  REQUIRE(harmless < 20);
  REQUIRE(session.serialize() == before);
}

TEST_CASE("a state with many random bytes changed never crashes the reader", "[engine][damage]") {
  const std::string whole = state_of(false);
  Session session(20, config_of(10), 1);
  std::mt19937 random(6);
  for (int trial = 0; trial < 3000; ++trial) {
    std::string bytes = whole;
    for (unsigned flips = 1 + random() % 12; flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    if (bytes != whole && !refuses(session, bytes)) REQUIRE(session.serialize() == whole);
  }
}

TEST_CASE("what is wrong with a state is said", "[engine][damage]") {
  const std::string whole = state_of(false);
  Session session(20, config_of(10), 1);
  const auto complaint = [&](const std::string& bytes) {
    return message_of<FileError>([&] { session.deserialize(bytes); });
  };
  REQUIRE_THAT(complaint(""),
               ContainsSubstring("load: the file must be a whole safetensors file, "
                                 "got 0 bytes"));
  REQUIRE_THAT(complaint(std::string(400, '{')), ContainsSubstring("no header"));
  REQUIRE_THAT(complaint(whole.substr(0, whole.size() - 4)), ContainsSubstring("beyond the end"));
  REQUIRE_THAT(complaint(whole + "abcd"), ContainsSubstring("bytes of data where the header has"));
  REQUIRE_THAT(complaint(replaced(whole, "infobatch-state", "something-else!")),
               ContainsSubstring("of another program"));
  REQUIRE_THAT(complaint(replaced(whole, "\\\"epoch\\\":1", "\\\"epoch\\\":2")),
               ContainsSubstring("another checksum"));
  std::string score = whole;
  score[score.size() - 50] ^= 1;
  REQUIRE_THAT(complaint(score), ContainsSubstring("another checksum"));
  REQUIRE_THAT(message_of<InvalidArgument>([&] {
                 session.deserialize(replaced(whole, "\"schema\":\"2\"", "\"schema\":\"1\""));
               }),
               ContainsSubstring("load: schema must be 2, that of this version; older and "
                                 "newer states are not read; got \"1\""));
}

TEST_CASE("a tensor whose data is smaller than its shape is refused", "[engine][safetensors]") {
  const auto file = [](const std::string& header, const std::string& data) {
    std::string bytes(8, '\0');
    bytes[0] = static_cast<char>(header.size());
    return bytes + header + data;
  };
  const auto tensor = [](const std::string& dtype, const std::string& shape, int end) {
    return "{\"x\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[0," +
           std::to_string(end) + "]}}";
  };
  REQUIRE(detail::read_safetensors(file(tensor("F32", "[2]", 8), "12345678")).tensors.size() == 1);
  REQUIRE(detail::read_safetensors(file(tensor("F32", "[0]", 0), "")).tensors.size() == 1);
  REQUIRE(detail::read_safetensors(file(tensor("I64", "[]", 8), "12345678")).tensors.size() == 1);
  for (const std::string& header : {tensor("F32", "[2]", 0),
                                    tensor("F32", "[]", 0),
                                    tensor("F32", "[3]", 8),
                                    tensor("F32", "[0]", 8),
                                    tensor("F32", "[1]", 8),
                                    tensor("F32", "[-2]", 8),
                                    tensor("F32", "[281474976710656,281474976710656]", 8),
                                    tensor("X99", "[8]", 8),
                                    tensor("F32", "2", 8),
                                    tensor("F64", "[2]", 8)}) {
    CAPTURE(header);
    REQUIRE_THROWS_AS(detail::read_safetensors(file(header, "12345678")), FileError);
    REQUIRE_THROWS_AS(detail::read_safetensors(file(header, "")), FileError);
  }
}

TEST_CASE("safetensors written are read back, aligned to 8 bytes", "[engine][safetensors]") {
  const std::string data = "0123456789abcdef";
  detail::SafeTensors content;
  content.metadata = {{"text", "with \"quotes\" and \n newlines"}};
  content.tensors = {{"a", "F32", {2, 1}, std::string_view(data).substr(0, 8)},
                     {"b", "U8", {8}, std::string_view(data).substr(8)},
                     {"c", "F64", {0}, std::string_view()}};
  const std::string bytes = detail::write_safetensors(content);
  REQUIRE((bytes.size() - data.size()) % 8 == 0);
  const detail::SafeTensors read = detail::read_safetensors(bytes);
  REQUIRE(read.metadata == content.metadata);
  REQUIRE(read.tensors.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    REQUIRE(read.tensors[i].name == content.tensors[i].name);
    REQUIRE(read.tensors[i].dtype == content.tensors[i].dtype);
    REQUIRE(read.tensors[i].shape == content.tensors[i].shape);
    REQUIRE(read.tensors[i].data == content.tensors[i].data);
  }
  REQUIRE(read.vector("b", "U8").data == "89abcdef");
  REQUIRE_THROWS_AS(read.vector("b", "F32"), FileError);
  REQUIRE_THROWS_AS(read.vector("a", "F32"), FileError);  // two dimensions
}

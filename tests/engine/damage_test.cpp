#include <infobatch/detail/safetensors.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/reseal.hpp>
#include <tests/support/run.hpp>

#include <algorithm>
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

void check_plan(const Plan& plan) {
  REQUIRE(plan.size() <= plan.data_size());
  std::vector<bool> met(static_cast<std::size_t>(plan.data_size()));
  for (std::int64_t p = 0; p < plan.size(); ++p) {
    const auto id = static_cast<std::size_t>(plan.ids()[p]);
    REQUIRE(id < met.size());
    REQUIRE_FALSE(met[id]);
    met[id] = true;
    REQUIRE(is_finite(plan.weights()[p]));
    REQUIRE(plan.weights()[p] >= 1.0f);
  }
}

/// The state that the session took over reads back equal, and the run goes on with it to its end,
/// for three epochs at most.
void require_sound(Session& session) {
  const std::string saved = session.serialize();
  Session other(session.size(), session.config(), 1);
  other.set_warning_handler([](const std::string&) {});
  other.deserialize(saved);
  REQUIRE(other.serialize() == saved);
  const bool by_ids = saved.find("observed_by\\\":\\\"ids") != std::string::npos;
  for (int i = 0; i < 3 && other.epoch() < 12; ++i) {
    const std::int64_t epoch = other.epoch();
    other.begin();
    for (Slice s = other.next(8); s.count > 0; s = other.next(8)) {
      check_plan(*s.plan);
      const std::vector<float> losses(static_cast<std::size_t>(s.count), 0.3f);
      std::vector<float> weights(losses.size());
      if (by_ids && i == 0) {
        other.observe_ids(losses.data(), s.ids(), s.count, weights.data());
      } else {
        other.observe(losses.data(), s.count);
      }
    }
    REQUIRE(other.epoch() == std::max(epoch, other.statistics().epoch) + 1);
    const Statistics figures = other.statistics();
    REQUIRE(figures.samples_planned >= 0);
    REQUIRE(figures.samples_planned <= figures.samples_full);
    REQUIRE(figures.dropped_total >= 0);
    REQUIRE(figures.non_finite_total >= 0);
  }
  const std::string end = other.serialize();
  other.deserialize(end);
  REQUIRE(other.serialize() == end);
}

/// The state with another value of a figure, resealed. Figures are found by what stands before
/// them.
std::string forged(const std::string& whole, const std::string& key, const std::string& value) {
  detail::SafeTensors file = detail::read_safetensors(whole);
  std::string& state = file.metadata["state"];
  std::size_t at = state.find(key);
  REQUIRE(at != std::string::npos);
  at += key.size();
  const std::size_t end = state.find_first_of(",}", at);
  state.replace(at, end - at, value);
  return reseal(detail::write_safetensors(file));
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

TEST_CASE("a state with any byte changed is refused, or is the same state",
          "[engine][damage][slow]") {
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

TEST_CASE("a resealed state with any byte changed is refused, or is a state that runs on",
          "[engine][damage][slow]") {
  const std::string whole = state_of(GENERATE(false, true));
  REQUIRE(reseal(whole) == whole);
  Session session(20, config_of(10), 1);
  const std::string before = session.serialize();
  std::mt19937 random(7);
  std::int64_t refused = 0;
  std::int64_t taken = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int trial = 0; trial < 10; ++trial) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(trial < 8 ? bytes[at] ^ (1 << trial) : int(random()));
      bytes = reseal(std::move(bytes));
      if (bytes == whole) continue;
      CAPTURE(at, int(whole[at]), int(bytes[at]));
      if (refuses(session, bytes)) {
        ++refused;
        continue;
      }
      ++taken;
      require_sound(session);
      session.deserialize(before);
    }
  }
  REQUIRE(session.serialize() == before);
  REQUIRE(refused > 5000);
  REQUIRE(taken > 100);  // losses, figures of another run that is as good
}

TEST_CASE("figures that are forged are refused, or make a state that runs on",
          "[engine][damage][slow]") {
  const std::string whole = state_of(GENERATE(false, true));
  Session session(20, config_of(10), 1);
  const std::string before = session.serialize();
  const std::vector<std::string> values = {"-1",
                                           "0",
                                           "1",
                                           "19",
                                           "21",
                                           "4294967295",
                                           "4294967296",
                                           "1099511627776",
                                           "115292150460684697",  // 2^61 / 20
                                           "115292150460684698",
                                           "2305843009213693951",
                                           "2305843009213693952",
                                           "4611686018427387904",
                                           "9223372036854775807",
                                           "9223372036854775808",
                                           "-9223372036854775808",
                                           "18446744073709551616",
                                           "1.5",
                                           "1e308",
                                           "true",
                                           "null",
                                           "{}"};
  for (const char* key : {"\"rule_version\":", "\"size\":",          "\"config\":{\"epochs\":",
                          "\"warmup\":",       "\"whole_batches\":", "\"epoch\":",
                          "\"pinned\":",       "\"delivered\":",     "\"kept\":",
                          "\"prunes\":",       "\"scale\":",         "\"observed\":",
                          "\"split\":",        "\"proven\":",        "\"lag_batches\":",
                          "\"non_finite\":",   "\"lent\":",          "\"totals\":{\"epochs\":",
                          "\"pruned\":",       "\"dropped\":",       "\"known_lag\":",
                          "\"known_batch\":",  "\"sure\":",          "\"doubt_end\":"}) {
    for (const std::string& value : values) {
      CAPTURE(key, value);
      if (refuses(session, forged(whole, key, value))) {
        REQUIRE(session.serialize() == before);
        continue;
      }
      require_sound(session);
      session.deserialize(before);
    }
  }
}

TEST_CASE("totals that a run cannot reach are refused", "[engine][damage]") {
  const std::string whole = state_of(false);
  Session session(20, config_of(10), 1);
  const auto refused = [&](const char* key, const char* value) {
    return refuses(session, forged(whole, key, value));
  };
  for (const char* value :
       {"-1", "4611686018427387904", "9223372036854775807", "115292150460684698"}) {
    CAPTURE(value);
    REQUIRE(refused("\"totals\":{\"epochs\":", value));  // times 20 samples: beyond 2^61
    REQUIRE(refused("\"pruned\":", value));              // more than there were
  }
  REQUIRE(refused("\"pruned\":", "21"));  // of one epoch of 20 samples
  REQUIRE(refused("\"known_lag\":", "21"));
  REQUIRE(refused("\"known_lag\":", "-2"));
  REQUIRE(refused("\"dropped\":", "9223372036854775807"));
  REQUIRE(refused("\"totals\":{\"epochs\":1,\"pruned\":0,\"non_finite\":", "9223372036854775807"));
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
                 session.deserialize(replaced(whole, "\"schema\":\"4\"", "\"schema\":\"1\""));
               }),
               ContainsSubstring("load: schema must be 4, that of this version; older and "
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

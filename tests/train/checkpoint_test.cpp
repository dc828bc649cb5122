#include <examples/train/checkpoint.hpp>
#include <examples/train/file.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/train/fixture.hpp>

using namespace infobatch::train;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

Checkpoint example() {
  Checkpoint checkpoint;
  checkpoint.state = {{"config", {{"epochs", 3}}}, {"value", 0.1}};
  checkpoint.archive = std::string("bytes\0and more", 14);
  return checkpoint;
}

}  // namespace

TEST_CASE("checkpoint: reads back what was written", "[train][checkpoint]") {
  const TemporaryFolder folder;
  write_checkpoint(folder.file("state"), example());
  const Checkpoint read = read_checkpoint(folder.file("state"));
  REQUIRE(read.state == example().state);
  REQUIRE(read.archive == example().archive);
  REQUIRE(folder.names() == std::vector<std::string>{"state"});
}

TEST_CASE("checkpoint: every truncation and every flipped byte is refused", "[train][checkpoint]") {
  const TemporaryFolder folder;
  const std::string path = folder.file("state");
  write_checkpoint(path, example());
  const std::string good = read_text(path);
  for (std::size_t size = 0; size < good.size(); ++size) {
    write_text(path, good.substr(0, size));
    CAPTURE(size);
    REQUIRE_THROWS_AS(read_checkpoint(path), UsageError);
  }
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x20);
    write_text(path, bad);
    CAPTURE(i);
    REQUIRE_THROWS_AS(read_checkpoint(path), UsageError);
  }
  write_text(path, good + "x");
  REQUIRE_THROWS_WITH(read_checkpoint(path), ContainsSubstring("bytes too many"));
}

TEST_CASE("checkpoint: the option that differs is named", "[train][checkpoint]") {
  TrainOptions options = parse_options({"--epochs", "3", "--threads", "2"});
  const auto saved = checkpoint_config(options, 5);
  REQUIRE_NOTHROW(require_same_config("F", saved, checkpoint_config(options, 5)));
  options.json = "elsewhere.json";
  options.checkpoint_every = 7;
  REQUIRE_NOTHROW(require_same_config("F", saved, checkpoint_config(options, 5)));
  REQUIRE_THROWS_WITH(require_same_config("F", saved, checkpoint_config(options, 6)),
                      ContainsSubstring("other images under --data"));
  options.epochs = 4;
  REQUIRE_THROWS_WITH(require_same_config("F", saved, checkpoint_config(options, 5)),
                      ContainsSubstring("F was made with --epochs 3, this run has 4"));
  REQUIRE_THROWS_AS(require_same_config("F", nlohmann::json(), saved), UsageError);
}

TEST_CASE("files: writing replaces the whole file or leaves the old one", "[train][checkpoint]") {
  const TemporaryFolder folder;
  write_file_atomically(folder.file("a"), "old and long");
  write_file_atomically(folder.file("a"), "new");
  REQUIRE(read_file(folder.file("a")) == "new");
  REQUIRE_THROWS_WITH(write_file_atomically(folder.file("none/a"), "x"),
                      ContainsSubstring("cannot write"));
  REQUIRE_THROWS_WITH(check_writable(folder.file("none/a")), ContainsSubstring("cannot write"));
  REQUIRE_NOTHROW(check_writable(folder.file("c")));
  REQUIRE(folder.names() == std::vector<std::string>{"a"});
  REQUIRE_THROWS_WITH(read_file(folder.file("b")), ContainsSubstring("cannot read"));
}

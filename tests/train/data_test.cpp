#include <examples/train/augment.hpp>
#include <examples/train/dataset.hpp>
#include <examples/train/dataset_builtin.hpp>
#include <examples/train/dataset_cifar.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/train/fixture.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <set>

using namespace infobatch::train;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("builtin data: a pure function of the seed, fewer samples are a prefix",
          "[train][data]") {
  const Dataset first = make_builtin(1, 60, 20);
  const Dataset again = make_builtin(1, 100, 20);
  const Dataset other = make_builtin(2, 60, 20);
  REQUIRE(first.train.size() == 60);
  REQUIRE(first.test.size() == 20);
  REQUIRE(
      std::equal(first.train.pixels.begin(), first.train.pixels.end(), again.train.pixels.begin()));
  REQUIRE(
      std::equal(first.train.labels.begin(), first.train.labels.end(), again.train.labels.begin()));
  REQUIRE(first.test.pixels == again.test.pixels);
  REQUIRE(first.train.pixels != other.train.pixels);
  REQUIRE_FALSE(
      std::equal(first.test.pixels.begin(), first.test.pixels.end(), first.train.pixels.begin()));
}

TEST_CASE("builtin data: ten classes, all of them there, none rare", "[train][data]") {
  const Dataset data = make_builtin(1, 2000, 1);
  std::array<int, 10> counts{};
  for (const std::uint8_t label : data.train.labels) {
    REQUIRE(label < 10);
    ++counts[label];
  }
  for (const int count : counts) REQUIRE(count > 130);
}

TEST_CASE("CIFAR-10: bytes arrive where the layout says", "[train][data]") {
  const TemporaryFolder folder;
  write_cifar10(folder.path(), 12);
  const Dataset data = read_cifar10(folder.path());
  REQUIRE(data.classes == 10);
  REQUIRE(data.train.size() == 60);
  REQUIRE(data.test.size() == 12);
  const std::string third = read_text(folder.file("data_batch_3.bin"));
  REQUIRE(data.train.labels[24 + 11] == 1);
  REQUIRE(std::equal(data.train.image(24 + 11),
                     data.train.image(24 + 11) + 3072,
                     reinterpret_cast<const std::uint8_t*>(third.data()) + 11 * 3073 + 1));
}

TEST_CASE("CIFAR-100: the fine label is the one that is learned", "[train][data]") {
  const TemporaryFolder folder;
  write_cifar100(folder.path(), 100);
  const Dataset data = read_cifar100(folder.path());
  REQUIRE(data.classes == 100);
  REQUIRE(data.train.size() == 100);
  REQUIRE(data.train.labels[99] == 99);
  REQUIRE(data.test.labels[57] == 57);
}

TEST_CASE("CIFAR: damaged files are refused by name", "[train][data]") {
  const TemporaryFolder folder;
  write_cifar10(folder.path(), 4);
  const std::string path = folder.file("data_batch_4.bin");
  const std::string good = read_text(path);

  SECTION("truncated") {
    write_text(path, good.substr(0, good.size() - 1));
    REQUIRE_THROWS_WITH(read_cifar10(folder.path()),
                        ContainsSubstring("data_batch_4.bin must be whole records of 3073 bytes") &&
                            ContainsSubstring("got 12291 bytes"));
  }
  SECTION("truncated behind a whole record") {
    write_text(path, good.substr(0, 3073 * 3));
    REQUIRE_THROWS_WITH(read_cifar10(folder.path()),
                        ContainsSubstring("data_batch_4.bin must have the 4 records that "
                                          "data_batch_1.bin has, got 3"));
  }
  SECTION("half of the official test set") {
    const auto resize = [&](const std::string& name, int records) {  // zeros: black images, label 0
      REQUIRE(::truncate(folder.file(name).c_str(), 3074L * records) == 0);
    };
    write_cifar100(folder.path(), 1);
    resize("train.bin", 50000);
    resize("test.bin", 5000);
    REQUIRE_THROWS_WITH(read_cifar100(folder.path()),
                        ContainsSubstring("test.bin is cut short: 50000 training and 5000 test"));
    resize("train.bin", 25000);
    resize("test.bin", 10000);
    REQUIRE_THROWS_WITH(read_cifar100(folder.path()),
                        ContainsSubstring("train.bin is cut short: 25000 training"));
  }
  SECTION("empty") {
    write_text(path, "");
    REQUIRE_THROWS_WITH(read_cifar10(folder.path()), ContainsSubstring("got 0 bytes"));
  }
  SECTION("a label out of range") {
    std::string bad = good;
    bad[3073 * 2] = 10;
    write_text(path, bad);
    REQUIRE_THROWS_WITH(read_cifar10(folder.path()),
                        ContainsSubstring("labels below 10, got 10 in record 2"));
  }
  SECTION("missing") {
    ::unlink(path.c_str());
    REQUIRE_THROWS_WITH(read_cifar10(folder.path()),
                        ContainsSubstring("cannot read") && ContainsSubstring("data_batch_4.bin"));
  }
  SECTION("a folder in its place") {
    ::unlink(path.c_str());
    REQUIRE(::mkdir(path.c_str(), 0700) == 0);
    REQUIRE_THROWS_WITH(read_cifar10(folder.path()), ContainsSubstring("cannot read"));
    ::rmdir(path.c_str());
  }
  SECTION("a coarse label of CIFAR-100 out of range") {
    write_cifar100(folder.path(), 3);
    std::string bad = read_text(folder.file("test.bin"));
    bad[0] = 20;
    write_text(folder.file("test.bin"), bad);
    REQUIRE_THROWS_WITH(read_cifar100(folder.path()), ContainsSubstring("labels below 20, got 20"));
  }
}

TEST_CASE("data: --samples cuts the training part and is checked", "[train][data]") {
  const TemporaryFolder folder;
  write_cifar10(folder.path(), 8);
  const std::vector<std::string> base = {"--data=cifar10:" + folder.path(), "--batch-size=4"};
  auto with = [&base](const std::string& samples) {
    auto arguments = base;
    arguments.push_back("--samples=" + samples);
    return parse_options(arguments);
  };
  REQUIRE(load_dataset(with("10")).train.size() == 10);
  REQUIRE(load_dataset(with("10")).test.size() == 8);
  REQUIRE(load_dataset(with("10")).digest != load_dataset(with("11")).digest);
  REQUIRE_THROWS_WITH(load_dataset(with("41")), ContainsSubstring("at most the data's 40"));
  REQUIRE_THROWS_WITH(load_dataset(with("3")), ContainsSubstring("--batch-size"));
}

TEST_CASE("data: channel means and deviations are those of the training pixels", "[train][data]") {
  const TemporaryFolder folder;
  write_cifar10(folder.path(), 4);
  const Dataset data =
      load_dataset(parse_options({"--data=cifar10:" + folder.path(), "--batch-size=4"}));
  for (std::size_t channel = 0; channel < 3; ++channel) {
    double sum = 0.0;
    double squares = 0.0;
    for (std::int64_t i = 0; i < data.train.size(); ++i) {
      for (std::size_t k = 0; k < 1024; ++k) {
        const double value = data.train.image(i)[channel * 1024 + k];
        sum += value;
        squares += value * value;
      }
    }
    const double count = 1024.0 * static_cast<double>(data.train.size());
    const double mean = sum / count;
    REQUIRE(data.mean[channel] == Catch::Approx(mean));
    REQUIRE(data.deviation[channel] == Catch::Approx(std::sqrt(squares / count - mean * mean)));
  }
}

// H0: each of the 162 views has probability 1/162. n = 162000, so sigma of a count is 31.5; with
// Bonferroni over 162 cells, alpha = 1e-6 two-sided is |z| < 5.9.
TEST_CASE("augmentation: all views of an image are equally likely", "[train][data][statistical]") {
  std::array<int, 162> counts{};
  constexpr int kDraws = 162'000;
  for (int i = 0; i < kDraws; ++i) {
    const View view = draw_view(2024, 3, static_cast<std::uint64_t>(i));
    REQUIRE((view.shift_x >= -4 && view.shift_x <= 4 && view.shift_y >= -4 && view.shift_y <= 4));
    const int cell = ((view.shift_y + 4) * 9 + view.shift_x + 4) * 2 + (view.mirrored ? 1 : 0);
    ++counts[static_cast<std::size_t>(cell)];
  }
  const double sigma = std::sqrt(kDraws * (1.0 / 162) * (161.0 / 162));
  for (const int count : counts) REQUIRE(std::abs(count - 1000.0) < 5.9 * sigma);
}

TEST_CASE("augmentation: draws are keyed by seed, epoch and id", "[train][data]") {
  const auto same = [](const View& a, const View& b) {
    return a.shift_x == b.shift_x && a.shift_y == b.shift_y && a.mirrored == b.mirrored;
  };
  int seeds = 0;
  int epochs = 0;
  int ids = 0;
  for (std::uint64_t id = 0; id < 200; ++id) {
    const View view = draw_view(1, 5, id);
    REQUIRE(same(view, draw_view(1, 5, id)));
    seeds += same(view, draw_view(2, 5, id)) ? 1 : 0;
    epochs += same(view, draw_view(1, 6, id)) ? 1 : 0;
    ids += same(view, draw_view(1, 5, id + 1)) ? 1 : 0;
  }
  // One in 162 is equal by chance: 10 and more of 200 has probability below 1e-6.
  REQUIRE(seeds < 10);
  REQUIRE(epochs < 10);
  REQUIRE(ids < 10);
}

TEST_CASE("augmentation: shift, reflection at the border, mirror", "[train][data]") {
  Images images;
  images.height = images.width = 32;
  images.labels = {0};
  images.pixels.resize(3072);
  const auto pixel = [](int channel, int y, int x) { return (channel * 71 + y * 5 + x * 3) % 256; };
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < 32; ++y) {
      for (int x = 0; x < 32; ++x) {
        images.pixels[static_cast<std::size_t>((c * 32 + y) * 32 + x)] =
            static_cast<std::uint8_t>(pixel(c, y, x));
      }
    }
  }
  PixelTable table{};
  for (auto& channel : table) {
    for (std::size_t v = 0; v < 256; ++v) channel[v] = static_cast<float>(v);
  }
  const auto reflect = [](int position) {
    return position < 0 ? -position : position > 31 ? 62 - position : position;
  };
  std::vector<float> output(3072);
  for (const View view :
       {View{0, 0, false}, View{-4, 3, false}, View{4, -4, true}, View{1, 2, true}}) {
    write_view(images, 0, view, table, output.data());
    int wrong = 0;
    for (int y = 0; y < 32; ++y) {
      for (int x = 0; x < 32; ++x) {
        int column = reflect(x + view.shift_x);
        if (view.mirrored) column = 31 - column;
        for (int c = 0; c < 3; ++c) {
          const float seen = output[static_cast<std::size_t>((y * 32 + x) * 3 + c)];
          if (seen != static_cast<float>(pixel(c, reflect(y + view.shift_y), column))) ++wrong;
        }
      }
    }
    REQUIRE(wrong == 0);
  }
}

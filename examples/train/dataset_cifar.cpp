#include <examples/train/dataset_cifar.hpp>
#include <examples/train/file.hpp>

#include <fstream>

namespace infobatch::train {
namespace {

constexpr std::int64_t kPictureSide = 32;
constexpr std::int64_t kOfficialTrain = 50000;
constexpr std::int64_t kOfficialTest = 10000;

/// Exclusive upper limits of a record's label bytes; the last of them is the label that is learned.
using LabelLimits = std::vector<int>;

void append_records(const std::string& option,
                    const std::string& path,
                    const LabelLimits& limits,
                    Images& images) {
  std::string bytes;
  try {
    bytes = read_file(path);
  } catch (const std::exception& error) {
    throw UsageError(option + ": " + error.what());
  }
  const std::size_t labels = limits.size();
  const std::size_t record = labels + static_cast<std::size_t>(images.image_bytes());
  if (bytes.empty() || bytes.size() % record != 0) {
    throw UsageError(option + ": " + path + " must be whole records of " + std::to_string(record) +
                     " bytes, at least one, got " + std::to_string(bytes.size()) + " bytes");
  }
  for (std::size_t start = 0; start < bytes.size(); start += record) {
    for (std::size_t k = 0; k < labels; ++k) {
      const int label = static_cast<std::uint8_t>(bytes[start + k]);
      if (label >= limits[k]) {
        throw UsageError(option + ": " + path + " must have labels below " +
                         std::to_string(limits[k]) + ", got " + std::to_string(label) +
                         " in record " + std::to_string(start / record));
      }
    }
    images.labels.push_back(static_cast<std::uint8_t>(bytes[start + labels - 1]));
    const auto* pixels = reinterpret_cast<const std::uint8_t*>(bytes.data() + start + labels);
    images.pixels.insert(images.pixels.end(), pixels, pixels + images.image_bytes());
  }
}

Dataset read_cifar(const std::string& option,
                   const std::string& directory,
                   const std::vector<std::string>& train_files,
                   const std::string& test_file,
                   const LabelLimits& limits) {
  Dataset data;
  std::int64_t first = 0;
  data.classes = limits.back();
  data.train.height = data.train.width = data.test.height = data.test.width = kPictureSide;
  for (const std::string& file : train_files) {
    const std::int64_t before = data.train.size();
    append_records(option, directory + "/" + file, limits, data.train);
    const std::int64_t records = data.train.size() - before;
    if (before == 0) first = records;
    if (records != first) {
      throw UsageError(option + ": " + directory + "/" + file + " must have the " +
                       std::to_string(first) + " records that " + train_files.front() +
                       " has, got " + std::to_string(records) + ": one of them is cut short");
    }
  }
  append_records(option, directory + "/" + test_file, limits, data.test);
  // Smaller sets of the same layout are welcome; half of the official one is a broken copy.
  const bool train_whole = data.train.size() == kOfficialTrain;
  const bool test_whole = data.test.size() == kOfficialTest;
  if (train_whole != test_whole) {
    const std::string cut = train_whole ? test_file : train_files.front();
    throw UsageError(option + ": " + directory + "/" + cut +
                     " is cut short: " + std::to_string(data.train.size()) + " training and " +
                     std::to_string(data.test.size()) + " test images, of " +
                     std::to_string(kOfficialTrain) + " and " + std::to_string(kOfficialTest));
  }
  return data;
}

}  // namespace

Dataset read_cifar10(const std::string& directory) {
  return read_cifar("--data cifar10",
                    directory,
                    {"data_batch_1.bin",
                     "data_batch_2.bin",
                     "data_batch_3.bin",
                     "data_batch_4.bin",
                     "data_batch_5.bin"},
                    "test_batch.bin",
                    {10});
}

Dataset read_cifar100(const std::string& directory) {
  return read_cifar("--data cifar100", directory, {"train.bin"}, "test.bin", {20, 100});
}

}  // namespace infobatch::train

#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace infobatch::testing {

/// A folder of its own that goes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  /// Names in it, sorted.
  std::vector<std::string> names() const;

 private:
  std::string path_;
};

std::string read_text(const std::string& path);
void write_text(const std::string& path, const std::string& bytes);

/// A CIFAR-10 folder with `per_file` records in each of the six files: a coloured patch by class
/// under noise that grows with the record's number, so some samples are easier than others.
void write_cifar10(const std::string& folder, int per_file);
/// A CIFAR-100 folder with `per_file` records in either file.
void write_cifar100(const std::string& folder, int per_file);

/// infobatch-train as a process of its own.
class Program {
 public:
  /// Starts it with its streams in files of `folder`.
  Program(const TemporaryFolder& folder, const std::vector<std::string>& arguments);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void send(int signal) const;
  /// Whether it still runs; never waits.
  bool running();
  /// Waits for its end. @return the exit status, or 128 + the signal that ended it.
  int wait();
  std::string output() const { return read_text(output_); }
  std::string errors() const { return read_text(errors_); }

 private:
  std::string output_;
  std::string errors_;
  int pid_ = -1;
  int status_ = 0;
  bool ended_ = false;
};

/// The runs of a `--json` file by "arm/seed", without what depends on the clock.
std::map<std::string, nlohmann::json> timeless_runs(const std::string& json_file);

}  // namespace infobatch::testing

#include <examples/train/arms.hpp>
#include <examples/train/device.hpp>
#include <examples/train/models.hpp>
#include <examples/train/options.hpp>
#include <examples/train/recipe.hpp>

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <thread>

namespace infobatch::train {
namespace {

constexpr std::int64_t kMaxEpochs = 1'000'000;
constexpr std::int64_t kMaxBatch = 1 << 20;
constexpr std::int64_t kMaxThreads = 1024;

[[noreturn]] void refuse(const std::string& option,
                         const std::string& rule,
                         const std::string& got) {
  throw UsageError(option + ": must be " + rule + ", got '" + got + "'");
}

template <typename Integer>
Integer parse_integer(const std::string& option,
                      const std::string& text,
                      Integer low,
                      Integer high) {
  Integer value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < low || value > high) {
    refuse(
        option, "an integer in [" + std::to_string(low) + ", " + std::to_string(high) + "]", text);
  }
  return value;
}

/// A decimal number for which `accepts` holds.
double parse_number(const std::string& option,
                    const std::string& text,
                    const std::string& rule,
                    const std::function<bool(double)>& accepts) {
  std::istringstream stream(text);
  stream.imbue(std::locale::classic());
  double value = 0.0;
  const bool starts =
      !text.empty() && std::string("+-.0123456789").find(text[0]) != std::string::npos;
  if (!starts || !(stream >> value) || stream.peek() != std::istringstream::traits_type::eof() ||
      !std::isfinite(value) || !accepts(value)) {
    refuse(option, rule, text);
  }
  return value;
}

std::vector<std::string> split(const std::string& option, const std::string& text) {
  std::vector<std::string> parts;
  std::string part;
  std::istringstream stream(text);
  while (std::getline(stream, part, ',')) parts.push_back(part);
  if (text.empty() || text.back() == ',') parts.emplace_back();
  for (const std::string& item : parts) {
    if (item.empty()) refuse(option, "a comma-separated list without gaps", text);
  }
  const std::set<std::string> distinct(parts.begin(), parts.end());
  if (distinct.size() != parts.size()) refuse(option, "a list without repetitions", text);
  return parts;
}

std::string choose(const std::string& option,
                   const std::string& text,
                   const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), text) != known.end()) return text;
  std::string names;
  for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
  refuse(option, "one of " + names, text);
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

/// The same text for all ways to name a file: FILE, ./FILE, ../HERE/FILE, a link to it.
std::string one_name(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved != nullptr) {
    const std::string whole = resolved;
    std::free(resolved);
    return whole;
  }
  resolved = ::realpath(folder_of(path).c_str(), nullptr);
  const std::string folder = resolved == nullptr ? folder_of(path) : resolved;
  std::free(resolved);
  return folder + "/" + path.substr(path.rfind('/') + 1);
}

/// The folder of a file that is written at the end must be there at the beginning.
std::string writable_file(const std::string& option, const std::string& path) {
  if (path.empty()) refuse(option, "the name of a file", path);
  const std::size_t slash = path.rfind('/');
  const std::string folder = folder_of(path);
  if (slash + 1 == path.size()) refuse(option, "the name of a file, not of a folder", path);
  if (access((path + "/.").c_str(), F_OK) == 0) {
    refuse(option, "the name of a file, not of a folder", path);
  }
  if (access(folder.c_str(), W_OK | X_OK) != 0) {
    refuse(option, "a file in a folder that exists and may be written", path);
  }
  return path;
}

std::string parse_data(const std::string& text) {
  if (text == "builtin") return text;
  for (const char* prefix : {"cifar10:", "cifar100:"}) {
    if (text.rfind(prefix, 0) == 0 && text.size() > std::string(prefix).size()) return text;
  }
  refuse("--data", "builtin, cifar10:DIR or cifar100:DIR", text);
}

using Setter =
    std::function<void(TrainOptions&, const std::string& option, const std::string& value)>;

bool open_unit(double x) { return x >= 0.0 && x < 1.0; }

/// Options with a value. Ranges are those of the library, so nothing is refused later.
const std::map<std::string, Setter>& setters() {
  using S = const std::string&;
  static const std::map<std::string, Setter> table = {
      {"--arms",
       [](TrainOptions& o, S name, S v) {
         o.arms = split(name, v);
         for (const std::string& arm : o.arms) find_arm(arm);
       }},
      {"--data", [](TrainOptions& o, S, S v) { o.data = parse_data(v); }},
      {"--data-seed",
       [](TrainOptions& o, S name, S v) {
         o.data_seed = parse_integer<std::uint64_t>(name, v, 0, UINT64_MAX);
       }},
      {"--samples",
       [](TrainOptions& o, S name, S v) {
         o.samples = parse_integer<std::int64_t>(name, v, 1, std::int64_t{1} << 24);
       }},
      {"--model", [](TrainOptions& o, S name, S v) { o.model = choose(name, v, model_names()); }},
      {"--dtype",
       [](TrainOptions& o, S name, S v) {
         o.dtype = choose(name, v, {"fp32", "bf16", "fp64"});
       }},
      {"--device", [](TrainOptions& o, S, S v) { o.device = v; }},
      {"--epochs",
       [](TrainOptions& o, S name, S v) {
         o.epochs = parse_integer<std::int64_t>(name, v, 1, kMaxEpochs);
       }},
      {"--batch-size",
       [](TrainOptions& o, S name, S v) {
         o.batch_size = parse_integer<std::int64_t>(name, v, 2, kMaxBatch);
       }},
      {"--lr",
       [](TrainOptions& o, S name, S v) {
         o.lr = parse_number(
             name, v, "a number in (0, 1e6]", [](double x) { return x > 0.0 && x <= 1e6; });
       }},
      {"--weight-decay",
       [](TrainOptions& o, S name, S v) {
         o.weight_decay = parse_number(
             name, v, "a number in [0, 1e6]", [](double x) { return x >= 0.0 && x <= 1e6; });
       }},
      {"--label-smoothing",
       [](TrainOptions& o, S name, S v) {
         o.label_smoothing = parse_number(name, v, "a number in [0, 1)", open_unit);
       }},
      {"--prune-ratio",
       [](TrainOptions& o, S name, S v) {
         o.prune_ratio = parse_number(name, v, "a number in [0, 1)", open_unit);
       }},
      {"--delta",
       [](TrainOptions& o, S name, S v) {
         o.delta = parse_number(name, v, "a number in (0, 1], at least 1e-9", [](double x) {
           return x >= 1e-9 && x <= 1.0;
         });
       }},
      {"--share",
       [](TrainOptions& o, S name, S v) {
         o.share = parse_number(name, v, "a number in [0, 1)", open_unit);
       }},
      {"--seeds",
       [](TrainOptions& o, S name, S v) {
         o.seeds.clear();
         for (const std::string& item : split(name, v)) {
           o.seeds.push_back(parse_integer<std::uint64_t>(name, item, 0, UINT64_MAX));
         }
         const std::set<std::uint64_t> distinct(o.seeds.begin(), o.seeds.end());
         if (distinct.size() != o.seeds.size()) refuse(name, "a list without repetitions", v);
       }},
      {"--threads",
       [](TrainOptions& o, S name, S v) {
         o.threads = parse_integer<std::int64_t>(name, v, 1, kMaxThreads);
       }},
      {"--json", [](TrainOptions& o, S name, S v) { o.json = writable_file(name, v); }},
      {"--checkpoint", [](TrainOptions& o, S name, S v) { o.checkpoint = writable_file(name, v); }},
      {"--checkpoint-every",
       [](TrainOptions& o, S name, S v) {
         o.checkpoint_every = parse_integer<std::int64_t>(name, v, 1, INT64_MAX);
       }},
  };
  return table;
}

void check_combinations(const TrainOptions& options, const std::set<std::string>& given) {
  const auto has_arm = [&](const std::string& name) {
    return std::find(options.arms.begin(), options.arms.end(), name) != options.arms.end();
  };
  if (given.count("--checkpoint-every") && options.checkpoint.empty()) {
    throw UsageError("--checkpoint-every: needs --checkpoint FILE");
  }
  if (given.count("--data-seed") && options.data != "builtin") {
    throw UsageError("--data-seed: goes with --data builtin, got --data '" + options.data + "'");
  }
  // Each is written as FILE.tmp first.
  const std::string json = one_name(options.json);
  const std::string checkpoint = one_name(options.checkpoint);
  const bool clash =
      json == checkpoint || json == checkpoint + ".tmp" || json + ".tmp" == checkpoint;
  if (!options.json.empty() && !options.checkpoint.empty() && clash) {
    throw UsageError("--json: must be another file than --checkpoint, got '" + options.json + "'");
  }
  for (const std::string& name : options.arms) {
    if (find_arm(name).needs_share && !options.share && !has_arm("infobatch")) {
      throw UsageError("--arms: '" + name +
                       "' takes the share that infobatch saves: add infobatch, or give --share");
    }
  }
}

}  // namespace

std::string TrainOptions::data_name() const { return data.substr(0, data.find(':')); }

std::string TrainOptions::data_directory() const {
  const std::size_t colon = data.find(':');
  return colon == std::string::npos ? "" : data.substr(colon + 1);
}

TrainOptions parse_options(const std::vector<std::string>& arguments) {
  TrainOptions options;
  std::set<std::string> given;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      options.help = true;
      return options;
    }
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const auto setter = setters().find(name);
    const bool flag = name == "--interleave";
    if (!flag && setter == setters().end()) {
      throw UsageError("unknown option '" + argument + "'; --help lists them");
    }
    if (!given.insert(name).second) throw UsageError(name + ": must be given once");
    if (flag) {
      if (equals != std::string::npos) throw UsageError(name + ": takes no value");
      options.interleave = true;
    } else if (equals != std::string::npos) {
      setter->second(options, name, argument.substr(equals + 1));
    } else if (i + 1 < arguments.size() && arguments[i + 1].rfind("--", 0) != 0) {
      setter->second(options, name, arguments[++i]);
    } else {
      throw UsageError(name + ": needs a value");
    }
  }
  if (options.lr == 0.0) options.lr = default_lr(options.model);
  if (options.threads == 0) {
    options.threads = std::max(1u, std::thread::hardware_concurrency());
  }
  check_combinations(options, given);
  if (given.count("--device")) {
    options.device = find_device(options.device, precision_of(options.dtype).dtype).str();
  }
  return options;
}

}  // namespace infobatch::train

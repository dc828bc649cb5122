#include <infobatch/detail/buffer.hpp>
#include <infobatch/detail/limits.hpp>

#include <algorithm>
#include <charconv>
#include <climits>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>

#if defined(__linux__)
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#endif

namespace infobatch::detail {
namespace {

#if defined(__linux__)

/// The content of a small file; empty where it cannot be read.
std::string text_of(const std::string& path) {
  std::string text;
  struct File {
    const int number;
    ~File() {
      if (number >= 0) ::close(number);
    }
  };
  const File file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.number < 0) return text;
  char part[1024];
  constexpr std::size_t kLongest = std::size_t{1} << 20;
  while (text.size() < kLongest) {
    const ssize_t got = ::read(file.number, part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(part, static_cast<std::size_t>(got));
  }
  return text;
}

/// Takes the text up to `separator`, or all that is left, off the front of `text`.
std::string_view take(std::string_view& text, std::string_view separators) {
  const std::size_t end = std::min(text.find_first_of(separators), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

/// A number above 0; 0 for all else: "max", "-1", a file that is not there.
std::int64_t number_in(std::string_view text) {
  std::int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [behind, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc::result_out_of_range) return INT64_MAX;
  return error == std::errc() && behind == end ? std::max<std::int64_t>(number, 0) : 0;
}

std::int64_t number_in_file(const std::string& path) {
  const std::string text = text_of(path);
  std::string_view rest = text;
  return number_in(take(rest, " \n"));
}

bool lists(std::string_view controllers, std::string_view wanted) {
  while (!controllers.empty()) {
    if (take(controllers, ",") == wanted) return true;
  }
  return false;
}

/// Calls `visit(folder)` for the group `path` below `mount`, the groups above it and the mount
/// itself. A container that does not see the groups above its own has the mount alone.
template <typename Visit>
void visit_upwards(const std::string& mount, std::string_view path, const Visit& visit) {
  const bool elsewhere = (std::string(path) + "/").find("/../") != std::string::npos;
  std::string folder = elsewhere ? "" : std::string(path);
  while (!folder.empty()) {
    if (folder != "/") visit(mount + folder);
    folder.erase(folder.rfind('/') == std::string::npos ? 0 : folder.rfind('/'));
  }
  visit(mount);
}

/// Calls `visit(folder, unified)` for the groups that `controller` may limit this process in;
/// `unified`: of version 2.
template <typename Visit>
void visit_groups(const std::string& root, std::string_view controller, const Visit& visit) {
  const std::string groups = text_of(root + "/proc/self/cgroup");
  const std::string base = root + "/sys/fs/cgroup";
  for (std::string_view lines = groups; !lines.empty();) {
    std::string_view line = take(lines, "\n");  // <hierarchy>:<controllers>:<path>
    take(line, ":");
    const std::string_view controllers = take(line, ":");
    if (controllers.empty()) {
      // Beside version 1 the unified hierarchy has a folder of its own.
      for (const char* mount : {"", "/unified"}) {
        visit_upwards(base + mount, line, [&](const std::string& folder) { visit(folder, true); });
      }
    } else if (lists(controllers, controller)) {
      const std::string alone = base + "/" + std::string(controller);
      const std::string joint = base + "/" + std::string(controllers);
      const auto visit_old = [&](const std::string& folder) { visit(folder, false); };
      visit_upwards(alone, line, visit_old);
      if (joint != alone) visit_upwards(joint, line, visit_old);
    }
  }
}

int read_cpu_quota(const std::string& root) {
  std::int64_t least = INT_MAX;
  visit_groups(root, "cpu", [&](const std::string& folder, bool unified) {
    std::int64_t quota = 0;
    std::int64_t period = 0;
    if (unified) {
      const std::string text = text_of(folder + "/cpu.max");  // "<quota or max> <period>"
      std::string_view rest = text;
      quota = number_in(take(rest, " \n"));
      period = number_in(take(rest, " \n"));
    } else {
      quota = number_in_file(folder + "/cpu.cfs_quota_us");
      period = number_in_file(folder + "/cpu.cfs_period_us");
    }
    if (quota > 0 && period > 0) least = std::min(least, (quota - 1) / period + 1);
  });
  return static_cast<int>(least);
}

std::int64_t read_memory_limit(const std::string& root) {
  std::int64_t least = INT64_MAX;
  visit_groups(root, "memory", [&](const std::string& folder, bool unified) {
    const std::int64_t bytes =
        number_in_file(folder + (unified ? "/memory.max" : "/memory.limit_in_bytes"));
    if (bytes > 0) least = std::min(least, bytes);
  });
  return least;
}

#else

int read_cpu_quota(const std::string&) { return INT_MAX; }
std::int64_t read_memory_limit(const std::string&) { return INT64_MAX; }

#endif

}  // namespace

int cpu_quota(const char* root) noexcept {
  try {
    return read_cpu_quota(root);
  } catch (const std::exception&) {  // no memory to read it with
    return INT_MAX;
  }
}

MemoryLimit memory_limit(const char* root) noexcept {
  const MemoryLimit machine{physical_memory(), "the machine"};
  try {
    const std::int64_t group = read_memory_limit(root);
    return group < machine.bytes ? MemoryLimit{group, "the control group"} : machine;
  } catch (const std::exception&) {  // no memory to read it with
    return machine;
  }
}

}  // namespace infobatch::detail

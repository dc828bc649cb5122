#include <infobatch/detail/atomic_file.hpp>
#include <infobatch/error.hpp>

#include <fcntl.h>
#include <locale.h>  // NOLINT(modernize-deprecated-headers): newlocale is POSIX
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>
#include <utility>

namespace infobatch::detail {
namespace {

/// What the system says about an error, in English whatever the locale; fit for several threads.
std::string reason_of(int error) {
#if defined(__APPLE__)
  char text[256] = "";
  ::strerror_r(error, text, sizeof text);
  return text;
#else
  static const locale_t english = ::newlocale(LC_ALL_MASK, "C", nullptr);
  if (english == nullptr) return message("error ", error);
  return ::strerror_l(error, english);
#endif
}

[[noreturn]] void fail(const char* function, const char* step, const std::string& path) {
  const std::string reason = reason_of(errno);
  throw FileError(message(function, ": cannot ", step, " ", path, ": ", reason));
}

/// The call's result, made again for as long as a signal interrupts it.
template <typename Call>
auto uninterrupted(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

/// A file descriptor that closes itself. On Linux it is closed even where close() is interrupted.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor& operator=(Descriptor&&) = delete;
  int get() const { return number_; }

 private:
  int number_;
};

Descriptor open_file(const std::string& path, int how, mode_t mode = 0) {
  return Descriptor(
      uninterrupted([&] { return file_calls().open(path.c_str(), how | O_CLOEXEC, mode); }));
}

using Clock = std::chrono::steady_clock;

/// Waits for the lock, but not forever: a saver may be stopped, or hang with its file system.
void wait_for_lock(const Descriptor& file,
                   const std::string& path,
                   Clock::time_point end,
                   std::chrono::milliseconds patience) {
  constexpr std::chrono::milliseconds kLongestPause{20};
  std::chrono::milliseconds pause{1};
  while (uninterrupted([&] { return file_calls().lock(file.get(), LOCK_EX | LOCK_NB); }) != 0) {
    if (errno != EWOULDBLOCK) return;  // this file system has no locks: nobody is kept out
    if (Clock::now() >= end) {
      throw FileError(message("save: ",
                              path,
                              " must be free within ",
                              patience.count(),
                              " ms, got it locked by another saver"));
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, kLongestPause);
  }
}

/// Opens the file for writing and keeps other savers out, threads or processes, until it is closed;
/// waits for one that is at work. Where the file system has no locks, nobody is kept out.
Descriptor open_alone(const std::string& path, mode_t mode, std::chrono::milliseconds patience) {
  const auto end = Clock::now() + patience;
  while (true) {
    // O_NONBLOCK: a pipe of this name is refused instead of waited for; a file does not care.
    Descriptor file = open_file(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, mode);
    if (file.get() < 0) fail("save", "create", path);
    wait_for_lock(file, path, end, patience);
    // The saver before may have renamed the file away meanwhile; then this one is not ours to fill.
    struct stat opened;
    struct stat present;
    if (::fstat(file.get(), &opened) != 0) fail("save", "examine", path);
    if (!S_ISREG(opened.st_mode)) {
      throw FileError(message("save: cannot write ", path, ": it is there and is no file"));
    }
    if (::stat(path.c_str(), &present) == 0 && opened.st_dev == present.st_dev &&
        opened.st_ino == present.st_ino) {
      return file;
    }
  }
}

/// The file itself where the path is a symbolic link to one. Nothing but a file is ever replaced.
std::string target_of(const std::string& path) {
  struct stat status;
  if (::lstat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode)) return path;
  if (S_ISDIR(status.st_mode)) {
    errno = EISDIR;
    fail("save", "replace", path);
  }
  struct Free {
    void operator()(char* text) const { std::free(text); }
  };
  std::unique_ptr<char, Free> resolved;
  if (S_ISLNK(status.st_mode)) {
    resolved.reset(::realpath(path.c_str(), nullptr));
    if (resolved == nullptr && errno == ENOMEM) throw std::bad_alloc();
  }
  if (resolved == nullptr) {
    throw FileError(message(
        "save: cannot replace ", path, ": it is a device, a pipe or a link to nothing, no file"));
  }
  return target_of(resolved.get());
}

/// Owner, group and permissions of the file that is going to be replaced, if there is one.
class Permissions {
 public:
  explicit Permissions(const std::string& path) {
    there_ = ::stat(path.c_str(), &status_) == 0 && S_ISREG(status_.st_mode);
  }

  /// What the new file is created with; never more than the old one allows.
  mode_t initial() const { return there_ ? (status_.st_mode & 0777u) | S_IWUSR : 0666u; }

  /// Gives them to the new file as far as the system lets us; it stays writable for its owner, so
  /// that whoever finds it unfinished can write it anew.
  void give(const Descriptor& file) const {
    if (!there_) return;
    const FileCalls& calls = file_calls();
    const bool owned = calls.change_owner(file.get(), status_.st_uid, status_.st_gid) == 0;
    if (!owned) calls.change_owner(file.get(), static_cast<uid_t>(-1), status_.st_gid);
    set(file, (status_.st_mode & (owned ? 07777u : 0777u)) | S_IWUSR);
  }

  /// What give() left open, for the file in its place.
  void finish(const Descriptor& file) const {
    if (there_ && (status_.st_mode & S_IWUSR) == 0) set(file, status_.st_mode & 0777u);
  }

 private:
  static void set(const Descriptor& file, mode_t mode) {
    file_calls().change_mode(file.get(), mode);  // not every file system has them
  }

  struct stat status_ {};
  bool there_ = false;
};

void write_all(const Descriptor& file, const std::string& path, std::string_view bytes) {
  if (uninterrupted([&] { return file_calls().truncate(file.get(), 0); }) != 0) {
    fail("save", "empty", path);
  }
  while (!bytes.empty()) {
    const ssize_t written =
        uninterrupted([&] { return file_calls().write(file.get(), bytes.data(), bytes.size()); });
    if (written < 0) fail("save", "write", path);
    if (written == 0) {
      throw FileError(message(
          "save: cannot write ", path, ": the system took none of ", bytes.size(), " bytes left"));
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

/// Whether the file is on the disk; false where its file system cannot tell.
bool flush(const Descriptor& file, const std::string& path) {
  if (uninterrupted([&] { return file_calls().flush(file.get()); }) == 0) return true;
  // Two names of one number here, of two elsewhere.
  const bool unknown =  // NOLINTNEXTLINE(misc-redundant-expression)
      errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP || errno == ENOTSUP;
  if (!unknown) fail("save", "flush", path);
  return false;
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

/// The rename itself reaches the disk only with the folder.
void flush_folder(const std::string& folder) {
  const Descriptor opened = open_file(folder, O_RDONLY | O_DIRECTORY);
  if (opened.get() < 0) return;  // not every file system can; the file is whole
  uninterrupted([&] { return file_calls().flush(opened.get()); });
}

/// Nothing but a regular file is read: of a pipe or a device there may be no end.
void require_file(const struct stat& status, const std::string& path) {
  if (S_ISREG(status.st_mode)) return;
  const char* const kind = S_ISDIR(status.st_mode)    ? "a folder"
                           : S_ISFIFO(status.st_mode) ? "a pipe"
                           : S_ISSOCK(status.st_mode) ? "a socket"
                                                      : "a device";
  throw FileError(message("load: cannot read ", path, ": it must be a file, got ", kind));
}

void require_at_most(std::int64_t largest, std::int64_t size, const std::string& path) {
  if (size <= largest) return;
  throw FileError(message("load: cannot read ",
                          path,
                          ": it must have at most ",
                          largest,
                          " bytes, the most that a state of this session can have, got ",
                          size));
}

}  // namespace

FileCalls& file_calls() {
  static FileCalls calls{
      [](const char* path, int how, mode_t mode) { return ::open(path, how, mode); },
      ::read,
      ::write,
      ::ftruncate,
      ::fsync,
      ::flock,
      ::fchown,
      ::fchmod};
  return calls;
}

SaveReport write_file_atomically(const std::string& given,
                                 std::string_view bytes,
                                 std::chrono::milliseconds patience) {
  const std::string path = target_of(given);
  const Permissions permissions(path);
  const std::string folder = folder_of(path);    // now: behind the rename nothing may fail
  const std::string unfinished = path + ".tmp";  // one name: a killed save leaves one file at most
  const Descriptor file = open_alone(unfinished, permissions.initial(), patience);
  SaveReport report;
  try {
    permissions.give(file);
    write_all(file, unfinished, bytes);
    report.flushed = flush(file, unfinished);
    if (std::rename(unfinished.c_str(), path.c_str()) != 0) fail("save", "replace", path);
  } catch (...) {
    ::unlink(unfinished.c_str());
    throw;
  }
  permissions.finish(file);
  flush_folder(folder);
  return report;
}

std::string read_file(const std::string& path, std::int64_t largest) {
  struct stat status;
  // Asked before it is opened, which alone has effects on some devices; and again behind that, as
  // it may have been replaced.
  if (::stat(path.c_str(), &status) == 0) require_file(status, path);
  const Descriptor file = open_file(path, O_RDONLY | O_NONBLOCK);
  if (file.get() < 0) fail("load", "open", path);
  if (::fstat(file.get(), &status) != 0) fail("load", "examine", path);
  require_file(status, path);
  require_at_most(largest, status.st_size, path);
  // Through a part that stays in the cache: a string would fill its bytes with zeros first.
  constexpr std::size_t kPart = std::size_t{1} << 18;
  const std::unique_ptr<char[]> part(new char[kPart]);
  std::string bytes;
  bytes.reserve(static_cast<std::size_t>(status.st_size));
  while (true) {
    const ssize_t got =
        uninterrupted([&] { return file_calls().read(file.get(), part.get(), kPart); });
    if (got < 0) fail("load", "read", path);
    if (got == 0) break;
    require_at_most(largest, static_cast<std::int64_t>(bytes.size()) + got, path);  // it grew
    bytes.append(part.get(), static_cast<std::size_t>(got));
  }
  return bytes;
}

}  // namespace infobatch::detail

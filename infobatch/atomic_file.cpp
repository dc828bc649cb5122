#include <infobatch/atomic_file.hpp>
#include <infobatch/error.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace infobatch::detail {
namespace {

[[noreturn]] void fail(const char* function, const char* step, const std::string& path) {
  throw FileError(message(function, ": cannot ", step, " ", path, ": ", std::strerror(errno)));
}

/// A file descriptor that closes itself.
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

/// Opens the file for writing and keeps other savers out, threads or processes, until it is closed;
/// waits for one that is at work. Where the file system has no locks, nobody is kept out.
Descriptor open_alone(const std::string& path) {
  while (true) {
    // O_NONBLOCK: a pipe of this name is refused instead of waited for; a file does not care.
    constexpr int kHow = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    Descriptor file(::open(path.c_str(), kHow, 0666));
    if (file.get() < 0) fail("save", "create", path);
    while (::flock(file.get(), LOCK_EX) != 0 && errno == EINTR) {
    }
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
  char* const resolved = S_ISLNK(status.st_mode) ? ::realpath(path.c_str(), nullptr) : nullptr;
  if (resolved == nullptr) {
    throw FileError(message(
        "save: cannot replace ", path, ": it is a device, a pipe or a link to nothing, no file"));
  }
  const std::string target = resolved;
  std::free(resolved);
  return target_of(target);
}

void write_all(const Descriptor& file, const std::string& path, std::string_view bytes) {
  if (::ftruncate(file.get(), 0) != 0) fail("save", "empty", path);
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail("save", "write", path);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(file.get()) != 0) fail("save", "flush", path);
}

/// The rename itself reaches the disk only with the folder.
void flush_folder_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const Descriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.get() >= 0) ::fsync(opened.get());  // not every file system can; the file is whole
}

}  // namespace

void write_file_atomically(const std::string& given, std::string_view bytes) {
  const std::string path = target_of(given);
  const std::string unfinished = path + ".tmp";  // one name: a killed save leaves one file at most
  const Descriptor file = open_alone(unfinished);
  try {
    write_all(file, unfinished, bytes);
    if (std::rename(unfinished.c_str(), path.c_str()) != 0) fail("save", "replace", path);
  } catch (...) {
    ::unlink(unfinished.c_str());
    throw;
  }
  flush_folder_of(path);
}

std::string read_file(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail("load", "open", path);
  struct stat status;
  if (::fstat(file.get(), &status) != 0) fail("load", "examine", path);
  std::string bytes;
  bytes.resize(static_cast<std::size_t>(status.st_size));
  std::size_t done = 0;
  while (true) {
    if (done == bytes.size()) bytes.resize(done + 4096);  // it may have grown, or be no plain file
    const ssize_t got = ::read(file.get(), &bytes[done], bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("load", "read", path);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

}  // namespace infobatch::detail

#include <examples/train/file.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace infobatch::train {
namespace {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int close() {
    const int result = fd_ >= 0 ? ::close(fd_) : 0;
    fd_ = -1;
    return result;
  }

 private:
  int fd_;
};

[[noreturn]] void fail(const char* verb, const std::string& path) {
  throw std::runtime_error(std::string("cannot ") + verb + " " + path + ": " +
                           std::strerror(errno));
}

void write_all(int fd, const std::string& bytes, const std::string& path) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write", path);
    done += static_cast<std::size_t>(count);
  }
}

/// Makes a rename last: the folder itself has to reach the disk. Not every file system can do it.
void sync_folder(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.get() >= 0) (void)::fsync(descriptor.get());
}

}  // namespace

std::string target_of(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || S_ISREG(info.st_mode)) return path;
  char* const resolved = S_ISLNK(info.st_mode) ? ::realpath(path.c_str(), nullptr) : nullptr;
  const std::string target = resolved == nullptr ? "" : resolved;
  std::free(resolved);
  if (::stat(target.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
    throw std::runtime_error("cannot write " + path + ": it is there and is no file");
  }
  return target;
}

std::string read_file(const std::string& path) {
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.get() < 0) fail("read", path);
  struct stat info {};
  if (::fstat(descriptor.get(), &info) != 0) fail("read", path);
  std::string bytes;
  if (S_ISREG(info.st_mode)) bytes.reserve(static_cast<std::size_t>(info.st_size));
  char buffer[1 << 16];
  while (true) {
    const ssize_t count = ::read(descriptor.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read", path);
    if (count == 0) return bytes;
    bytes.append(buffer, static_cast<std::size_t>(count));
  }
}

void write_file_atomically(const std::string& given, const std::string& bytes) {
  const std::string path = target_of(given);
  const std::string temporary = path + ".tmp";
  Descriptor descriptor(::open(temporary.c_str(),
                               O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                               S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH));
  if (descriptor.get() < 0) fail("write", temporary);
  try {
    write_all(descriptor.get(), bytes, path);
    if (::fsync(descriptor.get()) != 0 || descriptor.close() != 0) fail("write", path);
    if (std::rename(temporary.c_str(), path.c_str()) != 0) fail("write", path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(path);
}

void check_writable(const std::string& given) {
  const std::string path = target_of(given);
  if (file_exists(path) && ::access(path.c_str(), W_OK) != 0) fail("write", path);
  struct stat info {};
  if (::lstat((path + ".tmp").c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    throw std::runtime_error("cannot write " + path + ".tmp: it is there and is no file");
  }
  // A name that is nobody's: O_EXCL never opens, and so never removes, a file that exists.
  const std::string probe = path + ".probe-" + std::to_string(::getpid());
  const Descriptor descriptor(
      ::open(probe.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (descriptor.get() < 0) fail("write", path);
  ::unlink(probe.c_str());
}

bool file_exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

}  // namespace infobatch::train

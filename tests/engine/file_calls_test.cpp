#include <infobatch/detail/atomic_file.hpp>
#include <infobatch/error.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

// Files on systems that refuse, interrupt, or do half of what was asked for.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;
using detail::file_calls;
using detail::read_file;
using detail::write_file_atomically;

namespace {

/// A file named "state" in a folder of its own, and the real calls again behind the test.
class Place {
 public:
  Place() {
    const char* base = std::getenv("TMPDIR");
    folder_ = std::string(base != nullptr ? base : P_tmpdir) + "/infobatch_test_XXXXXX";
    REQUIRE(::mkdtemp(folder_.data()) != nullptr);
    calls_ = file_calls();
  }
  ~Place() {
    file_calls() = calls_;
    for (const char* name : {"/state", "/state.tmp", "/other"}) {
      ::unlink((folder_ + name).c_str());
    }
    ::rmdir(folder_.c_str());
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  std::string file() const { return folder_ + "/state"; }
  std::string unfinished() const { return file() + ".tmp"; }
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
  detail::FileCalls calls_;
};

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

mode_t mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777u;
}

/// 0 for the calls that a test does not care about.
int error_of_flush = 0;
int reads = 0;
int turn = 0;  // every other call is interrupted

int failing_flush(int file) {
  struct stat status {};
  if (::fstat(file, &status) == 0 && !S_ISREG(status.st_mode)) return 0;
  errno = error_of_flush;
  return -1;
}

bool interrupted() {
  errno = EINTR;
  return ++turn % 2 != 0;
}

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31 % 251);
  return bytes;
}

}  // namespace

TEST_CASE("a file system that knows no fsync is reported, a failing disk is an error",
          "[engine][file]") {
  const Place place;
  REQUIRE(write_file_atomically(place.file(), "old").flushed);
  file_calls().flush = failing_flush;
  for (const int error : {EINVAL, ENOSYS, EOPNOTSUPP, ENOTSUP}) {
    error_of_flush = error;
    const std::string bytes = "new " + std::to_string(error);
    REQUIRE_FALSE(write_file_atomically(place.file(), bytes).flushed);
    REQUIRE(read_file(place.file()) == bytes);
  }
  error_of_flush = EINVAL;
  write_file_atomically(place.file(), "old");
  for (const int error : {EIO, ENOSPC, EDQUOT}) {
    error_of_flush = error;
    REQUIRE_THAT(message_of<FileError>([&] { write_file_atomically(place.file(), "new"); }),
                 ContainsSubstring("save: cannot flush " + place.unfinished() + ": ") &&
                     ContainsSubstring(std::strerror(error)));
    REQUIRE(read_file(place.file()) == "old");
    REQUIRE_FALSE(exists(place.unfinished()));
  }
}

TEST_CASE("calls that a signal interrupts are made again", "[engine][file]") {
  const Place place;
  detail::FileCalls& calls = file_calls();
  calls.open = [](const char* path, int how, mode_t mode) {
    return interrupted() ? -1 : ::open(path, how, mode);
  };
  calls.read = [](int file, void* bytes, std::size_t count) {
    return interrupted() ? ssize_t{-1} : ::read(file, bytes, count);
  };
  calls.write = [](int file, const void* bytes, std::size_t count) {
    return interrupted() ? ssize_t{-1} : ::write(file, bytes, count);
  };
  calls.truncate = [](int file, off_t size) {
    return interrupted() ? -1 : ::ftruncate(file, size);
  };
  calls.flush = [](int file) { return interrupted() ? -1 : ::fsync(file); };
  calls.lock = [](int file, int how) { return interrupted() ? -1 : ::flock(file, how); };
  const std::string bytes = pattern(700'001);
  for (turn = 0; turn < 40;) {
    REQUIRE(write_file_atomically(place.file(), bytes).flushed);
    REQUIRE(read_file(place.file()) == bytes);
    ++turn;  // so that each call is met at either turn
  }
}

TEST_CASE("a system that writes and reads little at a time gets there", "[engine][file]") {
  const Place place;
  file_calls().write = [](int file, const void* bytes, std::size_t count) {
    return ::write(file, bytes, std::min<std::size_t>(count, 997));
  };
  file_calls().read = [](int file, void* bytes, std::size_t count) {
    return ::read(file, bytes, std::min<std::size_t>(count, 1009));
  };
  const std::string bytes = pattern(100'000);
  write_file_atomically(place.file(), bytes);
  REQUIRE(read_file(place.file()) == bytes);
}

TEST_CASE("a write that takes nothing is an error with a reason", "[engine][file]") {
  const Place place;
  write_file_atomically(place.file(), "old");
  file_calls().write = [](int, const void*, std::size_t) {
    errno = 0;
    return ssize_t{0};
  };
  REQUIRE(message_of<FileError>([&] { write_file_atomically(place.file(), "new"); }) ==
          "save: cannot write " + place.unfinished() + ": the system took none of 3 bytes left");
  REQUIRE(read_file(place.file()) == "old");
}

TEST_CASE("a replaced file keeps its permissions", "[engine][file]") {
  const Place place;
  const mode_t usual = ::umask(022);
  write_file_atomically(place.file(), "first");
  REQUIRE(mode_of(place.file()) == 0644u);
  for (const mode_t mode : {0600u, 0640u, 0664u, 0444u, 0400u, 0666u, 0755u}) {
    CAPTURE(mode);
    REQUIRE(::chmod(place.file().c_str(), mode) == 0);
    write_file_atomically(place.file(), std::to_string(mode));
    REQUIRE(read_file(place.file()) == std::to_string(mode));
    REQUIRE(mode_of(place.file()) == mode);
  }
  // Not even for a moment are they wider, whoever left the unfinished file.
  REQUIRE(::chmod(place.file().c_str(), 0600) == 0);
  REQUIRE(::close(::open(place.unfinished().c_str(), O_WRONLY | O_CREAT, 0666)) == 0);
  file_calls().write = [](int file, const void* bytes, std::size_t count) {
    struct stat status {};
    const bool narrow = ::fstat(file, &status) == 0 && (status.st_mode & 0777u) == 0600u;
    errno = EACCES;
    return narrow ? ::write(file, bytes, count) : ssize_t{-1};
  };
  write_file_atomically(place.file(), "secret");
  REQUIRE(mode_of(place.file()) == 0600u);
  ::umask(usual);
}

TEST_CASE("a replaced file keeps its owner where the system allows it", "[engine][file]") {
  const Place place;
  write_file_atomically(place.file(), "first");
  const bool may = ::chown(place.file().c_str(), 1234, 5678) == 0;  // root's tests only
  write_file_atomically(place.file(), "second");
  struct stat status {};
  REQUIRE(::stat(place.file().c_str(), &status) == 0);
  if (may) REQUIRE((status.st_uid == 1234 && status.st_gid == 5678));
  file_calls().change_owner = [](int, uid_t, gid_t) {
    errno = EPERM;
    return -1;
  };
  file_calls().change_mode = [](int, mode_t) {
    errno = EPERM;
    return -1;
  };
  write_file_atomically(place.file(), "third");
  REQUIRE(read_file(place.file()) == "third");
}

TEST_CASE("load refuses what is no file without reading it", "[engine][file]") {
  const Place place;
  const std::string other = place.folder() + "/other";
  const auto refusal = [](const std::string& path) {
    return message_of<FileError>([&] { read_file(path); });
  };
  REQUIRE(refusal(place.folder()) ==
          "load: cannot read " + place.folder() + ": it must be a file, got a folder");
  REQUIRE(::mkfifo(other.c_str(), 0600) == 0);
  REQUIRE_THAT(refusal(other), ContainsSubstring("it must be a file, got a pipe"));
  REQUIRE(::unlink(other.c_str()) == 0);
  const int server = ::socket(AF_UNIX, SOCK_STREAM, 0);
  REQUIRE(server >= 0);
  struct sockaddr_un address {};
  address.sun_family = AF_UNIX;
  REQUIRE(other.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, other.c_str(), other.size() + 1);
  const auto* const name = reinterpret_cast<const struct sockaddr*>(&address);
  if (::bind(server, name, sizeof address) == 0) {
    REQUIRE_THAT(refusal(other), ContainsSubstring("it must be a file, got a socket"));
  }
  ::close(server);
  REQUIRE_THAT(refusal("/dev/zero"), ContainsSubstring("it must be a file, got a device"));
}

TEST_CASE("load refuses a file that is too large before it reads it", "[engine][file]") {
  const Place place;
  const std::string bytes = pattern(5000);
  write_file_atomically(place.file(), bytes);
  REQUIRE(read_file(place.file(), 5000) == bytes);
  reads = 0;
  file_calls().read = [](int file, void* data, std::size_t count) {
    ++reads;
    return ::read(file, data, count);
  };
  REQUIRE(message_of<FileError>([&] { read_file(place.file(), 4999); }) ==
          "load: cannot read " + place.file() +
              ": it must have at most 4999 bytes, the most that a state of this session can have, "
              "got 5000");
  REQUIRE(reads == 0);
  // One that grows while it is read.
  file_calls().read = [](int, void* data, std::size_t count) {
    std::memset(data, 'x', count);
    return static_cast<ssize_t>(count);
  };
  REQUIRE_THAT(message_of<FileError>([&] { read_file(place.file(), 1'000'000); }),
               ContainsSubstring("it must have at most 1000000 bytes"));
}

TEST_CASE("a large file is read into memory of its own size", "[engine][file]") {
  const Place place;
  const std::string bytes = pattern(3'000'000);
  write_file_atomically(place.file(), bytes);
  const std::string found = read_file(place.file());
  REQUIRE(found == bytes);
  REQUIRE(found.capacity() < 3'100'000);
}

TEST_CASE("a save waits for another saver, but not forever", "[engine][file]") {
  const Place place;
  write_file_atomically(place.file(), "old");
  const int other = ::open(place.unfinished().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE(other >= 0);
  REQUIRE(::flock(other, LOCK_EX) == 0);
  const auto begin = std::chrono::steady_clock::now();
  const std::chrono::milliseconds patience{50};
  REQUIRE(message_of<FileError>([&] { write_file_atomically(place.file(), "new", patience); }) ==
          "save: " + place.unfinished() +
              " must be free within 50 ms, got it locked by another "
              "saver");
  REQUIRE(std::chrono::steady_clock::now() - begin >= patience);
  REQUIRE(exists(place.unfinished()));  // it is the other one's
  REQUIRE(read_file(place.file()) == "old");
  ::close(other);
  write_file_atomically(place.file(), "new", patience);
  REQUIRE(read_file(place.file()) == "new");
  // Where the file system has no locks, nobody is waited for.
  file_calls().lock = [](int, int) {
    errno = ENOLCK;
    return -1;
  };
  write_file_atomically(place.file(), "newer", patience);
  REQUIRE(read_file(place.file()) == "newer");
}

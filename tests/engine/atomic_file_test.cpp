#include <infobatch/detail/atomic_file.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <tests/support/catch2_shim.hpp>
#include <tests/support/run.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>
#include <vector>

// Files on disk: whole or not there.

using namespace infobatch;
using namespace infobatch::testing;
using Catch::Matchers::ContainsSubstring;

namespace {

/// A folder of its own that goes with the object.
class Folder {
 public:
  Folder() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base != nullptr ? base : P_tmpdir) + "/infobatch_test_XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~Folder() {
    for (const char* name : {"/state", "/state.tmp", "/link", "/link.tmp"})
      ::unlink((path_ + name).c_str());
    ::rmdir(path_.c_str());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

}  // namespace

TEST_CASE("save and load go through a file that another session reads", "[engine][file]") {
  const Folder folder;
  const std::string file = folder.path() + "/state";
  Session session(100, config_of(10), 1);
  run_epoch(session, 30);
  session.save(file);
  REQUIRE_FALSE(exists(file + ".tmp"));
  run_epoch(session, 30);
  session.save(file);  // over the old one
  Session other(100, config_of(10), 1);
  const LoadReport report = other.load(file);
  REQUIRE(report.epoch == 1);
  REQUIRE(run_epoch(other, 30) == run_epoch(session, 30));
}

TEST_CASE("files of any size come back byte by byte", "[engine][file]") {
  const Folder folder;
  const std::string file = folder.path() + "/state";
  for (const std::size_t size : {0u, 1u, 4095u, 4096u, 4097u, 300000u}) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31 % 251);
    detail::write_file_atomically(file, bytes);
    REQUIRE(detail::read_file(file) == bytes);
  }
}

TEST_CASE("a file that cannot be read or written is named, with the reason", "[engine][file]") {
  const Folder folder;
  Session session(10, config_of(10), 1);
  const std::string before = session.serialize();
  const std::string missing = folder.path() + "/nowhere/state";
  REQUIRE_THAT(message_of<FileError>([&] { session.load(missing); }),
               ContainsSubstring("load: cannot open " + missing + ": No such file"));
  REQUIRE_THAT(message_of<FileError>([&] { session.save(missing); }),
               ContainsSubstring("save: cannot create " + missing));
  REQUIRE_THAT(message_of<FileError>([&] { session.load(folder.path()); }),
               ContainsSubstring("load: cannot read " + folder.path()));
  REQUIRE_THAT(message_of<FileError>([&] { session.save(folder.path()); }),
               ContainsSubstring("save: cannot replace " + folder.path()));
  REQUIRE_FALSE(exists(folder.path() + ".tmp"));  // nothing is left behind
  REQUIRE(session.serialize() == before);
}

TEST_CASE("a full disk leaves the old file", "[engine][file]") {
  const Folder folder;
  const std::string file = folder.path() + "/state";
  detail::write_file_atomically(file, "old");
  // No file may grow beyond 4096 bytes: the write behind that fails as on a full disk.
  struct rlimit usual;
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &usual) == 0);
  const struct rlimit small { 4096, usual.rlim_max };
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string text =
      message_of<FileError>([&] { detail::write_file_atomically(file, std::string(100000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &usual);
  ::signal(SIGXFSZ, handler);
  REQUIRE_THAT(text, ContainsSubstring("save: cannot write " + file + ".tmp"));
  REQUIRE(detail::read_file(file) == "old");
  REQUIRE_FALSE(exists(file + ".tmp"));
}

TEST_CASE("a symbolic link is followed, and nothing but a file is replaced", "[engine][file]") {
  const Folder folder;
  const std::string file = folder.path() + "/state";
  const std::string link = folder.path() + "/link";
  detail::write_file_atomically(file, "old");
  REQUIRE(::symlink("state", link.c_str()) == 0);
  detail::write_file_atomically(link, "new");
  REQUIRE(detail::read_file(file) == "new");
  struct stat status;
  REQUIRE(::lstat(link.c_str(), &status) == 0);
  REQUIRE(S_ISLNK(status.st_mode));
  // A link to nothing, a pipe; and a link where the unfinished file goes.
  REQUIRE(::unlink(file.c_str()) == 0);
  REQUIRE_THROWS_AS(detail::write_file_atomically(link, "new"), FileError);
  REQUIRE(::unlink(link.c_str()) == 0);
  REQUIRE(::mkfifo(link.c_str(), 0600) == 0);
  REQUIRE_THAT(message_of<FileError>([&] { detail::write_file_atomically(link, "new"); }),
               ContainsSubstring("save: cannot replace " + link));
  REQUIRE(::lstat(link.c_str(), &status) == 0);
  REQUIRE(S_ISFIFO(status.st_mode));
  REQUIRE(::unlink(link.c_str()) == 0);
  detail::write_file_atomically(link, "precious");
  REQUIRE(::symlink("link", (file + ".tmp").c_str()) == 0);
  REQUIRE_THROWS_AS(detail::write_file_atomically(file, "new"), FileError);
  REQUIRE(detail::read_file(link) == "precious");
  REQUIRE(::unlink((file + ".tmp").c_str()) == 0);
  REQUIRE(::mkfifo((file + ".tmp").c_str(), 0600) == 0);
  const int reader = ::open((file + ".tmp").c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  REQUIRE_THROWS_AS(detail::write_file_atomically(file, "new"), FileError);  // read by somebody
  ::close(reader);
  REQUIRE_THROWS_AS(detail::write_file_atomically(file, "new"), FileError);  // or by nobody
  REQUIRE(::lstat((file + ".tmp").c_str(), &status) == 0);
  REQUIRE(S_ISFIFO(status.st_mode));
}

TEST_CASE("savers of one file take turns", "[engine][file]") {
  // Threads here, processes in a run on several ranks; a lock belongs to an open file, so both are
  // kept apart alike.
  const Folder folder;
  const std::string file = folder.path() + "/state";
  constexpr int kSavers = 4;
  std::vector<std::string> failed(kSavers);
  std::vector<std::thread> savers;
  for (int saver = 0; saver < kSavers; ++saver) {
    savers.emplace_back([&, saver] {
      try {
        const std::string bytes(static_cast<std::size_t>(200000 + 50000 * saver),
                                static_cast<char>('a' + saver));
        for (int round = 0; round < 60; ++round) {
          detail::write_file_atomically(file, bytes);
          const std::string found = detail::read_file(file);
          const std::size_t size = 200000 + 50000 * std::size_t(found.at(0) - 'a');
          if (found != std::string(size, found[0])) failed[std::size_t(saver)] = "mixed content";
        }
      } catch (const std::exception& error) {
        failed[std::size_t(saver)] = error.what();
      }
    });
  }
  for (std::thread& saver : savers) saver.join();
  for (const std::string& text : failed) REQUIRE(text.empty());
  REQUIRE_FALSE(exists(file + ".tmp"));
}

TEST_CASE("a process killed while it saves leaves a file that loads", "[engine][file]") {
  const Folder folder;
  const std::string file = folder.path() + "/state";
  constexpr std::int64_t kSize = 20000;
  std::int64_t saved = 0;  // states that a child has reported as saved
  for (int round = 0; round < 12; ++round) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {  // saves as fast as it can, one epoch a state, until killed
      Session session(kSize, config_of(1000), 1);
      session.set_warning_handler([](const std::string&) {});
      if (exists(file)) session.load(file);
      while (true) {
        session.begin();
        const Slice s = session.next(kSize);
        const std::vector<float> losses(static_cast<std::size_t>(s.count), 1.0f);
        session.observe(losses.data(), s.count);
        session.save(file);
        if (::write(ends[1], "s", 1) != 1) ::_exit(1);
      }
    }
    ::close(ends[1]);
    char byte = 0;
    for (int state = 0; state < 2 + round % 3; ++state) {
      REQUIRE(::read(ends[0], &byte, 1) == 1);
      ++saved;
    }
    ::usleep(static_cast<useconds_t>(97 * round));  // kills fall into every part of a save
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    while (::read(ends[0], &byte, 1) == 1) ++saved;
    ::close(ends[0]);
    Session session(kSize, config_of(1000), 1);
    const LoadReport report = session.load(file);
    REQUIRE(report.position == kSize);  // whole
    // The last state reported, or the one that was on its way.
    REQUIRE((report.epoch + 1 == saved || report.epoch == saved));
    saved = report.epoch + 1;
  }
}

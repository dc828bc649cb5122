#include <tests/samplers/rank_world.hpp>
#include <tests/support/gloo_group.hpp>

#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>

#define INFOBATCH_TEST_WITH_TORCH
#include <tests/support/catch2_shim.hpp>

namespace infobatch::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLimit{60};

void write_all(int file, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = write(file, text.data() + done, text.size() - done);
    if (count <= 0) _exit(3);
    done += static_cast<std::size_t>(count);
  }
}

/// A process of our own, and the pipe in which it writes.
struct Child {
  pid_t process = -1;
  int file = -1;

  /// @param body  of the process; takes the pipe.
  template <typename Body>
  static Child start(const Body& body) {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    Child child;
    child.process = fork();
    REQUIRE(child.process >= 0);
    if (child.process == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(ends[0]);
      body(ends[1]);
      _exit(0);  // not by the way of a group that lost a member
    }
    close(ends[1]);
    child.file = ends[0];
    return child;
  }

  void end() {
    if (process > 0) {
      kill(process, SIGKILL);
      waitpid(process, nullptr, 0);
    }
    if (file >= 0) close(file);
    process = file = -1;
  }
};

/// A TCPStore in a process of its own: it outlives the ranks, as that of a launcher.
class Server {
 public:
  Server() {
    child_ = Child::start([](int pipe) {
      c10d::TCPStoreOptions options;
      options.port = 0;
      options.isServer = true;
      options.waitWorkers = false;
      const auto store = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
      write_all(pipe, std::to_string(store->getPort()) + '\n');
      while (true) pause();
    });
    char c = 0;
    std::string text;
    while (read(child_.file, &c, 1) == 1 && c != '\n') text += c;
    port_ = std::atoi(text.c_str());
    REQUIRE(port_ > 0);
  }
  ~Server() { child_.end(); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const { return port_; }

 private:
  Child child_;
  int port_ = 0;
};

/// "D" and what it returned, or "R" or "E", the ranks, a line's end, and what it threw.
std::string outcome_of(const World& world, const Body& body) {
  try {
    torch::set_num_threads(1);
    return 'D' + body(world);
  } catch (const RankError& error) {
    std::ostringstream text;
    text << 'R';
    for (const int rank : error.ranks()) text << rank << ' ';
    text << '\n' << error.what_without_backtrace();
    return text.str();
  } catch (const c10::Error& error) {
    return std::string("E\n") + error.what_without_backtrace();
  } catch (const std::exception& error) {
    return std::string("E\n") + error.what();
  }
}

Outcome read_outcome(const std::string& text, int status) {
  Outcome outcome;
  if (text.empty()) {
    outcome.what = WIFSIGNALED(status) ? Outcome::kKilled : Outcome::kLate;
    return outcome;
  }
  if (text[0] == 'D') {
    outcome.what = Outcome::kDone;
    outcome.text = text.substr(1);
    return outcome;
  }
  outcome.what = Outcome::kRaised;
  outcome.is_rank_error = text[0] == 'R';
  const std::size_t end = text.find('\n');
  outcome.text = text.substr(end + 1);
  std::istringstream ranks(text.substr(1, end - 1));
  for (int rank = 0; ranks >> rank;) outcome.ranks.push_back(rank);
  return outcome;
}

}  // namespace

std::string name_of(Way way) {
  return way == Way::kGroup ? "ProcessGroup" : way == Way::kTcp ? "TCPStore" : "FileStore";
}

c10::intrusive_ptr<c10d::Store> World::store() const {
  if (way == Way::kFile) return c10::make_intrusive<c10d::FileStore>(folder + "/ranks", size);
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(port);
  options.timeout = std::chrono::seconds(30);
  return c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
}

c10::intrusive_ptr<c10d::ProcessGroup> World::group() const {
  return gloo_group(store(), rank, size);
}

std::shared_ptr<Exchange> World::exchange(std::chrono::milliseconds timeout) const {
  const ExchangeOptions options = ExchangeOptions().timeout(timeout);
  if (way == Way::kGroup) return make_exchange(group(), options);
  return make_exchange(store(), rank, size, options);
}

std::vector<Outcome> launch(int size, Way way, const std::string& folder, const Body& body) {
  const Server server;
  unlink((folder + "/ranks").c_str());
  std::vector<Child> children;
  const Clock::time_point began = Clock::now();
  for (int rank = 0; rank < size; ++rank) {
    const World world = {rank, size, way, folder, server.port()};
    children.push_back(Child::start([&](int pipe) { write_all(pipe, outcome_of(world, body)); }));
  }
  std::vector<std::string> texts(children.size());
  std::vector<Outcome> outcomes(children.size());
  std::vector<pollfd> files;
  for (const Child& child : children) files.push_back({child.file, POLLIN, 0});
  for (std::size_t open = files.size(); open > 0 && Clock::now() - began < kLimit;) {
    poll(files.data(), files.size(), 1000);
    for (std::size_t i = 0; i < files.size(); ++i) {
      if (files[i].fd < 0 || files[i].revents == 0) continue;
      char buffer[1 << 16];
      const ssize_t count = read(files[i].fd, buffer, sizeof buffer);
      if (count > 0) {
        texts[i].append(buffer, static_cast<std::size_t>(count));
        continue;
      }
      files[i].fd = -1;
      --open;
      int status = 0;
      waitpid(children[i].process, &status, 0);
      children[i].process = -1;
      outcomes[i] = read_outcome(texts[i], status);
      outcomes[i].seconds = std::chrono::duration<double>(Clock::now() - began).count();
    }
  }
  for (Child& child : children) child.end();
  return outcomes;
}

std::vector<std::string> run_ranks(int size, Way way, const std::string& folder, const Body& body) {
  std::vector<std::string> found;
  for (const Outcome& outcome : launch(size, way, folder, body)) {
    INFO("rank " << found.size() << " of " << size << " over " << name_of(way) << ": "
                 << outcome.text);
    REQUIRE(static_cast<int>(outcome.what) == static_cast<int>(Outcome::kDone));
    found.push_back(outcome.text);
  }
  return found;
}

}  // namespace infobatch::testing

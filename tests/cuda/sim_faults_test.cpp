// Who notices what: programs that do one wrong thing each (sim_faults.cpp), plain and with
// sanitizers. With INFOBATCH_PRINT_CASES=1 the table is printed.
#include <tests/cuda/sim_kernels.hpp>
#include <tests/support/catch2_shim.hpp>

#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/personality.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

#if defined(INFOBATCH_SIM_FAULTS_ADDRESS)
constexpr const char* kAddress = INFOBATCH_SIM_FAULTS_ADDRESS;
#else
constexpr const char* kAddress = nullptr;
#endif
#if defined(INFOBATCH_SIM_FAULTS_THREAD)
constexpr const char* kThread = INFOBATCH_SIM_FAULTS_THREAD;
#else
constexpr const char* kThread = nullptr;
#endif

/// What runs a program: itself, or where another processor is emulated, the words of the emulator.
std::vector<std::string> words_of(const char* program, const std::string& argument) {
  std::vector<std::string> words;
#if defined(INFOBATCH_SIM_FAULTS_EMULATOR)
  std::istringstream lines(INFOBATCH_SIM_FAULTS_EMULATOR);
  for (std::string word; std::getline(lines, word);) words.push_back(word);
#endif
  words.emplace_back(program);
  words.push_back(argument);
  return words;
}

struct Child {
  int status = -1;
  std::string output;
};
Child run(const char* program, const std::string& argument) {
  std::vector<std::string> words = words_of(program, argument);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
#if defined(__linux__)
    // ThreadSanitizer wants its places in the address space, which random ones may take.
    personality(ADDR_NO_RANDOMIZE);
#endif
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    close(ends[0]);
    close(ends[1]);
    setenv("ASAN_OPTIONS", "exitcode=97:detect_leaks=0", 1);
    setenv("TSAN_OPTIONS", "exitcode=98:halt_on_error=1", 1);
    alarm(120);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  close(ends[1]);
  Child child;
  char part[4096];
  for (ssize_t n = 0; (n = read(ends[0], part, sizeof part)) > 0;) {
    child.output.append(part, static_cast<std::size_t>(n));
  }
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  child.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return child;
}

/// Who has noticed something, in a word; empty: nobody.
std::string noticed_by(const Child& child) {
  if (child.status == 0) return "";
  if (child.status == 97) return "AddressSanitizer";
  if (child.status == 98) return "ThreadSanitizer";
  if (child.status != 3) return "status " + std::to_string(child.status) + ": " + child.output;
  return child.output.substr(0, child.output.find(':'));  // emulation, result or error
}

/// A fault, who has to notice it in which program, and words of what it says. Null: it may go
/// unnoticed.
struct Expected {
  const char *fault, *plain, *address, *thread, *words;
};
constexpr const char *kEmulation = "emulation", *kResult = "result", *kError = "error";
constexpr const char *kAsan = "AddressSanitizer", *kTsan = "ThreadSanitizer";
constexpr Expected kExpected[] = {
    {"missing barrier", kResult, kResult, kTsan, "differs"},
    {"shared memory reused before a barrier", kResult, kResult, kTsan, "differs"},
    {"warp barrier between warps", nullptr, nullptr, kTsan, ""},
    {"race in a block", nullptr, nullptr, kTsan, ""},
    {"race between blocks", nullptr, nullptr, kTsan, ""},
    {"plain write beside atomics", nullptr, nullptr, kTsan, ""},
    {"divergent shuffle", kEmulation, kEmulation, kEmulation, "lane of the mask has ended"},
    {"shuffle after lanes returned",
     kEmulation,
     kEmulation,
     kEmulation,
     "lane of the mask has ended"},
    {"shuffle from a lane outside the mask",
     kEmulation,
     kEmulation,
     kEmulation,
     "outside its mask"},
    {"lane outside its own mask", kEmulation, kEmulation, kEmulation, "outside its own mask"},
    {"lanes wait with different masks", kEmulation, kEmulation, kEmulation, "deadlock"},
    {"lanes in different operations", kEmulation, kEmulation, kEmulation, "different operations"},
    {"barrier in divergent code", kEmulation, kEmulation, kEmulation, "different barriers"},
    {"barrier that ended threads never reach", kEmulation, kEmulation, kEmulation, "never reach"},
    {"endless loop over barriers", kEmulation, kEmulation, kEmulation, "does not end"},
    {"endless loop over atomics", kEmulation, kEmulation, kEmulation, "does not end"},
    {"too much static shared memory", kEmulation, kEmulation, kEmulation, "48 KiB"},
    {"dynamic shared memory not asked for", kError, kError, kError, "InvalidValue"},
    {"dynamic shared memory beyond the device", kError, kError, kError, "InvalidValue"},
    {"empty grid", kError, kError, kError, "InvalidConfiguration"},
    {"block too large", kError, kError, kError, "InvalidConfiguration"},
    {"write behind shared memory", kEmulation, kAsan, kEmulation, "behind the end"},
    {"read behind shared memory", nullptr, kAsan, nullptr, ""},
    {"write behind global memory", kEmulation, kAsan, kEmulation, "behind the allocation"},
    {"read behind global memory", kResult, kAsan, kResult, "differs"},
    {"shared memory without a value", kResult, kResult, kResult, "differs"},
    {"global memory without a value", kResult, kResult, kResult, "differs"},
    {"host reads a copy too early", kResult, kAsan, kResult, "differs"},
    {"host reads managed memory too early", kResult, kResult, kResult, "differs"},
    {"host changes the source of a copy", kEmulation, kEmulation, kEmulation, "changed before"},
    {"copy from a local that is gone", kEmulation, kAsan, kEmulation, "changed before"},
    {"copy into memory that is freed", kEmulation, kEmulation, kTsan, "host"},
    {"use after cudaFreeAsync", kResult, kAsan, kResult, "differs"},
    {"free on another stream, no event", kEmulation, kEmulation, kEmulation, "memory"},
    {"no event between two streams", kResult, kResult, kResult, "differs"},
    {"no event between streams that run at once", nullptr, nullptr, kTsan, ""},
    {"host reads a copy made at once", nullptr, nullptr, kTsan, ""},
    {"kernel is given a host pointer", kEmulation, kEmulation, kEmulation, "no live memory"},
    {"host reads device memory", nullptr, kAsan, nullptr, ""},
    {"leak", kResult, kResult, kResult, "left over"},
    {"memory freed twice", kError, kError, kError, "InvalidValue"},
    {"host waits during a capture", kError, kError, kError, "CaptureInvalidated"},
};

bool print_cases() { return std::getenv("INFOBATCH_PRINT_CASES") != nullptr; }

void check(const Expected& expected) {
  struct Tool {
    const char *program, *must;
    std::string noticed;
  } tools[] = {{INFOBATCH_SIM_FAULTS_NONE, expected.plain, ""},
               {kAddress, expected.address, ""},
               {kThread, expected.thread, ""}};
  for (Tool& tool : tools) {
    if (tool.program == nullptr) {
      tool.noticed = "not built";
      continue;
    }
    const Child child = run(tool.program, expected.fault);
    tool.noticed = noticed_by(child);
    CAPTURE(expected.fault, tool.program, child.status, child.output);
    if (tool.must != nullptr) CHECK(tool.noticed == tool.must);
    if (tool.must == nullptr) CHECK(tool.noticed.empty());
    if (child.status == 3) CHECK(child.output.find(expected.words) != std::string::npos);
  }
  if (!print_cases()) return;
  const auto shown = [](const std::string& text) { return text.empty() ? "-" : text.c_str(); };
  std::printf("  %-42s %-10s %-17s %s\n",
              expected.fault,
              shown(tools[0].noticed),
              shown(tools[1].noticed),
              shown(tools[2].noticed));
}

}  // namespace

TEST_CASE("cuda sim: each fault is noticed by the tool that is named", "[cuda][sim][faults]") {
  if (print_cases()) {
    std::printf("  %-42s %-10s %-17s %s\n", "fault", "plain", "with ASan", "with TSan");
  }
  for (const Expected& expected : kExpected) check(expected);
}

TEST_CASE("cuda sim: the table of faults names all of them", "[cuda][sim][faults]") {
  std::set<std::string> expected;
  for (const Expected& each : kExpected) expected.insert(each.fault);
  std::set<std::string> actual;
  std::string names = run(INFOBATCH_SIM_FAULTS_NONE, "").output;
  for (std::size_t end = 0; (end = names.find('\n')) != std::string::npos;
       names.erase(0, end + 1)) {
    actual.insert(names.substr(0, end));
  }
  CHECK(actual == expected);
}

TEST_CASE("cuda sim: nobody takes a kernel that is right for wrong", "[cuda][sim][faults]") {
  for (const sim_test::Right& right : sim_test::kRight) {
    for (const char* program : {INFOBATCH_SIM_FAULTS_NONE, kAddress, kThread}) {
      if (program == nullptr) continue;
      const Child child = run(program, right.name);
      CAPTURE(right.name, program, child.output);
      CHECK(child.status == 0);
    }
  }
}

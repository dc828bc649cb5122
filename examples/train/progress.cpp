#include <examples/train/progress.hpp>

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <string>

namespace infobatch::train {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr std::size_t kBarCells = 12;

double seconds_now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::size_t terminal_columns(std::FILE* stream) {
  winsize size{};
  if (ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

bool can_redraw(std::FILE* stream) {
  const char* kind = std::getenv("TERM");
  return isatty(fileno(stream)) == 1 && (kind == nullptr || std::string(kind) != "dumb");
}

std::string bar_text(double fraction) {
  const auto full = static_cast<std::size_t>(std::clamp(fraction, 0.0, 1.0) * kBarCells);
  std::string text(full, '#');
  text.append(kBarCells - full, '.');
  return '[' + text + "] ";
}

template <typename... Values>
std::string format(const char* pattern, Values... values) {
  char text[256];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

std::string loss_text(double loss, int digits) {
  return std::isnan(loss) ? "-" : format("%.*f", digits, loss);
}

/// Seconds of training that are left, at the speed so far; nothing at the end.
std::string eta_text(const Run& run) {
  const double done = run.progress();
  if (run.finished() || done <= 0.0) return "";
  return "  ETA " + duration_text(run.figures().time.wall * (1.0 - done) / done);
}

}  // namespace

std::string duration_text(double seconds) {
  const auto total = static_cast<long>(std::lround(std::max(0.0, seconds)));
  if (total < 60) return format("%ld s", total);
  if (total < 3600) return format("%ld min %02ld s", total / 60, total % 60);
  return format("%ld h %02ld min", total / 3600, total / 60 % 60);
}

std::string epoch_line(const Run& run) {
  const Figures& figures = run.figures();
  const EpochFigures& epoch = figures.history.back();
  const std::string line = format("%-19s seed %llu  epoch %lld/%lld  kept %lld  loss %s  ",
                                  figures.arm.c_str(),
                                  static_cast<unsigned long long>(figures.seed),
                                  static_cast<long long>(epoch.epoch + 1),
                                  static_cast<long long>(run.epochs()),
                                  static_cast<long long>(epoch.kept),
                                  loss_text(epoch.loss, 3).c_str());
  return line + format("test %.2f %%  %.1f s", epoch.accuracy, figures.time.wall) + eta_text(run);
}

std::string bar_line(const Run& run) {
  const Figures& figures = run.figures();
  const EpochFigures& epoch = run.epoch_figures();
  const double fraction = run.finished() ? 1.0 : run.progress();
  std::string line =
      format("%-19s %-2llu ", figures.arm.c_str(), static_cast<unsigned long long>(figures.seed)) +
      bar_text(fraction);
  if (run.finished()) {
    return line + format("test %.2f %%  %.1f s", figures.accuracy(), figures.time.wall);
  }
  line += format("%lld/%lld  kept %lld  loss %s",
                 static_cast<long long>(epoch.epoch + 1),
                 static_cast<long long>(run.epochs()),
                 static_cast<long long>(epoch.kept),
                 loss_text(epoch.loss, 2).c_str());
  return line + eta_text(run);
}

Progress::Progress(std::FILE* stream) : stream_(stream), terminal_(can_redraw(stream)) {}

Progress::~Progress() { std::fflush(stream_); }

void Progress::note(const std::string& text) {
  erase();
  std::fprintf(stream_, "%s\n", text.c_str());
  draw();
}

void Progress::update(std::size_t key, const Run& run, bool epoch_ended) {
  if (!terminal_) {
    if (epoch_ended) note(epoch_line(run));
    return;
  }
  const auto same = [key](const Bar& bar) { return bar.key == key; };
  auto bar = std::find_if(bars_.begin(), bars_.end(), same);
  if (bar == bars_.end()) bar = bars_.insert(bars_.end(), {key, ""});
  const double now = seconds_now();
  if (!epoch_ended && !bar->text.empty() && now - last_draw_ < kRedrawSeconds) return;
  last_draw_ = now;
  const std::string text = bar_line(run);
  if (run.finished()) {
    bars_.erase(bar);
    note(text);
  } else {
    bar->text = text;
    erase();
    draw();
  }
}

void Progress::erase() {
  for (; drawn_ > 0; --drawn_) std::fprintf(stream_, "\x1b[1A\x1b[2K");
}

void Progress::draw() {
  const std::size_t columns = terminal_columns(stream_);
  for (const Bar& bar : bars_) {
    // A line that wraps would be two lines to erase.
    std::fprintf(stream_, "%s\n", bar.text.substr(0, columns - 1).c_str());
  }
  drawn_ = bars_.size();
  std::fflush(stream_);
}

}  // namespace infobatch::train

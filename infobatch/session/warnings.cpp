#include <infobatch/detail/annealing.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <infobatch/session/warnings.hpp>

namespace infobatch::detail {
namespace {

std::uint32_t bit(WarningKind kind) { return 1u << static_cast<unsigned>(kind); }

std::string never_prunes(const Config& config) {
  return message("no epoch of this run leaves samples out: epochs = ",
                 config.epochs,
                 ", warmup = ",
                 config.warmup,
                 ", annealing from epoch ",
                 annealing_start(config),
                 " on",
                 config.epochs <= 2 ? " (2 epochs or fewer never prune)" : "");
}

std::string forgotten(const WarningFigures& f, const Wording& wording) {
  return message("all ",
                 f.count,
                 " samples of epoch ",
                 f.epoch,
                 " were delivered and no loss came back, so nothing can be skipped: call ",
                 wording.update,
                 " after the forward pass (the third line)",
                 f.batch > f.of
                     ? message("; or the loader dropped them: drop_last with a batch of ", f.batch)
                     : "");
}

std::string unsound(const WarningFigures& f, const Wording& wording) {
  return message(
      "update: of the ",
      f.of,
      " samples of epoch ",
      f.epoch,
      " the losses of ",
      f.count,
      " were dropped, because they may belong to other samples: the loop broke off, or it "
      "lost a row or a batch, or the loader drops its short last batch and nobody said so, "
      "or it ran further ahead than an epoch that was observed whole. Pass the ids, ",
      wording.update_by_ids,
      wording.ids_hint,
      "; or declare drop_last. Those samples keep their scores. Further ones only show in "
      "the statistics");
}

std::string non_finite(const WarningFigures& f) {
  return message("update: ",
                 f.count,
                 " losses of epoch ",
                 f.epoch,
                 " were NaN or infinite. Their samples count as never observed (kept, weight 1) "
                 "until a finite loss comes; further ones only show in the statistics");
}

std::string shortfall(const WarningFigures& f, const Config& config) {
  return message("target_saved: promised ",
                 f.promised,
                 " of the run's samples, got ",
                 f.got,
                 ": the candidates and max_prune_ratio = ",
                 config.max_prune_ratio,
                 " did not allow more");
}

}  // namespace

void Warnings::found(WarningKind kind, const WarningFigures& figures) noexcept {
  if ((known_ & bit(kind)) != 0) return;
  known_ |= bit(kind);
  pending_ |= bit(kind);
  figures_[static_cast<std::size_t>(kind)] = figures;
}

std::string Warnings::take(const Config& config, const Wording& wording, WarningKind* taken) {
  auto kind = WarningKind::kNeverPrunes;
  while ((pending_ & bit(kind)) == 0) {
    kind = static_cast<WarningKind>(static_cast<unsigned>(kind) + 1);
  }
  const WarningFigures& f = figures_[static_cast<std::size_t>(kind)];
  std::string text;
  switch (kind) {
    case WarningKind::kNeverPrunes:
      text = never_prunes(config);
      break;
    case WarningKind::kForgotten:
      text = forgotten(f, wording);
      break;
    case WarningKind::kUnsound:
      text = unsound(f, wording);
      break;
    case WarningKind::kNonFinite:
      text = non_finite(f);
      break;
    case WarningKind::kShortfall:
      text = shortfall(f, config);
      break;
    case WarningKind::kNotFlushed:
      text =
          "save: the file system cannot flush a file to the disk; the state is written, but a "
          "power "
          "cut may lose it";
      break;
  }
  pending_ &= ~bit(kind);
  if (taken != nullptr) *taken = kind;
  return text;
}

}  // namespace infobatch::detail

#include <infobatch/detail/json.hpp>
#include <infobatch/detail/json_fields.hpp>
#include <infobatch/detail/options.hpp>
#include <infobatch/detail/safetensors.hpp>
#include <infobatch/error.hpp>
#include <infobatch/score.hpp>
#include <infobatch/session/columns.hpp>
#include <infobatch/session/share.hpp>
#include <infobatch/session/state.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

namespace infobatch::detail {
namespace {

constexpr int kSchema = 4;
constexpr std::int64_t kMostSamples = std::int64_t{1} << 61;  // that sums over a run may reach
constexpr int kDeepest = 8;
constexpr const char* kFormat = "infobatch-state";
constexpr const char* kNoChecksum = "0000000000000000";
constexpr std::size_t kHexDigits = 16;
constexpr const char* kPositions = "positions";
constexpr std::string_view kColumnPrefix = "column.";
constexpr std::string_view kPolicyPrefix = "policy.";
constexpr std::string_view kRecordPrefix = "record.";

constexpr const char* kObservedBy[] = {"none", "cursor", "ids"};
constexpr const char* kSplits[] = {"sharded", "global"};
constexpr const char* kPaddings[] = {"pad", "trim"};
constexpr std::int64_t kMostRanks = 1 << 20;

std::string hex(std::uint64_t value) {
  char text[kHexDigits + 1];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

std::int64_t most_epochs(std::int64_t size) {
  return kMostSamples / std::max<std::int64_t>(size, 1);
}

/// The totals as far as they are read again: a state that claims the most there may be is taken,
/// and the run that goes on with it must not write one that is refused.
Totals readable(Totals totals, std::int64_t size) {
  totals.epochs = std::min(totals.epochs, most_epochs(size));
  totals.samples = std::min(totals.samples, kMostSamples);
  totals.pruned = std::min(totals.pruned, totals.samples);
  totals.non_finite = std::min(totals.non_finite, kMostSamples);
  totals.dropped = std::min(totals.dropped, kMostSamples);
  return totals;
}

std::string figures_text(const StateFigures& figures) {
  const Totals totals = readable(figures.totals, figures.size);
  JsonWriter out;
  out.begin_object()
      .member("rule_version", figures.rule_version)
      .member("size", figures.size)
      .key("config")
      .raw(figures.config.to_json())
      .member("epoch", figures.epoch)
      .member("pinned", figures.pinned)
      .member("delivered", figures.delivered);
  out.key("plan");
  if (figures.plan) {
    out.begin_object()
        .member("kept", figures.plan->kept)
        .member("prunes", figures.plan->choice.prunes)
        .member("scale", figures.plan->choice.scale)
        .member("limited", figures.plan->choice.limited)
        .member("fingerprint", hex(figures.plan->fingerprint));
    if (figures.plan->ranks > 1) out.member("ranks", figures.plan->ranks);
    out.end_object();
  } else {
    out.null();
  }
  if (figures.part) {
    out.key("part")
        .begin_object()
        .member("rank", figures.part->ranks.rank)
        .member("ranks", figures.part->ranks.size)
        .member("split", kSplits[static_cast<int>(figures.part->ranks.split)])
        .member("padding", kPaddings[static_cast<int>(figures.part->ranks.padding)])
        .member("origin", figures.part->origin)
        .end_object();
  }
  if (figures.range) {
    out.key("range")
        .begin_object()
        .member("first", figures.range->first)
        .member("total", figures.range->total)
        .end_object();
  }
  out.member("observed_by", kObservedBy[static_cast<int>(figures.by)])
      .member("observed", figures.observed)
      .member("split", figures.split)
      .member("row_batch", figures.row_batch)
      .member("proven", figures.proven)
      .member("lag_batches", figures.lag_batches)
      .member("sure", figures.sure)
      .member("doubt_end", figures.doubt_end)
      .member("non_finite", std::min(figures.non_finite, kMostSamples))
      .member("lent", figures.lent);
  out.key("totals").begin_object().member("epochs", totals.epochs);
  if (totals.samples != totals.epochs * figures.size) out.member("samples", totals.samples);
  out.member("pruned", totals.pruned)
      .member("non_finite", totals.non_finite)
      .member("dropped", totals.dropped)
      .member("known_lag", totals.known_lag)
      .member("known_batch", totals.known_batch)
      .end_object();
  return out.end_object().take();
}

/// What metadata and tensors add up to, so that damage anywhere is noticed.
std::uint64_t checksum(std::string_view figures, const std::vector<std::string_view>& tensors) {
  std::uint64_t sum = fingerprint_of(figures);
  for (const std::string_view tensor : tensors) sum = fingerprint_of(tensor, sum);
  return sum;
}

Totals read_totals(const JsonValue& json, std::int64_t size) {
  Totals totals;
  totals.epochs = get_count(json, "epochs", most_epochs(size));
  totals.samples = totals.epochs * size;
  if (json.find("samples") != nullptr) totals.samples = get_count(json, "samples", kMostSamples);
  totals.pruned = get_count(json, "pruned", totals.samples);
  totals.non_finite = get_count(json, "non_finite", kMostSamples);
  totals.dropped = get_count(json, "dropped", kMostSamples);
  totals.known_lag = get<std::int64_t>(json, "known_lag");
  totals.known_batch = get_count(json, "known_batch", INT64_MAX);
  if (totals.known_lag < -1 || totals.known_lag > size) {
    throw JsonError(message("known_lag = ", totals.known_lag));
  }
  return totals;
}

std::uint64_t read_hex(const JsonValue& json, const char* key) {
  const auto text = get<std::string>(json, key);
  std::uint64_t value = 0;
  for (const char c : text) {
    const char* const digits = "0123456789abcdef";
    const char* const at = c == '\0' ? nullptr : std::strchr(digits, c);
    if (at == nullptr || text.size() != kHexDigits)
      throw JsonError(message(key, " = ", in_quotes(text)));
    value = value << 4 | static_cast<std::uint64_t>(at - digits);
  }
  if (text.size() != kHexDigits) throw JsonError(message(key, " = ", in_quotes(text)));
  return value;
}

StateFigures::PlanFigures read_plan(const JsonValue& json, std::int64_t size) {
  StateFigures::PlanFigures plan;
  plan.kept = get_count(json, "kept", size);
  plan.choice.prunes = get<bool>(json, "prunes");
  plan.choice.scale = get<double>(json, "scale");
  plan.choice.limited = get<bool>(json, "limited");
  plan.fingerprint = read_hex(json, "fingerprint");
  if (json.find("ranks") != nullptr) {
    plan.ranks = static_cast<int>(get_count(json, "ranks", kMostRanks));
    if (plan.ranks < 1) throw JsonError(message("ranks = ", plan.ranks));
  }
  return plan;
}

/// One of a few words.
template <typename T, std::size_t kCount>
T read_word(const JsonValue& json, const char* key, const char* const (&words)[kCount]) {
  const auto text = get<std::string>(json, key);
  for (std::size_t i = 0; i < kCount; ++i) {
    if (text == words[i]) return static_cast<T>(i);
  }
  throw JsonError(message(key, " = ", in_quotes(text)));
}

StateFigures::PartFigures read_part(const JsonValue& json, std::int64_t kept) {
  StateFigures::PartFigures part;
  part.ranks.size = static_cast<int>(get_count(json, "ranks", kMostRanks));
  part.ranks.rank = static_cast<int>(get_count(json, "rank", kMostRanks));
  if (part.ranks.rank >= part.ranks.size) {
    throw JsonError(message("rank = ", part.ranks.rank, " of ", part.ranks.size));
  }
  part.ranks.split = read_word<Split>(json, "split", kSplits);
  part.ranks.padding = read_word<Padding>(json, "padding", kPaddings);
  part.origin = get_count(json, "origin", kept);
  return part;
}

StateFigures::RangeFigures read_range(const JsonValue& json, std::int64_t size) {
  const JsonValue& given = get_object(json, "range");
  StateFigures::RangeFigures range;
  range.total = get_count(given, "total", kMaxTable);
  range.first = get_count(given, "first", range.total);
  if (size > range.total - range.first) throw JsonError(message("first = ", range.first));
  return range;
}

/// Rows of the share of a part; of a whole state the samples of the plan.
std::int64_t rows_of(const StateFigures& figures) {
  const std::int64_t kept = figures.plan ? figures.plan->kept : 0;
  if (!figures.part || figures.part->ranks.split == Split::kGlobal) return kept;
  return Deal(figures.part->ranks, kept, figures.part->origin).rows();
}

StateFigures read_figures(const std::string& text) {
  const JsonValue json = parse_json(text, kDeepest);
  if (!json.is_object()) throw JsonError("metadata without a state");
  StateFigures figures;
  figures.size = get_count(json, "size", kMaxSize);
  figures.rule_version = static_cast<int>(get_count(json, "rule_version", INT32_MAX));
  figures.config = Config::from_json(to_text(get_object(json, "config")));
  figures.epoch = get_count(json, "epoch", kMaxEpochs);
  figures.pinned = get<bool>(json, "pinned");
  figures.delivered = get<bool>(json, "delivered");
  const JsonValue& plan = get_value(json, "plan");
  if (plan.is_object()) {
    figures.plan = read_plan(plan, figures.size);
  } else if (plan.kind != JsonValue::Kind::kNull) {
    throw JsonError(message("plan = ", in_quotes(plan)));
  }
  const std::int64_t kept = figures.plan ? figures.plan->kept : 0;
  if (json.find("part") != nullptr) figures.part = read_part(get_object(json, "part"), kept);
  if (json.find("range") != nullptr) figures.range = read_range(json, figures.size);
  figures.by = read_word<ObservedBy>(json, "observed_by", kObservedBy);
  figures.observed = get_count(json, "observed", rows_of(figures));
  figures.split = get<bool>(json, "split");
  figures.row_batch = get_count(json, "row_batch", figures.size);
  figures.proven = get_count(json, "proven", figures.observed);
  figures.lag_batches = get_count(json, "lag_batches", figures.size);
  figures.sure = get_count(json, "sure", figures.observed);
  figures.doubt_end = get_count(json, "doubt_end", figures.observed);
  figures.non_finite = get_count(json, "non_finite", kMostSamples);
  figures.lent = get<bool>(json, "lent");
  figures.totals = read_totals(get_object(json, "totals"), figures.size);
  if (figures.by != ObservedBy::kNone && !figures.plan) throw JsonError("losses without a plan");
  if (figures.by == ObservedBy::kNone && figures.observed > 0) {
    throw JsonError(message("observed = ", figures.observed, " of an epoch without losses"));
  }
  // Each loss counts once, but by ids, where it may come again; lent ones are counted later.
  const std::int64_t most = figures.lent ? 0 : figures.observed;
  if (figures.non_finite > most && (figures.lent || figures.by != ObservedBy::kIds)) {
    throw JsonError(message("non_finite = ", figures.non_finite));
  }
  if (figures.delivered && (!figures.plan || figures.by != ObservedBy::kNone)) {
    throw JsonError("an epoch that was delivered and observed");
  }
  return figures;
}

/// Scores and staged losses are finite or one of the reserved patterns.
void check_floats(std::string_view bytes, const char* name, bool may_be_unseen) {
  for (std::size_t i = 0; i * sizeof(float) < bytes.size(); ++i) {
    float value;
    std::memcpy(&value, bytes.data() + i * sizeof(float), sizeof value);
    if (is_finite(value) || float_bits(value) == kNeverObservedBits) continue;
    if (may_be_unseen && is_unseen(value)) continue;
    damaged(message("a non-finite value in ", name, " at ", i));
  }
}

std::int64_t count_seen(std::string_view staged) {
  std::int64_t seen = 0;
  for (std::size_t i = 0; i * sizeof(float) < staged.size(); ++i) {
    float value;
    std::memcpy(&value, staged.data() + i * sizeof(float), sizeof value);
    seen += is_unseen(value) ? 0 : 1;
  }
  return seen;
}

std::int64_t position_at(const StateContent& content, std::size_t row) {
  std::int64_t position;
  std::memcpy(&position, content.positions.data() + row * sizeof position, sizeof position);
  return position;
}

float staged_at(const StateContent& content, std::size_t row) {
  float loss;
  std::memcpy(&loss, content.staged.data() + row * sizeof loss, sizeof loss);
  return loss;
}

void check_record(const StateContent& content) {
  if (content.record.empty()) return;
  for (const char* const name : kRecordNames) {
    const StateColumn* const column = find_column(content.record, name);
    if (column == nullptr || column->dtype != "I32" || content.record.size() != 2) {
      damaged("another record than times_kept and last_kept");
    }
    for (std::int64_t i = 0; i < column->count; ++i) {
      std::int32_t value;
      std::memcpy(
          &value, column->bytes.data() + static_cast<std::size_t>(i) * sizeof value, sizeof value);
      if (value < kNeverKept) damaged(message(name, " = ", value, " at ", i));
    }
  }
}

void check_tensors(const StateContent& content) {
  const StateFigures& figures = content.figures;
  const auto count = [](std::string_view bytes) {
    return static_cast<std::int64_t>(bytes.size() / sizeof(float));
  };
  const bool lacks_scores = figures.part && content.scores.empty();
  if (count(content.scores) != figures.size && !lacks_scores) {
    damaged(message(count(content.scores), " scores for ", figures.size, " samples"));
  }
  const bool by_ids = figures.by == ObservedBy::kIds;
  const std::int64_t staged = by_ids ? rows_of(figures) : figures.observed;
  if (count(content.staged) != staged) {
    damaged(message(count(content.staged), " losses for ", staged));
  }
  check_floats(content.scores, "scores", /*may_be_unseen=*/false);
  check_floats(content.staged, "staged", by_ids || figures.lent);
  if (by_ids && count_seen(content.staged) != figures.observed) {
    damaged(message(count_seen(content.staged), " losses for ", figures.observed));
  }
  const std::size_t positions = by_ids && figures.part ? static_cast<std::size_t>(staged) : 0;
  if (content.positions.size() != positions * sizeof(std::int64_t)) {
    damaged(message(content.positions.size(), " bytes of positions for ", positions));
  }
  for (std::size_t row = 0; row < positions; ++row) {
    const std::int64_t position = position_at(content, row);
    if (position < -1 || position >= figures.plan->kept) {
      damaged(message("position ", position, " of ", figures.plan->kept));
    }
  }
  for (const auto* columns : {&content.columns, &content.policy, &content.record}) {
    for (const StateColumn& column : *columns) {
      if (column.count == figures.size) continue;
      damaged(message(column.count, " values of column ", column.name));
    }
  }
  for (const StateColumn& column : content.policy) {
    if (column.dtype != "F32") damaged(message("column ", column.name, " of ", column.dtype));
    check_floats(column.bytes, column.name.c_str(), /*may_be_unseen=*/false);
  }
  check_record(content);
}

}  // namespace

const StateColumn* find_column(const std::vector<StateColumn>& columns, std::string_view name) {
  for (const StateColumn& column : columns) {
    if (column.name == name) return &column;
  }
  return nullptr;
}

void damaged(const std::string& what) {
  throw FileError("load: the state must be whole, got " + what);
}

std::string write_state(const StateFigures& figures, const std::vector<StateTensor>& tensors) {
  const std::string text = figures_text(figures);
  SafeTensors content;
  content.metadata = {{"format", kFormat},
                      {"schema", message(kSchema)},
                      {"state", text},
                      {"checksum", kNoChecksum}};
  std::size_t data_bytes = 0;
  for (const StateTensor& tensor : tensors) {
    content.tensors.push_back({tensor.name, tensor.dtype, {tensor.count}, tensor.bytes});
    data_bytes += tensor.bytes.size();
  }
  std::string bytes = write_safetensors(content);
  // What differs from memory is changed in the copy, and then added up.
  std::size_t offset = bytes.size() - data_bytes;
  const std::string_view header = std::string_view(bytes).substr(0, offset);
  std::vector<std::string_view> parts;
  for (const StateTensor& tensor : tensors) {
    char* const copy = bytes.data() + offset;
    if (tensor.patch) tensor.patch(copy);
    parts.emplace_back(copy, tensor.bytes.size());
    offset += tensor.bytes.size();
  }
  const std::size_t place = header.find(kNoChecksum);
  const std::string sum = hex(checksum(text, parts));
  std::copy(sum.begin(), sum.end(), bytes.begin() + static_cast<std::ptrdiff_t>(place));
  return bytes;
}

StateContent read_state(std::string_view bytes) {
  const SafeTensors file = read_safetensors(bytes);
  const auto meta = [&](const char* key) {
    const auto it = file.metadata.find(key);
    return it == file.metadata.end() ? std::string() : it->second;
  };
  if (meta("format") != kFormat) damaged("a safetensors file of another program");
  if (meta("schema") != message(kSchema)) {
    throw InvalidArgument(message("load: schema must be ",
                                  kSchema,
                                  ", that of this version; older and newer states are not read; "
                                  "got ",
                                  in_quotes(meta("schema"))));
  }
  StateContent content;
  content.scores = file.vector("scores", "F32").data;
  content.staged = file.vector("staged", "F32").data;
  std::vector<std::string_view> parts;
  const auto starts = [](const std::string& name, std::string_view prefix) {
    return name.compare(0, prefix.size(), prefix) == 0;
  };
  for (const TensorView& tensor : file.tensors) {
    parts.push_back(tensor.data);
    const std::pair<std::string_view, std::vector<StateColumn>*> kinds[] = {
        {kPolicyPrefix, &content.policy},
        {kRecordPrefix, &content.record},
        {kColumnPrefix, &content.columns}};
    for (const auto& [prefix, columns] : kinds) {
      if (!starts(tensor.name, prefix)) continue;
      if (tensor.shape.size() != 1) damaged("a column that is no vector");
      columns->push_back(
          {tensor.name.substr(prefix.size()), tensor.dtype, tensor.data, tensor.shape[0]});
    }
  }
  const bool has_positions =
      std::any_of(file.tensors.begin(), file.tensors.end(), [](const TensorView& tensor) {
        return tensor.name == kPositions;
      });
  if (has_positions) content.positions = file.vector(kPositions, "I64").data;
  const std::size_t own = has_positions ? 3 : 2;
  if (parts.size() !=
      content.columns.size() + content.policy.size() + content.record.size() + own) {
    damaged("tensors that no state has");
  }
  if (meta("checksum") != hex(checksum(meta("state"), parts))) {
    damaged("another checksum than the one it was written with");
  }
  try {
    content.figures = read_figures(meta("state"));
  } catch (const JsonError& error) {
    damaged(error.what());
  }
  check_tensors(content);
  return content;
}

namespace {

/// What all parts of a state have in common.
std::string common_text(const StateFigures& figures) {
  StateFigures common = figures;
  common.part->ranks.rank = 0;
  common.observed = common.row_batch = common.proven = common.lag_batches = 0;
  common.sure = common.doubt_end = common.non_finite = 0;
  common.split = common.lent = common.delivered = false;
  common.totals.known_lag = common.totals.known_batch = 0;
  return figures_text(common);
}

std::string place_text(const StateFigures& figures) {
  return message("rank ",
                 figures.part->ranks.rank,
                 " of ",
                 figures.part->ranks.size,
                 " at epoch ",
                 figures.epoch,
                 ", ",
                 figures.observed,
                 " rows observed (",
                 kObservedBy[static_cast<int>(figures.by)],
                 ")");
}

/// The parts by rank, complete.
std::vector<const StateContent*> by_rank(const std::vector<StateContent>& parts) {
  if (parts.empty())
    throw InvalidArgument("join_parts: there must be a part of each rank, got none");
  for (const StateContent& part : parts) {
    if (part.figures.part) continue;
    throw InvalidArgument("join_parts: parts must be those of ranks, got a whole state");
  }
  const StateFigures& first = parts.front().figures;
  std::vector<const StateContent*> sorted(static_cast<std::size_t>(first.part->ranks.size));
  std::vector<std::string> wrong;
  for (const StateContent& part : parts) {
    const auto rank = static_cast<std::size_t>(part.figures.part->ranks.rank);
    if (common_text(part.figures) != common_text(first)) {
      wrong.push_back(message("parts of different runs, plans or steps: ",
                              place_text(first),
                              "; ",
                              place_text(part.figures)));
    } else if (sorted[rank] != nullptr) {
      wrong.push_back(message("rank ", rank, " twice"));
    } else {
      sorted[rank] = &part;
    }
  }
  if (wrong.empty()) {
    for (std::size_t rank = 0; rank < sorted.size(); ++rank) {
      if (sorted[rank] == nullptr) wrong.push_back(message("none of rank ", rank));
    }
  }
  if (!wrong.empty()) {
    throw InvalidArgument(message("join_parts: there must be one part of each of ",
                                  sorted.size(),
                                  " ranks, all of one step, got ",
                                  join(wrong, "; ")));
  }
  return sorted;
}

/// In order: rows of shares become a prefix of the plan.
void join_rows(const std::vector<const StateContent*>& parts, JoinedParts& joined) {
  const StateFigures& first = parts.front()->figures;
  const Deal deal(first.part->ranks, first.plan->kept, first.part->origin);
  StateFigures& all = joined.figures;
  all.observed = deal.places_before(first.observed);
  all.proven = all.sure = all.observed;
  for (const StateContent* const content : parts) {
    const StateFigures& part = content->figures;
    if (part.observed != first.observed) {
      throw InvalidArgument(message("join_parts: all ranks must be at the same step, got ",
                                    place_text(first),
                                    "; ",
                                    place_text(part)));
    }
    all.proven = std::min(all.proven, deal.places_before(part.proven));
    all.sure = std::min(all.sure, deal.places_before(part.sure));
    all.doubt_end = std::max(all.doubt_end, deal.places_before(part.doubt_end));
    all.lag_batches = std::max(all.lag_batches, part.lag_batches);
    if (part.row_batch != first.row_batch) all.row_batch = 0;
  }
  joined.staged.assign(static_cast<std::size_t>(all.observed), unseen());
  for (std::size_t rank = 0; rank < parts.size(); ++rank) {
    for (std::int64_t row = 0; row < first.observed; ++row) {
      const std::int64_t place = deal.place(static_cast<std::int64_t>(rank), row);
      if (place < 0) continue;
      joined.staged[static_cast<std::size_t>(place)] =
          staged_at(*parts[rank], static_cast<std::size_t>(row));
    }
  }
}

/// By ids: every loss has its position. Where several ranks had one, the largest counts, as in an
/// exchange.
void join_positions(const std::vector<const StateContent*>& parts, JoinedParts& joined) {
  joined.staged.assign(static_cast<std::size_t>(joined.figures.plan->kept), unseen());
  for (const StateContent* part : parts) {
    const std::size_t rows = part->positions.size() / sizeof(std::int64_t);
    for (std::size_t row = 0; row < rows; ++row) {
      const std::int64_t position = position_at(*part, row);
      if (position < 0) continue;
      float& there = joined.staged[static_cast<std::size_t>(position)];
      const float loss = staged_at(*part, row);
      if (ordered_bits(loss) > ordered_bits(there)) there = loss;
    }
  }
  joined.figures.observed = std::count_if(
      joined.staged.begin(), joined.staged.end(), [](float f) { return !is_unseen(f); });
}

}  // namespace

JoinedParts join_parts(const std::vector<StateContent>& parts) {
  const std::vector<const StateContent*> sorted = by_rank(parts);
  JoinedParts joined;
  joined.figures = sorted.front()->figures;
  StateFigures& all = joined.figures;
  all.part.reset();
  std::int64_t non_finite = 0;
  for (const StateContent* part : sorted) {
    const StateFigures& figures = part->figures;
    all.split = all.split || figures.split;
    all.lent = all.lent || figures.lent;
    all.delivered = all.delivered && figures.delivered;
    non_finite += figures.non_finite;
    if (figures.totals.known_lag != all.totals.known_lag ||
        figures.totals.known_batch != all.totals.known_batch) {
      all.totals.known_lag = -1;
      all.totals.known_batch = 0;
    }
    const bool has_scores = !part->scores.empty() || figures.size == 0;
    if (has_scores && joined.with_scores == nullptr) joined.with_scores = part;
  }
  if (all.by == ObservedBy::kOrder) join_rows(sorted, joined);
  if (all.by == ObservedBy::kIds) join_positions(sorted, joined);
  all.non_finite = all.lent ? 0 : std::min(non_finite, all.observed);
  return joined;
}

void compare_configs(const Config& saved,
                     const Config& own,
                     std::vector<std::string>& refused,
                     std::vector<std::string>& changed) {
  for (const Option* option : all_options()) {
    const std::string before = option_json(saved, *option);
    const std::string now = option_json(own, *option);
    if (before == now) continue;
    (option->may_change ? changed : refused)
        .push_back(message(option->name, ": ", before, " -> ", now));
  }
}

}  // namespace infobatch::detail

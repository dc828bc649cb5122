#include <infobatch/c_api.h>
#include <infobatch/error.hpp>
#include <infobatch/policy.hpp>
#include <infobatch/session.hpp>
#include <infobatch/version.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

using infobatch::InvalidArgument;
using infobatch::detail::message;

namespace {

/// The engine's text with the names that a C program knows the same things by.
std::string in_c_names(std::string text) {
  static constexpr const char* kNames[][2] = {
      {", with Indexed(dataset) putting them into the batch", ""},
      {"update(losses, ids)", "ib_session_observe_ids"},
      {"update(losses)", "ib_session_update"},
      {"discard_epoch()", "ib_session_discard_epoch"}};
  for (const auto& name : kNames) {
    const std::size_t at = text.find(name[0]);
    if (at != std::string::npos) text.replace(at, std::strlen(name[0]), name[1]);
  }
  return text;
}

void print_warning(const std::string& text) {
  std::fprintf(stderr, "infobatch: warning: %s\n", in_c_names(text).c_str());
}

}  // namespace

struct ib_session {
  ib_session(std::int64_t size, infobatch::Config config, int threads)
      : session(size, std::move(config), threads), config_json(session.config().to_json()) {
    session.set_warning_handler(print_warning);
  }

  infobatch::Session session;
  std::string config_json;
  std::string state;                            // what ib_session_serialize lent out
  std::string report;                           // what the last load found
  std::shared_ptr<const infobatch::Plan> lent;  // keeps the last slice's arrays alive
};

struct ib_plan {
  std::shared_ptr<const infobatch::Plan> plan;
};

namespace {

std::string& last_error() {
  thread_local std::string text;
  return text;
}

/// The engine's text under the name of the C function. Only what it says of the state of a session
/// names other functions; elsewhere there may be the caller's own words in it, a path for example.
ib_status fail(ib_status status, const char* function, const char* text) noexcept {
  try {
    // The engine's messages begin with the name of its own function.
    const char* behind = std::strstr(text, ": ");
    const char* space = std::strchr(text, ' ');
    const char* told = behind != nullptr && behind < space ? behind + 2 : text;
    std::string whole = message(function, ": ", told);
    last_error() = status == IB_STATE_ERROR ? in_c_names(std::move(whole)) : std::move(whole);
  } catch (...) {  // no memory for the text; the status still tells
  }
  return status;
}

/// Runs `body` and turns what it throws into a status; nothing passes into C.
template <typename Body>
ib_status guarded(const char* function, const Body& body) noexcept {
  try {
    body();
    return IB_OK;
  } catch (const infobatch::InvalidArgument& error) {
    return fail(IB_INVALID_ARGUMENT, function, error.what());
  } catch (const infobatch::IndexError& error) {
    return fail(IB_INDEX_ERROR, function, error.what());
  } catch (const infobatch::StateError& error) {
    return fail(IB_STATE_ERROR, function, error.what());
  } catch (const infobatch::FileError& error) {
    return fail(IB_FILE_ERROR, function, error.what());
  } catch (const std::bad_alloc&) {
    return fail(IB_OUT_OF_MEMORY, function, "out of memory");
  } catch (const std::exception& error) {
    return fail(IB_INTERNAL_ERROR, function, error.what());
  } catch (...) {
    return fail(IB_INTERNAL_ERROR, function, "unknown error");
  }
}

void require(const void* pointer, const char* function, const char* name) {
  if (pointer == nullptr) throw InvalidArgument(message(function, ": ", name, " must not be NULL"));
}

std::string text_or(const char* text, const std::string& fallback) {
  return text == nullptr ? fallback : std::string(text);
}

/// @throws InvalidArgument  before more is read than a config can hold.
std::vector<double> list_or(const char* function,
                            const char* name,
                            const double* values,
                            size_t count,
                            std::vector<double> fallback) {
  constexpr size_t kMost = 14;
  if (values == nullptr) return fallback;
  if (count > kMost) {
    throw InvalidArgument(
        message(function, ": ", name, " must be at most ", kMost, " values, got ", count));
  }
  return std::vector<double>(values, values + count);
}

bool flag(const char* function, const char* name, int32_t value) {
  if (value != 0 && value != 1) {
    throw InvalidArgument(message(function, ": ", name, " must be 0 or 1, got ", value));
  }
  return value == 1;
}

/// Size of ib_config in the first version of the header; later fields follow it.
constexpr size_t kFirstConfigSize = offsetof(ib_config, score_ema) + sizeof(double);

infobatch::Config to_config(const ib_config* given, const char* function) {
  require(given, function, "config");
  if (given->struct_size < kFirstConfigSize || given->struct_size > 4096) {
    throw InvalidArgument(message(function,
                                  ": config must be set up by ib_config_init, got "
                                  "struct_size ",
                                  given->struct_size));
  }
  // Fields that the caller's header did not have yet keep their defaults.
  ib_config full;
  ib_config_init(&full, sizeof full);
  std::memcpy(&full, given, std::min(sizeof full, given->struct_size));
  const ib_config* config = &full;
  infobatch::Config result;
  result.epochs = config->epochs;
  result.prune_ratio = config->prune_ratio;
  result.delta = config->delta;
  result.warmup = config->warmup;
  result.seed = config->seed;
  result.policy = text_or(config->policy, result.policy);
  result.keep = text_or(config->keep, result.keep);
  result.rescale = flag(function, "rescale", config->rescale);
  if (flag(function, "has_target_saved", config->has_target_saved))
    result.target_saved = config->target_saved;
  result.max_prune_ratio = config->max_prune_ratio;
  result.quantiles =
      list_or(function, "quantiles", config->quantiles, config->quantiles_count, result.quantiles);
  result.quantile_keep = list_or(function,
                                 "quantile_keep",
                                 config->quantile_keep,
                                 config->quantile_keep_count,
                                 result.quantile_keep);
  result.score_ema = config->score_ema;
  return result;
}

/// The config in the text. What is wrong with the size and the threads is told together with it.
infobatch::Config read_config(const char* json, int64_t size, int32_t threads) {
  try {
    return infobatch::Config::from_json(json);
  } catch (const InvalidArgument& error) {
    std::vector<std::string> found = infobatch::Session::problems(size, threads);
    found.insert(found.begin(), error.what());
    throw InvalidArgument(infobatch::detail::join(found, "; "));
  }
}

void view(ib_session* session, infobatch::Slice slice, ib_slice* out) {
  const bool any = slice.plan != nullptr;
  *out = ib_slice{
      any ? slice.ids() : nullptr, any ? slice.weights() : nullptr, slice.begin, slice.count};
  if (slice.plan != session->lent) session->lent = std::move(slice.plan);
}

std::string lines(const std::vector<std::string>& changes) {
  return infobatch::detail::join(changes, "\n");
}

}  // namespace

extern "C" {

int32_t ib_abi_version(void) { return IB_ABI_VERSION; }

const char* ib_version(void) { return INFOBATCH_VERSION; }

const char* ib_last_error(void) { return last_error().c_str(); }

const char* const* ib_policy_names(void) {
  static const std::vector<std::string> names = infobatch::policy_names();
  static const std::vector<const char*> pointers = [] {
    std::vector<const char*> all;
    for (const std::string& name : names) all.push_back(name.c_str());
    all.push_back(nullptr);
    return all;
  }();
  return pointers.data();
}

void ib_config_init(ib_config* config, size_t struct_size) {
  if (config == nullptr) return;
  const infobatch::Config defaults;
  ib_config full{};
  full.struct_size = struct_size;
  full.epochs = defaults.epochs;
  full.prune_ratio = defaults.prune_ratio;
  full.delta = defaults.delta;
  full.warmup = defaults.warmup;
  full.seed = defaults.seed;
  full.policy = "infobatch";
  full.keep = "bernoulli";
  full.rescale = defaults.rescale ? 1 : 0;
  full.max_prune_ratio = defaults.max_prune_ratio;
  full.score_ema = defaults.score_ema;
  std::memset(config, 0, struct_size);
  std::memcpy(config, &full, std::min(sizeof full, struct_size));
}

ib_status ib_config_validate(const ib_config* config) {
  return guarded(__func__, [&] { to_config(config, "ib_config_validate").validate(); });
}

ib_status ib_session_create(int64_t size,
                            const ib_config* config,
                            int32_t threads,
                            ib_session** session) {
  return guarded(__func__, [&] {
    require(session, "ib_session_create", "session");
    *session = new ib_session(size, to_config(config, "ib_session_create"), threads);
  });
}

ib_status ib_session_create_json(int64_t size,
                                 const char* config_json,
                                 int32_t threads,
                                 ib_session** session) {
  return guarded(__func__, [&] {
    require(session, "ib_session_create_json", "session");
    require(config_json, "ib_session_create_json", "config_json");
    *session = new ib_session(size, read_config(config_json, size, threads), threads);
  });
}

void ib_session_destroy(ib_session* session) { delete session; }

ib_status ib_session_config_json(ib_session* session, const char** json) {
  return guarded(__func__, [&] {
    require(session, "ib_session_config_json", "session");
    require(json, "ib_session_config_json", "json");
    *json = session->config_json.c_str();
  });
}

ib_status ib_session_set_warning_handler(ib_session* session,
                                         ib_warning_handler handler,
                                         void* user_data) {
  return guarded(__func__, [&] {
    require(session, "ib_session_set_warning_handler", "session");
    if (handler == nullptr) {
      session->session.set_warning_handler(print_warning);
    } else {
      session->session.set_warning_handler(
          [=](const std::string& text) { handler(in_c_names(text).c_str(), user_data); });
    }
  });
}

ib_status ib_session_size(const ib_session* session, int64_t* size) {
  return guarded(__func__, [&] {
    require(session, "ib_session_size", "session");
    require(size, "ib_session_size", "size");
    *size = session->session.size();
  });
}

ib_status ib_session_epoch(const ib_session* session, int64_t* epoch) {
  return guarded(__func__, [&] {
    require(session, "ib_session_epoch", "session");
    require(epoch, "ib_session_epoch", "epoch");
    *epoch = session->session.epoch();
  });
}

ib_status ib_session_set_epoch(ib_session* session, int64_t epoch) {
  return guarded(__func__, [&] {
    require(session, "ib_session_set_epoch", "session");
    session->session.set_epoch(epoch);
  });
}

ib_status ib_session_length(ib_session* session, int64_t* length) {
  return guarded(__func__, [&] {
    require(session, "ib_session_length", "session");
    require(length, "ib_session_length", "length");
    *length = session->session.length();
  });
}

ib_status ib_session_plan(ib_session* session, ib_plan** plan) {
  return guarded(__func__, [&] {
    require(session, "ib_session_plan", "session");
    require(plan, "ib_session_plan", "plan");
    *plan = new ib_plan{session->session.plan()};
  });
}

ib_status ib_session_discard_epoch(ib_session* session) {
  return guarded(__func__, [&] {
    require(session, "ib_session_discard_epoch", "session");
    session->session.discard_epoch();
  });
}

ib_status ib_session_begin(ib_session* session) {
  return guarded(__func__, [&] {
    require(session, "ib_session_begin", "session");
    session->lent.reset();  // so that the finished plan's memory serves the next one
    session->session.begin();
  });
}

ib_status ib_session_next(ib_session* session, int64_t count, ib_slice* slice) {
  return guarded(__func__, [&] {
    require(session, "ib_session_next", "session");
    require(slice, "ib_session_next", "slice");
    view(session, session->session.next(count), slice);
  });
}

ib_status ib_session_observe(ib_session* session,
                             const float* losses,
                             int64_t count,
                             ib_slice* slice) {
  return guarded(__func__, [&] {
    require(session, "ib_session_observe", "session");
    infobatch::Slice observed = session->session.observe(losses, count);
    if (slice != nullptr) view(session, std::move(observed), slice);
  });
}

ib_status ib_session_observe_ids(
    ib_session* session, const float* losses, const int64_t* ids, int64_t count, float* weights) {
  return guarded(__func__, [&] {
    require(session, "ib_session_observe_ids", "session");
    session->session.observe_ids(losses, ids, count, weights);
  });
}

ib_status ib_session_update(
    ib_session* session, const float* losses, int64_t count, int32_t reduction, float* out) {
  return guarded(__func__, [&] {
    require(session, "ib_session_update", "session");
    infobatch::Reduction chosen = infobatch::Reduction::kMean;
    switch (reduction) {
      case IB_MEAN:
        break;
      case IB_SUM:
        chosen = infobatch::Reduction::kSum;
        break;
      case IB_NONE:
        chosen = infobatch::Reduction::kNone;
        break;
      case IB_WEIGHTED_MEAN:
        chosen = infobatch::Reduction::kWeightedMean;
        break;
      default:
        throw InvalidArgument(
            message("ib_session_update: reduction must be IB_MEAN, IB_SUM, "
                    "IB_NONE or IB_WEIGHTED_MEAN, got ",
                    reduction));
    }
    session->session.update(losses, count, chosen, out);
  });
}

ib_status ib_session_progress(const ib_session* session, double* progress) {
  return guarded(__func__, [&] {
    require(session, "ib_session_progress", "session");
    require(progress, "ib_session_progress", "progress");
    *progress = session->session.progress();
  });
}

ib_status ib_session_position(const ib_session* session, int64_t* position) {
  return guarded(__func__, [&] {
    require(session, "ib_session_position", "session");
    require(position, "ib_session_position", "position");
    *position = session->session.position();
  });
}

ib_status ib_session_max_steps(const ib_session* session, int64_t batch_size, int64_t* steps) {
  return guarded(__func__, [&] {
    require(session, "ib_session_max_steps", "session");
    require(steps, "ib_session_max_steps", "steps");
    *steps = session->session.max_steps(batch_size);
  });
}

ib_status ib_session_scores(const ib_session* session, const float** scores) {
  return guarded(__func__, [&] {
    require(session, "ib_session_scores", "session");
    require(scores, "ib_session_scores", "scores");
    *scores = session->session.scores();
  });
}

ib_status ib_session_statistics(const ib_session* session, ib_statistics* statistics) {
  return guarded(__func__, [&] {
    require(session, "ib_session_statistics", "session");
    require(statistics, "ib_session_statistics", "statistics");
    if (statistics->struct_size < sizeof(size_t) || statistics->struct_size > 4096) {
      throw InvalidArgument(
          message("ib_session_statistics: struct_size must be sizeof "
                  "(ib_statistics), got ",
                  statistics->struct_size));
    }
    const infobatch::Statistics s = session->session.statistics();
    ib_statistics all{};
    all.struct_size = statistics->struct_size;
    all.epoch = s.epoch;
    all.size = s.size;
    all.planned = s.planned ? 1 : 0;
    all.prunes = s.prunes ? 1 : 0;
    all.kept = s.kept;
    all.pruned = s.pruned;
    all.candidates = s.candidates;
    all.prune_ratio = s.prune_ratio;
    all.observed = s.observed;
    all.mean_score = s.mean_score;
    all.samples_full = s.samples_full;
    all.samples_planned = s.samples_planned;
    all.saved = s.saved;
    all.promised_saved = s.promised_saved.value_or(std::numeric_limits<double>::quiet_NaN());
    all.actual_saved = s.actual_saved;
    all.non_finite_epoch = s.non_finite_epoch;
    all.non_finite_total = s.non_finite_total;
    // A caller with an older, shorter struct receives the part that it knows.
    std::memcpy(statistics, &all, std::min(sizeof all, statistics->struct_size));
  });
}

ib_status ib_session_save(ib_session* session, const char* path) {
  return guarded(__func__, [&] {
    require(session, "ib_session_save", "session");
    require(path, "ib_session_save", "path");
    session->session.save(path);
  });
}

ib_status ib_session_load(ib_session* session, const char* path, const char** report) {
  return guarded(__func__, [&] {
    require(session, "ib_session_load", "session");
    require(path, "ib_session_load", "path");
    session->report = lines(session->session.load(path).changes);
    if (report != nullptr) *report = session->report.c_str();
  });
}

ib_status ib_session_serialize(ib_session* session, const char** bytes, size_t* size) {
  return guarded(__func__, [&] {
    require(session, "ib_session_serialize", "session");
    require(bytes, "ib_session_serialize", "bytes");
    require(size, "ib_session_serialize", "size");
    session->state = session->session.serialize();
    *bytes = session->state.data();
    *size = session->state.size();
  });
}

ib_status ib_session_deserialize(ib_session* session,
                                 const char* bytes,
                                 size_t size,
                                 const char** report) {
  return guarded(__func__, [&] {
    require(session, "ib_session_deserialize", "session");
    require(bytes, "ib_session_deserialize", "bytes");
    if (size > size_t{PTRDIFF_MAX}) {
      throw InvalidArgument(
          message("ib_session_deserialize: size must be at most ", PTRDIFF_MAX, ", got ", size));
    }
    session->report = lines(session->session.deserialize(std::string(bytes, size)).changes);
    if (report != nullptr) *report = session->report.c_str();
  });
}

ib_status ib_plan_view(const ib_plan* plan, ib_slice* slice) {
  return guarded(__func__, [&] {
    require(plan, "ib_plan_view", "plan");
    require(slice, "ib_plan_view", "slice");
    *slice = ib_slice{plan->plan->ids(), plan->plan->weights(), 0, plan->plan->size()};
  });
}

ib_status ib_plan_epoch(const ib_plan* plan, int64_t* epoch) {
  return guarded(__func__, [&] {
    require(plan, "ib_plan_epoch", "plan");
    require(epoch, "ib_plan_epoch", "epoch");
    *epoch = plan->plan->epoch();
  });
}

void ib_plan_release(ib_plan* plan) { delete plan; }

}  // extern "C"

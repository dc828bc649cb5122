#include <infobatch/backends.hpp>
#include <infobatch/c_api.h>
#include <infobatch/card.hpp>
#include <infobatch/detail/backend.hpp>
#include <infobatch/detail/c_device_step.hpp>
#include <infobatch/detail/json.hpp>
#include <infobatch/detail/policy.hpp>
#include <infobatch/error.hpp>
#include <infobatch/session.hpp>
#include <infobatch/version.hpp>

#include <pthread.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using infobatch::InvalidArgument;
using infobatch::detail::message;

namespace {

/// The names by which a C program knows the cures that messages name.
infobatch::Wording c_wording() {
  return {"ib_session_update", "ib_session_observe_ids", "", "ib_session_discard_epoch"};
}

}  // namespace

struct ib_session {
  ib_session(std::int64_t size,
             infobatch::Config config,
             int threads,
             const std::string& backend = {})
      : session(size, std::move(config), threads, c_wording(), backend),
        config_json(session.config().to_json()) {}

  infobatch::Session session;
  const std::string config_json;
  std::mutex words;                     // held where its wording is read to be changed
  mutable std::mutex texts;             // guards what follows
  std::string state;                    // what ib_session_serialize lent out
  infobatch::LoadReport report;         // what the last load found
  std::vector<std::string> names;       // of columns
  std::vector<const char*> name_array;  // the same as lent, with NULL at the end
};

struct ib_plan {
  std::shared_ptr<const infobatch::Plan> plan;
};

namespace {

/// What was lent to a thread. An object with a destructor per thread would end the process where
/// the C library has no memory to note it, so there is a key, and a thread's first text may fail.
struct Texts {
  std::string error, problems, warning;
};

/// Without memory for the whole text of an error there is a short one, which needs none.
struct Thread {
  Texts* texts;
  size_t reason;  // where it begins in the last error, behind the function
  char brief[96];
  bool is_brief;
};

#if defined(__GNUC__) && !defined(__APPLE__)
__attribute__((tls_model("initial-exec")))  // else dlopen's way takes memory at the first touch
#endif
thread_local Thread this_thread;

struct Key {
  Key() {
    made = ::pthread_key_create(&key, [](void* texts) { delete static_cast<Texts*>(texts); }) == 0;
  }
  ~Key() {
    if (made) ::pthread_key_delete(key);
  }
  pthread_key_t key;
  bool made;
};
const Key text_key;  // NOLINT(readability-identifier-naming): not known when compiled

/// @throws std::bad_alloc
Texts& texts() {
  if (this_thread.texts == nullptr) {
    auto made = std::make_unique<Texts>();
    if (!text_key.made || ::pthread_setspecific(text_key.key, made.get()) != 0)
      throw std::bad_alloc();
    this_thread.texts = made.release();
  }
  return *this_thread.texts;
}

ib_status fail(ib_status status, const char* function, const char* text) noexcept {
  try {
    // The engine's messages begin with the name of its own function.
    const char* behind = std::strstr(text, ": ");
    const char* space = std::strchr(text, ' ');
    const char* reason = behind != nullptr && behind < space ? behind + 2 : text;
    texts().error = message(function, ": ", reason);
    this_thread.is_brief = false;
  } catch (...) {
    std::snprintf(this_thread.brief, sizeof this_thread.brief, "%s: out of memory", function);
    this_thread.is_brief = true;
    status = IB_OUT_OF_MEMORY;  // status and text tell the same
  }
  this_thread.reason = std::strlen(function) + std::strlen(": ");
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

/// Bytes that a caller gave.
std::string_view checked_bytes(const char* function, const char* bytes, size_t size) {
  require(bytes, function, "bytes");
  if (size > size_t{PTRDIFF_MAX}) {
    throw InvalidArgument(
        message(function, ": size must be at most ", PTRDIFF_MAX, ", got ", size));
  }
  return {bytes, size};
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

// The kinds of warnings are the same numbers in C and C++; a new one stands at the end of both.
static_assert(IB_NEVER_PRUNES == static_cast<int>(infobatch::WarningKind::kNeverPrunes));
static_assert(IB_FORGOTTEN == static_cast<int>(infobatch::WarningKind::kForgotten));
static_assert(IB_UNSOUND == static_cast<int>(infobatch::WarningKind::kUnsound));
static_assert(IB_NON_FINITE == static_cast<int>(infobatch::WarningKind::kNonFinite));
static_assert(IB_SHORTFALL == static_cast<int>(infobatch::WarningKind::kShortfall));
static_assert(IB_NOT_FLUSHED == static_cast<int>(infobatch::WarningKind::kNotFlushed));

/// Sizes in the first version of the header; later fields follow.
constexpr size_t kFirstConfigSize = offsetof(ib_config, score_ema) + sizeof(double);
constexpr size_t kFirstWordingSize = offsetof(ib_wording, discard) + sizeof(const char*);
constexpr size_t kMostStructSize = 4096;

/// Whether all bytes of [from, to) are 0.
bool zero_bytes(const void* data, size_t from, size_t to) {
  const char* bytes = static_cast<const char*>(data);
  return std::all_of(bytes + from, bytes + to, [](char c) { return c == 0; });
}

/// The size that the caller has set up a struct with: one that receives something, or one that has
/// been in the header with at least `least` bytes.
template <typename Struct>
size_t checked_size(const char* function,
                    const char* name,
                    const Struct* given,
                    size_t least = sizeof(size_t)) {
  require(given, function, name);
  const size_t size = given->struct_size;
  if (size < least || size > kMostStructSize) {
    throw InvalidArgument(message(
        function, ": struct_size of ", name, " must be its sizeof, set by the caller, got ", size));
  }
  return size;
}

/// A struct that receives something gets as much as it knows; what a newer program knows more of is
/// 0.
template <typename Struct>
void give(const Struct& all, Struct* out, size_t size) {
  std::memcpy(out, &all, std::min(sizeof all, size));
  if (size > sizeof all) {
    std::memset(reinterpret_cast<char*>(out) + sizeof all, 0, size - sizeof all);
  }
  out->struct_size = size;
}

/// A struct that the caller hands in, its size checked. Fields that the caller's header did not
/// have yet are those of `defaults`.
/// @throws InvalidArgument  something is set that this library does not know.
template <typename Struct>
Struct taken(const char* function, const char* name, const Struct& given, const Struct& defaults) {
  const size_t size = given.struct_size;
  if (size > sizeof(Struct) && !zero_bytes(&given, sizeof(Struct), size)) {
    throw InvalidArgument(message(function,
                                  ": ",
                                  name,
                                  " must leave fields that this library does not know at 0, got "
                                  "one set behind byte ",
                                  sizeof(Struct),
                                  " of ",
                                  size,
                                  ": the program is newer than the library"));
  }
  Struct full = defaults;
  std::memcpy(&full, &given, std::min(sizeof full, size));
  return full;
}

std::optional<bool> declared(const char* function, int32_t value) {
  switch (value) {
    case IB_UNDECLARED:
      return std::nullopt;
    case IB_YES:
      return true;
    case IB_NO:
      return false;
    default:
      throw InvalidArgument(
          message(function, ": drop_last must be IB_UNDECLARED, IB_YES or IB_NO, got ", value));
  }
}

/// Its lists take memory, and ib_config_init cannot fail: they are made when the library is loaded.
const infobatch::Config& default_config() {
  static const infobatch::Config config;
  return config;
}
[[maybe_unused]] const infobatch::Config& made_at_load = default_config();

/// Bytes that live until the next ones are lent.
void lend_state(ib_session* session, std::string state, const char** bytes, size_t* size) {
  const std::lock_guard<std::mutex> lock(session->texts);
  session->state = std::move(state);
  *bytes = session->state.data();
  *size = session->state.size();
}

/// Reports as they came from all ranks, each as large as the first one says.
std::vector<infobatch::RankReport> to_reports(const char* function,
                                              const ib_rank_report* reports,
                                              int64_t ranks) {
  constexpr int64_t kMost = 1 << 20;
  const size_t least = offsetof(ib_rank_report, over) + sizeof(int64_t);
  const size_t size = checked_size(function, "reports", reports, least);
  if (ranks < 1 || ranks > kMost) {
    throw InvalidArgument(message(function, ": ranks must be in [1, ", kMost, "], got ", ranks));
  }
  std::vector<infobatch::RankReport> all;
  for (int64_t r = 0; r < ranks; ++r) {
    ib_rank_report given;
    const char* const from = reinterpret_cast<const char*>(reports) + static_cast<size_t>(r) * size;
    std::memcpy(&given, from, sizeof given);
    if (given.struct_size != size) {
      throw InvalidArgument(message(function,
                                    ": reports must be of the same version of the library, got one "
                                    "of ",
                                    given.struct_size,
                                    " bytes from rank ",
                                    r,
                                    ", of ",
                                    size,
                                    " from rank 0"));
    }
    infobatch::RankReport report;
    report.rank = given.rank;
    report.ranks = given.ranks;
    report.split = given.split;
    report.padding = given.padding;
    report.rule_version = given.rule_version;
    report.size = given.size;
    report.seed = given.seed;
    report.config = given.config;
    report.scores = given.scores;
    report.epoch = given.epoch;
    report.target = given.target;
    report.begun = given.begun;
    report.stays = given.stays;
    report.kept = given.kept;
    report.plan = given.plan;
    report.origin = given.origin;
    report.observed = given.observed;
    report.entering = given.entering;
    report.over = given.over;
    all.push_back(report);
  }
  return all;
}

std::vector<std::string_view> to_parts(const char* function,
                                       const char* const* parts,
                                       const size_t* sizes,
                                       size_t count) {
  require(parts, function, "parts");
  require(sizes, function, "sizes");
  std::vector<std::string_view> all;
  for (size_t i = 0; i < count; ++i) {
    require(parts[i], function, "a part");
    all.emplace_back(parts[i], sizes[i]);
  }
  return all;
}

infobatch::Config to_config(const ib_config* given, const char* function) {
  require(given, function, "config");
  if (given->struct_size < kFirstConfigSize || given->struct_size > kMostStructSize) {
    throw InvalidArgument(message(function,
                                  ": config must be set up by ib_config_init, got "
                                  "struct_size ",
                                  given->struct_size));
  }
  ib_config defaults;
  ib_config_init(&defaults, sizeof defaults);
  const ib_config full = taken(function, "config", *given, defaults);
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
  result.whole_batches = config->whole_batches;
  result.drop_last = declared(function, config->drop_last);
  result.lookahead = flag(function, "lookahead", config->lookahead);
  if (config->params_json != nullptr) result.set_json(config->params_json);
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

/// The slice as pointers, which the session keeps alive until another epoch begins.
ib_slice view(const infobatch::Slice& slice) {
  if (!slice.plan) return ib_slice{nullptr, nullptr, slice.begin, slice.count};
  return ib_slice{slice.ids(), slice.weights(), slice.begin, slice.count};
}

infobatch::ColumnType column_type(int32_t type) {
  if (type < IB_FLOAT32 || type > IB_UINT64) {
    throw InvalidArgument(
        message("ib_session_set_column: type must be one of ib_column_type, got ", type));
  }
  return static_cast<infobatch::ColumnType>(type);
}

/// Keeps the report of a load and lends its text.
void keep_report(ib_session* session, infobatch::LoadReport found, const char** report) {
  const std::lock_guard<std::mutex> lock(session->texts);
  session->report = std::move(found);
  if (report != nullptr) *report = session->report.text.c_str();
}

using infobatch::detail::CDeviceStep;

template <typename Body>
ib_status on_device(const char* function, const ib_device_step* step, const Body& body) noexcept {
  return guarded(function, [&] {
    (void)checked_size(function, "step", step, sizeof(ib_device_step));
    const ib_device_step given = taken(function, "step", *step, ib_device_step{});
    body(CDeviceStep(function, given));
  });
}

}  // namespace

extern "C" {

int32_t ib_abi_version(void) { return IB_ABI_VERSION; }

const char* ib_version(void) { return INFOBATCH_VERSION; }

const char* ib_last_error(void) {
  if (this_thread.is_brief) return this_thread.brief;
  return this_thread.texts == nullptr ? "" : this_thread.texts->error.c_str();
}

const char* ib_last_reason(void) { return ib_last_error() + this_thread.reason; }

int32_t ib_rule_version(void) { return infobatch::kRuleVersion; }

const char* const* ib_policy_names(void) { return infobatch::policy_name_list(); }

const char* ib_cards_json(void) {
  try {
    return infobatch::cards_json();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void ib_config_init(ib_config* config, size_t struct_size) {
  if (config == nullptr) return;
  const infobatch::Config& defaults = default_config();
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

ib_status ib_config_problems_json(const char* config_json,
                                  int64_t size,
                                  int32_t threads,
                                  const char** problems) {
  return guarded(__func__, [&] {
    require(config_json, "ib_config_problems_json", "config_json");
    require(problems, "ib_config_problems_json", "problems");
    std::vector<std::string> found = infobatch::config_problems(config_json);
    if (found.empty()) {
      const infobatch::Config config = infobatch::Config::from_json(config_json);
      found = infobatch::Session::problems(size, config, threads);
    } else {
      for (std::string& text : infobatch::Session::problems(size, threads)) {
        found.push_back(std::move(text));
      }
    }
    std::string& lent = texts().problems;
    lent = infobatch::detail::JsonWriter().value(found).take();
    *problems = lent.c_str();
  });
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

ib_status ib_session_create_on(int64_t size,
                               const char* config_json,
                               int32_t threads,
                               const char* backend,
                               ib_session** session) {
  return guarded(__func__, [&] {
    require(session, "ib_session_create_on", "session");
    require(config_json, "ib_session_create_on", "config_json");
    const std::string name = backend != nullptr ? backend : "";
    *session = new ib_session(size, read_config(config_json, size, threads), threads, name);
  });
}

ib_status ib_load_backend(const char* library, const char** name) {
  return guarded(__func__, [&] {
    require(library, "ib_load_backend", "library");
    const std::string loaded = infobatch::load_backend(library);
    if (name != nullptr) *name = infobatch::detail::find_backend(loaded)->name;
  });
}

const char* ib_backend_name(int32_t index) {
  const infobatch::detail::Backend* const backend = infobatch::detail::backend_at(index);
  return backend != nullptr ? backend->name : nullptr;
}

const char* ib_backend_device(int32_t index) {
  const infobatch::detail::Backend* const backend = infobatch::detail::backend_at(index);
  return backend != nullptr ? backend->device_type : nullptr;
}

ib_status ib_use_stream(const char* backend, void* stream) {
  return guarded(__func__, [&] {
    require(backend, "ib_use_stream", "backend");
    infobatch::detail::use_stream(backend, stream);
  });
}

ib_status ib_device_step_scratch(const ib_device_step* step, size_t* bytes) {
  return on_device(__func__, step, [&](const CDeviceStep& given) {
    require(bytes, "ib_device_step_scratch", "bytes");
    *bytes = given.scratch();
  });
}

ib_status ib_device_step_forward(const ib_device_step* step) {
  return on_device(__func__, step, [](const CDeviceStep& given) { given.forward(); });
}

ib_status ib_device_step_backward(const ib_device_step* step,
                                  const void* given,
                                  const float* row_weights,
                                  void* gradient) {
  return on_device(
      __func__, step, [&](const CDeviceStep& of) { of.backward(given, row_weights, gradient); });
}

ib_status ib_device_row_weights(const ib_device_step* step, float* row_weights) {
  return on_device(
      __func__, step, [&](const CDeviceStep& given) { given.row_weights(row_weights); });
}

ib_status ib_device_scale_rows(const ib_device_step* step, const float* row_weights, void* out) {
  return on_device(
      __func__, step, [&](const CDeviceStep& given) { given.scale_rows(row_weights, out); });
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
      session->session.set_warning_handler({});
    } else {
      session->session.set_warning_handler(
          [=](const std::string& text) { handler(text.c_str(), user_data); });
    }
  });
}

ib_status ib_session_hold_warnings(ib_session* session) {
  return guarded(__func__, [&] {
    require(session, "ib_session_hold_warnings", "session");
    session->session.hold_warnings();
  });
}

ib_status ib_session_next_warning(ib_session* session, const char** text) {
  return guarded(__func__, [&] {
    require(session, "ib_session_next_warning", "session");
    require(text, "ib_session_next_warning", "text");
    std::string& lent = texts().warning;
    *text = session->session.next_warning(&lent) ? lent.c_str() : nullptr;
  });
}

ib_status ib_session_take_warning(ib_session* session, ib_warning* warning) {
  return guarded(__func__, [&] {
    require(session, "ib_session_take_warning", "session");
    const size_t size = checked_size("ib_session_take_warning", "warning", warning);
    std::string& lent = texts().warning;
    infobatch::WarningKind kind{};
    ib_warning all{};
    if (session->session.next_warning(&lent, &kind)) {
      all.kind = static_cast<int32_t>(kind);
      all.text = lent.c_str();
    }
    give(all, warning, size);
  });
}

ib_status ib_session_set_wording(ib_session* session, const ib_wording* wording) {
  return guarded(__func__, [&] {
    require(session, "ib_session_set_wording", "session");
    checked_size("ib_session_set_wording", "wording", wording, kFirstWordingSize);
    const ib_wording given = taken("ib_session_set_wording", "wording", *wording, ib_wording{});
    const std::lock_guard<std::mutex> lock(session->words);
    infobatch::Wording words = session->session.wording();
    words.update = text_or(given.update, words.update);
    words.update_by_ids = text_or(given.update_by_ids, words.update_by_ids);
    words.ids_hint = text_or(given.ids_hint, words.ids_hint);
    words.discard = text_or(given.discard, words.discard);
    session->session.set_wording(std::move(words));
  });
}

ib_status ib_session_set_column(ib_session* session,
                                const char* name,
                                int32_t type,
                                const void* data) {
  return guarded(__func__, [&] {
    require(session, "ib_session_set_column", "session");
    require(name, "ib_session_set_column", "name");
    session->session.set_column(name, column_type(type), data);
  });
}

ib_status ib_session_column(const ib_session* session, const char* name, ib_column* column) {
  return guarded(__func__, [&] {
    require(session, "ib_session_column", "session");
    require(name, "ib_session_column", "name");
    const size_t size = checked_size("ib_session_column", "column", column);
    const infobatch::ColumnView found = session->session.column(name);
    ib_column all{};
    all.type = static_cast<int32_t>(found.type);
    all.size = found.size;
    all.data = found.data;
    give(all, column, size);
  });
}

ib_status ib_session_column_names(ib_session* session, const char* const** names) {
  return guarded(__func__, [&] {
    require(session, "ib_session_column_names", "session");
    require(names, "ib_session_column_names", "names");
    std::vector<std::string> found = session->session.column_names();
    std::vector<const char*> array;
    array.reserve(found.size() + 1);
    for (const std::string& name : found) array.push_back(name.c_str());
    array.push_back(nullptr);
    const std::lock_guard<std::mutex> lock(session->texts);
    session->names.swap(found);  // the texts stay where they are
    session->name_array.swap(array);
    *names = session->name_array.data();
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
    auto held = std::make_unique<ib_plan>();  // before the epoch is planned
    held->plan = session->session.plan();
    *plan = held.release();
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
    session->session.begin();
  });
}

ib_status ib_session_next(ib_session* session, int64_t count, ib_slice* slice) {
  return guarded(__func__, [&] {
    require(session, "ib_session_next", "session");
    require(slice, "ib_session_next", "slice");
    *slice = view(session->session.next(count));
  });
}

ib_status ib_session_next_rows(ib_session* session, int64_t count, ib_slice* slice) {
  return guarded(__func__, [&] {
    require(session, "ib_session_next_rows", "session");
    const infobatch::Slice rows = session->session.next_rows(count);
    if (slice != nullptr) *slice = view(rows);
  });
}

ib_status ib_session_pending(const ib_session* session, int64_t* pending) {
  return guarded(__func__, [&] {
    require(session, "ib_session_pending", "session");
    require(pending, "ib_session_pending", "pending");
    *pending = session->session.pending();
  });
}

ib_status ib_session_declare_drop_last(ib_session* session, int32_t drop_last) {
  return guarded(__func__, [&] {
    require(session, "ib_session_declare_drop_last", "session");
    session->session.declare_drop_last(declared("ib_session_declare_drop_last", drop_last));
  });
}

ib_status ib_session_suspect(ib_session* session, const char* cause) {
  return guarded(__func__, [&] {
    require(session, "ib_session_suspect", "session");
    require(cause, "ib_session_suspect", "cause");
    session->session.suspect(cause);
  });
}

ib_status ib_session_observe(ib_session* session,
                             const float* losses,
                             int64_t count,
                             ib_slice* slice) {
  return guarded(__func__, [&] {
    require(session, "ib_session_observe", "session");
    const infobatch::Slice observed = session->session.observe(losses, count);
    if (slice != nullptr) *slice = view(observed);
  });
}

ib_status ib_session_observe_ids(
    ib_session* session, const float* losses, const int64_t* ids, int64_t count, float* weights) {
  return guarded(__func__, [&] {
    require(session, "ib_session_observe_ids", "session");
    session->session.observe_ids(losses, ids, count, weights);
  });
}

ib_status ib_session_weights(ib_session* session,
                             const int64_t* ids,
                             int64_t count,
                             float* weights) {
  return guarded(__func__, [&] {
    require(session, "ib_session_weights", "session");
    session->session.weights(ids, count, weights);
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

ib_status ib_session_epoch_arrays(ib_session* session, ib_epoch_arrays* arrays) {
  return guarded(__func__, [&] {
    require(session, "ib_session_epoch_arrays", "session");
    const size_t size = checked_size("ib_session_epoch_arrays", "arrays", arrays);
    const infobatch::EpochArrays lent = session->session.epoch_arrays();
    ib_epoch_arrays all{};
    all.epoch = lent.epoch;
    all.size = lent.size;
    all.ids = lent.ids;
    all.weights = lent.weights;
    all.losses = lent.losses;
    give(all, arrays, size);
  });
}

ib_status ib_session_advance(ib_session* session, int64_t count, ib_slice* slice) {
  return guarded(__func__, [&] {
    require(session, "ib_session_advance", "session");
    const infobatch::Slice observed = session->session.advance(count);
    if (slice != nullptr) *slice = view(observed);
  });
}

ib_status ib_session_stage(ib_session* session, const float* losses, int64_t begin, int64_t count) {
  return guarded(__func__, [&] {
    require(session, "ib_session_stage", "session");
    session->session.stage(losses, begin, count);
  });
}

ib_status ib_session_set_ranks(ib_session* session, const ib_ranks* ranks) {
  return guarded(__func__, [&] {
    require(session, "ib_session_set_ranks", "session");
    const size_t least = offsetof(ib_ranks, padding) + sizeof(int32_t);
    checked_size("ib_session_set_ranks", "ranks", ranks, least);
    const ib_ranks given = taken("ib_session_set_ranks", "ranks", *ranks, ib_ranks{});
    infobatch::Ranks all;
    all.rank = given.rank;
    all.size = given.size;
    all.split = flag("ib_session_set_ranks", "split", given.split) ? infobatch::Split::kGlobal
                                                                   : infobatch::Split::kSharded;
    all.padding = flag("ib_session_set_ranks", "padding", given.padding) ? infobatch::Padding::kTrim
                                                                         : infobatch::Padding::kPad;
    session->session.set_ranks(all);
  });
}

ib_status ib_session_set_range(ib_session* session,
                               const ib_id_range* range,
                               ib_gather gather,
                               void* user_data) {
  return guarded(__func__, [&] {
    require(session, "ib_session_set_range", "session");
    const size_t least = offsetof(ib_id_range, ranks) + sizeof(int32_t);
    checked_size("ib_session_set_range", "range", range, least);
    const ib_id_range given = taken("ib_session_set_range", "range", *range, ib_id_range{});
    infobatch::Gather gathers;
    if (gather != nullptr) {
      gathers = [=](const void* own, std::size_t bytes, void* all) {
        const int32_t code = gather(own, bytes, all, user_data);
        if (code != 0) {
          throw infobatch::StateError(message("set_range: gather must return 0, got ", code));
        }
      };
    }
    session->session.set_range({given.first, given.total, given.rank, given.ranks},
                               std::move(gathers));
  });
}

ib_status ib_session_report_to_share(ib_session* session, int64_t target, ib_rank_report* report) {
  return guarded(__func__, [&] {
    require(session, "ib_session_report_to_share", "session");
    const size_t size = checked_size("ib_session_report_to_share", "report", report);
    const infobatch::RankReport own = session->session.report_to_share(target);
    ib_rank_report all{};
    all.rank = own.rank;
    all.ranks = own.ranks;
    all.split = own.split;
    all.padding = own.padding;
    all.rule_version = own.rule_version;
    all.size = own.size;
    all.seed = own.seed;
    all.config = own.config;
    all.scores = own.scores;
    all.epoch = own.epoch;
    all.target = own.target;
    all.begun = own.begun;
    all.stays = own.stays;
    all.kept = own.kept;
    all.plan = own.plan;
    all.origin = own.origin;
    all.observed = own.observed;
    all.entering = own.entering;
    all.over = own.over;
    give(all, report, size);
  });
}

ib_status ib_session_agree(const ib_session* session,
                           const ib_rank_report* reports,
                           int64_t ranks) {
  return guarded(__func__, [&] {
    require(session, "ib_session_agree", "session");
    const auto all = to_reports("ib_session_agree", reports, ranks);
    session->session.agree(all.data(), ranks);
  });
}

int32_t ib_rank_reports_must_share(const ib_rank_report* reports, int64_t ranks) {
  if (reports == nullptr || ranks < 1) return 0;
  try {
    const auto all = to_reports("ib_rank_reports_must_share", reports, ranks);
    return infobatch::Session::must_share(all.data(), ranks) ? 1 : 0;
  } catch (...) {
    return 0;  // what is wrong with them ib_session_agree has told
  }
}

ib_status ib_session_losses_to_share(ib_session* session, const int32_t** bits, int64_t* count) {
  return guarded(__func__, [&] {
    require(session, "ib_session_losses_to_share", "session");
    require(bits, "ib_session_losses_to_share", "bits");
    require(count, "ib_session_losses_to_share", "count");
    const infobatch::RankLosses own = session->session.losses_to_share();
    *bits = own.bits;
    *count = own.count;
  });
}

ib_status ib_session_take_losses(ib_session* session,
                                 const int32_t* bits,
                                 int64_t count,
                                 const ib_rank_report* reports,
                                 int64_t ranks) {
  return guarded(__func__, [&] {
    require(session, "ib_session_take_losses", "session");
    const auto all = to_reports("ib_session_take_losses", reports, ranks);
    session->session.take_losses(bits, count, all.data(), ranks);
  });
}

ib_status ib_session_rank_rows(const ib_session* session, ib_rank_rows* rows) {
  return guarded(__func__, [&] {
    require(session, "ib_session_rank_rows", "session");
    const size_t size = checked_size("ib_session_rank_rows", "rows", rows);
    const infobatch::RankRows own = session->session.rank_rows();
    ib_rank_rows all{};
    all.rows = own.rows;
    all.weights = own.weights;
    all.short_rows = own.short_rows;
    for (int i = 0; i < 2; ++i) {
      all.row[i] = own.row[i];
      all.missing[i] = own.missing[i];
    }
    give(all, rows, size);
  });
}

ib_status ib_session_serialize_part(ib_session* session,
                                    int32_t with_scores,
                                    const char** bytes,
                                    size_t* size) {
  return guarded(__func__, [&] {
    require(session, "ib_session_serialize_part", "session");
    require(bytes, "ib_session_serialize_part", "bytes");
    require(size, "ib_session_serialize_part", "size");
    const bool scores = flag("ib_session_serialize_part", "with_scores", with_scores);
    lend_state(session, session->session.serialize_part(scores), bytes, size);
  });
}

ib_status ib_session_join_parts(ib_session* session,
                                const char* const* parts,
                                const size_t* sizes,
                                size_t count,
                                const char** bytes,
                                size_t* size) {
  return guarded(__func__, [&] {
    require(session, "ib_session_join_parts", "session");
    require(bytes, "ib_session_join_parts", "bytes");
    require(size, "ib_session_join_parts", "size");
    const auto all = to_parts("ib_session_join_parts", parts, sizes, count);
    lend_state(session, session->session.join_parts(all), bytes, size);
  });
}

ib_status ib_session_save_parts(ib_session* session,
                                const char* path,
                                const char* const* parts,
                                const size_t* sizes,
                                size_t count) {
  return guarded(__func__, [&] {
    require(session, "ib_session_save_parts", "session");
    require(path, "ib_session_save_parts", "path");
    session->session.save_parts(path, to_parts("ib_session_save_parts", parts, sizes, count));
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
    const size_t size = checked_size("ib_session_statistics", "statistics", statistics);
    const infobatch::Statistics s = session->session.statistics();
    ib_statistics all{};
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
    all.short_batch = s.short_batch;
    all.dropped_total = s.dropped_total;
    give(all, statistics, size);
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
    keep_report(session, session->session.load(path), report);
  });
}

ib_status ib_session_load_report(const ib_session* session, ib_load_report* report) {
  return guarded(__func__, [&] {
    require(session, "ib_session_load_report", "session");
    const size_t size = checked_size("ib_session_load_report", "report", report);
    const std::lock_guard<std::mutex> lock(session->texts);
    ib_load_report all{};
    all.epoch = session->report.epoch;
    all.position = session->report.position;
    all.changes = session->report.text.c_str();
    give(all, report, size);
  });
}

ib_status ib_session_serialize(ib_session* session, const char** bytes, size_t* size) {
  return guarded(__func__, [&] {
    require(session, "ib_session_serialize", "session");
    require(bytes, "ib_session_serialize", "bytes");
    require(size, "ib_session_serialize", "size");
    lend_state(session, session->session.serialize(), bytes, size);
  });
}

ib_status ib_session_deserialize(ib_session* session,
                                 const char* bytes,
                                 size_t size,
                                 const char** report) {
  return guarded(__func__, [&] {
    require(session, "ib_session_deserialize", "session");
    const std::string_view state = checked_bytes("ib_session_deserialize", bytes, size);
    keep_report(session, session->session.deserialize(state), report);
  });
}

ib_status ib_session_load_resized(ib_session* session,
                                  const char* path,
                                  const int64_t* origin,
                                  const char** report) {
  return guarded(__func__, [&] {
    require(session, "ib_session_load_resized", "session");
    require(path, "ib_session_load_resized", "path");
    keep_report(session, session->session.load(path, infobatch::Resize{origin}), report);
  });
}

ib_status ib_session_deserialize_resized(ib_session* session,
                                         const char* bytes,
                                         size_t size,
                                         const int64_t* origin,
                                         const char** report) {
  return guarded(__func__, [&] {
    require(session, "ib_session_deserialize_resized", "session");
    const std::string_view state = checked_bytes("ib_session_deserialize_resized", bytes, size);
    keep_report(session, session->session.deserialize(state, infobatch::Resize{origin}), report);
  });
}

ib_status ib_session_export_csv(const ib_session* session, const char* path) {
  return guarded(__func__, [&] {
    require(session, "ib_session_export_csv", "session");
    require(path, "ib_session_export_csv", "path");
    session->session.export_csv(path);
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

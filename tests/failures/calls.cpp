#include <tests/failures/calls.hpp>

#include <algorithm>
#include <cstring>

namespace infobatch::testing {
namespace {

ib_plan* made_plan = nullptr;
ib_epoch_arrays lent_arrays;
ib_column found_column;
ib_statistics found_statistics;
ib_load_report found_report;

constexpr ib_wording kWords = {sizeof(ib_wording),
                               "the third line of a language with long names",
                               "the third line of a language with long names, and ids",
                               nullptr,
                               "a cure whose name takes memory"};

void look_at_number(World& w) { w.note("number", w.number); }
void look_at_slice(World& w) { w.note_slice(w.slice); }
void look_at_plan(World& w) {
  ib_plan_view(made_plan, &w.slice);
  w.note_slice(w.slice);
  ib_plan_release(made_plan);
  made_plan = nullptr;
}
void look_at_weights(World& w) {
  ib_slice all{w.ids.data(), w.weights.data(), 0, static_cast<std::int64_t>(w.ids.size())};
  w.note_slice(all);
}
void look_at_text(World& w) { w.trace += w.text == nullptr ? "none" : w.text; }

/// Another session of the same run takes the place of this one.
void fresh_session(World& w) {
  [[maybe_unused]] Received unheard;
  const bool columns = std::string(w.situation.name) == "columns";
  ib_session* const other = new_session(w.situation, &w.received);
  if (columns) {
    ib_session_set_column(other, "b", IB_FLOAT32, w.column.data());
    ib_session_set_column(other, "d", IB_UINT8, w.column.data());
  }
  ib_session_destroy(w.session);
  w.session = other;
}

ib_status observe_ids(World& w) {
  return ib_session_observe_ids(w.session,
                                w.losses.data(),
                                w.ids.data(),
                                static_cast<std::int64_t>(w.ids.size()),
                                w.weights.data());
}

ib_status weigh(World& w) {
  return ib_session_weights(
      w.session, w.ids.data(), static_cast<std::int64_t>(w.ids.size()), w.weights.data());
}

void reverse_ids(World& w) { std::reverse(w.ids.begin(), w.ids.end()); }
void spoil_an_id(World& w) {
  if (!w.ids.empty()) w.ids.back() = w.situation.size;
}

/// The samples the other way round, the first one new. Made once, before anything is refused.
const std::vector<std::int64_t>& origins(const World& w) {
  static std::vector<std::int64_t> ids;
  if (static_cast<std::int64_t>(ids.size()) == w.situation.size) return ids;
  ids.clear();
  for (std::int64_t id = w.situation.size; id > 0; --id) ids.push_back(id - 1);
  if (!ids.empty()) ids.front() = -1;
  return ids;
}

ib_status set_epoch_by(World& w, std::int64_t step) {
  ib_session_epoch(w.session, &w.number);
  return ib_session_set_epoch(w.session, w.number + step);
}

}  // namespace

const std::vector<Call>& session_calls() {
  static const std::vector<Call> all = {
      {"ib_session_config_json",
       "",
       [](World& w) { return ib_session_config_json(w.session, &w.text); }},
      {"ib_session_set_warning_handler",
       "",
       [](World& w) {
         return ib_session_set_warning_handler(
             w.session,
             [](const char*, void* data) { ++static_cast<Received*>(data)->count; },
             &w.received);
       }},
      {"ib_session_set_warning_handler",
       "NULL, then held",
       [](World& w) {
         const ib_status status = ib_session_set_warning_handler(w.session, nullptr, nullptr);
         return status == IB_OK ? ib_session_hold_warnings(w.session) : status;
       }},
      {"ib_session_set_range",
       "the whole table",
       [](World& w) {
         const ib_id_range range = {sizeof range, 0, w.situation.size, 0, 1};
         return ib_session_set_range(
             w.session,
             &range,
             [](const void* own, std::size_t bytes, void* gathered, void*) {
               std::memcpy(gathered, own, bytes);
               return std::int32_t{0};
             },
             nullptr);
       }},
      {"ib_session_hold_warnings",
       "",
       [](World& w) { return ib_session_hold_warnings(w.session); }},
      {"ib_session_next_warning",
       "",
       [](World& w) { return ib_session_next_warning(w.session, &w.text); },
       nullptr,
       look_at_text},
      {"ib_session_take_warning",
       "",
       [](World& w) {
         ib_warning warning{};
         warning.struct_size = sizeof warning;
         const ib_status status = ib_session_take_warning(w.session, &warning);
         w.text = status == IB_OK ? warning.text : nullptr;
         return status;
       },
       nullptr,
       look_at_text},
      {"ib_session_set_wording",
       "",
       [](World& w) { return ib_session_set_wording(w.session, &kWords); }},
      {"ib_session_column_names",
       "",
       [](World& w) {
         const char* const* names = nullptr;
         const ib_status status = ib_session_column_names(w.session, &names);
         w.text = status == IB_OK ? names[0] : nullptr;
         return status;
       },
       nullptr,
       look_at_text},
      {"ib_session_set_column",
       "new",
       [](World& w) { return ib_session_set_column(w.session, "c", IB_FLOAT32, w.column.data()); }},
      {"ib_session_set_column",
       "first",
       [](World& w) {
         return ib_session_set_column(
             w.session, "a_name_that_takes_memory", IB_UINT8, w.column.data());
       }},
      {"ib_session_set_column",
       "other values",
       [](World& w) {
         return ib_session_set_column(w.session, "b", IB_FLOAT32, w.column.data() + 1);
       },
       [](World& w) { w.column.resize(w.column.size() + 1); }},
      {"ib_session_column",
       "score",
       [](World& w) {
         found_column.struct_size = sizeof found_column;
         return ib_session_column(w.session, "score", &found_column);
       }},
      {"ib_session_column",
       "unknown",
       [](World& w) {
         found_column.struct_size = sizeof found_column;
         return ib_session_column(w.session, "unknown", &found_column);
       }},
      {"ib_session_size", "", [](World& w) { return ib_session_size(w.session, &w.number); }},
      {"ib_session_epoch", "", [](World& w) { return ib_session_epoch(w.session, &w.number); }},
      {"ib_session_set_epoch",
       "this",
       [](World& w) { return set_epoch_by(w, 0); },
       nullptr,
       nullptr,
       true},
      {"ib_session_set_epoch", "next", [](World& w) { return set_epoch_by(w, 1); }},
      {"ib_session_set_epoch",
       "later",
       [](World& w) { return set_epoch_by(w, 2); },
       nullptr,
       nullptr,
       true},
      {"ib_session_set_epoch",
       "none",
       [](World& w) { return ib_session_set_epoch(w.session, -1); }},
      {"ib_session_length",
       "",
       [](World& w) { return ib_session_length(w.session, &w.number); },
       nullptr,
       look_at_number,
       true},
      {"ib_session_plan",
       "",
       [](World& w) { return ib_session_plan(w.session, &made_plan); },
       nullptr,
       look_at_plan,
       true},
      {"ib_session_discard_epoch",
       "",
       [](World& w) { return ib_session_discard_epoch(w.session); },
       nullptr,
       nullptr,
       true},
      {"ib_session_begin",
       "",
       [](World& w) { return ib_session_begin(w.session); },
       nullptr,
       nullptr,
       true},
      {"ib_session_next",
       "",
       [](World& w) { return ib_session_next(w.session, w.situation.batch, &w.slice); },
       nullptr,
       look_at_slice,
       true},
      {"ib_session_next", "none", [](World& w) { return ib_session_next(w.session, 0, &w.slice); }},
      {"ib_session_next_rows",
       "",
       [](World& w) { return ib_session_next_rows(w.session, w.situation.batch, &w.slice); },
       nullptr,
       look_at_slice},
      {"ib_session_pending", "", [](World& w) { return ib_session_pending(w.session, &w.number); }},
      {"ib_session_declare_drop_last",
       "",
       [](World& w) { return ib_session_declare_drop_last(w.session, 1); }},
      {"ib_session_suspect",
       "",
       [](World& w) {
         return ib_session_suspect(w.session, "The losses had a shape that takes memory to tell");
       }},
      {"ib_session_observe",
       "",
       [](World& w) { return ib_session_observe(w.session, w.losses.data(), w.count, &w.slice); },
       nullptr,
       look_at_slice},
      {"ib_session_observe_ids", "", observe_ids, nullptr, look_at_weights, true},
      {"ib_session_observe_ids", "in another order", observe_ids, reverse_ids, look_at_weights},
      {"ib_session_observe_ids", "a wrong id", observe_ids, spoil_an_id},
      {"ib_session_weights", "", weigh, nullptr, look_at_weights, true},
      {"ib_session_weights", "in another order", weigh, reverse_ids, look_at_weights},
      {"ib_session_weights", "a wrong id", weigh, spoil_an_id},
      {"ib_session_update",
       "",
       [](World& w) {
         return ib_session_update(w.session, w.losses.data(), w.count, IB_NONE, w.losses.data());
       }},
      {"ib_session_epoch_arrays",
       "",
       [](World& w) {
         lent_arrays.struct_size = sizeof lent_arrays;
         return ib_session_epoch_arrays(w.session, &lent_arrays);
       }},
      {"ib_session_epoch_arrays",
       "of no size",
       [](World& w) {
         lent_arrays.struct_size = 0;
         return ib_session_epoch_arrays(w.session, &lent_arrays);
       }},
      {"ib_session_advance",
       "",
       [](World& w) { return ib_session_advance(w.session, w.count, &w.slice); },
       nullptr,
       look_at_slice},
      {"ib_session_stage",
       "",
       [](World& w) { return ib_session_stage(w.session, w.losses.data(), 0, w.count); }},
      {"ib_session_progress", "", [](World& w) { return ib_session_progress(w.session, &w.real); }},
      {"ib_session_position",
       "",
       [](World& w) { return ib_session_position(w.session, &w.number); }},
      {"ib_session_max_steps",
       "",
       [](World& w) { return ib_session_max_steps(w.session, 10, &w.number); }},
      {"ib_session_scores", "", [](World& w) { return ib_session_scores(w.session, &w.scores); }},
      {"ib_session_statistics",
       "",
       [](World& w) {
         found_statistics.struct_size = sizeof found_statistics;
         return ib_session_statistics(w.session, &found_statistics);
       }},
      {"ib_session_save",
       "",
       [](World& w) { return ib_session_save(w.session, w.path.c_str()); },
       nullptr,
       nullptr,
       true},
      {"ib_session_load",
       "",
       [](World& w) { return ib_session_load(w.session, w.saved.c_str(), &w.text); },
       nullptr,
       look_at_text},
      {"ib_session_load",
       "no file",
       [](World& w) { return ib_session_load(w.session, "there/is/no/file", nullptr); }},
      {"ib_session_load",
       "into another session",
       [](World& w) { return ib_session_load(w.session, w.saved.c_str(), &w.text); },
       fresh_session,
       look_at_text,
       true},
      {"ib_session_load_report",
       "",
       [](World& w) {
         found_report.struct_size = sizeof found_report;
         return ib_session_load_report(w.session, &found_report);
       }},
      {"ib_session_serialize",
       "",
       [](World& w) { return ib_session_serialize(w.session, &w.text, &w.bytes); },
       nullptr,
       nullptr,
       true},
      {"ib_session_deserialize",
       "",
       [](World& w) {
         return ib_session_deserialize(w.session, w.state.data(), w.state.size(), &w.text);
       },
       nullptr,
       look_at_text},
      {"ib_session_deserialize",
       "into another session",
       [](World& w) {
         return ib_session_deserialize(w.session, w.state.data(), w.state.size(), &w.text);
       },
       fresh_session,
       look_at_text},
      {"ib_session_deserialize",
       "damaged",
       [](World& w) {
         return ib_session_deserialize(w.session, w.state.data(), w.state.size(), &w.text);
       },
       [](World& w) { w.state.back() = static_cast<char>(w.state.back() + 1); }},
      {"ib_session_deserialize_resized",
       "",
       [](World& w) {
         return ib_session_deserialize_resized(
             w.session, w.state.data(), w.state.size(), origins(w).data(), &w.text);
       },
       [](World& w) { origins(w); },
       look_at_text},
      {"ib_session_load_resized",
       "",
       [](World& w) {
         return ib_session_load_resized(w.session, w.saved.c_str(), origins(w).data(), &w.text);
       },
       [](World& w) { origins(w); },
       look_at_text},
      {"ib_session_export_csv",
       "",
       [](World& w) { return ib_session_export_csv(w.session, w.path.c_str()); }},
  };
  return all;
}

}  // namespace infobatch::testing

/* A whole training driven through the C interface. Prints what failed; the status tells how many.
 */
#include <infobatch/c_api.h>

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE 500
#define BATCH 64
#define EPOCHS 8

static int failures = 0;

#define EXPECT(condition)                                                     \
  do {                                                                        \
    if (!(condition)) {                                                       \
      ++failures;                                                             \
      fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
      fprintf(stderr, "  last error: %s\n", ib_last_error());                 \
    }                                                                         \
  } while (0)

#define EXPECT_OK(call) EXPECT((call) == IB_OK)

/* Whether the last error is the name of a function and the last reason. */
static int reason_fits(void) {
  const char* error = ib_last_error();
  const char* behind = strstr(error, ": ");
  return strncmp(error, "ib_", 3) == 0 && behind != NULL && behind < strchr(error, ' ') &&
         strcmp(behind + 2, ib_last_reason()) == 0;
}

/* The call fails with this status, and the message has this part. */
#define EXPECT_ERROR(call, status, part)             \
  do {                                               \
    EXPECT((call) == (status));                      \
    EXPECT(strstr(ib_last_error(), (part)) != NULL); \
    EXPECT(reason_fits());                           \
  } while (0)

static float loss_of(int64_t id, int64_t epoch) {
  return (float)((id * 7919 + epoch * 104729) % 1000) / 500.0f;
}

static void count_warning(const char* text, void* user_data) {
  EXPECT(strlen(text) > 10);
  ++*(int*)user_data;
}

static ib_session* create(int32_t threads) {
  ib_config config;
  ib_session* session = NULL;
  ib_config_init(&config, sizeof config);
  config.epochs = EPOCHS;
  EXPECT_OK(ib_session_create(SIZE, &config, threads, &session));
  return session;
}

/* One epoch; adds ids and weights in order to a fingerprint. */
static uint64_t run_epoch(ib_session* session, int64_t epoch, int64_t* kept) {
  uint64_t hash = 1469598103934665603u;
  ib_slice batch;
  *kept = 0;
  EXPECT_OK(ib_session_begin(session));
  while (ib_session_next(session, BATCH, &batch) == IB_OK && batch.count > 0) {
    float losses[BATCH];
    double expected = 0.0;
    float mean = -1.0f;
    int64_t i;
    for (i = 0; i < batch.count; ++i) {
      losses[i] = loss_of(batch.ids[i], epoch);
      expected += (double)losses[i] * batch.weights[i];
      hash = (hash ^ (uint64_t)batch.ids[i]) * 1099511628211u;
      hash = (hash ^ (uint64_t)(batch.weights[i] * 1024.0f)) * 1099511628211u;
    }
    EXPECT(batch.begin == *kept);
    *kept += batch.count;
    EXPECT_OK(ib_session_update(session, losses, batch.count, IB_MEAN, &mean));
    EXPECT(fabs(mean - expected / (double)batch.count) < 1e-5);
  }
  return hash;
}

static void test_library(void) {
  const char* const* name = ib_policy_names();
  int found = 0;
  EXPECT(ib_abi_version() == IB_ABI_VERSION);
  EXPECT(strchr(ib_version(), '.') != NULL);
  EXPECT(strcmp(ib_last_error(), "") == 0);
  EXPECT(strcmp(ib_last_reason(), "") == 0);
  for (; *name != NULL; ++name) found += strcmp(*name, "infobatch") == 0;
  EXPECT(found == 1);
}

static void test_config(void) {
  ib_config config;
  ib_session* session = NULL;
  double quantiles[2] = {0.3, 0.6};
  double keep[2] = {0.5, 0.75};
  const char* json = NULL;
  memset(&config, 0x5a, sizeof config);
  ib_config_init(&config, sizeof config);
  EXPECT(config.struct_size == sizeof config);
  EXPECT(config.prune_ratio == 0.5 && config.delta == 0.875 && config.rescale == 1);
  EXPECT(strcmp(config.policy, "infobatch") == 0);
  EXPECT_OK(ib_config_validate(&config));

  config.prune_ratio = 1.5;
  config.delta = -1.0;
  config.keep = "never";
  EXPECT_ERROR(ib_config_validate(&config), IB_INVALID_ARGUMENT, "prune_ratio must be in [0, 1)");
  EXPECT(strstr(ib_last_error(), "got -1") != NULL);
  EXPECT(strstr(ib_last_error(), "\"never\"") != NULL);
  EXPECT_ERROR(ib_session_create(-4, &config, 1, &session), IB_INVALID_ARGUMENT, "got -4");
  EXPECT(session == NULL);
  config.struct_size = 3;
  EXPECT_ERROR(ib_config_validate(&config), IB_INVALID_ARGUMENT, "struct_size 3");
  EXPECT_ERROR(ib_config_validate(NULL), IB_INVALID_ARGUMENT, "config must not be NULL");
  ib_config_init(&config, sizeof config);
  config.quantiles = quantiles;
  config.quantiles_count = ((size_t)1 << 61) + 2;
  EXPECT_ERROR(ib_config_validate(&config),
               IB_INVALID_ARGUMENT,
               "quantiles must be at most 14 values, got 2305843009213693954");
  config.quantiles = NULL;
  config.rescale = 7;
  EXPECT_ERROR(ib_config_validate(&config), IB_INVALID_ARGUMENT, "rescale must be 0 or 1, got 7");

  ib_config_init(&config, sizeof config);
  config.policy = "infobatch_quantile";
  config.quantiles = quantiles;
  config.quantiles_count = 2;
  config.quantile_keep = keep;
  config.quantile_keep_count = 2;
  config.has_target_saved = 1;
  config.target_saved = 0.05;
  config.epochs = 10;
  EXPECT_OK(ib_session_create(10, &config, 1, &session));
  EXPECT_OK(ib_session_config_json(session, &json));
  EXPECT(strstr(json, "\"quantiles\":[0.3,0.6]") != NULL);
  EXPECT(strstr(json, "\"target_saved\":0.05") != NULL);
  {
    ib_session* same = NULL;
    const char* again = NULL;
    EXPECT_OK(ib_session_create_json(10, json, 1, &same));
    EXPECT_OK(ib_session_config_json(same, &again));
    EXPECT(strcmp(json, again) == 0);
    ib_session_destroy(same);
    same = NULL;
    EXPECT_ERROR(ib_session_create_json(10, "{\"epoks\": 3}", 1, &same),
                 IB_INVALID_ARGUMENT,
                 "unknown key \"epoks\"");
    EXPECT_ERROR(ib_session_create_json(-3, "{\"epoks\": 3}", -1, &same),
                 IB_INVALID_ARGUMENT,
                 "ib_session_create_json: ");
    EXPECT(strstr(ib_last_error(), "unknown key \"epoks\"") != NULL);
    EXPECT(strstr(ib_last_error(), "size must be") != NULL);
    EXPECT(strstr(ib_last_error(), "threads must be") != NULL);
    EXPECT(same == NULL);
  }
  ib_session_destroy(session);
}

/* A program compiled against a header whose structs were shorter or longer. */
static void test_struct_sizes(void) {
  struct {
    ib_config known;
    double of_the_future[4];
  } large;
  struct {
    size_t struct_size;
    int64_t epoch;
    int64_t size;
    int64_t untouched;
  } small;
  ib_session* session = NULL;
  memset(&large, 0x5a, sizeof large);
  ib_config_init(&large.known, sizeof large);
  EXPECT(large.known.struct_size == sizeof large);
  EXPECT(large.of_the_future[3] == 0.0);
  large.known.epochs = EPOCHS;
  EXPECT_OK(ib_session_create(SIZE, &large.known, 1, &session));
  small.struct_size = offsetof(ib_statistics, planned);
  small.untouched = 77;
  EXPECT_OK(ib_session_statistics(session, (ib_statistics*)&small));
  EXPECT(small.size == SIZE && small.epoch == 0 && small.untouched == 77);
  small.struct_size = 0;
  EXPECT_ERROR(
      ib_session_statistics(session, (ib_statistics*)&small), IB_INVALID_ARGUMENT, "struct_size");
  ib_session_destroy(session);
}

static void test_training(void) {
  ib_session* session = create(1);
  ib_session* resumed = create(2);
  ib_statistics statistics;
  ib_plan* old_plan = NULL;
  ib_slice old;
  int64_t old_first = -1;
  int64_t value = 0;
  int64_t trained = 0;
  int64_t epoch;
  double progress = -1.0;
  statistics.struct_size = sizeof statistics;
  EXPECT_OK(ib_session_size(session, &value));
  EXPECT(value == SIZE);
  EXPECT_OK(ib_session_max_steps(session, BATCH, &value));
  EXPECT(value == EPOCHS * 8);
  for (epoch = 0; epoch < EPOCHS; ++epoch) {
    const char* bytes = NULL;
    const char* report = NULL;
    size_t size = 0;
    int64_t kept = 0;
    int64_t kept_again = 0;
    int64_t length = 0;
    EXPECT_OK(ib_session_epoch(session, &value));
    EXPECT(value == epoch);
    EXPECT_OK(ib_session_length(session, &length));
    /* A second session resumes from the first at every epoch and does the same. */
    EXPECT_OK(ib_session_serialize(session, &bytes, &size));
    EXPECT(size > 8);
    EXPECT_OK(ib_session_deserialize(resumed, bytes, size, &report));
    EXPECT(report != NULL && strcmp(report, "") == 0);
    EXPECT(run_epoch(session, epoch, &kept) == run_epoch(resumed, epoch, &kept_again));
    EXPECT(kept == length && kept_again == length);
    trained += kept;
    EXPECT_OK(ib_session_position(session, &value));
    EXPECT(value == kept);
    EXPECT_OK(ib_session_statistics(session, &statistics));
    EXPECT(statistics.epoch == epoch && statistics.kept == kept);
    EXPECT(statistics.samples_planned == trained);
    EXPECT(statistics.prunes == (epoch >= 1 && epoch < 7));
    EXPECT(isnan(statistics.promised_saved));
    if (epoch == 2) {
      EXPECT_OK(ib_session_set_epoch(session, 3));
      EXPECT_OK(ib_session_plan(session, &old_plan));
      EXPECT_OK(ib_plan_view(old_plan, &old));
      old_first = old.ids[0];
    }
  }
  EXPECT(statistics.saved > 0.1 && statistics.saved < 0.5);
  EXPECT_OK(ib_session_progress(session, &progress));
  EXPECT(progress == 1.0);
  {
    const float* scores = NULL;
    EXPECT_OK(ib_session_set_epoch(session, EPOCHS));
    EXPECT_OK(ib_session_scores(session, &scores));
    for (value = 0; value < SIZE; ++value) {
      EXPECT(scores[value] == loss_of(value, EPOCHS - 1)); /* the last epoch is full */
    }
  }
  ib_session_destroy(session);
  ib_session_destroy(resumed);
  /* The plan outlives its session. */
  EXPECT_OK(ib_plan_epoch(old_plan, &value));
  EXPECT(value == 3);
  EXPECT(old.ids[0] == old_first && old.count > 0 && old.count < SIZE);
  ib_plan_release(old_plan);
  ib_plan_release(NULL);
  ib_session_destroy(NULL);
}

static void test_errors(void) {
  ib_session* session = create(1);
  ib_slice slice;
  float losses[BATCH] = {0};
  float weights[BATCH];
  float out = 0.0f;
  int64_t id = SIZE;
  int64_t epoch = 0;
  int warnings = 0;
  EXPECT_OK(ib_session_set_warning_handler(session, count_warning, &warnings));
  EXPECT_ERROR(ib_session_next(session, 0, &slice), IB_INVALID_ARGUMENT, "next: count");
  EXPECT_ERROR(ib_session_next(session, 8, NULL), IB_INVALID_ARGUMENT, "slice must not be NULL");
  EXPECT_ERROR(ib_session_begin(NULL), IB_INVALID_ARGUMENT, "ib_session_begin: session");
  EXPECT_ERROR(ib_session_observe(session, losses, 8, NULL), IB_STATE_ERROR, "delivered");
  EXPECT_ERROR(ib_session_update(session, losses, 8, 42, &out), IB_INVALID_ARGUMENT, "got 42");
  EXPECT_ERROR(ib_session_observe_ids(session, losses, &id, 1, weights),
               IB_INDEX_ERROR,
               "ids must be in [0, 500), got 500 in row 0");
  EXPECT_ERROR(ib_session_load(session, "no such file", NULL), IB_FILE_ERROR, "no such file");
  EXPECT(strncmp(ib_last_reason(), "cannot open no such file: ", 26) == 0);
  EXPECT_ERROR(ib_session_deserialize(session, "rubbish", 7, NULL), IB_FILE_ERROR, "7 bytes");
  EXPECT_ERROR(ib_session_deserialize(session, "rubbish", SIZE_MAX, NULL),
               IB_INVALID_ARGUMENT,
               "ib_session_deserialize: size must be at most");
  EXPECT_ERROR(ib_session_load(session, "update(losses)", NULL), IB_FILE_ERROR, "update(losses)");
  EXPECT_ERROR(ib_session_set_epoch(session, -1), IB_INVALID_ARGUMENT, "got -1");
  EXPECT_OK(ib_session_epoch(session, &epoch));
  EXPECT(epoch == 0);

  /* The text speaks of C functions, and begins with the one that was called. */
  EXPECT_ERROR(ib_session_observe(session, losses, 8, NULL),
               IB_STATE_ERROR,
               "ib_session_observe: losses must belong");
  EXPECT(strncmp(ib_last_reason(), "losses must belong to samples", 29) == 0);
  EXPECT(strstr(ib_last_error(), "pass the ids, ib_session_observe_ids") != NULL);
  EXPECT_ERROR(ib_session_update(session, NULL, 8, IB_MEAN, &out),
               IB_INVALID_ARGUMENT,
               "ib_session_update: losses must not be null");
  EXPECT_OK(ib_session_next(session, 490, &slice));
  EXPECT_OK(ib_session_observe(session, losses, 8, NULL));
  EXPECT_ERROR(ib_session_next(session, 490, &slice),
               IB_STATE_ERROR,
               "ib_session_next: no more than 0 samples may be out");
  EXPECT(strstr(ib_last_error(), "ib_session_discard_epoch") != NULL);
  EXPECT(strstr(ib_last_error(), "update(") == NULL && strstr(ib_last_error(), "Indexed") == NULL);
  EXPECT_OK(ib_session_discard_epoch(session));

  /* Ids, reductions and the warning of non-finite losses. */
  EXPECT_OK(ib_session_begin(session));
  EXPECT_OK(ib_session_next(session, 4, &slice));
  losses[1] = (float)HUGE_VAL;
  EXPECT_OK(ib_session_observe_ids(session, losses, slice.ids, 4, weights));
  EXPECT(weights[0] == 1.0f);
  EXPECT(warnings == 0);
  EXPECT_OK(ib_session_set_epoch(session, 1));
  EXPECT(warnings == 1);
  EXPECT_OK(ib_session_next(session, 3, &slice));
  losses[0] = 1.0f;
  losses[1] = 2.0f;
  losses[2] = 3.0f;
  {
    float each[3];
    EXPECT_OK(ib_session_update(session, losses, 3, IB_NONE, each));
    EXPECT(each[2] == 3.0f * slice.weights[2]);
    EXPECT_OK(ib_session_discard_epoch(session));
    EXPECT_OK(ib_session_next(session, 3, &slice));
    EXPECT_OK(ib_session_update(session, losses, 3, IB_SUM, &out));
    EXPECT(fabsf(out - (each[0] + each[1] + each[2])) < 1e-5f);
    EXPECT_OK(ib_session_discard_epoch(session));
    EXPECT_OK(ib_session_next(session, 3, &slice));
    EXPECT_OK(ib_session_update(session, losses, 3, IB_WEIGHTED_MEAN, &out));
    EXPECT(fabsf(out * (slice.weights[0] + slice.weights[1] + slice.weights[2]) -
                 (each[0] + each[1] + each[2])) < 1e-4f);
  }
  EXPECT_OK(ib_session_set_warning_handler(session, NULL, NULL));
  ib_session_destroy(session);
}

static void test_file(void) {
  const char* path = "infobatch_c_api_test.state";
  ib_session* session = create(1);
  ib_session* other = NULL;
  ib_config config;
  const char* report = NULL;
  int64_t kept = 0;
  run_epoch(session, 0, &kept);
  EXPECT_OK(ib_session_save(session, path));
  ib_config_init(&config, sizeof config);
  config.epochs = EPOCHS + 2;
  EXPECT_OK(ib_session_create(SIZE, &config, 0, &other));
  EXPECT_OK(ib_session_load(other, path, &report));
  EXPECT(report != NULL && strcmp(report, "epochs: 8 -> 10") == 0);
  EXPECT(run_epoch(session, 1, &kept) == run_epoch(other, 1, &kept));
  ib_session_destroy(other);
  config.seed = 1;
  EXPECT_OK(ib_session_create(SIZE, &config, 0, &other));
  EXPECT_ERROR(ib_session_load(other, path, NULL), IB_INVALID_ARGUMENT, "seed");
  ib_session_destroy(other);
  ib_session_destroy(session);
  remove(path);
}

/* A data set that has grown and moved, the record, a table of all samples. */
static void test_resize(void) {
  const char* path = "infobatch_c_api_resize.state";
  const char* table = "infobatch_c_api_resize.csv";
  const int64_t origin[3] = {1, -1, 0};
  const int64_t wrong[3] = {0, SIZE, 0};
  const float weights[3] = {1.0f, 2.0f, 3.0f};
  ib_session* session = create(1);
  ib_session* small = NULL;
  ib_config config;
  const char* report = NULL;
  const char* bytes = NULL;
  const float* scores = NULL;
  const float* carried = NULL;
  char line[64] = "";
  FILE* file = NULL;
  size_t size = 0;
  int64_t kept = 0;
  run_epoch(session, 0, &kept);
  EXPECT_OK(ib_session_save(session, path));
  EXPECT_OK(ib_session_set_epoch(session, 1));
  EXPECT_OK(ib_session_scores(session, &scores));
  ib_config_init(&config, sizeof config);
  config.epochs = EPOCHS;
  config.params_json = "{\"record\": true}";
  EXPECT_OK(ib_session_create(3, &config, 0, &small));
  EXPECT_ERROR(ib_session_load(small, path, NULL), IB_INVALID_ARGUMENT, "size");
  EXPECT_ERROR(ib_session_load_resized(small, path, wrong, NULL), IB_INVALID_ARGUMENT, "at 1");
  EXPECT_OK(ib_session_load_resized(small, path, origin, &report));
  EXPECT(report != NULL && strstr(report, "record: false -> true") != NULL);
  EXPECT_OK(ib_session_scores(small, &carried));
  EXPECT(carried[0] == scores[1] && carried[1] != carried[1] && carried[2] == scores[0]);
  EXPECT_OK(ib_session_serialize(session, &bytes, &size));
  EXPECT_OK(ib_session_deserialize_resized(small, bytes, size, NULL, NULL));
  EXPECT(carried[0] == scores[0] && carried[2] == scores[2]);
  EXPECT_OK(ib_session_export_csv(small, table));
  file = fopen(table, "r");
  EXPECT(file != NULL && fgets(line, sizeof line, file) != NULL);
  EXPECT(strcmp(line, "id,score,times_kept,last_kept\n") == 0);
  if (file != NULL) fclose(file);
  EXPECT_ERROR(ib_session_export_csv(small, "/nowhere/table.csv"), IB_FILE_ERROR, "/nowhere");
  EXPECT_ERROR(ib_session_set_column(small, "sampling_weight", IB_FLOAT32, weights),
               IB_STATE_ERROR,
               "before the first epoch begins");
  ib_session_destroy(small);
  EXPECT_OK(ib_session_create(3, &config, 0, &small));
  EXPECT_OK(ib_session_set_column(small, "sampling_weight", IB_FLOAT32, weights));
  EXPECT_OK(ib_session_begin(small));
  {
    ib_slice slice;
    float sum = 0.0f;
    int64_t i;
    EXPECT_OK(ib_session_next(small, 3, &slice));
    for (i = 0; i < slice.count; ++i) sum += slice.weights[i] / weights[slice.ids[i]];
    EXPECT(sum > 1.499f && sum < 1.501f); /* the weight of each is its own divided by the mean, 2 */
  }
  ib_session_destroy(small);
  ib_session_destroy(session);
  remove(path);
  remove(table);
}

/* Every new function refuses NULL by the name of its argument. */
static void test_null_arguments(void) {
  ib_session* session = create(1);
  ib_slice slice;
  ib_column column;
  ib_epoch_arrays arrays;
  ib_load_report report;
  const float losses[4] = {0};
  const char* text = NULL;
  int64_t value = 0;
  column.struct_size = sizeof column;
  arrays.struct_size = sizeof arrays;
  report.struct_size = sizeof report;
#define EXPECT_NULL(call, part) EXPECT_ERROR(call, IB_INVALID_ARGUMENT, part)
  EXPECT_NULL(ib_config_problems_json(NULL, 1, 1, &text),
              "ib_config_problems_json: config_json must not be NULL");
  EXPECT_NULL(ib_config_problems_json("{}", 1, 1, NULL),
              "ib_config_problems_json: problems must not be NULL");
  EXPECT_NULL(ib_session_set_column(NULL, "x", IB_INT8, losses),
              "ib_session_set_column: session must not be NULL");
  EXPECT_NULL(ib_session_set_column(session, NULL, IB_INT8, losses),
              "ib_session_set_column: name must not be NULL");
  EXPECT_NULL(ib_session_set_column(session, "x", IB_INT8, NULL),
              "ib_session_set_column: data must not be null");
  EXPECT_NULL(ib_session_column(NULL, "score", &column),
              "ib_session_column: session must not be NULL");
  EXPECT_NULL(ib_session_column(session, NULL, &column), "ib_session_column: name must not");
  EXPECT_NULL(ib_session_column(session, "score", NULL), "ib_session_column: column must not");
  EXPECT_NULL(ib_session_next_rows(NULL, 1, &slice), "ib_session_next_rows: session must not");
  EXPECT_NULL(ib_session_pending(NULL, &value), "ib_session_pending: session must not");
  EXPECT_NULL(ib_session_pending(session, NULL), "ib_session_pending: pending must not");
  EXPECT_NULL(ib_session_declare_drop_last(NULL, 1), "ib_session_declare_drop_last: session");
  EXPECT_NULL(ib_session_epoch_arrays(NULL, &arrays), "ib_session_epoch_arrays: session must");
  EXPECT_NULL(ib_session_epoch_arrays(session, NULL), "ib_session_epoch_arrays: arrays must");
  EXPECT_NULL(ib_session_advance(NULL, 1, &slice), "ib_session_advance: session must not");
  EXPECT_NULL(ib_session_stage(NULL, losses, 0, 1), "ib_session_stage: session must not");
  EXPECT_NULL(ib_session_hold_warnings(NULL), "ib_session_hold_warnings: session must not");
  EXPECT_NULL(ib_session_next_warning(NULL, &text), "ib_session_next_warning: session must not");
  EXPECT_NULL(ib_session_next_warning(session, NULL), "ib_session_next_warning: text must not");
  EXPECT_NULL(ib_session_load_resized(NULL, "x", NULL, NULL), "ib_session_load_resized: session");
  EXPECT_NULL(ib_session_load_resized(session, NULL, NULL, NULL), "ib_session_load_resized: path");
  EXPECT_NULL(ib_session_deserialize_resized(session, NULL, 1, NULL, NULL),
              "ib_session_deserialize_resized: bytes must not be NULL");
  EXPECT_NULL(ib_session_export_csv(session, NULL), "ib_session_export_csv: path must not");
  EXPECT_NULL(ib_session_load_report(NULL, &report), "ib_session_load_report: session must not");
  EXPECT_NULL(ib_session_load_report(session, NULL), "ib_session_load_report: report must not");
  EXPECT_OK(ib_session_next_rows(session, 1, NULL));
  EXPECT_OK(ib_session_next_rows(session, 3, &slice));
  EXPECT_NULL(ib_session_stage(session, NULL, 0, 1), "ib_session_stage: losses must not be null");
  EXPECT_OK(ib_session_advance(session, 4, NULL)); /* the slice may be NULL */
#undef EXPECT_NULL
  ib_session_destroy(session);
}

static void test_problems_json(void) {
  const char* problems = NULL;
  const char* json = NULL;
  ib_session* session = create(1);
  EXPECT(ib_rule_version() >= 2);
  EXPECT_OK(ib_config_problems_json("{}", 10, 0, &problems));
  EXPECT(strcmp(problems, "[]") == 0);
  EXPECT_OK(ib_session_config_json(session, &json));
  EXPECT_OK(ib_config_problems_json(json, SIZE, 1, &problems));
  EXPECT(strcmp(problems, "[]") == 0);
  EXPECT_OK(ib_config_problems_json("{\"epochs\":0,\"epoks\":1}", -1, -2, &problems));
  EXPECT(problems[0] == '[' && problems[strlen(problems) - 1] == ']');
  EXPECT(strstr(problems, "size must be") != NULL);
  EXPECT(strstr(problems, "threads must be at least 0, got -2") != NULL);
  EXPECT(strstr(problems, "epochs must be") != NULL);
  EXPECT(strstr(problems, "epoks") != NULL);
  EXPECT_OK(ib_config_problems_json("no JSON", 1, 1, &problems));
  EXPECT(strlen(problems) > 10);
  ib_session_destroy(session);
}

static void test_columns(void) {
  static int16_t values[SIZE];
  ib_session* session = create(1);
  ib_session* other = create(1);
  ib_column column;
  const char* const* names = NULL;
  const float* scores = NULL;
  const void* place;
  const char* bytes = NULL;
  size_t size = 0;
  int64_t i;
  for (i = 0; i < SIZE; ++i) values[i] = (int16_t)(i * 131);
  EXPECT(ib_session_column_names(NULL, &names) == IB_INVALID_ARGUMENT);
  EXPECT(ib_session_column_names(session, NULL) == IB_INVALID_ARGUMENT);
  EXPECT_OK(ib_session_column_names(session, &names));
  EXPECT(strcmp(names[0], "score") == 0 && names[1] == NULL);
  column.struct_size = sizeof column;
  EXPECT_OK(ib_session_column(session, "score", &column));
  EXPECT_OK(ib_session_scores(session, &scores));
  EXPECT(column.type == IB_FLOAT32 && column.size == SIZE && column.data == scores);
  EXPECT_OK(ib_session_set_column(session, "label", IB_INT16, values));
  EXPECT_OK(ib_session_column_names(session, &names));
  EXPECT(strcmp(names[0], "score") == 0 && strcmp(names[1], "label") == 0 && names[2] == NULL);
  EXPECT_OK(ib_session_column(session, "label", &column));
  EXPECT(column.type == IB_INT16 && column.size == SIZE && column.data != values);
  EXPECT(column.struct_size == sizeof column);
  EXPECT(memcmp(column.data, values, sizeof values) == 0);
  place = column.data;
  EXPECT_ERROR(ib_session_set_column(session, "score", IB_FLOAT32, values),
               IB_INVALID_ARGUMENT,
               "ib_session_set_column: name must be");
  EXPECT_ERROR(ib_session_set_column(session, "label", IB_INT32, values),
               IB_INVALID_ARGUMENT,
               "must keep its type I16, got I32");
  EXPECT_ERROR(
      ib_session_set_column(session, "x", -1, values), IB_INVALID_ARGUMENT, "type must be one");
  EXPECT_ERROR(
      ib_session_set_column(session, "x", 12, values), IB_INVALID_ARGUMENT, "type must be one");
  EXPECT_ERROR(ib_session_column(session, "x", &column),
               IB_INVALID_ARGUMENT,
               "ib_session_column: name must be one of score, label; got \"x\"");
  EXPECT_OK(ib_session_begin(session));
  EXPECT_OK(ib_session_set_column(session, "label", IB_INT16, values));
  EXPECT_OK(ib_session_serialize(session, &bytes, &size));
  EXPECT_ERROR(ib_session_deserialize(other, bytes, size, NULL),
               IB_INVALID_ARGUMENT,
               "column label: saved -> not set");
  EXPECT_OK(ib_session_set_column(other, "label", IB_INT16, values));
  EXPECT_OK(ib_session_deserialize(other, bytes, size, NULL));
  values[3] ^= 1;
  EXPECT_ERROR(ib_session_set_column(session, "label", IB_INT16, values),
               IB_STATE_ERROR,
               "before the first epoch begins, got other values");
  EXPECT_OK(ib_session_column(session, "label", &column));
  EXPECT(column.data == place);
  ib_session_destroy(session);
  ib_session_destroy(other);
}

static void test_rows(void) {
  ib_session* session = create(1);
  ib_slice slice;
  int64_t pending = -1;
  int64_t epoch = -1;
  int64_t at;
  float losses[BATCH];
  memset(losses, 0, sizeof losses);
  EXPECT_OK(ib_session_pending(session, &pending));
  EXPECT(pending == 0);
  EXPECT_OK(ib_session_next(session, 10, &slice));
  EXPECT_OK(ib_session_pending(session, &pending));
  EXPECT(pending == 10);
  EXPECT_OK(ib_session_observe(session, losses, 4, NULL));
  EXPECT_OK(ib_session_pending(session, &pending));
  EXPECT(pending == 6);
  EXPECT_ERROR(ib_session_next_rows(session, 1, &slice),
               IB_STATE_ERROR,
               "ib_session_next_rows: an epoch must be delivered in one way");
  EXPECT_ERROR(
      ib_session_next_rows(session, 0, &slice), IB_INVALID_ARGUMENT, "ib_session_next_rows: count");
  EXPECT_ERROR(
      ib_session_declare_drop_last(session, 3),
      IB_INVALID_ARGUMENT,
      "ib_session_declare_drop_last: drop_last must be IB_UNDECLARED, IB_YES or IB_NO, got 3");
  EXPECT_OK(ib_session_discard_epoch(session));
  EXPECT_OK(ib_session_declare_drop_last(session, IB_YES));
  EXPECT_OK(ib_session_begin(session));
  for (at = 0; at < SIZE; at += BATCH) {
    int64_t row;
    for (row = at; row < at + BATCH && row < SIZE; ++row) {
      EXPECT_OK(ib_session_next_rows(session, 1, &slice));
      EXPECT(slice.begin == row && slice.count == 1);
    }
    EXPECT_OK(ib_session_pending(session, &pending));
    EXPECT(pending == 0);
    if (at + BATCH > SIZE) break; /* the loader drops the short last batch */
    EXPECT_OK(ib_session_observe(session, losses, BATCH, &slice));
    EXPECT(slice.begin == at && slice.count == BATCH);
  }
  EXPECT_OK(ib_session_epoch(session, &epoch));
  EXPECT(epoch == 1);
  ib_session_destroy(session);
}

static void test_lent_arrays(void) {
  ib_session* told = create(1);
  ib_session* lent = create(1);
  ib_epoch_arrays arrays;
  int64_t epoch;
  arrays.struct_size = sizeof arrays;
  EXPECT_ERROR(ib_session_epoch_arrays(lent, &arrays),
               IB_STATE_ERROR,
               "ib_session_epoch_arrays: an epoch must have begun");
  for (epoch = 0; epoch < 4; ++epoch) {
    ib_slice batch;
    ib_slice same;
    const float* a = NULL;
    const float* b = NULL;
    int64_t i;
    EXPECT_OK(ib_session_begin(told));
    EXPECT_OK(ib_session_begin(lent));
    EXPECT_OK(ib_session_epoch_arrays(lent, &arrays));
    EXPECT(arrays.epoch == epoch && arrays.struct_size == sizeof arrays);
    while (ib_session_next(told, BATCH, &batch) == IB_OK && batch.count > 0) {
      float losses[BATCH];
      for (i = 0; i < batch.count; ++i) losses[i] = loss_of(batch.ids[i], epoch);
      EXPECT_OK(ib_session_observe(told, losses, batch.count, NULL));
      EXPECT_OK(ib_session_next(lent, BATCH, &same));
      EXPECT_OK(ib_session_advance(lent, same.count, &same));
      EXPECT(same.begin == batch.begin && same.count == batch.count);
      EXPECT(memcmp(same.ids, batch.ids, (size_t)batch.count * sizeof *batch.ids) == 0);
      EXPECT(same.ids == arrays.ids + same.begin && same.weights == arrays.weights + same.begin);
      if (epoch % 2 == 0) {
        memcpy(arrays.losses + same.begin, losses, (size_t)same.count * sizeof *losses);
      } else {
        EXPECT_OK(ib_session_stage(lent, losses, same.begin, same.count));
      }
    }
    EXPECT_OK(ib_session_stage(lent, arrays.losses, 0, arrays.size));
    EXPECT_ERROR(ib_session_stage(lent, arrays.losses, 1, arrays.size),
                 IB_INVALID_ARGUMENT,
                 "ib_session_stage: positions must be in [0, ");
    EXPECT_ERROR(ib_session_advance(lent, 1, NULL), IB_STATE_ERROR, "ib_session_advance: losses");
    EXPECT_ERROR(ib_session_advance(lent, -1, NULL), IB_INVALID_ARGUMENT, "got -1");
    EXPECT_OK(ib_session_set_epoch(told, epoch + 1));
    EXPECT_OK(ib_session_set_epoch(lent, epoch + 1));
    EXPECT_OK(ib_session_scores(told, &a));
    EXPECT_OK(ib_session_scores(lent, &b));
    EXPECT(memcmp(a, b, SIZE * sizeof *a) == 0);
  }
  ib_session_destroy(told);
  ib_session_destroy(lent);
}

static void test_held_warnings(void) {
  ib_session* session = create(1);
  ib_slice slice;
  ib_warning warning;
  const char* text = "untouched";
  float losses[SIZE] = {0};
  int told = 0;
  EXPECT_OK(ib_session_set_warning_handler(session, count_warning, &told));
  EXPECT_OK(ib_session_hold_warnings(session));
  EXPECT_OK(ib_session_next_warning(session, &text));
  EXPECT(text == NULL);
  EXPECT_OK(ib_session_next(session, SIZE, &slice));
  EXPECT_OK(ib_session_begin(session)); /* nothing came back */
  EXPECT_OK(ib_session_next(session, SIZE, &slice));
  losses[3] = (float)HUGE_VAL;
  EXPECT_OK(ib_session_observe(session, losses, SIZE, NULL));
  EXPECT_OK(ib_session_begin(session));
  EXPECT_OK(ib_session_next_warning(session, &text));
  EXPECT(text != NULL && strstr(text, "call ib_session_update after") != NULL);
  warning.struct_size = 3;
  EXPECT(ib_session_take_warning(session, &warning) == IB_INVALID_ARGUMENT);
  warning.struct_size = sizeof warning;
  EXPECT_OK(ib_session_take_warning(session, &warning));
  EXPECT(warning.kind == IB_NON_FINITE);
  EXPECT(strstr(warning.text, "1 losses of epoch 0 were NaN or infinite") != NULL);
  EXPECT_OK(ib_session_take_warning(session, &warning));
  EXPECT(warning.text == NULL && warning.kind == 0);
  EXPECT_OK(ib_session_next_warning(session, &text));
  EXPECT(text == NULL);
  EXPECT(told == 0);
  ib_session_destroy(session);
}

/* What the refusal of two losses too many says. */
static const char* refusal(ib_session* session) {
  const float losses[2] = {0.0f, 0.0f};
  EXPECT(ib_session_observe(session, losses, 2, NULL) == IB_STATE_ERROR);
  return ib_last_reason();
}

/* A binding's own names for the cures, and what it suspects. */
static void test_wording(void) {
  struct {
    ib_wording known;
    char of_the_future[16];
  } words;
  char name[] = "ib.update(loss, ids)";
  ib_session* session = create(1);
  ib_session* other = create(1);
  ib_slice slice;
  const char* text = NULL;
  size_t i;
  memset(&words, 0, sizeof words);
  words.known.struct_size = sizeof words.known;
  EXPECT_OK(ib_session_hold_warnings(session));
  EXPECT_OK(ib_session_set_wording(session, &words.known)); /* NULL: as it was */
  EXPECT(strstr(refusal(session), "or pass the ids, ib_session_observe_ids") != NULL);
  words.known.update_by_ids = name;
  words.known.ids_hint = ", as Indexed(dataset) gives them";
  EXPECT_OK(ib_session_set_wording(session, &words.known));
  name[0] = 'x'; /* it was copied */
  EXPECT(strstr(refusal(session), "or pass the ids, ib.update(loss, ids)") != NULL);
  EXPECT(strstr(refusal(other), "or pass the ids, ib_session_observe_ids") != NULL);
  words.known.update_by_ids = words.known.ids_hint = NULL;
  words.known.update = "ib.update(loss)";
  words.known.discard = "ib.discard_epoch()";
  EXPECT_OK(ib_session_set_wording(session, &words.known));
  EXPECT_OK(ib_session_next(session, 8, &slice));
  EXPECT_OK(ib_session_next(session, 1, &slice));
  {
    const float losses[9] = {0};
    EXPECT_ERROR(ib_session_observe(session, losses, 9, NULL),
                 IB_STATE_ERROR,
                 "Pass the ids, ib.update(loss, ids), as Indexed(dataset) gives them; or forget "
                 "this epoch's losses with ib.discard_epoch()");
  }
  EXPECT_OK(ib_session_discard_epoch(session));
  EXPECT_OK(ib_session_next(session, SIZE, &slice));
  EXPECT_OK(ib_session_begin(session)); /* nothing came back */
  EXPECT_OK(ib_session_next_warning(session, &text));
  EXPECT(text != NULL && strstr(text, "call ib.update(loss) after") != NULL);

  /* Refused: what is too short or too long, and what this library does not know. */
  words.known.update_by_ids = "not taken";
  for (i = 0; i < sizeof words.of_the_future; ++i) {
    words.known.struct_size = sizeof words;
    words.of_the_future[i] = 1;
    EXPECT_ERROR(ib_session_set_wording(session, &words.known),
                 IB_INVALID_ARGUMENT,
                 "ib_session_set_wording: wording must leave fields that this library does not "
                 "know at 0, got one set behind byte");
    words.of_the_future[i] = 0;
  }
  words.known.struct_size = sizeof words.known - 1;
  EXPECT_ERROR(ib_session_set_wording(session, &words.known),
               IB_INVALID_ARGUMENT,
               "struct_size of wording must be its sizeof");
  words.known.struct_size = 4097;
  EXPECT_ERROR(ib_session_set_wording(session, &words.known), IB_INVALID_ARGUMENT, "got 4097");
  EXPECT_ERROR(ib_session_set_wording(session, NULL),
               IB_INVALID_ARGUMENT,
               "ib_session_set_wording: wording must not be NULL");
  EXPECT_ERROR(ib_session_set_wording(NULL, &words.known),
               IB_INVALID_ARGUMENT,
               "ib_session_set_wording: session must not be NULL");
  EXPECT(strstr(refusal(session), "ib.update(loss, ids)") != NULL);
  words.known.struct_size = sizeof words; /* longer, and nothing unknown is set */
  EXPECT_OK(ib_session_set_wording(session, &words.known));
  EXPECT(strstr(refusal(session), "or pass the ids, not taken") != NULL);
  ib_session_destroy(other);
  ib_session_destroy(session);
}

static void test_suspect(void) {
  ib_session* session = create(1);
  ib_slice slice;
  char cause[] = "The losses had the shape [8, 3]";
  const float losses[BATCH] = {0};
  EXPECT_OK(ib_session_suspect(session, cause));
  cause[0] = 'x'; /* it was copied */
  EXPECT(strstr(refusal(session), ". The losses had the shape [8, 3]. Once per batch") != NULL);
  EXPECT_OK(ib_session_suspect(session, ""));
  EXPECT(strstr(refusal(session), "without this sampler. Once per batch") != NULL);
  EXPECT_OK(ib_session_next(session, BATCH, &slice));
  EXPECT_OK(ib_session_suspect(session, "A cause of this epoch"));
  EXPECT_OK(ib_session_observe(session, losses, BATCH, NULL));
  EXPECT_OK(ib_session_next(session, BATCH, &slice));
  EXPECT_ERROR(ib_session_observe(session, losses, 5, NULL),
               IB_STATE_ERROR,
               "parts of other sizes. A cause of this epoch. Pass the ids");
  EXPECT_ERROR(ib_session_next(session, BATCH, &slice),
               IB_STATE_ERROR,
               "other samples. A cause of this epoch. Pass the ids");
  EXPECT_OK(ib_session_begin(session)); /* the next epoch is not suspected */
  EXPECT(strstr(refusal(session), "A cause") == NULL);
  EXPECT_ERROR(ib_session_suspect(NULL, "x"),
               IB_INVALID_ARGUMENT,
               "ib_session_suspect: session must not be NULL");
  EXPECT_ERROR(ib_session_suspect(session, NULL),
               IB_INVALID_ARGUMENT,
               "ib_session_suspect: cause must not be NULL");
  ib_session_destroy(session);
}

static void test_weights(void) {
  ib_session* session = create(1);
  ib_plan* plan = NULL;
  ib_slice all;
  int64_t kept = 0;
  int64_t position = -1;
  int64_t i;
  int64_t ids[SIZE];
  float weights[SIZE];
  char in_plan[SIZE] = {0};
  ib_statistics statistics;
  const int64_t outside = SIZE;
  statistics.struct_size = sizeof statistics;
  EXPECT_ERROR(ib_session_weights(session, &outside, 1, weights),
               IB_INDEX_ERROR,
               "ib_session_weights: ids must be in [0, 500), got 500 in row 0");
  EXPECT_OK(ib_session_statistics(session, &statistics));
  EXPECT(statistics.planned == 0);
  run_epoch(session, 0, &kept);
  EXPECT_OK(ib_session_begin(session));
  EXPECT_OK(ib_session_plan(session, &plan));
  EXPECT_OK(ib_plan_view(plan, &all));
  EXPECT(all.count < SIZE);
  for (i = 0; i < all.count; ++i) {
    ids[i] = all.ids[all.count - 1 - i];
    in_plan[ids[i]] = 1;
  }
  EXPECT_OK(ib_session_weights(session, ids, all.count, weights));
  for (i = 0; i < all.count; ++i) EXPECT(weights[i] == all.weights[all.count - 1 - i]);
  for (i = 0; in_plan[i]; ++i) continue;
  ids[3] = i;
  weights[0] = -1.0f;
  EXPECT_ERROR(ib_session_weights(session, ids, 4, weights),
               IB_INDEX_ERROR,
               "ib_session_weights: ids must be in the plan of epoch 1, got");
  EXPECT(strstr(ib_last_error(), " in row 3") != NULL && weights[0] == -1.0f);
  EXPECT_OK(ib_session_position(session, &position));
  EXPECT(position == 0);
  EXPECT_OK(ib_session_weights(session, NULL, 0, NULL));
  EXPECT_ERROR(ib_session_weights(session, NULL, 1, weights),
               IB_INVALID_ARGUMENT,
               "ib_session_weights: ids must not be null");
  EXPECT_ERROR(ib_session_weights(session, ids, 1, NULL),
               IB_INVALID_ARGUMENT,
               "ib_session_weights: weights must not be null");
  EXPECT_ERROR(ib_session_weights(NULL, ids, 1, weights),
               IB_INVALID_ARGUMENT,
               "ib_session_weights: session must not be NULL");
  ib_plan_release(plan);
  ib_session_destroy(session);
}

static void test_load_report(void) {
  ib_session* session = create(1);
  ib_session* other = NULL;
  ib_config config;
  ib_load_report report;
  ib_slice slice;
  const char* bytes = NULL;
  const char* text = NULL;
  size_t size = 0;
  float losses[BATCH] = {0};
  int64_t kept = 0;
  run_epoch(session, 0, &kept);
  EXPECT_OK(ib_session_begin(session));
  EXPECT_OK(ib_session_next(session, BATCH, &slice));
  EXPECT_OK(ib_session_observe(session, losses, BATCH, NULL));
  EXPECT_OK(ib_session_serialize(session, &bytes, &size));
  ib_config_init(&config, sizeof config);
  config.epochs = EPOCHS + 1;
  config.lookahead = 1;
  EXPECT_OK(ib_session_create(SIZE, &config, 1, &other));
  report.struct_size = sizeof report;
  EXPECT_OK(ib_session_load_report(other, &report)); /* nothing was loaded */
  EXPECT(report.epoch == 0 && report.position == 0 && strcmp(report.changes, "") == 0);
  EXPECT_OK(ib_session_deserialize(other, bytes, size, &text));
  EXPECT_OK(ib_session_load_report(other, &report));
  EXPECT(report.epoch == 1 && report.position == BATCH);
  EXPECT(strcmp(report.changes, "epochs: 8 -> 9\nlookahead: false -> true") == 0);
  EXPECT(strcmp(report.changes, text) == 0);
  EXPECT(ib_session_deserialize(other, bytes, size - 1, NULL) == IB_FILE_ERROR);
  EXPECT_OK(ib_session_load_report(other, &report)); /* a load that failed changed nothing */
  EXPECT(report.epoch == 1 && report.position == BATCH);
  ib_session_destroy(other);
  ib_session_destroy(session);
}

/* Structs that programs compiled against shorter and longer headers hand in. */
static void test_growing_structs(void) {
  struct {
    ib_config known;
    char of_the_future[16];
  } config;
  union {
    ib_column column;
    ib_epoch_arrays arrays;
    ib_load_report report;
    ib_statistics statistics;
    size_t struct_size;
    char bytes[512];
  } out;
  ib_session* session = NULL;
  const char* bytes = NULL;
  const char* again = NULL;
  size_t size = 0;
  size_t size_again = 0;
  size_t i;
  int kind;

  /* Shorter: what the caller's header did not have yet keeps its default. */
  memset(&config, 0x5a, sizeof config);
  ib_config_init(&config.known, offsetof(ib_config, whole_batches));
  for (i = offsetof(ib_config, whole_batches); i < sizeof config; ++i) {
    EXPECT(((char*)&config)[i] == 0x5a);
  }
  config.known.epochs = EPOCHS;
  EXPECT_OK(ib_config_validate(&config.known));
  EXPECT_OK(ib_session_create(SIZE, &config.known, 1, &session));
  EXPECT_OK(ib_session_config_json(session, &bytes));
  EXPECT(strstr(bytes, "\"whole_batches\":0") != NULL);
  EXPECT(strstr(bytes, "\"lookahead\":false") != NULL);
  ib_session_destroy(session);
  session = NULL;

  /* Longer: fine as long as what this library does not know is 0. */
  ib_config_init(&config.known, sizeof config);
  config.known.epochs = EPOCHS;
  EXPECT_OK(ib_config_validate(&config.known));
  for (i = 0; i < sizeof config.of_the_future; ++i) {
    config.of_the_future[i] = 1;
    EXPECT_ERROR(ib_config_validate(&config.known),
                 IB_INVALID_ARGUMENT,
                 "ib_config_validate: config must leave fields that this library does not know");
    EXPECT_ERROR(ib_session_create(SIZE, &config.known, 1, &session),
                 IB_INVALID_ARGUMENT,
                 "the program is newer than the library");
    EXPECT(session == NULL);
    config.of_the_future[i] = 0;
  }
  config.known.struct_size = (size_t)1 << 40;
  EXPECT_ERROR(ib_config_validate(&config.known), IB_INVALID_ARGUMENT, "struct_size");
  config.known.struct_size = sizeof config;
  EXPECT_OK(ib_session_create(SIZE, &config.known, 1, &session));
  EXPECT_OK(ib_session_begin(session));

  for (kind = 0; kind < 4; ++kind) {
    const size_t known[4] = {
        sizeof(ib_column), sizeof(ib_epoch_arrays), sizeof(ib_load_report), sizeof(ib_statistics)};
    const size_t wrong[4] = {0, sizeof(size_t) - 1, 4097, SIZE_MAX};
#define ASK                                                       \
  (kind == 0   ? ib_session_column(session, "score", &out.column) \
   : kind == 1 ? ib_session_epoch_arrays(session, &out.arrays)    \
   : kind == 2 ? ib_session_load_report(session, &out.report)     \
               : ib_session_statistics(session, &out.statistics))
    EXPECT_OK(ib_session_discard_epoch(session));
    EXPECT_OK(ib_session_begin(session));
    for (i = 0; i < 4; ++i) {
      char* before;
      EXPECT_OK(ib_session_serialize(session, &bytes, &size));
      before = malloc(size);
      memcpy(before, bytes, size);
      memset(&out, 0x5a, sizeof out);
      out.struct_size = wrong[i];
      EXPECT_ERROR(ASK, IB_INVALID_ARGUMENT, "must be its sizeof, set by the caller");
      EXPECT(out.bytes[sizeof(size_t)] == 0x5a);
      EXPECT_OK(ib_session_serialize(session, &again, &size_again)); /* nothing has changed */
      EXPECT(size_again == size && memcmp(before, again, size) == 0);
      free(before);
    }
    /* From the size alone up to structs that are longer than this library's. */
    for (i = sizeof(size_t); i <= known[kind] + 64; i += 8) {
      size_t byte;
      memset(&out, 0x5a, sizeof out);
      out.struct_size = i;
      EXPECT_OK(ASK);
      EXPECT(out.struct_size == i);
      for (byte = known[kind]; byte < i; ++byte) EXPECT(out.bytes[byte] == 0);
      for (byte = i; byte < sizeof out; ++byte) EXPECT(out.bytes[byte] == 0x5a);
    }
#undef ASK
  }
  ib_session_destroy(session);
}

/* Two ranks in one process: an epoch, a state in its midst, the exchange. */
static void test_ranks(void) {
  enum { N = 21, ROWS = 11 };
  ib_session* sessions[2];
  ib_rank_report reports[2];
  ib_rank_rows rows;
  ib_config config;
  ib_ranks ranks;
  int32_t all[2 * ROWS];
  const char* parts[2];
  size_t sizes[2];
  const char* bytes = NULL;
  const int32_t* bits = NULL;
  int64_t value = 0;
  int r;
  int i;
  ib_config_init(&config, sizeof config);
  config.epochs = 8;
  memset(&ranks, 0, sizeof ranks);
  ranks.struct_size = sizeof ranks;
  ranks.size = 2;
  for (r = 0; r < 2; ++r) {
    float losses[ROWS];
    EXPECT_OK(ib_session_create(N, &config, 1, &sessions[r]));
    ranks.rank = r;
    ranks.padding = IB_PAD;
    EXPECT_OK(ib_session_set_ranks(sessions[r], &ranks));
    EXPECT_OK(ib_session_length(sessions[r], &value));
    EXPECT(value == ROWS);
    EXPECT_OK(ib_session_begin(sessions[r]));
    for (i = 0; i < ROWS; ++i) losses[i] = (float)(10 * r + i);
    for (i = 0; i < 2; ++i) {
      ib_slice slice;
      EXPECT_OK(ib_session_next(sessions[r], i == 0 ? 8 : 3, &slice));
      EXPECT_OK(ib_session_observe(sessions[r], losses + (i == 0 ? 0 : 8), slice.count, NULL));
    }
    rows.struct_size = sizeof rows;
    EXPECT_OK(ib_session_rank_rows(sessions[r], &rows));
    EXPECT(rows.rows == ROWS && rows.short_rows == 1 && rows.row[0] == 10 && rows.missing[0] == 1);
    EXPECT(rows.weights[0] == 2.0f && rows.weights[10] == 1.0f);
    reports[r].struct_size = sizeof reports[r];
    EXPECT_OK(ib_session_report_to_share(sessions[r], -1, &reports[r]));
    EXPECT(reports[r].rank == r && reports[r].observed == ROWS && reports[r].begun == 1);
    EXPECT_OK(ib_session_serialize_part(sessions[r], r == 0, &parts[r], &sizes[r]));
  }
  EXPECT(ib_session_serialize(sessions[0], &bytes, &sizes[1]) == IB_STATE_ERROR);
  EXPECT_OK(ib_session_serialize_part(sessions[1], 0, &parts[1], &sizes[1]));
  {
    ib_session* whole = NULL;
    size_t size = 0;
    EXPECT_OK(ib_session_create(N, &config, 1, &whole));
    EXPECT_OK(ib_session_join_parts(whole, parts, sizes, 2, &bytes, &size));
    EXPECT_OK(ib_session_deserialize(whole, bytes, size, NULL));
    EXPECT_OK(ib_session_position(whole, &value));
    EXPECT(value == N);
    EXPECT_OK(ib_session_save_parts(whole, "c_api_parts.safetensors", parts, sizes, 2));
    EXPECT_OK(ib_session_load(whole, "c_api_parts.safetensors", NULL));
    EXPECT(remove("c_api_parts.safetensors") == 0);
    EXPECT_ERROR(ib_session_join_parts(whole, parts, sizes, 1, &bytes, &size),
                 IB_INVALID_ARGUMENT,
                 "ib_session_join_parts: there must be one part of each of 2 ranks");
    ib_session_destroy(whole);
  }
  EXPECT_ERROR(ib_session_begin(sessions[0]), IB_STATE_ERROR, "must be exchanged");
  EXPECT(ib_rank_reports_must_share(reports, 2) == 1);
  for (r = 0; r < 2; ++r) {
    EXPECT_OK(ib_session_agree(sessions[r], reports, 2));
    EXPECT_OK(ib_session_losses_to_share(sessions[r], &bits, &value));
    EXPECT(value == ROWS);
    memcpy(all + r * ROWS, bits, sizeof(int32_t) * ROWS);
  }
  EXPECT(all[2 * ROWS - 1] == 0x7fc00002); /* padding */
  for (r = 0; r < 2; ++r) {
    EXPECT_OK(ib_session_take_losses(sessions[r], all, ROWS, reports, 2));
    EXPECT_OK(ib_session_begin(sessions[r]));
    EXPECT_OK(ib_session_epoch(sessions[r], &value));
    EXPECT(value == 1);
  }
  reports[1].epoch = 7;
  EXPECT_ERROR(ib_session_agree(sessions[0], reports, 2), IB_STATE_ERROR, "rank 1: epoch 7");
  reports[1].struct_size = 8;
  EXPECT_ERROR(ib_session_agree(sessions[0], reports, 2), IB_INVALID_ARGUMENT, "same version");
  ranks.split = 2;
  EXPECT_ERROR(
      ib_session_set_ranks(sessions[0], &ranks), IB_INVALID_ARGUMENT, "split must be 0 or");
  EXPECT_ERROR(ib_session_set_ranks(sessions[0], NULL), IB_INVALID_ARGUMENT, "ranks must not be");
  for (r = 0; r < 2; ++r) ib_session_destroy(sessions[r]);
}

static int32_t gather_alone(const void* own, size_t bytes, void* all, void* code) {
  memcpy(all, own, bytes);
  return *(const int32_t*)code;
}

/* A table in one range is a session; a gather that fails leaves it as it was. */
static void test_range(void) {
  enum { N = 5000 };
  ib_session* whole = NULL;
  ib_session* range = NULL;
  ib_session* both[2];
  ib_id_range all;
  ib_config config;
  const int64_t* ids[2];
  int64_t kept[2];
  const char* bytes = NULL;
  char* before = NULL;
  size_t size = 0;
  size_t size_after = 0;
  int32_t code = 0;
  int s;
  ib_config_init(&config, sizeof config);
  config.epochs = 8;
  config.keep = "exact";
  EXPECT_OK(ib_session_create(N, &config, 1, &whole));
  EXPECT_OK(ib_session_create(N, &config, 1, &range));
  memset(&all, 0, sizeof all);
  all.struct_size = sizeof all;
  all.total = N;
  all.ranks = 1;
  EXPECT_ERROR(ib_session_set_range(NULL, &all, gather_alone, &code),
               IB_INVALID_ARGUMENT,
               "ib_session_set_range: session must not be NULL");
  EXPECT_ERROR(ib_session_set_range(range, NULL, gather_alone, &code),
               IB_INVALID_ARGUMENT,
               "range must not be NULL");
  EXPECT_ERROR(ib_session_set_range(range, &all, NULL, NULL),
               IB_INVALID_ARGUMENT,
               "gather must be a function");
  all.first = 7;
  EXPECT_ERROR(ib_session_set_range(range, &all, gather_alone, &code),
               IB_INVALID_ARGUMENT,
               "multiple of 2048, got 7");
  all.first = 0;
  all.struct_size = 8;
  EXPECT_ERROR(
      ib_session_set_range(range, &all, gather_alone, &code), IB_INVALID_ARGUMENT, "struct_size");
  all.struct_size = sizeof all;
  code = 3;
  EXPECT_ERROR(ib_session_set_range(range, &all, gather_alone, &code),
               IB_STATE_ERROR,
               "ib_session_set_range: gather must return 0, got 3");
  code = 0;
  EXPECT_OK(ib_session_set_range(range, &all, gather_alone, &code));
  both[0] = whole;
  both[1] = range;
  for (s = 0; s < 2; ++s) {
    ib_slice slice;
    for (;;) {
      float losses[100];
      int64_t i;
      EXPECT_OK(ib_session_next(both[s], 100, &slice));
      if (slice.count == 0) break;
      for (i = 0; i < slice.count; ++i) losses[i] = (float)(slice.ids[i] % 97);
      EXPECT_OK(ib_session_observe(both[s], losses, slice.count, NULL));
    }
  }
  EXPECT_OK(ib_session_serialize(range, &bytes, &size));
  before = malloc(size);
  EXPECT(before != NULL);
  if (before != NULL) memcpy(before, bytes, size);
  code = 7;
  EXPECT_ERROR(ib_session_begin(range), IB_STATE_ERROR, "gather must return 0, got 7");
  EXPECT_OK(ib_session_serialize(range, &bytes, &size_after));
  EXPECT(before != NULL && size_after == size && memcmp(bytes, before, size) == 0);
  free(before);
  code = 0;
  for (s = 0; s < 2; ++s) {
    ib_epoch_arrays arrays;
    memset(&arrays, 0, sizeof arrays);
    arrays.struct_size = sizeof arrays;
    EXPECT_OK(ib_session_begin(both[s]));
    EXPECT_OK(ib_session_epoch_arrays(both[s], &arrays));
    ids[s] = arrays.ids;
    kept[s] = arrays.size;
  }
  EXPECT(kept[0] == kept[1] && kept[0] < N && kept[0] > 0);
  EXPECT(memcmp(ids[0], ids[1], sizeof(int64_t) * (size_t)kept[0]) == 0);
  ib_session_destroy(whole);
  ib_session_destroy(range);
}

static void test_backends(void) {
  ib_session* session = NULL;
  const char* name = "unset";
  EXPECT(strcmp(ib_backend_name(0), "cpu") == 0);
  EXPECT(ib_backend_name(-1) == NULL);
  EXPECT(ib_backend_name(1) == NULL);
  EXPECT_ERROR(ib_load_backend("no_such_library.so", &name),
               IB_INVALID_ARGUMENT,
               "ib_load_backend: no_such_library.so: ");
  EXPECT(strcmp(name, "unset") == 0);
  EXPECT_ERROR(ib_load_backend(NULL, NULL),
               IB_INVALID_ARGUMENT,
               "ib_load_backend: library must not be NULL");
  EXPECT_ERROR(ib_session_create_on(10, "{\"epochs\": 3}", 1, "cuda", &session),
               IB_INVALID_ARGUMENT,
               "backend must be one that was loaded (cpu), got \"cuda\"");
  EXPECT(session == NULL);
  EXPECT_OK(ib_session_create_on(10, "{\"epochs\": 3}", 1, "cpu", &session));
  ib_session_destroy(session);
  EXPECT_OK(ib_session_create_on(10, "{\"epochs\": 3}", 1, NULL, &session));
  ib_session_destroy(session);
}

int main(void) {
  test_library();
  test_config();
  test_struct_sizes();
  test_training();
  test_errors();
  test_file();
  test_resize();
  test_null_arguments();
  test_problems_json();
  test_columns();
  test_rows();
  test_lent_arrays();
  test_held_warnings();
  test_wording();
  test_suspect();
  test_weights();
  test_load_report();
  test_growing_structs();
  test_ranks();
  test_range();
  test_backends();
  if (failures == 0) printf("C interface: all tests passed\n");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

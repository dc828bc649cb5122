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

/* The call fails with this status, and the message has this part. */
#define EXPECT_ERROR(call, status, part)             \
  do {                                               \
    EXPECT((call) == (status));                      \
    EXPECT(strstr(ib_last_error(), (part)) != NULL); \
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
  EXPECT_ERROR(ib_session_observe(session, losses, 8, NULL), IB_STATE_ERROR, "handed out");
  EXPECT_ERROR(ib_session_update(session, losses, 8, 42, &out), IB_INVALID_ARGUMENT, "got 42");
  EXPECT_ERROR(ib_session_observe_ids(session, losses, &id, 1, weights),
               IB_INDEX_ERROR,
               "ids must be in [0, 500), got 500 in row 0");
  EXPECT_ERROR(ib_session_load(session, "no such file", NULL), IB_FILE_ERROR, "no such file");
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

int main(void) {
  test_library();
  test_config();
  test_struct_sizes();
  test_training();
  test_errors();
  test_file();
  if (failures == 0) printf("C interface: all tests passed\n");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The C interface: the engine from C, or from any language that can call C.
 *
 * One learns: handles, statuses and ib_last_error(), and the step of update in plain arrays. */
#include <infobatch/c_api.h>

#include <stdio.h>

enum { kSize = 1000, kBatch = 40, kEpochs = 8 };

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, ib_last_error());
  return 1;
}

/* Easy samples are learned soon, every tenth stays hard. */
static float loss_of(int64_t id, int epoch) {
  const float ease = 1.0f + (float)epoch;
  return id % 10 == 0 ? 2.0f : 0.5f / ease + 0.001f * (float)(id % 7);
}

int main(void) {
  ib_config config;
  ib_session* session = NULL;
  ib_statistics figures;
  int epoch;

  ib_config_init(&config, sizeof config);
  config.epochs = kEpochs;
  config.prune_ratio = 1.5;
  if (ib_session_create(kSize, &config, 0, &session) != IB_INVALID_ARGUMENT) return 1;
  printf("refused: %s\n", ib_last_error());

  config.prune_ratio = 0.5;
  if (ib_session_create(kSize, &config, 0, &session) != IB_OK) return failed("create");
  for (epoch = 0; epoch < kEpochs; ++epoch) {
    ib_slice batch;
    float loss = 0.0f;
    int seen = 0;
    if (ib_session_begin(session) != IB_OK) return failed("begin");
    for (;;) {
      float losses[kBatch];
      int64_t i;
      if (ib_session_next(session, kBatch, &batch) != IB_OK) return failed("next");
      if (batch.count == 0) break;
      for (i = 0; i < batch.count; ++i) losses[i] = loss_of(batch.ids[i], epoch);
      if (ib_session_update(session, losses, batch.count, IB_MEAN, &loss) != IB_OK) {
        return failed("update");
      }
      seen += (int)batch.count;
    }
    printf("epoch %d: %4d samples, last weighted loss %.3f\n", epoch, seen, loss);
  }

  figures.struct_size = sizeof figures;
  if (ib_session_statistics(session, &figures) != IB_OK) return failed("statistics");
  printf("%.1f %% of the samples saved\n", 100.0 * figures.saved);
  ib_session_destroy(session);
  return figures.saved > 0.2 && figures.saved < 0.5 ? 0 : 1;
}

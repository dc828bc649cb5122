/* A user's C program: two epochs over 100 samples through the C interface. */
#include <infobatch/c_api.h>

#include <stdio.h>

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, ib_last_error());
  return 1;
}

int main(void) {
  ib_config config;
  ib_session* session = NULL;
  int64_t epoch;
  if (ib_abi_version() != IB_ABI_VERSION) return failed("another version of the library");
  ib_config_init(&config, sizeof config);
  config.epochs = 10;
  if (ib_session_create(100, &config, 0, &session) != IB_OK) return failed("create");
  for (epoch = 0; epoch < 2; ++epoch) {
    int64_t seen = 0;
    ib_slice batch;
    if (ib_session_begin(session) != IB_OK) return failed("begin");
    while (ib_session_next(session, 8, &batch) == IB_OK && batch.count > 0) {
      float losses[8];
      float loss;
      int64_t i;
      for (i = 0; i < batch.count; ++i) losses[i] = batch.ids[i] < 50 ? 0.1f : 2.0f;
      if (ib_session_update(session, losses, batch.count, IB_MEAN, &loss) != IB_OK) {
        return failed("update");
      }
      seen += batch.count;
    }
    printf("epoch %d: %d of 100 samples\n", (int)epoch, (int)seen);
    if (epoch == 0 ? seen != 100 : (seen <= 50 || seen >= 100)) return 1;
  }
  ib_session_destroy(session);
  return 0;
}

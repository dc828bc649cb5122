/* A thread's first failing call of the C interface, while there is no memory at all: the status
 * tells, and the process goes on. A program apart, because it stands in front of the C library's
 * malloc.
 */
#include <infobatch/c_api.h>

#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

extern void* __libc_malloc(size_t size);
extern void* __libc_calloc(size_t count, size_t size);
extern void* __libc_realloc(void* block, size_t size);

static __thread int without_memory;

void* malloc(size_t size) { return without_memory ? NULL : __libc_malloc(size); }
void* calloc(size_t count, size_t size) {
  return without_memory ? NULL : __libc_calloc(count, size);
}
void* realloc(void* block, size_t size) {
  return without_memory ? NULL : __libc_realloc(block, size);
}

static ib_session* session;
static int failures = 0;

static void* first_call(void* number) {
  const char* text = NULL;
  ib_plan* plan = NULL;
  ib_status status = IB_OK;
  const char* error;
  const char* reason;
  without_memory = 1;
  switch (*(int*)number) {
    case 0:
      status = ib_session_update(NULL, NULL, 0, IB_MEAN, NULL);
      break;
    case 1:
      status = ib_config_problems_json("{}", 1, 1, &text);
      break;
    case 2:
      status = ib_session_next_warning(session, &text);
      break;
    default:
      status = ib_session_plan(session, &plan);
      break;
  }
  error = ib_last_error();
  reason = ib_last_reason();
  without_memory = 0;
  if (status != IB_OUT_OF_MEMORY || strstr(error, "ib_") != error ||
      strstr(error, ": out of memory") == NULL || strcmp(reason, "out of memory") != 0) {
    fprintf(stderr, "call %d: status %d, \"%s\"\n", *(int*)number, (int)status, error);
    ++failures;
  }
  return NULL;
}

int main(void) {
  ib_config config;
  int number;
  ib_config_init(&config, sizeof config);
  config.epochs = 10;
  if (ib_session_create(10, &config, 1, &session) != IB_OK) return 1;
  for (number = 0; number < 4; ++number) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, first_call, &number) != 0) return 1;
    pthread_join(thread, NULL);
  }
  ib_session_destroy(session);
  if (failures == 0) printf("first calls without memory: all told\n");
  return failures;
}

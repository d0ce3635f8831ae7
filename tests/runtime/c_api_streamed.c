/* The C API's streamed models: goals, and planning again. */
#include "tests/runtime/c_api_checks.h"

void test_streamed(const char* path, const rwkv_model* full) {
  const size_t n_vocab = rwkv_model_n_vocab(full);
  rwkv_session* expected = new_session(full, 1);
  const rwkv_device device = {1e8, 0.01, 1};
  const rwkv_device nothing = {0, 0, 0};
  rwkv_stream_goal goal = {0, 0, 0};
  rwkv_model* model = NULL;
  rwkv_session* session = NULL;
  uint64_t all = 0;
  goal.first_token_seconds = 10;
  CHECK(rwkv_model_open_streamed(path, &device, &goal, &model) == RWKV_OK);
  session = new_session(model, 1);
  CHECK(same_logits(session, expected, n_vocab));
  all = rwkv_model_resident_bytes(model);
  CHECK(rwkv_session_replan(session, all - 20000, 0) == RWKV_OK);
  CHECK(rwkv_model_resident_bytes(model) < all);
  {
    rwkv_session* again = new_session(model, 1);
    CHECK(same_logits(again, expected, n_vocab));
    rwkv_session_free(again);
  }
  CHECK_FAILS(rwkv_session_replan(session, 1000, 0), RWKV_USAGE, "smallest");
  CHECK_FAILS(rwkv_session_replan(session, all, -1), RWKV_USAGE, "tokens_per_second");
  CHECK_FAILS(rwkv_session_replan(expected, all, 0), RWKV_USAGE, "streamed");
  CHECK_FAILS(rwkv_session_replan(NULL, all, 0), RWKV_USAGE, "session is NULL");
  rwkv_session_free(session);
  rwkv_model_free(model);
  CHECK_FAILS(rwkv_model_open_streamed(path, &nothing, &goal, &model), RWKV_USAGE, "device");
  goal.tokens_per_second = 1e9;
  CHECK_FAILS(rwkv_model_open_streamed(path, &device, &goal, &model), RWKV_USAGE,
              "cannot be reached");
  CHECK(model == NULL);
  rwkv_session_free(expected);
}

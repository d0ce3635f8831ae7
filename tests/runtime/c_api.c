/* The C API, used from C99 as a program that embeds the library would. */
#include "tests/runtime/c_api_checks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int test_c_api(const char* model, const char* model_without_vocabulary, const char* not_a_model,
               const char* no_file);

int n_failures = 0;

int mentions(const char* part) {
  return strstr(rwkv_last_error(), part) != NULL;
}

static void fill_prompt(int32_t* tokens) {
  int i;
  for (i = 0; i < kPromptTokens; ++i) {
    tokens[i] = 1 + (i * 37) % 250;
  }
}

/* What a callback has received. */
typedef struct received {
  int32_t tokens[kMaxTokens];
  size_t n_tokens;
  char text[4096];
  size_t n_bytes;
  size_t cancel_at;
} received;

static int receive(void* user, int32_t token, const char* text, size_t n_bytes) {
  received* all = (received*)user;
  CHECK(text != NULL);
  if (token >= 0 && all->n_tokens < kMaxTokens) {
    all->tokens[all->n_tokens++] = token;
  }
  if (n_bytes <= sizeof(all->text) - all->n_bytes) {
    memcpy(all->text + all->n_bytes, text, n_bytes);
    all->n_bytes += n_bytes;
  }
  return all->n_tokens == all->cancel_at;
}

rwkv_session* new_session(const rwkv_model* model, unsigned n_threads) {
  rwkv_session* session = NULL;
  int32_t prompt[kPromptTokens];
  fill_prompt(prompt);
  CHECK(rwkv_session_new(model, n_threads, &session) == RWKV_OK);
  CHECK(session != NULL);
  CHECK(rwkv_eval(session, prompt, kPromptTokens) == RWKV_OK);
  return session;
}

int same_logits(const rwkv_session* a, const rwkv_session* b, size_t n_vocab) {
  float* logits_a = (float*)malloc(n_vocab * sizeof(float));
  float* logits_b = (float*)malloc(n_vocab * sizeof(float));
  int same = 0;
  if (logits_a != NULL && logits_b != NULL) {
    CHECK(rwkv_logits(a, logits_a, n_vocab) == RWKV_OK);
    CHECK(rwkv_logits(b, logits_b, n_vocab) == RWKV_OK);
    same = memcmp(logits_a, logits_b, n_vocab * sizeof(float)) == 0;
  }
  free(logits_a);
  free(logits_b);
  return same;
}

static void test_version(void) {
  int major = -1, minor = -1, patch = -1;
  CHECK(sscanf(rwkv_edge_version(), "%d.%d.%d", &major, &minor, &patch) == 3);
  CHECK(rwkv_edge_api_version() == RWKV_EDGE_API_VERSION);
  CHECK(strcmp(rwkv_last_error(), "") == 0);
}

static void test_model(const rwkv_model* model, const rwkv_model* mute) {
  CHECK(rwkv_model_n_vocab(model) == 300);
  CHECK(rwkv_model_n_layer(model) == 2);
  CHECK(rwkv_model_n_embd(model) == 72);
  CHECK(rwkv_model_bytes(model) > rwkv_model_bytes_per_token(model));
  CHECK(rwkv_model_bytes_per_token(model) > 0);
  CHECK(strcmp(rwkv_model_version(model), "v7") == 0);
  CHECK(rwkv_model_has_vocabulary(model) == 1);
  CHECK(rwkv_model_end_of_text(model) == 0);
  CHECK(rwkv_model_has_vocabulary(mute) == 0);
  CHECK(rwkv_model_end_of_text(mute) == -1);
}

/* Every mode gives the same logits; a limit is kept or refused. */
static void test_memory(const char* path, const rwkv_model* full) {
  const size_t n_vocab = rwkv_model_n_vocab(full);
  const rwkv_memory_mode modes[] = {RWKV_MEMORY_ANY,      RWKV_MEMORY_FULL,
                                    RWKV_MEMORY_SPARSE,   RWKV_MEMORY_LAYERWISE,
                                    RWKV_MEMORY_WINDOWED, RWKV_MEMORY_STREAMED};
  rwkv_session* expected = new_session(full, 1);
  size_t i;
  for (i = 0; i < sizeof(modes) / sizeof(modes[0]); ++i) {
    rwkv_model* model = NULL;
    CHECK(rwkv_model_open_within(path, modes[i], 0, &model) == RWKV_OK);
    rwkv_session* session = new_session(model, 1);
    CHECK(same_logits(session, expected, n_vocab));
    CHECK(rwkv_model_resident_bytes(model) > 0);
    CHECK((rwkv_model_bytes_read(model) > 0) == (modes[i] >= RWKV_MEMORY_SPARSE));
    rwkv_session_free(session);
    rwkv_model_free(model);
  }
  rwkv_session_free(expected);
  {
    rwkv_model* model = NULL;
    CHECK_FAILS(rwkv_model_open_within(path, RWKV_MEMORY_ANY, 1000, &model), RWKV_USAGE,
                "smallest");
    CHECK_FAILS(rwkv_model_open_within(path, (rwkv_memory_mode)7, 0, &model), RWKV_USAGE, "mode");
  }
}

static void test_text(const rwkv_model* model, const rwkv_model* mute) {
  const char text[] = "Hello world: the end";
  const size_t n_text = sizeof(text) - 1;
  int32_t ids[32];
  char back[64];
  size_t n = 99, n_back = 99, i;
  const int32_t unknown[] = {1, 299};

  CHECK(rwkv_encode(model, text, n_text, NULL, 0, &n) == RWKV_OK);
  CHECK(n > 0 && n < n_text);
  CHECK(rwkv_encode(model, text, n_text, ids, 32, &n_back) == RWKV_OK);
  CHECK(n_back == n);
  CHECK(rwkv_encode(model, text, n_text, ids, n, &n_back) == RWKV_OK);
  CHECK(rwkv_decode(model, ids, n, NULL, 0, &n_back) == RWKV_OK);
  CHECK(n_back == n_text);
  CHECK(rwkv_decode(model, ids, n, back, sizeof(back), &n_back) == RWKV_OK);
  CHECK(n_back == n_text && memcmp(back, text, n_text) == 0);

  /* Too small: told how many, nothing written. */
  for (i = 0; i < 32; ++i) {
    ids[i] = -7;
  }
  CHECK_FAILS(rwkv_encode(model, text, n_text, ids, n - 1, &n_back), RWKV_USAGE, "too small");
  CHECK(n_back == n && ids[0] == -7);
  CHECK_FAILS(rwkv_encode(model, text, n_text, ids, 0, &n_back), RWKV_USAGE, "too small");
  CHECK(rwkv_encode(model, text, n_text, ids, n, &n) == RWKV_OK);
  memset(back, '#', sizeof(back));
  CHECK_FAILS(rwkv_decode(model, ids, n, back, n_text - 1, &n_back), RWKV_USAGE, "too small");
  CHECK(n_back == n_text && back[0] == '#');

  CHECK(rwkv_encode(model, NULL, 0, ids, 32, &n) == RWKV_OK && n == 0);
  CHECK(rwkv_decode(model, NULL, 0, back, 64, &n) == RWKV_OK && n == 0);
  CHECK_FAILS(rwkv_encode(model, NULL, 1, ids, 32, &n), RWKV_USAGE, "text");
  CHECK_FAILS(rwkv_encode(model, text, n_text, NULL, 5, &n), RWKV_USAGE, "NULL");
  CHECK_FAILS(rwkv_encode(model, text, n_text, ids, 32, NULL), RWKV_USAGE, "n_out");
  CHECK_FAILS(rwkv_encode(NULL, text, n_text, ids, 32, &n), RWKV_USAGE, "model");
  CHECK_FAILS(rwkv_decode(model, NULL, 1, back, 64, &n), RWKV_USAGE, "ids");
  CHECK_FAILS(rwkv_decode(model, ids, 1, NULL, 64, &n), RWKV_USAGE, "NULL");
  CHECK_FAILS(rwkv_decode(model, ids, 1, back, 64, NULL), RWKV_USAGE, "n_out");
  CHECK_FAILS(rwkv_decode(NULL, ids, 1, back, 64, &n), RWKV_USAGE, "model");
  CHECK_FAILS(rwkv_decode(model, unknown, 2, back, 64, &n), RWKV_BAD_INPUT, "299");
  n = 99;
  CHECK_FAILS(rwkv_encode(mute, text, n_text, ids, 32, &n), RWKV_BAD_INPUT, "vocabulary");
  CHECK(n == 0);
  CHECK_FAILS(rwkv_decode(mute, ids, 1, back, 64, &n), RWKV_BAD_INPUT, "vocabulary");
}

static void test_eval(const rwkv_model* model, const rwkv_model* mute) {
  const size_t n_vocab = rwkv_model_n_vocab(model);
  int32_t prompt[kPromptTokens];
  int32_t ids[32];
  size_t i, n = 0;
  rwkv_session* at_once = new_session(model, 1);
  rwkv_session* singly = NULL;
  rwkv_session* silent = NULL;
  float one[1];

  fill_prompt(prompt);
  CHECK(rwkv_session_new(model, 2, &singly) == RWKV_OK);
  CHECK_FAILS(rwkv_logits(singly, one, 1), RWKV_USAGE, "no logits yet");
  for (i = 0; i < kPromptTokens; ++i) {
    CHECK(rwkv_eval(singly, &prompt[i], 1) == RWKV_OK);
  }
  CHECK(same_logits(at_once, singly, n_vocab));
  CHECK_FAILS(rwkv_logits(singly, one, 1), RWKV_USAGE, "300");

  prompt[1] = 300;
  CHECK_FAILS(rwkv_eval(singly, prompt, 3), RWKV_BAD_INPUT, "300");
  prompt[1] = -1;
  CHECK_FAILS(rwkv_eval(singly, prompt, 3), RWKV_BAD_INPUT, "-1");
  CHECK(rwkv_eval(singly, NULL, 0) == RWKV_OK);
  CHECK(same_logits(at_once, singly, n_vocab));

  CHECK(rwkv_eval_text(at_once, "Hello world", 11) == RWKV_OK);
  CHECK(rwkv_encode(model, "Hello world", 11, ids, 32, &n) == RWKV_OK);
  CHECK(rwkv_eval(singly, ids, n) == RWKV_OK);
  CHECK(same_logits(at_once, singly, n_vocab));

  CHECK(rwkv_session_reset(singly) == RWKV_OK);
  CHECK_FAILS(rwkv_logits(singly, one, 1), RWKV_USAGE, "no logits yet");
  fill_prompt(prompt);
  rwkv_session_free(at_once);
  at_once = new_session(model, 1);
  CHECK(rwkv_eval(singly, prompt, kPromptTokens) == RWKV_OK);
  CHECK(same_logits(at_once, singly, n_vocab));

  CHECK(rwkv_session_new(mute, 1, &silent) == RWKV_OK);
  CHECK_FAILS(rwkv_eval_text(silent, "Hello", 5), RWKV_BAD_INPUT, "token ids");
  rwkv_session_free(silent);
  rwkv_session_free(at_once);
  rwkv_session_free(singly);
}

/* A file has the logits too, so that text may follow at once. */
static void test_state_file(rwkv_session* session, rwkv_session* other, size_t n_vocab,
                            const char* path) {
  CHECK(rwkv_state_save(session, path) == RWKV_OK);
  CHECK(!same_logits(session, other, n_vocab));
  CHECK(rwkv_state_load(other, path) == RWKV_OK);
  CHECK(same_logits(session, other, n_vocab));
  CHECK(remove(path) == 0);
  CHECK_FAILS(rwkv_state_load(other, path), RWKV_BAD_INPUT, path);
  CHECK(same_logits(session, other, n_vocab));
  CHECK_FAILS(rwkv_state_save(session, "/nowhere/at/all"), RWKV_FAILED, "/nowhere");
  CHECK_FAILS(rwkv_state_save(NULL, path), RWKV_USAGE, "session");
  CHECK_FAILS(rwkv_state_load(other, NULL), RWKV_USAGE, "path");
}

static void test_state(const rwkv_model* model, const rwkv_model* mute, const char* path) {
  const size_t n_vocab = rwkv_model_n_vocab(model);
  const int32_t more[] = {5, 6, 7};
  rwkv_session* session = new_session(model, 1);
  rwkv_session* other = new_session(model, 1);
  rwkv_session* copy = NULL;
  rwkv_session* stranger = NULL;
  const size_t n = rwkv_state_bytes(session);
  unsigned char* state = (unsigned char*)malloc(n);
  CHECK(n > 0 && state != NULL);
  if (state == NULL) {
    return;
  }
  CHECK(rwkv_state_get(session, state, n) == RWKV_OK);
  CHECK_FAILS(rwkv_state_get(session, state, n - 1), RWKV_USAGE, "bytes");
  CHECK(rwkv_eval(session, more, 3) == RWKV_OK);
  CHECK(rwkv_session_clone(session, &copy) == RWKV_OK);
  CHECK(same_logits(session, copy, n_vocab));

  CHECK(rwkv_eval(other, more, 1) == RWKV_OK);
  CHECK(rwkv_state_set(other, state, n) == RWKV_OK);
  CHECK(rwkv_eval(other, more, 3) == RWKV_OK);
  CHECK(same_logits(session, other, n_vocab));

  /* Refused, and nothing has changed. */
  CHECK_FAILS(rwkv_state_set(other, state, n - 1), RWKV_BAD_INPUT, "state");
  state[n / 2] ^= 1;
  CHECK_FAILS(rwkv_state_set(other, state, n), RWKV_BAD_INPUT, "damaged");
  CHECK(rwkv_session_new(mute, 1, &stranger) == RWKV_OK);
  CHECK(rwkv_state_bytes(stranger) == n);
  CHECK(same_logits(session, other, n_vocab));
  CHECK(rwkv_eval(other, more, 3) == RWKV_OK);
  CHECK(rwkv_eval(copy, more, 3) == RWKV_OK);
  CHECK(same_logits(copy, other, n_vocab));
  CHECK(!same_logits(copy, session, n_vocab));

  test_state_file(session, other, n_vocab, path);
  free(state);
  rwkv_session_free(stranger);
  rwkv_session_free(copy);
  rwkv_session_free(other);
  rwkv_session_free(session);
}

static void test_generate(const rwkv_model* model) {
  rwkv_sampler_options options = rwkv_sampler_default();
  rwkv_session* session = new_session(model, 1);
  rwkv_session* other = new_session(model, 2);
  rwkv_session* empty = NULL;
  rwkv_stop_reason why = RWKV_STOP_STRING;
  static received first, second, third;
  const char* stops[2];
  size_t n_stops[2];
  char bytes[64];

  CHECK(options.temperature == 1.0f && options.top_k == 0 && options.top_p == 1.0f);
  CHECK(options.presence_penalty == 0.0f && options.seed == 0);
  options.temperature = 0.0f;
  options.presence_penalty = 4.0f; /* no token twice, so nothing ends in a loop */
  CHECK(rwkv_generate(session, &options, 30, receive, &first, &why) == RWKV_OK);
  CHECK(why == RWKV_STOP_MAX_TOKENS || why == RWKV_STOP_END_OF_TEXT);
  CHECK(first.n_tokens > 5 && first.n_bytes > 0);

  /* The same with other threads, in two parts: NULL goes on with the options. */
  CHECK(rwkv_generate(other, &options, 3, receive, &second, NULL) == RWKV_OK);
  CHECK(rwkv_generate(other, NULL, 27, receive, &second, &why) == RWKV_OK);
  CHECK(second.n_tokens == first.n_tokens);
  CHECK(memcmp(second.tokens, first.tokens, sizeof(first.tokens)) == 0);
  CHECK(same_logits(session, other, rwkv_model_n_vocab(model)));

  rwkv_session_free(session);
  session = new_session(model, 1);
  third.cancel_at = 4;
  CHECK(rwkv_generate(session, &options, 30, receive, &third, &why) == RWKV_OK);
  CHECK(why == RWKV_STOP_CANCELLED && third.n_tokens == 4);

  /* The bytes of the first token are a stop: nothing is shown. */
  rwkv_session_free(session);
  session = new_session(model, 1);
  CHECK(rwkv_decode(model, first.tokens, 1, bytes, sizeof(bytes), &n_stops[1]) == RWKV_OK);
  CHECK(n_stops[1] > 0);
  stops[0] = "never to be seen";
  n_stops[0] = strlen(stops[0]);
  stops[1] = bytes;
  memset(&third, 0, sizeof(third));
  CHECK(rwkv_session_set_stops(session, stops, n_stops, 2) == RWKV_OK);
  CHECK(rwkv_generate(session, &options, 30, receive, &third, &why) == RWKV_OK);
  CHECK(why == RWKV_STOP_STRING && third.n_tokens == 1 && third.n_bytes == 0);
  CHECK(rwkv_session_set_stops(session, NULL, NULL, 0) == RWKV_OK);
  n_stops[1] = 0;
  CHECK_FAILS(rwkv_session_set_stops(session, stops, n_stops, 2), RWKV_USAGE, "stop string 2");
  stops[0] = NULL;
  CHECK_FAILS(rwkv_session_set_stops(session, stops, n_stops, 2), RWKV_USAGE, "NULL");
  CHECK_FAILS(rwkv_session_set_stops(session, NULL, n_stops, 1), RWKV_USAGE, "stops");
  CHECK_FAILS(rwkv_session_set_stops(session, stops, NULL, 1), RWKV_USAGE, "n_bytes");

  options.top_p = 2.0f;
  CHECK_FAILS(rwkv_generate(session, &options, 1, receive, &third, &why), RWKV_USAGE, "top_p");
  CHECK_FAILS(rwkv_generate(session, NULL, 1, NULL, NULL, &why), RWKV_USAGE, "callback");
  CHECK_FAILS(rwkv_generate(NULL, NULL, 1, receive, &third, &why), RWKV_USAGE, "session");
  CHECK(rwkv_session_new(model, 1, &empty) == RWKV_OK);
  CHECK_FAILS(rwkv_generate(empty, NULL, 1, receive, &third, &why), RWKV_USAGE, "prompt");
  rwkv_session_free(empty);
  rwkv_session_free(session);
  rwkv_session_free(other);
}

static void test_null(const rwkv_model* model) {
  rwkv_model* no_model = (rwkv_model*)&n_failures;
  rwkv_session* session = (rwkv_session*)&n_failures;
  const int32_t token = 1;
  float logit;
  CHECK_FAILS(rwkv_model_open(NULL, &no_model), RWKV_USAGE, "path");
  CHECK(no_model == NULL);
  CHECK_FAILS(rwkv_model_open("model", NULL), RWKV_USAGE, "out");
  CHECK_FAILS(rwkv_session_new(NULL, 1, &session), RWKV_USAGE, "model");
  CHECK(session == NULL);
  CHECK_FAILS(rwkv_session_new(model, 1, NULL), RWKV_USAGE, "out");
  CHECK_FAILS(rwkv_session_new(model, 100000, &session), RWKV_USAGE, "n_threads");
  CHECK(session == NULL);
  CHECK_FAILS(rwkv_session_clone(NULL, &session), RWKV_USAGE, "session");
  CHECK_FAILS(rwkv_session_reset(NULL), RWKV_USAGE, "session");
  CHECK_FAILS(rwkv_eval(NULL, &token, 1), RWKV_USAGE, "session");
  CHECK_FAILS(rwkv_eval_text(NULL, "a", 1), RWKV_USAGE, "session");
  CHECK_FAILS(rwkv_logits(NULL, &logit, 1), RWKV_USAGE, "session");
  CHECK_FAILS(rwkv_state_get(NULL, &logit, 1), RWKV_USAGE, "session");
  CHECK_FAILS(rwkv_state_set(NULL, &logit, 1), RWKV_USAGE, "session");
  CHECK_FAILS(rwkv_session_set_stops(NULL, NULL, NULL, 0), RWKV_USAGE, "session");
  CHECK(rwkv_model_n_vocab(NULL) == 0 && mentions("rwkv_model_n_vocab"));
  CHECK(rwkv_model_n_layer(NULL) == 0 && mentions("rwkv_model_n_layer"));
  CHECK(rwkv_model_n_embd(NULL) == 0 && rwkv_model_bytes(NULL) == 0);
  CHECK(rwkv_model_bytes_per_token(NULL) == 0 && rwkv_model_has_vocabulary(NULL) == 0);
  CHECK(rwkv_model_end_of_text(NULL) == -1 && rwkv_state_bytes(NULL) == 0);
  CHECK(strcmp(rwkv_model_version(NULL), "") == 0);
  CHECK(rwkv_session_new(model, 1, &session) == RWKV_OK);
  CHECK_FAILS(rwkv_session_clone(session, NULL), RWKV_USAGE, "out");
  CHECK_FAILS(rwkv_eval(session, NULL, 1), RWKV_USAGE, "tokens");
  CHECK_FAILS(rwkv_eval_text(session, NULL, 1), RWKV_USAGE, "text");
  CHECK_FAILS(rwkv_logits(session, NULL, 300), RWKV_USAGE, "out");
  CHECK_FAILS(rwkv_state_get(session, NULL, 1), RWKV_USAGE, "out");
  CHECK_FAILS(rwkv_state_set(session, NULL, 1), RWKV_USAGE, "state");
  rwkv_session_free(session);
  rwkv_session_free(NULL);
  rwkv_model_free(NULL);
}

static void test_open(const char* not_a_model, const char* no_file) {
  rwkv_model* model = NULL;
  CHECK_FAILS(rwkv_model_open(not_a_model, &model), RWKV_BAD_INPUT, not_a_model);
  CHECK(model == NULL);
  CHECK_FAILS(rwkv_model_open(no_file, &model), RWKV_BAD_INPUT, no_file);
  /* A message may be printed as it is. */
  CHECK_FAILS(rwkv_model_open("no\033[31m\n", &model), RWKV_BAD_INPUT, "no\\x1b[31m\\n: ");
  CHECK(strpbrk(rwkv_last_error(), "\033\n") == NULL);
  CHECK(model == NULL);
}

int test_c_api(const char* path, const char* path_without_vocabulary, const char* not_a_model,
               const char* no_file) {
  rwkv_model* model = NULL;
  rwkv_model* mute = NULL;
  rwkv_session* survivor = NULL;
  const int32_t token = 3;
  test_version();
  CHECK(rwkv_model_open(path, &model) == RWKV_OK);
  CHECK(rwkv_model_open(path_without_vocabulary, &mute) == RWKV_OK);
  if (model == NULL || mute == NULL) {
    return 1;
  }
  test_model(model, mute);
  test_text(model, mute);
  test_eval(model, mute);
  test_state(model, mute, no_file);
  test_generate(model);
  test_null(model);
  test_memory(path, model);
  test_streamed(path, model);
  test_open(not_a_model, no_file);

  /* Sessions outlive their model's handle. */
  survivor = new_session(model, 2);
  rwkv_model_free(model);
  rwkv_model_free(mute);
  CHECK(rwkv_eval(survivor, &token, 1) == RWKV_OK);
  rwkv_session_free(survivor);
  if (n_failures > 0) {
    fprintf(stderr, "%d checks failed\n", n_failures);
  }
  return n_failures == 0 ? 0 : 1;
}

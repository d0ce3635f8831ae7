/* What the tests of the C API share. */
#ifndef RWKV_TESTS_C_API_CHECKS_H
#define RWKV_TESTS_C_API_CHECKS_H

#include <stdio.h>

#include "rwkv_edge.h"

extern int n_failures;

#define CHECK(condition)                                                               \
  do {                                                                                 \
    if (!(condition)) {                                                                \
      fprintf(stderr, "%s:%d: %s\n  last error: %s\n", __FILE__, __LINE__, #condition, \
              rwkv_last_error());                                                      \
      ++n_failures;                                                                    \
    }                                                                                  \
  } while (0)

/* The call fails with `code`, and the text of the failure mentions `part`. */
#define CHECK_FAILS(call, code, part) \
  do {                                \
    CHECK((call) == (code));          \
    CHECK(mentions(part));            \
  } while (0)

enum { kPromptTokens = 40, kMaxTokens = 64 };

/* Whether the text of the last failure mentions `part`. */
int mentions(const char* part);
/* A session that was fed kPromptTokens tokens. */
rwkv_session* new_session(const rwkv_model* model, unsigned n_threads);
int same_logits(const rwkv_session* a, const rwkv_session* b, size_t n_vocab);

/* Weights that are streamed and planned again give the same logits; goals are kept or refused. */
void test_streamed(const char* path, const rwkv_model* full);

#endif

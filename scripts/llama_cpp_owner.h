// What the programs that are built against a llama.cpp of your own share.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "llama.h"

[[noreturn]] inline void fail(const std::string& what) {
  std::fprintf(stderr, "error: %s\n", what.c_str());
  std::exit(1);
}

struct FreeLlama {
  void operator()(llama_model* model) const { llama_model_free(model); }
  void operator()(llama_context* context) const { llama_free(context); }
};
using LlamaModelPointer = std::unique_ptr<llama_model, FreeLlama>;
using LlamaContextPointer = std::unique_ptr<llama_context, FreeLlama>;

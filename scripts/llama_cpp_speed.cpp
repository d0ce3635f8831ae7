// Speed of packed files next to llama.cpp's own, in turns within one process: built against a
// llama.cpp of your own (docs/llama_cpp.md), and part of nothing else.
//   llama_cpp_speed THREADS ROUNDS TOKENS MODEL.gguf...
// A packed file runs in this project's runtime with all weights in memory, any other file in
// llama.cpp. A round decodes TOKENS tokens with each model, after a prompt of 128; the first tokens
// of each are not counted. RWKV_LLAMA_BACKENDS names the folder of llama.cpp's backends if they are
// libraries of their own.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "llama_cpp_owner.h"
#include "rwkv_edge.h"

namespace {

constexpr int kPrompt = 128;

class Model {
 public:
  virtual ~Model() = default;
  virtual void reset() = 0;
  virtual void read(std::vector<int32_t>& tokens) = 0;
};

class LlamaModel final : public Model {
 public:
  LlamaModel(const std::string& path, int threads) {
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    model_.reset(llama_model_load_from_file(path.c_str(), params));
    if (!model_) {
      fail("llama.cpp cannot load " + path);
    }
    llama_context_params context = llama_context_default_params();
    context.n_ctx = 65536;
    context.n_batch = kPrompt;
    context.n_ubatch = kPrompt;
    context.n_seq_max = 1;
    context.n_threads = threads;
    context.n_threads_batch = threads;
    context_.reset(llama_init_from_model(model_.get(), context));
    if (!context_) {
      fail("llama.cpp cannot make a context for " + path);
    }
  }
  void reset() override { llama_memory_clear(llama_get_memory(context_.get()), true); }
  void read(std::vector<int32_t>& tokens) override {
    if (llama_decode(context_.get(),
                     llama_batch_get_one(tokens.data(), static_cast<int>(tokens.size()))) != 0 ||
        llama_get_logits_ith(context_.get(), -1) == nullptr) {
      fail("llama.cpp cannot decode");
    }
  }

 private:
  LlamaModelPointer model_;
  LlamaContextPointer context_;
};

class OurModel final : public Model {
 public:
  explicit OurModel(rwkv_model* model, int threads) : model_(model) {
    if (rwkv_session_new(model, static_cast<unsigned>(threads), &session_) != RWKV_OK) {
      fail(rwkv_last_error());
    }
    logits_.resize(rwkv_model_n_vocab(model));
  }
  OurModel(const OurModel&) = delete;
  OurModel& operator=(const OurModel&) = delete;
  ~OurModel() override {
    rwkv_session_free(session_);
    rwkv_model_free(model_);
  }
  void reset() override { rwkv_session_reset(session_); }
  void read(std::vector<int32_t>& tokens) override {
    if (rwkv_eval(session_, tokens.data(), tokens.size()) != RWKV_OK ||
        rwkv_logits(session_, logits_.data(), logits_.size()) != RWKV_OK) {
      fail(rwkv_last_error());
    }
  }

 private:
  rwkv_model* model_;
  rwkv_session* session_ = nullptr;
  std::vector<float> logits_;
};

std::unique_ptr<Model> open(const std::string& path, int threads) {
  rwkv_model* packed = nullptr;
  if (rwkv_model_open_within(path.c_str(), RWKV_MEMORY_LOADED, 0, &packed) == RWKV_OK) {
    return std::make_unique<OurModel>(packed, threads);
  }
  return std::make_unique<LlamaModel>(path, threads);
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void print(std::vector<double> rates) {
  std::sort(rates.begin(), rates.end());
  std::printf("  %8.2f [%.2f-%.2f]", rates[rates.size() / 2], rates.front(), rates.back());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    fail("usage: llama_cpp_speed THREADS ROUNDS TOKENS MODEL.gguf...");
  }
  const int threads = std::atoi(argv[1]);
  const int rounds = std::atoi(argv[2]);
  const int tokens = std::atoi(argv[3]);
  if (threads < 1 || rounds < 1 || tokens < 1) {
    fail("THREADS, ROUNDS and TOKENS are numbers above 0");
  }
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  if (const char* folder = std::getenv("RWKV_LLAMA_BACKENDS")) {
    ggml_backend_load_all_from_path(folder);
  }
  llama_backend_init();
  struct Turn {
    std::unique_ptr<Model> model;
    std::vector<double> decode, prompt;
  };
  std::vector<Turn> turns;
  for (int i = 4; i < argc; ++i) {
    turns.push_back({open(argv[i], threads), {}, {}});
  }
  std::vector<int32_t> prompt;
  for (int i = 0; i < kPrompt; ++i) {
    prompt.push_back(10 + i * 37 % 90);
  }
  for (int round = -1; round < rounds; ++round) {
    for (Turn& turn : turns) {
      turn.model->reset();
      const double of_prompt = seconds_of([&] { turn.model->read(prompt); });
      std::vector<int32_t> one{42};
      turn.model->read(one);
      const double of_tokens = seconds_of([&] {
        for (int i = 0; i < (round < 0 ? 2 : tokens); ++i) {
          one[0] = 10 + i * 37 % 90;
          turn.model->read(one);
        }
      });
      if (round >= 0) {
        turn.prompt.push_back(kPrompt / of_prompt);
        turn.decode.push_back(tokens / of_tokens);
      }
    }
  }
  std::printf("%d threads, tokens/s: median [min-max] of %d rounds: decode, prompt of %d\n",
              threads, rounds, kPrompt);
  for (size_t i = 0; i < turns.size(); ++i) {
    std::printf("%-40s", argv[i + 4]);
    print(turns[i].decode);
    print(turns[i].prompt);
    std::printf("\n");
  }
}

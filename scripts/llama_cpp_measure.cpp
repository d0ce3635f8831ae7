// Logits of models in llama.cpp itself, compared: built against a llama.cpp of your own by
// compare_llama_cpp.sh, and part of nothing else.
//   llama_cpp_measure kl BASE.gguf OTHER.gguf TEXT LENGTH     mean KL(BASE || OTHER) per token
//   llama_cpp_measure ours PACKED.gguf OTHER.gguf TEXT LENGTH the same, BASE in this project's
//   runtime
// Text is split by the tokenizer of OTHER.gguf and read in stretches of LENGTH tokens, with the
// state carried from one to the next, or each from the empty state with RWKV_MEASURE_STATE=empty.
// RWKV_MEASURE_MOST limits the number of tokens, RWKV_LLAMA_BACKENDS names the folder of
// llama.cpp's backends if they are libraries of their own.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "llama_cpp_owner.h"
#include "rwkv_edge.h"

namespace {

using Logits = std::vector<float>;

class Model {
 public:
  virtual ~Model() = default;
  // Logits after every token, [tokens][vocabulary]. The first one has this position: at 0 the state
  // is empty, else it is that of the last run.
  virtual Logits run(const std::vector<int32_t>& tokens, size_t position) = 0;
};

class LlamaModel final : public Model {
 public:
  LlamaModel(const std::string& path, uint32_t length) {
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    model_.reset(llama_model_load_from_file(path.c_str(), params));
    if (!model_) {
      fail("llama.cpp cannot load " + path);
    }
    llama_context_params context = llama_context_default_params();
    context.n_ctx = length;
    context.n_batch = length;
    context.n_ubatch = length;
    context.n_seq_max = 1;
    context.n_threads = 1;
    context.n_threads_batch = 1;
    context_.reset(llama_init_from_model(model_.get(), context));
    if (!context_) {
      fail("llama.cpp cannot make a context for " + path);
    }
  }

  std::vector<int32_t> tokenize(const std::string& text) const {
    const llama_vocab* vocab = llama_model_get_vocab(model_.get());
    std::vector<int32_t> tokens(text.size() + 1);
    const int n = llama_tokenize(vocab, text.data(), static_cast<int>(text.size()), tokens.data(),
                                 static_cast<int>(tokens.size()), false, false);
    if (n < 0) {
      fail("llama.cpp cannot split the text");
    }
    tokens.resize(static_cast<size_t>(n));
    return tokens;
  }

  Logits run(const std::vector<int32_t>& tokens, size_t position) override {
    const auto n_vocab =
        static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model_.get())));
    if (position == 0) {
      llama_memory_clear(llama_get_memory(context_.get()), true);
    }
    llama_batch batch = llama_batch_init(static_cast<int>(tokens.size()), 0, 1);
    batch.n_tokens = static_cast<int>(tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      batch.token[i] = tokens[i];
      batch.pos[i] = static_cast<int>(position + i);
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    if (llama_decode(context_.get(), batch) != 0) {
      fail("llama.cpp cannot decode");
    }
    Logits logits(tokens.size() * n_vocab);
    for (size_t i = 0; i < tokens.size(); ++i) {
      const float* row = llama_get_logits_ith(context_.get(), static_cast<int>(i));
      std::copy_n(row, n_vocab, logits.begin() + static_cast<std::ptrdiff_t>(i * n_vocab));
    }
    llama_batch_free(batch);
    return logits;
  }

 private:
  LlamaModelPointer model_;
  LlamaContextPointer context_;
};

class OurModel final : public Model {
 public:
  explicit OurModel(const std::string& path) {
    if (rwkv_model_open(path.c_str(), &model_) != RWKV_OK ||
        rwkv_session_new(model_, 1, &session_) != RWKV_OK) {
      fail(rwkv_last_error());
    }
  }
  OurModel(const OurModel&) = delete;
  OurModel& operator=(const OurModel&) = delete;
  ~OurModel() override {
    rwkv_session_free(session_);
    rwkv_model_free(model_);
  }
  Logits run(const std::vector<int32_t>& tokens, size_t position) override {
    const size_t n_vocab = rwkv_model_n_vocab(model_);
    Logits logits(tokens.size() * n_vocab);
    bool is_good = position > 0 || rwkv_session_reset(session_) == RWKV_OK;
    for (size_t i = 0; i < tokens.size(); ++i) {
      is_good = is_good && rwkv_eval(session_, &tokens[i], 1) == RWKV_OK &&
                rwkv_logits(session_, logits.data() + i * n_vocab, n_vocab) == RWKV_OK;
    }
    if (!is_good) {
      fail(rwkv_last_error());
    }
    return logits;
  }

 private:
  rwkv_model* model_ = nullptr;
  rwkv_session* session_ = nullptr;
};

std::vector<double> log_softmax(const float* logits, size_t n) {
  const double most = static_cast<double>(*std::max_element(logits, logits + n));
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    sum += std::exp(static_cast<double>(logits[i]) - most);
  }
  std::vector<double> result(n);
  for (size_t i = 0; i < n; ++i) {
    result[i] = static_cast<double>(logits[i]) - most - std::log(sum);
  }
  return result;
}

struct Totals {
  double divergence = 0;
  double squares = 0;  // of the divergences
  double largest = 0;  // difference of logits, with their means removed
  double deviation = 0;
  size_t n_same = 0;
  size_t n = 0;

  void add(const float* base, const float* other, size_t n_vocab) {
    const std::vector<double> p = log_softmax(base, n_vocab);
    const std::vector<double> q = log_softmax(other, n_vocab);
    double here = 0;
    for (size_t i = 0; i < n_vocab; ++i) {
      here += std::exp(p[i]) * (p[i] - q[i]);
      const double off = static_cast<double>(base[i]) - static_cast<double>(other[i]);
      largest = std::max(largest, std::fabs(off));
      deviation += off * off / static_cast<double>(n_vocab);
    }
    divergence += here;
    squares += here * here;
    n_same += std::max_element(base, base + n_vocab) - base ==
                      std::max_element(other, other + n_vocab) - other
                  ? 1
                  : 0;
    ++n;
  }
  void print() const {
    const double tokens = static_cast<double>(n);
    const double mean = divergence / tokens;
    std::printf("tokens %zu  KL %.6f +- %.6f  top-1 %.2f %%  logits: max |d| %.2e, rms %.2e\n", n,
                mean, std::sqrt(std::max(0.0, squares / tokens - mean * mean) / tokens),
                100 * static_cast<double>(n_same) / tokens, largest, std::sqrt(deviation / tokens));
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    fail("expected: kl|ours BASE OTHER TEXT LENGTH");
  }
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  const char* backends = std::getenv("RWKV_LLAMA_BACKENDS");
  backends != nullptr ? ggml_backend_load_all_from_path(backends) : ggml_backend_load_all();
  const auto length = static_cast<size_t>(std::max(2L, std::strtol(argv[5], nullptr, 10)));
  LlamaModel other(argv[3], static_cast<uint32_t>(length));
  std::unique_ptr<Model> base;
  if (std::strcmp(argv[1], "ours") == 0) {
    base = std::make_unique<OurModel>(argv[2]);
  } else {
    base = std::make_unique<LlamaModel>(argv[2], static_cast<uint32_t>(length));
  }
  std::ifstream in(argv[4], std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::vector<int32_t> tokens = other.tokenize(text);
  const char* most = std::getenv("RWKV_MEASURE_MOST");
  if (most != nullptr) {
    tokens.resize(std::min(tokens.size(), static_cast<size_t>(std::strtoull(most, nullptr, 10))));
  }
  const char* state = std::getenv("RWKV_MEASURE_STATE");
  const bool is_carried = state == nullptr || std::strcmp(state, "empty") != 0;
  Totals totals;
  for (size_t at = 0; at + length <= tokens.size(); at += length) {
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(at);
    const std::vector<int32_t> stretch(first, first + static_cast<std::ptrdiff_t>(length));
    const size_t position = is_carried ? at : 0;
    const Logits a = base->run(stretch, position);
    const Logits b = other.run(stretch, position);
    if (a.size() != b.size()) {
      fail("the models have different vocabularies");
    }
    const size_t n_vocab = a.size() / length;
    for (size_t i = 0; i < length; ++i) {
      totals.add(a.data() + i * n_vocab, b.data() + i * n_vocab, n_vocab);
    }
  }
  if (totals.n == 0) {
    fail("the text has fewer tokens than one stretch");
  }
  totals.print();
  return 0;
}

// Converting inside a test, as `rwkv-press convert` does it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compressor/pipeline/pack.h"
#include "runtime/model/evaluator.h"
#include "tests/support/support.h"

namespace rwkv::test {

struct Conversion {
  std::string preset = "fp32";
  std::string vocab;  ///< "bytes", a file, or empty for none
  std::vector<std::string> set;
  std::string recipe = {};              ///< YAML, instead of the preset
  std::vector<std::string> texts = {};  ///< calibration
  std::string statistics = {};
  std::vector<std::string> train_data = {};
  std::string work = {};  ///< folder of stages that train
  bool resume = false;
  std::optional<press::BlockShard> shard = {};
  bool allow_external = false;
  std::optional<float> group_norm_eps = {};
};

/// Packs `input` into `output`.
Status convert(const std::string& input, const std::string& output, const Conversion& how);

/// Packs and opens; fails the test if either does not work.
std::shared_ptr<const edge::Model> convert_and_open(const std::string& input,
                                                    const std::string& output,
                                                    const Conversion& how);

/// Logits after every token from the empty state, `step` tokens per pass; the final state goes to
/// `state` if it is given.
std::vector<float> all_logits(const std::shared_ptr<const edge::Model>& model,
                              const std::vector<int32_t>& tokens, size_t step,
                              unsigned n_threads = 1, std::vector<float>* state = nullptr);

/// A synthetic checkpoint of two blocks, 256 tokens in its vocabulary; its path.
std::string write_synth(const ScratchFolder& scratch, const std::string& arch,
                        uint64_t n_embd = 128);

/// A file with text of `n` bytes that has some structure; its path.
std::string write_text(const ScratchFolder& scratch, size_t n);

/// max |a - b|; infinity if sizes differ or anything is NaN.
double max_difference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace rwkv::test

// v5.2, v6, v7 and v7a written down plainly, in double and token by token, from the formulas and
// not from the program's code: what the program computes is compared with this. Reads a checkpoint
// with BlinkDL's names and shapes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "formats/container/tensor_source.h"

namespace rwkv::test {

using Numbers = std::vector<double>;

class Reference {
 public:
  /// Throws std::runtime_error if a tensor cannot be read. A state `time_state` of the checkpoint,
  /// [head][value][key], is what the text begins with.
  explicit Reference(const TensorSource& source);

  /// The logits after one more token.
  Numbers step(int32_t token);

  /// To change a tensor before the first step, and to look at it.
  Numbers& tensor(const std::string& name) { return tensors_.at(name).values; }

 private:
  struct Tensor {
    std::vector<uint64_t> shape;
    Numbers values;
  };
  struct Block {
    Numbers att_before, ffn_before;
    Numbers state;  ///< [head][value][key]
  };
  bool has(const std::string& name) const { return tensors_.contains(name); }
  const Numbers& at(const std::string& name) const { return tensors_.at(name).values; }
  Numbers product(const std::string& matrix, const Numbers& x) const;
  Numbers row_times(const Numbers& x, const std::string& matrix) const;
  Numbers norm(const std::string& name, const Numbers& x) const;
  Numbers group_norm(const std::string& name, const Numbers& y) const;
  Numbers mixed(const Numbers& x, const Numbers& before, const std::string& name) const;
  void begin();
  Numbers time_mix_v5(const std::string& att, Block& block, const Numbers& x) const;
  Numbers time_mix_v6(const std::string& att, Block& block, const Numbers& x) const;
  Numbers time_mix_v7(const std::string& att, Block& block, const Numbers& x);
  Numbers recurrence_v5(const std::string& att, Block& block, const Numbers& r, const Numbers& k,
                        const Numbers& v, const Numbers& w) const;
  Numbers channel_mix(const std::string& ffn, Block& block, const Numbers& x,
                      const Numbers& embedded, int32_t token) const;
  Numbers deep_embed(const std::string& ffn, const Numbers& x, const Numbers& embedded,
                     int32_t token) const;

  std::map<std::string, Tensor> tensors_;
  std::vector<Block> blocks_;
  size_t n_head_ = 0, size_ = 0;
  Numbers v_first_;
};

}  // namespace rwkv::test

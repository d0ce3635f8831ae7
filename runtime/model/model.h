// A model ready to run: weights bound to the parts of the network, and its tokenizer. After
// opening, only the caches of its weights change, and they lock themselves, so any number of
// evaluators in any threads may share it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/tokenizer/chat_template.h"
#include "formats/tokenizer/tokenizer.h"
#include "runtime/memory/weights.h"
#include "runtime/model/block.h"
#include "runtime/model/cluster_head.h"
#include "runtime/model/pass_needs.h"
#include "runtime/model/state.h"

namespace rwkv::edge {

class Model {
 public:
  /// Everything mapped.
  static Result<std::shared_ptr<const Model>> open(const std::string& path);
  /// Usage if the model does not fit in options.limit, before anything is loaded.
  static Result<std::shared_ptr<const Model>> open(const std::string& path,
                                                   const MemoryOptions& options);
  /// The same, and every text begins with the state of the file `state_path` (state_file.h), in
  /// place of the empty one or of that which the model was tuned to.
  static Result<std::shared_ptr<const Model>> open(const std::string& path,
                                                   const MemoryOptions& options,
                                                   const std::string& state_path);

  /// The tokenizer of the vocabulary in `file`; null without one. BadInput if it does not fit.
  static Result<std::unique_ptr<Tokenizer>> tokenizer_of(const PackedFile& file);
  /// Where the model of `file` will live, before anything of it is loaded; only shapes decide it.
  /// `tokenizer_bytes` is Tokenizer::memory_bytes of its vocabulary, 0 without one.
  static Result<Residency> residency(const PackedFile& file, uint64_t tokenizer_bytes,
                                     const MemoryOptions& options);

  /// What is streamed, planned again within other memory or for another speed while the model is
  /// used: states stay as they are. Waits for a pass that runs. Usage if the model is not streamed
  /// or this cannot be, naming what can; then nothing changes.
  struct StreamChange {
    uint64_t limit = 0;            ///< as MemoryOptions::limit
    double tokens_per_second = 0;  ///< with a limit, as StreamOptions::tokens_per_second
    uint64_t weight_bytes = 0;     ///< as StreamOptions::weight_bytes; 0: as the model was opened
  };
  Status plan_again(const StreamChange& change) const;

  const ModelConfig& config() const { return weights_->config(); }
  const Weights& weights() const { return *weights_; }
  /// nullptr if the file was packed without a vocabulary; ids still work.
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }
  /// The state before any token. It is empty unless the model was tuned by its state, or was opened
  /// with one.
  State empty_state() const { return State(config(), model_id_, initial_); }
  /// Logits that belong to the state before any token; empty unless a state file brought them.
  std::span<const float> initial_logits() const { return initial_logits_; }
  /// True if texts begin with a state that was tuned or loaded.
  bool has_initial_state() const { return initial_ != nullptr; }
  /// How chats with the model are written: as its file says, or as its vocabulary and name suggest.
  const ChatTemplate& chat_template() const { return *chat_template_; }
  /// What the memory of a pass over it must hold.
  const PassNeeds& needs() const { return needs_; }

 private:
  friend class Evaluator;
  struct Norm {
    std::span<const float> weight, bias;
  };
  struct Block {
    Norm ln1, ln2;
    std::unique_ptr<TimeMix> time_mix;
    std::unique_ptr<ChannelMix> channel_mix;
  };
  Model() = default;
  Status load();
  Status load_ends();
  Status load_tuned_state();
  Status begin_with(const std::string& state_path);
  Result<Norm> load_norm(const std::string& name) const;

  MemoryOptions options_;  ///< that it was opened with
  std::shared_ptr<Weights> weights_;
  std::unique_ptr<Tokenizer> tokenizer_;
  const ChatTemplate* chat_template_ = nullptr;
  RowStore* embedding_ = nullptr;
  RowStore* head_rows_ = nullptr;
  Matrix head_;  ///< at least its shape; data unless rows are read on demand
  std::unique_ptr<ClusterHead> cluster_head_;
  Norm ln0_, ln_out_;
  std::vector<Block> blocks_;
  PassNeeds needs_;
  std::shared_ptr<const std::vector<float>> initial_;  ///< null: the empty state
  std::vector<float> initial_logits_;
  uint64_t model_id_ = 0;
};

}  // namespace rwkv::edge

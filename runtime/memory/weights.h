// The weights of a packed file, where the memory plan wants them: mapped, loaded, or read when they
// are needed. Matrices and vectors by name, and the account of what is where.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/file.h"
#include "runtime/kernels/kernels.h"
#include "runtime/memory/residency.h"
#include "runtime/storage/row_store.h"

namespace rwkv::edge {

class Weights {
 public:
  /// Loads `file` as `plan` says. Full: nothing is read yet. Else what is pinned is read now.
  static Result<std::shared_ptr<const Weights>> load(PackedFile file, MemoryPlan plan);
  ~Weights();
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  const ModelConfig& config() const { return config_; }
  const std::vector<PackedTensor>& tensors() const { return tensors_; }
  const MemoryPlan& plan() const { return plan_; }

  bool contains(std::string_view name) const { return by_name_.find(name) != by_name_.end(); }
  /// A matrix in whatever codec it has; valid as long as the weights. One that lies in the slot
  /// holds its numbers while its block is entered.
  Result<MatrixView> matrix(std::string_view name) const;
  /// A vector, which is always f32. Valid as long as the weights.
  Result<std::span<const float>> vector(std::string_view name) const;
  /// The numbers of a vector that need not stay: a copy, read from the file where it is not mapped.
  Result<std::vector<float>> read_vector(std::string_view name) const;
  /// Rows of a matrix in a row-wise codec, wherever they live.
  Result<RowStore*> rows(std::string_view name) const;

  /// Loads the matrices of `block` into the slot; nothing unless layerwise.
  Status enter_block(size_t block, ThreadPool& pool) const;
  /// Caches and the slot serve one evaluation at a time: an evaluator holds this lock meanwhile.
  /// An empty lock where everything is mapped or loaded.
  std::unique_lock<std::mutex> lock() const;

  /// Counts are of all evaluators together; read it while none is at work.
  Account& account() const { return account_; }

  /// Bytes that one token touches at most: every tensor but the embedding, of which one row.
  uint64_t bytes_per_token() const;
  /// Bytes that every token touches; rows on demand (embedding, neurons, head) are not among them,
  /// evaluators count those.
  uint64_t always_touched_bytes() const { return always_touched_bytes_; }
  /// Bytes of all tensors.
  uint64_t total_bytes() const;

 private:
  struct SlotRead {
    uint64_t file_offset;
    std::span<std::byte> to;
  };
  Weights(PackedFile file, MemoryPlan plan);
  Status load_pinned();
  Status map_file(const std::string& path);
  void open_window();
  Status make_stores();
  Result<size_t> find(std::string_view name) const;
  MatrixView view_of(size_t tensor) const;

  ModelConfig config_;
  std::vector<PackedTensor> tensors_;
  MemoryPlan plan_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::shared_ptr<MappedFile> mapping_;
  std::shared_ptr<InputFile> file_;
  std::span<std::byte> pinned_;  ///< own anonymous memory, so that the heap does not fragment
  std::span<std::byte> slot_;
  std::vector<std::vector<SlotRead>> blocks_;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<RowWindow> window_;
  std::vector<std::unique_ptr<RowStore>> stores_;  ///< by tensor; null where none is wanted
  uint64_t bytes_per_token_ = 0;
  uint64_t always_touched_bytes_ = 0;
  mutable Account account_;
  mutable std::mutex mutex_;
};

}  // namespace rwkv::edge

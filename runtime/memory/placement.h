// Where every tensor lives once it is decided what a mode has room for, and the bytes of that.
#pragma once

#include "formats/arch/access.h"
#include "runtime/memory/residency.h"
#include "runtime/memory/stream_plan.h"

namespace rwkv::edge {

/// The choices that decide a residency.
struct Choice {
  MemoryMode mode = MemoryMode::Full;
  size_t max_chunk = 32;
  double neuron_cache = 0;
  double head_cache = 0;
  uint64_t embedding_rows = 0;
  uint64_t pinned_blocks = 0;
  bool pins_head = false;  ///< a head that every token needs whole
  StreamChoice stream;
};

/// Places the tensors of one file; `file`, `options` and `other` outlive it.
class Planner {
 public:
  Planner(const PackedFile& file, const MemoryOptions& options, const OtherMemory& other)
      : file_(file), options_(options), other_(other), access_(file.config, file.bindings) {}
  Residency residency(const Choice& choice) const;
  /// Bytes of everything.
  uint64_t total(const Choice& choice) const { return residency(choice).account.total(); }

 private:
  TensorResidence place(const TensorBinding& binding, const Choice& choice) const;
  Residence dense(const TensorBinding& binding, bool by_row, DenseWeights how) const;
  Residence residence(const TensorBinding& binding, bool by_row, const ModeTraits& mode) const;
  void pin_shared_part(size_t tensor, Component component, Residency& residency) const;
  void place_copies(Residency& residency) const;
  uint64_t units(const TensorBinding& binding, uint64_t rows, uint64_t rows_per_unit,
                 const Choice& choice) const;

  const PackedFile& file_;
  const MemoryOptions& options_;
  const OtherMemory& other_;
  ModelAccess access_;
};

}  // namespace rwkv::edge

// What a choice takes of a device and of a file, in a way to hold the model in memory.
#pragma once

#include "compressor/evaluate/planned_account.h"
#include "compressor/planner/curves.h"

namespace rwkv::press {

/// A way to hold the model: the decisions that apply to all matrices. Caches hold the rows that one
/// token touches on average.
struct MemoryFrame {
  edge::MemoryOptions memory;
  uint64_t read_ahead = 0;  ///< bytes of weights that a token reads from storage; 0: none
  RowsPoint ffn, head;      ///< of Curves
  double loss() const { return ffn.loss + head.loss; }
  double nats() const { return ffn.nats + head.nats; }
};

/// What a request may limit.
enum class Measure : uint8_t { Resident, File, Touched };
inline constexpr size_t kMeasures = 3;

/// The cost of a choice.
struct ChoiceBytes {
  edge::Account account;  ///< of what is in memory whatever is streamed
  uint64_t resident = 0;
  /// As resident, but also below what is always in memory where storage reads more than there is
  /// to stream: so bytes of options add up.
  double held = 0;
  uint64_t file = 0;   ///< of the packed file, at most
  double touched = 0;  ///< bytes per token

  double of(Measure measure) const;
};

/// Memory of the model that `plan` describes, held as `frame` says; file and touched are left out.
/// Where weights are streamed, those stay in memory that the storage cannot read while a token is
/// computed.
Result<ChoiceBytes> held_bytes(const PackPlan& plan, uint64_t tokenizer_bytes,
                               const MemoryFrame& frame);

/// Of ChoiceBytes::held, what grows with each matrix: without what they share, of which the largest
/// counts.
double additive(const ChoiceBytes& bytes);

}  // namespace rwkv::press

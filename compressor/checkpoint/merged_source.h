// A checkpoint with adapters merged into it, one tensor at a time: nothing is held but the names.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compressor/checkpoint/adapter_config.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

struct MergeOptions {
  /// Of LoRA: the factors are scaled by alpha / rank. PiSSA, DiSHA and Bone have none. Empty: what
  /// the adapter's own configuration says.
  std::optional<double> alpha;
};

/// A source with what was done, for the user to read.
struct Merged {
  std::unique_ptr<TensorSource> source;
  std::vector<std::string> notes;  ///< one line for each file that was merged
};

/// Merges `adapters`, under BlinkDL's names or those of other programs, into `base`, in their
/// order, after the adapter that `base` itself may hold. Parts of adapters change the matrices that
/// they name (adapter.h); other tensors of an adapter replace those of the base, and tuned states
/// (att.time_state) are added. Changed tensors are read as f32, computed in double. BadInput for a
/// base that is an adapter itself, shapes that do not fit, and names that the base does not have;
/// Usage for a LoRA without alpha, an alpha without LoRA, or PiSSA's initial values without the
/// trained factors.
Result<Merged> merge_adapters(std::unique_ptr<TensorSource> base,
                              std::vector<OpenedAdapter> adapters, const MergeOptions& options);

}  // namespace rwkv::press

#include "compressor/evaluate/planned_account.h"

#include "runtime/memory/stream_plan.h"
#include "runtime/model/model.h"

namespace rwkv::press {

Result<uint64_t> tokenizer_bytes(const std::optional<Vocabulary>& vocabulary) {
  if (!vocabulary) {
    return uint64_t{0};
  }
  RWKV_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, make_tokenizer(*vocabulary));
  return uint64_t{tokenizer->memory_bytes()};
}

edge::PackedFile planned_file(const PackPlan& plan) {
  edge::PackedFile file;
  file.path = "plan";
  file.config = plan.config;
  file.shares = plan.shares;
  for (const PlannedTensor& tensor : plan.tensors) {
    PackedTensor packed;
    packed.name = tensor.binding.name;
    packed.codec = tensor.codec;
    packed.rows = tensor.binding.packed_rows();
    packed.cols = tensor.binding.packed_cols();
    packed.n_bytes = tensor.encoded_bytes();
    file.bindings.push_back(tensor.binding);
    file.bindings.back().source = file.tensors.size();
    file.tensors.push_back(std::move(packed));
  }
  return file;
}

Result<edge::Residency> planned_residency(const PackPlan& plan, uint64_t tokenizer_bytes,
                                          const edge::MemoryOptions& options) {
  const edge::PackedFile file = planned_file(plan);
  edge::MemoryOptions unlimited = options;
  unlimited.limit = 0;
  RWKV_ASSIGN(edge::Residency residency, edge::Model::residency(file, tokenizer_bytes, unlimited));
  if (options.limit == 0 || residency.account.total() <= options.limit) {
    return residency;
  }
  unlimited.stream.slots = edge::kLeastSlots;
  return edge::Model::residency(file, tokenizer_bytes, unlimited);
}

Result<edge::Account> planned_account(const PackPlan& plan, uint64_t tokenizer_bytes,
                                      const edge::MemoryOptions& options) {
  RWKV_ASSIGN(const edge::Residency residency, planned_residency(plan, tokenizer_bytes, options));
  return residency.account;
}

}  // namespace rwkv::press

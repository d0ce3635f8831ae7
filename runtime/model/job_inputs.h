// The inputs of products that run together, each in every form that some product needs.
#pragma once

#include <span>

#include "runtime/model/pass.h"

namespace rwkv::edge {

class JobInputs {
 public:
  explicit JobInputs(Pass& pass) : pass_(pass), jobs_(pass.scratch.jobs) {}

  /// The next product's row in the table of jobs, with its inputs. Failed if scratch memory was
  /// counted for fewer.
  Result<ProductJob*> add(Codec codec, const float* x, size_t cols);
  /// A row of the table that has the inputs in the form of this codec; a new one if none has.
  Result<const ProductJob*> with_form(Codec codec, const float* x, size_t cols);

 private:
  const ProductJob* find(InputForm form, bool has_group_sums, const float* x, size_t cols) const;
  Status prepare(ProductJob& job, size_t cols);
  Status prepare_bytes(ProductJob& job, size_t cols);

  Pass& pass_;
  std::span<ProductJob> jobs_;
  size_t n_jobs_ = 0;
  size_t n_prepared_ = 0;
  size_t integers_ = 0, planes_ = 0, group_sums_ = 0, byte_groups_ = 0;  // used so far
};

}  // namespace rwkv::edge

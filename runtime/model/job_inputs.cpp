#include "runtime/model/job_inputs.h"

namespace rwkv::edge {

Result<ProductJob*> JobInputs::add(Codec codec, const float* x, size_t cols) {
  if (n_jobs_ == jobs_.size()) {
    return failed(
        "scratch memory has room for {} products in a job, not for more; this is a program "
        "error",
        jobs_.size());
  }
  ProductJob& job = jobs_[n_jobs_];
  job.form = input_form(codec);
  job.has_group_sums = uses_group_sums(codec);
  job.inputs = Inputs{x, pass_.n_tokens, cols};
  if (const ProductJob* const before = find(job.form, job.has_group_sums, x, cols)) {
    job.inputs = before->inputs;
  } else if (job.form != InputForm::Floats) {
    RWKV_TRY(job.form == InputForm::ByteGroups ? prepare_bytes(job, cols) : prepare(job, cols));
  }
  ++n_jobs_;
  return &job;
}

// An earlier product may have the same inputs.
const ProductJob* JobInputs::find(InputForm form, bool has_group_sums, const float* x,
                                  size_t cols) const {
  for (const ProductJob& before : jobs_.first(n_jobs_)) {
    if (before.inputs.x == x && before.form == form && before.has_group_sums == has_group_sums &&
        before.inputs.cols == cols) {
      return &before;
    }
  }
  return nullptr;
}

Result<const ProductJob*> JobInputs::with_form(Codec codec, const float* x, size_t cols) {
  if (const ProductJob* const before = find(input_form(codec), uses_group_sums(codec), x, cols)) {
    return before;
  }
  RWKV_ASSIGN(const ProductJob* const added, add(codec, x, cols));
  return added;
}

Status JobInputs::prepare(ProductJob& job, size_t cols) {
  Scratch& scratch = pass_.scratch;
  const size_t n_tokens = pass_.n_tokens;
  const bool has_planes = pass_.table.uses_planes && job.form == InputForm::BytePlanes;
  int16_t* const q = scratch.integers.data() + integers_;
  int8_t* const planes = scratch.planes.data() + planes_;
  float* const group_sums = scratch.group_sums.data() + group_sums_;
  float* const steps = scratch.steps.data() + n_prepared_ * n_tokens;
  float* const sums = scratch.sums.data() + n_prepared_ * n_tokens;
  ++n_prepared_;
  integers_ += n_tokens * padded_cols(cols);
  planes_ += has_planes ? n_tokens * byte_planes_size(cols) : 0;
  group_sums_ += job.has_group_sums ? n_tokens * n_group_sums(cols) : 0;
  if (integers_ > scratch.integers.size() || planes_ > scratch.planes.size() ||
      group_sums_ > scratch.group_sums.size() || n_prepared_ * n_tokens > scratch.steps.size()) {
    return failed("scratch memory is too small for the inputs of a job; this is a program error");
  }
  pass_.each_token([&](size_t t) {
    const float* const x = job.inputs.x + t * cols;
    int16_t* const to = q + t * padded_cols(cols);
    pass_.table.quantize_input(x, cols, to, steps + t, sums + t);
    if (job.form == InputForm::BytePlanes) {
      byte_inputs(to, cols);
    }
    if (has_planes) {
      byte_planes(to, cols, planes + t * byte_planes_size(cols));
    }
    if (job.has_group_sums) {
      sum_groups(x, cols, group_sums + t * n_group_sums(cols));
    }
  });
  job.inputs.q = q;
  job.inputs.planes = has_planes ? planes : nullptr;
  job.inputs.step = steps;
  job.inputs.sum = sums;
  job.inputs.group_sums = job.has_group_sums ? group_sums : nullptr;
  return {};
}

Status JobInputs::prepare_bytes(ProductJob& job, size_t cols) {
  Scratch& scratch = pass_.scratch;
  const size_t n_groups = n_byte_groups(cols);
  int8_t* const bytes = scratch.byte_inputs.data() + byte_groups_ * kByteGroup;
  float* const steps = scratch.byte_steps.data() + byte_groups_;
  int32_t* const sums = scratch.byte_sums.data() + byte_groups_;
  byte_groups_ += pass_.n_tokens * n_groups;
  if (byte_groups_ > scratch.byte_steps.size()) {
    return failed("scratch memory is too small for the inputs of a job; this is a program error");
  }
  pass_.each_token([&](size_t t) {
    const size_t at = t * n_groups;
    pass_.table.quantize_bytes(job.inputs.x + t * cols, cols, bytes + at * kByteGroup, steps + at,
                               sums + at);
  });
  job.inputs.bytes = bytes;
  job.inputs.byte_steps = steps;
  job.inputs.byte_sums = sums;
  return {};
}

}  // namespace rwkv::edge

// What the functions of this folder refuse, in one wording.
#pragma once

#include <ATen/core/Tensor.h>

#include "formats/base/status.h"

namespace rwkv::press {

/// A non-empty f32 matrix of finite numbers on the CPU; usage_error or bad_input (not finite).
Status check_matrix(const at::Tensor& matrix, const char* name, const char* wanted);

/// `norms` are [neurons], finite and not negative.
Status check_norms(const at::Tensor& norms, int64_t neurons);

/// A recall of the output energy lies in (0, 1].
Status check_target(double target);

/// `x` [n, D] with at least 256 tokens, `key` [F, D], `norms` [F].
Status check_layer(const at::Tensor& x, const at::Tensor& key, const at::Tensor& norms);

/// About `count` rows of `matrix` at even distances, all of them if there are fewer.
at::Tensor even_rows(const at::Tensor& matrix, int64_t count);

/// Rounded to the nearest finite f16 numbers, as f32.
at::Tensor round_to_half(const at::Tensor& matrix);

}  // namespace rwkv::press

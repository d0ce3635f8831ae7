// Eigenvectors kept in a folder: fits of different ranks to one matrix need the leading
// eigenvectors of the same matrix, so they share one decomposition. It is found by the values of
// the matrix, so a fit gives the same bits with or without a store.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <utility>

#include "compressor/numerics/tensor_store.h"

namespace rwkv::press {

/// All eigenvectors [n, n] and eigenvalues [n] of a symmetric matrix, f32, largest first.
struct Spectrum {
  at::Tensor vectors;
  at::Tensor values;
};

class SpectrumStore {
 public:
  /// Keeps nothing.
  SpectrumStore() = default;
  /// `folder` exists, or is empty: nothing is kept.
  explicit SpectrumStore(std::string folder) : store_(std::move(folder)) {}

  /// What was kept for the matrix `g`, f32 [n, n]; nothing if there is none or it is damaged.
  std::optional<Spectrum> find(const at::Tensor& g) const;
  /// Keeps it; a folder that cannot be written to keeps nothing.
  void keep(const at::Tensor& g, const Spectrum& spectrum) const;

 private:
  TensorStore store_;
};

}  // namespace rwkv::press

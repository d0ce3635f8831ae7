#include "compressor/low_rank/spectrum_store.h"

#include <fmt/format.h>

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

std::string name_of(const at::Tensor& g) {
  return fmt::format("spectrum-{}-{:016x}", g.size(0), hash_of({g}));
}

}  // namespace

std::optional<Spectrum> SpectrumStore::find(const at::Tensor& g) const {
  if (!store_.keeps()) {
    return std::nullopt;
  }
  const int64_t n = g.size(0);
  const auto kept = store_.find(name_of(g), {{n, n}, {n}});
  return kept ? std::optional(Spectrum{(*kept)[0], (*kept)[1]}) : std::nullopt;
}

void SpectrumStore::keep(const at::Tensor& g, const Spectrum& spectrum) const {
  if (store_.keeps()) {
    store_.keep(name_of(g), {spectrum.vectors, spectrum.values});
  }
}

}  // namespace rwkv::press

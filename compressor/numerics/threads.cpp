#include "compressor/numerics/threads.h"

#include <ATen/TensorIterator.h>

#include <algorithm>

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {

// at::parallel_for is a template that is a plain loop in files compiled without OpenMP; the loop
// of a TensorIterator over the tiles' numbers is compiled into LibTorch and always has threads.
// There are two tiles at least: one alone would run outside of a parallel region, where BLAS
// starts threads of its own.
void in_tiles(int64_t n, int64_t tile, const std::function<void(int64_t, int64_t)>& work) {
  const int64_t n_tiles = std::max<int64_t>(2, (n + tile - 1) / tile);
  at::Tensor numbers = at::arange(n_tiles, at::kLong);
  auto iterator = at::TensorIteratorConfig()
                      .check_all_same_dtype(false)
                      .add_output(numbers)
                      .resize_outputs(false)
                      .build();
  const auto loop = [&](char** data, const int64_t* strides, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t begin = *reinterpret_cast<int64_t*>(data[0] + i * strides[0]) * tile;
      if (begin < n) {
        work(begin, std::min(n, begin + tile));
      }
    }
  };
  iterator.for_each(loop, 1);
}

at::Tensor product_in_tiles(const at::Tensor& x, const at::Tensor& w) {
  constexpr int64_t kRows = 256;
  at::Tensor result = at::empty({x.size(0), w.size(0)}, x.options());
  in_tiles(x.size(0), kRows, [&](int64_t begin, int64_t end) {
    at::Tensor rows = result.narrow(0, begin, end - begin);
    at::mm_out(rows, x.narrow(0, begin, end - begin), w.t());
  });
  return result;
}

}  // namespace rwkv::press

// wkv of v7. Per token, with S the state before it and S' after it (value index i, key index j):
//   removed = S kk,  S'_ij = S_ij w_j - removed_i kka_j + v_i k_j,  y = S' r
// With G the loss's gradient for S', that of y (g r^T) included:
//   gr_j = sum_i g_i S'_ij = w_j sum_i g_i S_ij - kka_j (g.removed) + k_j (g.v)
//   gk_j = sum_i G_ij v_i       gv_i = sum_j G_ij k_j
//   gremoved_i = -sum_j G_ij kka_j  gkka_j = -sum_i G_ij removed_i
//   gkk_j = sum_i gremoved_i S_ij   glog_w_j = w_j sum_i G_ij S_ij
//   G before = G diag(w) + gremoved kk^T
// S cannot be computed backwards (that would need a division by the decay), and keeping the states
// of all tokens takes too much memory. So a forward sweep keeps every 16th state, and the tokens
// between are recomputed from there.
//
// States are turned against the formula, state[j][i] with the key index j first: so the inner loops
// run over values, and sums over keys need not be reordered to become vector code.
#include <ATen/Dispatch.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "compressor/model/wkv_chunked.h"
#include "compressor/model/wkv_loop.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

constexpr int64_t kCheckpoint = 16;  // tokens from one kept state to the next

// One token of one head.
template <typename T>
struct TokenV7 {
  const T *r, *k, *v, *w, *kk, *kka;
};

// removed = S kk.
template <typename T>
RWKV_PRESS_INLINE void remove(int64_t n, const T* kk, const T* state, T* __restrict removed) {
  std::fill(removed, removed + n, T(0));
  for (int64_t j = 0; j < n; ++j) {
    const T* const row = state + j * n;
    const T kk_j = kk[j];
    for (int64_t i = 0; i < n; ++i) {
      removed[i] += row[i] * kk_j;
    }
  }
}

template <typename T>
RWKV_PRESS_INLINE void step(int64_t n, const TokenV7<T>& token, T* __restrict removed,
                            T* __restrict state, T* __restrict out) {
  remove(n, token.kk, state, removed);
  std::fill(out, out + n, T(0));
  const T* const v = token.v;
  for (int64_t j = 0; j < n; ++j) {
    T* __restrict row = state + j * n;
    const T r = token.r[j];
    const T k = token.k[j];
    const T w = token.w[j];
    const T kka = token.kka[j];
    for (int64_t i = 0; i < n; ++i) {
      row[i] = row[i] * w - removed[i] * kka + v[i] * k;
      out[i] += row[i] * r;
    }
  }
}

// The state after a token from the one before it, without y.
template <typename T>
RWKV_PRESS_INLINE void advance(int64_t n, const TokenV7<T>& token, const T* state,
                               T* __restrict removed, T* __restrict next) {
  remove(n, token.kk, state, removed);
  const T* const v = token.v;
  for (int64_t j = 0; j < n; ++j) {
    const T* const row = state + j * n;
    T* __restrict next_row = next + j * n;
    const T k = token.k[j];
    const T w = token.w[j];
    const T kka = token.kka[j];
    for (int64_t i = 0; i < n; ++i) {
      next_row[i] = row[i] * w - removed[i] * kka + v[i] * k;
    }
  }
}

// One token's gradients.
template <typename T>
struct GradientsV7 {
  T *r, *k, *v, *log_w, *kk, *kka;
};

// Backwards in time: all gradients, and G before the token.
template <typename T>
RWKV_PRESS_INLINE void step_back(int64_t n, const TokenV7<T>& token, const T* g, const T* removed,
                                 const T* state, T* __restrict grad_state,
                                 T* __restrict grad_removed, const GradientsV7<T>& out) {
  const T* const v = token.v;
  T* __restrict gv = out.v;
  std::fill(gv, gv + n, T(0));
  std::fill(grad_removed, grad_removed + n, T(0));
  T g_removed = 0;
  T g_v = 0;
#pragma omp simd reduction(+ : g_removed, g_v)
  for (int64_t i = 0; i < n; ++i) {
    g_removed += g[i] * removed[i];
    g_v += g[i] * v[i];
  }
  for (int64_t j = 0; j < n; ++j) {
    const T* const row = state + j * n;
    T* __restrict grad_row = grad_state + j * n;
    const T r = token.r[j];
    const T k = token.k[j];
    const T kka = token.kka[j];
    T sum_r = 0, sum_k = 0, sum_w = 0, sum_kka = 0;
#pragma omp simd reduction(+ : sum_r, sum_k, sum_w, sum_kka)
    for (int64_t i = 0; i < n; ++i) {
      const T grad = grad_row[i] + g[i] * r;
      grad_row[i] = grad;
      sum_r += g[i] * row[i];
      sum_k += grad * v[i];
      sum_w += grad * row[i];
      sum_kka += grad * removed[i];
      gv[i] += grad * k;
      grad_removed[i] -= grad * kka;
    }
    out.r[j] = token.w[j] * sum_r - kka * g_removed + k * g_v;
    out.k[j] = sum_k;
    out.log_w[j] = token.w[j] * sum_w;
    out.kka[j] = -sum_kka;
  }
  for (int64_t j = 0; j < n; ++j) {
    const T* const row = state + j * n;
    T* __restrict grad_row = grad_state + j * n;
    const T w = token.w[j];
    const T kk = token.kk[j];
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) {
      sum += grad_removed[i] * row[i];
      grad_row[i] = grad_row[i] * w + grad_removed[i] * kk;
    }
    out.kk[j] = sum;
  }
}

// Pointers to the first element of every tensor.
template <typename T>
struct ArraysV7 {
  TokenV7<T> in;
  int64_t dim_att, length, head_size;

  TokenV7<T> at(int64_t first, int64_t t) const {
    const int64_t i = first + t * dim_att;
    return {in.r + i, in.k + i, in.v + i, in.w + i, in.kk + i, in.kka + i};
  }
};

template <typename T>
RWKV_PRESS_INLINE void head_forward(const ArraysV7<T>& in, int64_t n, int64_t first, T* out) {
  std::vector<T> state(static_cast<size_t>(n * n));
  std::vector<T> removed(static_cast<size_t>(n));
  for (int64_t t = 0; t < in.length; ++t) {
    step(n, in.at(first, t), removed.data(), state.data(), out + first + t * in.dim_att);
  }
}

template <typename T>
RWKV_PRESS_INLINE void head_backward(const ArraysV7<T>& in, int64_t n, const T* grad_out,
                                     int64_t first, const GradientsV7<T>& out) {
  const int64_t size = n * n;
  const int64_t n_kept = (in.length + kCheckpoint - 1) / kCheckpoint;
  std::vector<T> kept(static_cast<size_t>(n_kept * size));         // the first one is empty
  std::vector<T> states(static_cast<size_t>(kCheckpoint * size));  // of one stretch, before tokens
  std::vector<T> removed(static_cast<size_t>(kCheckpoint * n));
  std::vector<T> state(static_cast<size_t>(size));
  std::vector<T> next(static_cast<size_t>(size));
  for (int64_t t = 0; t < (n_kept - 1) * kCheckpoint; ++t) {
    advance(n, in.at(first, t), state.data(), removed.data(), next.data());
    state.swap(next);
    if ((t + 1) % kCheckpoint == 0) {
      std::copy_n(state.data(), size, kept.data() + (t + 1) / kCheckpoint * size);
    }
  }
  std::vector<T> grad_state(static_cast<size_t>(size));
  std::vector<T> grad_removed(static_cast<size_t>(n));
  for (int64_t begin = (n_kept - 1) * kCheckpoint; begin >= 0; begin -= kCheckpoint) {
    std::copy_n(kept.data() + begin / kCheckpoint * size, size, states.data());
    const int64_t end = std::min(begin + kCheckpoint, in.length);
    for (int64_t t = begin; t < end; ++t) {
      // The state after the last token goes to `next` and is not used.
      T* const before = states.data() + (t - begin) * size;
      advance(n, in.at(first, t), before, removed.data() + (t - begin) * n,
              t + 1 < end ? before + size : next.data());
    }
    for (int64_t t = end - 1; t >= begin; --t) {
      const int64_t at = first + t * in.dim_att;
      step_back(n, in.at(first, t), grad_out + at, removed.data() + (t - begin) * n,
                states.data() + (t - begin) * size, grad_state.data(), grad_removed.data(),
                {out.r + at, out.k + at, out.v + at, out.log_w + at, out.kk + at, out.kka + at});
    }
  }
}

// Templates cannot be cloned per instruction set, their instances can. Loops whose length the
// compiler knows are much faster.
RWKV_PRESS_CLONES void run_forward(const ArraysV7<float>& in, int64_t first, float* out) {
  in.head_size == kHeadSize ? head_forward(in, kHeadSize, first, out)
                            : head_forward(in, in.head_size, first, out);
}
RWKV_PRESS_CLONES void run_backward(const ArraysV7<float>& in, const float* grad_out, int64_t first,
                                    const GradientsV7<float>& out) {
  in.head_size == kHeadSize ? head_backward(in, kHeadSize, grad_out, first, out)
                            : head_backward(in, in.head_size, grad_out, first, out);
}
void run_forward(const ArraysV7<double>& in, int64_t first, double* out) {
  head_forward(in, in.head_size, first, out);
}
void run_backward(const ArraysV7<double>& in, const double* grad_out, int64_t first,
                  const GradientsV7<double>& out) {
  head_backward(in, in.head_size, grad_out, first, out);
}

// r, k, v, w, kk, kka.
using Tensors = std::vector<at::Tensor>;

template <typename T>
ArraysV7<T> arrays_of(const Tensors& in, const WkvShape& shape) {
  const int64_t dim_att = in[0].size(1);
  return {{in[0].data_ptr<T>(), in[1].data_ptr<T>(), in[2].data_ptr<T>(), in[3].data_ptr<T>(),
           in[4].data_ptr<T>(), in[5].data_ptr<T>()},
          dim_att,
          shape.length,
          dim_att / shape.n_head};
}

at::Tensor forward_cpu(const Tensors& in, const WkvShape& shape) {
  at::Tensor out = at::empty_like(in[0]);
  AT_DISPATCH_FLOATING_TYPES(out.scalar_type(), "wkv_v7", [&] {
    const auto arrays = arrays_of<scalar_t>(in, shape);
    for_each_head(out, shape, arrays.head_size, [&](int64_t first, int64_t) {
      run_forward(arrays, first, out.data_ptr<scalar_t>());
    });
  });
  return out;
}

// Gradients of r, k, v, log_w, kk, kka.
Tensors backward_cpu(const Tensors& in, const at::Tensor& grad_out, const WkvShape& shape) {
  Tensors grads;
  for (const at::Tensor& input : in) {
    grads.push_back(at::empty_like(input));
  }
  AT_DISPATCH_FLOATING_TYPES(grad_out.scalar_type(), "wkv_v7_backward", [&] {
    const auto arrays = arrays_of<scalar_t>(in, shape);
    const GradientsV7<scalar_t> out = {
        grads[0].data_ptr<scalar_t>(), grads[1].data_ptr<scalar_t>(),
        grads[2].data_ptr<scalar_t>(), grads[3].data_ptr<scalar_t>(),
        grads[4].data_ptr<scalar_t>(), grads[5].data_ptr<scalar_t>()};
    for_each_head(grad_out, shape, arrays.head_size, [&](int64_t first, int64_t) {
      run_backward(arrays, grad_out.data_ptr<scalar_t>(), first, out);
    });
  });
  return grads;
}

struct WkvV7 : public torch::autograd::Function<WkvV7> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& r,
                            const at::Tensor& k, const at::Tensor& v, const at::Tensor& log_w,
                            const at::Tensor& kk, const at::Tensor& kka, int64_t length,
                            int64_t n_head) {
    const Tensors in = {r.contiguous(),           k.contiguous(),  v.contiguous(),
                        log_w.contiguous().exp(), kk.contiguous(), kka.contiguous()};
    context->save_for_backward(in);
    context->saved_data["length"] = length;
    context->saved_data["n_head"] = n_head;
    return forward_cpu(in, {length, n_head});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const WkvShape shape{context->saved_data["length"].toInt(),
                         context->saved_data["n_head"].toInt()};
    auto result = backward_cpu(context->get_saved_variables(), grads[0].contiguous(), shape);
    result.resize(8);  // none for length and n_head
    return result;
  }
};

}  // namespace

at::Tensor wkv_v7(const WkvInputs& inputs, const at::Tensor& kk, const at::Tensor& kka,
                  const WkvShape& shape) {
  if (!inputs.r.is_cpu()) {
    return wkv_v7_chunked(inputs, kk, kka, shape);
  }
  return WkvV7::apply(inputs.r, inputs.k, inputs.v, inputs.log_w, kk, kka, shape.length,
                      shape.n_head);
}

}  // namespace rwkv::press

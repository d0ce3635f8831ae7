// wkv of v5 and v6. With S before token t, and G the loss's gradient for S after it, the gradients
// are (g = gradient of y):
//   gr_i = sum_j g_j (u_i k_i v_j + S_ij)      gk_i = u_i r_i (g.v) + sum_j G_ij v_j
//   gv_j = (sum_i r_i u_i k_i) g_j + sum_i G_ij k_i      gu_i = r_i k_i (g.v)
//   G before = w G + r g^T
// The gradient of log w_i is w_i sum_j G_ij S_ij. Neither state is kept for all tokens: with
// Q = sum_j G_ij S_ij after a token, it is Q - k_i (sum_j G_ij v_j), and Q before the token is that
// plus r_i (sum_j g_j S_ij), so Q runs from the last token, where it is 0, to the first.
#include <ATen/Dispatch.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

#include "compressor/model/wkv_chunked.h"
#include "compressor/model/wkv_loop.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

// One token of one head; state[i][j] has the key index first, so the inner loops run over values.
template <typename T>
struct TokenV5 {
  const T *r, *k, *v, *w, *u;
};

template <typename T>
RWKV_PRESS_INLINE void step(int64_t n, const TokenV5<T>& token, T* __restrict state,
                            T* __restrict out) {
  std::fill(out, out + n, T(0));
  const T* const v = token.v;
  for (int64_t i = 0; i < n; ++i) {
    T* __restrict row = state + i * n;
    const T r = token.r[i];
    const T k = token.k[i];
    const T u = token.u[i];
    const T w = token.w[i];
    for (int64_t j = 0; j < n; ++j) {
      const T kv = k * v[j];
      out[j] += r * (u * kv + row[j]);
      row[j] = w * row[j] + kv;
    }
  }
}

// Forwards in time: past[i] = sum_j g_j S_ij, then S as in step().
template <typename T>
RWKV_PRESS_INLINE void step_past(int64_t n, const TokenV5<T>& token, const T* g,
                                 T* __restrict state, T* __restrict past) {
  const T* const v = token.v;
  for (int64_t i = 0; i < n; ++i) {
    T* __restrict row = state + i * n;
    const T k = token.k[i];
    const T w = token.w[i];
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; ++j) {
      sum += g[j] * row[j];
      row[j] = w * row[j] + k * v[j];
    }
    past[i] = sum;
  }
}

// Backwards in time: future[i] = sum_j G_ij v_j, gv_j += sum_i G_ij k_i, then G before the token.
template <typename T>
RWKV_PRESS_INLINE void step_future(int64_t n, const TokenV5<T>& token, const T* g,
                                   T* __restrict grad_state, T* __restrict future,
                                   T* __restrict gv) {
  const T* const v = token.v;
  for (int64_t i = 0; i < n; ++i) {
    T* __restrict row = grad_state + i * n;
    const T r = token.r[i];
    const T k = token.k[i];
    const T w = token.w[i];
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; ++j) {
      sum += row[j] * v[j];
      gv[j] += row[j] * k;
      row[j] = w * row[j] + r * g[j];
    }
    future[i] = sum;
  }
}

// Pointers to the first element of every tensor.
template <typename T>
struct ArraysV5 {
  const T *r, *k, *v, *w, *u;
  int64_t dim_att, length, head_size;
  bool is_constant;  ///< w is the same for all tokens

  TokenV5<T> at(int64_t first, int64_t channel, int64_t t) const {
    const int64_t i = first + t * dim_att;
    return {r + i, k + i, v + i, w + (is_constant ? channel : i), u + channel};
  }
};

template <typename T>
RWKV_PRESS_INLINE void head_forward(const ArraysV5<T>& in, int64_t n, int64_t first,
                                    int64_t channel, T* out) {
  std::vector<T> state(static_cast<size_t>(n * n));
  for (int64_t t = 0; t < in.length; ++t) {
    step(n, in.at(first, channel, t), state.data(), out + first + t * in.dim_att);
  }
}

template <typename T>
struct GradientsV5 {
  T *r, *k, *v;  ///< [n, dim_att]
  T* log_w;      ///< the same, or [batch, dim_att] if it is constant; zeros at first
  T* u;          ///< [batch, dim_att], zeros at first
};

template <typename T>
RWKV_PRESS_INLINE void head_backward(const ArraysV5<T>& in, int64_t n, const T* grad_out,
                                     int64_t first, int64_t channel, const GradientsV5<T>& out) {
  std::vector<T> state(static_cast<size_t>(n * n));
  // r's gradient without the bonus first: the second loop needs it for Q.
  for (int64_t t = 0; t < in.length; ++t) {
    const int64_t i = first + t * in.dim_att;
    step_past(n, in.at(first, channel, t), grad_out + i, state.data(), out.r + i);
  }
  std::fill(state.begin(), state.end(), T(0));
  std::vector<double> q(static_cast<size_t>(n));
  std::vector<T> future(static_cast<size_t>(n));
  const int64_t sequence = first / (in.length * in.dim_att) * in.dim_att + channel;
  T* const gu = out.u + sequence;
  for (int64_t t = in.length - 1; t >= 0; --t) {
    const TokenV5<T> token = in.at(first, channel, t);
    const int64_t at = first + t * in.dim_att;
    const T* const g = grad_out + at;
    T* const gw = out.log_w + (in.is_constant ? sequence : at);
    T gv_sum = 0;
    T bonus_sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      gv_sum += g[i] * token.v[i];
      bonus_sum += token.r[i] * token.u[i] * token.k[i];
    }
    for (int64_t j = 0; j < n; ++j) {
      out.v[at + j] = bonus_sum * g[j];
    }
    step_future(n, token, g, state.data(), future.data(), out.v + at);
    for (int64_t i = 0; i < n; ++i) {
      const T past = out.r[at + i];
      const auto kept = q[static_cast<size_t>(i)] -
                        static_cast<double>(token.k[i]) * static_cast<double>(future[size_t(i)]);
      gw[i] += static_cast<T>(kept);
      q[static_cast<size_t>(i)] =
          kept + static_cast<double>(token.r[i]) * static_cast<double>(past);
      out.r[at + i] = past + token.u[i] * token.k[i] * gv_sum;
      out.k[at + i] = future[size_t(i)] + token.u[i] * token.r[i] * gv_sum;
      gu[i] += token.r[i] * token.k[i] * gv_sum;
    }
  }
}

// Templates cannot be cloned per instruction set, their instances can. Loops whose length the
// compiler knows are much faster.
RWKV_PRESS_CLONES void run_forward(const ArraysV5<float>& in, int64_t first, int64_t channel,
                                   float* out) {
  in.head_size == kHeadSize ? head_forward(in, kHeadSize, first, channel, out)
                            : head_forward(in, in.head_size, first, channel, out);
}
RWKV_PRESS_CLONES void run_backward(const ArraysV5<float>& in, const float* grad_out, int64_t first,
                                    int64_t channel, const GradientsV5<float>& out) {
  in.head_size == kHeadSize ? head_backward(in, kHeadSize, grad_out, first, channel, out)
                            : head_backward(in, in.head_size, grad_out, first, channel, out);
}
void run_forward(const ArraysV5<double>& in, int64_t first, int64_t channel, double* out) {
  head_forward(in, in.head_size, first, channel, out);
}
void run_backward(const ArraysV5<double>& in, const double* grad_out, int64_t first,
                  int64_t channel, const GradientsV5<double>& out) {
  head_backward(in, in.head_size, grad_out, first, channel, out);
}

struct TensorsV5 {
  at::Tensor r, k, v, w, u;
};

template <typename T>
ArraysV5<T> arrays_of(const TensorsV5& in, const WkvShape& shape) {
  const int64_t dim_att = in.r.size(1);
  return {in.r.data_ptr<T>(), in.k.data_ptr<T>(),     in.v.data_ptr<T>(),
          in.w.data_ptr<T>(), in.u.data_ptr<T>(),     dim_att,
          shape.length,       dim_att / shape.n_head, in.w.dim() == 1};
}

at::Tensor forward_cpu(const TensorsV5& in, const WkvShape& shape) {
  at::Tensor out = at::empty_like(in.r);
  AT_DISPATCH_FLOATING_TYPES(out.scalar_type(), "wkv_v5", [&] {
    const auto arrays = arrays_of<scalar_t>(in, shape);
    for_each_head(out, shape, arrays.head_size, [&](int64_t first, int64_t channel) {
      run_forward(arrays, first, channel, out.data_ptr<scalar_t>());
    });
  });
  return out;
}

// Gradients of r, k, v, log_w, u.
std::vector<at::Tensor> backward_cpu(const TensorsV5& in, const at::Tensor& grad_out,
                                     const WkvShape& shape) {
  std::vector<at::Tensor> grads(3);
  for (at::Tensor& grad : grads) {
    grad = at::empty_like(in.r);
  }
  const bool is_constant = in.w.dim() == 1;
  const at::Tensor grad_u = at::zeros({in.r.size(0) / shape.length, in.r.size(1)}, in.r.options());
  const at::Tensor grad_w = at::zeros_like(is_constant ? grad_u : in.r);
  AT_DISPATCH_FLOATING_TYPES(grad_out.scalar_type(), "wkv_v5_backward", [&] {
    const auto arrays = arrays_of<scalar_t>(in, shape);
    const GradientsV5<scalar_t> out = {grads[0].data_ptr<scalar_t>(), grads[1].data_ptr<scalar_t>(),
                                       grads[2].data_ptr<scalar_t>(), grad_w.data_ptr<scalar_t>(),
                                       grad_u.data_ptr<scalar_t>()};
    for_each_head(grad_out, shape, arrays.head_size, [&](int64_t first, int64_t channel) {
      run_backward(arrays, grad_out.data_ptr<scalar_t>(), first, channel, out);
    });
  });
  grads.push_back(is_constant ? sum_sequences(grad_w) : grad_w);
  grads.push_back(sum_sequences(grad_u));
  return grads;
}

struct WkvV5 : public torch::autograd::Function<WkvV5> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& r,
                            const at::Tensor& k, const at::Tensor& v, const at::Tensor& log_w,
                            const at::Tensor& u, int64_t length, int64_t n_head) {
    const TensorsV5 in = {r.contiguous(), k.contiguous(), v.contiguous(), log_w.contiguous().exp(),
                          u.contiguous()};
    context->save_for_backward({in.r, in.k, in.v, in.w, in.u});
    context->saved_data["length"] = length;
    context->saved_data["n_head"] = n_head;
    return forward_cpu(in, {length, n_head});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const WkvShape shape{context->saved_data["length"].toInt(),
                         context->saved_data["n_head"].toInt()};
    auto result = backward_cpu({saved[0], saved[1], saved[2], saved[3], saved[4]},
                               grads[0].contiguous(), shape);
    result.resize(7);  // none for length and n_head
    return result;
  }
};

}  // namespace

at::Tensor wkv_v5(const WkvInputs& inputs, const at::Tensor& u, const WkvShape& shape) {
  if (!inputs.r.is_cpu()) {
    return wkv_v5_chunked(inputs, u, shape);
  }
  return WkvV5::apply(inputs.r, inputs.k, inputs.v, inputs.log_w, u, shape.length, shape.n_head);
}

}  // namespace rwkv::press

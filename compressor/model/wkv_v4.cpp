// wkv of v4. With the sums A, B before token t (A' = e^w A + e^k v, B' = e^w B + e^k after it) and
// E = e^(u + k), D = B + E:
//   y = (A + E v) / D
// With P, Q the loss's gradients for A' and B' (g = gradient of y):
//   gv = g E / D + e^k P          gk = g (v - y) E / D + e^k (P v + Q)
//   gu = g (v - y) E / D          gw = e^w (A P + B Q)
//   P before = e^w P + g / D      Q before = e^w Q - g y / D
// None of these sums would fit a float: forwards A = num e^max and B = den e^max with the largest
// exponent so far, and backwards P and Q are kept the same way with max' = the largest of
// -(exponent of D), decayed. An exponent of D is at least that of any token before it, decayed as
// much, so all exponents that the products above need are at most 0.
#include <ATen/Dispatch.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "compressor/model/wkv_chunked.h"
#include "compressor/model/wkv_loop.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

// Channels that one call processes together; they are independent, so the number is arbitrary.
constexpr int64_t kChannels = 64;

// Below every exponent, and twice it still is a float.
constexpr double kNoExponent = -1e30;

// e^a and e^b, both divided by the larger one, which is e^max: one of them is 1.
template <typename T>
struct Shares {
  T a, b, max;
};

template <typename T>
RWKV_PRESS_INLINE Shares<T> shares_of(T a, T b) {
  const T smaller = std::exp(-std::abs(a - b));
  return a < b ? Shares<T>{smaller, T(1), b} : Shares<T>{T(1), smaller, a};
}

// Sums of a group of channels before one token: A = num e^max, B = den e^max.
template <typename T>
struct SumsV4 {
  T num[kChannels];
  T den[kChannels];
  T max[kChannels];

  void clear() {
    std::fill(num, num + kChannels, T(0));
    std::fill(den, den + kChannels, T(0));
    std::fill(max, max + kChannels, T(kNoExponent));
  }
};

// Pointers to the first element of every tensor.
template <typename T>
struct ArraysV4 {
  const T *k, *v, *decay, *bonus;
  int64_t dim_att, length;
};

template <typename T>
struct GradientsV4 {
  T *k, *v;          ///< [n, dim_att]
  T *decay, *bonus;  ///< [batch, dim_att]
};

// `next` may be `sums`.
template <typename T>
RWKV_PRESS_INLINE void step(int64_t n, const T* k, const T* v, const T* decay,
                            const SumsV4<T>& sums, SumsV4<T>& next) {
  for (int64_t i = 0; i < n; ++i) {
    const Shares<T> share = shares_of(sums.max[i] + decay[i], k[i]);
    next.num[i] = share.a * sums.num[i] + share.b * v[i];
    next.den[i] = share.a * sums.den[i] + share.b;
    next.max[i] = share.max;
  }
}

template <typename T>
RWKV_PRESS_INLINE void group_forward(const ArraysV4<T>& in, int64_t first, int64_t channel,
                                     T* out) {
  const int64_t n = std::min(kChannels, in.dim_att - channel);
  SumsV4<T> sums;
  sums.clear();
  for (int64_t t = 0; t < in.length; ++t) {
    const int64_t at = first + t * in.dim_att;
    const T* const k = in.k + at;
    const T* const v = in.v + at;
    for (int64_t i = 0; i < n; ++i) {
      const Shares<T> share = shares_of(sums.max[i], in.bonus[channel + i] + k[i]);
      out[at + i] = (share.a * sums.num[i] + share.b * v[i]) / (share.a * sums.den[i] + share.b);
    }
    step(n, k, v, in.decay + channel, sums, sums);
  }
}

// One token backwards; `future` has P (num), Q (den) and their exponent.
template <typename T>
RWKV_PRESS_INLINE void step_back(int64_t n, const ArraysV4<T>& in, const T* grad_out, int64_t at,
                                 int64_t channel, const SumsV4<T>& sums, SumsV4<T>& future,
                                 const GradientsV4<T>& out, T* grad_decay, T* grad_bonus) {
  for (int64_t i = 0; i < n; ++i) {
    const T k = in.k[at + i];
    const T v = in.v[at + i];
    const T decay = in.decay[channel + i];
    const Shares<T> share = shares_of(sums.max[i], in.bonus[channel + i] + k);
    const T den = share.a * sums.den[i] + share.b;  // D e^-share.max
    const T y = (share.a * sums.num[i] + share.b * v) / den;
    const T g = grad_out[at + i] / den;
    const T g_here = g * share.b;
    const T here = g_here * (v - y);
    const T p = future.num[i];
    const T q = future.den[i];
    const T gain = std::exp(k + future.max[i]);
    out.k[at + i] = here + gain * (p * v + q);
    out.v[at + i] = g_here + gain * p;
    grad_bonus[i] += here;
    const T kept = std::exp(decay + sums.max[i] + future.max[i]);
    grad_decay[i] += kept * (sums.num[i] * p + sums.den[i] * q);
    const Shares<T> before = shares_of(future.max[i] + decay, -share.max);
    future.num[i] = before.a * p + before.b * g;
    future.den[i] = before.a * q - before.b * g * y;
    future.max[i] = before.max;
  }
}

template <typename T>
RWKV_PRESS_INLINE void group_backward(const ArraysV4<T>& in, const T* grad_out, int64_t first,
                                      int64_t channel, const GradientsV4<T>& out) {
  const int64_t n = std::min(kChannels, in.dim_att - channel);
  std::vector<SumsV4<T>> sums(static_cast<size_t>(in.length));
  sums[0].clear();
  for (int64_t t = 0; t + 1 < in.length; ++t) {
    const int64_t at = first + t * in.dim_att;
    step(n, in.k + at, in.v + at, in.decay + channel, sums[size_t(t)], sums[size_t(t) + 1]);
  }
  SumsV4<T> future;
  future.clear();
  const int64_t sequence = first / (in.length * in.dim_att) * in.dim_att + channel;
  for (int64_t t = in.length - 1; t >= 0; --t) {
    step_back(n, in, grad_out, first + t * in.dim_att, channel, sums[size_t(t)], future, out,
              out.decay + sequence, out.bonus + sequence);
  }
}

// Templates cannot be cloned per instruction set, their instances can.
RWKV_PRESS_CLONES void run_forward(const ArraysV4<float>& in, int64_t first, int64_t channel,
                                   float* out) {
  group_forward(in, first, channel, out);
}
RWKV_PRESS_CLONES void run_backward(const ArraysV4<float>& in, const float* grad_out, int64_t first,
                                    int64_t channel, const GradientsV4<float>& out) {
  group_backward(in, grad_out, first, channel, out);
}
void run_forward(const ArraysV4<double>& in, int64_t first, int64_t channel, double* out) {
  group_forward(in, first, channel, out);
}
void run_backward(const ArraysV4<double>& in, const double* grad_out, int64_t first,
                  int64_t channel, const GradientsV4<double>& out) {
  group_backward(in, grad_out, first, channel, out);
}

struct TensorsV4 {
  at::Tensor k, v, decay, bonus;
};

template <typename T>
ArraysV4<T> arrays_of(const TensorsV4& in, int64_t length) {
  return {in.k.data_ptr<T>(),     in.v.data_ptr<T>(), in.decay.data_ptr<T>(),
          in.bonus.data_ptr<T>(), in.k.size(1),       length};
}

WkvShape groups_of(const at::Tensor& k, int64_t length) {
  return {length, (k.size(1) + kChannels - 1) / kChannels};
}

at::Tensor forward_cpu(const TensorsV4& in, int64_t length) {
  at::Tensor out = at::empty_like(in.k);
  AT_DISPATCH_FLOATING_TYPES(out.scalar_type(), "wkv_v4", [&] {
    const auto arrays = arrays_of<scalar_t>(in, length);
    const auto run = [&](int64_t first, int64_t channel) {
      run_forward(arrays, first, channel, out.data_ptr<scalar_t>());
    };
    for_each_head(out, groups_of(out, length), kChannels, run);
  });
  return out;
}

// Gradients of k, v, decay, bonus.
std::vector<at::Tensor> backward_cpu(const TensorsV4& in, const at::Tensor& grad_out,
                                     int64_t length) {
  const at::Tensor grad_k = at::empty_like(in.k);
  const at::Tensor grad_v = at::empty_like(in.k);
  const at::Tensor grad_decay = at::zeros({in.k.size(0) / length, in.k.size(1)}, in.k.options());
  const at::Tensor grad_bonus = at::zeros_like(grad_decay);
  AT_DISPATCH_FLOATING_TYPES(grad_out.scalar_type(), "wkv_v4_backward", [&] {
    const auto arrays = arrays_of<scalar_t>(in, length);
    const GradientsV4<scalar_t> out = {grad_k.data_ptr<scalar_t>(), grad_v.data_ptr<scalar_t>(),
                                       grad_decay.data_ptr<scalar_t>(),
                                       grad_bonus.data_ptr<scalar_t>()};
    const auto run = [&](int64_t first, int64_t channel) {
      run_backward(arrays, grad_out.data_ptr<scalar_t>(), first, channel, out);
    };
    for_each_head(grad_out, groups_of(grad_out, length), kChannels, run);
  });
  return {grad_k, grad_v, sum_sequences(grad_decay), sum_sequences(grad_bonus)};
}

struct WkvV4 : public torch::autograd::Function<WkvV4> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& k,
                            const at::Tensor& v, const at::Tensor& decay, const at::Tensor& bonus,
                            int64_t length) {
    const TensorsV4 in = {k.contiguous(), v.contiguous(), decay.contiguous(), bonus.contiguous()};
    context->save_for_backward({in.k, in.v, in.decay, in.bonus});
    context->saved_data["length"] = length;
    return forward_cpu(in, length);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    auto result = backward_cpu({saved[0], saved[1], saved[2], saved[3]}, grads[0].contiguous(),
                               context->saved_data["length"].toInt());
    result.resize(5);  // none for length
    return result;
  }
};

}  // namespace

at::Tensor wkv_v4(const at::Tensor& k, const at::Tensor& v, const at::Tensor& decay,
                  const at::Tensor& bonus, int64_t length) {
  if (!k.is_cpu()) {
    return wkv_v4_chunked(k, v, decay, bonus, length);
  }
  return WkvV4::apply(k, v, decay, bonus, length);
}

}  // namespace rwkv::press

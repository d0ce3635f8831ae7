#include "compressor/model/wkv.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace rwkv::press {
namespace {

const float* data(const at::Tensor& tensor) {
  return tensor.data_ptr<float>();
}

// Calls `head(first, channel)` for every head of every sequence: the index of the sequence's first
// number in its tensors, channel included, and the channel itself.
template <typename Head>
void for_each_head(const at::Tensor& like, const WkvShape& shape, int64_t head_size,
                   const Head& head) {
  const int64_t dim_att = like.size(1);
  const int64_t batch = like.size(0) / shape.length;
  at::parallel_for(0, batch * shape.n_head, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t channel = i % shape.n_head * head_size;
      head(i / shape.n_head * shape.length * dim_att + channel, channel);
    }
  });
}

// Channels of v4 that one call works through together; they share nothing, so any number will do.
constexpr int64_t kChannels = 64;

struct ChannelsV4 {
  int64_t n = 0;  ///< at most kChannels
  float num[kChannels] = {};
  float den[kChannels] = {};
  float max[kChannels];
  explicit ChannelsV4(int64_t n_channels) : n(n_channels) {
    std::fill(max, max + kChannels, -1e30f);
  }

  void step(const float* k, const float* v, const float* decay, const float* bonus, float* out) {
    for (int64_t i = 0; i < n; ++i) {
      const float here = bonus[i] + k[i];
      const float q = std::max(max[i], here);
      const float past_share = std::exp(max[i] - q);
      const float here_share = std::exp(here - q);
      out[i] = (past_share * num[i] + here_share * v[i]) / (past_share * den[i] + here_share);

      const float next = std::max(max[i] + decay[i], k[i]);
      const float keep = std::exp(max[i] + decay[i] - next);
      const float gain = std::exp(k[i] - next);
      num[i] = keep * num[i] + gain * v[i];
      den[i] = keep * den[i] + gain;
      max[i] = next;
    }
  }
};

// One token of one head; state[i][j] has the key index first, so the inner loop runs over values.
void step_v5(int64_t n, const float* r, const float* k, const float* v, const float* w,
             const float* u, float* __restrict state, float* __restrict out) {
  std::fill(out, out + n, 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    float* __restrict row = state + i * n;
    const float r_i = r[i];
    const float k_i = k[i];
    const float u_i = u[i];
    const float w_i = w[i];
    for (int64_t j = 0; j < n; ++j) {
      const float kv = k_i * v[j];
      out[j] += r_i * (u_i * kv + row[j]);
      row[j] = w_i * row[j] + kv;
    }
  }
}

// The state is turned against the formula, state[j][i] with the key index j first: so the inner
// loops run over values here too, and sums need not be reordered to become vector code.
void step_v7(int64_t n, const float* r, const float* k, const float* v, const float* w,
             const float* kk, const float* kka, float* __restrict removed, float* __restrict state,
             float* __restrict out) {
  std::fill(removed, removed + n, 0.0f);
  std::fill(out, out + n, 0.0f);
  for (int64_t j = 0; j < n; ++j) {
    const float* row = state + j * n;
    const float kk_j = kk[j];
    for (int64_t i = 0; i < n; ++i) {
      removed[i] += row[i] * kk_j;
    }
  }
  for (int64_t j = 0; j < n; ++j) {
    float* __restrict row = state + j * n;
    const float r_j = r[j];
    const float k_j = k[j];
    const float w_j = w[j];
    const float kka_j = kka[j];
    for (int64_t i = 0; i < n; ++i) {
      row[i] = row[i] * w_j - removed[i] * kka_j + v[i] * k_j;
      out[i] += row[i] * r_j;
    }
  }
}

}  // namespace

at::Tensor wkv_v4(const at::Tensor& k, const at::Tensor& v, const at::Tensor& decay,
                  const at::Tensor& bonus, int64_t length) {
  at::Tensor out = at::empty_like(k);
  const int64_t dim_att = k.size(1);
  const WkvShape shape{length, (dim_att + kChannels - 1) / kChannels};
  const float* const k_data = data(k);
  const float* const v_data = data(v);
  const float* const decay_data = data(decay);
  const float* const bonus_data = data(bonus);
  float* const out_data = out.data_ptr<float>();
  for_each_head(k, shape, kChannels, [&](int64_t first, int64_t channel) {
    ChannelsV4 channels(std::min(kChannels, dim_att - channel));
    for (int64_t t = 0; t < length; ++t) {
      const int64_t at = first + t * dim_att;
      channels.step(k_data + at, v_data + at, decay_data + channel, bonus_data + channel,
                    out_data + at);
    }
  });
  return out;
}

at::Tensor wkv_v5(const WkvInputs& inputs, const at::Tensor& u, const WkvShape& shape) {
  at::Tensor out = at::empty_like(inputs.r);
  const int64_t dim_att = out.size(1);
  const int64_t n = dim_att / shape.n_head;
  const bool is_constant = inputs.w.dim() == 1;
  const float* const r = data(inputs.r);
  const float* const k = data(inputs.k);
  const float* const v = data(inputs.v);
  const float* const w = data(inputs.w);
  const float* const u_data = data(u);
  float* const out_data = out.data_ptr<float>();
  for_each_head(out, shape, n, [&](int64_t first, int64_t channel) {
    std::vector<float> state(static_cast<size_t>(n * n));
    for (int64_t t = 0; t < shape.length; ++t) {
      const int64_t at = first + t * dim_att;
      step_v5(n, r + at, k + at, v + at, w + (is_constant ? channel : at), u_data + channel,
              state.data(), out_data + at);
    }
  });
  return out;
}

at::Tensor wkv_v7(const WkvInputs& inputs, const at::Tensor& kk, const at::Tensor& kka,
                  const WkvShape& shape) {
  at::Tensor out = at::empty_like(inputs.r);
  const int64_t dim_att = out.size(1);
  const int64_t n = dim_att / shape.n_head;
  const float* const r = data(inputs.r);
  const float* const k = data(inputs.k);
  const float* const v = data(inputs.v);
  const float* const w = data(inputs.w);
  const float* const kk_data = data(kk);
  const float* const kka_data = data(kka);
  float* const out_data = out.data_ptr<float>();
  for_each_head(out, shape, n, [&](int64_t first, int64_t) {
    std::vector<float> state(static_cast<size_t>(n * n));
    std::vector<float> removed(static_cast<size_t>(n));
    for (int64_t t = 0; t < shape.length; ++t) {
      const int64_t at = first + t * dim_att;
      step_v7(n, r + at, k + at, v + at, w + at, kk_data + at, kka_data + at, removed.data(),
              state.data(), out_data + at);
    }
  });
  return out;
}

}  // namespace rwkv::press

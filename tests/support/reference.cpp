#include "tests/support/reference.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace rwkv::test {
namespace {

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

Numbers mapped(const Numbers& x, double (*f)(double)) {
  Numbers y(x.size());
  std::transform(x.begin(), x.end(), y.begin(), f);
  return y;
}

Numbers tanh_of(const Numbers& x) {
  return mapped(x, [](double value) { return std::tanh(value); });
}

Numbers plus(const Numbers& a, const Numbers& b) {
  Numbers y(a.size());
  std::transform(a.begin(), a.end(), b.begin(), y.begin(), std::plus<>());
  return y;
}

Numbers times(const Numbers& a, const Numbers& b) {
  Numbers y(a.size());
  std::transform(a.begin(), a.end(), b.begin(), y.begin(), std::multiplies<>());
  return y;
}

Numbers silu(const Numbers& x) {
  return times(x, mapped(x, sigmoid));
}

Numbers normalised(const Numbers& x, double epsilon) {
  double mean = 0.0;
  double square = 0.0;
  const auto n = static_cast<double>(x.size());
  for (const double value : x) {
    mean += value / n;
  }
  for (const double value : x) {
    square += (value - mean) * (value - mean) / n;
  }
  Numbers y;
  for (const double value : x) {
    y.push_back((value - mean) / std::sqrt(square + epsilon));
  }
  return y;
}

}  // namespace

Reference::Reference(const TensorSource& source) {
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    const TensorInfo& info = source.tensors()[i];
    std::vector<std::byte> bytes;
    const Status status = source.read(i, bytes);
    if (!status.ok()) {
      throw std::runtime_error(status.message());
    }
    std::vector<float> values(info.n_elements());
    decode_to_f32(info.dtype, bytes, values);
    tensors_[info.name] = {info.shape, Numbers(values.begin(), values.end())};
  }
  const bool is_v7 = has("blocks.0.att.r_k");
  const Tensor& heads = tensors_.at(is_v7 ? "blocks.0.att.r_k" : "blocks.0.att.time_faaaa");
  n_head_ = heads.shape[heads.shape.size() - 2];
  size_ = heads.shape.back();
}

void Reference::begin() {
  const size_t n = at("ln_out.weight").size();
  for (size_t i = 0; has("blocks." + std::to_string(i) + ".ln1.weight"); ++i) {
    const std::string state = "blocks." + std::to_string(i) + ".att.time_state";
    blocks_.push_back(
        {Numbers(n), Numbers(n), has(state) ? at(state) : Numbers(n_head_ * size_ * size_)});
  }
}

// y = W x, W [out][in].
Numbers Reference::product(const std::string& matrix, const Numbers& x) const {
  const Numbers& w = at(matrix);
  Numbers y(w.size() / x.size());
  for (size_t i = 0; i < w.size(); ++i) {
    y[i / x.size()] += w[i] * x[i % x.size()];
  }
  return y;
}

// y = x W, W [in][out].
Numbers Reference::row_times(const Numbers& x, const std::string& matrix) const {
  const Numbers& w = at(matrix);
  const size_t n_out = w.size() / x.size();
  Numbers y(n_out);
  for (size_t i = 0; i < w.size(); ++i) {
    y[i % n_out] += x[i / n_out] * w[i];
  }
  return y;
}

Numbers Reference::norm(const std::string& name, const Numbers& x) const {
  return plus(times(normalised(x, 1e-5), at(name + ".weight")), at(name + ".bias"));
}

Numbers Reference::group_norm(const std::string& name, const Numbers& y) const {
  Numbers result;
  for (size_t h = 0; h < n_head_; ++h) {
    const auto head = y.begin() + static_cast<std::ptrdiff_t>(h * size_);
    const Numbers part =
        normalised(Numbers(head, head + static_cast<std::ptrdiff_t>(size_)), 64e-5);
    result.insert(result.end(), part.begin(), part.end());
  }
  return plus(times(result, at(name + ".weight")), at(name + ".bias"));
}

// x + (before - x) * coefficients, as v6 and v7 mix.
Numbers Reference::mixed(const Numbers& x, const Numbers& before, const std::string& name) const {
  const Numbers& coefficients = at(name);
  Numbers y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = x[i] + (before[i] - x[i]) * coefficients[i];
  }
  return y;
}

// y_v = sum over k of r_k (S_vk + u_k k_k v_v), then S_vk = S_vk w_k + k_k v_v.
Numbers Reference::recurrence_v5(const std::string& att, Block& block, const Numbers& r,
                                 const Numbers& k, const Numbers& v, const Numbers& w) const {
  const Numbers& u = at(att + "time_faaaa");
  Numbers y(r.size());
  for (size_t h = 0; h < n_head_; ++h) {
    for (size_t i = h * size_; i < (h + 1) * size_; ++i) {
      for (size_t j = h * size_; j < (h + 1) * size_; ++j) {
        double& s = block.state[i * size_ + j - h * size_];
        y[i] += r[j] * (s + u[j] * k[j] * v[i]);
        s = s * w[j] + k[j] * v[i];
      }
    }
  }
  return y;
}

Numbers Reference::time_mix_v5(const std::string& att, Block& block, const Numbers& x) const {
  const auto mix = [&](const char* name) {
    const Numbers& coefficients = at(att + name);
    Numbers y(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      y[i] = x[i] * coefficients[i] + block.att_before[i] * (1.0 - coefficients[i]);
    }
    return y;
  };
  const Numbers r = product(att + "receptance.weight", mix("time_mix_r"));
  const Numbers k = product(att + "key.weight", mix("time_mix_k"));
  const Numbers v = product(att + "value.weight", mix("time_mix_v"));
  const Numbers g = silu(product(att + "gate.weight", mix("time_mix_g")));
  const Numbers w =
      mapped(at(att + "time_decay"), [](double value) { return std::exp(-std::exp(value)); });
  const Numbers y = group_norm(att + "ln_x", recurrence_v5(att, block, r, k, v, w));
  return product(att + "output.weight", times(y, g));
}

Numbers Reference::time_mix_v6(const std::string& att, Block& block, const Numbers& x) const {
  const Numbers inner =
      tanh_of(row_times(mixed(x, block.att_before, att + "time_maa_x"), att + "time_maa_w1"));
  const size_t rank = inner.size() / 5;
  const Numbers& w2 = at(att + "time_maa_w2");  // [5][rank][n]
  const auto mix = [&](size_t q, const char* name) {
    const Numbers& coefficients = at(att + name);
    Numbers y(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      double m = coefficients[i];
      for (size_t k = 0; k < rank; ++k) {
        m += inner[q * rank + k] * w2[(q * rank + k) * x.size() + i];
      }
      y[i] = x[i] + (block.att_before[i] - x[i]) * m;
    }
    return y;
  };
  const Numbers w_in = mix(0, "time_maa_w");
  const Numbers k = product(att + "key.weight", mix(1, "time_maa_k"));
  const Numbers v = product(att + "value.weight", mix(2, "time_maa_v"));
  const Numbers r = product(att + "receptance.weight", mix(3, "time_maa_r"));
  const Numbers g = silu(product(att + "gate.weight", mix(4, "time_maa_g")));
  const Numbers moved =
      row_times(tanh_of(row_times(w_in, att + "time_decay_w1")), att + "time_decay_w2");
  const Numbers w = mapped(plus(at(att + "time_decay"), moved),
                           [](double value) { return std::exp(-std::exp(value)); });
  const Numbers y = group_norm(att + "ln_x", recurrence_v5(att, block, r, k, v, w));
  return product(att + "output.weight", times(y, g));
}

Numbers Reference::time_mix_v7(const std::string& att, Block& block, const Numbers& x) {
  const auto mix = [&](const char* name) { return mixed(x, block.att_before, att + name); };
  const auto pair = [&](const char* letter, const Numbers& in, bool is_tanh) {
    const Numbers inner = row_times(in, att + letter + "1");
    return row_times(is_tanh ? tanh_of(inner) : inner, att + letter + "2");
  };
  const Numbers r = product(att + "receptance.weight", mix("x_r"));
  Numbers k = product(att + "key.weight", mix("x_k"));
  Numbers v = product(att + "value.weight", mix("x_v"));
  const Numbers w = mapped(plus(at(att + "w0"), pair("w", mix("x_w"), true)),
                           [](double value) { return std::exp(-std::exp(-0.5) * sigmoid(value)); });
  const Numbers a = mapped(plus(at(att + "a0"), pair("a", mix("x_a"), false)), sigmoid);
  const Numbers g = row_times(mapped(row_times(mix("x_g"), att + "g1"), sigmoid), att + "g2");
  if (&block == blocks_.data()) {
    v_first_ = v;
  } else {
    const Numbers part = mapped(plus(at(att + "v0"), pair("v", mix("x_v"), false)), sigmoid);
    for (size_t i = 0; i < v.size(); ++i) {
      v[i] += (v_first_[i] - v[i]) * part[i];
    }
  }
  Numbers removed = times(k, at(att + "k_k"));
  for (size_t i = 0; i < k.size(); ++i) {
    k[i] *= 1.0 + (a[i] - 1.0) * at(att + "k_a")[i];
  }
  Numbers y(v.size());
  Numbers bonus(n_head_);
  for (size_t h = 0; h < n_head_; ++h) {
    const size_t from = h * size_;
    double length = 0.0;
    for (size_t j = 0; j < size_; ++j) {
      length += removed[from + j] * removed[from + j];
      bonus[h] += r[from + j] * k[from + j] * at(att + "r_k")[from + j];
    }
    for (size_t j = 0; j < size_; ++j) {
      removed[from + j] /= std::max(std::sqrt(length), 1e-12);
    }
    for (size_t i = 0; i < size_; ++i) {
      double* const s = block.state.data() + (from + i) * size_;
      double seen = 0.0;
      for (size_t j = 0; j < size_; ++j) {
        seen += s[j] * removed[from + j];
      }
      for (size_t j = 0; j < size_; ++j) {
        s[j] =
            s[j] * w[from + j] - seen * removed[from + j] * a[from + j] + v[from + i] * k[from + j];
        y[from + i] += s[j] * r[from + j];
      }
    }
  }
  y = group_norm(att + "ln_x", y);
  for (size_t i = 0; i < y.size(); ++i) {
    y[i] = (y[i] + bonus[i / size_] * v[i]) * g[i];
  }
  return product(att + "output.weight", y);
}

// ((x s1) S) s2 + s0, with S = s_emb[token] + s_emb_x e as a square matrix.
Numbers Reference::deep_embed(const std::string& ffn, const Numbers& x, const Numbers& embedded,
                              int32_t token) const {
  Numbers s = product(ffn + "s_emb_x.weight", embedded);
  const Numbers& rows = at(ffn + "s_emb.weight");
  for (size_t i = 0; i < s.size(); ++i) {
    s[i] += rows[static_cast<size_t>(token) * s.size() + i];
  }
  const Numbers inner = row_times(x, ffn + "s1");
  Numbers turned(inner.size());
  for (size_t i = 0; i < s.size(); ++i) {
    turned[i % inner.size()] += inner[i / inner.size()] * s[i];
  }
  return plus(row_times(turned, ffn + "s2"), at(ffn + "s0"));
}

Numbers Reference::channel_mix(const std::string& ffn, Block& block, const Numbers& x,
                               const Numbers& embedded, int32_t token) const {
  const bool is_v5 = has(ffn + "time_mix_k");
  const auto mix = [&](const std::string& name) {
    // v5 weighs the new token, so its coefficients are the others' complement.
    return is_v5 ? mixed(block.ffn_before, x, ffn + name) : mixed(x, block.ffn_before, ffn + name);
  };
  const char* name = is_v5 ? "time_mix_" : has(ffn + "x_k") ? "x_" : "time_maa_";
  Numbers k = product(ffn + "key.weight", mix(std::string(name) + "k"));
  for (double& value : k) {
    value = value > 0.0 ? value * value : 0.0;
  }
  if (has(ffn + "s0")) {
    k = times(k, deep_embed(ffn, x, embedded, token));
  }
  const Numbers out = product(ffn + "value.weight", k);
  if (!has(ffn + "receptance.weight")) {
    return out;
  }
  return times(out,
               mapped(product(ffn + "receptance.weight", mix(std::string(name) + "r")), sigmoid));
}

Numbers Reference::step(int32_t token) {
  if (blocks_.empty()) {
    begin();
  }
  const size_t n = at("ln_out.weight").size();
  const auto row = at("emb.weight").begin() +
                   static_cast<std::ptrdiff_t>(token) * static_cast<std::ptrdiff_t>(n);
  const Numbers embedded = norm("blocks.0.ln0", Numbers(row, row + static_cast<std::ptrdiff_t>(n)));
  Numbers x = embedded;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const std::string prefix = "blocks." + std::to_string(i) + ".";
    const std::string att = prefix + "att.";
    Block& block = blocks_[i];
    const Numbers in = norm(prefix + "ln1", x);
    x = plus(x, has(att + "r_k")          ? time_mix_v7(att, block, in)
                : has(att + "time_maa_x") ? time_mix_v6(att, block, in)
                                          : time_mix_v5(att, block, in));
    block.att_before = in;
    const Numbers ffn_in = norm(prefix + "ln2", x);
    x = plus(x, channel_mix(prefix + "ffn.", block, ffn_in, embedded, token));
    block.ffn_before = ffn_in;
  }
  return product("head.weight", norm("ln_out", x));
}

}  // namespace rwkv::test

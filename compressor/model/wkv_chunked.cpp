#include "compressor/model/wkv_chunked.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

// How rows split into chunks [batch, chunk, head, token, channel of the head]; the last chunk of a
// sequence is padded with tokens of zeros at its end.
class Chunks {
 public:
  explicit Chunks(const WkvShape& shape) : shape_(shape) {}

  int64_t size() const { return std::min(kWkvChunk, shape_.length); }
  int64_t count() const { return (shape_.length + size() - 1) / size(); }

  at::Tensor split(const at::Tensor& rows) const {
    const int64_t dim_att = rows.size(1);
    at::Tensor x = rows.reshape({-1, shape_.length, dim_att});
    const int64_t missing = count() * size() - shape_.length;
    if (missing > 0) {
      x = at::constant_pad_nd(x, {0, 0, 0, missing});
    }
    return x.reshape({-1, count(), size(), shape_.n_head, dim_att / shape_.n_head}).transpose(2, 3);
  }

  at::Tensor join(const at::Tensor& chunks) const {
    const int64_t dim_att = shape_.n_head * chunks.size(-1);
    const at::Tensor x = chunks.transpose(2, 3).reshape({-1, count() * size(), dim_att});
    return x.narrow(1, 0, shape_.length).reshape({-1, dim_att});
  }

 private:
  WkvShape shape_;
};

// Along the tokens of a chunk: the sum of all tokens before each.
at::Tensor sum_before(const at::Tensor& sums) {
  return at::constant_pad_nd(sums.narrow(-2, 0, sums.size(-2) - 1), {0, 0, 1, 0});
}

// [token, token], true where the second one is `from` or more after the first one.
at::Tensor is_later(const at::Tensor& like, int64_t size, int64_t from) {
  return at::ones({size, size}, like.options().dtype(at::kBool)).triu(from);
}

constexpr double kNever =
    -std::numeric_limits<double>::infinity();  // exponent of a term that is left out

// The sums over tokens that v4 needs, as num e^max and den e^max. The largest exponent is divided
// out again, so no gradient goes through it.
struct SumsV4 {
  at::Tensor num, den, max;
};

// Over dimension `dim` of v e^exponents.
SumsV4 sum_up(const at::Tensor& exponents, const at::Tensor& v, int64_t dim) {
  const at::Tensor max = exponents.detach().amax(dim, true);
  const at::Tensor shares = (exponents - max).exp();
  return {(shares * v).sum(dim), shares.sum(dim), max.squeeze(dim)};
}

// `a` with its exponents moved by `decay`, and `b`.
SumsV4 add(const SumsV4& a, const at::Tensor& decay, const SumsV4& b) {
  const at::Tensor moved = a.max + decay;
  const at::Tensor max = at::maximum(moved.detach(), b.max);
  const at::Tensor share_a = (moved - max).exp();
  const at::Tensor share_b = (b.max - max).exp();
  return {share_a * a.num + share_b * b.num, share_a * a.den + share_b * b.den, max};
}

}  // namespace

at::Tensor wkv_v4_chunked(const at::Tensor& k_rows, const at::Tensor& v_rows,
                          const at::Tensor& decay, const at::Tensor& bonus, int64_t length) {
  const Chunks chunks({length, 1});
  const int64_t size = chunks.size();
  const at::Tensor k = chunks.split(k_rows).squeeze(2);
  const at::Tensor v = chunks.split(v_rows).squeeze(2);
  const at::Tensor token = at::arange(size, k.options()).unsqueeze(-1);

  // Inside chunks, [batch, chunk, token, source token, channel].
  const at::Tensor distance = (token - 1 - token.t()).unsqueeze(-1);
  const at::Tensor is_same = at::eye(size, k.options().dtype(at::kBool)).unsqueeze(-1);
  const at::Tensor lag = at::where(is_same, bonus, distance * decay);
  const at::Tensor exponents =
      (k.unsqueeze(2) + lag).masked_fill(is_later(k, size, 1).unsqueeze(-1), kNever);
  const SumsV4 inside = sum_up(exponents, v.unsqueeze(2), 3);
  // What each chunk adds to the sums after it.
  const SumsV4 gains = sum_up(k + (size - 1 - token) * decay, v, 2);

  const at::Tensor none = at::zeros_like(gains.num.select(1, 0));
  SumsV4 sums = {none, none, at::full_like(none, -1e30)};
  std::vector<at::Tensor> num, den, max;
  for (int64_t i = 0; i < chunks.count(); ++i) {
    num.push_back(sums.num);
    den.push_back(sums.den);
    max.push_back(sums.max);
    sums = add(sums, static_cast<double>(size) * decay,
               {gains.num.select(1, i), gains.den.select(1, i), gains.max.select(1, i)});
  }
  const SumsV4 before = {at::stack(num, 1).unsqueeze(2), at::stack(den, 1).unsqueeze(2),
                         at::stack(max, 1).unsqueeze(2)};
  const SumsV4 all = add(before, token * decay, inside);
  return chunks.join((all.num / all.den).unsqueeze(2));
}

// Chunks, key index first in the state S before a chunk, c_t the logarithm of the decay up to and
// with token t of it:
//   y_t = (r_t e^(c_(t-1))) S + sum_(s<t) (sum_i r_ti k_si e^(c_(t-1) - c_s)_i) v_s + bonus
//   S after the chunk = e^(c_last) S + sum_s (k_s e^(c_last - c_s)) v_s^T
// Every exponent is at most 0. The sum over i is no matrix product: e^(-c_s) alone could overflow.
at::Tensor wkv_v5_chunked(const WkvInputs& inputs, const at::Tensor& u, const WkvShape& shape) {
  const Chunks chunks(shape);
  const at::Tensor r = chunks.split(inputs.r);
  const at::Tensor k = chunks.split(inputs.k);
  const at::Tensor v = chunks.split(inputs.v);
  const at::Tensor sums = chunks.split(inputs.log_w.expand_as(inputs.r)).cumsum(-2);
  const at::Tensor before = sum_before(sums);
  const at::Tensor last = sums.narrow(-2, chunks.size() - 1, 1);

  const at::Tensor decays = (before.unsqueeze(-2) - sums.unsqueeze(-3))
                                .masked_fill(is_later(r, chunks.size(), 0).unsqueeze(-1), kNever)
                                .exp();
  const at::Tensor bonus = (r * u.reshape({shape.n_head, 1, -1}) * k).sum(-1);
  const at::Tensor scores =
      (r.unsqueeze(-2) * decays * k.unsqueeze(-3)).sum(-1) + at::diag_embed(bonus);

  const at::Tensor keep = last.exp().transpose(-1, -2);
  const at::Tensor gain = (k * (last - sums).exp()).transpose(-1, -2).matmul(v);
  at::Tensor state = at::zeros_like(gain.select(1, 0));
  std::vector<at::Tensor> states;
  for (int64_t i = 0; i < chunks.count(); ++i) {
    states.push_back(state);
    state = keep.select(1, i) * state + gain.select(1, i);
  }
  return chunks.join(scores.matmul(v) + (r * before.exp()).matmul(at::stack(states, 1)));
}

// Chunks, value index first in the state S before a chunk, c_t the logarithm of the decay up to and
// with token t of it. With the rows
//   A_t = kk_t e^(c_(t-1))   B_t = kka_t e^(-c_t)   K_t = k_t e^(-c_t)   R_t = r_t e^(c_t)
// and the rows U_t = S_(t-1) kk_t of what the tokens remove:
//   (1 + tril(A B^T, -1)) U = A S^T + tril(A K^T, -1) V
//   Y = R S^T + tril(R K^T) V - tril(R B^T) U
//   S after the chunk = (S + V^T K - U^T B) diag(e^(c_last))
// e^(-c) cannot overflow: no decay of v7 is below e^(-e^(-0.5)), so it is at most 2e4.
at::Tensor wkv_v7_chunked(const WkvInputs& inputs, const at::Tensor& kk, const at::Tensor& kka,
                          const WkvShape& shape) {
  const Chunks chunks(shape);
  const at::Tensor v = chunks.split(inputs.v);
  const at::Tensor sums = chunks.split(inputs.log_w).cumsum(-2);
  const at::Tensor grow = (-sums).exp();
  const at::Tensor a = chunks.split(kk) * sum_before(sums).exp();
  const at::Tensor b = chunks.split(kka) * grow;
  const at::Tensor k = chunks.split(inputs.k) * grow;
  const at::Tensor r = chunks.split(inputs.r) * sums.exp();
  const at::Tensor k_turned = k.transpose(-1, -2);
  const at::Tensor b_turned = b.transpose(-1, -2);

  // U = removed[0] S^T + removed[1], before S is known.
  const at::Tensor right = at::cat({a, a.matmul(k_turned).tril(-1).matmul(v)}, -1);
  const auto removed =
      at::linalg_solve_triangular(a.matmul(b_turned).tril(-1), right, false, true, true)
          .chunk(2, -1);

  const at::Tensor keep = sums.narrow(-2, chunks.size() - 1, 1).exp();
  const at::Tensor gain = v.transpose(-1, -2).matmul(k);
  at::Tensor state = at::zeros_like(gain.select(1, 0));
  std::vector<at::Tensor> states;
  std::vector<at::Tensor> all_removed;
  for (int64_t i = 0; i < chunks.count(); ++i) {
    const at::Tensor u =
        removed[0].select(1, i).matmul(state.transpose(-1, -2)) + removed[1].select(1, i);
    states.push_back(state);
    all_removed.push_back(u);
    const at::Tensor taken = u.transpose(-1, -2).matmul(b.select(1, i));
    state = (state + gain.select(1, i) - taken) * keep.select(1, i);
  }
  const at::Tensor from_state = r.matmul(at::stack(states, 1).transpose(-1, -2));
  return chunks.join(from_state + r.matmul(k_turned).tril().matmul(v) -
                     r.matmul(b_turned).tril().matmul(at::stack(all_removed, 1)));
}

}  // namespace rwkv::press

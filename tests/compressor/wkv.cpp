// The wkv recurrences and their gradients: the loops and the chunked tensor operations against one
// plain tensor operation after the other, differentiated by LibTorch, and finite differences.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/variable.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "compressor/model/wkv.h"
#include "compressor/model/wkv_chunked.h"
#include "compressor/numerics/tensor_ops.h"
#include "tests/support/catch.h"

using namespace rwkv::press;
using at::Tensor;

namespace {

using Tensors = std::vector<Tensor>;
using Function = std::function<Tensor(const Tensors&, const WkvShape&)>;

// [n, dim_att] as [batch, length, n_head, head_size].
Tensor heads(const Tensor& x, const WkvShape& shape) {
  return x.reshape({-1, shape.length, shape.n_head, x.size(-1) / shape.n_head});
}

// Without any stabilisation: in f64 there is room for exp(60) and more.
Tensor plain_v4(const Tensors& in, const WkvShape& shape) {
  const Tensor k = in[0].reshape({-1, shape.length, in[0].size(1)});
  const Tensor v = in[1].reshape(k.sizes());
  Tensor num = at::zeros_like(k.select(1, 0));
  Tensor den = num;
  Tensors out;
  for (int64_t t = 0; t < shape.length; ++t) {
    const Tensor here = (in[3] + k.select(1, t)).exp();
    out.push_back((num + here * v.select(1, t)) / (den + here));
    num = in[2].exp() * num + k.select(1, t).exp() * v.select(1, t);
    den = in[2].exp() * den + k.select(1, t).exp();
  }
  return at::stack(out, 1).reshape(in[0].sizes());
}

Tensor plain_v5(const Tensors& in, const WkvShape& shape) {
  const Tensor r = heads(in[0], shape).unsqueeze(-1);
  const Tensor k = heads(in[1], shape).unsqueeze(-1);
  const Tensor v = heads(in[2], shape).unsqueeze(-2);
  const Tensor w = heads(in[3].expand_as(in[0]), shape).exp().unsqueeze(-1);
  const Tensor u = in[4].reshape({shape.n_head, -1, 1});
  const Tensor kv = k * v;
  Tensor state = at::zeros_like(kv.select(1, 0));
  Tensors out;
  for (int64_t t = 0; t < shape.length; ++t) {
    out.push_back((r.select(1, t) * (u * kv.select(1, t) + state)).sum(-2));
    state = w.select(1, t) * state + kv.select(1, t);
  }
  return at::stack(out, 1).reshape(in[0].sizes());
}

Tensor plain_v7(const Tensors& in, const WkvShape& shape) {
  const Tensor r = heads(in[0], shape).unsqueeze(-1);
  const Tensor k = heads(in[1], shape).unsqueeze(-2);
  const Tensor v = heads(in[2], shape).unsqueeze(-1);
  const Tensor w = heads(in[3], shape).exp().unsqueeze(-2);
  const Tensor kk = heads(in[4], shape).unsqueeze(-1);
  const Tensor kka = heads(in[5], shape).unsqueeze(-2);
  const Tensor vk = v * k;
  Tensor state = at::zeros_like(vk.select(1, 0));
  Tensors out;
  for (int64_t t = 0; t < shape.length; ++t) {
    const Tensor removed = state.matmul(kk.select(1, t)) * kka.select(1, t);
    state = state * w.select(1, t) - removed + vk.select(1, t);
    out.push_back(state.matmul(r.select(1, t)).squeeze(-1));
  }
  return at::stack(out, 1).reshape(in[0].sizes());
}

struct Random {
  at::Generator generator = at::detail::createCPUGenerator(20240611);

  Tensor normal(at::IntArrayRef sizes) { return at::randn(sizes, generator, at::kDouble); }
  Tensor uniform(at::IntArrayRef sizes, double low, double high) {
    return at::rand(sizes, generator, at::kDouble) * (high - low) + low;
  }
};

struct Version {
  std::string name;
  Function loop, chunked, plain;
  /// Inputs of [n, dim], in f64.
  std::function<Tensors(Random&, int64_t n, const WkvShape&, int64_t dim)> inputs;
};

Tensors inputs_v4(Random& random, int64_t n, const WkvShape& /*shape*/, int64_t dim) {
  return {random.normal({n, dim}) * 2, random.normal({n, dim}), -random.uniform({dim}, -6, 1).exp(),
          random.normal({dim})};
}

Tensors inputs_v5(Random& random, at::IntArrayRef sizes_w, int64_t n, int64_t dim) {
  return {random.normal({n, dim}), random.normal({n, dim}), random.normal({n, dim}),
          -random.uniform(sizes_w, -6, 1).exp(), random.normal({dim})};
}

Tensors inputs_v7(Random& random, int64_t n, const WkvShape& shape, int64_t dim) {
  const Tensor raw = random.normal({n, shape.n_head, dim / shape.n_head});
  const Tensor kk = (raw / raw.norm(2, -1, true)).reshape({n, dim});
  const Tensor log_w = -std::exp(-0.5) * at::sigmoid(random.normal({n, dim}) * 2);
  return {random.normal({n, dim}),
          random.normal({n, dim}),
          random.normal({n, dim}),
          log_w,
          kk,
          kk * random.uniform({n, dim}, 0, 1)};
}

Function of_v5(Tensor (*wkv)(const WkvInputs&, const Tensor&, const WkvShape&)) {
  return [wkv](const Tensors& in, const WkvShape& shape) {
    return wkv({in[0], in[1], in[2], in[3]}, in[4], shape);
  };
}

Function of_v4(Tensor (*wkv)(const Tensor&, const Tensor&, const Tensor&, const Tensor&, int64_t)) {
  return [wkv](const Tensors& in, const WkvShape& shape) {
    return wkv(in[0], in[1], in[2], in[3], shape.length);
  };
}

Function of_v7(Tensor (*wkv)(const WkvInputs&, const Tensor&, const Tensor&, const WkvShape&)) {
  return [wkv](const Tensors& in, const WkvShape& shape) {
    return wkv({in[0], in[1], in[2], in[3]}, in[4], in[5], shape);
  };
}

std::vector<Version> versions() {
  return {
      {"v4", of_v4(wkv_v4), of_v4(wkv_v4_chunked), plain_v4, inputs_v4},
      {"v5", of_v5(wkv_v5), of_v5(wkv_v5_chunked), plain_v5,
       [](Random& random, int64_t n, const WkvShape& /*shape*/, int64_t dim) {
         return inputs_v5(random, {dim}, n, dim);
       }},
      {"v6", of_v5(wkv_v5), of_v5(wkv_v5_chunked), plain_v5,
       [](Random& random, int64_t n, const WkvShape& /*shape*/, int64_t dim) {
         return inputs_v5(random, {n, dim}, n, dim);
       }},
      {"v7", of_v7(wkv_v7), of_v7(wkv_v7_chunked), plain_v7, inputs_v7},
  };
}

// The output, then the gradients of sum(output * weights) for all inputs.
Tensors evaluate(const Function& function, const Tensors& inputs, const WkvShape& shape,
                 at::ScalarType type = at::kDouble) {
  Tensors leaves;
  for (const Tensor& input : inputs) {
    leaves.push_back(input.to(type).detach().clone().set_requires_grad(true));
  }
  const Tensor out = function(leaves, shape);
  Random random;
  out.backward(random.normal(out.sizes()).to(type));
  Tensors result = {out.detach()};
  for (const Tensor& leaf : leaves) {
    // A single token leaves some inputs unused.
    result.push_back(leaf.grad().defined() ? leaf.grad() : at::zeros_like(leaf));
  }
  return result;
}

// The largest difference of any tensor, relative to that tensor's largest number.
double relative_difference(const Tensors& a, const Tensors& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    REQUIRE(a[i].sizes() == b[i].sizes());
    REQUIRE(at::isfinite(a[i]).all().item<bool>());
    const Tensor expected = b[i].to(at::kDouble);
    const double difference = (a[i].to(at::kDouble) - expected).abs().max().item<double>();
    const double largest = expected.abs().max().item<double>();
    UNSCOPED_INFO("tensor " << i << ": " << difference << " of " << largest);
    worst = std::max(worst, difference / std::max(largest, 1e-3));
  }
  return worst;
}

}  // namespace

TEST_CASE("wkv loops and their gradients equal plain tensor operations", "[wkv]") {
  for (const Version& version : versions()) {
    DYNAMIC_SECTION(version.name) {
      Random random;
      const WkvShape shape{37, 3};
      const Tensors inputs = version.inputs(random, 2 * 37, shape, 3 * 24);
      const Tensors plain = evaluate(version.plain, inputs, shape);
      CHECK(relative_difference(evaluate(version.loop, inputs, shape), plain) < 1e-10);
    }
  }
}

TEST_CASE("wkv gradients equal finite differences", "[wkv]") {
  for (const Version& version : versions()) {
    DYNAMIC_SECTION(version.name) {
      Random random;
      const WkvShape shape{5, 2};
      const Tensors inputs = version.inputs(random, 2 * 5, shape, 2 * 4);
      const Tensors exact = evaluate(version.loop, inputs, shape);
      const Tensor weights = Random().normal(exact[0].sizes());
      constexpr double kStep = 1e-5;
      Tensors numeric = {exact[0]};
      for (size_t i = 0; i < inputs.size(); ++i) {
        numeric.push_back(at::zeros_like(inputs[i]));
        for (int64_t j = 0; j < inputs[i].numel(); ++j) {
          const auto loss = [&](double step) {
            Tensors moved = inputs;
            moved[i] = inputs[i].clone();
            moved[i].data_ptr<double>()[j] += step;
            return (version.loop(moved, shape) * weights).sum().item<double>();
          };
          numeric.back().data_ptr<double>()[j] = (loss(kStep) - loss(-kStep)) / (2 * kStep);
        }
      }
      CHECK(relative_difference(exact, numeric) < 1e-6);
    }
  }
}

TEST_CASE("wkv loops in f32 are close to f64", "[wkv]") {
  for (const Version& version : versions()) {
    DYNAMIC_SECTION(version.name) {
      Random random;
      const WkvShape shape{130, 2};
      Tensors inputs = version.inputs(random, 2 * 130, shape, 2 * 64);
      for (Tensor& input : inputs) {
        input = input.to(at::kFloat).to(at::kDouble);
      }
      const Tensors plain = evaluate(version.plain, inputs, shape);
      CHECK(relative_difference(evaluate(version.loop, inputs, shape, at::kFloat), plain) < 1e-4);
    }
  }
}

TEST_CASE("chunked wkv equals plain tensor operations", "[wkv]") {
  for (const Version& version : versions()) {
    for (const int64_t length : {1, 15, 16, 17, 50}) {
      DYNAMIC_SECTION(version.name << ", " << length << " tokens") {
        Random random;
        const WkvShape shape{length, 2};
        const Tensors inputs = version.inputs(random, 3 * length, shape, 2 * 8);
        const Tensors plain = evaluate(version.plain, inputs, shape);
        CHECK(relative_difference(evaluate(version.chunked, inputs, shape), plain) < 1e-9);
      }
    }
  }
}

TEST_CASE("wkv loops do not depend on the number of threads", "[wkv]") {
  const int before = at::get_num_threads();
  for (const Version& version : versions()) {
    DYNAMIC_SECTION(version.name) {
      Random random;
      const WkvShape shape{20, 5};
      const Tensors inputs = version.inputs(random, 7 * 20, shape, 5 * 64);
      at::set_num_threads(1);
      const Tensors one = evaluate(version.loop, inputs, shape, at::kFloat);
      for (const int n_threads : {2, 3}) {
        at::set_num_threads(n_threads);
        const Tensors more = evaluate(version.loop, inputs, shape, at::kFloat);
        CHECK(relative_difference(more, one) == 0);
      }
      at::set_num_threads(before);
    }
  }
}

TEST_CASE("wkv holds for extreme exponents", "[wkv]") {
  for (const Version& version : versions()) {
    if (version.name == "v7") {
      continue;  // its decays are within [0.545, 1]
    }
    DYNAMIC_SECTION(version.name) {
      Random random;
      const WkvShape shape{40, 2};
      Tensors inputs = version.inputs(random, 2 * 40, shape, 2 * 64);
      if (version.name == "v4") {
        inputs[0] = 60 * random.normal(inputs[0].sizes()).sign();
      } else {
        inputs[3] = -random.uniform(inputs[3].sizes(), std::log(1e-4), std::log(60.0)).exp();
      }
      for (Tensor& input : inputs) {
        input = input.to(at::kFloat).to(at::kDouble);
      }
      const Tensors plain = evaluate(version.plain, inputs, shape);
      CHECK(relative_difference(evaluate(version.loop, inputs, shape), plain) < 1e-9);
      CHECK(relative_difference(evaluate(version.chunked, inputs, shape), plain) < 1e-9);
      CHECK(relative_difference(evaluate(version.loop, inputs, shape, at::kFloat), plain) < 1e-4);
    }
  }
}

// The small operations of every table that runs here: what they compute, against the same in
// double, and that all tables give the same bits.
#include "runtime/kernels/elementwise.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "runtime/kernels/kernels.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::edge;

namespace {

using Floats = std::vector<float>;
constexpr size_t kHead = 8;

std::vector<const KernelSet*> tables_here() {
  std::vector<const KernelSet*> tables;
  for (const KernelSet* table : kernel_list()) {
    if (table->runs_here()) {
      tables.push_back(table);
    }
  }
  return tables;
}

// Numbers from -scale to scale.
Floats numbers(size_t n, uint64_t seed, float scale = 1.0f) {
  Floats x(n);
  for (size_t i = 0; i < n; ++i) {
    x[i] = scale * test::noise(seed, i);
  }
  return x;
}

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

// An operation that changes x, and what it should make of number i.
struct Operation {
  std::string name;
  std::function<void(const Elementwise&, Floats& x, const Floats& y, const Floats& z)> call;
  std::function<double(double x, double y, double z)> exact;
};

const std::vector<Operation> kOperations = {
    {"mix_new",
     [](const Elementwise& e, Floats& x, const Floats& y, const Floats& z) {
       e.mix_new(x.data(), y.data(), z.data(), x.data(), x.size());
     },
     [](double x, double y, double z) { return x * z + y * (1 - z); }},
    {"mix_previous",
     [](const Elementwise& e, Floats& x, const Floats& y, const Floats& z) {
       e.mix_previous(x.data(), y.data(), z.data(), x.data(), x.size());
     },
     [](double x, double y, double z) { return x + (y - x) * z; }},
    {"mix_adapted",
     [](const Elementwise& e, Floats& x, const Floats& y, const Floats& z) {
       e.mix_adapted(y.data(), z.data(), y.data(), x.data(), x.size());
     },
     [](double x, double y, double z) { return y + (z - y) * (y + x); }},
    {"add",
     [](const Elementwise& e, Floats& x, const Floats& y, const Floats&) {
       e.add(x.data(), y.data(), x.size());
     },
     [](double x, double y, double) { return x + y; }},
    {"add_constant",
     [](const Elementwise& e, Floats& x, const Floats&, const Floats&) {
       e.add_constant(x.data(), 0.25f, x.size());
     },
     [](double x, double, double) { return x + 0.25; }},
    {"multiply",
     [](const Elementwise& e, Floats& x, const Floats& y, const Floats&) {
       e.multiply(x.data(), y.data(), x.size());
     },
     [](double x, double y, double) { return x * y; }},
    {"multiply_add",
     [](const Elementwise& e, Floats& x, const Floats& y, const Floats& z) {
       e.multiply_add(x.data(), y.data(), z.data(), x.size());
     },
     [](double x, double y, double z) { return x + y * z; }},
    {"relu_squared",
     [](const Elementwise& e, Floats& x, const Floats&, const Floats&) {
       e.relu_squared(x.data(), x.size());
     },
     [](double x, double, double) { return x > 0 ? x * x : 0; }},
    {"tanh",
     [](const Elementwise& e, Floats& x, const Floats&, const Floats&) {
       e.tanh(x.data(), x.size());
     },
     [](double x, double, double) { return std::tanh(x); }},
    {"sigmoid",
     [](const Elementwise& e, Floats& x, const Floats&, const Floats&) {
       e.sigmoid(x.data(), x.size());
     },
     [](double x, double, double) { return sigmoid(x); }},
    {"sigmoid_gate",
     [](const Elementwise& e, Floats& x, const Floats& y, const Floats&) {
       e.sigmoid_gate(x.data(), y.data(), x.size());
     },
     [](double x, double y, double) { return x * sigmoid(y); }},
    {"silu_gate",
     [](const Elementwise& e, Floats& x, const Floats& y, const Floats&) {
       e.silu_gate(x.data(), y.data(), x.size());
     },
     [](double x, double y, double) { return x * y * sigmoid(y); }},
    {"biased_sigmoid",
     [](const Elementwise& e, Floats& x, const Floats& y, const Floats&) {
       e.biased_sigmoid(x.data(), y.data(), x.size());
     },
     [](double x, double y, double) { return sigmoid(x + y); }},
    {"decay_v6",
     [](const Elementwise& e, Floats& x, const Floats& y, const Floats&) {
       e.decay_v6(x.data(), y.data(), x.size());
     },
     [](double x, double y, double) { return std::exp(-std::exp(x + y)); }},
    {"decay_v7",
     [](const Elementwise& e, Floats& x, const Floats& y, const Floats&) {
       e.decay_v7(x.data(), y.data(), x.size());
     },
     [](double x, double y, double) { return std::exp(-std::exp(-0.5) * sigmoid(x + y)); }},
    {"value_v7",
     [](const Elementwise& e, Floats& x, const Floats& y, const Floats& z) {
       e.value_v7(x.data(), y.data(), z.data(), y.data(), x.size());
     },
     [](double x, double y, double z) { return x + (y - x) * sigmoid(y + z); }},
};

}  // namespace

TEST_CASE("Small operations are their formulas, in the same bits in every table", "[kernels]") {
  const auto tables = tables_here();
  for (const Operation& operation : kOperations) {
    for (const size_t n : {1, 7, 8, 33, 200}) {
      for (const float scale : {0.5f, 5.0f, 30.0f}) {
        CAPTURE(operation.name, n, scale);
        const Floats x = numbers(n, 1, scale);
        const Floats y = numbers(n, 2);
        const Floats z = numbers(n, 3);
        Floats plain;
        for (const KernelSet* table : tables) {
          Floats found = x;
          operation.call(*table->elementwise, found, y, z);
          plain = plain.empty() ? found : plain;
          REQUIRE(std::memcmp(found.data(), plain.data(), n * sizeof(float)) == 0);
        }
        for (size_t i = 0; i < n; ++i) {
          const double exact = operation.exact(static_cast<double>(x[i]), static_cast<double>(y[i]),
                                               static_cast<double>(z[i]));
          const double size =
              std::max({std::fabs(exact), std::fabs(static_cast<double>(x[i])) * 0.1,
                        operation.name == "decay_v6" ? 1e-4 : 0.0});
          REQUIRE(std::fabs(static_cast<double>(plain[i]) - exact) < 2e-6 * size + 1e-30);
        }
      }
    }
  }
}

TEST_CASE("Activations keep to their limits far out, and NaN stays NaN", "[kernels]") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const Floats far = {-inf, -1e30f, -200.0f, 200.0f, 1e30f, inf, std::nanf("")};
  for (const KernelSet* table : tables_here()) {
    CAPTURE(table->name);
    Floats x = far;
    table->elementwise->sigmoid(x.data(), x.size());
    for (size_t i = 0; i < 6; ++i) {
      CHECK(static_cast<double>(x[i]) == Approx(i < 3 ? 0.0 : 1.0).margin(1e-30));
    }
    CHECK(std::isnan(x[6]));
    x = far;
    table->elementwise->tanh(x.data(), x.size());
    for (size_t i = 0; i < 6; ++i) {
      CHECK(x[i] == (i < 3 ? -1.0f : 1.0f));
    }
    CHECK(std::isnan(x[6]));
    x = far;
    const Floats none(x.size());
    table->elementwise->decay_v6(x.data(), none.data(), x.size());
    CHECK(x[0] == 1.0f);
    CHECK(x[5] < 1e-30f);
    CHECK(std::isnan(x[6]));
  }
}

TEST_CASE("Marks are of what lies above a threshold, and those that are there stay", "[kernels]") {
  for (const KernelSet* table : tables_here()) {
    for (const size_t n : {1, 7, 33, 200}) {
      CAPTURE(table->name, n);
      Floats x = numbers(n, 1);
      x[n / 2] = std::nanf("");
      x[n - 1] = 0.25f;
      std::vector<uint8_t> marks(n + 1);
      marks[0] = 1;
      table->elementwise->mark_above(x.data(), 0.25f, marks.data(), n);
      for (size_t i = 0; i < n; ++i) {
        REQUIRE(marks[i] == (i == 0 || x[i] > 0.25f ? 1 : 0));
      }
      REQUIRE(marks[n] == 0);
    }
  }
}

TEST_CASE("Sums of exp, the same bits in every table", "[kernels]") {
  double first = 0.0;
  for (const KernelSet* table : tables_here()) {
    CAPTURE(table->name);
    for (const size_t n : {0, 1, 7, 33, 200}) {
      const Floats x = numbers(n, 3, 9.0f);
      double exact = 0.0;
      for (const float value : x) {
        exact += std::exp(static_cast<double>(value) - 9.0);
      }
      const double sum = table->elementwise->sum_of_exp(x.data(), 9.0f, n);
      CHECK(sum == Approx(exact).epsilon(1e-6));
      if (n == 200) {
        first = table == tables_here().front() ? sum : first;
        CHECK(sum == first);
      }
    }
  }
}

TEST_CASE("Numbers looked up, but for those that stay", "[kernels]") {
  const Floats values = {1.0f, -2.0f, 99.0f, 4.0f};
  for (const KernelSet* table : tables_here()) {
    CAPTURE(table->name);
    for (const size_t n : {0, 1, 15, 16, 33, 100}) {
      std::vector<uint16_t> which(n + 1);
      for (size_t i = 0; i < n; ++i) {
        which[i] = static_cast<uint16_t>(i * i % values.size() + i % 3 % 2);
      }
      Floats y = numbers(n + 1, 5);
      const Floats before = y;
      table->elementwise->look_up(values.data(), which.data(), 99.0f, y.data(), n);
      for (size_t i = 0; i < n; ++i) {
        REQUIRE(y[i] == (which[i] == 2 ? before[i] : values[which[i]]));
      }
      REQUIRE(y[n] == before[n]);
    }
  }
}

TEST_CASE("Norms have mean and variance of their parts, in the same bits in every table",
          "[kernels]") {
  const size_t n = 5 * kHead;
  const Floats x = numbers(n, 1, 3.0f);
  const Floats weight = numbers(n, 2);
  const Floats bias = numbers(n, 3);
  for (const size_t size : {n, kHead}) {
    Floats plain;
    for (const KernelSet* table : tables_here()) {
      Floats found = x;
      if (size == n) {
        table->elementwise->normalise(x.data(), weight.data(), bias.data(), found.data(), n, 1e-5f);
      } else {
        table->elementwise->group_norm(found.data(), weight.data(), bias.data(), n, size, 1e-5f);
      }
      plain = plain.empty() ? found : plain;
      REQUIRE((found == plain));
    }
    for (size_t at = 0; at < n; at += size) {
      double mean = 0;
      double variance = 0;
      for (size_t i = at; i < at + size; ++i) {
        mean += static_cast<double>(x[i]) / static_cast<double>(size);
      }
      for (size_t i = at; i < at + size; ++i) {
        variance += std::pow(static_cast<double>(x[i]) - mean, 2) / static_cast<double>(size);
      }
      for (size_t i = at; i < at + size; ++i) {
        const double exact = (static_cast<double>(x[i]) - mean) / std::sqrt(variance + 1e-5) *
                                 static_cast<double>(weight[i]) +
                             static_cast<double>(bias[i]);
        REQUIRE(static_cast<double>(plain[i]) == Approx(exact).margin(1e-6));
      }
    }
  }
}

TEST_CASE("v7's keys are of length one and its bonus is per head", "[kernels]") {
  const size_t n = 3 * kHead;
  const Floats k = numbers(n, 1);
  const Floats a = numbers(n, 2);
  const Floats k_k = numbers(n, 3);
  const Floats k_a = numbers(n, 4);
  const Floats v = numbers(n, 5);
  std::vector<Floats> plain;
  for (const KernelSet* table : tables_here()) {
    Floats new_k = k;
    Floats new_a = a;
    Floats kk(n);
    Floats y = v;
    table->elementwise->keys_v7(
        {new_k.data(), new_a.data(), kk.data(), k_k.data(), k_a.data(), kHead, n});
    table->elementwise->bonus_v7({a.data(), k.data(), v.data(), k_k.data(), y.data(), kHead, n});
    const std::vector<Floats> found = {new_k, new_a, kk, y};
    plain = plain.empty() ? found : plain;
    REQUIRE((found == plain));
    for (size_t at = 0; at < n; at += kHead) {
      double squares = 0;
      double bonus = 0;
      for (size_t i = at; i < at + kHead; ++i) {
        squares += std::pow(static_cast<double>(k[i]) * static_cast<double>(k_k[i]), 2);
        bonus +=
            static_cast<double>(a[i]) * static_cast<double>(k[i]) * static_cast<double>(k_k[i]);
      }
      for (size_t i = at; i < at + kHead; ++i) {
        const double unit =
            static_cast<double>(k[i]) * static_cast<double>(k_k[i]) / std::sqrt(squares);
        REQUIRE(static_cast<double>(kk[i]) == Approx(unit).margin(1e-6));
        REQUIRE(static_cast<double>(new_a[i]) ==
                Approx(unit * static_cast<double>(a[i])).margin(1e-6));
        REQUIRE(static_cast<double>(new_k[i]) ==
                Approx(static_cast<double>(k[i]) *
                       (1 + (static_cast<double>(a[i]) - 1) * static_cast<double>(k_a[i])))
                    .margin(1e-6));
        REQUIRE(static_cast<double>(y[i]) ==
                Approx(static_cast<double>(v[i]) * (1 + bonus)).margin(1e-6));
      }
    }
  }
}

TEST_CASE("v4's recurrence is the weighted average it stands for", "[kernels]") {
  const size_t n = 19;
  const size_t n_tokens = 6;
  const Floats k = numbers(n * n_tokens, 1, 4.0f);
  const Floats v = numbers(n * n_tokens, 2);
  const Floats bonus = numbers(n, 3);
  Floats decay = numbers(n, 4);
  for (float& d : decay) {
    d = -std::fabs(d) - 0.01f;
  }
  Floats plain;
  for (const KernelSet* table : tables_here()) {
    Floats wkv = v;
    Floats state(3 * n);
    std::fill(state.begin() + 2 * n, state.end(), -1e38f);
    const WkvV4Args args = {k.data(),      wkv.data(),   decay.data(),
                            bonus.data(),  state.data(), &state[n],
                            &state[2 * n], n_tokens,     n};
    table->elementwise->wkv_v4(args, 0, 10);
    table->elementwise->wkv_v4(args, 10, n);
    plain = plain.empty() ? wkv : plain;
    REQUIRE((wkv == plain));
  }
  for (size_t t = 0; t < n_tokens; ++t) {
    for (size_t i = 0; i < n; ++i) {
      double over = 0;
      double under = 0;
      for (size_t s = 0; s <= t; ++s) {
        const double exponent =
            static_cast<double>(k[s * n + i]) +
            (s == t ? static_cast<double>(bonus[i])
                    : static_cast<double>(t - s - 1) * static_cast<double>(decay[i]));
        over += std::exp(exponent) * static_cast<double>(v[s * n + i]);
        under += std::exp(exponent);
      }
      REQUIRE(static_cast<double>(plain[t * n + i]) == Approx(over / under).margin(2e-6));
    }
  }
}

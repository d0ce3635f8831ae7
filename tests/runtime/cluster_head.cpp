// The clustered head: probabilities of clusters that were not selected, and what is refused.
#include "runtime/model/cluster_head.h"

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "formats/base/little_endian.h"
#include "tests/runtime/session_testing.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

using test::TinyModelOptions;

// softmax(W z + b), and the softmax of the logits summed over each cluster.
std::vector<double> softmax(std::vector<double> values) {
  const double most = *std::max_element(values.begin(), values.end());
  double sum = 0.0;
  for (double& value : values) {
    value = std::exp(value - most);
    sum += value;
  }
  for (double& value : values) {
    value /= sum;
  }
  return values;
}

TEST_CASE("Clusters that were not selected have the probability of the cluster head",
          "[cluster_head]") {
  TinyModelOptions options;
  options.n_cluster = 12;
  options.k_min = 2;
  options.p_min = GENERATE(0.05f, 0.5f, 0.9f, 0.999f);
  options.first_cluster_always = options.p_min == 0.5f;
  if (GENERATE(false, true)) {
    options.n_vocab = 3 * kMaxGather;  // the selected rows come in several gathers
  }
  const auto model = open_tiny(options);
  const Weights& weights = model->weights();
  ClusterHead head;
  REQUIRE_OK(head.load(weights));
  const auto matrix = weights.matrix("head.cluster.weight").value();
  const auto bias = weights.vector("head.cluster.bias").value();
  const auto first = weights.vector("head.cluster.first").value();
  const auto dense = weights.matrix("head.weight").value();
  Pass pass(model->config(), *kernel_list().front(), {1, 1, model->needs()});
  pass.n_tokens = 1;
  std::mt19937 random(7);
  size_t n_unselected = 0;
  for (int round = 0; round < 50; ++round) {
    std::vector<float> z(options.n_embd);
    for (float& value : z) {
      value = 3.0f * std::normal_distribution<float>()(random);
    }
    std::vector<float> logits(options.n_vocab);
    REQUIRE_OK(head.forward(pass, z.data(), logits.data()));
    const auto dot = [&](const MatrixView& w, size_t row) {
      double sum = 0.0;
      for (size_t i = 0; i < z.size(); ++i) {
        sum += static_cast<double>(load_le<float>(w.units + (row * z.size() + i) * 4)) *
               static_cast<double>(z[i]);
      }
      return sum;
    };
    std::vector<double> p(options.n_cluster);
    for (size_t c = 0; c < p.size(); ++c) {
      p[c] = dot(matrix, c) + static_cast<double>(bias[c]);
    }
    p = softmax(p);
    // The selection by hand: the most probable until p_min, at least k_min.
    std::vector<size_t> order(p.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
    std::vector<bool> is_selected(p.size());
    double reached = 0.0;
    for (size_t i = 0; i < order.size() && (i < 2 || reached < options.p_min); ++i) {
      is_selected[order[i]] = true;
      reached += p[order[i]];
    }
    is_selected[0] = is_selected[0] || options.first_cluster_always;
    const std::vector<double> all = softmax({logits.begin(), logits.end()});
    for (size_t c = 0; c < p.size(); ++c) {
      const auto begin = static_cast<size_t>(first[c]);
      const size_t end = c + 1 < p.size() ? static_cast<size_t>(first[c + 1]) : options.n_vocab;
      double mass = 0.0;
      for (size_t row = begin; row < end; ++row) {
        const size_t token = options.n_vocab - 1 - row;
        mass += all[token];
        if (is_selected[c]) {
          REQUIRE(static_cast<double>(logits[token]) == Approx(dot(dense, row)).margin(1e-4));
        }
      }
      if (!is_selected[c]) {
        ++n_unselected;
        REQUIRE(std::fabs(mass - p[c]) < 1e-5);
      }
    }
  }
  CHECK(n_unselected > 50);
}

TEST_CASE("Heads whose order is wrong are refused", "[cluster_head]") {
  const test::ScratchFolder folder;
  TinyModelOptions options;
  options.n_cluster = 5;
  const std::string path = test::write_tiny_model(folder, options);
  const auto good = PackedFile::open(path);
  REQUIRE_OK(good.status());
  std::vector<std::byte> bytes = test::read_bytes(path);
  const auto set = [&](const char* name, size_t index, float value) {
    for (const PackedTensor& tensor : good.value().tensors) {
      if (tensor.name == name) {
        std::memcpy(bytes.data() + tensor.offset + index * sizeof(float), &value, sizeof(float));
      }
    }
  };
  const auto refusal = [&] {
    const std::string broken = folder.file("broken.gguf");
    test::write_bytes(broken, bytes);
    const Status status = Model::open(broken).status();
    bytes = test::read_bytes(path);
    CHECK(status.code() == Code::BadInput);
    return status.message();
  };
  set("head.tokens", 3, 1e9f);
  CHECK_THAT(refusal(), Catch::Contains("head.tokens"));
  set("head.tokens", 3, 0.5f);
  CHECK_THAT(refusal(), Catch::Contains("expected integers"));
  set("head.tokens", 3, std::nanf(""));
  CHECK_THAT(refusal(), Catch::Contains("head.tokens"));
  set("head.tokens", 3, 0.0f);
  CHECK_THAT(refusal(), Catch::Contains("twice"));
  set("head.cluster.first", 0, 1.0f);
  CHECK_THAT(refusal(), Catch::Contains("head.cluster.first"));
  set("head.cluster.first", 2, 0.0f);
  CHECK_THAT(refusal(), Catch::Contains("ascend"));
}

}  // namespace
}  // namespace rwkv::edge

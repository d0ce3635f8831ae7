// The hierarchical head's algorithms: clustering, order of rows, targets, fit and selection.
#include <ATen/Parallel.h>

#include <cmath>
#include <numeric>

#include "compressor/clusters/cluster_head.h"
#include "compressor/clusters/head_order.h"
#include "compressor/clusters/spherical.h"
#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using Ids = std::vector<int64_t>;

namespace {

// Numbers with mean 0 and variance 1 that are the same everywhere.
at::Tensor noise(uint64_t seed, int64_t rows, int64_t cols) {
  press::Random random(seed);
  at::Tensor result = at::empty({rows, cols});
  for (int64_t i = 0; i < result.numel(); ++i) {
    result.data_ptr<float>()[i] = static_cast<float>((random.uniform() - 0.5) * std::sqrt(12.0));
  }
  return result;
}

// Row i lies around centre i % n_clusters.
at::Tensor planted(int64_t rows, int64_t cols, int64_t n_clusters, double spread) {
  const at::Tensor centres = noise(1, n_clusters, cols) * 4;
  return centres.index_select(0, at::arange(rows, at::kLong).remainder(n_clusters)) +
         noise(2, rows, cols) * spread;
}

// Frequencies as in language: 1000 / rank, the ranks scattered over the ids.
at::Tensor zipf(int64_t n) {
  return 1000.0 / (at::arange(n, at::kLong) * 37).remainder(n).add(1).to(at::kFloat);
}

template <typename T>
T must(const Result<T>& result) {
  REQUIRE_OK(result.status());
  return result.value();
}

template <typename T>
void refused(const Result<T>& result, const std::string& part) {
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().code() == Code::Usage);
  CHECK_THAT(result.status().message(), Catch::Contains(part));
}

// The sizes of clusters of labels, ascending.
Ids sizes(const at::Tensor& labels) {
  const at::Tensor counts = std::get<0>(at::bincount(labels).sort());
  return {counts.data_ptr<int64_t>(), counts.data_ptr<int64_t>() + counts.numel()};
}

press::HeadRowLoader loader_of(const at::Tensor& head) {
  return [head](int64_t at, int64_t n) -> Result<at::Tensor> { return head.narrow(0, at, n); };
}

// A language with topics: the head's rows lie around centres, samples point at some of them.
struct Language {
  Language(int64_t n_vocab, int64_t cols, int64_t topics, int64_t n_samples)
      : head(planted(n_vocab, cols, topics, 0.7) / 7),
        frequencies(zipf(n_vocab)),
        z(at::mm(noise(13, n_samples, topics), noise(1, topics, cols)) / 4) {}
  at::Tensor head, frequencies, z;
};

}  // namespace

TEST_CASE("k-means recovers planted clusters", "[clusters]") {
  const double max_share = GENERATE(0.0, 1.0, 1.5);
  const at::Tensor rows = planted(600, 16, 12, 0.3);
  const at::Tensor labels = must(press::spherical_kmeans(rows, zipf(600), {12, max_share, 25, 3}));
  CHECK(at::equal(labels, labels.narrow(0, 0, 12).repeat({50})));
  CHECK(sizes(labels) == Ids(12, 50));
}

TEST_CASE("Balanced clusters keep to their share and leave no row out", "[clusters]") {
  // Noise, and 500 rows that are the same: all of them want the same cluster.
  const at::Tensor rows = noise(5, 1003, 8);
  rows.narrow(0, 100, 500).copy_(rows.select(0, 0).expand({500, 8}));
  const double max_share = GENERATE(1.0, 1.3, 2.0);
  const Ids size = sizes(must(press::spherical_kmeans(rows, zipf(1003), {17, max_share, 10, 3})));
  REQUIRE(size.size() == 17);
  CHECK(std::accumulate(size.begin(), size.end(), int64_t{0}) == 1003);
  CHECK(size.front() > 0);
  CHECK(static_cast<double>(size.back()) <= max_share * 1003 / 17);
}

TEST_CASE("No cluster is empty, and seeds matter", "[clusters]") {
  const double max_share = GENERATE(0.0, 1.0);
  const Ids size =
      sizes(must(press::spherical_kmeans(at::ones({40, 4}), at::ones(40), {7, max_share, 5})));
  REQUIRE(size.size() == 7);
  CHECK(size.front() > 0);
  const auto singles = press::spherical_kmeans(noise(1, 9, 4), at::ones(9), {9, max_share, 5});
  CHECK(sizes(must(singles)) == Ids(9, 1));
  CHECK_FALSE(at::equal(must(press::spherical_kmeans(noise(5, 400, 8), zipf(400), {20, 0, 3, 1})),
                        must(press::spherical_kmeans(noise(5, 400, 8), zipf(400), {20, 0, 3, 2}))));
}

TEST_CASE("Clusters and cluster head do not depend on the number of threads", "[clusters]") {
  const Language language(700, 24, 10, 500);
  const int before = at::get_num_threads();
  std::vector<press::HeadOrder> orders;
  std::vector<at::Tensor> results;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    orders.push_back(
        must(press::cluster_vocabulary(language.head, language.frequencies, {14, 20, 1.5, 12, 7})));
    const at::Tensor targets = must(
        press::cluster_log_probabilities(language.z, loader_of(language.head), 700, orders.back()));
    const auto head = must(press::fit_cluster_head(language.z, targets, {3}, nullptr));
    results.push_back(at::cat({targets.flatten(), head.weight.flatten(), head.bias}));
  }
  at::set_num_threads(before);
  for (size_t i = 1; i < orders.size(); ++i) {
    CHECK(orders[i].tokens == orders[0].tokens);
    CHECK(orders[i].first == orders[0].first);
    CHECK(at::equal(results[i], results[0]));
  }
}

TEST_CASE("Rows are ordered by cluster and frequency", "[clusters]") {
  const at::Tensor labels = at::tensor(Ids{2, 0, 0, 2, 1, 0, 3});
  const at::Tensor frequencies = at::tensor({5.0f, 1.0f, 2.0f, 5.0f, 9.0f, 2.0f, 0.0f});
  const press::HeadOrder plain = press::order_by_cluster(labels, frequencies, 0);
  CHECK(plain.tokens == Ids{0, 3, 4, 2, 5, 1, 6});
  CHECK(plain.first == Ids{0, 2, 3, 6});
  CHECK(plain.cluster_of_tokens() == Ids{0, 2, 2, 0, 1, 2, 3});
  // Tokens 4 and 0 leave labels 0 and 2 with equal frequencies, and none to label 1.
  const press::HeadOrder frequent = press::order_by_cluster(labels, frequencies, 2);
  CHECK(frequent.tokens == Ids{4, 0, 2, 5, 1, 3, 6});
  CHECK(frequent.first == Ids{0, 2, 5, 6});
}

TEST_CASE("A clustered vocabulary is a permutation with the frequent tokens first", "[clusters]") {
  const at::Tensor frequencies = zipf(500).floor();
  const int64_t n_frequent = GENERATE(0, 1, 30);
  const int64_t n_clusters = GENERATE(2, 11);
  const press::HeadOrder order = must(press::cluster_vocabulary(
      planted(500, 12, 9, 0.5), frequencies, {n_clusters, n_frequent, 1.5, 10, 3}));
  const at::Tensor sorted = std::get<0>(at::tensor(order.tokens).sort());
  CHECK(at::equal(sorted, at::arange(500, at::kLong)));
  CHECK(order.n_clusters() == n_clusters);
  CHECK(sizes(at::tensor(order.cluster_of_tokens())).front() > 0);
  if (n_frequent > 0) {
    CHECK(order.rows_in(0) == n_frequent);
    const auto last = order.tokens[static_cast<size_t>(n_frequent - 1)];
    CHECK((frequencies > frequencies[last]).sum().item<int64_t>() < n_frequent);
  }
}

TEST_CASE("Cluster probabilities equal a direct softmax", "[clusters]") {
  const Language language(1000, 20, 15, 301);
  const double scale = GENERATE(1.0, 30.0);
  const at::Tensor z = language.z * scale;
  const auto order = must(press::cluster_vocabulary(language.head, language.frequencies, {13, 9}));
  const at::Tensor logits = at::mm(z.to(at::kDouble), language.head.to(at::kDouble).t());
  CHECK((scale == 1.0 || logits.max().item<double>() > 100));  // whose exp no f32 can hold
  const double limit = scale == 1.0 ? 1e-5 : 1e-4;             // in f32 they are off by 1e-5
  const at::Tensor cluster_of = at::tensor(order.cluster_of_tokens());
  const at::Tensor want =
      at::zeros({301, 13}, at::kDouble).index_add_(1, cluster_of, at::softmax(logits, 1));
  const int64_t chunk = GENERATE(1, 7, 333, 999, 1000, 4096);
  int64_t next = 0;
  const press::HeadRowLoader loader = [&](int64_t first, int64_t n) -> Result<at::Tensor> {
    CHECK(first == next);
    CHECK(n <= chunk);
    next = first + n;
    return language.head.narrow(0, first, n);
  };
  const at::Tensor got = must(press::cluster_log_probabilities(z, loader, 1000, order, chunk));
  CHECK(next == 1000);
  CHECK((got.to(at::kDouble).exp() - want).abs().max().item<double>() < limit);
  const at::Tensor log_want = want.log().clamp_min(std::log(1e-37));
  CHECK((got.to(at::kDouble) - log_want).abs().max().item<double>() < limit);
}

TEST_CASE("The fitted cluster head beats its start and knows far more than nothing", "[clusters]") {
  const Language language(800, 32, 16, 3000);
  const auto order = must(press::cluster_vocabulary(language.head, language.frequencies, {16}));
  const at::Tensor targets =
      must(press::cluster_log_probabilities(language.z, loader_of(language.head), 800, order));
  // A mean, and columns that do not vary: standardising has to be undone.
  const at::Tensor z = at::cat({language.z * 3 + 50, at::full({3000, 2}, 4.0)}, 1);
  press::ClusterHeadReport report;
  const auto head = must(press::fit_cluster_head(z, targets, {}, &report));
  CHECK(report.n_train == 2700);
  CHECK(report.kl_fitted < report.kl_closed_form);
  CHECK(report.kl_fitted < report.kl_uniform / 20);
  // What the report says is true of the head that is returned.
  const at::Tensor gap = targets - at::addmm(head.bias, z, head.weight.t()).log_softmax(1);
  const at::Tensor kl = (targets.exp() * gap).narrow(0, 2700, 300).sum(1).mean();
  CHECK(kl.item<double>() == Approx(report.kl_fitted).epsilon(0.02).margin(1e-5));
}

TEST_CASE("The closed form stays if training does not beat it", "[clusters]") {
  // Targets that are linear in z but for the normaliser, which a softmax ignores.
  const at::Tensor z = noise(3, 500, 6);
  const at::Tensor targets = at::log_softmax(at::mm(z, noise(4, 6, 5)) + noise(6, 1, 5), 1);
  press::ClusterHeadReport report;
  must(press::fit_cluster_head(z, targets, {0}, &report));
  CHECK(report.kl_fitted == report.kl_closed_form);
  CHECK(report.kl_closed_form < report.kl_uniform / 1000);
  // Fewer samples than columns, and nothing to learn.
  must(press::fit_cluster_head(noise(3, 64, 100), noise(1, 64, 5).log_softmax(1), {}, &report));
  CHECK(report.kl_fitted <= report.kl_closed_form);
}

TEST_CASE("Selection follows the rule of the runtime", "[clusters]") {
  // 10 tokens in clusters of 1, 2, 3 and 4; the head predicts 0.1, 0.2, 0.3, 0.4 for every sample.
  const press::HeadOrder order{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {0, 1, 3, 6}};
  const press::ClusterHead head{at::zeros({4, 2}), at::tensor({0.1f, 0.2f, 0.3f, 0.4f}).log()};
  const at::Tensor targets = at::tensor({0.05f, 0.15f, 0.35f, 0.45f}).log().expand({3, 4});
  const auto check = [&](double p_min, int64_t k_min, int64_t k_max, bool frequent, double share,
                         double n, double mass) {
    const auto got = press::measure_selection(head, at::ones({3, 2}), targets, order, p_min, k_min,
                                              k_max, frequent);
    CHECK(got.rows_share == Approx(share));
    CHECK(got.n_clusters == Approx(n));
    CHECK(got.mass == Approx(mass));
  };
  check(0.39, 1, 4, false, 0.4, 1, 0.45);  // the most probable alone
  check(0.65, 1, 4, false, 0.7, 2, 0.80);  // 0.4 + 0.3
  check(0.75, 1, 4, false, 0.9, 3, 0.95);  // + 0.2
  check(0.39, 3, 4, false, 0.9, 3, 0.95);  // k_min
  check(0.99, 1, 2, false, 0.7, 2, 0.80);  // k_max
  check(0.39, 9, 9, false, 1.0, 4, 1.00);  // no more than there are
  check(1.01, 1, 9, false, 1.0, 4, 1.00);  // never reached
  check(0.65, 1, 4, true, 0.8, 3, 0.85);   // the frequent one besides the prefix
  check(1.01, 1, 9, true, 1.0, 4, 1.00);   // and not twice
}

TEST_CASE("Impossible clusterings are refused", "[clusters]") {
  const at::Tensor rows = noise(1, 20, 4);
  const at::Tensor one = at::ones(20);
  refused(press::spherical_kmeans(rows, one, {1}), "2 clusters or more, found 1");
  refused(press::spherical_kmeans(rows, one, {21}), "found 21 for 20");
  refused(press::spherical_kmeans(rows, one, {5, 0.5}), "found 0.5");
  refused(press::spherical_kmeans(rows, one, {5, std::nan("")}), "found nan");
  refused(press::spherical_kmeans(rows, one, {5, 0, 0}), "1 iteration or more, found 0");
  refused(press::spherical_kmeans(rows, at::ones(19), {5}), "found [20, 4] and [19]");
  refused(press::spherical_kmeans(one, one, {5}), "found [20] and [20]");
  refused(press::spherical_kmeans(rows, at::zeros(20), {5}), "above 0 and finite");
  refused(press::spherical_kmeans(rows / 0.0, one, {5}), "not finite");
  refused(press::cluster_vocabulary(rows, one, {1}), "2 clusters or more, found 1");
  refused(press::cluster_vocabulary(rows, one, {21}), "found 21 for 20");
  refused(press::cluster_vocabulary(rows, one, {5, 15}), "found 15");
  refused(press::cluster_vocabulary(rows, one, {5, -1}), "found -1");
  refused(press::cluster_vocabulary(rows, -one, {5}), "negative");
  refused(press::cluster_vocabulary(rows, at::ones(3), {5}), "found [20, 4] and [3]");
  must(press::cluster_vocabulary(rows, one, {5, 14}));
}

TEST_CASE("Impossible fits and targets are refused", "[clusters]") {
  const at::Tensor z = noise(1, 64, 4);
  const at::Tensor targets = at::log_softmax(noise(2, 64, 3), 1);
  const auto fit = [](const at::Tensor& samples, const at::Tensor& wanted,
                      const press::ClusterHeadOptions& options = {}) {
    return press::fit_cluster_head(samples, wanted, options, nullptr);
  };
  refused(fit(z.narrow(0, 0, 63), targets.narrow(0, 0, 63)), "found 63 samples");
  refused(fit(z, targets.narrow(0, 0, 63)), "targets of shape [63, 3]");
  refused(fit(z, targets.narrow(1, 0, 1)), "K of 2 or more");
  refused(fit(z / 0.0, targets), "not finite");
  refused(fit(z, targets, {-1}), "epochs -1");
  refused(fit(z, targets, {1, 0}), "batch 0");
  refused(fit(z, targets, {1, 1, 0}), "learning rate 0");

  const at::Tensor head = noise(3, 30, 4);
  const auto order =
      press::order_by_cluster(at::arange(30, at::kLong).remainder(3), at::ones(30), 0);
  const auto targets_of = [&](const press::HeadRowLoader& rows, int64_t n, int64_t chunk = 9) {
    return press::cluster_log_probabilities(z, rows, n, order, chunk);
  };
  refused(targets_of(loader_of(head), 29), "30 tokens in clusters");
  refused(targets_of(loader_of(head), 30, 0), "chunks of 0");
  refused(targets_of(loader_of(noise(3, 30, 5)), 30), "head rows of shape [9, 5]");
  CHECK(targets_of(loader_of(head / 0.0), 30).status().code() == Code::BadInput);
  const auto gone = [](int64_t, int64_t) -> Result<at::Tensor> { return failed("disk gone"); };
  CHECK(targets_of(gone, 30).status().message() == "disk gone");
}

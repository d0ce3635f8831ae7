// Speed of every kernel that runs here next to its plain twin. Rounds take turns, since machines
// are noisy; printed are medians, how many times as fast as `generic`, and how fast this machine
// reads memory in the same rounds. Matrices of 65536 rows are larger than the caches.
// usage: bench_kernels [ROUNDS] [PART OF A NAME] [THREADS]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <vector>

#include "runtime/bench/bandwidth.h"
#include "runtime/kernels/kernels.h"

using namespace rwkv;
using namespace rwkv::edge;

namespace {

using Clock = std::chrono::steady_clock;

struct Shape {
  uint64_t rows, cols;
};
// As short as a small model's, in the second cache, in the third, and in memory.
constexpr Shape kShapes[] = {{256, 64}, {512, 1024}, {8192, 2048}, {65536, 2048}};
// So many rows are encoded; more repeat them.
constexpr uint64_t kEncodedRows = 512;
// Bytes of rows that a thread takes at a time.
constexpr uint64_t kChunk = 128 << 10;

// Numbers from -1 to 1.
std::vector<float> noise_vector(size_t n, uint32_t seed) {
  std::vector<float> values(n);
  std::mt19937 random(seed);
  for (float& value : values) {
    value = static_cast<float>(random()) * 0x1p-31f - 1.0f;
  }
  return values;
}

std::vector<std::byte> encoded(Codec codec, const Shape& shape) {
  const CodecTraits& traits = codec_traits(codec);
  const Shape first = {std::min(shape.rows, kEncodedRows), shape.cols};
  std::vector<std::byte> bytes(traits.encoded_bytes(first.rows, first.cols));
  const auto values = noise_vector(first.rows * first.cols, 1);
  if (!traits.encode(values, {first.rows, first.cols, Outputs::Rows}, bytes).ok()) {
    std::abort();
  }
  const size_t shared = traits.shared_bytes(shape.cols);
  const size_t n_first = bytes.size();
  bytes.resize(traits.encoded_bytes(shape.rows, shape.cols));
  for (size_t at = n_first; at < bytes.size(); at += n_first - shared) {
    std::copy(bytes.begin() + static_cast<std::ptrdiff_t>(shared),
              bytes.begin() + static_cast<std::ptrdiff_t>(n_first),
              bytes.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return bytes;
}

// One operation: its name, the bytes of weights it touches, and a call of it with a table.
struct Operation {
  std::string name;
  double bytes;
  std::function<void(const KernelSet&)> call;
};

class Bench {
 public:
  Bench(int rounds, std::string only, unsigned n_threads)
      : pool_(n_threads), rounds_(rounds), only_(std::move(only)), n_threads_(n_threads) {
    fmt::print("{:<34} {:>7}", "GB/s of weights (x generic)", "read");
    for (const KernelSet* table : kernel_list()) {
      if (table->runs_here()) {
        tables_.push_back(table);
        fmt::print(" {:>22}", table->name);
      }
    }
    fmt::print("\n");
  }

  bool wants(const std::string& name) const { return name.find(only_) != std::string::npos; }
  ThreadPool& pool() { return pool_; }

  void run(const Operation& operation) {
    BandwidthProbe probe(n_threads_);
    std::map<const KernelSet*, std::vector<double>> rates;
    for (int round = 0; round < rounds_; ++round) {
      probe.pass();
      for (const KernelSet* table : tables_) {
        const auto start = Clock::now();
        int n = 0;
        double seconds = 0;
        do {
          operation.call(*table);
          ++n;
          seconds = std::chrono::duration<double>(Clock::now() - start).count();
        } while (seconds < kSecondsEach);
        rates[table].push_back(operation.bytes * n / seconds * 1e-9);
      }
    }
    fmt::print("{:<34} {:>7.1f}", operation.name, probe.median());
    double plain = 0;
    for (const KernelSet* table : tables_) {
      std::vector<double>& found = rates[table];
      std::sort(found.begin(), found.end());
      const double median = found[found.size() / 2];
      plain = table == tables_.front() ? median : plain;
      fmt::print(" {:>22}", fmt::format("{:.2f} ({:.2f})", median, median / plain));
    }
    fmt::print("\n");
    std::fflush(stdout);
  }

 private:
  static constexpr double kSecondsEach = 0.01;
  ThreadPool pool_;
  int rounds_;
  std::string only_;
  unsigned n_threads_;
  std::vector<const KernelSet*> tables_;
};

void bench_products(Bench& bench, Codec codec, const Shape& shape, size_t n_tokens) {
  const std::string name = fmt::format("matmul {} {}x{} t{}", codec_traits(codec).name, shape.rows,
                                       shape.cols, n_tokens);
  if (!bench.wants(name)) {
    return;
  }
  const std::vector<std::byte> bytes = encoded(codec, shape);
  const MatrixView w = MatrixView::of(bytes.data(), codec, shape.rows, shape.cols);
  const auto x = noise_vector(n_tokens * shape.cols, 2);
  std::vector<int16_t> q(n_tokens * padded_cols(shape.cols));
  std::vector<int8_t> planes(n_tokens * byte_planes_size(shape.cols));
  std::vector<float> steps(n_tokens);
  std::vector<float> sums(n_tokens);
  std::vector<float> group_sums(n_tokens * n_group_sums(shape.cols));
  const size_t n_groups = n_byte_groups(shape.cols);
  std::vector<int8_t> byte_groups(n_tokens * n_groups * kByteGroup);
  std::vector<float> byte_steps(n_tokens * n_groups);
  std::vector<int32_t> byte_sums(n_tokens * n_groups);
  std::vector<float> y(n_tokens * shape.rows);
  const uint64_t chunk =
      (std::max<uint64_t>(16, kChunk * shape.rows / bytes.size()) + 15) / 16 * 16;
  bench.run({name, static_cast<double>(bytes.size()), [&](const KernelSet& table) {
               for (size_t t = 0; t < n_tokens; ++t) {
                 if (input_form(codec) == InputForm::ByteGroups) {
                   table.quantize_bytes(x.data() + t * shape.cols, shape.cols,
                                        byte_groups.data() + t * n_groups * kByteGroup,
                                        byte_steps.data() + t * n_groups,
                                        byte_sums.data() + t * n_groups);
                   continue;
                 }
                 table.quantize_input(x.data() + t * shape.cols, shape.cols,
                                      q.data() + t * padded_cols(shape.cols), &steps[t], &sums[t]);
                 if (input_form(codec) == InputForm::BytePlanes) {
                   byte_inputs(q.data() + t * padded_cols(shape.cols), shape.cols);
                   byte_planes(q.data() + t * padded_cols(shape.cols), shape.cols,
                               planes.data() + t * byte_planes_size(shape.cols));
                 }
                 if (uses_group_sums(codec)) {
                   sum_groups(x.data() + t * shape.cols, shape.cols,
                              group_sums.data() + t * n_group_sums(shape.cols));
                 }
               }
               const Inputs inputs = {x.data(),          n_tokens,          shape.cols,
                                      q.data(),          planes.data(),     steps.data(),
                                      sums.data(),       group_sums.data(), byte_groups.data(),
                                      byte_steps.data(), byte_sums.data()};
               bench.pool().run(shape.rows, chunk, [&](size_t begin, size_t end, unsigned) {
                 table.matmul(codec)(w, inputs, y.data(), shape.rows, begin, end);
               });
             }});
}

void bench_sums(Bench& bench, Codec codec, const Shape& shape, size_t n_tokens) {
  const std::string name = fmt::format("add_scaled_rows {} {}x{} t{}", codec_traits(codec).name,
                                       (shape.rows + 3) / 4, shape.cols, n_tokens);
  if (!bench.wants(name)) {
    return;
  }
  const std::vector<std::byte> bytes = encoded(codec, shape);
  const MatrixView w = MatrixView::of(bytes.data(), codec, shape.rows, shape.cols);
  const uint64_t row_bytes = codec_traits(codec).unit_bytes(shape.cols);
  std::vector<const std::byte*> places;
  std::vector<uint32_t> ids;
  for (uint32_t r = 0; r < shape.rows; r += 4) {
    places.push_back(w.units + r * row_bytes);
    ids.push_back(r);
  }
  const auto a = noise_vector(n_tokens * shape.rows, 2);
  std::vector<float> y(n_tokens * shape.cols);
  std::vector<double> bias(n_tokens * n_bias_groups(codec, shape.cols));
  const RowsView rows = {w.shared, places.data(), ids.data(), ids.size(), codec, shape.cols};
  const size_t n_pieces = 2 * bench.pool().size();
  const size_t piece = (shape.cols / n_pieces + 63) / 64 * 64;
  bench.run({name, static_cast<double>(ids.size() * row_bytes), [&](const KernelSet& table) {
               bench.pool().run(shape.cols, piece, [&](size_t begin, size_t end, unsigned) {
                 table.add_scaled_rows(codec)(rows, a.data(), shape.rows, n_tokens, y.data(),
                                              bias.data(), begin, end);
               });
             }});
}

void bench_wkv(Bench& bench, bool is_v7) {
  constexpr size_t n = 64;
  const auto x = noise_vector(n, 3);
  const std::vector<float> small(n, 0.01f);
  const std::vector<float> decay(n, 0.9f);
  std::vector<float> state(n * n);
  std::vector<float> out(n);
  const WkvHeadArgs head = {
      x.data(), small.data(), x.data(), decay.data(), x.data(), state.data(), out.data(), n, 1, n,
      n};
  bench.run(
      {is_v7 ? "wkv_v7 64" : "wkv_v5 64", 2.0 * n * n * sizeof(float), [&](const KernelSet& table) {
         if (is_v7) {
           table.wkv_v7({head, small.data(), small.data()});
         } else {
           table.wkv_v5(head);
         }
       }});
}

}  // namespace

int main(int argc, char** argv) {
  Bench bench(argc > 1 ? std::max(1, std::atoi(argv[1])) : 7, argc > 2 ? argv[2] : "",
              argc > 3 ? static_cast<unsigned>(std::clamp(std::atoi(argv[3]), 1, 256)) : 1u);
  for (const Shape& shape : kShapes) {
    for (const CodecTraits& codec : codec_list()) {
      for (const size_t n_tokens : {1, 32}) {
        bench_products(bench, codec.codec, shape, n_tokens);
        if (codec.unit_rows == 1) {
          bench_sums(bench, codec.codec, shape, n_tokens);
        }
      }
    }
  }
  for (const bool is_v7 : {false, true}) {
    if (bench.wants(is_v7 ? "wkv_v7 64" : "wkv_v5 64")) {
      bench_wkv(bench, is_v7);
    }
  }
}

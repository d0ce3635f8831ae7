// rwkv-edge profile: how fast this device reads and computes a model, for --device.
#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "runtime/storage/large_pages.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr std::array<uint64_t, 4> kSizes = {128 << 10, 512 << 10, 2 << 20, 8 << 20};
constexpr std::array<unsigned, 3> kDepths = {1, 2, 4};
// Of each size and depth: long enough for the mean, short enough that all take a few seconds.
constexpr std::chrono::milliseconds kTime(250);

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What one of several readers does: every `depth`-th piece of the file, round and round.
struct ReadingThread {
  std::unique_ptr<PieceReader> reader;
  uint64_t n_bytes = 0;
  Status status;

  void run(uint64_t file_bytes, uint64_t size, uint64_t first, uint64_t depth, std::byte* area) {
    const auto start = Clock::now();
    const uint64_t n_pieces = file_bytes / size;
    for (uint64_t i = first; status.ok() && Clock::now() - start < kTime; i += depth) {
      status = reader->read(i % n_pieces * size, size, area);
      n_bytes += size;
    }
  }
};

// Bytes per second of `depth` threads that read pieces of `size`.
Result<double> read_speed(const std::string& path, uint64_t file_bytes, uint64_t size,
                          unsigned depth, uint64_t bytes_per_second) {
  RWKV_ASSIGN(const std::span<std::byte> memory, map_memory(size * depth));
  std::vector<ReadingThread> readers(depth);
  Status status;
  for (ReadingThread& reader : readers) {
    auto opened = PieceReader::open(path, file_bytes, bytes_per_second);
    status = opened.status();
    if (!status.ok()) {
      unmap_memory(memory);
      return status;
    }
    reader.reader = opened.take();
  }
  const auto start = Clock::now();
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < depth; ++i) {
    threads.emplace_back(
        [&, i] { readers[i].run(file_bytes, size, i, depth, memory.data() + i * size); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  const double seconds = seconds_since(start);
  unmap_memory(memory);
  double bytes = 0;
  for (const ReadingThread& reader : readers) {
    RWKV_TRY(reader.status);
    bytes += static_cast<double>(reader.n_bytes);
  }
  return bytes / seconds;
}

Result<Json> read_speeds(const std::string& path, uint64_t bytes_per_second) {
  RWKV_ASSIGN(const auto file, InputFile::open(path));
  Json rows = Json::array();
  for (const uint64_t size : kSizes) {
    for (const unsigned depth : kDepths) {
      if (size <= file->size()) {
        RWKV_ASSIGN(const double speed,
                    read_speed(path, file->size(), size, depth, bytes_per_second));
        rows.push_back({{"bytes", size}, {"depth", depth}, {"bytes_per_second", speed}});
      }
    }
  }
  return rows;
}

// Opens the model so that all pieces are streamed at a width of at most so many bits; 0: full.
Result<std::shared_ptr<const Model>> open_streamed(const std::string& path, MemoryOptions memory,
                                                   double most_bits) {
  memory.stream.most_bits = most_bits;
  return Model::open(path, memory);
}

// Seconds that a token is computed, and bytes per second that its pieces are read with: everything
// is streamed, as it will be later, and what was waited is left out.
Result<DeviceSpeed> stream_speed(const std::shared_ptr<const Model>& model, unsigned n_threads,
                                 size_t n_tokens) {
  Evaluator evaluator(model, {n_threads, 1});
  State state = model->empty_state();
  std::vector<float> logits(model->config().n_vocab);
  const auto feed = [&](size_t token) {
    const auto id = static_cast<int32_t>(token % logits.size());
    return evaluator.forward({&id, 1}, state, Logits::Last, logits);
  };
  RWKV_TRY(feed(0));  // warms up
  const Stream& stream = *model->weights().stream();
  const StreamStats before = stream.stats();
  const auto start = Clock::now();
  for (size_t token = 1; token <= n_tokens; ++token) {
    RWKV_TRY(feed(token));
  }
  const double seconds = seconds_since(start);
  const StreamStats after = stream.stats();
  const auto n = static_cast<double>(n_tokens);
  return DeviceSpeed{static_cast<double>(after.read_bytes - before.read_bytes) /
                         (after.read_seconds - before.read_seconds),
                     (seconds - (after.waited_seconds - before.waited_seconds)) / n, n_threads};
}

// The same computing for every narrower width that the file has: as if all pieces had it, if only
// some do.
Status add_narrow_seconds(const std::string& path, const MemoryOptions& memory, size_t n_tokens,
                          DeviceSpeed& speed) {
  for (size_t bits = speed.narrow_seconds.size() - 1; bits >= 2; --bits) {
    RWKV_ASSIGN(const auto model, open_streamed(path, memory, static_cast<double>(bits)));
    const Residency& residency = model->weights().residency();
    double at_width = 0;  // numbers of pieces
    double all = 0;
    for (const PlacedPiece& piece : residency.pieces) {
      const MatrixView& view = piece.source.view;
      const auto n = static_cast<double>(view.rows * view.cols);
      all += n;
      at_width += codec_traits(view.codec).bits == static_cast<double>(bits) ? n : 0;
    }
    if (at_width == 0 || residency.widths.bytes == residency.widths.full_bytes) {
      continue;
    }
    RWKV_ASSIGN(const DeviceSpeed narrow, stream_speed(model, memory.n_threads, n_tokens));
    const double share = at_width / all;
    speed.narrow_seconds[bits] =
        std::max(1e-9, (narrow.compute_seconds - speed.compute_seconds * (1 - share)) / share);
  }
  return {};
}

void print_speeds(const Json& report) {
  cli::print("{:>10} {:>6} {:>10}\n", "read, kB", "depth", "MB/s");
  for (const Json& row : report["reads"]) {
    cli::print("{:>10} {:>6} {:>10.1f}\n", row["bytes"].get<uint64_t>() >> 10,
               row["depth"].get<unsigned>(), 1e-6 * row["bytes_per_second"].get<double>());
  }
  cli::print("streamed: {:.1f} MB/s; a token is computed in {:.2f} ms by {} threads\n",
             1e-6 * report["read_bytes_per_second"].get<double>(),
             1e3 * report["compute_seconds"].get<double>(), report["threads"].get<unsigned>());
}

// Printed, too.
Json by_bits(const DeviceSpeed& speed) {
  Json seconds = Json::object();
  for (size_t bits = 0; bits < speed.narrow_seconds.size(); ++bits) {
    if (speed.narrow_seconds[bits] > 0) {
      seconds[std::to_string(bits)] = speed.narrow_seconds[bits];
      cli::print("with weights of {} bits: {:.2f} ms\n", bits, 1e3 * speed.narrow_seconds[bits]);
    }
  }
  return seconds;
}

}  // namespace

void declare_profile(cxxopts::Options& options, std::vector<std::string>& positionals) {
  declare_model_options(options, positionals);
  options.add_options()("o,output", "Where the figures go, as JSON", cxxopts::value<std::string>(),
                        "FILE")("force", "Replace an existing output")(
      "n", "Tokens to compute", cxxopts::value<std::string>()->default_value("8"), "N")(
      "read-speed", "Bytes per second of a slower storage", cxxopts::value<std::string>(), "SIZE");
}

Status run_profile(const cxxopts::ParseResult& arguments) {
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "model"));
  RWKV_ASSIGN(const std::string output, cli::required(arguments, "output"));
  constexpr std::array kInputs = {"model"};
  RWKV_TRY(cli::refuse_own_input(arguments, output, kInputs));
  RWKV_ASSIGN(const unsigned n_threads, threads_from(arguments));
  RWKV_ASSIGN(const int64_t n_tokens, cli::integer(arguments, "n", 1, 1 << 20));
  MemoryOptions memory;
  memory.mode = MemoryMode::Streamed;
  memory.n_threads = n_threads;
  RWKV_ASSIGN(memory.stream.bytes_per_second, cli::byte_size(arguments, "read-speed", 0));
  RWKV_ASSIGN(const auto file, OutputFile::create(output, arguments.count("force") > 0
                                                              ? OutputFile::Existing::Replace
                                                              : OutputFile::Existing::Refuse));
  RWKV_ASSIGN(const auto model, open_streamed(path, memory, 0));
  RWKV_ASSIGN(DeviceSpeed speed, stream_speed(model, n_threads, static_cast<size_t>(n_tokens)));
  RWKV_TRY(add_narrow_seconds(path, memory, static_cast<size_t>(n_tokens), speed));
  RWKV_ASSIGN(Json reads, read_speeds(path, memory.stream.bytes_per_second));
  const Json report = {{"model", describe(model->config())},
                       {"weights", model->weights().total_bytes()},
                       {"kernels", kernels().value()->name},
                       {"direct", model->weights().stream()->stats().is_direct},
                       {"threads", n_threads},
                       {"read_bytes_per_second", speed.read_bytes_per_second},
                       {"compute_seconds", speed.compute_seconds},
                       {"seconds_by_bits", by_bits(speed)},
                       {"reads", std::move(reads)}};
  const std::string text = report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  RWKV_TRY(file->write(std::as_bytes(std::span(text))));
  RWKV_TRY(file->commit());
  print_speeds(report);
  return {};
}

}  // namespace rwkv::edge

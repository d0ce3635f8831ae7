#include "runtime/memory/residency.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "formats/arch/access.h"
#include "formats/base/little_endian.h"
#include "runtime/memory/stream_plan.h"
#include "runtime/storage/cached_rows.h"
#include "runtime/storage/row_window.h"

namespace rwkv::edge {
namespace {

// Rows of the head read together: clusters are runs of rows.
constexpr uint64_t kHeadRowsPerUnit = 4;
// Names, places and lookup tables of one tensor, a generous estimate.
constexpr uint64_t kTableBytesPerTensor = 640;
// Caches that hold less save so few reads that a window of the mapped file is better: it reads no
// more than they do, without copying, and much less if the system has cached the file.
constexpr double kWorthACache = 0.5;
// Tokens per pass to try when the limit is tight.
constexpr std::array<size_t, 3> kChunks = {32, 8, 1};

// The choices that decide a residency.
struct Choice {
  MemoryMode mode = MemoryMode::Full;
  size_t max_chunk = 32;
  double neuron_cache = 0;
  double head_cache = 0;
  uint64_t embedding_rows = 0;
  uint64_t pinned_blocks = 0;
  bool pins_head = false;  // a head that every token needs whole
  StreamChoice stream;
};

// Tables of the clustered head, which it keeps in a form of its own.
bool is_read_once(const TensorBinding& binding) {
  return binding.name == "head.tokens" || binding.name == "head.cluster.first";
}

MatrixView shape_of(const PackedTensor& tensor) {
  return {nullptr, nullptr, tensor.codec, tensor.rows, tensor.cols};
}

class Planner {
 public:
  Planner(const PackedFile& file, const MemoryOptions& options, const OtherMemory& other)
      : file_(file), options_(options), other_(other), access_(file.config, file.bindings) {}
  Residency residency(const Choice& choice) const;
  uint64_t total(const Choice& choice) const { return residency(choice).account.total(); }

 private:
  TensorResidence place(const TensorBinding& binding, const Choice& choice) const;
  Residence dense(const TensorBinding& binding, bool by_row, DenseWeights how) const;
  Residence residence(const TensorBinding& binding, bool by_row, const ModeTraits& mode) const;
  uint64_t units(const TensorBinding& binding, uint64_t rows, uint64_t rows_per_unit,
                 const Choice& choice) const;

  const PackedFile& file_;
  const MemoryOptions& options_;
  const OtherMemory& other_;
  ModelAccess access_;
};

// The matrices of blocks are streamed, and the head, of which a few rows are read at a time. Other
// tensors of the whole model are small.
Residence Planner::dense(const TensorBinding& binding, bool by_row, DenseWeights how) const {
  switch (how) {
    case DenseWeights::Mapped:
      return Residence::Mapped;
    case DenseWeights::Pinned:
      return Residence::Pinned;
    case DenseWeights::Streamed:
      return binding.role == Role::Vector           ? Residence::Pinned
             : binding.block >= 0                   ? Residence::Slot
             : binding.role == Role::Head && by_row ? Residence::Rows
                                                    : Residence::Pinned;
    case DenseWeights::Ahead:
      return can_be_streamed(binding, file_.config) ? Residence::Parts : Residence::Pinned;
  }
  return Residence::Pinned;
}

Residence Planner::residence(const TensorBinding& binding, bool by_row,
                             const ModeTraits& mode) const {
  const Access access = access_.of(binding);
  if (mode.owns_memory() && (access == Access::Never || is_read_once(binding))) {
    return Residence::Absent;
  }
  // Without a predictor most tokens need most of the neurons: a stream of all is faster than reads
  // that begin when it is known which.
  const bool is_streamed = mode.dense == DenseWeights::Ahead && access == Access::NamedNeurons &&
                           !access_.has_predictor(binding.block);
  if (access == Access::EveryToken || access == Access::Never || !by_row || is_streamed) {
    return dense(binding, by_row, mode.dense);
  }
  switch (mode.rows) {
    case DemandedRows::Mapped:
      return Residence::Mapped;
    case DemandedRows::Pinned:
      return Residence::Pinned;
    case DemandedRows::Cached:
    case DemandedRows::PassThrough:
      return Residence::Rows;
    case DemandedRows::Windowed:
      return Residence::Window;
  }
  return Residence::Pinned;
}

// Units that the cache of a matrix of `rows` rows has.
uint64_t Planner::units(const TensorBinding& binding, uint64_t rows, uint64_t rows_per_unit,
                        const Choice& choice) const {
  const auto n_units = (rows + rows_per_unit - 1) / rows_per_unit;
  const auto share = [&](double part) {
    return static_cast<uint64_t>(std::ceil(part * static_cast<double>(n_units)));
  };
  switch (access_.of(binding)) {
    case Access::OneRow:
      return std::min(choice.embedding_rows, rows);
    case Access::ChosenClusters:
      return share(choice.head_cache);
    case Access::NamedNeurons:
      // Neurons differ for every block, so keeping them gains nothing.
      return mode_traits(choice.mode).rows == DemandedRows::PassThrough
                 ? 0
                 : share(choice.neuron_cache);
    case Access::EveryToken:
    case Access::Never:
      return 0;
  }
  return 0;
}

TensorResidence Planner::place(const TensorBinding& binding, const Choice& choice) const {
  const PackedTensor& packed = file_.tensors[binding.source];
  const Access access = role_traits(binding.role).access;
  TensorResidence tensor;
  tensor.component = component_of(binding);
  const bool by_row = codec_traits(packed.codec).unit_rows == 1;
  tensor.residence = residence(binding, by_row, mode_traits(choice.mode));
  const bool is_in_pinned_block =
      binding.block >= 0 && static_cast<uint64_t>(binding.block) < choice.pinned_blocks;
  const bool is_pinned_head = choice.pins_head && tensor.residence == Residence::Rows &&
                              access_.of(binding) == Access::EveryToken;
  if ((is_in_pinned_block || is_pinned_head) && tensor.residence != Residence::Absent) {
    tensor.residence = Residence::Pinned;
  }
  tensor.by_rows = by_row && access != Access::EveryToken && access != Access::Never;
  if (tensor.residence == Residence::Rows) {
    tensor.rows_per_unit = binding.role == Role::Head ? kHeadRowsPerUnit : 1;
    tensor.capacity = units(binding, packed.rows, tensor.rows_per_unit, choice);
    const bool holds_all = tensor.capacity * tensor.rows_per_unit >= packed.rows;
    if (holds_all || tensor.capacity > Lru::kMaxCapacity) {
      tensor.residence = Residence::Pinned;
    }
  }
  return tensor;
}

Residency Planner::residency(const Choice& choice) const {
  Residency residency;
  residency.mode = choice.mode;
  residency.max_chunk = choice.max_chunk;
  residency.neuron_cache = choice.neuron_cache;
  residency.head_cache = choice.head_cache;
  residency.embedding_rows = choice.embedding_rows;
  residency.pinned_blocks = choice.pinned_blocks;
  uint64_t windowed_bytes = 0;
  std::vector<uint64_t> blocks(file_.config.n_layer);
  std::vector<const TensorBinding*> streamed;
  residency.tensors.resize(file_.tensors.size());
  // In the order of use, even if the file has another order.
  for (const TensorBinding& binding : file_.bindings) {
    const PackedTensor& packed = file_.tensors[binding.source];
    TensorResidence& tensor = residency.tensors[binding.source];
    tensor = place(binding, choice);
    ComponentBytes& bytes = residency.account.at(tensor.component);
    const uint64_t aligned = align_up(packed.n_bytes, kAlignment);
    if (tensor.residence == Residence::Parts) {
      streamed.push_back(&binding);
    } else if (tensor.residence == Residence::Pinned) {
      tensor.offset = residency.pinned_bytes;
      residency.pinned_bytes += aligned;
      bytes.resident += aligned;
    } else if (tensor.residence == Residence::Slot) {
      uint64_t& block = blocks[static_cast<size_t>(binding.block)];
      tensor.offset = block;
      block += aligned;
    } else if (tensor.residence == Residence::Rows || tensor.residence == Residence::Window) {
      // Every row needs the shared part.
      const uint64_t shared =
          align_up(codec_traits(packed.codec).shared_bytes(packed.cols), kAlignment);
      tensor.offset = residency.pinned_bytes;
      residency.pinned_bytes += shared;
      bytes.resident += shared;
    }
    if (tensor.residence == Residence::Rows) {
      const MatrixView shape = shape_of(packed);
      const CacheSize size{tensor.rows_per_unit, tensor.capacity};
      const uint64_t cache = CachedRows::cache_bytes(shape, size);
      bytes.resident += cache;
      bytes.cached += cache;
      residency.staging_bytes =
          std::max(residency.staging_bytes, CachedRows::staging_bytes(shape, size));
    } else if (tensor.residence == Residence::Window) {
      windowed_bytes += packed.n_bytes;
    } else if (tensor.residence == Residence::Mapped) {
      // What is read once, when the model is opened, need not stay.
      bytes.resident += role_traits(binding.role).access == Access::Never ? 0 : packed.n_bytes;
    }
  }
  plan_stream(file_, streamed, choice.stream, residency);
  residency.slot_bytes = blocks.empty() ? 0 : *std::max_element(blocks.begin(), blocks.end());
  Account& account = residency.account;
  account.at(Component::ClusterHead).resident += other_.cluster_tables;
  account.at(Component::Block).resident = residency.slot_bytes;
  account.at(Component::Ring).resident = residency.ring_bytes;
  residency.window_bytes = RowWindow::room_for(windowed_bytes);
  account.at(Component::Staging).resident =
      residency.staging_bytes + std::min(windowed_bytes, residency.window_bytes);
  account.at(Component::Tokenizer).resident = other_.tokenizer;
  account.at(Component::Tables).resident = file_.tensors.size() * kTableBytesPerTensor;
  account.at(Component::State).resident = other_.state;
  account.at(Component::Scratch).resident = other_.scratch(choice.max_chunk);
  account.at(Component::Program).resident = options_.program_bytes;
  return residency;
}

Status check(const MemoryOptions& options) {
  const auto check_share = [](const char* name, const std::optional<double>& share) -> Status {
    if (share && !(*share >= 0.0 && *share <= 1.0)) {
      return usage_error("{}: expected a share from 0 to 1, found {}", name, *share);
    }
    return {};
  };
  RWKV_TRY(check_share("neuron cache", options.neuron_cache));
  return check_share("head cache", options.head_cache);
}

Choice first_choice(MemoryMode mode, const MemoryOptions& options) {
  return {mode,
          options.max_chunk,
          options.neuron_cache.value_or(kDefaultNeuronCache),
          options.head_cache.value_or(kDefaultHeadCache),
          options.embedding_rows.value_or(kDefaultEmbeddingRows),
          0,
          false,
          {options.stream, options.stream.slots > 0 ? options.stream.slots : kSlots, 0.0}};
}

// The smallest residency of a mode: one token per pass, and caches of the requested size or none.
Choice least_choice(MemoryMode mode, const MemoryOptions& options) {
  return {mode,
          1,
          options.neuron_cache.value_or(0.0),
          options.head_cache.value_or(0.0),
          options.embedding_rows.value_or(1),
          0,
          false,
          {options.stream, options.stream.slots > 0 ? options.stream.slots : kLeastSlots, 0.0}};
}

// The largest share for which there is room, if there is for none of it. By bisection, since bytes
// are rounded in many places.
template <typename F>
double largest_share(const F& has_room) {
  constexpr int kHalvings = 20;
  if (has_room(1.0)) {
    return 1.0;
  }
  double low = 0.0;
  double high = 1.0;
  for (int i = 0; i < kHalvings; ++i) {
    const double half = (low + high) / 2;
    (has_room(half) ? low : high) = half;
  }
  return low;
}

// Within the limit, caches without a requested size take the remaining memory, each the same share
// of its largest size.
Choice fill_caches(const Planner& planner, Choice choice, const MemoryOptions& options) {
  const auto with_share = [&](double share) {
    Choice filled = choice;
    filled.neuron_cache = options.neuron_cache.value_or(share);
    filled.head_cache = options.head_cache.value_or(share);
    filled.embedding_rows = options.embedding_rows.value_or(share > 0 ? kDefaultEmbeddingRows : 1);
    return filled;
  };
  return with_share(largest_share(
      [&](double share) { return planner.total(with_share(share)) <= options.limit; }));
}

// As much in memory of what is streamed as there is room for, next to a ring of the usual size or
// the least one.
Choice pin_pieces(const Planner& planner, Choice choice, const MemoryOptions& options) {
  const unsigned least = choice.stream.slots;
  choice.stream.slots = options.stream.slots > 0 ? options.stream.slots : kSlots;
  if (planner.total(choice) > options.limit) {
    choice.stream.slots = least;
  }
  choice.stream.kept_share = largest_share([&](double share) {
    Choice more = choice;
    more.stream.kept_share = share;
    return planner.total(more) <= options.limit;
  });
  return choice;
}

// As many blocks in memory as there is room for, then the head: every byte of them is a byte less
// to read for each token, which no cache of rows can do.
Choice pin_blocks(const Planner& planner, Choice choice, uint64_t n_layer, uint64_t limit) {
  while (choice.pinned_blocks < n_layer) {
    Choice more = choice;
    ++more.pinned_blocks;
    if (planner.total(more) > limit) {
      break;
    }
    choice = more;
  }
  Choice with_head = choice;
  with_head.pins_head = true;
  return planner.total(with_head) <= limit ? with_head : choice;
}

Choice pin(const Planner& planner, const Choice& choice, uint64_t n_layer,
           const MemoryOptions& options) {
  switch (mode_traits(choice.mode).dense) {
    case DenseWeights::Mapped:
    case DenseWeights::Pinned:
      return choice;
    case DenseWeights::Ahead:
      return pin_pieces(planner, choice, options);
    case DenseWeights::Streamed:
      return pin_blocks(planner, choice, n_layer, options.limit);
  }
  return choice;
}

// The richest choice of a mode that the limit allows.
std::optional<Choice> fit(const Planner& planner, MemoryMode mode, uint64_t n_layer,
                          const MemoryOptions& options) {
  if (planner.total(least_choice(mode, options)) > options.limit) {
    return std::nullopt;
  }
  for (const size_t chunk : kChunks) {
    Choice choice = least_choice(mode, options);
    choice.max_chunk = std::min(chunk, options.max_chunk);
    // Passes of many tokens are worth at most a fifth of the memory that remains for caches.
    const uint64_t least = planner.total(least_choice(mode, options));
    const uint64_t with_chunk = planner.total(choice);
    if (chunk == 1 ||
        (with_chunk <= options.limit && (with_chunk - least) * 5 <= options.limit - least)) {
      return fill_caches(planner, pin(planner, choice, n_layer, options), options);
    }
  }
  return std::nullopt;
}

// Whether a mode with these caches should give way to a window.
bool is_thin(const Choice& choice, const MemoryOptions& options) {
  const bool is_told = options.mode || options.neuron_cache || options.head_cache;
  return !is_told && mode_traits(choice.mode).rows == DemandedRows::Cached &&
         choice.neuron_cache < kWorthACache;
}

// The best choice within the limit: see residency_for().
Result<Choice> choice_within_limit(const Planner& planner, const PackedFile& file,
                                   const MemoryOptions& options) {
  uint64_t smallest = UINT64_MAX;
  const char* smallest_mode = "";
  std::optional<Choice> thin;
  for (const ModeTraits& traits : mode_list()) {
    if (options.mode ? *options.mode != traits.mode : !traits.by_limit) {
      continue;
    }
    const auto choice = fit(planner, traits.mode, file.config.n_layer, options);
    if (choice && !thin && is_thin(*choice, options)) {
      thin = choice;
    } else if (choice && (!thin || traits.rows == DemandedRows::Windowed)) {
      return *choice;
    }
    const uint64_t least = planner.total(least_choice(traits.mode, options));
    if (least < smallest) {
      smallest = least;
      smallest_mode = traits.name;
    }
  }
  if (thin) {
    return *thin;
  }
  return usage_error(
      "{}: the model does not fit in {} bytes; the smallest possible limit is {} bytes (memory "
      "mode {})",
      file.path, options.limit, smallest, smallest_mode);
}

ReadPerToken read_per_token(const PackedFile& file, const Residency& residency) {
  const ModelAccess access(file.config, file.bindings);
  ReadPerToken read;
  double rows = 0;
  for (const TensorBinding& binding : file.bindings) {
    const PackedTensor& packed = file.tensors[binding.source];
    const Residence residence = residency.tensors[binding.source].residence;
    if (residence == Residence::Slot) {
      read.bytes += packed.n_bytes;
    } else if (residence == Residence::Parts) {
      continue;  // counted by pieces
    } else if (residence == Residence::Rows || residence == Residence::Window) {
      const Access how = access.of(binding);
      rows += bytes_read(how, packed.n_bytes, packed.rows, file.shares);
      read.is_bound = read.is_bound || (how == Access::NamedNeurons && file.shares.neurons == 1) ||
                      (how == Access::ChosenClusters && file.shares.clusters == 1);
    }
  }
  for (const StreamedPiece& piece : residency.stream) {
    read.bytes += piece.n_bytes;
  }
  read.bytes += static_cast<uint64_t>(rows);
  return read;
}

}  // namespace

MemoryMode mode_made_for(const PackedFile& file) {
  const ModelAccess access(file.config, file.bindings);
  bool is_made_for_rows = file.config.n_cluster > 0;
  uint64_t on_demand = 0;
  for (const TensorBinding& binding : file.bindings) {
    const Access how = access.of(binding);
    is_made_for_rows = is_made_for_rows || binding.role == Role::SignBits ||
                       binding.role == Role::Predictor || binding.role == Role::TokenRows;
    on_demand += how == Access::EveryToken || how == Access::Never
                     ? 0
                     : file.tensors[binding.source].n_bytes;
  }
  if (!is_made_for_rows) {
    return MemoryMode::Full;
  }
  // A window over a small model would hold most of it.
  return RowWindow::room_for(on_demand) * 2 <= on_demand ? MemoryMode::Windowed
                                                         : MemoryMode::Sparse;
}

Result<Residency> residency_for(const PackedFile& file, const MemoryOptions& options,
                                const OtherMemory& other) {
  RWKV_TRY(check(options));
  const Planner planner(file, options, other);
  if (options.limit == 0) {
    Residency residency =
        planner.residency(first_choice(options.mode.value_or(mode_made_for(file)), options));
    residency.max_chunk = SIZE_MAX;  // any size that the evaluator requests
    residency.read = read_per_token(file, residency);
    return residency;
  }
  RWKV_ASSIGN(const Choice choice, choice_within_limit(planner, file, options));
  Residency residency = planner.residency(choice);
  residency.read = read_per_token(file, residency);
  return residency;
}

}  // namespace rwkv::edge

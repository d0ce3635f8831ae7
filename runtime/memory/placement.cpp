#include "runtime/memory/placement.h"

#include <algorithm>
#include <cmath>

#include "formats/base/little_endian.h"
#include "runtime/storage/cached_rows.h"
#include "runtime/storage/row_window.h"

namespace rwkv::edge {
namespace {

// Rows of the head read together: clusters are runs of rows.
constexpr uint64_t kHeadRowsPerUnit = 4;
// Names, places and lookup tables of one tensor, a generous estimate.
constexpr uint64_t kTableBytesPerTensor = 640;

// Tables of the clustered head, which it keeps in a form of its own.
bool is_read_once(const TensorBinding& binding) {
  return binding.name == "head.tokens" || binding.name == "head.cluster.first";
}

MatrixView shape_of(const PackedTensor& tensor) {
  return {nullptr, nullptr, tensor.codec, tensor.rows, tensor.cols};
}

}  // namespace

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

// What every row of a tensor needs, if its rows lie elsewhere.
void Planner::pin_shared_part(size_t tensor, Component component, Residency& residency) const {
  const PackedTensor& packed = file_.tensors[tensor];
  const uint64_t shared =
      align_up(codec_traits(packed.codec).shared_bytes(packed.cols), kAlignment);
  residency.tensors[tensor].offset = residency.pinned_bytes;
  residency.pinned_bytes += shared;
  residency.account.at(component).resident += shared;
}

// Narrower copies serve pieces of matrices that are streamed, and nothing else.
void Planner::place_copies(Residency& residency) const {
  for (size_t i = n_complete_tensors(file_.tensors); i < file_.tensors.size(); ++i) {
    residency.tensors[i].residence = Residence::Absent;
  }
  for (const ShardedMatrix& matrix : file_.shards) {
    const TensorResidence& complete = residency.tensors[matrix.tensor];
    for (const ShardPiece& piece : matrix.pieces) {
      for (const ShardVersion& version : piece.versions) {
        if (complete.residence == Residence::Parts && version.tensor != ShardVersion::kNothing &&
            residency.tensors[version.tensor].residence == Residence::Absent) {
          residency.tensors[version.tensor].residence = Residence::Parts;
          pin_shared_part(version.tensor, complete.component, residency);
        }
      }
    }
  }
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
      pin_shared_part(binding.source, tensor.component, residency);
    } else if (tensor.residence == Residence::Pinned) {
      tensor.offset = residency.pinned_bytes;
      residency.pinned_bytes += aligned;
      bytes.resident += aligned;
    } else if (tensor.residence == Residence::Slot) {
      uint64_t& block = blocks[static_cast<size_t>(binding.block)];
      tensor.offset = block;
      block += aligned;
    } else if (tensor.residence == Residence::Rows || tensor.residence == Residence::Window) {
      pin_shared_part(binding.source, tensor.component, residency);
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
  place_copies(residency);
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

}  // namespace rwkv::edge

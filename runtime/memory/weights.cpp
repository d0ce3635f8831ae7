#include "runtime/memory/weights.h"

#include <algorithm>
#include <cstdint>

#include "formats/base/little_endian.h"
#include "runtime/memory/part_checks.h"
#include "runtime/storage/large_pages.h"
#include "runtime/storage/rows_in_memory.h"
#include "runtime/storage/streamed_rows.h"
#include "runtime/storage/windowed_rows.h"

namespace rwkv::edge {
namespace {

// Tensors that a thread reads at a time when a block is entered.
constexpr size_t kSlotReads = 1;

}  // namespace

Weights::Weights(PackedFile file, Residency residency)
    : packed_(std::move(file)),
      residency_(std::move(residency)),
      blocks_(packed_.config.n_layer),
      whole_(whole_tensors(packed_.config, packed_.bindings, packed_.tensors)) {
  packed_.metadata = {};
  for (size_t i = 0; i < packed_.tensors.size(); ++i) {
    by_name_.emplace(packed_.tensors[i].name, i);
  }
}

Weights::~Weights() {
  stream_.reset();
  unmap_memory(pieces_);
  unmap_memory(pinned_);
  unmap_memory(slot_);
}

Result<std::shared_ptr<Weights>> Weights::load(PackedFile file, Residency residency) {
  std::shared_ptr<Weights> weights(new Weights(std::move(file), std::move(residency)));
  const ModeTraits& mode = mode_traits(weights->residency_.mode);
  if (mode.maps_file()) {
    RWKV_TRY(weights->map_file(weights->packed_.path));
  }
  if (mode.owns_memory()) {
    RWKV_ASSIGN(weights->file_, InputFile::open(weights->packed_.path));
    weights->reader_ = std::make_unique<PlainReader>(weights->file_);
    RWKV_ASSIGN(weights->pinned_, map_memory(weights->residency_.pinned_bytes));
    RWKV_ASSIGN(weights->slot_, map_memory(weights->residency_.slot_bytes));
    weights->list_parts();
    RWKV_TRY(weights->load_pinned());
    RWKV_TRY(weights->open_stream());
    weights->list_slot_reads(weights->packed_.bindings);
  }
  if (mode.rows == DemandedRows::Windowed) {
    weights->open_window();
  }
  weights->staging_ = std::make_unique<Staging>(weights->residency_.staging_bytes);
  for (size_t i = 0; i < weights->packed_.tensors.size(); ++i) {
    weights->stores_.push_back(weights->store_of(i));
  }
  return weights;
}

void Weights::list_slot_reads(std::span<const TensorBinding> bindings) {
  for (const TensorBinding& binding : bindings) {
    const TensorResidence& tensor = residency_.tensors[binding.source];
    if (tensor.residence == Residence::Slot) {
      const PackedTensor& packed = packed_.tensors[binding.source];
      blocks_[static_cast<size_t>(binding.block)].push_back(
          {packed.offset, slot_.subspan(tensor.offset, packed.n_bytes)});
    }
  }
}

// Steps of the stream are pieces: every piece is one.
void Weights::list_parts() {
  for (const PlacedPiece& piece : residency_.pieces) {
    parts_.push_back(
        {piece.first_row, piece.source.view.rows, static_cast<uint32_t>(parts_.size())});
  }
}

// Kernels find the part that all rows share in pinned memory.
PieceSource Weights::with_shared_part(PieceSource source) const {
  if (source.n_bytes > 0) {
    source.view.shared = pinned_.data() + residency_.tensors[source.tensor].offset;
  }
  return source;
}

// What the stream reads at first, and afterwards.
std::vector<StreamedPiece> Weights::pieces_of(const Residency& residency,
                                              PieceRaises& raises) const {
  std::vector<StreamedPiece> pieces(residency.pieces.begin(), residency.pieces.end());
  raises.bytes_per_pass = residency.raised_per_pass;
  for (size_t step = 0; step < pieces.size(); ++step) {
    PieceSource& source = pieces[step].source;
    source = with_shared_part(source);
    if (const auto& early = residency.pieces[step].early) {
      raises.raises.push_back({step, std::exchange(source, with_shared_part(*early))});
    }
  }
  // What gains most per byte comes first.
  const auto gain = [&](const PieceRaises::Raise& raise) {
    const PieceSource& before = pieces[raise.step].source;
    return (before.loss - raise.source.loss) / static_cast<double>(raise.source.n_bytes);
  };
  std::sort(raises.raises.begin(), raises.raises.end(), [&](const auto& a, const auto& b) {
    return std::pair(gain(b), a.step) < std::pair(gain(a), b.step);
  });
  return pieces;
}

Status Weights::open_stream() {
  if (residency_.pieces.empty()) {
    return {};
  }
  uint64_t end = 0;
  for (const PlacedPiece& piece : residency_.pieces) {
    end = std::max(end, piece.source.offset + piece.source.n_bytes);
  }
  RWKV_ASSIGN(pieces_, map_memory(residency_.kept_bytes + residency_.ring_bytes));
  RWKV_ASSIGN(auto reader, PieceReader::open(packed_.path, end, residency_.bytes_per_second));
  PieceRaises raises;
  std::vector<StreamedPiece> pieces = pieces_of(residency_, raises);
  stream_ = std::make_unique<Stream>(
      std::move(reader), std::move(pieces), residency_.n_in_blocks, pieces_,
      std::make_unique<PartChecks>(packed_.path, packed_.tensors), std::move(raises));
  return {};
}

Status Weights::move_to(const std::function<Result<Residency>(const PackedFile&)>& plan) {
  const auto turn = lock();
  RWKV_ASSIGN(Residency residency, plan(packed_));
  if (!stream_) {
    return {};
  }
  RWKV_ASSIGN(const std::span<std::byte> memory,
              map_memory(residency.kept_bytes + residency.ring_bytes));
  PieceRaises raises;
  stream_->move_to(pieces_of(residency, raises), memory);
  unmap_memory(std::exchange(pieces_, memory));
  residency_ = std::move(residency);
  return {};
}

Status Weights::map_file(const std::string& path) {
  RWKV_ASSIGN(mapping_, MappedFile::open(path));
  for (const PackedTensor& tensor : packed_.tensors) {
    if (tensor.offset + tensor.n_bytes > mapping_->bytes().size()) {
      return bad_input("{}: the file became shorter while it was opened", path);
    }
  }
  want_large_pages(mapping_->bytes());
  return {};
}

void Weights::open_window() {
  std::vector<FileRange> ranges;
  for (size_t i = 0; i < packed_.tensors.size(); ++i) {
    if (residency_.tensors[i].residence == Residence::Window) {
      ranges.push_back({packed_.tensors[i].offset, packed_.tensors[i].n_bytes});
    }
  }
  window_ = std::make_unique<RowWindow>(mapping_, residency_.window_bytes);
  refill_in_large_pages(*file_, mapping_->bytes(), ranges);
}

// Pinned memory: whole tensors, and what all rows of a matrix share whose rows lie elsewhere.
Status Weights::load_pinned() {
  for (size_t i = 0; i < packed_.tensors.size(); ++i) {
    const PackedTensor& packed = packed_.tensors[i];
    const TensorResidence& tensor = residency_.tensors[i];
    const bool has_rows_elsewhere = tensor.residence == Residence::Rows ||
                                    tensor.residence == Residence::Window ||
                                    tensor.residence == Residence::Parts;
    const uint64_t n_bytes = tensor.residence == Residence::Pinned ? packed.n_bytes
                             : has_rows_elsewhere
                                 ? codec_traits(packed.codec).shared_bytes(packed.cols)
                                 : 0;
    if (n_bytes > 0) {
      RWKV_TRY(reader_->read_at(packed.offset, pinned_.subspan(tensor.offset, n_bytes)));
    }
  }
  return {};
}

std::unique_ptr<RowStore> Weights::store_of(size_t index) {
  const PackedTensor& packed = packed_.tensors[index];
  const TensorResidence& tensor = residency_.tensors[index];
  if (!tensor.by_rows) {
    return nullptr;
  }
  const MatrixView view = view_of(index);
  const uint64_t first_row = packed.offset + codec_traits(packed.codec).shared_bytes(packed.cols);
  switch (tensor.residence) {
    case Residence::Rows:
      return std::make_unique<CachedRows>(view, tensor.component, *reader_, first_row,
                                          CacheSize{tensor.rows_per_unit, tensor.capacity},
                                          *staging_);
    case Residence::Window:
      return std::make_unique<WindowedRows>(view, tensor.component, *window_, first_row);
    case Residence::Parts:
      return std::make_unique<StreamedRows>(matrix_of(index), tensor.component, *stream_);
    case Residence::Mapped:
    case Residence::Pinned:
    case Residence::Slot:
      return std::make_unique<RowsInMemory>(view, tensor.component);
    case Residence::Absent:
      return nullptr;
  }
  return nullptr;
}

MatrixView Weights::view_of(size_t index) const {
  const PackedTensor& tensor = packed_.tensors[index];
  const TensorResidence& place = residency_.tensors[index];
  const auto whole_at = [&](const std::byte* encoded) {
    return MatrixView::of(encoded, tensor.codec, tensor.rows, tensor.cols);
  };
  switch (place.residence) {
    case Residence::Mapped:
      return whole_at(mapping_->bytes().data() + tensor.offset);
    case Residence::Pinned:
      return whole_at(pinned_.data() + place.offset);
    case Residence::Slot:
      return whole_at(slot_.data() + place.offset);
    case Residence::Rows:
    case Residence::Window:
    case Residence::Parts:
      return {pinned_.data() + place.offset, nullptr, tensor.codec, tensor.rows, tensor.cols};
    case Residence::Absent:
      break;
  }
  return {nullptr, nullptr, tensor.codec, tensor.rows, tensor.cols};
}

Result<size_t> Weights::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) {
    return bad_input("tensor '{}' is missing", name);
  }
  return found->second;
}

Matrix Weights::matrix_of(size_t index) const {
  const TensorResidence& tensor = residency_.tensors[index];
  return Matrix(view_of(index), std::span(parts_).subspan(tensor.first_piece, tensor.n_pieces));
}

Result<Matrix> Weights::matrix(std::string_view name) const {
  RWKV_ASSIGN(const size_t index, find(name));
  return matrix_of(index);
}

Result<std::span<const float>> Weights::vector(std::string_view name) const {
  RWKV_ASSIGN(const MatrixView view, matrix(name));
  if (view.codec != Codec::F32 || reinterpret_cast<uintptr_t>(view.units) % alignof(float) != 0) {
    return bad_input("tensor '{}' is {}; expected an aligned f32 vector", name,
                     codec_traits(view.codec).name);
  }
  // The one place where stored bytes are used as floats in place: alignment was checked.
  return std::span(reinterpret_cast<const float*>(view.units), view.rows * view.cols);
}

Result<std::vector<float>> Weights::read_vector(std::string_view name) const {
  RWKV_ASSIGN(const size_t index, find(name));
  const PackedTensor& tensor = packed_.tensors[index];
  std::vector<std::byte> bytes;
  std::span<const std::byte> encoded;
  if (mapping_) {
    encoded = mapping_->bytes().subspan(tensor.offset, tensor.n_bytes);
  } else {
    bytes.resize(tensor.n_bytes);
    RWKV_TRY(reader_->read_at(tensor.offset, bytes));
    encoded = bytes;
  }
  std::vector<float> values(tensor.rows * tensor.cols);
  const MatrixView view = MatrixView::of(encoded.data(), tensor.codec, tensor.rows, tensor.cols);
  codec_traits(tensor.codec).decode_rows(view, 0, tensor.rows, values);
  return values;
}

Result<RowStore*> Weights::rows(std::string_view name) const {
  RWKV_ASSIGN(const size_t index, find(name));
  const CodecTraits& codec = codec_traits(packed_.tensors[index].codec);
  if (codec.unit_rows != 1) {
    return bad_input(
        "tensor '{}' is read row by row, but {} packs {} rows together; convert with another codec "
        "for it",
        name, codec.name, codec.unit_rows);
  }
  return stores_[index].get();
}

Status Weights::enter_block(size_t block, ThreadPool& pool, Traffic& traffic) const {
  const std::vector<ReadRequest>& reads = blocks_[block];
  if (reads.empty()) {
    return {};
  }
  for (const ReadRequest& read : reads) {
    traffic.at(Component::Block).read += read.to.size();
  }
  return read_all(pool, *reader_, reads, kSlotReads);
}

std::unique_lock<std::mutex> Weights::lock() const {
  return mode_traits(residency_.mode).is_changing() ? std::unique_lock<std::mutex>(mutex_)
                                                    : std::unique_lock<std::mutex>();
}

Traffic Weights::traffic() const {
  const std::lock_guard lock(traffic_mutex_);
  return traffic_;
}

void Weights::count(const Traffic& traffic) const {
  const std::lock_guard lock(traffic_mutex_);
  traffic_.add(traffic);
}

uint64_t Weights::total_bytes() const {
  uint64_t bytes = 0;
  for (size_t i = 0; i < n_complete_tensors(packed_.tensors); ++i) {
    bytes += packed_.tensors[i].n_bytes;
  }
  return bytes;
}

}  // namespace rwkv::edge

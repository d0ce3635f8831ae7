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
    : config_(file.config),
      tensors_(std::move(file.tensors)),
      residency_(std::move(residency)),
      blocks_(config_.n_layer),
      whole_(whole_tensors(config_, file.bindings, tensors_)) {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    by_name_.emplace(tensors_[i].name, i);
  }
}

Weights::~Weights() {
  stream_.reset();
  unmap_memory(ring_);
  unmap_memory(pinned_);
  unmap_memory(slot_);
}

Result<std::shared_ptr<const Weights>> Weights::load(PackedFile file, Residency residency) {
  const std::string path = file.path;
  const std::vector<TensorBinding> bindings = file.bindings;
  std::shared_ptr<Weights> weights(new Weights(std::move(file), std::move(residency)));
  const ModeTraits& mode = mode_traits(weights->residency_.mode);
  if (mode.maps_file()) {
    RWKV_TRY(weights->map_file(path));
  }
  if (mode.owns_memory()) {
    RWKV_ASSIGN(weights->file_, InputFile::open(path));
    weights->reader_ = std::make_unique<PlainReader>(weights->file_);
    RWKV_ASSIGN(weights->pinned_, map_memory(weights->residency_.pinned_bytes));
    RWKV_ASSIGN(weights->slot_, map_memory(weights->residency_.slot_bytes));
    weights->list_parts();
    RWKV_TRY(weights->load_pinned());
    RWKV_TRY(weights->open_stream(path));
    weights->list_slot_reads(bindings);
  }
  if (mode.rows == DemandedRows::Windowed) {
    weights->open_window();
  }
  weights->staging_ = std::make_unique<Staging>(weights->residency_.staging_bytes);
  for (size_t i = 0; i < weights->tensors_.size(); ++i) {
    weights->stores_.push_back(weights->store_of(i));
  }
  return std::shared_ptr<const Weights>(std::move(weights));
}

void Weights::list_slot_reads(std::span<const TensorBinding> bindings) {
  for (const TensorBinding& binding : bindings) {
    const TensorResidence& tensor = residency_.tensors[binding.source];
    if (tensor.residence == Residence::Slot) {
      const PackedTensor& packed = tensors_[binding.source];
      blocks_[static_cast<size_t>(binding.block)].push_back(
          {packed.offset, slot_.subspan(tensor.offset, packed.n_bytes)});
    }
  }
}

// Before the ring and the pinned memory have their contents.
void Weights::list_parts() {
  parts_.resize(residency_.parts.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const TensorResidence& tensor = residency_.tensors[i];
    for (size_t p = tensor.first_part; p < tensor.first_part + tensor.n_parts; ++p) {
      const PlacedPart& part = residency_.parts[p];
      MatrixView view = view_of(i);
      view.units = pinned_.data() + part.place;
      view.rows = part.n_rows;
      parts_[p] = {view, part.first_row, part.step};
    }
  }
}

Status Weights::open_stream(const std::string& path) {
  if (residency_.stream.empty()) {
    return {};
  }
  uint64_t end = 0;
  for (const StreamedPiece& piece : residency_.stream) {
    end = std::max(end, piece.offset + piece.n_bytes);
  }
  RWKV_ASSIGN(ring_, map_memory(residency_.ring_bytes));
  RWKV_ASSIGN(auto reader, PieceReader::open(path, end, residency_.bytes_per_second));
  stream_ =
      std::make_unique<Stream>(std::move(reader), residency_.stream, residency_.n_in_blocks, ring_,
                               std::make_unique<PartChecks>(path, tensors_, residency_, parts_));
  for (MatrixPart& part : parts_) {
    if (part.step != MatrixPart::kAlwaysThere) {
      part.view.units = stream_->at(part.step);
    }
  }
  return {};
}

Status Weights::map_file(const std::string& path) {
  RWKV_ASSIGN(mapping_, MappedFile::open(path));
  for (const PackedTensor& tensor : tensors_) {
    if (tensor.offset + tensor.n_bytes > mapping_->bytes().size()) {
      return bad_input("{}: the file became shorter while it was opened", path);
    }
  }
  want_large_pages(mapping_->bytes());
  return {};
}

void Weights::open_window() {
  std::vector<FileRange> ranges;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (residency_.tensors[i].residence == Residence::Window) {
      ranges.push_back({tensors_[i].offset, tensors_[i].n_bytes});
    }
  }
  window_ = std::make_unique<RowWindow>(mapping_, residency_.window_bytes);
  refill_in_large_pages(*file_, mapping_->bytes(), ranges);
}

// Pinned memory: whole tensors, parts, and what all rows of a matrix share whose rows lie
// elsewhere.
Status Weights::load_pinned() {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const PackedTensor& packed = tensors_[i];
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
  for (const PlacedPart& part : residency_.parts) {
    if (part.step == MatrixPart::kAlwaysThere) {
      RWKV_TRY(reader_->read_at(part.offset, pinned_.subspan(part.place, part.n_bytes)));
    }
  }
  return {};
}

std::unique_ptr<RowStore> Weights::store_of(size_t index) {
  const PackedTensor& packed = tensors_[index];
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
  const PackedTensor& tensor = tensors_[index];
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
  return Matrix(view_of(index), std::span(parts_).subspan(tensor.first_part, tensor.n_parts));
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
  const PackedTensor& tensor = tensors_[index];
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
  const CodecTraits& codec = codec_traits(tensors_[index].codec);
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
  for (const PackedTensor& tensor : tensors_) {
    bytes += tensor.n_bytes;
  }
  return bytes;
}

}  // namespace rwkv::edge

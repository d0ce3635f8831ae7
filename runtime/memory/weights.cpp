#include "runtime/memory/weights.h"

#include <atomic>
#include <cstdint>

#include "formats/base/little_endian.h"
#include "runtime/storage/large_pages.h"

namespace rwkv::edge {
namespace {

// Bytes that one thread reads at a time when a block is entered.
constexpr size_t kSlotReads = 1;

bool is_on_demand(Role role) {
  return role == Role::Embedding || role == Role::FfnKey || role == Role::FfnValue ||
         role == Role::Head;
}

}  // namespace

Weights::Weights(PackedFile file, MemoryPlan plan)
    : config_(file.config),
      tensors_(std::move(file.tensors)),
      plan_(std::move(plan)),
      blocks_(config_.n_layer),
      account_(plan_.account) {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    by_name_.emplace(tensors_[i].name, i);
  }
  for (const TensorBinding& binding : file.bindings) {
    const PackedTensor& tensor = tensors_[binding.source];
    const bool is_embedding = binding.role == Role::Embedding;
    if (binding.role != Role::Ignored) {
      bytes_per_token_ += is_embedding ? tensor.n_bytes / tensor.rows : tensor.n_bytes;
      always_touched_bytes_ += is_on_demand(binding.role) ? 0 : tensor.n_bytes;
    }
  }
}

Weights::~Weights() {
  unmap_memory(pinned_);
  unmap_memory(slot_);
}

Result<std::shared_ptr<const Weights>> Weights::load(PackedFile file, MemoryPlan plan) {
  const std::string path = file.path;
  // Block numbers are needed beyond the bindings, which go away.
  std::vector<int64_t> block_of(file.tensors.size(), -1);
  for (const TensorBinding& binding : file.bindings) {
    block_of[binding.source] = binding.block;
  }
  std::shared_ptr<Weights> weights(new Weights(std::move(file), std::move(plan)));
  const MemoryMode mode = weights->plan_.mode;
  if (mode == MemoryMode::Full || mode == MemoryMode::Windowed) {
    RWKV_TRY(weights->map_file(path));
  }
  if (mode != MemoryMode::Full) {
    RWKV_ASSIGN(weights->file_, InputFile::open(path));
    RWKV_ASSIGN(weights->pinned_, map_memory(weights->plan_.pinned_bytes));
    RWKV_ASSIGN(weights->slot_, map_memory(weights->plan_.slot_bytes));
    RWKV_TRY(weights->load_pinned());
    for (size_t i = 0; i < weights->tensors_.size(); ++i) {
      if (weights->plan_.tensors[i].residence == Residence::Slot) {
        const PackedTensor& tensor = weights->tensors_[i];
        weights->blocks_[static_cast<size_t>(block_of[i])].push_back(
            {tensor.offset,
             weights->slot_.subspan(weights->plan_.tensors[i].offset, tensor.n_bytes)});
      }
    }
  }
  if (mode == MemoryMode::Windowed) {
    weights->open_window();
  }
  RWKV_TRY(weights->make_stores());
  return std::shared_ptr<const Weights>(std::move(weights));
}

Status Weights::map_file(const std::string& path) {
  RWKV_ASSIGN(mapping_, MappedFile::open(path));
  for (const PackedTensor& tensor : tensors_) {
    if (tensor.offset + tensor.n_bytes > mapping_->bytes().size()) {
      return bad_input("{}: became shorter while it was opened", path);
    }
  }
  want_large_pages(mapping_->bytes());
  return {};
}

void Weights::open_window() {
  std::vector<FileRange> ranges;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (plan_.tensors[i].residence == Residence::Window) {
      ranges.push_back({tensors_[i].offset, tensors_[i].n_bytes});
    }
  }
  window_ = std::make_unique<RowWindow>(mapping_, plan_.window_bytes);
  refill_in_large_pages(*file_, mapping_->bytes(), ranges);
}

Status Weights::load_pinned() {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const PackedTensor& tensor = tensors_[i];
    const Residence residence = plan_.tensors[i].residence;
    const bool is_on_demand = residence == Residence::Rows || residence == Residence::Window;
    const uint64_t n_bytes = residence == Residence::Pinned ? tensor.n_bytes
                             : is_on_demand ? codec_traits(tensor.codec).shared_bytes(tensor.cols)
                                            : 0;
    if (n_bytes > 0) {
      RWKV_TRY(file_->read_at(tensor.offset, pinned_.subspan(plan_.tensors[i].offset, n_bytes)));
    }
  }
  return {};
}

Status Weights::make_stores() {
  staging_ = std::make_unique<Staging>(plan_.staging_bytes);
  stores_.resize(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const PackedTensor& tensor = tensors_[i];
    const TensorPlan& plan = plan_.tensors[i];
    const MatrixView view = view_of(i);
    const uint64_t first_row = tensor.offset + codec_traits(tensor.codec).shared_bytes(tensor.cols);
    if (plan.residence == Residence::Rows) {
      stores_[i] = std::make_unique<RowStore>(
          view, RowStore::OnStorage{file_, first_row, plan.rows_per_unit, plan.capacity,
                                    staging_.get(), &account_.at(plan.component)});
    } else if (plan.residence == Residence::Window) {
      stores_[i] = std::make_unique<RowStore>(
          view, RowStore::InWindow{window_.get(), first_row, &account_.at(plan.component)});
    } else if (plan.component == Component::Neurons || plan.component == Component::Head ||
               plan.component == Component::Embedding) {
      stores_[i] = std::make_unique<RowStore>(view);
    }
  }
  return {};
}

MatrixView Weights::view_of(size_t index) const {
  const PackedTensor& tensor = tensors_[index];
  const TensorPlan& plan = plan_.tensors[index];
  const auto whole_at = [&](const std::byte* encoded) {
    return MatrixView::of(encoded, tensor.codec, tensor.rows, tensor.cols);
  };
  switch (plan.residence) {
    case Residence::Mapped:
      return whole_at(mapping_->bytes().data() + tensor.offset);
    case Residence::Pinned:
      return whole_at(pinned_.data() + plan.offset);
    case Residence::Slot:
      return whole_at(slot_.data() + plan.offset);
    case Residence::Rows:
    case Residence::Window:
      return {pinned_.data() + plan.offset, nullptr, tensor.codec, tensor.rows, tensor.cols};
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

Result<MatrixView> Weights::matrix(std::string_view name) const {
  RWKV_ASSIGN(const size_t index, find(name));
  return view_of(index);
}

Result<std::span<const float>> Weights::vector(std::string_view name) const {
  RWKV_ASSIGN(const MatrixView view, matrix(name));
  if (view.codec != Codec::F32 || reinterpret_cast<uintptr_t>(view.units) % alignof(float) != 0) {
    return bad_input("tensor '{}' is {}, a vector must be aligned f32", name,
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
    RWKV_TRY(file_->read_at(tensor.offset, bytes));
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

Status Weights::enter_block(size_t block, ThreadPool& pool) const {
  const std::vector<SlotRead>& reads = blocks_[block];
  std::atomic<size_t> failed_at{reads.size()};
  pool.run(reads.size(), kSlotReads, [&](size_t begin, size_t end, unsigned) {
    for (size_t i = begin; i < end; ++i) {
      if (!file_->read_at(reads[i].file_offset, reads[i].to).ok()) {
        failed_at.store(i);
      }
    }
  });
  for (const SlotRead& read : reads) {
    account_.at(Component::Block).read += read.to.size();
  }
  if (const size_t i = failed_at.load(); i < reads.size()) {
    RWKV_TRY(file_->read_at(reads[i].file_offset, reads[i].to));
    return failed("{}: reading failed, then worked; the storage is not reliable", file_->path());
  }
  return {};
}

std::unique_lock<std::mutex> Weights::lock() const {
  const bool is_constant = plan_.mode == MemoryMode::Full || plan_.mode == MemoryMode::Loaded;
  return is_constant ? std::unique_lock<std::mutex>() : std::unique_lock<std::mutex>(mutex_);
}

uint64_t Weights::bytes_per_token() const {
  return bytes_per_token_;
}

uint64_t Weights::total_bytes() const {
  uint64_t bytes = 0;
  for (const PackedTensor& tensor : tensors_) {
    bytes += tensor.n_bytes;
  }
  return bytes;
}

}  // namespace rwkv::edge

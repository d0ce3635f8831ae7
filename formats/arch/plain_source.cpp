#include "formats/arch/plain_source.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace rwkv {
namespace {

// The parts of v6's mixing as BlinkDL orders them (w k v r g), by their place in r w k v g.
constexpr std::array<uint64_t, 5> kMixOrder = {1, 2, 3, 0, 4};

// [n, rows, cols] -> [n, cols, rows], elements of `width` bytes.
void transpose(std::span<const std::byte> from, uint64_t rows, uint64_t cols, uint64_t width,
               std::vector<std::byte>& to) {
  to.resize(from.size());
  const uint64_t matrix = rows * cols * width;
  for (uint64_t at = 0; at < from.size(); at += matrix) {
    for (uint64_t row = 0; row < rows; ++row) {
      for (uint64_t col = 0; col < cols; ++col) {
        std::memcpy(to.data() + at + (col * rows + row) * width,
                    from.data() + at + (row * cols + col) * width, width);
      }
    }
  }
}

// Five runs of equal size, from r w k v g to w k v r g.
std::vector<std::byte> in_mix_order(std::span<const std::byte> bytes) {
  const uint64_t part = bytes.size() / kMixOrder.size();
  std::vector<std::byte> ordered;
  ordered.reserve(bytes.size());
  for (const uint64_t from : kMixOrder) {
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(from * part);
    ordered.insert(ordered.end(), begin, begin + static_cast<std::ptrdiff_t>(part));
  }
  return ordered;
}

class PlainSource final : public TensorSource {
 public:
  PlainSource(std::unique_ptr<TensorSource> base, PlainNames names,
              std::map<std::string, std::string> extra)
      : base_(std::move(base)), plain_(std::move(names.tensors)), extra_(std::move(extra)) {
    for (const PlainTensor& tensor : plain_) {
      infos_.push_back(tensor.info);
    }
  }

  std::string_view format() const override { return base_->format(); }
  const std::string& path() const override { return base_->path(); }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::map<std::string, std::string> metadata() const override {
    std::map<std::string, std::string> all = extra_;
    all.merge(base_->metadata());
    return all;
  }

  Status read(size_t index, std::vector<std::byte>& out) const override {
    const PlainTensor& tensor = plain_[index];
    switch (tensor.change) {
      case Change::None:
      case Change::Vector:
        return base_->read(tensor.from, out);
      case Change::Joint:
        out.resize(static_cast<size_t>(tensor.info.n_bytes()));
        return read_range(index, 0, out);
      case Change::Transpose:
      case Change::MixDown:
      case Change::MixUp:
        break;
    }
    std::vector<std::byte> stored;
    RWKV_TRY(base_->read(tensor.from, stored));
    const std::vector<uint64_t>& shape = base_->tensors()[tensor.from].shape;
    const uint64_t width = traits(tensor.info.dtype).block_bytes;
    if (tensor.change == Change::MixDown) {
      stored = in_mix_order(stored);
    }
    transpose(stored, shape[shape.size() - 2], shape.back(), width, out);
    if (tensor.change == Change::MixUp) {
      out = in_mix_order(out);
    }
    return {};
  }

  Status read_range(size_t index, uint64_t offset, std::span<std::byte> out) const override {
    const PlainTensor& tensor = plain_[index];
    if (tensor.change == Change::None || tensor.change == Change::Vector) {
      return base_->read_range(tensor.from, offset, out);
    }
    if (tensor.change == Change::Joint) {
      return base_->read_range(tensor.from, tensor.part * tensor.info.n_bytes() + offset, out);
    }
    return TensorSource::read_range(index, offset, out);
  }

 private:
  std::unique_ptr<TensorSource> base_;
  std::vector<PlainTensor> plain_;
  std::vector<TensorInfo> infos_;
  std::map<std::string, std::string> extra_;
};

}  // namespace

std::unique_ptr<TensorSource> make_plain_source(std::unique_ptr<TensorSource> base,
                                                PlainNames names,
                                                std::map<std::string, std::string> extra) {
  return std::make_unique<PlainSource>(std::move(base), std::move(names), std::move(extra));
}

}  // namespace rwkv

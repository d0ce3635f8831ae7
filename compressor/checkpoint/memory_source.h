// A checkpoint in memory, for a model that this program created.
#pragma once

#include <string>
#include <vector>

#include "formats/container/tensor_source.h"

namespace rwkv::press {

class MemorySource final : public TensorSource {
 public:
  /// `name` stands for the path in messages.
  explicit MemorySource(std::string name) : name_(std::move(name)) {}

  /// `values` has as many elements as the shape.
  void add(const std::string& name, std::vector<uint64_t> shape, std::vector<float> values);

  std::string_view format() const override { return "memory"; }
  const std::string& path() const override { return name_; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Status read(size_t index, std::vector<std::byte>& out) const override;

 private:
  std::string name_;
  std::vector<TensorInfo> infos_;
  std::vector<std::vector<float>> values_;
};

}  // namespace rwkv::press

#include "compressor/checkpoint/memory_source.h"

namespace rwkv::press {

void MemorySource::add(const std::string& name, std::vector<uint64_t> shape,
                       std::vector<float> values) {
  infos_.push_back({name, DType::F32, std::move(shape)});
  values_.push_back(std::move(values));
}

Status MemorySource::read(size_t index, std::vector<std::byte>& out) const {
  const auto bytes = std::as_bytes(std::span(values_[index]));
  out.assign(bytes.begin(), bytes.end());
  return {};
}

}  // namespace rwkv::press

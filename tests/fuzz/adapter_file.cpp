// Any bytes as a safetensors file of an adapter, merged into a model: refused, or every merged
// tensor can be read. The first byte chooses alpha.
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "compressor/checkpoint/memory_source.h"
#include "compressor/checkpoint/merged_source.h"
#include "formats/container/safetensors_reader.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/seed_models.h"

using namespace rwkv;

namespace {

std::unique_ptr<TensorSource> base_model() {
  auto base = std::make_unique<press::MemorySource>("base");
  for (const TensorInfo& info : test::adapter_base()) {
    base->add(info.name, info.shape, std::vector<float>(info.n_elements(), 0.5f));
  }
  return base;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const test::MemoryFile file(std::as_bytes(std::span(data, size)).subspan(1));
  auto adapter = open_safetensors(file.path());
  if (!adapter.ok()) {
    return 0;
  }
  std::vector<press::OpenedAdapter> adapters;
  adapters.push_back({adapter.take(), std::nullopt});
  press::MergeOptions options;
  if (data[0] % 4 != 0) {
    options.alpha = data[0] % 4;
  }
  const auto merged = press::merge_adapters(base_model(), std::move(adapters), options);
  if (!merged.ok()) {
    return 0;
  }
  const TensorSource& source = *merged.value().source;
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    if (source.read(i, bytes).ok() && bytes.size() != source.tensors()[i].n_bytes()) {
      std::abort();
    }
  }
  return 0;
}

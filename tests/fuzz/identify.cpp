// identify() on lists of names and shapes decoded from bytes: a whole model of a version and of
// sizes that the first bytes choose, then spoiled by edits that the others choose. Bytes alone
// would hardly ever spell thirty names.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/formats/tensor_lists.h"

using namespace rwkv;

namespace {

// Hands out the input; zeros when it is used up.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ == size_; }
  uint8_t byte() { return empty() ? 0 : data_[at_++]; }
  /// Small numbers mostly, and a few of those that overflow.
  uint64_t number() {
    const uint8_t value = byte();
    return value < 240 ? value : uint64_t{1} << (4 * (value - 240) + 3);
  }
  std::string text() {
    std::string result;
    for (size_t n = byte() % 40; n > 0 && !empty(); --n) {
      result += static_cast<char>(byte());
    }
    return result;
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

std::vector<TensorInfo> whole_model(Input& in) {
  const uint8_t choice = in.byte();
  const uint8_t options = in.byte();
  test::ModelSizes sizes;
  for (uint64_t* size : {&sizes.n_layer, &sizes.n_vocab, &sizes.n_embd, &sizes.dim_ffn,
                         &sizes.n_head, &sizes.head_size, &sizes.mix_lora, &sizes.decay_lora}) {
    *size = in.byte() % 64 + 1;
  }
  sizes.n_layer = sizes.n_layer % 4 + 1;
  if ((options & 8) != 0) {
    const bool enhanced = (options & 16) != 0;
    return test::rwkv_lite_tensors(sizes,
                                   enhanced ? LowRankForm::ReluSquared : LowRankForm::Linear);
  }
  const auto shapes = (options & 1) != 0 ? ShapesAre::AsPacked : ShapesAre::AsInCheckpoint;
  return test::tensors_of(kVersions[choice % std::size(kVersions)].version, sizes,
                          {shapes, (options & 2) != 0, (options & 4) != 0});
}

void edit(std::vector<TensorInfo>& tensors, Input& in) {
  const uint8_t kind = in.byte();
  const size_t at = (in.byte() + 256u * in.byte()) % tensors.size();
  TensorInfo& tensor = tensors[at];
  switch (kind % 8) {
    case 0:
      tensor.name = in.text();
      break;
    case 1:
      tensor.name.resize(in.byte() % (tensor.name.size() + 1));
      tensor.name += in.text();
      break;
    case 2:
      tensor.shape.insert(tensor.shape.begin(), 1);
      break;
    case 3:
      tensor.shape.push_back(in.number());
      break;
    case 4:
      tensor.shape.assign(in.byte() % 5, in.number());
      break;
    case 5:
      if (!tensor.shape.empty()) {
        tensor.shape[in.byte() % tensor.shape.size()] = in.number();
      }
      break;
    case 6:
      tensors.push_back({in.text(), DType::F16, {in.number(), in.number()}});
      break;
    default:
      if (tensors.size() > 1) {
        tensors.erase(tensors.begin() + static_cast<ptrdiff_t>(at));
      }
      break;
  }
}

void check(const Identified& model, const std::vector<TensorInfo>& tensors) {
  std::vector<bool> seen(tensors.size());
  for (const TensorBinding& binding : model.tensors) {
    if (binding.source >= tensors.size() || seen[binding.source] ||
        binding.packed_rows() * binding.packed_cols() != tensors[binding.source].n_elements()) {
      std::abort();
    }
    seen[binding.source] = true;
  }
  if (model.tensors.size() != tensors.size() || describe(model.config).empty()) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  std::vector<TensorInfo> tensors = whole_model(in);
  for (int n = 0; n < 64 && !in.empty(); ++n) {
    edit(tensors, in);
  }
  for (const TensorInfo& tensor : tensors) {
    if (!check_tensor_size(tensor).ok()) {
      return 0;  // no reader lets it through
    }
  }
  for (const ShapesAre shapes : {ShapesAre::AsInCheckpoint, ShapesAre::AsPacked}) {
    const auto model = identify(tensors, shapes);
    if (model.ok()) {
      check(model.value(), tensors);
    }
  }
  return 0;
}

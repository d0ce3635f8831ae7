#include "compressor/stages/quantize_model.h"

#include <algorithm>
#include <map>

#include "compressor/calibrate/statistics.h"
#include "compressor/checkpoint/tensor.h"
#include "compressor/model/ends.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/quantizers/output_groups.h"
#include "compressor/stages/block_walk.h"
#include "compressor/stages/matrix_codes.h"
#include "compressor/stages/packed_form.h"

namespace rwkv::press {
namespace {

class ModelQuantizer {
 public:
  ModelQuantizer(Work& work, const ModelQuantizing& how) : work_(work), how_(how) {}
  Status run();

 private:
  std::vector<PlannedTensor*> tensors_of(int64_t block);
  const Quantizer& quantizer_for(const PlannedTensor& tensor) const;
  bool learns() const;
  Activations activations() const;
  Status visit(BlockVisit& here);
  Status quantize_second_factors(BlockVisit& here);
  Result<at::Tensor> inner_moments(BlockVisit& here, const std::string& product) const;
  Result<at::Tensor> head_moments() const;
  Result<OutputGroups> groups_of_head(const std::string& name) const;
  Status quantize_head(PlannedTensor& tensor);
  Result<at::Tensor> quantize(PlannedTensor& tensor, const at::Tensor& moments,
                              const OutputGroups* groups = nullptr);
  Status store_values(PlannedTensor& tensor, const at::Tensor& values);
  void report() const;

  Work& work_;
  const ModelQuantizing& how_;
  double error_ = 0;
  int64_t n_matrices_ = 0;
  // Of matrices whose codes no codec holds.
  uint64_t missing_codec_bytes_ = 0;
  int64_t n_missing_codec_ = 0;
};

std::vector<PlannedTensor*> ModelQuantizer::tensors_of(int64_t block) {
  std::vector<PlannedTensor*> tensors;
  for (PlannedTensor& tensor : work_.plan.tensors) {
    if (tensor.binding.block == block && codec_traits(tensor.codec).is_lossy &&
        tensor.binding.role != Role::SignBits) {
      tensors.push_back(&tensor);
    }
  }
  return tensors;
}

const Quantizer& ModelQuantizer::quantizer_for(const PlannedTensor& tensor) const {
  const auto own = how_.own.find(tensor.binding.name);
  return own == how_.own.end() ? how_.quantizer : *own->second;
}

// Replaces the tensor in the source by codes; returns the values of these codes, in the shape of
// the tensor.
Result<at::Tensor> ModelQuantizer::quantize(PlannedTensor& tensor, const at::Tensor& moments,
                                            const OutputGroups* groups) {
  const std::string& name = tensor.binding.name;
  RWKV_ASSIGN(const size_t index, work_.source->index_of(name));
  RWKV_ASSIGN(const at::Tensor values, load_f32(*work_.source, index));
  const EncodedForm form = form_of(tensor, work_.plan.config);
  if (encoded_form(*work_.source, index) == form) {
    return values;  // a packed file's own codes: nothing is rounded twice
  }
  RWKV_ASSIGN(QuantizerInput input, quantizer_input(*work_.source, tensor, work_.plan.config,
                                                    values, moments, work_.seed));
  input.groups = groups;
  const Quantizer& quantizer = quantizer_for(tensor);
  auto quantized = quantizer.quantize(input);
  RWKV_TRY(quantized.status().in("tensor '" + name + "'"));
  error_ += quantized.value().error;
  if (moments.defined()) {
    work_.errors[name] = quantized.value().error;
  }
  ++n_matrices_;
  if (quantized.value().values.defined()) {
    missing_codec_bytes_ += quantizer.bytes(input);
    ++n_missing_codec_;
    RWKV_TRY(store_values(tensor, chosen_values(input, quantized.value())));
  } else {
    const std::vector<uint64_t> own_shape(values.sizes().begin(), values.sizes().end());
    RWKV_TRY(work_.source->put_encoded(name, own_shape, form, quantized.value().codes));
  }
  return load_named(*work_.source, name);
}

// For codes that no codec holds.
Status ModelQuantizer::store_values(PlannedTensor& tensor, const at::Tensor& values) {
  tensor.codec = quantizer_for(tensor).stored_as(tensor.codec);
  return work_.replace(tensor.binding.name, values);
}

Status ModelQuantizer::visit(BlockVisit& here) {
  for (PlannedTensor* tensor : tensors_of(here.index)) {
    if (tensor->binding.part == Part::FactorB) {
      continue;
    }
    at::Tensor* member = member_of(here.block, tensor->binding);
    const at::Tensor moments =
        member != nullptr ? here.moments[product_of(tensor->binding)] : at::Tensor();
    RWKV_ASSIGN(const at::Tensor values, quantize(*tensor, moments));
    if (member != nullptr) {
      *member = values.reshape(member->sizes());
    }
  }
  return quantize_second_factors(here);
}

// After the first ones: their inputs are the outputs of the quantized first factors.
Status ModelQuantizer::quantize_second_factors(BlockVisit& here) {
  std::map<std::string, MomentSum> sums;
  std::vector<PlannedTensor*> seconds;
  for (PlannedTensor* tensor : tensors_of(here.index)) {
    if (tensor->binding.part == Part::FactorB) {
      seconds.push_back(tensor);
      sums[product_of(tensor->binding)];
    }
  }
  const bool observes = activations() == Activations::AfterChanges;
  if (observes && !seconds.empty()) {
    Walk::Products products;
    for (const auto& [product, sum] : sums) {
      products.push_back(product);
    }
    here.walk->observe(here.block, products, [&](const std::string& product, const at::Tensor& x) {
      sums.at(product).add(inputs_of_second(here.block.linears.at(product), x));
    });
  }
  for (PlannedTensor* tensor : seconds) {
    const std::string product = product_of(tensor->binding);
    at::Tensor moments;
    if (observes) {
      moments = sums[product].mean();
    } else if (activations() != Activations::None) {
      RWKV_ASSIGN(moments, inner_moments(here, product));
    }
    RWKV_ASSIGN(*member_of(here.block, tensor->binding), quantize(*tensor, moments));
  }
  return {};
}

// Of the original activations, as far as the first factor is linear: A H A^T.
Result<at::Tensor> ModelQuantizer::inner_moments(BlockVisit& here,
                                                 const std::string& product) const {
  const Linear& pair = here.block.linears.at(product);
  if (pair.squares) {
    return usage_error(
        "quantize.sequential: the pair '{}' of block {} squares what lies between its factors, and "
        "moments of its inputs do not tell those of the squares; leave sequential on",
        product, here.index);
  }
  const SingleThread one;
  return at::mm(at::mm(pair.factor_a, here.moments.at(product)), pair.factor_a.t());
}

bool ModelQuantizer::learns() const {
  return how_.quantizer.learns() ||
         std::any_of(how_.own.begin(), how_.own.end(),
                     [](const auto& own) { return own.second->learns(); });
}

Activations ModelQuantizer::activations() const {
  const bool only_squares = work_.calibration && has_only_squares(*work_.calibration);
  return !learns()                       ? Activations::None
         : only_squares                  ? Activations::FromFile
         : how_.sequential               ? Activations::AfterChanges
         : work_.calibration->statistics ? Activations::FromFile
                                         : Activations::Unchanged;
}

Result<at::Tensor> ModelQuantizer::head_moments() const {
  if (activations() == Activations::None) {
    return at::Tensor();
  }
  if (activations() == Activations::FromFile) {
    return work_.calibration->statistics->head_moments(
        static_cast<int64_t>(work_.plan.config.n_embd));
  }
  RWKV_ASSIGN(const at::Tensor z, head_input(*work_.source, work_.hidden));
  MomentSum sum;
  sum.add(z);
  return sum.mean();
}

// The head is loaded for the groups alone: quantize() loads it again, and it is large.
Result<OutputGroups> ModelQuantizer::groups_of_head(const std::string& name) const {
  RWKV_ASSIGN(const at::Tensor z, head_input(*work_.source, work_.hidden));
  RWKV_ASSIGN(const at::Tensor head, load_named(*work_.source, name));
  return OutputGroups::of_head(z, head, work_.seed, how_.head_groups);
}

// The costs of errors come from predictions. A statistics file does not tell them, and without
// sequential it must give what the text gives.
Status ModelQuantizer::quantize_head(PlannedTensor& tensor) {
  RWKV_ASSIGN(const at::Tensor moments, head_moments());
  const bool uses_groups = how_.sequential && activations() == Activations::AfterChanges &&
                           quantizer_for(tensor).uses_groups() &&
                           codec_traits(tensor.codec).lut != nullptr;
  if (!uses_groups) {
    return quantize(tensor, moments).status();
  }
  RWKV_ASSIGN(const OutputGroups groups, groups_of_head(tensor.binding.name));
  return quantize(tensor, moments, &groups).status();
}

void ModelQuantizer::report() const {
  work_.report(fmt::format("quantize: {} matrices, {:.3f} % of the {} energy lost on average",
                           n_matrices_,
                           100 * error_ / static_cast<double>(std::max<int64_t>(1, n_matrices_)),
                           learns() ? "output" : "weights'"));
  if (n_missing_codec_ > 0) {
    work_.report(
        fmt::format("quantize: {} matrices have codebooks that no codec holds, and are packed in "
                    "f16 to compare "
                    "with; as codes they would take {} bytes",
                    n_missing_codec_, missing_codec_bytes_));
  }
}

Status ModelQuantizer::run() {
  // The source returns embeddings without ln0, regardless of the form in which they will be packed.
  ModelConfig config = work_.plan.config;
  config.ln0_folded = false;
  const std::vector<PlannedTensor*> ends = tensors_of(-1);
  const auto quantize_beginning = [&]() -> Status {
    for (PlannedTensor* tensor : ends) {
      if (tensor->binding.role != Role::Head) {
        RWKV_TRY(quantize(*tensor, {}).status());
      }
    }
    return {};
  };
  if (how_.sequential) {
    RWKV_TRY(quantize_beginning());
  }
  const BlockWalk walk{.source = *work_.source,
                       .config = config,
                       .calibration = learns() ? &*work_.calibration : nullptr,
                       .activations = activations(),
                       .products =
                           [&](int64_t block) {
                             std::vector<std::string> products;
                             for (const PlannedTensor* tensor : tensors_of(block)) {
                               // With original activations, second factors need those too.
                               if (tensor->binding.part != Part::FactorB || !how_.sequential) {
                                 products.push_back(product_of(tensor->binding));
                               }
                             }
                             return products;
                           },
                       .progress = [&](Share share) { work_.progress("quantize", share); }};
  RWKV_ASSIGN(work_.hidden, walk.run([&](BlockVisit& here) { return visit(here); }));
  for (PlannedTensor* tensor : ends) {
    if (tensor->binding.role == Role::Head) {
      RWKV_TRY(quantize_head(*tensor));
    }
  }
  if (!how_.sequential) {
    work_.hidden = at::Tensor();  // of the original model
    RWKV_TRY(quantize_beginning());
  }
  report();
  return {};
}

}  // namespace

bool has_only_squares(const Calibration& calibration) {
  return calibration.statistics && calibration.statistics->has_only_squares();
}

Status quantize_model(Work& work, const ModelQuantizing& how) {
  return ModelQuantizer(work, how).run();
}

Status quantize_model(Work& work, const Quantizer& quantizer) {
  return quantize_model(work, ModelQuantizing{.quantizer = quantizer});
}

}  // namespace rwkv::press

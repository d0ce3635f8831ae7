#include "compressor/stages/shard_codes.h"

#include <algorithm>
#include <map>

#include "compressor/checkpoint/tensor.h"
#include "compressor/model/ends.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/quantizers/lut_rounding.h"
#include "compressor/quantizers/output_groups.h"
#include "compressor/stages/block_walk.h"
#include "compressor/stages/matrix_codes.h"
#include "compressor/stages/packed_form.h"
#include "compressor/stages/shard_plan.h"
#include "formats/base/checksum.h"
#include "formats/container/shard_index.h"

namespace rwkv::press {
namespace {

class ShardQuantizer {
 public:
  ShardQuantizer(Work& work, const Quantizer& quantizer) : work_(work), quantizer_(quantizer) {}
  Status run();

 private:
  struct Matrix {
    const PlannedShards::Matrix* shards;
    const PlannedTensor* tensor;
  };
  Result<at::Tensor> values_of(const PlannedTensor& tensor);
  Status visit(BlockVisit& here);
  Status quantize_head(const Matrix& matrix, const at::Tensor& hidden);
  Status quantize(const Matrix& matrix, const at::Tensor& values, const at::Tensor& moments,
                  const OutputGroups* groups = nullptr);

  Work& work_;
  const Quantizer& quantizer_;
  std::vector<Matrix> matrices_;
  uint64_t n_rounded_before_ = 0;
};

// In the checkpoint's orientation, [out, in], before they were rounded to full width.
Result<at::Tensor> ShardQuantizer::values_of(const PlannedTensor& tensor) {
  RWKV_ASSIGN(const size_t index, work_.source->index_of(tensor.binding.name));
  const std::vector<int64_t> shape(tensor.binding.shape.begin(), tensor.binding.shape.end());
  std::vector<float> values;
  RWKV_ASSIGN(const bool is_known, work_.source->read_unrounded(index, values));
  if (is_known) {
    return at::tensor(values).reshape(shape);
  }
  ++n_rounded_before_;
  RWKV_ASSIGN(const at::Tensor rounded, load_f32(*work_.source, index));
  return rounded.reshape(shape);
}

Status ShardQuantizer::quantize(const Matrix& matrix, const at::Tensor& values,
                                const at::Tensor& moments, const OutputGroups* groups) {
  const std::string& name = matrix.shards->name;
  for (size_t w = 0; w < matrix.shards->codecs.size(); ++w) {
    if (matrix.shards->codecs[w] == Codec::F32) {
      continue;
    }
    PlannedTensor copy = *matrix.tensor;
    copy.codec = matrix.shards->codecs[w];
    RWKV_ASSIGN(QuantizerInput input, quantizer_input(*work_.source, copy, work_.plan.config,
                                                      values, moments, work_.seed));
    input.groups = groups;
    auto quantized = quantizer_.quantize(input);
    RWKV_TRY(quantized.status().in("tensor '" + name + "'"));
    RWKV_TRY(work_.source->put_encoded(narrow_copy_name(name, work_.plan.shards.widths[w]),
                                       copy.binding.shape, form_of(copy, work_.plan.config),
                                       quantized.value().codes));
  }
  return {};
}

Status ShardQuantizer::visit(BlockVisit& here) {
  std::map<std::string, MomentSum> second;
  Walk::Products products;
  for (const Matrix& matrix : matrices_) {
    if (matrix.tensor->binding.block == here.index &&
        matrix.tensor->binding.part == Part::FactorB) {
      products.push_back(product_of(matrix.tensor->binding));
      second[products.back()];
    }
  }
  if (here.walk != nullptr && !products.empty()) {
    here.walk->observe(here.block, products, [&](const std::string& product, const at::Tensor& x) {
      second.at(product).add(inputs_of_second(here.block.linears.at(product), x));
    });
  }
  for (const Matrix& matrix : matrices_) {
    const TensorBinding& binding = matrix.tensor->binding;
    if (binding.block != here.index) {
      continue;
    }
    at::Tensor moments;
    if (here.walk != nullptr) {
      const std::string product = product_of(binding);
      moments =
          binding.part == Part::FactorB ? second.at(product).mean() : here.moments.at(product);
    }
    RWKV_ASSIGN(const at::Tensor values, values_of(*matrix.tensor));
    RWKV_TRY(quantize(matrix, values, moments));
  }
  return {};
}

Status ShardQuantizer::quantize_head(const Matrix& matrix, const at::Tensor& hidden) {
  RWKV_ASSIGN(const at::Tensor values, values_of(*matrix.tensor));
  if (!hidden.defined()) {
    return quantize(matrix, values, {});
  }
  RWKV_ASSIGN(const at::Tensor z, head_input(*work_.source, hidden));
  MomentSum sum;
  sum.add(z);
  if (!quantizer_.uses_groups()) {
    return quantize(matrix, values, sum.mean());
  }
  RWKV_ASSIGN(const OutputGroups groups, OutputGroups::of_head(z, values, work_.seed));
  return quantize(matrix, values, sum.mean(), &groups);
}

Status ShardQuantizer::run() {
  for (const PlannedShards::Matrix& shards : work_.plan.shards.matrices) {
    matrices_.push_back({&shards, work_.plan.find(shards.name)});
  }
  // The source returns embeddings without ln0, regardless of the form in which they will be packed.
  ModelConfig config = work_.plan.config;
  config.ln0_folded = false;
  const bool learns = quantizer_.learns();
  const BlockWalk walk{.source = *work_.source,
                       .config = config,
                       .calibration = learns ? &*work_.calibration : nullptr,
                       .activations = learns ? Activations::AfterChanges : Activations::None,
                       .products =
                           [&](int64_t block) {
                             std::vector<std::string> products;
                             for (const Matrix& matrix : matrices_) {
                               const TensorBinding& binding = matrix.tensor->binding;
                               if (binding.block == block && binding.part != Part::FactorB) {
                                 products.push_back(product_of(binding));
                               }
                             }
                             return products;
                           },
                       .progress = [&](Share share) { work_.progress("codes of widths", share); }};
  RWKV_ASSIGN(const at::Tensor hidden, walk.run([&](BlockVisit& here) { return visit(here); }));
  for (const Matrix& matrix : matrices_) {
    if (matrix.tensor->binding.block < 0) {
      RWKV_TRY(quantize_head(matrix, hidden));
    }
  }
  if (n_rounded_before_ > 0) {
    work_.report(
        fmt::format("shards: of {} matrices only rounded values are known, which the "
                    "narrower copies round again",
                    n_rounded_before_));
  }
  return {};
}

// What the packer would do.
Status round_whole(Work& work, const PlannedTensor& tensor, size_t index) {
  const EncodedForm form = form_of(tensor, work.plan.config);
  RWKV_ASSIGN(const at::Tensor values, load_f32(*work.source, index));
  RWKV_ASSIGN(const QuantizerInput input,
              quantizer_input(*work.source, tensor, work.plan.config, values, {}, work.seed));
  std::vector<std::byte> codes(form.n_bytes());
  const std::span<const float> floats(input.weights.data_ptr<float>(),
                                      static_cast<size_t>(input.weights.numel()));
  const MatrixShape shape{form.rows, form.cols, form.is_transposed ? Outputs::Cols : Outputs::Rows};
  RWKV_TRY(encode_on_threads(tensor.codec, floats, shape, codes)
               .in("tensor '" + tensor.binding.name + "'"));
  return work.source->put_encoded(tensor.binding.name, work.source->tensors()[index].shape, form,
                                  codes);
}

std::span<const std::byte> units_of(std::span<const std::byte> codes, Codec codec, uint64_t cols,
                                    const RowRange& rows) {
  const CodecTraits& traits = codec_traits(codec);
  return codes.subspan(
      traits.shared_bytes(cols) + rows.first / traits.unit_rows * traits.unit_bytes(cols),
      piece_bytes(codec, rows, cols));
}

}  // namespace

Result<std::vector<std::string>> round_to_full_width(Work& work) {
  std::vector<std::string> rounded;
  for (const PlannedShards::Matrix& matrix : work.plan.shards.matrices) {
    const PlannedTensor& tensor = *work.plan.find(matrix.name);
    RWKV_ASSIGN(const size_t index, work.source->index_of(matrix.name));
    if (!is_in_form(*work.source, index, tensor, work.plan.config)) {
      RWKV_TRY(round_whole(work, tensor, index));
      rounded.push_back(matrix.name);
    }
  }
  return rounded;
}

Status quantize_shards(Work& work, const Quantizer& quantizer) {
  return ShardQuantizer(work, quantizer).run();
}

std::vector<std::byte> codes_of_pieces(std::span<const std::byte> codes, Codec codec, uint64_t rows,
                                       uint64_t cols, uint64_t piece_rows,
                                       std::span<const uint64_t> pieces) {
  const auto shared = codes.first(codec_traits(codec).shared_bytes(cols));
  std::vector<std::byte> result(shared.begin(), shared.end());
  const std::vector<RowRange> all = pieces_of(rows, piece_rows);
  for (const uint64_t piece : pieces) {
    const auto units = units_of(codes, codec, cols, all[piece]);
    result.insert(result.end(), units.begin(), units.end());
  }
  return result;
}

Status sum_up_pieces(Work& work) {
  PlannedShards& shards = work.plan.shards;
  const size_t n = shards.widths.size();
  for (PlannedShards::Matrix& matrix : shards.matrices) {
    const PlannedTensor& tensor = *work.plan.find(matrix.name);
    const uint64_t cols = tensor.binding.packed_cols();
    const std::vector<RowRange> pieces = pieces_of(tensor.binding.packed_rows(), matrix.piece_rows);
    for (size_t w = 0; w <= n; ++w) {  // the first is full width
      const Codec codec = w == 0 ? tensor.codec : matrix.codecs[w - 1];
      if (codec == Codec::F32) {
        continue;
      }
      RWKV_ASSIGN(const size_t index,
                  work.source->index_of(
                      w == 0 ? matrix.name : narrow_copy_name(matrix.name, shards.widths[w - 1])));
      std::vector<std::byte> codes;
      RWKV_TRY(read_codes(*work.source, index, codes));
      for (size_t p = 0; p < pieces.size(); ++p) {
        if (w == 0 || matrix.losses[p * n + w - 1] != PlannedShards::kAbsent) {
          matrix.xxh64[p * (n + 1) + w] = xxh64(units_of(codes, codec, cols, pieces[p]));
        }
      }
    }
  }
  return {};
}

}  // namespace rwkv::press

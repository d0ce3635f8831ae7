#include "compressor/llama_cpp/export.h"

#include <algorithm>
#include <cmath>

#include "compressor/calibrate/sensitivity.h"
#include "compressor/calibrate/statistics.h"
#include "compressor/llama_cpp/block_rounding.h"
#include "compressor/llama_cpp/layout.h"
#include "compressor/llama_cpp/vocabulary.h"
#include "compressor/model/ends.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/stages/block_walk.h"
#include "formats/container/gguf_writer.h"

namespace rwkv::press {
namespace {

constexpr uint64_t kSeed = 0;
constexpr double kOfEmbedding = 0.3;   // the share of the work that its gradients are
constexpr uint64_t kMostLayers = 512;  // of llama.cpp
constexpr float kEpsilon = 64e-5f;     // of the group norm, fixed in llama.cpp
constexpr const char* kInstead =
    "write a checkpoint with rwkv-press export -o OUT.pth, or run the packed file with rwkv-edge";

// Whether rounding to a type asks for statistics.
bool uses_statistics(DType type) {
  return traits(type).block > 1 && type != DType::Q8_0;
}

// W of a product, [out, in]; a pair multiplied out.
at::Tensor dense_of(const Linear& linear) {
  if (!linear.is_pair()) {
    return linear.dense.contiguous();
  }
  const SingleThread one;  // the same bits with any number of threads
  at::Tensor product = at::mm(linear.factor_b, linear.factor_a);
  if (linear.diagonal.defined()) {
    product.diagonal().add_(linear.diagonal);
  }
  return product.contiguous();
}

class Exporter {
 public:
  Exporter(const TensorSource& source, const Identified& model, const LlamaCppOptions& options)
      : source_(source),
        model_(model),
        options_(options),
        types_{options.type, options.head, options.embedding} {}

  Result<LlamaCppResult> run();

 private:
  Status begin();
  Status write_plain(const OutputTensor& tensor);
  Status write_products(BlockVisit& here);
  Status write_embedding(const OutputTensor& tensor);
  Status write_head(const OutputTensor& tensor);
  Result<at::Tensor> values_of(const OutputTensor& tensor) const;
  Result<at::Tensor> append(const at::Tensor& values, const OutputTensor& tensor,
                            const InputStatistics& statistics);
  InputStatistics statistics_of(const OutputTensor& tensor, const at::Tensor& moments) const;
  // Whether text goes through the model.
  bool learns() const { return options_.calibration && !has_only_squares(); }
  bool has_only_squares() const {
    return options_.calibration && options_.calibration->statistics &&
           options_.calibration->statistics->has_only_squares();
  }

  const TensorSource& source_;
  const Identified& model_;
  const LlamaCppOptions& options_;
  LlamaCppTypes types_;
  std::vector<OutputTensor> tensors_;
  std::unique_ptr<GgufWriter> writer_;
  double done_ = 0;    // the share of the work before the blocks
  at::Tensor hidden_;  // after the last block, if text goes through the model
  LlamaCppResult result_;
};

Status Exporter::begin() {
  tensors_ = llama_cpp_layout(model_, types_, result_.notes);
  GgufMetadata metadata = llama_cpp_settings(model_.config, types_, options_.model_name);
  RWKV_TRY(append_llama_cpp_vocabulary(options_.vocabulary, options_.chat, model_.config.n_vocab,
                                       metadata, result_.notes));
  std::vector<GgufTensorPlan> plans;
  for (const OutputTensor& tensor : tensors_) {
    const TensorInfo info{tensor.from.name, tensor.type, tensor.shape};
    plans.push_back({info.name,
                     block_type(tensor.type).ggml,
                     {tensor.shape.rbegin(), tensor.shape.rend()},
                     info.n_bytes()});
  }
  RWKV_ASSIGN(writer_, GgufWriter::create(options_.output, options_.existing, std::move(metadata),
                                          std::move(plans)));
  return {};
}

Result<at::Tensor> Exporter::append(const at::Tensor& values, const OutputTensor& tensor,
                                    const InputStatistics& statistics) {
  const at::Tensor rows =
      values.reshape({-1, static_cast<int64_t>(tensor.shape.back())}).contiguous();
  auto rounded = round_to_type(rows, tensor.type, statistics);
  RWKV_TRY(rounded.status().in(
      fmt::format("{}: tensor '{}'", source_.path(), tensor.from.sources.front())));
  RWKV_TRY(writer_->append(rounded.value().bytes));
  ++result_.n_tensors;
  return rounded.value().values.reshape(values.sizes());
}

// In the shape of the output.
Result<at::Tensor> Exporter::values_of(const OutputTensor& tensor) const {
  std::vector<at::Tensor> parts;
  for (const std::string& name : tensor.from.sources) {
    RWKV_ASSIGN(at::Tensor part, load_named(source_, name));
    parts.push_back(tensor.from.form == LlamaCppForm::Fused ? part.reshape({1, -1}) : part);
  }
  at::Tensor values = parts.size() == 1 ? parts.front() : at::cat(parts, 0);
  if (tensor.from.form == LlamaCppForm::Transposed) {
    values = values.transpose(-1, -2);
  }
  const std::vector<int64_t> shape(tensor.shape.begin(), tensor.shape.end());
  return values.reshape(shape);
}

Status Exporter::write_plain(const OutputTensor& tensor) {
  RWKV_ASSIGN(const at::Tensor values, values_of(tensor));
  return append(values, tensor, {}).status();
}

// What the network sees of a row is the row after ln0, whose weights multiply errors too.
Status Exporter::write_embedding(const OutputTensor& tensor) {
  RWKV_ASSIGN(const at::Tensor values, values_of(tensor));
  RWKV_ASSIGN(const at::Tensor ln0, load_named(source_, "blocks.0.ln0.weight"));
  const at::Tensor scale = ln0.reshape({-1});
  if (!learns() || !uses_statistics(tensor.type)) {
    return append(values, tensor, {{}, scale.square()}).status();
  }
  RWKV_ASSIGN(const at::Tensor moments,
              embedding_moments(source_, model_.config, options_.calibration->tokens, kSeed,
                                [&](double share) { options_.progress(share * kOfEmbedding); }));
  done_ = kOfEmbedding;
  return append(values, tensor, {moments * at::outer(scale, scale), {}}).status();
}

Status Exporter::write_head(const OutputTensor& tensor) {
  RWKV_ASSIGN(const at::Tensor values, values_of(tensor));
  if (!hidden_.defined() || !uses_statistics(tensor.type)) {
    return append(values, tensor, statistics_of(tensor, {})).status();
  }
  RWKV_ASSIGN(const at::Tensor z, head_input(source_, hidden_));
  RWKV_ASSIGN(const OutputGroups groups, OutputGroups::of_head(z, values, kSeed));
  return append(values, tensor, {{}, {}, &groups}).status();
}

InputStatistics Exporter::statistics_of(const OutputTensor& tensor,
                                        const at::Tensor& moments) const {
  InputStatistics statistics;
  if (!uses_statistics(tensor.type)) {
    return statistics;
  }
  statistics.moments = moments;
  if (has_only_squares()) {
    statistics.squares = options_.calibration->statistics->squares(tensor.block, tensor.product);
  }
  return statistics;
}

// The tensors of a block; its products continue with the rounded values.
Status Exporter::write_products(BlockVisit& here) {
  for (const OutputTensor& tensor : tensors_) {
    if (tensor.block != here.index || tensor.from.sources.front() == "blocks.0.ln0.weight" ||
        tensor.from.sources.front() == "blocks.0.ln0.bias") {
      continue;
    }
    if (tensor.product.empty()) {
      RWKV_TRY(write_plain(tensor));
      continue;
    }
    Linear& linear = here.block.linears.at(tensor.product);
    const auto found = here.moments.find(tensor.product);
    const at::Tensor moments = found != here.moments.end() ? found->second : at::Tensor();
    RWKV_ASSIGN(const at::Tensor rounded,
                append(dense_of(linear), tensor, statistics_of(tensor, moments)));
    linear = Linear{};
    linear.dense = rounded;
  }
  return {};
}

Result<LlamaCppResult> Exporter::run() {
  RWKV_TRY(begin());
  RWKV_TRY(write_embedding(tensors_[0]));
  RWKV_TRY(write_plain(tensors_[1]));
  RWKV_TRY(write_plain(tensors_[2]));
  const BlockWalk walk{
      .source = source_,
      .config = model_.config,
      .calibration = learns() ? &*options_.calibration : nullptr,
      .activations = learns() ? Activations::AfterChanges : Activations::None,
      .products =
          [&](int64_t block) {
            std::vector<std::string> products;
            for (const OutputTensor& tensor : tensors_) {
              if (tensor.block == block && !tensor.product.empty() &&
                  uses_statistics(tensor.type)) {
                products.push_back(tensor.product);
              }
            }
            return products;
          },
      .progress = [&](Share share) { options_.progress(done_ + share.done * (1 - done_)); }};
  RWKV_ASSIGN(hidden_, walk.run([&](BlockVisit& here) { return write_products(here); }));
  const size_t n = tensors_.size();
  RWKV_TRY(write_plain(tensors_[n - 3]));
  RWKV_TRY(write_plain(tensors_[n - 2]));
  RWKV_TRY(write_head(tensors_[n - 1]));
  RWKV_TRY(writer_->finish());
  return std::move(result_);
}

std::vector<std::string> what_is_changed(const Identified& model) {
  const auto is_part = [](const TensorBinding& tensor) { return tensor.part == Part::FactorB; };
  const auto n_pairs = std::count_if(model.tensors.begin(), model.tensors.end(), is_part);
  std::vector<std::string> notes;
  if (n_pairs > 0) {
    notes.push_back(fmt::format(
        "{} factor pairs are multiplied out: llama.cpp has only dense matrices", n_pairs));
  }
  return notes;
}

}  // namespace

Status check_llama_cpp_runs(const Identified& model, const std::string& path) {
  const ModelConfig& config = model.config;
  if (llama_cpp_architecture(config.version) == nullptr) {
    return bad_input("{}: is {}, and llama.cpp runs only RWKV v6 and v7; {}", path,
                     version_label(config), kInstead);
  }
  if (config.low_rank == LowRankForm::ReluSquared) {
    return bad_input(
        "{}: has factor pairs with relu between them, which llama.cpp has no place "
        "for; {}",
        path, kInstead);
  }
  if (config.dim_att != config.n_embd) {
    return bad_input(
        "{}: has {} channels in time_mix and {} outside of it, which llama.cpp "
        "expects to be equal; {}",
        path, config.dim_att, config.n_embd, kInstead);
  }
  if (std::fabs(config.group_norm_eps - kEpsilon) > kEpsilon / 1000) {
    return bad_input("{}: has a group norm epsilon of {}, and llama.cpp computes with {}; {}", path,
                     config.group_norm_eps, kEpsilon, kInstead);
  }
  if (config.n_layer > kMostLayers) {
    return bad_input("{}: has {} blocks, and llama.cpp takes at most {}; {}", path, config.n_layer,
                     kMostLayers, kInstead);
  }
  for (const TensorBinding& tensor : model.tensors) {
    if (tensor.role == Role::InitialState) {
      return bad_input("{}: begins with a tuned state ('{}'), which llama.cpp has no place for; {}",
                       path, tensor.name, kInstead);
    }
  }
  return {};
}

Result<LlamaCppResult> export_to_llama_cpp(const TensorSource& source, const Identified& model,
                                           const LlamaCppOptions& options) {
  RWKV_TRY(check_llama_cpp_runs(model, source.path()));
  RWKV_ASSIGN(LlamaCppResult result, Exporter(source, model, options).run());
  const std::vector<std::string> changed = what_is_changed(model);
  result.notes.insert(result.notes.begin(), changed.begin(), changed.end());
  return result;
}

}  // namespace rwkv::press

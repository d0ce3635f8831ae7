#include "compressor/calibrate/imatrix.h"

#include <map>

#include "compressor/calibrate/walk.h"
#include "compressor/model/ends.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "formats/container/llama_cpp_names.h"

namespace rwkv::press {
namespace {

const char* architecture_of(Version version) {
  return version == Version::V6 ? "rwkv6" : version == Version::V7 ? "rwkv7" : "";
}

// The products of a block and the number of their inputs.
std::map<std::string, uint64_t> products_of(const ModelConfig& config) {
  std::map<std::string, uint64_t> products = {
      {"att.receptance", config.n_embd}, {"att.key", config.n_embd}, {"att.value", config.n_embd},
      {"att.output", config.dim_att},    {"ffn.key", config.n_embd}, {"ffn.value", config.dim_ffn}};
  if (config.version == Version::V6) {
    products["att.gate"] = config.n_embd;
    products["ffn.receptance"] = config.n_embd;
  }
  return products;
}

Status check_version(const ModelConfig& config, const std::string& path) {
  if (*architecture_of(config.version) == '\0') {
    return usage_error(
        "{}: an imatrix belongs to llama.cpp's RWKV-6 and RWKV-7, and this model is {}; use a "
        "statistics file of rwkv-press calibrate -o",
        path, version_label(config));
  }
  return {};
}

// Sums of squares of the inputs that pass by; in double, so that long texts lose nothing.
class SquareSum {
 public:
  void add(const at::Tensor& inputs) {
    const SingleThread one;
    const at::Tensor squares = inputs.square().sum(0, false, at::kDouble);
    sum_ = sum_.defined() ? sum_ + squares : squares;
    n_ += static_cast<uint64_t>(inputs.size(0));
  }
  ImatrixSums named(std::string name) const {
    const at::Tensor values = sum_.cpu().to(at::kFloat).contiguous();
    const float* from = values.data_ptr<float>();
    return {std::move(name), {from, from + values.numel()}, n_};
  }

 private:
  at::Tensor sum_;
  uint64_t n_ = 0;
};

}  // namespace

std::string llama_cpp_matrix(const ModelConfig& config, int64_t block, const std::string& product) {
  const std::string wanted =
      block < 0 ? product + ".weight" : fmt::format("blocks.0.{}.weight", product);
  for (const LlamaCppTensor& tensor : llama_cpp_tensors(architecture_of(config.version), 1)) {
    if (tensor.sources.front() == wanted) {
      constexpr std::string_view kFirst = "blk.0";
      return block < 0 ? tensor.name
                       : fmt::format("blk.{}{}", block, tensor.name.substr(kFirst.size()));
    }
  }
  return "";
}

Result<std::shared_ptr<const ImatrixStatistics>> ImatrixStatistics::open(
    const std::string& path, const ModelConfig& config) {
  RWKV_TRY(check_version(config, path));
  RWKV_ASSIGN(Imatrix imatrix, read_imatrix(path));
  const std::shared_ptr<ImatrixStatistics> statistics(
      new ImatrixStatistics(std::move(imatrix), config));
  const auto& found = statistics->imatrix_.mean_squares;
  const auto other_model = [&](const std::string& name, uint64_t n_in) {
    const auto at = found.find(name);
    return usage_error(
        "{}: is the imatrix of another model: expected {} with {} inputs, found {}; make one of "
        "this model with llama-imatrix or rwkv-press calibrate --imatrix",
        path, name, n_in,
        at == found.end() ? std::string("none") : std::to_string(at->second.size()));
  };
  const auto has = [&](const std::string& name, uint64_t n_in) {
    const auto at = found.find(name);
    return at != found.end() && at->second.size() == n_in;
  };
  for (uint64_t block = 0; block < config.n_layer; ++block) {
    for (const auto& [product, n_in] : products_of(config)) {
      const std::string name = llama_cpp_matrix(config, static_cast<int64_t>(block), product);
      if (!has(name, n_in)) {
        return other_model(name, n_in);
      }
    }
  }
  const std::string head = llama_cpp_matrix(config, -1, "head");
  if (found.contains(head) && !has(head, config.n_embd)) {
    return other_model(head, config.n_embd);
  }
  const std::string beyond = fmt::format("blk.{}.", config.n_layer);
  const auto next = found.lower_bound(beyond);
  if (next != found.end() && next->first.starts_with(beyond)) {
    return usage_error(
        "{}: is the imatrix of another model: it has {}, and this model has {} blocks; make one "
        "of this model with llama-imatrix or rwkv-press calibrate --imatrix",
        path, next->first, config.n_layer);
  }
  return std::shared_ptr<const ImatrixStatistics>(statistics);
}

at::Tensor ImatrixStatistics::squares(int64_t block, const std::string& product) const {
  const auto found = imatrix_.mean_squares.find(llama_cpp_matrix(config_, block, product));
  return found == imatrix_.mean_squares.end() ? at::Tensor() : at::tensor(found->second);
}

Status write_imatrix_of(const TensorSource& source, const ModelConfig& config,
                        const Calibration& calibration, const std::string& text,
                        const std::string& path, OutputFile::Existing existing,
                        const std::function<void(double share)>& progress,
                        const at::Device& device) {
  RWKV_TRY(check_version(config, source.path()));
  RWKV_ASSIGN(Walk walk, Walk::begin(source, config, calibration.tokens, device));
  std::vector<ImatrixSums> matrices;
  for (uint64_t i = 0; i < config.n_layer; ++i) {
    const auto index = static_cast<int64_t>(i);
    RWKV_ASSIGN(const std::unique_ptr<Block> block, Block::load(source, config, index, device));
    std::map<std::string, SquareSum> sums;
    walk.advance(*block, [&](const std::string& product, const at::Tensor& inputs) {
      sums[product].add(inputs);
    });
    for (const auto& [product, sum] : sums) {
      matrices.push_back(sum.named(llama_cpp_matrix(config, index, product)));
    }
    progress(static_cast<double>(i + 1) / static_cast<double>(config.n_layer));
  }
  RWKV_ASSIGN(const at::Tensor z, head_input(source, walk.hidden().cpu()));
  SquareSum head;
  head.add(z);
  matrices.push_back(head.named(llama_cpp_matrix(config, -1, "head")));
  return write_imatrix(path, existing, std::move(matrices), text,
                       static_cast<uint64_t>(calibration.tokens.size(1)));
}

}  // namespace rwkv::press

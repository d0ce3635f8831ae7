#include "compressor/calibrate/statistics.h"

#include <cstring>
#include <map>

#include "compressor/calibrate/imatrix.h"
#include "compressor/calibrate/walk.h"
#include "compressor/checkpoint/checkpoint_files.h"
#include "compressor/checkpoint/sealed_file.h"
#include "compressor/checkpoint/tensor.h"
#include "compressor/model/ends.h"
#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"
#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"

namespace rwkv::press {
namespace {

constexpr const char* kSourceName = "source.xxh64";
constexpr const char* kNeurons = "ffn.value";  // the product whose inputs are relu(k)^2
constexpr const char* kMomentsSuffix = ".moments";
constexpr const char* kHeadMoments = "head.moments";

std::string in_block(int64_t block, const std::string& name) {
  return fmt::format("blocks.{}.{}", block, name);
}

// What one block contributes, by the tensors' names.
using BlockSums = std::map<std::string, at::Tensor>;

bool has_moments(const std::string& product, MomentsOf of) {
  return of == MomentsOf::All || product != kNeurons;
}

BlockSums observe_block(Walk& walk, const Block& block, int64_t index, MomentsOf of) {
  std::map<std::string, MomentSum> moments;
  at::Tensor active;
  at::Tensor energy;
  int64_t n_tokens = 0;
  walk.advance(block, [&](const std::string& name, const at::Tensor& inputs) {
    if (has_moments(name, of)) {
      moments[name].add(inputs);
    }
    if (name != kNeurons) {
      return;
    }
    const at::Tensor n_active = inputs.gt(0).sum(0, false, at::kFloat);
    const at::Tensor squares = inputs.square().sum(0);
    active = active.defined() ? active + n_active : n_active;
    energy = energy.defined() ? energy + squares : squares;
    n_tokens += inputs.size(0);
  });
  BlockSums sums;
  for (const auto& [name, sum] : moments) {
    sums[in_block(index, name + kMomentsSuffix)] = sum.mean().cpu();
  }
  sums[in_block(index, "ffn.active")] = (active / static_cast<double>(n_tokens)).cpu();
  sums[in_block(index, "ffn.energy")] = (energy / static_cast<double>(n_tokens)).cpu();
  return sums;
}

void append_floats(const at::Tensor& tensor, std::vector<std::byte>& out) {
  const at::Tensor values = tensor.contiguous();
  out.resize(values.nbytes());
  std::memcpy(out.data(), values.data_ptr<float>(), out.size());
}

// Every block has the same products as the first one, whose shapes give the list of tensors.
std::vector<TensorInfo> list_tensors(const Block& first, const ModelConfig& config,
                                     const Calibration& calibration, MomentsOf of) {
  std::vector<TensorInfo> infos = {{kSourceName, DType::U8, {8}},
                                   {"tokens",
                                    DType::I32,
                                    {static_cast<uint64_t>(calibration.tokens.size(0)),
                                     static_cast<uint64_t>(calibration.tokens.size(1))}},
                                   {"frequencies", DType::F32, {config.n_vocab}}};
  for (uint64_t i = 0; i < config.n_layer; ++i) {
    const auto block = static_cast<int64_t>(i);
    std::map<std::string, std::vector<uint64_t>> shapes = {
        {in_block(block, "ffn.active"), {config.dim_ffn}},
        {in_block(block, "ffn.energy"), {config.dim_ffn}}};
    for (const auto& [name, linear] : first.linears) {
      if (has_moments(name, of)) {
        const at::Tensor& reads = linear.is_pair() ? linear.factor_a : linear.dense;
        const auto n = static_cast<uint64_t>(reads.size(1));
        shapes[in_block(block, name + kMomentsSuffix)] = {n, n};
      }
    }
    for (auto& [name, shape] : shapes) {
      infos.push_back({name, DType::F32, std::move(shape)});
    }
  }
  if (of == MomentsOf::All) {
    infos.push_back({kHeadMoments, DType::F32, {config.n_embd, config.n_embd}});
  }
  return infos;
}

Status read_fixed(size_t index, uint64_t checksum, const Calibration& calibration,
                  std::vector<std::byte>& out) {
  if (index == 0) {
    out.resize(sizeof(uint64_t));
    store_le(out.data(), checksum);
  } else if (index == 1) {
    const at::Tensor tokens = calibration.tokens.to(at::kInt).contiguous();
    out.resize(tokens.nbytes());
    std::memcpy(out.data(), tokens.data_ptr<int32_t>(), out.size());
  } else {
    append_floats(calibration.frequencies, out);
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<const Statistics>> Statistics::open(const std::string& path,
                                                           const ModelConfig& config,
                                                           const std::string& checkpoint) {
  if (looks_like_imatrix(path)) {
    std::shared_ptr<Statistics> squares(new Statistics(nullptr));
    RWKV_ASSIGN(squares->imatrix_, ImatrixStatistics::open(path, config));
    return std::shared_ptr<const Statistics>(std::move(squares));
  }
  RWKV_ASSIGN(auto source, open_sealed(path));
  std::shared_ptr<Statistics> statistics(new Statistics(std::move(source)));
  statistics->n_vocab_ = static_cast<int64_t>(config.n_vocab);
  uint64_t belongs_to = 0;
  bool is_found = false;
  for (size_t i = 0; i < statistics->source_->tensors().size(); ++i) {
    const TensorInfo& info = statistics->source_->tensors()[i];
    if (info.name == kSourceName && info.n_bytes() == sizeof(uint64_t)) {
      std::vector<std::byte> bytes;
      RWKV_TRY(statistics->source_->read(i, bytes));
      belongs_to = load_le<uint64_t>(bytes.data());
      is_found = true;
    }
  }
  if (!is_found) {
    return bad_input("{}: not a statistics file of rwkv-press calibrate; make one with it", path);
  }
  RWKV_ASSIGN(const uint64_t checksum, checkpoint_xxh64(checkpoint));
  if (checksum != belongs_to) {
    return usage_error(
        "{}: was made with a checkpoint of XXH64 {:016x}, {} has {:016x}; run rwkv-press calibrate "
        "on this one",
        path, belongs_to, checkpoint, checksum);
  }
  return std::shared_ptr<const Statistics>(std::move(statistics));
}

Result<at::Tensor> Statistics::tensor(const std::string& name, at::IntArrayRef shape) const {
  for (size_t i = 0; i < source_->tensors().size(); ++i) {
    if (source_->tensors()[i].name == name) {
      RWKV_ASSIGN(at::Tensor values, load_f32(*source_, i));
      if (!shape.empty() && values.sizes() != shape) {
        return bad_input(
            "{}: tensor '{}' has shape {}, which does not fit the model; run rwkv-press calibrate "
            "again",
            source_->path(), name, shape_to_string(source_->tensors()[i].shape));
      }
      if (!at::isfinite(values).all().item<bool>()) {
        return bad_input(
            "{}: tensor '{}' has values that are not finite; run rwkv-press calibrate again",
            source_->path(), name);
      }
      return values;
    }
  }
  return bad_input("{}: tensor '{}' is missing; run rwkv-press calibrate again", source_->path(),
                   name);
}

Result<Calibration> Statistics::calibration() const {
  Calibration calibration;
  if (has_only_squares()) {
    calibration.statistics = shared_from_this();
    return calibration;
  }
  RWKV_ASSIGN(calibration.frequencies, tensor("frequencies", {n_vocab_}));
  RWKV_ASSIGN(const at::Tensor tokens, tensor("tokens", {}));
  calibration.tokens = tokens.to(at::kLong);
  if (tokens.dim() != 2 || tokens.numel() == 0 || tokens.min().item<float>() < 0 ||
      tokens.max().item<float>() >= static_cast<float>(n_vocab_)) {
    return bad_input("{}: its tokens do not fit a vocabulary of {}; run rwkv-press calibrate again",
                     source_->path(), n_vocab_);
  }
  calibration.statistics = shared_from_this();
  return calibration;
}

Result<at::Tensor> Statistics::moments(int64_t block, const std::string& product,
                                       int64_t n_in) const {
  if (has_only_squares()) {
    return at::diag(squares(block, product));
  }
  return moments_named(in_block(block, product + kMomentsSuffix), n_in);
}

Result<at::Tensor> Statistics::head_moments(int64_t n_embd) const {
  if (has_only_squares()) {
    const at::Tensor head = squares(-1, "head");
    return head.defined() ? at::diag(head) : head;
  }
  return moments_named(kHeadMoments, n_embd);
}

Result<at::Tensor> Statistics::moments_named(const std::string& name, int64_t n_in) const {
  if (!find_tensor(*source_, name)) {
    return bad_input(
        "{}: expected '{}', the moments of a product's inputs, found none; make the statistics "
        "again with rwkv-press calibrate --all-moments",
        source_->path(), name);
  }
  return tensor(name, {n_in, n_in});
}

at::Tensor Statistics::squares(int64_t block, const std::string& product) const {
  return imatrix_ ? imatrix_->squares(block, product) : at::Tensor();
}

Status write_statistics(const TensorSource& source, const ModelConfig& config,
                        const Calibration& calibration, const std::string& path,
                        OutputFile::Existing existing,
                        const std::function<void(double share)>& progress, MomentsOf of,
                        const at::Device& device) {
  RWKV_ASSIGN(const uint64_t checksum, checkpoint_xxh64(source.path()));
  RWKV_ASSIGN(std::unique_ptr<Block> block, Block::load(source, config, 0, device));
  const std::vector<TensorInfo> infos = list_tensors(*block, config, calibration, of);
  RWKV_ASSIGN(Walk walk, Walk::begin(source, config, calibration.tokens, device));
  constexpr size_t kFixed = 3;
  const size_t n_last = of == MomentsOf::All ? 1 : 0;  // the head's
  const size_t per_block = (infos.size() - kFixed - n_last) / config.n_layer;
  BlockSums sums;
  return write_sealed(
      path, existing, infos, [&](size_t index, std::vector<std::byte>& out) -> Status {
        if (index < kFixed) {
          return read_fixed(index, checksum, calibration, out);
        }
        if (infos[index].name == kHeadMoments) {
          RWKV_ASSIGN(const at::Tensor z, head_input(source, walk.hidden().cpu()));
          MomentSum sum;
          sum.add(z);
          append_floats(sum.mean(), out);
          return {};
        }
        const auto here = static_cast<int64_t>((index - kFixed) / per_block);
        if ((index - kFixed) % per_block == 0) {
          if (here > 0) {
            RWKV_ASSIGN(block, Block::load(source, config, here, device));
          }
          sums = observe_block(walk, *block, here, of);
          progress(static_cast<double>(here + 1) / static_cast<double>(config.n_layer));
        }
        append_floats(sums.at(infos[index].name), out);
        return {};
      });
}

}  // namespace rwkv::press

#include "compressor/model/block.h"

#include <algorithm>
#include <vector>

#include "compressor/model/mix.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

std::vector<std::string> product_names(Version version) {
  std::vector<std::string> names = {"att.receptance", "att.key", "att.value",
                                    "att.output",     "ffn.key", "ffn.value"};
  switch (version) {
    case Version::V4:
    case Version::V5_0:
      names.emplace_back("ffn.receptance");
      break;
    case Version::V5_1:
    case Version::V5_2:
    case Version::V6:
      names.emplace_back("att.gate");
      names.emplace_back("ffn.receptance");
      break;
    case Version::V7:
    case Version::V7a:
      break;
  }
  return names;
}

Result<std::unique_ptr<TimeMix>> load_time_mix(const BlockTensors& tensors) {
  switch (tensors.config().version) {
    case Version::V4:
      return load_time_mix_v4(tensors);
    case Version::V5_0:
    case Version::V5_1:
    case Version::V5_2:
      return load_time_mix_v5(tensors);
    case Version::V6:
      return load_time_mix_v6(tensors);
    case Version::V7:
    case Version::V7a:
      return load_time_mix_v7(tensors);
  }
  return bad_input("unknown version");
}

// Whether the input of the product `later` depends on the output of `product` of the same block.
bool depends_on(const std::string& later, const std::string& product) {
  const bool in_channel_mix = later.starts_with("ffn.");
  if (product.starts_with("att.")) {
    return in_channel_mix || (later == "att.output" && product != "att.output");
  }
  return product == "ffn.key" && later == "ffn.value";
}

}  // namespace

at::Tensor Pass::product(const std::string& name, const at::Tensor& x) const {
  const auto is_asked = [&](const std::string& wanted) { return wanted == name; };
  if (observe &&
      (only_inputs == nullptr || std::any_of(only_inputs->begin(), only_inputs->end(), is_asked))) {
    observe(name, x);
  }
  const Linear& linear = linears.at(name);
  const auto depends = [&](const std::string& wanted) { return depends_on(wanted, name); };
  if (only_inputs != nullptr && std::none_of(only_inputs->begin(), only_inputs->end(), depends)) {
    const at::Tensor& last = linear.is_pair() ? linear.factor_b : linear.dense;
    return at::zeros({x.size(0), last.size(0)}, x.options());
  }
  at::Tensor y = linear.apply(x, precision);
  if (outputs != nullptr) {
    (*outputs)(name, y);
  }
  return y;
}

at::Tensor GroupNorm::apply(const at::Tensor& y) const {
  return at::group_norm(y, n_head, weight, bias, eps);
}

Result<GroupNorm> load_group_norm(const BlockTensors& tensors) {
  GroupNorm norm;
  norm.n_head = static_cast<int64_t>(tensors.config().n_head);
  norm.eps = static_cast<double>(tensors.config().group_norm_eps);
  RWKV_TRY(tensors.vectors("att.ln_x.", {{&norm.weight, "weight"}, {&norm.bias, "bias"}}));
  return norm;
}

Block::Block() = default;
Block::~Block() = default;

Result<std::unique_ptr<Block>> Block::load(const NamedTensors& all, const ModelConfig& config,
                                           int64_t index) {
  const BlockTensors tensors(all, config, index);
  std::unique_ptr<Block> block(new Block);
  RWKV_ASSIGN(block->ln1_, load_layer_norm(all, tensors.full_name("ln1")));
  RWKV_ASSIGN(block->ln2_, load_layer_norm(all, tensors.full_name("ln2")));
  RWKV_ASSIGN(block->time_mix_, load_time_mix(tensors));
  RWKV_ASSIGN(block->channel_mix_, load_channel_mix(tensors));
  for (const std::string& name : product_names(config.version)) {
    RWKV_ASSIGN(block->linears[name], tensors.linear(name));
  }
  return block;
}

at::Tensor Block::run(const at::Tensor& x, at::Tensor& v_first, const Observe& inputs,
                      const Observe* outputs, BlockState* state) const {
  const Pass pass{linears,   inputs,  precision,
                  x.size(1), v_first, state == nullptr ? nullptr : &state->wkv,
                  nullptr,   outputs};
  at::Tensor stream = x.reshape({-1, x.size(2)});
  const at::Tensor first = ln1_.apply(stream);
  stream = stream + time_mix_->forward(pass, first);
  const at::Tensor second = ln2_.apply(stream);
  stream = stream + channel_mix_->forward(pass, second);
  if (state != nullptr) {
    const auto last = [&](const at::Tensor& rows) {
      return rows.reshape(x.sizes()).select(1, x.size(1) - 1);
    };
    state->shift = at::stack({last(first), last(second)}, 1);
  }
  return stream.reshape(x.sizes());
}

at::Tensor Block::forward(const at::Tensor& x, at::Tensor& v_first, const Observe& observe,
                          BlockState* state) const {
  return run(x, v_first, observe, nullptr, state);
}

at::Tensor Block::forward_shown(const at::Tensor& x, at::Tensor& v_first,
                                const Observe& outputs) const {
  return run(x, v_first, {}, &outputs, nullptr);
}

void Block::show_inputs(const at::Tensor& x, at::Tensor v_first,
                        const std::vector<std::string>& products, const Observe& observe) const {
  const Pass pass{linears, observe, precision, x.size(1), v_first, nullptr, &products};
  at::Tensor stream = x.reshape({-1, x.size(2)});
  const at::Tensor mixed = time_mix_->forward(pass, ln1_.apply(stream));
  if (std::any_of(products.begin(), products.end(),
                  [](const std::string& name) { return name.starts_with("ffn."); })) {
    channel_mix_->forward(pass, ln2_.apply(stream + mixed));
  }
}

}  // namespace rwkv::press

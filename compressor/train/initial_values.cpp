#include "compressor/train/initial_values.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/tensor_random.h"
#include "formats/arch/versions.h"

namespace rwkv::press {
namespace {

// What the rules depend on, per tensor.
struct Place {
  const ModelConfig& config;
  double depth;  ///< 0 for the first block, 1 for the last (ratio_0_to_1)
  double left;   ///< 1 for the first block, almost 0 for the last (ratio_1_to_almost0)
  int64_t block;
  const InitialOptions& options;
  at::Generator& random;
};

bool has(const std::string& name, std::string_view part) {
  return name.find(part) != std::string::npos;
}
bool ends(const std::string& name, std::string_view part) {
  return name.ends_with(part);
}

at::Tensor ramp(int64_t n) {
  return at::arange(n, at::kDouble) / static_cast<double>(n);
}
// 0 for the first channel, 1 for the last.
at::Tensor closed_ramp(int64_t n) {
  return at::arange(n, at::kDouble) / static_cast<double>(std::max<int64_t>(1, n - 1));
}
// ((i + 1) % 3) - 1: 0, 1, -1, 0, ...
at::Tensor zigzag3(int64_t n) {
  return at::remainder(at::arange(n, at::kDouble) + 1, 3) - 1;
}

at::Tensor uniform(const std::vector<int64_t>& shape, double bound, at::Generator& random) {
  return at::rand(shape, random, at::kDouble) * (2 * bound) - bound;
}

// Columns or rows orthonormal, whichever are fewer, times gain (torch.nn.init.orthogonal_).
at::Tensor orthogonal(const std::vector<int64_t>& shape, double gain, at::Generator& random) {
  if (shape.size() == 3) {
    std::vector<at::Tensor> parts;
    for (int64_t i = 0; i < shape[0]; ++i) {
      parts.push_back(orthogonal({shape[1], shape[2]}, gain, random));
    }
    return at::stack(parts);
  }
  const bool is_wide = shape[0] < shape[1];
  const at::Tensor normal =
      at::randn({std::max(shape[0], shape[1]), std::min(shape[0], shape[1])}, random, at::kFloat);
  const auto [q, r] = at::linalg_qr(normal);
  const at::Tensor signed_q = q * r.diagonal().sign();
  return (is_wide ? signed_q.t() : signed_q).contiguous().to(at::kDouble) * gain;
}

// Larger outputs than inputs keep their scale.
double growth(const std::vector<int64_t>& shape) {
  return shape[0] > shape[1]
             ? std::sqrt(static_cast<double>(shape[0]) / static_cast<double>(shape[1]))
             : 1.0;
}

at::Tensor decay_v5(int64_t n, const Place& at) {
  return -6 + 5 * closed_ramp(n).pow(0.7 + 1.3 * at.depth);
}
at::Tensor bonus_v5(int64_t n, const Place& at) {
  return at.depth * (1 - closed_ramp(n)) + 0.1 * zigzag3(n);
}

at::Tensor vector_v4(const std::string& name, int64_t n, const Place& at) {
  if (ends(name, "att.time_decay")) {
    return -5 + 8 * closed_ramp(n).pow(0.7 + 1.3 * at.depth);
  }
  if (ends(name, "att.time_first")) {
    return std::log(0.3) + 0.5 * zigzag3(n);
  }
  if (ends(name, "att.time_mix_v")) {
    return ramp(n).pow(at.left) + 0.3 * at.depth;
  }
  return ramp(n).pow(ends(name, "att.time_mix_r") ? 0.5 * at.left : at.left);
}

at::Tensor vector_v5(const std::string& name, int64_t n, const Place& at) {
  if (has(name, "time_decay")) {
    return decay_v5(n, at);
  }
  if (has(name, "time_faaaa")) {
    return bonus_v5(n, at);
  }
  if (has(name, "time_first")) {
    return bonus_v5(n, at).clamp_min(1e-3).log();
  }
  if (ends(name, "_diag")) {
    return at::ones({n}, at::kDouble);
  }
  if (ends(name, "att.time_mix_v")) {
    return ramp(n).pow(at.left) + 0.3 * at.depth;
  }
  const bool is_half = ends(name, "att.time_mix_r") || ends(name, "att.time_mix_g");
  return ramp(n).pow(is_half ? 0.5 * at.left : at.left);
}

at::Tensor vector_v6(const std::string& name, int64_t n, const Place& at) {
  if (ends(name, "time_decay")) {
    return decay_v5(n, at);
  }
  if (ends(name, "time_faaaa")) {
    return bonus_v5(n, at);
  }
  if (ends(name, "att.time_maa_v")) {
    return 1 - (ramp(n).pow(at.left) + 0.3 * at.depth);
  }
  const bool is_half = ends(name, "att.time_maa_r") || ends(name, "att.time_maa_g");
  return 1 - ramp(n).pow(is_half ? 0.5 * at.left : at.left);
}

at::Tensor vector_v7(const std::string& name, int64_t n, const Place& at) {
  const at::Tensor line = closed_ramp(n) - 0.5;
  const auto size = static_cast<double>(at.config.head_size);
  const at::Tensor in_head =
      (at::remainder(at::arange(n, at::kDouble), size) - (size - 1) / 2) / ((size - 1) / 2);
  const at::Tensor zigzag = in_head * in_head.abs();
  struct Mix {
    const char* name;
    double power;
  };
  constexpr Mix kMixes[] = {{"att.x_r", 0.2}, {"att.x_w", 0.9}, {"att.x_k", 0.7},
                            {"att.x_v", 0.7}, {"att.x_a", 0.9}, {"att.x_g", 0.2}};
  for (const Mix& mix : kMixes) {
    if (ends(name, mix.name)) {
      return 1 - ramp(n).pow(mix.power * at.left);
    }
  }
  if (ends(name, "ffn.x_k")) {
    return 1 - ramp(n).pow(std::pow(at.left, 4));
  }
  if (ends(name, "att.w0")) {
    return -6 + 6 * closed_ramp(n).pow(1 + std::pow(at.depth, 0.3)) + 0.5 + 2.5 * zigzag;
  }
  if (ends(name, "att.a0")) {
    return -0.19 + 0.3 * zigzag + 0.4 * line;
  }
  if (ends(name, "att.v0")) {
    return 0.73 - 0.4 * line;
  }
  if (ends(name, "att.k_k")) {
    return 0.71 - 0.1 * line;
  }
  return at::full({n}, ends(name, "att.k_a") ? 1.02 : -0.04, at::kDouble);  // the latter is r_k
}

at::Tensor vector_values(const std::string& name, int64_t n, const Place& at) {
  if (has(name, "ln")) {
    if (ends(name, ".bias")) {
      return at::zeros({n}, at::kDouble);
    }
    const double scale =
        has(name, "ln_x")
            ? std::pow(static_cast<double>(1 + at.block) / static_cast<double>(at.config.n_layer),
                       0.7)
            : 1.0;
    return at::full({n}, scale, at::kDouble);
  }
  switch (at.config.version) {
    case Version::V4:
      return vector_v4(name, n, at);
    case Version::V5_0:
    case Version::V5_1:
    case Version::V5_2:
      return vector_v5(name, n, at);
    case Version::V6:
      return vector_v6(name, n, at);
    case Version::V7:
    case Version::V7a:
      return vector_v7(name, n, at);
  }
  return {};
}

at::Tensor lora_values(const std::string& name, const std::vector<int64_t>& shape,
                       const Place& at) {
  if (at.config.version == Version::V6) {
    return ends(name, "_w1") ? at::zeros(shape, at::kDouble) : uniform(shape, 0.01, at.random);
  }
  return ends(name, "1") ? at::zeros(shape, at::kDouble)
                         : orthogonal(shape, 0.1 * growth(shape), at.random);
}

at::Tensor matrix_v7(const std::string& name, const std::vector<int64_t>& shape, const Place& at) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(at.config.n_embd));
  if (has(name, "att.output") || has(name, "ffn.value")) {
    return at::zeros(shape, at::kDouble);
  }
  return uniform(shape, has(name, "att.key") ? 0.05 * bound : 0.5 * bound, at.random);
}

at::Tensor matrix_values(const std::string& name, const std::vector<int64_t>& shape,
                         const Place& at) {
  if (name == "emb.weight") {
    return uniform(shape, at.options.embedding, at.random);
  }
  if (name == "head.weight") {
    return orthogonal(shape, 0.5 * growth(shape), at.random);
  }
  if (at.config.version == Version::V7) {
    return matrix_v7(name, shape, at);
  }
  const bool is_pair = ends(name, "1.weight") || ends(name, "2.weight");
  const bool is_v4 = at.config.version == Version::V4;
  // A pair of which one factor is zero would never learn.
  const bool is_zero = has(name, "att.output.") || has(name, "ffn.value.") ||
                       has(name, "ffn.receptance.") ||
                       (is_v4 && (has(name, "att.key.") || has(name, "att.receptance.")));
  if (is_zero) {
    return at::zeros(shape, at::kDouble);
  }
  const bool is_small = !is_v4 && !is_pair && (has(name, "att.key.") || has(name, "att.gate."));
  return orthogonal(shape, growth(shape) * (is_small ? 0.1 : 1.0), at.random);
}

// Makes a block's tensors what InitialOptions::mimetic says; `made` has those of all before. The
// last channel that time_mix sees is a constant, so that products with it can add one.
at::Tensor mimetic_values(const std::string& name, at::Tensor values, const Place& at,
                          const std::map<std::string, at::Tensor>& made) {
  constexpr double kConstant = 4.0;
  const int64_t last = static_cast<int64_t>(at.config.n_embd) - 1;
  // The heads of the first block from here on gather.
  const int64_t gather = at.block == 0 ? (last + 1) / 2 : last + 1;
  const auto sibling = [&](std::string_view old, std::string_view other) {
    std::string wanted = name;
    return made.at(wanted.replace(wanted.find(old), old.size(), other)).clone();
  };
  // What the constant adds to outputs [first, end).
  const auto add = [&](int64_t first, int64_t end, double number) {
    values.narrow(0, first, end - first).select(1, last).fill_(number / kConstant);
  };
  if (ends(name, "att.time_decay")) {
    // Per channel or per head; three quarters of later blocks' heads remember long.
    const int64_t n_long = values.numel() * (at.block == 0 ? 2 : 3) / 4;
    values.view(-1).narrow(0, 0, n_long).copy_(-7 + 3 * closed_ramp(n_long));
  } else if (has(name, "ln1.weight")) {
    values[last] = 0.0;
  } else if (has(name, "ln1.bias")) {
    values[last] = kConstant;
  } else if (has(name, "att.key.")) {
    add(0, gather, 0.0);
    add(gather, last + 1, 1.0);
  } else if (has(name, "att.receptance.")) {
    values = sibling("receptance", "key");
    values.narrow(0, 0, gather).mul_(10.0);  // keys start with a gain of 0.1
  } else if (has(name, "att.value.")) {
    add(0, last + 1, 0.0);
  } else if (has(name, "att.output.")) {
    values = sibling("output", "value").t().contiguous();
  } else if (has(name, "att.gate.")) {
    values.mul_(3.0);  // from a gain of 0.1: open, and little moves it
    add(0, gather, 1.0);
    add(gather, last + 1, 2.0);
  }
  return values;
}

// The leading ones that BlinkDL's files give to most vectors over channels.
std::vector<uint64_t> stored_shape(const NewTensor& tensor, Version version) {
  const bool is_vector = tensor.role == Role::Vector && tensor.shape.size() == 1;
  const bool is_plain = has(tensor.name, "ln") || ends(tensor.name, "_diag") ||
                        (version != Version::V6 && has(tensor.name, "time_decay")) ||
                        has(tensor.name, "time_first") || has(tensor.name, "time_faaaa");
  if (!is_vector || is_plain) {
    return tensor.shape;
  }
  return {1, 1, tensor.shape[0]};
}

}  // namespace

Result<std::unique_ptr<MemorySource>> initial_model(const NewModelOptions& model,
                                                    const InitialOptions& options) {
  const at::NoGradGuard no_grad;
  RWKV_ASSIGN(const ModelConfig config, new_model_config(model));
  auto source = std::make_unique<MemorySource>("the new model");
  at::Generator random = tensor_random(options.seed);
  std::map<std::string, at::Tensor> made;
  if (options.mimetic && (config.version == Version::V4 || config.version == Version::V7 ||
                          model.arch.starts_with("x"))) {
    return usage_error("model.mimetic is for v5.0, v5.1, v5.2 and v6, not for {}", model.arch);
  }
  const auto n_layer = static_cast<double>(config.n_layer);
  for (const NewTensor& tensor : new_model_tensors(config, model.rank)) {
    const auto block = static_cast<double>(std::max<int64_t>(0, tensor.block));
    const Place place = {config,
                         n_layer > 1 ? block / (n_layer - 1) : 0.0,
                         1.0 - block / n_layer,
                         std::max<int64_t>(0, tensor.block),
                         options,
                         random};
    const std::vector<int64_t> shape(tensor.shape.begin(), tensor.shape.end());
    at::Tensor values;
    if (tensor.role == Role::Vector || shape.size() == 1) {  // a diagonal has its projection's role
      int64_t n = 1;
      for (const int64_t size : shape) {
        n *= size;
      }
      values = vector_values(tensor.name, n, place);
    } else {
      values = tensor.role == Role::Lora ? lora_values(tensor.name, shape, place)
                                         : matrix_values(tensor.name, shape, place);
    }
    if (tensor.name == "head.weight" && options.tied_start) {
      const at::Tensor& embedding = made.at("emb.weight");
      values = 0.3 * embedding / embedding.norm(2, 1, true);
    }
    if (options.mimetic) {
      values = mimetic_values(tensor.name, values, place, made);
    }
    made[tensor.name] = values;
    const at::Tensor flat = values.to(at::kFloat).contiguous().flatten();
    source->add(tensor.name, stored_shape(tensor, config.version),
                {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()});
  }
  return source;
}

}  // namespace rwkv::press

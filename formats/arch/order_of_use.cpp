#include "formats/arch/order_of_use.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <string_view>
#include <utility>

namespace rwkv {
namespace {

// How the names go on after "blocks.N.", in the order of use; the first that fits counts.
constexpr std::string_view kInBlock[] = {
    "ln0.", "ln1.",
    // What mixes the token with the one before; v6 has a product for it.
    "att.time_mix_", "att.x_", "att.time_maa_x", "att.time_maa_w1", "att.time_maa_w2",
    "att.time_maa_",
    // Products of the mixed inputs.
    "att.key1.", "att.key.", "att.value1.", "att.value.", "att.receptance1.", "att.receptance.",
    "att.gate1.", "att.gate.", "att.time_decay_w1", "att.w1", "att.a1", "att.g1", "att.v1",
    // Of what the first half of a pair gave.
    "att.key2.", "att.value2.", "att.receptance2.", "att.gate2.", "att.time_decay_w2", "att.w2",
    "att.a2", "att.g2", "att.v2", "att.key_diag", "att.value_diag", "att.receptance_diag",
    "att.gate_diag",
    // The recurrence.
    "att.v0", "att.w0", "att.a0", "att.k_k", "att.k_a", "att.time_decay", "att.time_faaaa",
    "att.time_first", "att.ln_x.", "att.r_k", "att.output1.", "att.output.", "att.output2.",
    "att.output_diag",
    // channel_mix; which neurons are active is said before their rows are read.
    "ln2.", "ffn.time_mix_", "ffn.time_maa_", "ffn.x_k", "ffn.predictor.sign.",
    "ffn.predictor.fc1.", "ffn.receptance1.", "ffn.receptance.", "ffn.predictor.fc2.",
    "ffn.receptance2.", "ffn.receptance_diag", "ffn.predictor.threshold", "ffn.s_emb_x.", "ffn.s1",
    "ffn.s2", "ffn.s0", "ffn.key.", "ffn.value.", "ffn.predictor.bias"};

// Names of tensors of the whole model that follow the blocks.
constexpr std::string_view kAtEnd[] = {"ln_out.",           "head.cluster.weight",
                                       "head.cluster.bias", "head.cluster.first",
                                       "head.tokens",       "head.weight"};

template <size_t N>
size_t place_in(const std::string_view (&list)[N], std::string_view name) {
  const auto* found = std::find_if(std::begin(list), std::end(list),
                                   [&](std::string_view start) { return name.starts_with(start); });
  return static_cast<size_t>(found - std::begin(list));
}

// Block, place in it.
std::pair<int64_t, size_t> place_of(const TensorBinding& tensor) {
  if (tensor.role == Role::Embedding) {
    return {-1, 0};
  }
  // Rows of a token, and what is read only once: between the matrices they would only interrupt.
  if (tensor.role == Role::TokenRows || tensor.role == Role::InitialState) {
    return {-1, tensor.role == Role::TokenRows ? 1 : 2};
  }
  if (tensor.block < 0) {
    return {std::numeric_limits<int64_t>::max(), place_in(kAtEnd, tensor.name)};
  }
  const std::string_view name = tensor.name;
  constexpr std::string_view kPrefix = "blocks.";
  const size_t number_end = name.find('.', kPrefix.size());
  return {tensor.block, place_in(kInBlock, name.substr(std::min(number_end, name.size() - 1) + 1))};
}

}  // namespace

bool is_used_before(const TensorBinding& a, const TensorBinding& b) {
  return place_of(a) < place_of(b);
}

void sort_by_use(std::vector<TensorBinding>& tensors) {
  // Sorting numbers and not the tensors themselves: 20 KB less of a program for small devices.
  std::vector<std::pair<std::pair<int64_t, size_t>, size_t>> places;
  places.reserve(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    places.emplace_back(place_of(tensors[i]), i);
  }
  std::sort(places.begin(), places.end());
  std::vector<TensorBinding> sorted;
  sorted.reserve(tensors.size());
  for (const auto& [place, i] : places) {
    sorted.push_back(std::move(tensors[i]));
  }
  tensors = std::move(sorted);
}

}  // namespace rwkv

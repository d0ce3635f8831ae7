#include "compressor/stages/block_walk.h"

#include <algorithm>
#include <optional>

#include "compressor/calibrate/statistics.h"
#include "compressor/numerics/heap.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {

// The inputs of the products of one block, before the visit.
Status BlockWalk::gather(BlockVisit& visit) const {
  std::vector<std::string> names = products ? products(visit.index) : std::vector<std::string>();
  std::erase_if(names,
                [&](const std::string& name) { return !visit.block.linears.contains(name); });
  if (activations == Activations::FromFile) {
    for (const std::string& name : names) {
      const Linear& linear = visit.block.linears.at(name);
      const int64_t n_in = (linear.is_pair() ? linear.factor_a : linear.dense).size(1);
      RWKV_ASSIGN(visit.moments[name], calibration->statistics->moments(visit.index, name, n_in));
    }
    return {};
  }
  if (visit.walk == nullptr) {
    return {};
  }
  std::map<std::string, MomentSum> sums;
  for (const std::string& name : names) {
    sums[name];
  }
  const bool is_observed = observe || !sums.empty();
  const bool sees_all = observe && observed.empty();
  Walk::Products seen = observed;
  if (!sees_all) {
    seen.insert(seen.end(), names.begin(), names.end());
  }
  const auto is_watched = [&](const std::string& product) {
    return sees_all || std::find(observed.begin(), observed.end(), product) != observed.end();
  };
  const Observe collect = [&](const std::string& product, const at::Tensor& inputs) {
    if (const auto found = sums.find(product); found != sums.end()) {
      found->second.add(inputs);
    }
    if (observe && is_watched(product)) {
      observe(product, inputs);
    }
  };
  if (activations == Activations::Unchanged) {
    visit.walk->advance(visit.block, is_observed ? collect : Observe(), seen);
  } else if (is_observed) {
    visit.walk->observe(visit.block, seen, collect);
  }
  for (const auto& [name, sum] : sums) {
    visit.moments[name] = sum.mean();
  }
  return {};
}

Result<at::Tensor> BlockWalk::run(const std::function<Status(BlockVisit&)>& visit) const {
  const bool walks =
      activations == Activations::Unchanged || activations == Activations::AfterChanges;
  std::optional<Walk> walk;
  if (walks) {
    RWKV_ASSIGN(walk, Walk::begin(source, config, calibration->tokens));
  }
  for (uint64_t i = 0; i < config.n_layer; ++i) {
    const auto index = static_cast<int64_t>(i);
    std::unique_ptr<Block> own;
    if (loaded.empty()) {
      RWKV_ASSIGN(own, Block::load(source, config, index));
    }
    BlockVisit here{index, own ? *own : *loaded[i], {}, walk ? &*walk : nullptr};
    RWKV_TRY(gather(here));
    RWKV_TRY(visit(here));
    if (activations == Activations::AfterChanges) {
      walk->advance(here.block, {});
    }
    return_free_memory();
    progress(Share::of_blocks(i + 1, config.n_layer));
  }
  return walk ? walk->hidden() : at::Tensor();
}

}  // namespace rwkv::press

// Tensors that stages of the compressor add to a model of any version. BlinkDL's checkpoints have
// none of them.
#include "formats/arch/versions.h"

namespace rwkv {
namespace {

using enum Dim;
constexpr Dim kNo = Dim::None;
constexpr auto kModel = Where::Model;
constexpr auto kBlock = Where::EveryBlock;
constexpr auto kAsIs = Layout::AsIs;
constexpr auto kMaybe = Presence::Optional;

constexpr TensorSpec kTensors[] = {
    // ffn_predictor: neurons whose score is above the threshold of either half are computed.
    // threshold = {of sign, of fc2}.
    {"ffn.predictor.sign.weight",
     kBlock,
     Role::SignBits,
     {Ffn, Embd, kNo},
     kAsIs,
     kAllVersions,
     kMaybe},
    {"ffn.predictor.fc1.weight",
     kBlock,
     Role::Predictor,
     {PredictorHidden, Embd, kNo},
     kAsIs,
     kAllVersions,
     kMaybe},
    {"ffn.predictor.fc2.weight",
     kBlock,
     Role::Predictor,
     {Ffn, PredictorHidden, kNo},
     kAsIs,
     kAllVersions,
     kMaybe},
    {"ffn.predictor.threshold", kBlock, Role::Vector, {Two, kNo, kNo}, kAsIs, kAllVersions, kMaybe},
    // What the neurons that are not named add to the output on average.
    {"ffn.predictor.bias", kBlock, Role::Vector, {Embd, kNo, kNo}, kAsIs, kAllVersions, kMaybe},
    // cluster_head: rows of head.weight lie cluster by cluster. tokens = id of each row, first =
    // the
    // first row of each cluster; integers in f32, which is exact for every vocabulary.
    {"head.tokens", kModel, Role::Vector, {Vocab, kNo, kNo}, kAsIs, kAllVersions, kMaybe},
    {"head.cluster.first", kModel, Role::Vector, {Clusters, kNo, kNo}, kAsIs, kAllVersions, kMaybe},
    {"head.cluster.weight",
     kModel,
     Role::ClusterHead,
     {Clusters, Embd, kNo},
     kAsIs,
     kAllVersions,
     kMaybe},
    {"head.cluster.bias", kModel, Role::Vector, {Clusters, kNo, kNo}, kAsIs, kAllVersions, kMaybe},
};

}  // namespace

std::span<const TensorSpec> tensors_of_stages() {
  return kTensors;
}

}  // namespace rwkv

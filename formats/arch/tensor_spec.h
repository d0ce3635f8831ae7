// The vocabulary of the tensor tables: every tensor that a version has, its shape in symbols, its
// role, and how it lies in a packed file. The tables are in v4.cpp ... v7.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "formats/arch/model_config.h"

namespace rwkv {

/// Symbols in shapes. The first tensor that has one binds it, all others must agree.
enum class Dim : uint8_t {
  None,  ///< the shape has no such dimension
  Vocab,
  Embd,
  Att,
  Ffn,
  Head,
  HeadSize,
  MixLora,
  MixLora5,  ///< five mixes side by side: 5 * MixLora
  Five,
  DecayLora,
  IclrLora,
  ValueLora,
  GateLora,
  Clusters,         ///< of the vocabulary
  PredictorHidden,  ///< of an MLP predictor
  Two,
  DeepEmbed,   ///< side of the matrix that v7a has for each token
  DeepEmbed2,  ///< its elements: DeepEmbed * DeepEmbed
};

/// What a tensor is for, which decides what may be done to it (see role_traits).
enum class Role : uint8_t {
  Vector,        ///< norms, mixing coefficients, decays, bonuses: always f32
  Lora,          ///< lora matrices of v6 and v7, small matrices of v7a
  Projection,    ///< square projections of time_mix and channel_mix; may be factor pairs
  FfnKey,        ///< [dim_ffn, n_embd]
  FfnValue,      ///< [n_embd, dim_ffn], packed neuron-major
  Embedding,     ///< [n_vocab, n_embd], read one row per token
  Head,          ///< [n_vocab, n_embd]
  Predictor,     ///< MLP predictor of active neurons
  SignBits,      ///< [dim_ffn, n_embd] in one bit per number: predictor of active neurons
  ClusterHead,   ///< [clusters, n_embd]: probability of each cluster of the vocabulary
  TokenRows,     ///< [n_vocab, n]: what v7a adds to a block for a token, read one row per token
  InitialState,  ///< [head, n, n]: the wkv state that a text begins with, in tuned models
  Ignored,       ///< present in some files, used by nothing; kept so that export is complete
};

/// Techniques of a recipe, as bits.
enum Technique : uint8_t {
  kQuantize = 1,  ///< a codec coarser than f16
  kLowRank = 2,   ///< replaced by a factor pair
};

/// Which part of a tensor a token reads.
enum class Access : uint8_t {
  EveryToken,      ///< all of it
  OneRow,          ///< the row of the token itself
  NamedNeurons,    ///< the rows of neurons that are active, or that a predictor names
  ChosenClusters,  ///< the rows of likely clusters of the vocabulary
  Never,           ///< nothing, or only once, when a model is opened
};

struct RoleTraits {
  Role role;
  const char* name;
  uint8_t techniques;  ///< bits of Technique
  Access access;       ///< in a model that has what it takes; ModelAccess (access.h) knows which
};
/// One row per role: the only list of what may be done to a tensor and how it is read.
const RoleTraits& role_traits(Role role);

/// How a matrix lies in a packed file: rows as in the checkpoint, or its last two dimensions
/// swapped, so that what is read together lies together and every product is row by row.
enum class Layout : uint8_t { AsIs, Transposed };

enum class Where : uint8_t {
  Model,       ///< once, name as given
  FirstBlock,  ///< "blocks.0." + name
  EveryBlock,  ///< "blocks.N." + name
  LaterBlocks  ///< every block but the first; in the first it may be there and is ignored
};

enum class Presence : uint8_t { Required, Alternative, Optional };

/// A set of versions, as bits: which rows of a shared table (v5.cpp) apply.
using VersionSet = uint8_t;
constexpr VersionSet only(Version version) {
  return static_cast<VersionSet>(1u << static_cast<unsigned>(version));
}
inline constexpr VersionSet kAllVersions = 0xff;

struct TensorSpec {
  const char* name;
  Where where;
  Role role;
  std::array<Dim, 3> shape;  ///< outermost first, as BlinkDL stores it
  Layout layout = Layout::AsIs;
  VersionSet versions = kAllVersions;
  /// Alternative: exactly one of this spec and the next one is present (time_faaaa, time_first).
  /// Optional: may be missing.
  Presence presence = Presence::Required;

  size_t n_dims() const {
    size_t n = 0;
    while (n < shape.size() && shape[n] != Dim::None) {
      ++n;
    }
    return n;
  }
};

}  // namespace rwkv

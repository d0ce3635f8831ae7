#include "runtime/memory/residency.h"

#include <algorithm>

#include "formats/arch/access.h"
#include "runtime/memory/limit_choice.h"
#include "runtime/memory/speed_choice.h"
#include "runtime/storage/row_window.h"

namespace rwkv::edge {
namespace {

Status check(const MemoryOptions& options) {
  const auto check_share = [](const char* name, const std::optional<double>& share) -> Status {
    if (share && !(*share >= 0.0 && *share <= 1.0)) {
      return usage_error("{}: expected a share from 0 to 1, found {}", name, *share);
    }
    return {};
  };
  RWKV_TRY(check_share("neuron cache", options.neuron_cache));
  return check_share("head cache", options.head_cache);
}

ReadPerToken read_per_token(const PackedFile& file, const Residency& residency) {
  const ModelAccess access(file.config, file.bindings);
  ReadPerToken read;
  double rows = 0;
  for (const TensorBinding& binding : file.bindings) {
    const PackedTensor& packed = file.tensors[binding.source];
    const Residence residence = residency.tensors[binding.source].residence;
    if (residence == Residence::Slot) {
      read.bytes += packed.n_bytes;
    } else if (residence == Residence::Parts) {
      continue;  // counted by pieces
    } else if (residence == Residence::Rows || residence == Residence::Window) {
      const Access how = access.of(binding);
      rows += bytes_read(how, packed.n_bytes, packed.rows, file.shares);
      read.is_bound = read.is_bound || (how == Access::NamedNeurons && file.shares.neurons == 1) ||
                      (how == Access::ChosenClusters && file.shares.clusters == 1);
    }
  }
  for (const PlacedPiece& piece : residency.pieces) {
    read.bytes += piece.stays ? 0 : piece.source.n_bytes;
  }
  read.bytes += static_cast<uint64_t>(rows);
  return read;
}

// Whether widths are as narrow as the caller asks for.
Status check_weight_bytes(const PackedFile& file, const MemoryOptions& options,
                          const Residency& residency) {
  const uint64_t most = options.stream.weight_bytes;
  if (most > 0 && mode_traits(residency.mode).dense != DenseWeights::Ahead) {
    return usage_error("a number of bytes for weights needs memory mode streamed, found {}",
                       mode_traits(residency.mode).name);
  }
  if (most > 0 && residency.widths.bytes > most) {
    return usage_error("{}: at its narrowest widths the weights take {} bytes, {} are allowed",
                       file.path, residency.widths.bytes, most);
  }
  return {};
}

// The choice before widths for the first token.
Result<Choice> later_choice(const Planner& planner, const PackedFile& file,
                            const MemoryOptions& options) {
  if (options.stream.tokens_per_second > 0) {
    const WithinLimit within_limit = [&](const MemoryOptions& changed) {
      return choice_within_limit(planner, file, changed);
    };
    return choice_of_speed(planner, file, options,
                           options.limit > 0 ? within_limit : WithinLimit());
  }
  if (options.limit > 0) {
    return choice_within_limit(planner, file, options);
  }
  Choice choice = first_choice(options.mode.value_or(mode_made_for(file)), options);
  // Who wants a first token soon has memory for all that follow.
  choice.stream.kept_share = options.stream.first_token_seconds > 0 ? 1.0 : 0.0;
  return choice;
}

Result<Choice> choice_for(const Planner& planner, const PackedFile& file, MemoryOptions options) {
  const bool is_first_timed = options.stream.first_token_seconds > 0;
  if ((is_first_timed || options.stream.weight_bytes > 0) && !options.mode) {
    options.mode = MemoryMode::Streamed;
  }
  RWKV_ASSIGN(Choice choice, later_choice(planner, file, options));
  if (is_first_timed) {
    RWKV_TRY(choose_early_widths(planner, file, options, choice));
  }
  return choice;
}

}  // namespace

MemoryMode mode_made_for(const PackedFile& file) {
  const ModelAccess access(file.config, file.bindings);
  bool is_made_for_rows = file.config.n_cluster > 0;
  uint64_t on_demand = 0;
  for (const TensorBinding& binding : file.bindings) {
    const Access how = access.of(binding);
    is_made_for_rows = is_made_for_rows || binding.role == Role::SignBits ||
                       binding.role == Role::Predictor || binding.role == Role::TokenRows;
    on_demand += how == Access::EveryToken || how == Access::Never
                     ? 0
                     : file.tensors[binding.source].n_bytes;
  }
  if (!is_made_for_rows) {
    return MemoryMode::Full;
  }
  // A window over a small model would hold most of it.
  return RowWindow::room_for(on_demand) * 2 <= on_demand ? MemoryMode::Windowed
                                                         : MemoryMode::Sparse;
}

Result<Residency> residency_for(const PackedFile& file, const MemoryOptions& options,
                                const OtherMemory& other) {
  RWKV_TRY(check(options));
  const Planner planner(file, options, other);
  RWKV_ASSIGN(const Choice choice, choice_for(planner, file, options));
  Residency residency = planner.residency(choice);
  if (options.limit == 0 && options.stream.tokens_per_second == 0) {
    residency.max_chunk = SIZE_MAX;  // any size that the evaluator requests
  }
  RWKV_TRY(check_weight_bytes(file, options, residency));
  residency.read = read_per_token(file, residency);
  return residency;
}

Result<Residency> streamed_again(const PackedFile& file, const Residency& now,
                                 const MemoryOptions& options, const OtherMemory& other) {
  if (mode_traits(now.mode).dense != DenseWeights::Ahead) {
    return usage_error("{}: only a model in memory mode streamed can be planned again, found {}",
                       file.path, mode_traits(now.mode).name);
  }
  const Planner planner(file, options, other);
  const auto within_limit = [&](const MemoryOptions& changed) {
    Choice choice = first_choice(MemoryMode::Streamed, changed);
    choice.max_chunk = now.max_chunk;
    choice.neuron_cache = now.neuron_cache;
    choice.head_cache = now.head_cache;
    choice.embedding_rows = now.embedding_rows;
    return kept_within_limit(planner, file, choice, changed);
  };
  RWKV_ASSIGN(Choice choice, within_limit(options));
  if (options.stream.tokens_per_second > 0) {
    RWKV_ASSIGN(choice, choice_of_speed(planner, file, options, within_limit));
  }
  Residency residency = planner.residency(choice);
  RWKV_TRY(check_weight_bytes(file, options, residency));
  residency.read = read_per_token(file, residency);
  return residency;
}

}  // namespace rwkv::edge

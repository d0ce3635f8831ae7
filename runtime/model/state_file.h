// Files of states. save_state_file() writes all that a text in progress is: the state, the logits
// of its next token, and what the caller adds ("history", for example the words of a chat).
// load_state_file() reads such files, the bytes of State::save(), and .safetensors files of tuned
// states, which hold blocks.N.att.time_state alone. The layout is in docs/fine_tuned.md.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/file.h"
#include "runtime/model/state.h"

namespace rwkv::edge {

/// What a state file holds besides the state.
struct StateFileContents {
  std::vector<float> logits;  ///< [n_vocab] of the next token; empty if the file has none
  std::string history;        ///< as it was given to save_state_file()
};

/// The most bytes of a history.
inline constexpr uint64_t kMaxHistoryBytes = uint64_t{64} << 20;

/// Usage if save_state_file() may not replace the file `path`: only saved states are replaced.
Status check_state_file(const std::string& path);

/// Writes `state` to `path`. `logits` is [n_vocab] or empty, `history` any bytes. Usage if the
/// history is longer than kMaxHistoryBytes or the file exists and must not be replaced, being
/// something else than a saved state for one; Failed if it cannot be written. The file is as it was
/// then.
Status save_state_file(const std::string& path, OutputFile::Existing existing, const State& state,
                       std::span<const float> logits, std::string_view history);

/// Replaces the values of `state`, which is of the model to go on with (Model::empty_state()).
/// BadInput, with `state` as it was, for a file that is damaged, of another kind, or of another
/// model: the message says which model made it.
Result<StateFileContents> load_state_file(const std::string& path, State& state);

}  // namespace rwkv::edge

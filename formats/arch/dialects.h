// The names that other programs give to the tensors of an RWKV checkpoint: one table a dialect, one
// row a tensor. plain_names.h finds the dialect of a file and turns its names into BlinkDL's.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace rwkv {

/// How a tensor of a dialect lies, and what reading it undoes.
enum class Change : uint8_t {
  None,
  Vector,     ///< [n] in any form, BlinkDL has [1, 1, n]
  Transpose,  ///< the last two dimensions are swapped
  Joint,      ///< vectors of n_embd in one tensor, in the order of the row's `letters`
  MixDown,    ///< time_maa_w1: transposed, the five parts in the order r w k v g
  MixUp,      ///< time_maa_w2: [n_embd, 5 * rank], the five parts in the same order
};

struct ForeignName {
  std::string_view theirs;  ///< behind "blocks.N." in a table of blocks, else the whole name
  std::string_view plain;   ///< BlinkDL's, likewise; of Joint without the last letter
  Change change = Change::None;
  std::string_view letters = {};
};

struct Dialect {
  std::string_view name;    ///< for people: "Hugging Face RWKV-5"
  std::string_view prefix;  ///< that all names of the body have, such as "model."
  std::string_view block;   ///< "blocks." or "layers."
  /// A tensor of block 0 that no other dialect has, without prefix and block.
  std::string_view mark;
  std::span<const ForeignName> outside;
  std::span<const ForeignName> inside;
  std::span<const ForeignName> shared = {};  ///< of blocks too: rows of several dialects
};

/// The one list. The first dialect whose mark is in a file is that of the file.
std::span<const Dialect> dialects();

/// The row of `theirs`, a name without the dialect's prefix, and in a block without "blocks.N.";
/// nullptr if there is none.
const ForeignName* find_foreign(const Dialect& dialect, bool is_in_block, std::string_view theirs);

}  // namespace rwkv

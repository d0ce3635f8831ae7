// Last-word accuracy of a packed file, on the runtime that devices run: does the model say the word
// that ends a text, having read what stands before it? The task is LAMBADA (Paperno et al. 2016,
// arXiv 1606.06031). Text and score are as in task lambada_openai of lm-evaluation-harness:
//   context = the text before its last space; target = that space and the last word;
//   right if every token of the target is the arg-max of the logits before it;
//   log-likelihood = sum over the target's tokens of ln p(token);
//   perplexity = exp(-mean over documents of the log-likelihood), so per word, not per token.
// Two things differ. Context and target are split into tokens separately, as in BlinkDL's own
// LAMBADA script, where the harness splits them together and takes the tokens behind the
// context's: the same unless a token spans the last space. And the standard error divides by n,
// the harness by n - 1. The context begins at the empty state, without an end-of-text token.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "compressor/evaluate/confidence.h"
#include "formats/base/status.h"

namespace rwkv::edge {
class Model;
}

namespace rwkv::press {

struct ClozeDocument {
  std::string context;  ///< not empty
  std::string target;   ///< a space and the last word
  std::string kind;     ///< empty: none
  uint64_t line = 0;    ///< in its file, from 1
};

/// What a file of documents holds.
struct ClozeSet {
  std::string path;
  std::vector<ClozeDocument> documents;
  uint64_t malformed = 0;               ///< lines that were skipped
  std::vector<std::string> complaints;  ///< about the first few of them: "FILE: line N: why"
};

/// Reads a .jsonl file: an object a line with a string "text" and, if results are to be grouped by
/// it, a string "kind"; other keys are ignored, as are blank lines. A space is U+0020 and nothing
/// else. Malformed, hence skipped and counted: what is no such object, a text without a space, with
/// nothing before its last space or nothing behind it. Reading stops after `max_docs` documents
/// (0: all of them). BadInput if there is no document.
Result<ClozeSet> read_cloze(const std::string& path, uint64_t max_docs);

/// Documents, and how many of them were right.
struct ClozeTally {
  uint64_t documents = 0;
  uint64_t right = 0;

  /// p = right / documents, 0 to 1.
  double accuracy() const;
  /// Of the accuracy, documents taken as independent: sqrt(p (1 - p) / documents).
  double standard_error() const;
  /// 95 %, Wilson's.
  Interval interval() const;
};

struct ClozeResult {
  ClozeTally all;
  /// By kind, sorted by its name. Documents without a kind are in `all` alone.
  std::map<std::string, ClozeTally> kinds;
  double nats = 0.0;       ///< sum over documents of -ln p(target)
  uint64_t malformed = 0;  ///< of the set

  /// Per document; infinity where that is no double any more.
  double perplexity() const;
};

struct ClozeOptions {
  unsigned n_threads = 1;  ///< changes no result
  /// Called with the number of documents done; may be empty.
  std::function<void(uint64_t)> progress = {};
};

/// Usage if the file is a checkpoint that is yet to be converted; BadInput if it is neither.
Status check_packed(const std::string& path);

/// The model in the packed file at `path` on all documents of `set`, one after another, weights
/// mapped. Besides what check_packed says, Usage if the file has no vocabulary; BadInput, naming
/// the line, if a document cannot be split into the model's tokens or logits are not finite.
Result<ClozeResult> evaluate_cloze(const std::string& path, const ClozeSet& set,
                                   const ClozeOptions& options);
/// The same of a model that is open and has a tokenizer; `name` is used in messages.
Result<ClozeResult> evaluate_cloze(const std::shared_ptr<const edge::Model>& model,
                                   const std::string& name, const ClozeSet& set,
                                   const ClozeOptions& options);

}  // namespace rwkv::press

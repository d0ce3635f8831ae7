// All measurements of the quality of a packed file, on the runtime that devices use. Texts and
// questions are read and checked once and may then be used for any number of models.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compressor/evaluate/choices.h"
#include "compressor/evaluate/cloze.h"
#include "compressor/evaluate/text_score.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// Which files to read, and how much of them.
struct EvaluationFiles {
  std::vector<std::string> texts;    ///< any text
  std::vector<std::string> clozes;   ///< lines of JSON, perhaps gzipped, see cloze_set.h
  std::vector<std::string> choices;  ///< likewise, see choices_set.h
  /// Number of documents to draw from each file of questions, by `seed`; 0: all of them.
  uint64_t max_docs = 0;
  uint64_t seed = 0;
};

struct EvaluationSets {
  std::vector<TextSet> texts;
  std::vector<ClozeSet> clozes;
  std::vector<ChoicesSet> choices;
};

/// Usage if no file is named; BadInput, naming the file, if one cannot be read, is empty or has no
/// question. Malformed lines and incomplete documents are counted in the sets.
Result<EvaluationSets> load_evaluation_sets(const EvaluationFiles& files);

struct MeasureOptions {
  unsigned n_threads = 1;   ///< changes no result
  uint64_t max_tokens = 0;  ///< of each text; 0: all
  /// Tokens in front of every text and context, which are not scored: id 0 for figures as RWKV's
  /// authors publish them.
  std::vector<int32_t> prefix = {};
  // Of models with narrower copies, not of the reference: the widths of pieces, as a device that
  // streams them chooses for so many bytes, or the widest of at most so many bits. 0: full width.
  // For texts alone.
  uint64_t weight_bytes = 0;
  double most_bits = 0;
  /// Packed file to compare with over the texts; empty: none.
  std::string reference = {};
  /// Its name in the result; empty: its path.
  std::string reference_name = {};
  /// The name of the model in the result and in most messages; empty: its path.
  std::string name = {};
  /// Called with the current file and the share of it that is done.
  std::function<void(const std::string& what, double share)> progress = [](const std::string&,
                                                                           double) {};
};

/// The results, in the order of the sets.
struct Measurement {
  /// The widths of pieces in use, if options chose them.
  struct Widths {
    uint64_t bytes = 0;       ///< of all pieces
    uint64_t full_bytes = 0;  ///< of the same at full width
    double loss = 0;          ///< nats of KL per token over full width, as the file says
  };
  std::optional<Widths> widths;
  struct Text {
    std::string path;
    TextScore score;
  };
  struct Cloze {
    std::string path;
    uint64_t available = 0;  ///< documents in the file, of which result.all.documents were drawn
    uint64_t malformed = 0;  ///< lines that were skipped
    ClozeResult result;
  };
  struct Choices {
    std::string path;
    uint64_t available = 0;
    uint64_t malformed = 0;
    uint64_t incomplete = 0;  ///< documents that were skipped
    ChoicesResult result;
  };
  std::vector<int32_t> prefix;  ///< tokens in front of every text and context
  std::string model;            ///< its name
  std::string reference;        ///< its name; empty: none
  std::vector<Text> texts;
  std::vector<Cloze> clozes;
  std::vector<Choices> choices;
};

/// The model in the packed file at `packed` on everything in `sets`, weights mapped. Usage if the
/// file is a checkpoint or has no vocabulary; BadInput if it is neither, if the reference has
/// another vocabulary, if a text cannot be split into tokens or if logits are not finite.
Result<Measurement> measure(const std::string& packed, const EvaluationSets& sets,
                            const MeasureOptions& options);

}  // namespace rwkv::press

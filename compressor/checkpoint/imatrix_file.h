// llama.cpp's imatrix files: for each matrix of a model the sums of the squares of its inputs over
// a text. Two forms: GGUF (general.type imatrix), and the older one with the ending .dat.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "formats/base/file.h"
#include "formats/base/status.h"

namespace rwkv::press {

struct Imatrix {
  std::string path;
  /// Mean squares of the inputs by llama.cpp's name of the matrix; finite, none negative. Matrices
  /// whose input never occurred are left out.
  std::map<std::string, std::vector<float>, std::less<>> mean_squares;
};

/// True if the file is one, by its first bytes or, for the older form, its ending.
bool looks_like_imatrix(const std::string& path);

/// BadInput for files of other kinds, damaged or hostile ones; holds no more than the file's size
/// in memory.
Result<Imatrix> read_imatrix(const std::string& path);

/// What is written of a matrix.
struct ImatrixSums {
  std::string name;         ///< llama.cpp's, with ".weight"
  std::vector<float> sums;  ///< of the squares
  uint64_t n_tokens = 0;
};

/// In the order of their names, as llama.cpp writes them; in the older form if `path` ends in .dat.
/// `text` names what was read, `chunk` are the tokens of a sequence.
Status write_imatrix(const std::string& path, OutputFile::Existing existing,
                     std::vector<ImatrixSums> matrices, const std::string& text, uint64_t chunk);

}  // namespace rwkv::press

#include "tests/support/golden.h"

#include <filesystem>

namespace rwkv::test {

std::string golden_file(std::string_view name) {
  return (std::filesystem::path(RWKV_SOURCE_DIR) / "tests/formats/golden" / name).string();
}

std::vector<GoldenTinyModel> golden_tiny_models() {
  TinyModelOptions lite;
  lite.version = Version::V6;
  lite.codec = Codec::I8Row;
  lite.n_layer = 1;
  lite.n_embd = 12;
  lite.dim_ffn = 10;
  lite.n_vocab = 270;
  lite.sign_predictor = true;
  lite.mlp_predictor = true;
  lite.n_cluster = 5;

  TinyModelOptions mm8;
  mm8.version = Version::V5_2;
  mm8.codec = Codec::Mm8;
  mm8.vocabulary = TinyVocabulary::Bpe;
  mm8.n_layer = 1;
  mm8.n_embd = 12;
  mm8.dim_ffn = 10;
  mm8.n_vocab = 260;

  // Tiles, one of them not full, and single rows.
  TinyModelOptions lut;
  lut.version = Version::V7;
  lut.codec = Codec::Lut4;
  lut.vocabulary = TinyVocabulary::Bytes;
  lut.n_layer = 1;
  lut.n_embd = 64;
  lut.n_head = 2;
  lut.dim_ffn = 70;
  lut.n_vocab = 256;
  return {{"format3-tiny-v6.gguf", lite},
          {"format3-tiny-v5.2-mm8.gguf", mm8},
          {"format3-tiny-v7-lut4.gguf", lut}};
}

}  // namespace rwkv::test

#include "runtime/model/model.h"

#include <algorithm>

#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"
#include "formats/tokenizer/vocabulary_metadata.h"

namespace rwkv::edge {

Result<std::shared_ptr<const Model>> Model::open(const std::string& path) {
  std::shared_ptr<Model> model(new Model);
  RWKV_ASSIGN(model->weights_, Weights::open(path));
  RWKV_TRY(model->load().in(path));
  return std::shared_ptr<const Model>(std::move(model));
}

Result<Model::Norm> Model::load_norm(const std::string& name) const {
  Norm norm;
  RWKV_ASSIGN(norm.weight, weights_->vector(name + ".weight"));
  RWKV_ASSIGN(norm.bias, weights_->vector(name + ".bias"));
  return norm;
}

Status Model::load() {
  RWKV_ASSIGN(embedding_, weights_->matrix("emb.weight"));
  RWKV_ASSIGN(head_, weights_->matrix("head.weight"));
  RWKV_ASSIGN(ln0_, load_norm("blocks.0.ln0"));
  RWKV_ASSIGN(ln_out_, load_norm("ln_out"));
  for (size_t i = 0; i < config().n_layer; ++i) {
    const std::string prefix = fmt::format("blocks.{}.", i);
    Block block;
    RWKV_ASSIGN(block.ln1, load_norm(prefix + "ln1"));
    RWKV_ASSIGN(block.ln2, load_norm(prefix + "ln2"));
    RWKV_ASSIGN(block.time_mix, load_time_mix(*weights_, prefix));
    RWKV_ASSIGN(block.channel_mix, load_channel_mix(*weights_, prefix));
    max_rank_ = std::max({max_rank_, block.time_mix->max_rank(), block.channel_mix->max_rank()});
    blocks_.push_back(std::move(block));
  }
  // States belong to a model's exact weights: its id hashes the checksums of all tensors.
  std::vector<std::byte> checksums(weights_->tensors().size() * sizeof(uint64_t));
  for (size_t i = 0; i < weights_->tensors().size(); ++i) {
    store_le(checksums.data() + i * sizeof(uint64_t), weights_->tensors()[i].xxh64);
  }
  model_id_ = xxh64(checksums);
  if (has_vocabulary(weights_->file().metadata())) {
    RWKV_ASSIGN(const Vocabulary vocabulary, vocabulary_from_metadata(weights_->file().metadata()));
    RWKV_ASSIGN(tokenizer_, make_tokenizer(vocabulary));
    if (tokenizer_->n_vocab() > config().n_vocab) {
      return bad_input("the packed vocabulary has ids up to {}, the model knows {}",
                       tokenizer_->n_vocab() - 1, config().n_vocab);
    }
  }
  return {};
}

}  // namespace rwkv::edge

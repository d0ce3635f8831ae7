// The weights of a packed file at the places that the residency chose: mapped, loaded, or read when
// they are needed. Matrices and vectors by name, and the account.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/file.h"
#include "runtime/memory/residency.h"
#include "runtime/storage/cached_rows.h"
#include "runtime/storage/matrix_parts.h"
#include "runtime/storage/reader.h"
#include "runtime/storage/row_window.h"
#include "runtime/storage/stream.h"

namespace rwkv::edge {

class Weights {
 public:
  /// Loads `file` according to `residency`: pinned tensors are read now, pieces that stay in memory
  /// by the first pass.
  static Result<std::shared_ptr<Weights>> load(PackedFile file, Residency residency);
  ~Weights();
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;

  const ModelConfig& config() const { return packed_.config; }
  const std::vector<PackedTensor>& tensors() const { return packed_.tensors; }
  const Residency& residency() const { return residency_; }

  /// Takes what is streamed to the places of `residency`, made by streamed_again() for the same
  /// model, between passes: waits for the one that runs. Pieces that stay are moved, those that
  /// come are read by the next pass. Failed without memory; nothing changes then. Not while another
  /// thread asks for residency() or account().
  Status move_to(const std::function<Result<Residency>(const PackedFile&)>& plan);

  bool contains(std::string_view name) const { return by_name_.find(name) != by_name_.end(); }
  /// A matrix in its codec; valid as long as the weights. A matrix in the slot has its values only
  /// while its block is entered, pieces of a stream only while the stream is told so.
  Result<Matrix> matrix(std::string_view name) const;
  /// A vector, which is always f32. Valid as long as the weights.
  Result<std::span<const float>> vector(std::string_view name) const;
  /// A copy of a vector that need not stay in memory, read from the file unless it is mapped.
  Result<std::vector<float>> read_vector(std::string_view name) const;
  /// Rows of a matrix that may be read by rows, from any place.
  Result<RowStore*> rows(std::string_view name) const;

  /// Loads the matrices of `block` into the slot; nothing unless blocks are streamed. `traffic`
  /// counts the bytes read.
  Status enter_block(size_t block, ThreadPool& pool, Traffic& traffic) const;
  /// The stream of matrices in pieces; null if there are none.
  Stream* stream() const { return stream_.get(); }
  /// Caches, the slot and the stream serve one evaluation at a time: an evaluator holds this lock
  /// while it runs. An empty lock if nothing in memory changes.
  std::unique_lock<std::mutex> lock() const;

  const Account& account() const { return residency_.account; }
  /// Traffic of all evaluators together, since the model was opened.
  Traffic traffic() const;
  void count(const Traffic& traffic) const;
  /// The bytes that passes touch, as far as shapes decide it.
  const WholeTensors& whole() const { return whole_; }
  /// Bytes of all tensors, without narrower copies.
  uint64_t total_bytes() const;

 private:
  Weights(PackedFile file, Residency residency);
  Status load_pinned();
  Status map_file(const std::string& path);
  void open_window();
  void list_slot_reads(std::span<const TensorBinding> bindings);
  std::unique_ptr<RowStore> store_of(size_t tensor);
  Result<size_t> find(std::string_view name) const;
  MatrixView view_of(size_t tensor) const;
  Matrix matrix_of(size_t tensor) const;
  void list_parts();
  Status open_stream();
  PieceSource with_shared_part(PieceSource source) const;
  std::vector<StreamedPiece> pieces_of(const Residency& residency, PieceRaises& raises) const;

  PackedFile packed_;  ///< without metadata
  Residency residency_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::shared_ptr<MappedFile> mapping_;
  std::shared_ptr<InputFile> file_;
  std::unique_ptr<Reader> reader_;  ///< of file_
  std::span<std::byte> pinned_;     ///< own anonymous memory, so that the heap does not fragment
  std::span<std::byte> slot_;
  std::span<std::byte> pieces_;                   ///< those that stay, and the ring
  std::unique_ptr<Stream> stream_;                ///< into them
  std::vector<MatrixPart> parts_;                 ///< as Residency::pieces
  std::vector<std::vector<ReadRequest>> blocks_;  ///< into the slot
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<RowWindow> window_;
  std::vector<std::unique_ptr<RowStore>>
      stores_;  ///< by tensor; null where rows are not read alone
  WholeTensors whole_;
  mutable std::mutex mutex_;
  mutable std::mutex traffic_mutex_;
  mutable Traffic traffic_;
};

}  // namespace rwkv::edge

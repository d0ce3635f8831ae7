// Rows of a matrix that lies in pieces of a stream.
#pragma once

#include "runtime/storage/matrix_parts.h"
#include "runtime/storage/row_store.h"
#include "runtime/storage/stream.h"

namespace rwkv::edge {

class StreamedRows final : public RowStore {
 public:
  /// matrix.parts and the stream outlive the store.
  StreamedRows(const Matrix& matrix, Component component, Stream& stream)
      : RowStore(matrix, component), parts_(matrix.parts), stream_(stream) {}

  Result<size_t> gather(ThreadPool& pool, Traffic& traffic, std::span<const uint32_t> ids,
                        const std::byte** rows) override;
  RowForm form() const override { return form_; }

 private:
  std::span<const MatrixPart> parts_;
  Stream& stream_;
  RowForm form_;
};

}  // namespace rwkv::edge

#include "runtime/storage/reader.h"

#include <atomic>

namespace rwkv::edge {

Status read_all(ThreadPool& pool, const Reader& reader, std::span<const ReadRequest> requests,
                size_t at_a_time) {
  std::atomic<size_t> failed_at{requests.size()};
  pool.run(requests.size(), at_a_time, [&](size_t begin, size_t end, unsigned) {
    for (size_t i = begin; i < end; ++i) {
      if (!reader.read_at(requests[i].offset, requests[i].to).ok()) {
        failed_at.store(i);
      }
    }
  });
  const size_t i = failed_at.load();
  if (i == requests.size()) {
    return {};
  }
  // Once more to get the message, which threads do not return.
  RWKV_TRY(reader.read_at(requests[i].offset, requests[i].to));
  return failed("{}: a read failed and succeeded when repeated; the storage is unreliable",
                reader.path());
}

}  // namespace rwkv::edge

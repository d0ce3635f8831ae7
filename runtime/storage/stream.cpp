#include "runtime/storage/stream.h"

#include <algorithm>
#include <utility>

namespace rwkv::edge {

// The piece itself, a pass earlier, is the farthest.
std::vector<uint32_t> reaches_of(std::span<const StreamedPiece> pieces) {
  const size_t n = pieces.size();
  const auto end_of = [](const StreamedPiece& piece) {
    return piece.area + PieceReader::area_bytes(piece.offset, piece.n_bytes);
  };
  std::vector<uint32_t> reaches(n);
  for (size_t i = 0; i < n; ++i) {
    uint32_t back = 1;
    for (; back < n; ++back) {
      const StreamedPiece& before = pieces[(i + n - back) % n];
      if (before.area < end_of(pieces[i]) && pieces[i].area < end_of(before)) {
        break;
      }
    }
    reaches[i] = back;
  }
  return reaches;
}

Stream::Stream(std::unique_ptr<PieceReader> reader, std::vector<StreamedPiece> pieces,
               size_t n_always, std::span<std::byte> ring, std::unique_ptr<PieceCheck> check)
    : reader_(std::move(reader)),
      check_(std::move(check)),
      pieces_(std::move(pieces)),
      reaches_(reaches_of(pieces_)),
      n_always_(n_always),
      ring_(ring) {
  thread_ = std::thread([this] { run(); });
}

Stream::~Stream() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
  }
  was_used_.notify_one();
  thread_.join();
}

const std::byte* Stream::at(size_t step) const {
  const StreamedPiece& piece = pieces_[step];
  return ring_.data() + piece.area + PieceReader::place_in_area(piece.offset);
}

// Pieces up to `to` are no longer needed; what was read of them counts, used or not.
void Stream::advance(uint64_t to, Traffic& traffic) {
  for (uint64_t n = used_; n < std::min(to, loaded_); ++n) {
    const StreamedPiece& piece = pieces_[n % pieces_.size()];
    const bool is_left_out = left_out_from_ <= n && n < left_out_to_;
    traffic.at(piece.component).read += is_left_out ? 0 : piece.n_bytes;
  }
  used_ = std::max(used_, to);
  loaded_ = std::max(loaded_, used_);
}

void Stream::begin(bool with_rest, Traffic& traffic) {
  {
    const std::lock_guard lock(mutex_);
    if (used_ % pieces_.size() != 0) {
      // What the last pass left out, or did not get to.
      advance(lap_end(used_), traffic);
    }
    lap_ = used_;
    with_rest_ = with_rest;
    failure_ = Status();
  }
  was_used_.notify_one();
}

bool Stream::has(size_t step) {
  const std::lock_guard lock(mutex_);
  return loaded_ > lap_ + step;
}

Status Stream::await(size_t step, Traffic& traffic) {
  std::unique_lock lock(mutex_);
  const uint64_t n = lap_ + step;
  if (n < used_) {
    return failed("piece {} of the stream is used after a later one; this is a program error",
                  step);
  }
  if (n > used_) {
    advance(n, traffic);
    was_used_.notify_one();
  }
  if (loaded_ <= n && failure_.ok()) {
    const auto start = Clock::now();
    was_loaded_.wait(lock, [&] { return loaded_ > n || !failure_.ok(); });
    waited_time_ += Clock::now() - start;
  }
  return loaded_ > n ? Status() : failure_;
}

void Stream::done(size_t step, Traffic& traffic) {
  {
    const std::lock_guard lock(mutex_);
    advance(lap_ + step + 1, traffic);
  }
  was_used_.notify_one();
}

// Whether the place of the next piece is free, and its read has not failed in this pass.
bool Stream::may_load() const {
  return failure_.ok() && used_ + reaches_[loaded_ % pieces_.size()] > loaded_;
}

void Stream::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    was_used_.wait(lock, [&] { return is_ending_ || may_load(); });
    if (is_ending_) {
      return;
    }
    const uint64_t n = loaded_;
    const size_t step = n % pieces_.size();
    if (step >= n_always_ && n - step == lap_ && !with_rest_) {
      left_out_from_ = n;
      left_out_to_ = loaded_ = lap_end(n);
      continue;
    }
    const StreamedPiece& piece = pieces_[step];
    lock.unlock();
    const auto start = Clock::now();
    Status status = reader_->read(piece.offset, piece.n_bytes, ring_.data() + piece.area);
    const auto took = Clock::now() - start;
    if (check_ && status.ok()) {
      status = check_->check(step, at(step));
    }
    lock.lock();
    read_time_ += took;
    read_bytes_ += piece.n_bytes;
    if (loaded_ != n) {
      continue;  // nobody needs it any more
    }
    if (status.ok()) {
      ++loaded_;
    } else {
      failure_ = std::move(status);
    }
    was_loaded_.notify_one();
  }
}

StreamStats Stream::stats() const {
  const std::lock_guard lock(mutex_);
  return {pieces_.size(),
          ring_.size(),
          read_bytes_,
          std::chrono::duration<double>(read_time_).count(),
          std::chrono::duration<double>(waited_time_).count(),
          reader_->is_direct()};
}

}  // namespace rwkv::edge

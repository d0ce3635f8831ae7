#include "runtime/storage/stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/storage/large_pages.h"

namespace rwkv::edge {

// The piece itself, a pass earlier, is the farthest.
std::vector<uint32_t> reaches_of(std::span<const StreamedPiece> pieces) {
  const size_t n = pieces.size();
  std::vector<uint32_t> reaches(n);
  for (size_t i = 0; i < n; ++i) {
    const uint64_t end = pieces[i].area + pieces[i].area_bytes;
    uint32_t back = 1;
    for (; back < n && !pieces[i].stays; ++back) {
      const StreamedPiece& before = pieces[(i + n - back) % n];
      if (!before.stays && before.area < end && pieces[i].area < before.area + before.area_bytes) {
        break;
      }
    }
    reaches[i] = pieces[i].stays ? static_cast<uint32_t>(n) : back;
  }
  return reaches;
}

Stream::Stream(std::unique_ptr<PieceReader> reader, std::vector<StreamedPiece> pieces,
               size_t n_always, std::span<std::byte> memory, std::unique_ptr<PieceCheck> check,
               PieceRaises raises)
    : reader_(std::move(reader)),
      check_(std::move(check)),
      pieces_(std::move(pieces)),
      reaches_(reaches_of(pieces_)),
      loaded_pieces_(pieces_.size()),
      raises_(std::move(raises)),
      n_always_(n_always),
      memory_(memory) {
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

// Not locked: between await() and done() nothing changes it.
MatrixView Stream::view(size_t step) const {
  const PieceSource& source = loaded_pieces_[step].source;
  MatrixView view = source.view;
  view.units = source.n_bytes == 0 ? nullptr
                                   : memory_.data() + pieces_[step].area +
                                         PieceReader::place_in_area(source.offset);
  return view;
}

// Pieces up to `to` are no longer needed; what was read of them counts, used or not.
void Stream::advance(uint64_t to, Traffic& traffic) {
  for (uint64_t n = used_; n < std::min(to, loaded_); ++n) {
    const size_t step = n % size();
    traffic.at(pieces_[step].component).read += std::exchange(loaded_pieces_[step].n_read, 0);
  }
  used_ = std::max(used_, to);
  loaded_ = std::max(loaded_, used_);
}

void Stream::begin(bool with_rest, Traffic& traffic) {
  {
    const std::lock_guard lock(mutex_);
    if (used_ % size() != 0) {
      // What the last pass left out, or did not get to.
      advance(lap_end(used_), traffic);
    }
    lap_ = used_;
    with_rest_ = with_rest;
    failure_ = Status();
    if (lap_ > 0) {
      raise();
    }
  }
  was_used_.notify_one();
}

// What was read ahead already is not read again: then the next pass has the new source.
void Stream::raise() {
  raise_bytes_ += raises_.bytes_per_pass;
  for (; n_raised_ < raises_.raises.size(); ++n_raised_) {
    const auto& [step, source] = raises_.raises[n_raised_];
    const auto n_bytes = static_cast<double>(source.n_bytes);
    if (n_bytes > raise_bytes_) {
      return;
    }
    raise_bytes_ -= n_bytes;
    pieces_[step].source = source;
  }
}

bool Stream::has(size_t step) {
  const std::lock_guard lock(mutex_);
  return loaded_ > lap_ + step;
}

Status Stream::await(size_t step, size_t in_use, Traffic& traffic) {
  std::unique_lock lock(mutex_);
  const uint64_t n = lap_ + step;
  if (n < used_) {
    return failed("piece {} of the stream is used after a later one; this is a program error",
                  step);
  }
  if (lap_ + in_use > used_) {
    advance(lap_ + in_use, traffic);
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
  return !is_held_ && failure_.ok() && used_ + reaches_[loaded_ % size()] > loaded_;
}

bool Stream::need_not_read(size_t step) const {
  const StreamedPiece& piece = pieces_[step];
  const Loaded& loaded = loaded_pieces_[step];
  return piece.source.n_bytes == 0 ||
         (piece.stays && loaded.is_there && loaded.source == piece.source &&
          (!check_ || check_->is_sound(piece.source)));
}

// Reads the piece; its lap goes on with the next one if that succeeded and somebody still needs it.
void Stream::read(size_t step, std::unique_lock<std::mutex>& lock) {
  const uint64_t n = loaded_;
  const PieceSource source = pieces_[step].source;
  std::byte* const area = memory_.data() + pieces_[step].area;
  loaded_pieces_[step].is_there = false;
  is_reading_ = true;
  lock.unlock();
  const auto start = Clock::now();
  Status status = reader_->read(source.offset, source.n_bytes, area);
  const auto took = Clock::now() - start;
  if (check_ && status.ok()) {
    status = check_->check(source, area + PieceReader::place_in_area(source.offset));
  }
  lock.lock();
  is_reading_ = false;
  read_time_ += took;
  read_bytes_ += source.n_bytes;
  const bool is_late = loaded_ != n;  // nobody needs it any more
  if (status.ok()) {
    loaded_pieces_[step] = {source, true, source.n_bytes};
    loaded_ += is_late ? 0 : 1;
  } else if (!is_late) {
    failure_ = std::move(status);
  }
}

void Stream::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    was_used_.wait(lock, [&] { return is_ending_ || may_load(); });
    if (is_ending_) {
      return;
    }
    const uint64_t n = loaded_;
    const size_t step = n % size();
    if (step >= n_always_ && n - step == lap_ && !with_rest_) {
      loaded_ = lap_end(n);
      continue;
    }
    if (need_not_read(step)) {
      loaded_pieces_[step].source = pieces_[step].source;
      ++loaded_;
    } else {
      read(step, lock);
    }
    was_loaded_.notify_all();
  }
}

void Stream::move_to(std::vector<StreamedPiece> pieces, std::span<std::byte> memory) {
  std::unique_lock lock(mutex_);
  is_held_ = true;
  was_loaded_.wait(lock, [&] { return !is_reading_; });
  for (size_t step = 0; step < pieces.size(); ++step) {
    const StreamedPiece& from = pieces_[step];
    const StreamedPiece& to = pieces[step];
    Loaded& loaded = loaded_pieces_[step];
    const bool is_moved = from.stays && to.stays && loaded.is_there && loaded.source == to.source;
    const std::span area = memory_.subspan(from.area, from.area_bytes);
    if (is_moved) {
      std::memcpy(memory.data() + to.area, area.data(),
                  PieceReader::area_bytes(to.source.offset, to.source.n_bytes));
    }
    give_back(area);
    loaded.is_there = is_moved;
  }
  pieces_ = std::move(pieces);
  reaches_ = reaches_of(pieces_);
  memory_ = memory;
  raises_ = {};
  n_raised_ = 0;
  // What was read ahead is lost; the next pass begins with its first piece.
  used_ = loaded_ = used_ % size() == 0 ? used_ : lap_end(used_);
  is_held_ = false;
  lock.unlock();
  was_used_.notify_one();
}

StreamStats Stream::stats() const {
  const std::lock_guard lock(mutex_);
  return {
      static_cast<size_t>(std::count_if(pieces_.begin(), pieces_.end(),
                                        [](const StreamedPiece& piece) { return !piece.stays; })),
      read_bytes_,
      std::chrono::duration<double>(read_time_).count(),
      std::chrono::duration<double>(waited_time_).count(),
      raises_.raises.size() - n_raised_,
      reader_->is_direct()};
}

}  // namespace rwkv::edge

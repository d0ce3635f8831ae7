#include "runtime/memory/speed_choice.h"

#include <algorithm>

#include "runtime/memory/limit_choice.h"

namespace rwkv::edge {
namespace {

// Of a search whose every step is a search of its own.
constexpr int kHalvings = 12;

double speed_of(const Residency& residency) {
  return residency.seconds_per_token > 0 ? 1.0 / residency.seconds_per_token : 0.0;
}

Status check_device(const MemoryOptions& options, const char* what) {
  if (options.mode && mode_traits(*options.mode).dense != DenseWeights::Ahead) {
    return usage_error("{} to be reached needs memory mode streamed, found {}", what,
                       mode_traits(*options.mode).name);
  }
  if (!options.stream.device.is_known() || options.stream.device.n_threads != options.n_threads) {
    return usage_error(
        "{} to be reached needs figures of this device with {} threads; make them with "
        "rwkv-edge profile -t {} and give them with --device",
        what, options.n_threads, options.n_threads);
  }
  return {};
}

// Bytes between all pieces at their narrowest and at full width.
struct WidthRange {
  uint64_t least = 0;
  uint64_t full = 0;
  uint64_t at(double share) const {
    return least + static_cast<uint64_t>(share * static_cast<double>(full - least));
  }
};

WidthRange width_range(const Planner& planner, Choice choice) {
  choice.stream.weight_bytes = 1;
  const Widths narrowest = planner.residency(choice).widths;
  return {std::max<uint64_t>(1, narrowest.bytes), narrowest.full_bytes};
}

// Whether widths may be chosen: there are several, and the caller has not.
bool may_choose_widths(const PackedFile& file, const MemoryOptions& options) {
  return !file.shards.empty() && options.stream.weight_bytes == 0 && options.stream.most_bits == 0;
}

class SpeedSearch {
 public:
  SpeedSearch(const Planner& planner, const PackedFile& file, const MemoryOptions& options)
      : planner_(planner), file_(file), options_(options) {}

  Result<Choice> least_memory() const;
  Result<Choice> within(const WithinLimit& within_limit) const;

 private:
  bool is_fast(const Choice& choice) const {
    return speed_of(planner_.residency(choice)) >= options_.stream.tokens_per_second;
  }
  static Choice with_share(Choice choice, double share) {
    choice.stream.kept_share = share;
    return choice;
  }
  // Everything in memory, at the widest that can be computed in time.
  Result<Choice> all_kept() const;
  Result<Choice> least_of(const Choice& all) const {
    return with_share(all, 1.0 - largest_share([&](double less) {
                             return is_fast(with_share(all, 1.0 - less));
                           }));
  }

  const Planner& planner_;
  const PackedFile& file_;
  const MemoryOptions& options_;
};

Result<Choice> SpeedSearch::all_kept() const {
  Choice all = with_share(first_choice(MemoryMode::Streamed, options_), 1.0);
  if (is_fast(all)) {
    return all;
  }
  if (may_choose_widths(file_, options_)) {
    const WidthRange range = width_range(planner_, all);
    const auto with_width = [&](double share) {
      Choice narrower = all;
      narrower.stream.weight_bytes = range.at(share);
      return narrower;
    };
    const double share =
        largest_share([&](double width) { return is_fast(with_width(width)); }, kHalvings);
    all = with_width(share);
    if (is_fast(all)) {
      return all;
    }
  }
  return usage_error("{}: {} tokens/s cannot be reached: computing alone allows {:.2f}", file_.path,
                     options_.stream.tokens_per_second, speed_of(planner_.residency(all)));
}

Result<Choice> SpeedSearch::least_memory() const {
  RWKV_ASSIGN(const Choice all, all_kept());
  return least_of(all);
}

Result<Choice> SpeedSearch::within(const WithinLimit& within_limit) const {
  MemoryOptions streamed = options_;
  streamed.mode = MemoryMode::Streamed;
  RWKV_ASSIGN(Choice choice, within_limit(streamed));
  if (is_fast(choice)) {
    return choice;
  }
  RWKV_ASSIGN(const Choice all, all_kept());
  if (may_choose_widths(file_, options_)) {
    const WidthRange range = width_range(planner_, choice);
    const double share = largest_share(
        [&](double width) {
          streamed.stream.weight_bytes = range.at(width);
          const Result<Choice> narrower = within_limit(streamed);
          const bool is_enough = narrower.ok() && is_fast(narrower.value());
          return is_enough;
        },
        kHalvings);
    streamed.stream.weight_bytes = range.at(share);
    RWKV_ASSIGN(choice, within_limit(streamed));
    if (is_fast(choice)) {
      return choice;
    }
  }
  RWKV_ASSIGN(const Choice least, least_of(all));
  return usage_error(
      "{}: {} tokens/s cannot be reached within {} bytes, which allow {:.2f}; they need about {} "
      "bytes",
      file_.path, options_.stream.tokens_per_second, options_.limit,
      speed_of(planner_.residency(choice)), planner_.total(least));
}

}  // namespace

Result<Choice> choice_of_speed(const Planner& planner, const PackedFile& file,
                               const MemoryOptions& options, const WithinLimit& within_limit) {
  RWKV_TRY(check_device(options, "a speed"));
  const SpeedSearch search(planner, file, options);
  return within_limit ? search.within(within_limit) : search.least_memory();
}

Status choose_early_widths(const Planner& planner, const PackedFile& file,
                           const MemoryOptions& options, Choice& choice) {
  RWKV_TRY(check_device(options, "a time of the first token"));
  const double wanted = options.stream.first_token_seconds;
  const auto seconds_with = [&](uint64_t early_bytes) {
    Choice early = choice;
    early.stream.early_bytes = early_bytes;
    return planner.residency(early).seconds_of_first;
  };
  if (seconds_with(0) <= wanted) {
    return {};
  }
  WidthRange range = width_range(planner, choice);
  range.full = std::max(range.least, planner.residency(choice).widths.bytes);
  const double share = largest_share(
      [&](double width) { return seconds_with(range.at(width)) <= wanted; }, kHalvings);
  choice.stream.early_bytes = range.at(share);
  const double least = seconds_with(choice.stream.early_bytes);
  if (least > wanted) {
    return usage_error(
        "{}: a first token in {:.0f} ms cannot be reached: with the fewest bytes that the file has "
        "of its weights it takes {:.0f} ms",
        file.path, 1e3 * wanted, 1e3 * least);
  }
  return {};
}

}  // namespace rwkv::edge

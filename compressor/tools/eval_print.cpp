#include "compressor/tools/eval_print.h"
#include "formats/cli/print.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace rwkv::press {
namespace {

constexpr double kMostDigits = 1e6;  // larger numbers are printed with an exponent

void print_skipped(const Skipped& skipped, const std::string& path, const char* what) {
  for (const std::string& complaint : skipped.complaints) {
    cli::print(stderr, "rwkv-press: skipped: {}\n", complaint);
  }
  if (skipped.count > 0) {
    cli::print(stderr, "rwkv-press: {}: {} {} skipped\n", path, skipped.count, what);
  }
}

// A table that collects all cells before it prints the first line.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { add(std::move(header)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  // Aligns the first column left and numbers right.
  void print() const {
    std::vector<size_t> widths(rows_.front().size(), 0);
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) {
        widths[i] = std::max(widths[i], row[i].size());
      }
    }
    for (const auto& row : rows_) {
      std::string line = fmt::format("{:<{}}", row[0], widths[0]);
      for (size_t i = 1; i < row.size(); ++i) {
        line += fmt::format("  {:>{}}", row[i], widths[i]);
      }
      line.erase(line.find_last_not_of(' ') + 1);
      cli::print("{}\n", line);
    }
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

std::string number(double value, int digits) {
  return std::fabs(value) < kMostDigits ? fmt::format("{:.{}f}", value, digits)
                                        : fmt::format("{:.3e}", value);
}
std::string range(const Interval& interval, int digits) {
  return std::isnan(interval.low)
             ? "?"
             : fmt::format("{} to {}", number(interval.low, digits), number(interval.high, digits));
}
std::string percent(double share) {
  return std::isnan(share) ? "?" : fmt::format("{:.2f}", 100.0 * share);
}
std::string percent(const Interval& interval) {
  return range({100.0 * interval.low, 100.0 * interval.high}, 2);
}
std::string error(const Estimate& estimate, int digits) {
  return std::isnan(estimate.standard_error) ? "?" : number(estimate.standard_error, digits);
}

void print_texts(const std::vector<Measurement>& all, size_t i) {
  const TextScore& first = all.front().texts[i].score;
  cli::print("{}: {} tokens, {} bytes; +- from blocks of {} tokens\n", all.front().texts[i].path,
             first.tokens, first.bytes, first.block_length);
  Table table({"model", "perplexity", "95 %", "bits per byte", "+-", "top-1 %", "+-"});
  for (const Measurement& m : all) {
    const TextScore& score = m.texts[i].score;
    table.add({m.model, number(score.perplexity().value, 3), range(score.perplexity_interval(), 3),
               number(score.bits_per_byte.value, 4), error(score.bits_per_byte, 4),
               percent(score.top1_accuracy.value), percent(score.top1_accuracy.standard_error)});
  }
  table.print();
  if (!first.agreement) {
    return;
  }
  cli::print("\nagreement with {}\n", all.front().reference);
  Table agreement({"model", "KL, nats", "+-", "top-1 %", "+-", "in top-5 %", "+-"});
  for (const Measurement& m : all) {
    const Agreement& a = *m.texts[i].score.agreement;
    agreement.add({m.model, number(a.kl.value, 6), error(a.kl, 6), percent(a.top1.value),
                   percent(a.top1.standard_error), percent(a.top5.value),
                   percent(a.top5.standard_error)});
  }
  agreement.print();
}

void print_documents(const std::string& path, uint64_t documents, uint64_t available) {
  if (documents == available) {
    cli::print("{}: {} documents\n", path, documents);
  } else {
    cli::print("{}: {} of {} documents\n", path, documents, available);
  }
}

std::vector<std::string> tally_row(const std::string& name, const Tally& tally) {
  return {name, fmt::format("{}", tally.documents), percent(tally.accuracy()),
          percent(tally.standard_error()), percent(tally.interval())};
}

void print_clozes(const std::vector<Measurement>& all, size_t i) {
  const Measurement::Cloze& first = all.front().clozes[i];
  print_documents(first.path, first.result.all.documents, first.available);
  Table table({"model", "documents", "accuracy %", "+-", "95 %", "perplexity", "95 %"});
  for (const Measurement& m : all) {
    const ClozeResult& result = m.clozes[i].result;
    auto row = tally_row(m.model, result.all);
    row.push_back(number(result.perplexity().value, 3));
    row.push_back(range(result.perplexity_interval(), 3));
    table.add(std::move(row));
    for (const auto& [kind, tally] : result.kinds) {
      table.add(tally_row("  " + kind, tally));
    }
  }
  table.print();
}

void print_choices(const std::vector<Measurement>& all, size_t i) {
  const Measurement::Choices& first = all.front().choices[i];
  print_documents(first.path, first.result.acc.documents, first.available);
  Table table(
      {"model", "acc %", "+-", "95 %", "acc_norm %", "+-", "95 %", "acc_bytes %", "+-", "95 %"});
  for (const Measurement& m : all) {
    const ChoicesResult& result = m.choices[i].result;
    std::vector<std::string> row = {m.model};
    for (const Tally* tally : {&result.acc, &result.acc_norm, &result.acc_bytes}) {
      row.push_back(percent(tally->accuracy()));
      row.push_back(percent(tally->standard_error()));
      row.push_back(percent(tally->interval()));
    }
    table.add(std::move(row));
  }
  table.print();
}

}  // namespace

void print_skipped(const EvaluationSets& sets) {
  for (const ClozeSet& set : sets.clozes) {
    print_skipped(set.malformed, set.path, "malformed lines");
  }
  for (const ChoicesSet& set : sets.choices) {
    print_skipped(set.malformed, set.path, "malformed lines");
    print_skipped(set.incomplete, set.path, "incomplete documents");
  }
}

void print_measurements(const std::vector<Measurement>& measurements) {
  const Measurement& first = measurements.front();
  bool is_first = true;
  const auto each = [&](size_t n, void (*print)(const std::vector<Measurement>&, size_t)) {
    for (size_t i = 0; i < n; ++i) {
      if (!is_first) {
        cli::print("\n");
      }
      is_first = false;
      print(measurements, i);
    }
  };
  each(first.texts.size(), print_texts);
  each(first.clozes.size(), print_clozes);
  each(first.choices.size(), print_choices);
}

}  // namespace rwkv::press

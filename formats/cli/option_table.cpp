#include "formats/cli/option_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>

#include "formats/base/nearest.h"

namespace rwkv::cli {
namespace {

// A choice of more characters than this stands in the description, not behind the option's name.
constexpr size_t kLongChoice = 30;
constexpr const char* kChoiceArgument = "NAME";

bool is_long_choice(const std::string& argument) {
  return argument.size() > kLongChoice && argument.find('|') != std::string::npos;
}

const OptionRow* find_long(std::span<const OptionRow> rows, std::string_view name) {
  const auto has_it = [&](const OptionRow& row) {
    return std::find(row.long_names.begin(), row.long_names.end(), name) != row.long_names.end();
  };
  const auto found = std::find_if(rows.begin(), rows.end(), has_it);
  return found == rows.end() ? nullptr : &*found;
}

const OptionRow* find_short(std::span<const OptionRow> rows, char letter) {
  const auto has_it = [&](const OptionRow& row) {
    return row.short_name.size() == 2 && row.short_name[1] == letter;
  };
  const auto found = std::find_if(rows.begin(), rows.end(), has_it);
  return found == rows.end() ? nullptr : &*found;
}

/// `name` as it was typed, with one or two dashes.
Status unknown_option(std::span<const OptionRow> rows, const std::string& name) {
  std::vector<std::string_view> known;
  for (const OptionRow& row : rows) {
    known.insert(known.end(), row.long_names.begin(), row.long_names.end());
  }
  const std::string with_dashes = name[1] == '-' ? name : "-" + name;
  const std::string_view near = nearest(with_dashes, known);
  return usage_error("unknown option '{}'{}", name,
                     near.empty() ? "" : fmt::format("; did you mean '{}'?", near));
}

std::string with_home(const OptionRow& row, const std::string& value) {
  const char* home = std::getenv("HOME");
  const bool is_home = value == "~" || value.starts_with("~/");
  return is_home && home && row.argument != kTextArgument ? home + value.substr(1) : value;
}

Status missing_value(const OptionRow& row, const std::string& name) {
  return usage_error("{} expects a value ({}), found none", name, row.argument);
}

/// Checks words one after the other and appends them to `out`.
class WordCheck {
 public:
  WordCheck(std::span<const OptionRow> rows, std::vector<std::string>& out)
      : rows_(rows), out_(out) {}

  Status take(const std::string& word) {
    if (pending_) {
      pending_ = nullptr;
      out_.push_back(word);
      return {};
    }
    if (word.starts_with("--")) {
      return take_long(word);
    }
    if (word.size() > 1 && word[0] == '-') {
      return take_short(word);
    }
    out_.push_back(word);
    return {};
  }

  Status end() const { return pending_ ? missing_value(*pending_, out_.back()) : Status(); }

  bool expects_value() const { return pending_ != nullptr; }

 private:
  Status take_long(const std::string& word) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const OptionRow* row = find_long(rows_, name);
    if (!row) {
      return unknown_option(rows_, name);
    }
    if (equals == std::string::npos) {
      pending_ = row->takes_value() ? row : nullptr;
      out_.push_back(word);
      return {};
    }
    if (!row->takes_value()) {
      return usage_error("{} takes no value, found '{}'", name, word.substr(equals + 1));
    }
    out_.push_back(name + "=" + with_home(*row, word.substr(equals + 1)));
    return {};
  }

  Status take_short(const std::string& word) {
    for (size_t i = 1; i < word.size(); ++i) {
      const OptionRow* row = find_short(rows_, word[i]);
      if (!row) {
        return unknown_option(rows_, word);
      }
      out_.push_back(row->short_name);
      if (row->takes_value()) {
        if (i + 1 < word.size()) {
          out_.push_back(with_home(*row, word.substr(i + 1)));
        } else {
          pending_ = row;
        }
        break;
      }
    }
    return {};
  }

  std::span<const OptionRow> rows_;
  std::vector<std::string>& out_;
  const OptionRow* pending_ = nullptr;  ///< the option whose value comes next
};

}  // namespace

std::string OptionRow::heading() const {
  std::vector<std::string> names;
  if (!short_name.empty()) {
    names.push_back(short_name);
  }
  names.insert(names.end(), long_names.begin(), long_names.end());
  const std::string text = fmt::format("{}", fmt::join(names, ", "));
  return takes_value() ? text + " " + (is_long_choice(argument) ? kChoiceArgument : argument)
                       : text;
}

std::vector<std::string> OptionRow::choices() const {
  std::vector<std::string> values;
  if (argument.find('|') == std::string::npos) {
    return values;
  }
  for (size_t begin = 0; begin <= argument.size();) {
    const size_t end = std::min(argument.find('|', begin), argument.size());
    values.push_back(argument.substr(begin, end - begin));
    begin = end + 1;
  }
  return values;
}

DeclaredOptions declared_options(const Program& program, const Command& command) {
  DeclaredOptions declared = {cxxopts::Options(fmt::format("{} {}", program.name, command.name)),
                              {}};
  std::vector<std::string> positionals;
  command.declare(declared.parser, positionals);
  declared.parser.add_options()("h,help", "Show this help");
  declared.parser.parse_positional(positionals);
  for (const cxxopts::HelpOptionDetails& option : declared.parser.group_help("").options) {
    OptionRow row;
    row.short_name = option.s.empty() ? "" : "-" + option.s;
    for (const std::string& name : option.l) {
      row.long_names.push_back("--" + name);
      row.is_positional |=
          std::find(positionals.begin(), positionals.end(), name) != positionals.end();
    }
    row.description = option.desc;
    row.argument = option.is_boolean ? "" : option.arg_help.empty() ? "VALUE" : option.arg_help;
    if (is_long_choice(row.argument)) {
      row.description += fmt::format("; one of {}", fmt::join(row.choices(), ", "));
    }
    row.default_value = option.has_default && !option.is_boolean ? option.default_value : "";
    declared.rows.push_back(std::move(row));
  }
  return declared;
}

Result<std::vector<std::string>> checked_words(std::span<const OptionRow> rows,
                                               std::span<const std::string> words) {
  std::vector<std::string> out;
  WordCheck check(rows, out);
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--" && !check.expects_value()) {
      out.insert(out.end(), words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
      break;
    }
    RWKV_TRY(check.take(words[i]));
  }
  RWKV_TRY(check.end());
  return out;
}

}  // namespace rwkv::cli

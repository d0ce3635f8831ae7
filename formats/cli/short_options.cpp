#include "formats/cli/short_options.h"

#include <algorithm>
#include <set>

namespace rwkv::cli {

std::vector<std::string> separate_short_options(const cxxopts::Options& options,
                                                const std::vector<std::string>& words) {
  std::set<std::string> take_value;  // "-o", "--output"
  for (const cxxopts::HelpOptionDetails& option : options.group_help("").options) {
    if (option.is_boolean) {
      continue;
    }
    if (!option.s.empty()) {
      take_value.insert("-" + option.s);
    }
    for (const std::string& name : option.l) {
      take_value.insert("--" + name);
    }
  }
  std::vector<std::string> separated;
  bool is_value = false;
  for (auto word = words.begin(); word != words.end(); ++word) {
    if (!is_value && *word == "--") {
      separated.insert(separated.end(), word, words.end());
      break;
    }
    const bool is_short = word->size() > 2 && word->front() == '-' && (*word)[1] != '-';
    if (!is_value && is_short && take_value.contains(word->substr(0, 2))) {
      separated.push_back(word->substr(0, 2));
      separated.push_back(word->substr(2));
      continue;
    }
    separated.push_back(*word);
    is_value = !is_value && take_value.contains(*word);
  }
  return separated;
}

}  // namespace rwkv::cli

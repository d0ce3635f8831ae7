// Options of one letter with their values right behind them, "-oout.gguf", as two words. The parser
// would take them apart with regular expressions, whose depth of recursion grows with the length of
// the value: a prompt of 100 kB ended the program.
#pragma once

#include <cxxopts.hpp>
#include <string>
#include <vector>

namespace rwkv::cli {

/// `words` (without the program's name) with each "-oVALUE" as "-o" and "VALUE", for options that
/// take a value. What is itself the value of an option, and all after "--", stays as it is.
std::vector<std::string> separate_short_options(const cxxopts::Options& options,
                                                const std::vector<std::string>& words);

}  // namespace rwkv::cli

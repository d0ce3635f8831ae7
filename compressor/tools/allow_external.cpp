// --allow-external: commands of a recipe run only with it, and are shown before they do.
#include "compressor/recipe/commands.h"
#include "compressor/tools/commands.h"
#include "formats/base/printable.h"
#include "formats/cli/print.h"

namespace rwkv::press {

void declare_external_option(cxxopts::Options& options) {
  options.add_options()("allow-external",
                        "Run the commands of the recipe's stages 'external'; read them first");
}

Status allow_commands(const cxxopts::ParseResult& arguments,
                      const std::vector<std::string>& commands, const std::string& origin) {
  RWKV_TRY(check_commands(commands, origin, arguments.count("allow-external") > 0));
  for (const std::string& command : commands) {
    // Whole, however long: what is left out of it would be what somebody hides.
    cli::print(stderr, "{}: {}\n", printable(origin), command);
  }
  return {};
}

}  // namespace rwkv::press

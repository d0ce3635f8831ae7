#include "compressor/recipe/commands.h"

#include "formats/base/printable.h"

namespace rwkv::press {

std::vector<std::string> commands_of(const Recipe& recipe) {
  std::vector<std::string> commands;
  for (const std::unique_ptr<Stage>& stage : recipe.stages) {
    const std::string command = stage->command();
    if (!command.empty()) {
      commands.push_back(
          fmt::format("stage {} runs: {}", stage->name(), printable(command, command.size())));
    }
  }
  return commands;
}

Status check_commands(const std::vector<std::string>& commands, const std::string& origin,
                      bool allowed) {
  if (commands.empty() || allowed) {
    return {};
  }
  return usage_error(
      "{}: expected a recipe that runs no commands, or --allow-external; read this one before you "
      "allow it: {}",
      origin, commands.front());
}

}  // namespace rwkv::press

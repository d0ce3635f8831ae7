#include "compressor/sweep/worker.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "compressor/evaluate/footprint.h"
#include "compressor/evaluate/measure.h"
#include "compressor/evaluate/measurement_json.h"
#include "compressor/pipeline/pack.h"
#include "compressor/pipeline/pipeline.h"
#include "compressor/sweep/claim.h"
#include "compressor/sweep/device.h"
#include "compressor/sweep/folder.h"
#include "compressor/sweep/metrics.h"
#include "compressor/sweep/points.h"
#include "compressor/sweep/received.h"
#include "formats/base/checksum.h"
#include "formats/base/file.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kMaxRecipeBytes = uint64_t{1} << 20;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// LibTorch and the standard library may throw.
template <typename Function>
Status guarded(const Function& function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return failed("out of memory");
  } catch (const std::exception& error) {
    const std::string message = error.what();
    return failed("{}", message.substr(0, message.find('\n')));
  }
}

struct Task {
  PointFolder folder;
  Recipe recipe;
  SweepPoint point;
  HeldAs held;
  double seconds = 0;  ///< own time and its share of common work
};
using Tasks = std::vector<Task*>;

class Worker {
 public:
  Worker(const SweepJob& job, const WorkerModel& model, const WorkerProgress& progress)
      : job_(job), model_(model), show_(progress) {}

  Status run() {
    RWKV_TRY(load());
    RWKV_ASSIGN(const Tasks possible, check_plans());
    for (auto& [text, tasks] : groups_of(possible, [](const Task& task) {
           return fmt::format("{} {}", task.recipe.seed, task.point.learns_from);
         })) {
      RWKV_TRY(settle(tasks, guarded([&, &group = tasks] { return begin(group); })));
    }
    return {};
  }

 private:
  using Groups = std::vector<std::pair<std::string, Tasks>>;

  Status load() {
    tasks_.reserve(job_.points.size());
    for (const std::string& id : job_.points) {
      if (!is_point_id(id)) {
        return bad_input("sweep-point: '{}' is no id of a point", id);
      }
      PointFolder folder(job_.folder, id);
      RWKV_ASSIGN(const std::string yaml, read_text_file(folder.recipe(), kMaxRecipeBytes));
      RWKV_ASSIGN(Recipe recipe, parse_recipe(yaml, folder.recipe(), {}));
      RWKV_ASSIGN(SweepPoint point, point_from_recipe(yaml, folder.recipe()));
      std::string device;
      if (exists(folder.device())) {
        RWKV_ASSIGN(device, read_text_file(folder.device(), kMaxRecipeBytes));
      }
      RWKV_ASSIGN(HeldAs held, read_device(device, job_.evaluation.memory, folder.device()));
      tasks_.push_back({folder, std::move(recipe), std::move(point), std::move(held)});
    }
    if (!job_.evaluation.empty()) {
      RWKV_ASSIGN(sets_, load_evaluation_sets(job_.evaluation.files));
    }
    return {};
  }

  // Keeps the points whose recipe fits the model, before anything is computed.
  Result<Tasks> check_plans() {
    Tasks tasks;
    for (Task& task : tasks_) {
      const Status status = plan_stages(task.recipe, model_.model).status();
      RWKV_TRY(settle({&task}, status));
      if (status.ok()) {
        tasks.push_back(&task);
      }
    }
    return tasks;
  }

  // Groups by `text_of`, in the order of first occurrence.
  template <typename Function>
  static Groups groups_of(const Tasks& tasks, const Function& text_of) {
    Groups groups;
    for (Task* task : tasks) {
      const std::string text = text_of(*task);
      auto found = std::find_if(groups.begin(), groups.end(),
                                [&](const auto& group) { return group.first == text; });
      if (found == groups.end()) {
        found = groups.insert(groups.end(), {text, {}});
      }
      found->second.push_back(task);
    }
    return groups;
  }

  // An error affects only these points; only a folder that cannot be written ends the job.
  Status settle(const Tasks& tasks, const Status& status) {
    if (!status.ok()) {
      for (const Task* task : tasks) {
        if (!task->folder.is_done() && !task->folder.has_failed()) {
          task->folder.note("failed: " + status.message());
          RWKV_TRY(task->folder.fail(status.message()));
        }
      }
    }
    return {};
  }

  void listen(Work& work, const Tasks& tasks) {
    work.report = [this, tasks](const std::string& line) {
      for (const Task* task : tasks) {
        task->folder.note(line);
      }
      show_(tasks.front()->folder.id(), line);
    };
    work.warn = [report = work.report](const std::string& line) { report("warning: " + line); };
    work.progress = [this, id = tasks.front()->folder.id()](const std::string& what, double share) {
      const auto now = Clock::now();
      if (now - last_shown_ > std::chrono::milliseconds(300)) {
        last_shown_ = now;
        show_(id, fmt::format("{} {:.0f} %", what, 100 * share));
      }
    };
  }

  // Handles points with the same seed and the same calibration text.
  Status begin(const Tasks& tasks) {
    const Clock::time_point start = Clock::now();
    const Recipe& recipe = tasks.front()->recipe;
    PipelineOptions options;
    options.scratch_folder = tasks.front()->folder.path();
    show_(tasks.front()->folder.id(), "calibration");
    if (!tasks.front()->point.learns_from.empty()) {
      CalibrationOptions calibration = recipe.calibration;
      calibration.texts = job_.inputs.calibration;
      calibration.statistics = job_.inputs.statistics;
      RWKV_ASSIGN(options.calibration,
                  load_calibration(calibration, model_.vocabulary, model_.model.config,
                                   job_.inputs.checkpoint));
    }
    options.shared_folder = SweepFolder(job_.folder).shared();
    options.allow_external = job_.inputs.allow_external;
    options.training.data = job_.inputs.train_data;
    options.training.vocabulary = model_.vocabulary;
    options.training.resume = true;
    RWKV_ASSIGN(Work work, begin_work(model_.source, model_.model, recipe.seed, options));
    share_time(tasks, start);
    return go_on(work, 0, tasks);
  }

  static void share_time(const Tasks& tasks, Clock::time_point start) {
    for (Task* task : tasks) {
      task->seconds += seconds_since(start) / static_cast<double>(tasks.size());
    }
  }

  // `work` has passed the first `depth` stages, which are the same for all of `tasks`.
  Status go_on(Work& work, size_t depth, const Tasks& tasks) {
    Tasks left;
    for (Task* task : tasks) {
      if (task->point.stages.size() > depth) {
        left.push_back(task);
      } else {
        RWKV_TRY(settle({task}, guarded([&] { return finish(work, *task); })));
      }
    }
    const Groups groups =
        groups_of(left, [&](const Task& task) { return task.point.stages[depth]; });
    for (const auto& [text, group] : groups) {
      const auto step = [&, &same = group]() -> Status {
        if (groups.size() == 1) {
          return run_and_go_on(work, depth, same);
        }
        RWKV_ASSIGN(Work own, branch(work, same.front()->folder.path()));
        return run_and_go_on(own, depth, same);
      };
      RWKV_TRY(settle(group, guarded(step)));
    }
    return {};
  }

  Status run_and_go_on(Work& work, size_t depth, const Tasks& tasks) {
    const Clock::time_point start = Clock::now();
    const Stage& stage = *tasks.front()->recipe.stages[depth];
    listen(work, tasks);
    show_(tasks.front()->folder.id(), stage.name());
    if (stage.trains()) {
      RWKV_TRY(train(stage, work, depth, *tasks.front()));
    } else {
      RWKV_TRY(run_stage(stage, work));
    }
    share_time(tasks, start);
    return go_on(work, depth + 1, tasks);
  }

  // A training resumes, so its folder is named after everything it depends on. If another process
  // has that folder, the point's own folder is used.
  Status train(const Stage& stage, Work& work, size_t depth, const Task& task) {
    std::string depends =
        fmt::format("{} {} {}", job_.fingerprint, task.recipe.seed, task.point.learns_from);
    for (size_t i = 0; i <= depth; ++i) {
      depends += "\n" + task.point.stages[i];
    }
    const std::string shared = fmt::format("{}/train-{:016x}", SweepFolder(job_.folder).shared(),
                                           xxh64(std::as_bytes(std::span(depends))));
    RWKV_TRY(make_folder(shared));
    RWKV_ASSIGN(const std::optional<Claim> claim, Claim::take(shared + "/claim", false));
    work.training.folder = claim ? shared : task.folder.training();
    return run_stage(stage, work);
  }

  Status finish(Work& work, Task& task) {
    const Clock::time_point start = Clock::now();
    const PointFolder& folder = task.folder;
    show_(folder.id(), "packing");
    RWKV_TRY(end_work(work));
    PackOptions options;
    options.output = folder.model();
    options.existing = OutputFile::Existing::Replace;
    options.model_name = model_.name;
    options.tool_version = model_.tool_version;
    options.vocabulary = model_.vocabulary;
    RWKV_TRY(pack(*work.source, work.plan, task.recipe, options));
    RWKV_ASSIGN(Json result, figures(folder, task.held));
    result["seconds"] = task.seconds + seconds_since(start);
    const bool is_wanted = job_.keep_models || job_.evaluation.speed;
    if (!is_wanted) {
      remove_file(folder.model());
    }
    folder.note("done");
    return write_json(folder.result(), result);
  }

  Result<Json> figures(const PointFolder& folder, const HeldAs& held) {
    RWKV_ASSIGN(const Footprint bytes, footprint(folder.model(), held));
    RWKV_ASSIGN(const uint64_t checksum, file_xxh64(folder.model()));
    Json result = {{"id", folder.id()},
                   {"file_bytes", fs::file_size(folder.model())},
                   {"memory", bytes.mode},
                   {"resident_bytes", bytes.resident_bytes},
                   {"weight_bytes", bytes.weight_bytes},
                   {"xxh64", fmt::format("{:016x}", checksum)},
                   {"metrics", Json::object()}};
    if (!job_.evaluation.empty()) {
      MeasureOptions options;
      options.n_threads = model_.n_threads;
      options.max_tokens = job_.evaluation.max_tokens;
      options.weight_bytes = held.weight_bytes;
      options.reference = job_.reference;
      options.reference_name = fs::path(job_.reference).filename().string();
      options.name = folder.id();
      options.progress = [&](const std::string& what, double share) {
        const auto now = Clock::now();
        if (now - last_shown_ > std::chrono::milliseconds(300)) {
          last_shown_ = now;
          show_(folder.id(),
                fmt::format("{} {:.0f} %", fs::path(what).filename().string(), 100 * share));
        }
      };
      RWKV_ASSIGN(const Measurement measurement, measure(folder.model(), sets_, options));
      const Json measured = measurement_to_json(measurement);
      result["metrics"] = metrics_of(measured);
      result["measurement"] = measured;
    }
    return result;
  }

  const SweepJob& job_;
  const WorkerModel& model_;
  const WorkerProgress& show_;
  std::vector<Task> tasks_;
  EvaluationSets sets_;
  Clock::time_point last_shown_;
};

}  // namespace

Status run_job(const SweepJob& job, const WorkerModel& model, const WorkerProgress& progress) {
  return Worker(job, model, progress).run();
}

}  // namespace rwkv::press

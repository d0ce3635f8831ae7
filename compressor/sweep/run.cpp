#include "compressor/sweep/run.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <list>
#include <thread>

#include "compressor/evaluate/footprint.h"
#include "compressor/pipeline/convert.h"
#include "compressor/sweep/child.h"
#include "compressor/sweep/claim.h"
#include "compressor/sweep/device.h"
#include "compressor/sweep/lock.h"
#include "compressor/sweep/received.h"
#include "compressor/sweep/results.h"
#include "compressor/sweep/units.h"
#include "formats/base/file.h"

namespace rwkv::press {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRounds = 5;             // rounds of measuring speed, over all points in turn
constexpr uint64_t kSpeedTokens = 24;  // tokens per round
constexpr auto kBetweenResults = std::chrono::seconds(1);
constexpr int kPollMilliseconds = 1000;
constexpr int kClaimRounds = 3;
constexpr auto kBetweenRounds = std::chrono::seconds(1);
constexpr const char* kReferencePreset = "fp32";

class Sweep {
 public:
  Sweep(const SweepRun& run, const WorkerModel& model,
        const std::function<void(const SweepProgress&)>& progress)
      : run_(run), model_(model), show_(progress) {}

  Result<SweepOutcome> go() {
    RWKV_TRY(make_folder(run_.folder.path()));
    RWKV_TRY(check_entries(run_.folder));
    RWKV_ASSIGN(SweepLock lock, SweepLock::take(run_.folder.path(), owner(), run_.changed));
    RWKV_TRY(prepare());
    RWKV_TRY(do_points());
    RWKV_TRY(measure_speeds());
    RWKV_TRY(clear_claims());
    SweepOutcome outcome;
    for (const size_t i : own_) {
      outcome.failed += folders_[i].has_failed() ? 1 : 0;
      outcome.missing += is_pending(i) && !folders_[i].has_failed() ? 1 : 0;
    }
    RWKV_ASSIGN(outcome.results, collect_results(run_.folder));
    RWKV_TRY(write_results(run_.folder, outcome.results));
    if (std::all_of(folders_.begin(), folders_.end(),
                    [](const PointFolder& folder) { return folder.is_done(); }) &&
        lock.is_last()) {
      run_.folder.clear_shared();
    }
    return outcome;
  }

 private:
  struct Running {
    Child child;
    std::vector<size_t> points;
    std::vector<Claim> claims;
    std::string current;  ///< id of the current point
  };

  const std::vector<SweepPoint>& points() const { return run_.plan.points; }
  bool wants_speed() const { return run_.settings.evaluation.speed; }
  bool is_pending(size_t i) const {
    const PointFolder& folder = folders_[i];
    return !folder.is_done() ||
           (wants_speed() && !exists(folder.speed()) && !exists(folder.model()));
  }

  bool is_tried(size_t i) const {
    return std::find(tried_.begin(), tried_.end(), i) != tried_.end();
  }

  SweepLock::Owner owner() const {
    return {run_.fingerprint.of(run_.plan, run_.settings.evaluation), run_.settings.origin,
            fmt::format("{}/{}", run_.shard + 1, run_.n_shards)};
  }

  Status prepare() {
    RWKV_TRY(make_folder(run_.folder.points()));
    RWKV_TRY(make_folder(run_.folder.shared()));
    for (size_t i = 0; i < points().size(); ++i) {
      const std::string id = run_.folder.id_for(i, run_.fingerprint.of(points()[i]));
      folders_.push_back(run_.folder.point(id));
      RWKV_TRY(make_folder(folders_.back().path()));
      if (!exists(folders_.back().recipe())) {
        RWKV_TRY(write_point(i));
      }
    }
    // Neighbouring points stay together, since they share the most work.
    const size_t n = points().size();
    for (size_t i = run_.shard * n / run_.n_shards; i < (run_.shard + 1) * n / run_.n_shards; ++i) {
      own_.push_back(i);
    }
    return write_json(run_.folder.manifest(), manifest());
  }

  // What a child reads of a point.
  Status write_point(size_t i) const {
    if (!points()[i].device.empty()) {
      RWKV_TRY(write_whole(folders_[i].device(), points()[i].device + "\n"));
    }
    return write_whole(folders_[i].recipe(), points()[i].recipe);
  }

  Json manifest() const {
    const SpeedMachine machine = this_machine();
    Json axes = Json::array();
    for (const SweepAxis& axis : run_.settings.axes) {
      axes.push_back({{"name", axis.name}, {"values", axis.values}});
    }
    Json planned = Json::array();
    for (size_t i = 0; i < points().size(); ++i) {
      Json settings = Json::object();
      for (const auto& [axis, value] : points()[i].settings) {
        settings[axis] = value;
      }
      planned.push_back(
          {{"id", folders_[i].id()}, {"label", points()[i].label}, {"settings", settings}});
    }
    Json bars = Json::array();
    for (const SweepPlan::Bar& bar : run_.plan.ablation) {
      bars.push_back({{"label", bar.label}, {"point", folders_[bar.point].id()}});
    }
    const auto baseline = run_.plan.baseline;
    return {{"format", "rwkv-press-sweep-manifest"},
            {"version", 1},
            {"configuration", owner().configuration},
            {"title", run_.settings.name},
            {"model",
             {{"name", model_.name},
              {"description", describe(model_.model.config)},
              {"fp16_bytes", plan_for(model_.model).fp16_bytes()}}},
            {"axes", axes},
            {"machine",
             {{"cpu", machine.cpu}, {"threads", machine.threads}, {"kernels", machine.kernels}}},
            {"points", planned},
            {"ablation", bars},
            {"baseline", baseline ? Json(folders_[*baseline].id()) : Json()}};
  }

  // The dense model, which all others are compared with.
  Status make_reference() {
    if (!run_.settings.evaluation.reference || run_.settings.evaluation.files.texts.empty()) {
      return {};
    }
    reference_ =
        fmt::format("{}/reference-{}.gguf", run_.folder.shared(), run_.fingerprint.model());
    if (exists(reference_)) {
      return {};
    }
    RWKV_ASSIGN(const Preset* preset, find_preset(kReferencePreset));
    RWKV_ASSIGN(const Recipe recipe, parse_recipe(preset->yaml, preset->name, {}));
    PipelineOptions pipeline;
    pipeline.scratch_folder = run_.folder.shared();
    PackOptions options;
    options.output = reference_;
    options.existing = OutputFile::Existing::Replace;
    options.model_name = model_.name;
    options.tool_version = model_.tool_version;
    options.vocabulary = model_.vocabulary;
    return convert_checkpoint(recipe, model_.source, model_.model, pipeline, options).status();
  }

  void show(const std::string& what, bool is_milestone) {
    SweepProgress progress;
    progress.total = own_.size();
    for (const size_t i : own_) {
      progress.done += folders_[i].is_done() ? 1 : 0;
      progress.failed += folders_[i].has_failed() ? 1 : 0;
    }
    progress.current = what;
    progress.is_milestone = is_milestone;
    show_(progress);
  }

  std::string label_of(const std::string& id) const {
    for (size_t i = 0; i < points().size(); ++i) {
      if (folders_[i].id() == id) {
        return points()[i].label;
      }
    }
    return id;
  }

  // Tries points again that other processes had claimed: a process that is being killed keeps its
  // claims for a moment.
  Status do_points() {
    for (int round = 0; round < kClaimRounds; ++round) {
      RWKV_TRY(do_free_points());
      if (std::none_of(own_.begin(), own_.end(),
                       [&](size_t i) { return is_pending(i) && !folders_[i].has_failed(); })) {
        break;
      }
      std::this_thread::sleep_for(kBetweenRounds);
    }
    return {};
  }

  Status do_free_points() {
    std::vector<size_t> pending;
    std::copy_if(own_.begin(), own_.end(), std::back_inserter(pending),
                 [&](size_t i) { return is_pending(i) && !is_tried(i); });
    std::copy_if(own_.begin(), own_.end(), std::back_inserter(told_),
                 [&](size_t i) { return !is_pending(i); });
    if (pending.empty()) {
      return {};
    }
    RWKV_TRY(make_reference());
    for (std::vector<size_t>& unit : deal_out(points(), pending, run_.jobs)) {
      queue_.push_back(std::move(unit));
    }
    while (!queue_.empty() || !running_.empty()) {
      while (running_.size() < run_.jobs && !queue_.empty()) {
        std::vector<size_t> unit = std::move(queue_.front());
        queue_.pop_front();
        RWKV_TRY(launch(unit));
      }
      RWKV_TRY(listen());
    }
    return {};
  }

  // Claims the free points of the unit and starts a child for them.
  Status launch(const std::vector<size_t>& unit) {
    std::vector<size_t> taken;
    std::vector<Claim> claims;
    SweepJob job{run_.inputs,
                 run_.settings.evaluation,
                 run_.folder.path(),
                 run_.fingerprint.common(),
                 reference_,
                 run_.keep_models,
                 {}};
    for (const size_t i : unit) {
      RWKV_ASSIGN(std::optional<Claim> claim, Claim::take(folders_[i].claim(), run_.retry_claimed));
      if (!claim || !is_pending(i)) {
        continue;
      }
      folders_[i].clear();
      RWKV_TRY(write_point(i));
      claims.push_back(std::move(*claim));
      taken.push_back(i);
      tried_.push_back(i);
      job.points.push_back(folders_[i].id());
    }
    if (taken.empty()) {
      return {};
    }
    RWKV_ASSIGN(Child child,
                Child::start({"sweep-point"},
                             {fmt::format("RWKV_PRESS_THREADS={}",
                                          std::max<size_t>(1, model_.n_threads / run_.jobs))},
                             job_to_json(job).dump()));
    running_.push_back({std::move(child), std::move(taken), std::move(claims), job.points.front()});
    return {};
  }

  Status listen() {
    std::vector<pollfd> wanted;
    for (const Running& running : running_) {
      wanted.push_back({running.child.out(), POLLIN, 0});
      wanted.push_back({running.child.err(), POLLIN, 0});
    }
    ::poll(wanted.data(), wanted.size(), kPollMilliseconds);
    bool has_news = false;
    for (auto at = running_.begin(); at != running_.end();) {
      Running& running = *at++;
      const bool is_open = running.child.read([&](const std::string& line) {
        const size_t space = line.find(' ');
        const std::string id = line.substr(0, space);
        has_news |= id != running.current;
        running.current = id;
        show(fmt::format("{}: {}", label_of(id),
                         space == std::string::npos ? "" : line.substr(space + 1)),
             false);
      });
      if (!is_open) {
        RWKV_TRY(settle(running));
        running_.erase(std::prev(at));
        has_news = true;
      }
    }
    return has_news ? update_results() : Status();
  }

  // Handles the end of a child. A crash counts as a failure of the point in progress; the others
  // get another child.
  Status settle(Running& ended) {
    const Status status = ended.child.wait();
    std::vector<size_t> left;
    for (const size_t i : ended.points) {
      if (!folders_[i].is_done() && !folders_[i].has_failed()) {
        left.push_back(i);
      }
    }
    if (!left.empty()) {
      const auto blamed = std::find_if(left.begin(), left.end(),
                                       [&](size_t i) { return folders_[i].id() == ended.current; });
      const size_t one = blamed == left.end() ? left.front() : *blamed;
      RWKV_TRY(folders_[one].fail(status.ok() ? "its process ended without a result"
                                              : status.message()));
      std::erase(left, one);
    }
    ended.claims.clear();
    if (!left.empty()) {
      queue_.push_front(std::move(left));
    }
    return {};
  }

  Status update_results() {
    for (const size_t i : own_) {
      const bool is_over = folders_[i].is_done() || folders_[i].has_failed();
      if (is_over && std::find(told_.begin(), told_.end(), i) == told_.end()) {
        told_.push_back(i);
        show(points()[i].label + (folders_[i].is_done()
                                      ? ": done"
                                      : fmt::format(": failed: {}", folders_[i].message())),
             true);
      }
    }
    const auto now = Clock::now();
    if (now - last_results_ < kBetweenResults) {
      return {};
    }
    last_results_ = now;
    RWKV_ASSIGN(const Json results, collect_results(run_.folder));
    return write_results(run_.folder, results);
  }

  // Removes claims that killed processes left at finished points.
  Status clear_claims() {
    for (const size_t i : own_) {
      if (folders_[i].is_done() && exists(folders_[i].claim())) {
        RWKV_TRY(Claim::take(folders_[i].claim(), false).status());
      }
    }
    return {};
  }

  // Runs when nothing else of this sweep does. Alternates between all points, so that other load on
  // the machine affects all of them.
  Status measure_speeds() {
    if (!wants_speed()) {
      return {};
    }
    struct Subject {
      size_t point;
      Claim claim;
      HeldAs held;
      std::vector<double> rates;
    };
    std::vector<Subject> subjects;
    for (const size_t i : own_) {
      const PointFolder& folder = folders_[i];
      if (!folder.is_done() || exists(folder.speed()) || !exists(folder.model())) {
        continue;
      }
      RWKV_ASSIGN(std::optional<Claim> claim, Claim::take(folder.claim(), run_.retry_claimed));
      if (claim) {
        RWKV_ASSIGN(const Json result, read_result(folder));
        RWKV_ASSIGN(HeldAs held, read_device(points()[i].device, result.value("memory", "auto"),
                                             folder.device()));
        subjects.push_back({i, std::move(*claim), std::move(held), {}});
      }
    }
    for (int round = 0; round < kRounds && !subjects.empty(); ++round) {
      show(fmt::format("tokens per second, round {} of {}", round + 1, kRounds), round == 0);
      for (Subject& subject : subjects) {
        const PointFolder& folder = folders_[subject.point];
        auto rate =
            decode_speed(folder.model(), subject.held, this_machine().threads, kSpeedTokens);
        RWKV_TRY(rate.status());
        subject.rates.push_back(rate.value());
      }
    }
    for (Subject& subject : subjects) {
      const PointFolder& folder = folders_[subject.point];
      RWKV_TRY(write_json(folder.speed(), speed_to_json(std::move(subject.rates))));
      if (!run_.keep_models) {
        remove_file(folder.model());
      }
    }
    return {};
  }

  const SweepRun& run_;
  const WorkerModel& model_;
  const std::function<void(const SweepProgress&)>& show_;
  std::vector<PointFolder> folders_;
  std::vector<size_t> own_;  ///< points of this shard
  std::string reference_;
  std::deque<std::vector<size_t>> queue_;
  std::list<Running> running_;
  std::vector<size_t> told_;
  std::vector<size_t> tried_;  ///< points tried in this run
  Clock::time_point last_results_;
};

}  // namespace

Result<SweepOutcome> run_sweep_points(const SweepRun& run, const WorkerModel& model,
                                      const std::function<void(const SweepProgress&)>& progress) {
  return Sweep(run, model, progress).go();
}

}  // namespace rwkv::press

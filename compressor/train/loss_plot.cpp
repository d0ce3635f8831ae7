// The plot of a training's loss. A few lines of SVG: none of the project's libraries draws.
#include <algorithm>
#include <cmath>

#include "compressor/train/loss_log.h"

namespace rwkv::press {
namespace {

constexpr double kWidth = 800, kHeight = 420;
constexpr double kLeft = 60, kRight = 20, kTop = 30, kBottom = 50;
constexpr size_t kPoints = 400;  ///< of the training curve, each the mean of its steps

struct Point {
  double x, y;
};

struct Frame {
  double x_most = 1, y_least = 0, y_most = 1;
  double x(double step) const { return kLeft + (kWidth - kLeft - kRight) * step / x_most; }
  double y(double loss) const {
    return kHeight - kBottom - (kHeight - kTop - kBottom) * (loss - y_least) / (y_most - y_least);
  }
};

std::vector<Point> smoothed(const std::vector<LossRow>& rows) {
  const size_t per_point = std::max<size_t>(1, (rows.size() + kPoints - 1) / kPoints);
  std::vector<Point> points;
  for (size_t first = 0; first < rows.size(); first += per_point) {
    const size_t last = std::min(rows.size(), first + per_point);
    double sum = 0;
    for (size_t i = first; i < last; ++i) {
      sum += rows[i].loss;
    }
    points.push_back(
        {static_cast<double>(rows[last - 1].step), sum / static_cast<double>(last - first)});
  }
  return points;
}

std::vector<Point> validated(const std::vector<LossRow>& rows) {
  std::vector<Point> points;
  for (const LossRow& row : rows) {
    if (row.valid >= 0) {
      points.push_back({static_cast<double>(row.step), row.valid});
    }
  }
  return points;
}

Frame frame_of(const std::vector<Point>& train, const std::vector<Point>& valid) {
  Frame frame;
  frame.y_least = 1e30;
  frame.y_most = -1e30;
  for (const std::vector<Point>* points : {&train, &valid}) {
    for (const Point& point : *points) {
      frame.x_most = std::max(frame.x_most, point.x);
      if (std::isfinite(point.y)) {
        frame.y_least = std::min(frame.y_least, point.y);
        frame.y_most = std::max(frame.y_most, point.y);
      }
    }
  }
  frame.y_least = std::max(0.0, frame.y_least - 0.05 * (frame.y_most - frame.y_least));
  // Ticks between values that hardly differ would have no end.
  constexpr double kLeastRange = 1e-9;
  if (!(frame.y_most - frame.y_least > kLeastRange * std::max(1.0, frame.y_most))) {
    frame.y_least = 0;
    frame.y_most = 1;
  }
  return frame;
}

std::string polyline(const std::vector<Point>& points, const Frame& frame, const char* color) {
  std::string out =
      fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"", color);
  for (const Point& point : points) {
    if (std::isfinite(point.y)) {
      out += fmt::format("{:.1f},{:.1f} ", frame.x(point.x), frame.y(point.y));
    }
  }
  return out + "\"/>\n";
}

std::string text(double x, double y, const char* anchor, const std::string& what) {
  return fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     what);
}

// The largest of 1, 2 and 5 times a power of ten that divides `range` into at least four parts.
double round_step(double range) {
  constexpr double kParts = 4;
  const double power = std::pow(10.0, std::floor(std::log10(range / kParts)));
  double step = power;
  for (const double digit : {2.0, 5.0}) {
    step = digit * power * kParts <= range ? digit * power : step;
  }
  return step;
}

std::string axes(const Frame& frame) {
  constexpr int kTicks = 5;
  std::string out;
  const double loss_step = round_step(frame.y_most - frame.y_least);
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(loss_step) + 1e-9)));
  const double first = std::ceil(frame.y_least / loss_step);
  for (int i = 0; (first + i) * loss_step <= frame.y_most; ++i) {
    const double loss = (first + i) * loss_step;
    out +=
        fmt::format("<line x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#ccc\"/>\n",
                    kLeft, kWidth - kRight, frame.y(loss));
    out += text(kLeft - 6, frame.y(loss) + 4, "end", fmt::format("{:.{}f}", loss, decimals));
  }
  for (int i = 0; i <= kTicks; ++i) {
    const double step = frame.x_most * i / kTicks;
    out += text(frame.x(step), kHeight - kBottom + 18, "middle", fmt::format("{:.0f}", step));
  }
  out += text(kWidth / 2, kHeight - 10, "middle", "step");
  return out + text(kLeft, kTop - 12, "start",
                    "loss, nats per token (with a teacher: the divergence from it)");
}

}  // namespace

std::string plot_loss(const std::vector<LossRow>& rows) {
  const std::vector<Point> train = smoothed(rows);
  const std::vector<Point> valid = validated(rows);
  const Frame frame = frame_of(train, valid);
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      kWidth, kHeight);
  out += axes(frame);
  out += polyline(train, frame, "#1f6fb2");
  out += polyline(valid, frame, "#c8511b");
  out += "<text x=\"700\" y=\"18\" fill=\"#1f6fb2\">training</text>\n";
  if (!valid.empty()) {
    out += "<text x=\"620\" y=\"18\" fill=\"#c8511b\">validation</text>\n";
  }
  return out + "</svg>\n";
}

}  // namespace rwkv::press

#include "compressor/evaluate/questions.h"

#include <cmath>

namespace rwkv::press {

void Tally::add(bool is_right) {
  ++documents;
  right += is_right ? 1 : 0;
}
double Tally::accuracy() const {
  return static_cast<double>(right) / static_cast<double>(documents);
}
double Tally::standard_error() const {
  return std::sqrt(accuracy() * (1.0 - accuracy()) / static_cast<double>(documents));
}
Interval Tally::interval() const {
  return wilson_interval(right, documents);
}

}  // namespace rwkv::press

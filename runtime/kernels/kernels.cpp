#include "runtime/kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <cstdlib>
#include <string>
#include <vector>

#include "formats/base/nearest.h"
#include "runtime/kernels/for_codec.h"
#include "runtime/kernels/kernel_sets.h"

namespace rwkv::edge {

bool runs_anywhere() {
  return true;
}

#if defined(__x86_64__)
namespace {
// Not every compiler knows this feature by name.
bool with_f16c() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
bool with_vbmi() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  constexpr unsigned kVbmi = 1u << 1;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (c & kVbmi) != 0;
}
}  // namespace

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && with_f16c();
}
bool has_avx512vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
bool has_avx512vbmi() {
  return has_avx512vnni() && with_vbmi();
}
#elif defined(__aarch64__)
bool has_dotprod() {
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
#endif

namespace {

#if defined(__x86_64__)
// `kBase` with the lut codecs of `kLut`. Put together here, in code for any processor.
template <const KernelSet& kBase, const LutFunctions& kLut>
struct WithLut {
  static MatmulFn matmul(Codec codec) {
    return codec_traits(codec).lut ? kLut.matmul(codec) : kBase.matmul(codec);
  }
  static MatmulRowsFn matmul_rows(Codec codec) {
    return codec_traits(codec).lut ? kLut.matmul_rows(codec) : kBase.matmul_rows(codec);
  }
  static AddScaledRowsFn add_scaled_rows(Codec codec) {
    return codec_traits(codec).lut ? kLut.add_scaled_rows(codec) : kBase.add_scaled_rows(codec);
  }
  static KernelSet set(const char* name, bool (*runs_here)()) {
    KernelSet set = kBase;
    set.name = name;
    set.runs_here = runs_here;
    set.matmul = matmul;
    set.matmul_rows = matmul_rows;
    set.add_scaled_rows = add_scaled_rows;
    return set;
  }
};
const KernelSet kAvx512Vbmi =
    WithLut<x86_avx512vnni::kernel_set, x86_avx512vbmi::lut_functions>::set("x86_avx512vbmi",
                                                                            has_avx512vbmi);
#endif

// The simplest first; the last one that this processor supports is used.
constexpr const KernelSet* kSets[] = {
    &generic::kernel_set,
#if defined(__x86_64__)
    &x86_avx2::kernel_set,
    &x86_avx512vnni::kernel_set,
    &kAvx512Vbmi,
#elif defined(__aarch64__)
    &arm_neon::kernel_set,
    &arm_dotprod::kernel_set,
#endif
};

Result<const KernelSet*> choose_kernels() {
  if (const char* name = std::getenv("RWKV_EDGE_KERNELS"); name && *name != '\0') {
    Result<const KernelSet*> found = find_kernels(name);
    return found.ok() ? found : found.status().in("RWKV_EDGE_KERNELS");
  }
  const KernelSet* best = kSets[0];
  for (const KernelSet* set : kSets) {
    best = set->runs_here() ? set : best;
  }
  return best;
}

}  // namespace

InputForm input_form(Codec codec) {
  return for_codec<InputForm>(codec, []<Codec C>() { return RowFormat<C>::kInputs; });
}

bool uses_group_sums(Codec codec) {
  return for_codec<bool>(codec, []<Codec C>() {
    return RowFormat<C>::kGroup != 0 && RowFormat<C>::kInputs != InputForm::Floats &&
           RowFormat<C>::kInputs != InputForm::ByteGroups;
  });
}

void sum_groups(const float* x, size_t cols, float* sums) {
  for (size_t begin = 0; begin < cols; begin += kSumCols) {
    const size_t end = begin + kSumCols < cols ? begin + kSumCols : cols;
    float sum = 0.0f;
    for (size_t i = begin; i < end; ++i) {
      sum += x[i];
    }
    *sums++ = sum;
  }
}

void byte_inputs(int16_t* q, size_t cols) {
  for (size_t i = 0; i < cols; ++i) {
    // No larger than kMostInput, so half of the step more still fits.
    q[i] = static_cast<int16_t>((q[i] + kByteInput / 2) & ~(kByteInput - 1));
  }
}

void byte_planes(const int16_t* q, size_t cols, int8_t* planes) {
  for (size_t first = 0; first < cols; first += kPlaneBlock) {
    for (size_t k = 0; k < kPlanes; ++k) {
      for (size_t j = 0; j < kPlaneBlock / kPlanes; ++j) {
        *planes++ = static_cast<int8_t>(q[first + kPlanes * j + k] / kByteInput);
      }
    }
  }
}

std::span<const KernelSet* const> kernel_list() {
  return kSets;
}

Result<const KernelSet*> find_kernels(std::string_view name) {
  std::vector<std::string_view> names;
  for (const KernelSet* set : kSets) {
    if (name != set->name) {
      names.emplace_back(set->name);
    } else if (set->runs_here()) {
      return set;
    } else {
      return usage_error(
          "this processor does not support the '{}' kernels; "
          "'generic' works everywhere",
          name);
    }
  }
  return usage_error("there are no kernels '{}'{}", name, suggestion(name, names));
}

const Result<const KernelSet*>& kernels() {
  static const Result<const KernelSet*> kChosen = choose_kernels();
  return kChosen;
}

}  // namespace rwkv::edge

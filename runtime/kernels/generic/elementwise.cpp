#include "runtime/kernels/shared/elementwise.h"

#include "runtime/kernels/tables.h"

namespace rwkv::edge::generic {

const Elementwise elementwise = kElementwise;

}  // namespace rwkv::edge::generic

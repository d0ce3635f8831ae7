// The speed of LibTorch's linear algebra depends on the BLAS of the machine: Debian's default is 17
// times slower than OpenBLAS. The tool warns instead of being silently slow.
#pragma once

namespace rwkv::press {

/// Tells LibTorch how many threads to use: RWKV_PRESS_THREADS, else the processors available.
/// (It guesses 1 on some machines.)
void set_up_threads();

/// Prints one line on stderr if the BLAS in use is not an OpenBLAS.
void warn_about_slow_blas();

}  // namespace rwkv::press

// How fast this machine reads memory: the bound that decoding is compared with.
#pragma once

namespace rwkv::edge {

/// Best of several passes over a buffer larger than the caches, in 1e9 bytes per second.
double read_bandwidth(unsigned n_threads);

}  // namespace rwkv::edge

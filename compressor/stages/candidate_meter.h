// What two quantizers would cost each matrix of a model: proxies of its weights, the error of its
// own outputs, and the distance of the model's predictions with that one matrix quantized.
#pragma once

#include <string>
#include <vector>

#include "compressor/quantizers/quantizer.h"
#include "compressor/selectors/choice.h"
#include "compressor/stages/work.h"

namespace rwkv::press {

/// A quantizer for a matrix, with the codec of its codes.
struct Candidate {
  const Quantizer* quantizer;
  Codec codec;
};

/// One matrix, with what is known of it.
struct MeasuredMatrix {
  PlannedTensor tensor;
  Candidate scalar;
  Candidate codebook;
  SelectorInput costs;  ///< proxies and bytes; losses as the selector compares them
  /// Shares of the output energy lost, if they were measured.
  double scalar_error = 0;
  double codebook_error = 0;
  /// Distances of predictions, nats per token, if they were measured.
  double scalar_kl = 0;
  double codebook_kl = 0;
};

/// Fills in what `selector` needs of `matrices`, which are dense matrices of blocks in the order of
/// the blocks, and the head. Proxies and bytes always; OutputError measures errors on the text of
/// work.calibration, Kl errors on three quarters of its samples and distances on the rest. The
/// model does not change. One block is in memory at a time, with the candidates of its matrices;
/// for Kl every later block is loaded once for each block, and the activations of the held-out
/// samples are held for each candidate of a block.
Status measure_candidates(const Work& work, Selector selector,
                          std::vector<MeasuredMatrix>& matrices);

}  // namespace rwkv::press

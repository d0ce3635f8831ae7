// What the head costs in other codecs and as clusters, from what it sees of text: exact changes of
// the predictions on some tokens, codes learnt for some of its rows.
#pragma once

#include "compressor/planner/curves.h"

namespace rwkv::press {

/// The head of the dense model over text.
struct HeadText {
  at::Tensor rows;         ///< the head, f32 [n_vocab, n_embd]
  at::Tensor z;            ///< its inputs where losses are measured, [n, n_embd]
  at::Tensor learnt_from;  ///< its inputs where stages learn, [m, n_embd]
};

/// The losses of the rungs of `matrix`, the head, but the finest.
Result<std::vector<double>> estimate_head_rungs(const PlanSubject& subject,
                                                const PlannedMatrix& matrix, const HeadText& text);

/// A point for each p_min of a clustered head, after the one without.
Result<std::vector<RowsPoint>> estimate_clusters(const PlanSubject& subject, const HeadText& text);

}  // namespace rwkv::press

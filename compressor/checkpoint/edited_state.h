// Which tensors an edited checkpoint has and where they lie, as JSON: so that a later process can
// go on with the temporary data that a kept scratch file has.
#pragma once

#include <nlohmann/json.hpp>

#include "compressor/checkpoint/edited_source.h"

namespace rwkv::press {

class EditedState {
 public:
  static nlohmann::json of(const EditedSource& source);
  /// `source` is new, over the same base, with the data of the one that was described. BadInput
  /// unless every tensor lies in that data or in the base, in its size; the source is of no use
  /// then.
  static Status restore(EditedSource& source, const nlohmann::json& state);

 private:
  using Json = nlohmann::json;
  static Json entry_to_json(const EditedSource::Entry& entry);
  static Result<EditedSource::Entry> entry_from(const EditedSource& source, const Json& json,
                                                const TensorInfo& info, int depth);
  static Status check(const EditedSource& source, const EditedSource::Entry& entry,
                      const TensorInfo& info);
};

}  // namespace rwkv::press

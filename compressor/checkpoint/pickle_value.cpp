#include "compressor/checkpoint/pickle_value.h"

namespace rwkv::press {
namespace {

using enum GlobalKind;

// Storage classes with a type come before the untyped ones and in the order of the type names:
// storage_class_of() returns the first that fits.
constexpr KnownGlobal kGlobals[] = {
    {"collections.OrderedDict", OrderedDict, {}},
    {"torch._utils._rebuild_tensor_v2", RebuildTensorV2, {}},
    {"torch._utils._rebuild_tensor_v3", RebuildTensorV3, {}},
    {"torch._utils._rebuild_parameter", RebuildParameter, {}},
    {"torch._utils._rebuild_parameter_with_state", RebuildParameter, {}},
    {"torch.FloatStorage", StorageClass, DType::F32},
    {"torch.HalfStorage", StorageClass, DType::F16},
    {"torch.BFloat16Storage", StorageClass, DType::BF16},
    {"torch.DoubleStorage", StorageClass, DType::F64},
    {"torch.CharStorage", StorageClass, DType::I8},
    {"torch.ByteStorage", StorageClass, DType::U8},
    {"torch.ShortStorage", StorageClass, DType::I16},
    {"torch.IntStorage", StorageClass, DType::I32},
    {"torch.LongStorage", StorageClass, DType::I64},
    {"torch.BoolStorage", StorageClass, DType::Bool},
    {"torch.UntypedStorage", StorageClass, {}},
    {"torch.storage.UntypedStorage", StorageClass, {}},
    {"torch.storage._UntypedStorage", StorageClass, {}},
    {"torch.float32", TypeName, DType::F32},
    {"torch.float16", TypeName, DType::F16},
    {"torch.bfloat16", TypeName, DType::BF16},
    {"torch.float64", TypeName, DType::F64},
    {"torch.int8", TypeName, DType::I8},
    {"torch.uint8", TypeName, DType::U8},
    {"torch.int16", TypeName, DType::I16},
    {"torch.int32", TypeName, DType::I32},
    {"torch.int64", TypeName, DType::I64},
    {"torch.bool", TypeName, DType::Bool},
    // What Lightning, DeepSpeed and scripts of trainings keep next to the tensors.
    {"torch.Size", Size, {}},
    {"torch.device", Inert, {}},
    {"torch.dtype", Inert, {}},
    {"argparse.Namespace", Inert, {}},
    {"types.SimpleNamespace", Inert, {}},
    {"pathlib.Path", Inert, {}},
    {"pathlib.PosixPath", Inert, {}},
    {"pathlib.WindowsPath", Inert, {}},
    {"datetime.datetime", Inert, {}},
    {"datetime.timedelta", Inert, {}},
    {"_codecs.encode", Inert, {}},
    {"copyreg._reconstructor", Inert, {}},
    {"builtins.set", Inert, {}},
    {"builtins.object", Inert, {}},
    {"builtins.dict", Inert, {}},
    {"builtins.list", Inert, {}},
    {"builtins.int", Inert, {}},
    {"builtins.float", Inert, {}},
    {"builtins.bytearray", Inert, {}},
    {"numpy.dtype", Inert, {}},
    {"numpy.ndarray", Inert, {}},
    {"numpy.core.multiarray.scalar", Inert, {}},
    {"numpy.core.multiarray._reconstruct", Inert, {}},
    {"numpy._core.multiarray.scalar", Inert, {}},
    {"numpy._core.multiarray._reconstruct", Inert, {}},
    {"collections.defaultdict", Mapping, {}},
    {"pytorch_lightning.utilities.parsing.AttributeDict", Mapping, {}},
    {"lightning.pytorch.utilities.parsing.AttributeDict", Mapping, {}},
    {"lightning_fabric.utilities.data.AttributeDict", Mapping, {}},
    {"lightning.fabric.utilities.data.AttributeDict", Mapping, {}},
    {"deepspeed.runtime.fp16.loss_scaler.LossScaler", Inert, {}},
    {"deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler", Inert, {}},
    {"deepspeed.runtime.zero.config.ZeroStageEnum", Inert, {}},
    {"deepspeed.utils.tensor_fragment.fragment_address", Inert, {}},
};

}  // namespace

std::span<const KnownGlobal> known_globals() {
  return kGlobals;
}

const KnownGlobal* find_global(std::string_view name) {
  for (const KnownGlobal& global : kGlobals) {
    if (global.name == name) {
      return &global;
    }
  }
  return nullptr;
}

const KnownGlobal* storage_class_of(DType dtype) {
  for (const KnownGlobal& global : kGlobals) {
    if (global.kind == StorageClass && global.dtype == dtype) {
      return &global;
    }
  }
  return nullptr;
}

const char* kind_name(PickleValue::Kind kind) {
  switch (kind) {
    case PickleValue::Kind::None:
      return "None";
    case PickleValue::Kind::Bool:
      return "bool";
    case PickleValue::Kind::Int:
    case PickleValue::Kind::BigInt:
      return "int";
    case PickleValue::Kind::Float:
      return "float";
    case PickleValue::Kind::String:
      return "string";
    case PickleValue::Kind::Bytes:
      return "bytes";
    case PickleValue::Kind::Tuple:
      return "tuple";
    case PickleValue::Kind::List:
      return "list";
    case PickleValue::Kind::Dict:
      return "dict";
    case PickleValue::Kind::Global:
      return "global";
    case PickleValue::Kind::Storage:
      return "storage";
    case PickleValue::Kind::Tensor:
      return "tensor";
    case PickleValue::Kind::Object:
      return "object";
  }
  return "unknown";
}

}  // namespace rwkv::press

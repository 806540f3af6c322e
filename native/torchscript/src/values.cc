#include "values.h"

#include <cstring>
#include <limits>

namespace inferkv {
namespace {

struct TypeName {
  const char* name;
  at::ScalarType type;
};

constexpr TypeName TYPES[] = {
    {"float32", at::kFloat}, {"float64", at::kDouble}, {"float16", at::kHalf}, {"int8", at::kChar}, {"uint8", at::kByte},
    {"int16", at::kShort},   {"int32", at::kInt},      {"int64", at::kLong},   {"bool", at::kBool},
};

at::ScalarType scalarType(const std::string& name) {
  for (const auto& each : TYPES) {
    if (name == each.name) return each.type;
  }
  throw std::invalid_argument("libtorch has no tensors of the type " + name);
}

const char* nameOf(at::ScalarType type) {
  for (const auto& each : TYPES) {
    if (type == each.type) return each.name;
  }
  return nullptr;
}

[[noreturn]] void unsuitable(Napi::Env env, const c10::TypePtr& type) {
  throw Napi::TypeError::New(env, "a value does not suit the type " + type->repr_str());
}

int64_t integerOf(const Napi::Value& from, const c10::TypePtr& type) {
  if (!from.IsBigInt()) unsuitable(from.Env(), type);
  bool lossless = false;
  const int64_t value = from.As<Napi::BigInt>().Int64Value(&lossless);
  if (!lossless) unsuitable(from.Env(), type);
  return value;
}

c10::IValue listOf(const Napi::Value& from, const c10::TypePtr& type, bool copied, Borrowed& borrowed) {
  if (!from.IsArray()) unsuitable(from.Env(), type);
  const auto array = from.As<Napi::Array>();
  const auto& element = type->expectRef<c10::ListType>().getElementType();
  c10::impl::GenericList list(element);
  list.reserve(array.Length());
  for (uint32_t at = 0; at < array.Length(); at++) list.push_back(valueOf(array.Get(at), element, copied, borrowed));
  return list;
}

c10::IValue tupleOf(const Napi::Value& from, const c10::TypePtr& type, bool copied, Borrowed& borrowed) {
  if (!from.IsArray()) unsuitable(from.Env(), type);
  const auto array = from.As<Napi::Array>();
  const auto tuple = type->expect<c10::TupleType>();
  const auto elements = tuple->elements();
  if (array.Length() != elements.size()) unsuitable(from.Env(), type);
  std::vector<c10::IValue> values;
  for (uint32_t at = 0; at < array.Length(); at++) {
    values.push_back(valueOf(array.Get(at), elements[at], copied, borrowed));
  }
  if (tuple->schema()) return c10::ivalue::Tuple::createNamed(std::move(values), tuple);
  return c10::ivalue::Tuple::create(std::move(values));
}

// A dictionary comes as a list of [key, value].
c10::IValue dictOf(const Napi::Value& from, const c10::TypePtr& type, bool copied, Borrowed& borrowed) {
  if (!from.IsArray()) unsuitable(from.Env(), type);
  const auto array = from.As<Napi::Array>();
  const auto dict = type->expect<c10::DictType>();
  c10::impl::GenericDict values(dict->getKeyType(), dict->getValueType());
  for (uint32_t at = 0; at < array.Length(); at++) {
    const auto pair = array.Get(at).As<Napi::Array>();
    values.insert(
        valueOf(pair.Get(0u), dict->getKeyType(), copied, borrowed),
        valueOf(pair.Get(1u), dict->getValueType(), copied, borrowed));
  }
  return values;
}

using Outputs = std::vector<NamedOutput>;

void flatten(const std::string& path, const c10::IValue& value, Outputs& into);

std::string joined(const std::string& path, const std::string& part) { return path.empty() ? part : path + "." + part; }

std::string placed(const std::string& path, size_t at) {
  return path.empty() ? "output_" + std::to_string(at) : path + "." + std::to_string(at);
}

void flattenTuple(const std::string& path, const c10::IValue& value, Outputs& into) {
  const auto& tuple = value.toTupleRef();
  const auto type = tuple.type<c10::TupleType>();
  const auto names = type->schema() ? type->names() : c10::nullopt;
  for (size_t at = 0; at < tuple.elements().size(); at++) {
    flatten(names ? joined(path, std::string((*names)[at])) : placed(path, at), tuple.elements()[at], into);
  }
}

void flatten(const std::string& path, const c10::IValue& value, Outputs& into) {
  const auto name = path.empty() ? "output" : path;
  if (value.isTensor()) {
    into.push_back({name, value.toTensor(), {}});
  } else if (value.isTuple()) {
    flattenTuple(path, value, into);
  } else if (value.isList()) {
    const auto list = value.toList();
    for (size_t at = 0; at < list.size(); at++) flatten(placed(path, at), list.get(at), into);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) {
      const auto& key = entry.key();
      flatten(joined(path, key.isString() ? key.toStringRef() : c10::str(key)), entry.value(), into);
    }
  } else if (value.isInt()) {
    into.push_back({name, at::scalar_tensor(value.toInt(), at::kLong), {}});
  } else if (value.isDouble()) {
    into.push_back({name, at::scalar_tensor(value.toDouble(), at::kDouble), {}});
  } else if (value.isBool()) {
    into.push_back({name, at::scalar_tensor(value.toBool(), at::kBool), {}});
  } else if (value.isString()) {
    into.push_back({name, {}, value.toStringRef()});
  } else if (!value.isNone()) {
    throw std::invalid_argument("the output " + name + " is a " + value.tagKind() + ", which is no tensor");
  }
}

}  // namespace

Napi::Object describeType(Napi::Env env, const c10::TypePtr& type) {
  auto described = Napi::Object::New(env);
  described.Set("kind", c10::typeKindToString(type->kind()));
  const auto contained = type->containedTypes();
  auto elements = Napi::Array::New(env, contained.size());
  for (size_t at = 0; at < contained.size(); at++) elements.Set(at, describeType(env, contained[at]));
  described.Set("elements", elements);
  if (const auto tuple = type->cast<c10::TupleType>(); tuple != nullptr && tuple->schema()) {
    const auto fields = *tuple->names();
    auto names = Napi::Array::New(env, fields.size());
    for (size_t at = 0; at < fields.size(); at++) names.Set(at, std::string(fields[at]));
    described.Set("names", names);
  }
  described.Set("text", type->repr_str());
  return described;
}

at::Tensor Borrowed::tensor(const Napi::Object& from, bool copied) {
  const auto type = scalarType(from.Get("type").As<Napi::String>().Utf8Value());
  const auto sizes = from.Get("shape").As<Napi::Array>();
  std::vector<int64_t> shape;
  int64_t elements = 1;
  for (uint32_t at = 0; at < sizes.Length(); at++) {
    shape.push_back(sizes.Get(at).As<Napi::Number>().Int64Value());
    elements *= shape.back();
  }
  auto bytes = from.Get("bytes").As<Napi::Uint8Array>();
  if (static_cast<uint64_t>(elements) * at::elementSize(type) != bytes.ByteLength()) {
    throw Napi::RangeError::New(from.Env(), "the bytes of a tensor are not as many as its shape asks for");
  }
  auto tensor = at::from_blob(bytes.Data(), shape, at::TensorOptions().dtype(type));
  if (copied) return tensor.clone();
  tensors_.push_back(tensor);
  return tensor;
}

void Borrowed::detach() {
  for (const auto& tensor : tensors_) {
    if (tensor.use_count() == 1 && tensor.storage().use_count() == 1) continue;
    auto* storage = tensor.storage().unsafeGetStorageImpl();
    const size_t size = storage->nbytes();
    auto copy = at::getCPUAllocator()->allocate(size);
    if (size > 0) std::memcpy(copy.get(), storage->data(), size);
    storage->set_data_ptr(std::move(copy));
  }
  tensors_.clear();
}

c10::IValue valueOf(const Napi::Value& from, const c10::TypePtr& type, bool copied, Borrowed& borrowed) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
      if (!from.IsObject()) unsuitable(from.Env(), type);
      return borrowed.tensor(from.As<Napi::Object>(), copied);
    case c10::TypeKind::OptionalType:
      if (from.IsUndefined()) return c10::IValue();
      return valueOf(from, type->expectRef<c10::OptionalType>().getElementType(), copied, borrowed);
    case c10::TypeKind::ListType:
      return listOf(from, type, copied, borrowed);
    case c10::TypeKind::TupleType:
      return tupleOf(from, type, copied, borrowed);
    case c10::TypeKind::DictType:
      return dictOf(from, type, copied, borrowed);
    case c10::TypeKind::IntType:
      return integerOf(from, type);
    case c10::TypeKind::FloatType:
      if (!from.IsNumber()) unsuitable(from.Env(), type);
      return from.As<Napi::Number>().DoubleValue();
    case c10::TypeKind::BoolType:
      if (!from.IsBoolean()) unsuitable(from.Env(), type);
      return from.As<Napi::Boolean>().Value();
    case c10::TypeKind::StringType:
      if (!from.IsString()) unsuitable(from.Env(), type);
      return from.As<Napi::String>().Utf8Value();
    default:
      unsuitable(from.Env(), type);
  }
}

std::vector<NamedOutput> flattened(const c10::IValue& result) {
  Outputs outputs;
  flatten("", result, outputs);
  return outputs;
}

Napi::Object exported(Napi::Env env, const NamedOutput& output, const Napi::Value& target) {
  auto described = Napi::Object::New(env);
  described.Set("name", output.name);
  const auto& from = output.tensor;
  if (!from.defined()) {
    described.Set("type", "string");
    described.Set("shape", Napi::Array::New(env));
    described.Set("text", output.text);
    return described;
  }
  if (from.layout() != at::kStrided || from.is_quantized()) {
    throw std::invalid_argument("the output " + output.name + " is a sparse or quantized tensor; make it dense in the model");
  }
  // bfloat16 is a shorter float32, so nothing is lost.
  auto tensor = (from.scalar_type() == at::kBFloat16 ? from.to(at::kFloat) : from).to(at::kCPU).contiguous();
  if (tensor.is_conj() || tensor.is_neg()) tensor = tensor.resolve_conj().resolve_neg();
  const char* type = nameOf(tensor.scalar_type());
  if (type == nullptr) {
    throw std::invalid_argument(
        "the output " + output.name + " is a tensor of " + c10::toString(tensor.scalar_type()) + ", which JavaScript has no array for");
  }
  auto shape = Napi::Array::New(env, tensor.dim());
  for (int64_t at = 0; at < tensor.dim(); at++) shape.Set(static_cast<uint32_t>(at), static_cast<double>(tensor.size(at)));
  described.Set("type", type);
  described.Set("shape", shape);
  const size_t size = tensor.nbytes();
  if (target.IsObject() && target.As<Napi::Object>().Get("type").As<Napi::String>().Utf8Value() == type) {
    auto bytes = target.As<Napi::Object>().Get("bytes").As<Napi::Uint8Array>();
    if (bytes.ByteLength() >= size) {
      if (size > 0) std::memcpy(bytes.Data(), tensor.data_ptr(), size);
      return described;
    }
  }
  auto buffer = Napi::ArrayBuffer::New(env, size);
  if (size > 0) std::memcpy(buffer.Data(), tensor.data_ptr(), size);
  described.Set("buffer", buffer);
  return described;
}

}  // namespace inferkv

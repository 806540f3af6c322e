// JavaScript values in, TorchScript values out, and back.
#pragma once

#include <napi.h>
#include <torch/script.h>

#include <string>
#include <utility>
#include <vector>

namespace inferkv {

// A schema's type as a JavaScript object: {kind, elements?, names?}.
Napi::Object describeType(Napi::Env env, const c10::TypePtr& type);

// Tensors over memory that JavaScript owns, for the time of one run.
class Borrowed {
 public:
  at::Tensor tensor(const Napi::Object& from, bool copied);
  // Gives whatever the model kept of them memory of its own. Call it when everything else that refers to them is gone.
  void detach();

 private:
  std::vector<at::Tensor> tensors_;
};

// The value for one argument; `Napi::Error` (a TypeError) where it does not suit the type.
c10::IValue valueOf(const Napi::Value& from, const c10::TypePtr& type, bool copied, Borrowed& borrowed);

// One part of what a run gave, with the path it has in the result: a tensor, or a string.
struct NamedOutput {
  std::string name;
  at::Tensor tensor;
  std::string text;
};
std::vector<NamedOutput> flattened(const c10::IValue& result);

// An output as {name, type, shape} with its elements in a `buffer` of its own, in `target` ({type, bytes}) where they fit,
// or as `text`.
Napi::Object exported(Napi::Env env, const NamedOutput& output, const Napi::Value& target);

}  // namespace inferkv

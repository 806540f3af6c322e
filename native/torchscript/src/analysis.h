// What a method's graph says of what runs do to inputs and to the module.
#pragma once

#include <torch/script.h>

namespace inferkv {

// Whether a run may write to its inputs, or read them after it has ended.
bool needsCopies(const torch::jit::Method& method);

// Whether a run may change the module: attributes set, buffers written to, containers that grow.
bool changesModule(const torch::jit::Method& method);

// Makes the program raise an error where the interpreter would take the whole process down: at `a % 0`.
void guardRemainders(torch::jit::Module& module);

}  // namespace inferkv

#pragma once
#include <cstddef>
#include <memory>
#include <span>

#include "engine/checkpoint/pickle_document.h"

/// A pickle machine that executes nothing. See docs/spec/checkpoint.md sections 2 and 7.
namespace frost::pickle {

/// Reads one pickle from the front of `bytes`. Where `used` is given it gets the length of the pickle, else trailing bytes
/// are refused. What it makes is paid from `budget`, which the document keeps; without one, from a budget for these bytes.
/// Throws frost::Error ("byte 17: ...", without the file's name) for all that docs/spec/checkpoint.md section 7 refuses.
Document parse(std::span<const std::byte> bytes, std::size_t* used = nullptr, std::shared_ptr<Budget> budget = nullptr);

}  // namespace frost::pickle

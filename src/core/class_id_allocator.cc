// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/class_id_allocator.h"

#include <algorithm>
#include <bit>

namespace virfloor {

namespace {

constexpr std::size_t bits = 64;
constexpr std::size_t max_words = (std::size_t{last_class.minor} + 1) / bits;
constexpr std::uint64_t reserved = 0b111;

std::uint64_t mask(ClassId id) { return std::uint64_t{1} << id.minor % bits; }

} // namespace

ClassIdAllocator::ClassIdAllocator() : words_{reserved} {}

std::optional<ClassId> ClassIdAllocator::take()
{
    for (auto& i = first_free_word_; i < max_words; ++i) {
        if (i == words_.size())
            words_.push_back(0);
        if (const auto bit = std::countr_one(words_[i]); bit < static_cast<int>(bits)) {
            const ClassId id{static_cast<std::uint16_t>(i * bits + bit)};
            words_[i] |= mask(id);
            return id;
        }
    }
    return {};
}

bool ClassIdAllocator::take(ClassId id)
{
    if (!is_free(id))
        return false;
    const std::size_t word = id.minor / bits;
    if (word >= words_.size())
        words_.resize(word + 1);
    words_[word] |= mask(id);
    return true;
}

void ClassIdAllocator::release(ClassId id)
{
    if (id < first_port_class || is_free(id))
        return;
    const std::size_t word = id.minor / bits;
    words_[word] &= ~mask(id);
    first_free_word_ = std::min(first_free_word_, word);
}

bool ClassIdAllocator::is_free(ClassId id) const
{
    const std::size_t word = id.minor / bits;
    return id >= first_port_class && (word >= words_.size() || !(words_[word] & mask(id)));
}

} // namespace virfloor

// Vectors of numbers, as long as this machine's registers. They are GCC's, which Clang has, too.
// And bfloat16, the upper half of a float.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512BW__)
constexpr int register_bytes = 64;
#elif defined(__AVX2__)
constexpr int register_bytes = 32;
#else
constexpr int register_bytes = 16;
#endif

template <typename Number, int lanes>
struct Lanes {
    static constexpr int count = lanes;

    using Vector __attribute__((vector_size(lanes * sizeof(Number)))) = Number;
    using Bytes __attribute__((vector_size(lanes))) = uint8_t;
};

template <typename Vector, typename Number>
Vector load(const Number *from)
{
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

template <typename Vector, typename Number>
void store(Number *to, Vector vector)
{
    std::memcpy(to, &vector, sizeof vector);
}

using bfloat16 = uint16_t;

// Returns what float a bfloat16 is, or each of a vector of them, by its bits in 32.
template <typename Float, typename Bits>
Float widened(Bits upper)
{
    upper <<= 16;
    Float value;
    std::memcpy(&value, &upper, sizeof value);
    return value;
}

// Returns the bfloat16 nearest to a float, the even one of two, as bits in 32; of a vector, too.
template <typename Bits, typename Float>
Bits rounded(Float value)
{
    Bits bits;
    std::memcpy(&bits, &value, sizeof bits);
    const Bits number = bits + 0x7fff + (bits >> 16 & 1);
    return (value == value ? number : Bits{} + 0x7fc00000) >> 16; // otherwise NaN
}

// Calls `work(lanes, channel)` for all channels: by whole registers, parts of one, one by one.
template <typename Number, typename Work>
void each_vector(int64_t channels, Work work)
{
    constexpr int most = register_bytes / sizeof(Number);
    int64_t channel = 0;
    for (; channel + most <= channels; channel += most)
        work(Lanes<Number, most>{}, channel);
    for (; channel + most / 4 <= channels; channel += most / 4)
        work(Lanes<Number, most / 4>{}, channel);
    for (; channel < channels; channel++)
        work(Lanes<Number, 1>{}, channel);
}

} // namespace

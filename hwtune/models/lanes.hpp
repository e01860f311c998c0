// Vectors of numbers, as long as this machine's registers. They are GCC's, which Clang has, too.

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
